"""Reads a stream of JetStream in order of sequence numbers, which are the positions, with a consumer of its own.

The consumer keeps nothing of ours: it begins behind the position that is committed, acknowledges nothing, and vanishes. Each
message says how many more there are, and its number in the consumer tells whether one was lost on the way; then it is opened
again. What the stream dropped from its beginning before it was read is a gap, which is told (`incoming.Gaps`); in a stream that
keeps only the last messages of each subject it is none.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import DataCorrupted, Unavailable
from streamsql.connectors.incoming import Gaps
from streamsql.connectors.messages import MessageDecoder
from streamsql.connectors.nats import NatsConnector
from streamsql.connectors.nats.client import ANSWER_SECONDS_MAX, Connection
from streamsql.connectors.source import Batch, Surroundings
from streamsql.engine.positions import Positions
from streamsql.formats.format import rejected
from streamsql.sql.statements import ColumnDefinition

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerConfig, StreamInfo

# how long the server keeps a consumer that nobody asks; a stream that is paused for longer opens another one
_FORGOTTEN_AFTER_SECONDS = 300.0
# messages that are asked for at a time
_MESSAGES_MAX = 8_192


class NatsSource:
    """An open stream."""

    def __init__(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> None:
        self._stream: str = options["stream"]
        self._subject: str | None = options["subject"]
        self._poll_us: int = options["poll"]
        self._decoder = MessageDecoder(options, columns, NatsConnector.metadata, surroundings.record_bytes_max)
        self._empty = self._decoder.decode([], _told([], self._decoder.wanted)).rows
        self._gaps = Gaps(options["on_gap"])
        self._ready: deque[Batch] = deque()
        self._connection = Connection(options, surroundings)
        try:
            self._begin(positions.get(self._stream), options["startup"])
        except BaseException:
            self._connection.close()
            raise

    def _begin(self, position: int | str | None, startup: str | int) -> None:
        state = self._connection.stream(self._stream).state
        if position is None:
            self._at = self._start(startup, state)
            self._ready.append(Batch(self._stream, self._empty, self._at))  # a new stream is told where it began
        else:
            if not str(position).isdecimal():
                raise DataCorrupted(f'"{position}" is no sequence number', hint="drop the stream and create it again")
            self._at = int(position)
        if state.last_seq < self._at:
            raise DataCorrupted(
                f'the NATS stream "{self._stream}" ends at {state.last_seq}, but was read up to {self._at}: it was made anew',
                hint="drop the stream and create it again to begin anew",
            )
        self._note_gap()
        self._connection.run(self._open_consumer())

    def _start(self, startup: str | int, state: Any) -> int:
        """Give the sequence number behind which a new stream begins."""
        if isinstance(startup, int):
            return min(startup, int(state.last_seq))
        if startup == "latest":
            return int(state.last_seq)
        if startup == "earliest":
            return max(int(state.first_seq) - 1, 0)
        return self._connection.run(self._before_time(int(startup[1:]), int(state.last_seq)))

    async def _before_time(self, time_us: int, last: int) -> int:
        """Find the sequence number before the first message of a time or later."""
        from nats.js.api import DeliverPolicy

        at = dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC)
        messages = await self._pulled(
            self._consumer_config(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=at), 1
        )
        return _numbers(messages[0])[0] - 1 if messages else last

    # ---- the consumer ----

    def _consumer_config(self, **settings: Any) -> ConsumerConfig:
        from nats.js.api import AckPolicy, ConsumerConfig

        return ConsumerConfig(
            ack_policy=AckPolicy.NONE, filter_subject=self._subject, mem_storage=True,
            inactive_threshold=_FORGOTTEN_AFTER_SECONDS, **settings,
        )  # fmt: skip

    async def _open_consumer(self) -> None:
        from nats.js.api import DeliverPolicy

        config = self._consumer_config(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._at + 1)
        self._consumer = await self._made(config)
        self._consumed = 0  # messages of this consumer
        self._arrived: deque[Msg] = deque()
        self._more = asyncio.Event()
        self._inbox = self._connection.client.new_inbox()
        await self._connection.client.subscribe(self._inbox, cb=self._arrive)

    async def _made(self, config: ConsumerConfig) -> str:
        info = await self._connection.jetstream.add_consumer(self._stream, config)
        assert info.name is not None
        return info.name

    async def _arrive(self, message: Msg) -> None:
        self._arrived.append(message)
        self._more.set()

    async def _pulled(self, config: ConsumerConfig, count: int) -> list[Msg]:
        """Take messages from a consumer of its own."""
        consumer = await self._made(config)
        inbox = self._connection.client.new_inbox()
        subscription = await self._connection.client.subscribe(inbox)
        try:
            await self._ask(consumer, inbox, count)
            message = await subscription.next_msg(ANSWER_SECONDS_MAX)
            return [] if message.headers and "Status" in message.headers else [message]
        finally:
            await subscription.unsubscribe()
            await self._connection.jetstream.delete_consumer(self._stream, consumer)

    async def _ask(self, consumer: str, inbox: str, count: int) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        request = json.dumps({"batch": count, "no_wait": True}).encode()
        await self._connection.client.publish(subject, request, inbox)

    async def _next(self, count: int) -> list[Msg]:
        """Take what there is now, up to so many messages. Raises Unavailable where one was lost on the way."""
        self._arrived.clear()
        self._more.clear()
        await self._ask(self._consumer, self._inbox, count)
        found: list[Msg] = []
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            while len(found) < count:
                if not self._arrived:
                    self._more.clear()
                    await self._more.wait()
                message = self._arrived.popleft()
                if not message.reply.startswith("$JS.ACK."):
                    status = (message.headers or {}).get("Status")
                    if status in {"404", "408"}:
                        break
                    raise Unavailable(f"nats: {(message.headers or {}).get('Description') or 'the consumer is gone'}")
                found.append(message)
                _, consumed, _, pending = _numbers(message)
                if consumed != self._consumed + 1:
                    raise Unavailable("nats: a message was lost on the way")
                self._consumed = consumed
                if not pending:
                    break
        return found

    # ---- reading ----

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        if self._ready:
            return self._ready.popleft()
        self._gaps.check()
        messages = self._connection.run(self._next(min(rows_max, _MESSAGES_MAX)))
        if not messages:
            return None
        if _numbers(messages[0])[0] > self._at + 1 and self._note_gap():
            self._connection.run(self._open_consumer())  # so that what was taken comes again behind the gap
            return self._ready.popleft()
        self._at = _numbers(messages[-1])[0]
        return self._batch(messages)

    def _note_gap(self) -> bool:
        """Look whether the stream has dropped what was not read; then make what tells it."""
        info: StreamInfo = self._connection.stream(self._stream)
        first, at = info.state.first_seq, self._at
        if first <= at + 1 or (info.config.max_msgs_per_subject or 0) > 0:
            return False
        self._at = first - 1
        about = "" if self._subject is None else ", of all subjects,"
        which = f'messages {at + 1} to {first - 1}{about} of the NATS stream "{self._stream}"'
        message = f"{which} were dropped before they were read"
        self._ready.append(self._gaps.found(self._stream, self._empty, self._at, message))
        return True

    def _batch(self, messages: list[Msg]) -> Batch:
        payloads = [m.data for m in messages]
        made = self._decoder.decode(payloads, _told(messages, self._decoder.wanted))
        aside = made.rejected
        if aside.num_rows:
            places = aside.column("position").to_pylist()
            reasons = [
                f"{reason} (sequence {_numbers(messages[place])[0]})"
                for place, reason in zip(places, aside.column("reason").to_pylist(), strict=True)
            ]
            aside = rejected(places, reasons, [payloads[place] for place in places])
        return Batch(self._stream, made.rows, self._at, aside, defaults=True)

    def due_us(self, now_us: int) -> int | None:
        return now_us + self._poll_us

    def committed(self, positions: Positions) -> None:
        pass  # the consumer acknowledges nothing

    def close(self) -> None:
        self._connection.close()


def _numbers(message: Msg) -> tuple[int, int, int, int]:
    """Read a message's numbers in the stream and in the consumer, its time in nanoseconds, and how many are behind it.

    ``$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.CONSUMED.TIME.PENDING``; later servers put the domain and the account before
    the stream, and a token behind.
    """
    parts = message.reply.split(".")
    stream, consumed, time, pending = parts[5:9] if len(parts) == 9 else parts[7:11]
    return int(stream), int(consumed), int(time), int(pending)


def _told(messages: Sequence[Msg], wanted: frozenset[str]) -> dict[str, Any]:
    """Give what messages tell beside their payload."""
    told: dict[str, Any] = {}
    if "subject" in wanted:
        told["subject"] = pa.array([m.subject for m in messages], pa.string())
    if wanted & {"sequence", "timestamp"}:
        numbers = np.array([_numbers(m)[:3] for m in messages], np.int64).reshape(-1, 3)
        told["sequence"] = pa.array(numbers[:, 0])
        told["timestamp"] = pa.array(numbers[:, 2] // 1_000, pa.timestamp("us", "UTC"))
    if "headers" in wanted:
        told["headers"] = [[(k, v.encode()) for k, v in (m.headers or {}).items()] for m in messages]
    return told
