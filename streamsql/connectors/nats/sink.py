"""Publishes changes to JetStream: all of a delivery at once, then their acknowledgements.

Each message has an id, ``IDENTITY:EPOCH-NUMBER`` in ``Nats-Msg-Id``, which is the same whenever the row is sent again.
JetStream takes an id once within its window for duplicates (two minutes by default), so a delivery that is repeated soon is
there once; one that is repeated later is there twice, with the same ids.

`exclusive`: nobody else writes to the stream. Then each message also says which sequence number it expects to follow
(``Nats-Expected-Last-Sequence``), so that none can come in between or twice, and the id of the stream's last message tells what
has been written. It must not have been dropped since: a stream that drops its last message (an age, a purge) makes the sink
fall back to the window.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import structlog

from streamsql.base.errors import ExternalError, Unavailable
from streamsql.connectors.nats.client import ANSWER_SECONDS_MAX, Connection
from streamsql.connectors.outgoing import Bodies, Mode, Template, part_of, told
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Surroundings

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = structlog.get_logger()

ID, EXPECTED_LAST, EXPECTED_STREAM = "Nats-Msg-Id", "Nats-Expected-Last-Sequence", "Nats-Expected-Stream"
# messages that are sent before the acknowledgement of the first of them has come
_AHEAD_MAX = 1_000


class NatsSink:
    """An open sink."""

    def __init__(
        self, options: Mapping[str, Any], shape: Shape, mode: Mode, subject: Template, surroundings: Surroundings
    ) -> None:
        self._shape, self._mode, self._subject = shape, mode, subject
        self._stream: str = options["stream"]
        self._exclusive: bool = options["exclusive"]
        self._identity = surroundings.identity
        self._bodies = Bodies(options, shape, mode)
        self._connection = Connection(options, surroundings)
        # of an exclusive stream: its last sequence number, and epoch and number of the row that is there
        self._last = 0
        self._written: tuple[int, int] | None = None
        try:
            state = self._connection.stream(self._stream).state
            if self._exclusive and state.last_seq:
                self._last = state.last_seq
                self._written = self._connection.run(self._last_written(state.last_seq))
        except BaseException:
            self._connection.close()
            raise

    async def _last_written(self, sequence: int) -> tuple[int, int] | None:
        """Read from the last message of the stream which row it is."""
        from nats.js.errors import NotFoundError

        try:
            message = await self._connection.jetstream.get_msg(self._stream, sequence)
        except NotFoundError:
            log.warning("the last message of the stream is gone", stream=self._stream, sequence=sequence)
            return None
        identity, _, key = (message.headers or {}).get(ID, "").rpartition(":")
        epoch, _, number = key.partition("-")
        if identity != self._identity or not (epoch.isdecimal() and number.isdecimal()):
            raise ExternalError(
                f'message {sequence} of the NATS stream "{self._stream}" is not from this sink, which has it exclusively',
                hint="give the sink a stream of its own, or leave out exclusive",
            )
        return int(epoch), int(number)

    def delivered(self) -> int | None:
        if not self._exclusive:
            return None
        return 0 if self._written is None else self._written[0] - 1  # of the last epoch some may be missing

    def deliver(self, delivery: Delivery) -> None:
        changes = told(delivery, self._shape, self._mode)
        if self._written is not None:
            changes = _after(changes, *self._written)
        if not changes.rows.num_rows:
            return
        subjects = self._subject.values(changes.rows, self._shape.columns)
        bodies = self._bodies.of(changes)
        keys = changes.row_keys().to_pylist()
        self._connection.run(self._publish(subjects, bodies, keys))
        self._written = (int(changes.epochs[-1]), int(changes.numbers[-1])) if self._exclusive else None

    async def _publish(self, subjects: list[str], bodies: list[bytes], keys: list[str]) -> None:
        for start in range(0, len(bodies), _AHEAD_MAX):
            stop = min(start + _AHEAD_MAX, len(bodies))
            await self._publish_some(subjects[start:stop], bodies[start:stop], keys[start:stop])
            self._last += stop - start

    async def _publish_some(self, subjects: list[str], bodies: list[bytes], keys: list[str]) -> None:
        """Send messages, and wait until each is stored.

        The library's own `publish_async` never tells of a message that is refused (nats-py 2.16).
        """
        client, inbox = self._connection.client, self._connection.client.new_inbox()
        all_answered, waiting = asyncio.Event(), len(bodies)
        refused: list[dict[str, Any]] = []

        async def answered(message: Msg) -> None:
            nonlocal waiting
            waiting -= 1
            found = _refusal(message, exclusive=self._exclusive)
            if found is not None:
                refused.append(found)
            if not waiting or refused:
                all_answered.set()

        subscription = await client.subscribe(inbox, cb=answered)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            for place, (subject, body, key) in enumerate(zip(subjects, bodies, keys, strict=True)):
                headers = {ID: f"{self._identity}:{key}", EXPECTED_STREAM: self._stream}
                if self._exclusive:
                    headers[EXPECTED_LAST] = str(self._last + place)
                await client.publish(subject, body, reply=inbox, headers=headers)
            await all_answered.wait()
        await subscription.unsubscribe()
        if refused:
            _raise(refused[0])

    def close(self) -> None:
        self._connection.close()


def _refusal(message: Msg, *, exclusive: bool) -> dict[str, Any] | None:
    """Read an answer; None where the message is stored."""
    if not message.data:
        return {"code": 503, "description": "no stream takes this subject"}
    said: dict[str, Any] = json.loads(message.data)
    error: dict[str, Any] | None = said.get("error")
    if error is None and exclusive and said.get("duplicate"):
        return {"code": 503, "description": "the message is there already"}
    return error


def _raise(refused: dict[str, Any]) -> NoReturn:
    """Raise what a message was refused with.

    A wrong sequence may pass: when the sink is opened again, it looks what is there.
    """
    description = str(refused.get("description"))
    if int(refused.get("code", 0)) >= 500 or "wrong last sequence" in description:
        raise Unavailable(f"nats: {description}")
    raise ExternalError(f"nats: {description}")


def _after(changes: Delivery, epoch: int, number: int) -> Delivery:
    """Leave out what comes up to a row."""
    kept = (changes.epochs > epoch) | ((changes.epochs == epoch) & (changes.numbers > number))
    return part_of(changes, int(np.argmax(kept)) if kept.any() else len(kept), len(kept))
