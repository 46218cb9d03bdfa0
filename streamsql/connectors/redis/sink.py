"""Writes changes into a Redis stream by XADD, or into hashes by HSET and DEL: each of them once.

    WATCH streamsql:sink:ID           HGET streamsql:sink:ID epoch
    MULTI    XADD alerts * room kitchen n 3 ...    HSET streamsql:sink:ID epoch 8    EXEC

The epoch stands in the note in the same transaction as its rows, and the note is watched. So a transaction that was sent, and
whose answer did not come, either has happened when it is looked for, or can never happen any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import ExternalError, Unavailable
from streamsql.connectors.outgoing import Bodies, Mode, escaped_text, texts_of, told
from streamsql.connectors.redis.client import asking, connect
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Surroundings

NOTE = "streamsql:sink:"


class RedisSink:
    """An open sink."""

    def __init__(self, options: Mapping[str, Any], shape: Shape, mode: Mode, surroundings: Surroundings) -> None:
        self._shape = shape
        self._mode = mode
        self._stream: str | None = options["stream"]
        self._hash: str | None = options["hash"]
        self._field: str | None = options["field"]
        self._maxlen: int | None = options["maxlen"]
        self._name = surroundings.name
        self._note = NOTE + surroundings.identity
        self._bodies = Bodies(options, shape, mode)
        self._client = connect(options, surroundings)

    def delivered(self) -> int | None:
        with asking():
            return int(self._client.hget(self._note, "epoch") or 0)

    def deliver(self, delivery: Delivery) -> None:
        changes = told(delivery, self._shape, self._mode)
        with asking(), self._client.pipeline(transaction=True) as pipe:
            watched = [self._note] if self._stream is None else [self._note, self._stream]
            pipe.watch(*watched)
            held = int(pipe.hget(self._note, "epoch") or 0)
            if held >= delivery.first_epoch:
                raise Unavailable(f"epoch {held} has come there meanwhile")  # opened again, `delivered` tells it
            if self._stream is not None:
                self._check_kind(pipe, self._stream)
            pipe.multi()
            if self._stream is not None:
                self._add(pipe, self._stream, changes)
            else:
                self._put(pipe, changes)
            pipe.hset(self._note, mapping={"epoch": delivery.last_epoch, "sink": self._name})
            pipe.execute()

    def _check_kind(self, pipe: Any, key: str) -> None:
        """Raise where the key holds something else: in a transaction the other commands would be executed all the same."""
        kind = pipe.type(key)
        if kind not in {b"none", b"stream"}:
            raise ExternalError(f'the Redis key "{key}" holds a {kind.decode()}, no stream')

    def _add(self, pipe: Any, key: str, changes: Delivery) -> None:
        if self._field is not None:
            field = self._field
            entries: list[dict[Any, Any]] = [{field: body} for body in self._bodies.of(changes)]
        else:
            entries = self._fields(changes)
        for entry in entries:
            pipe.xadd(key, entry, maxlen=self._maxlen, approximate=True)

    def _fields(self, changes: Delivery) -> list[dict[Any, Any]]:
        """Give the fields of each entry; a NULL is no field."""
        columns = self._shape.columns
        texts = [t.to_pylist() for t in texts_of(changes.rows, columns)]
        names = [c.name for c in columns]
        entries = [
            {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for values in zip(*texts, strict=True)
        ]
        if self._mode is Mode.CHANGELOG:
            for entry, weight, epoch in zip(entries, changes.weights.tolist(), changes.epochs.tolist(), strict=True):
                entry.update(__epoch=epoch, __weight=weight)
        elif self._mode is Mode.UPSERT:
            for place in np.flatnonzero(changes.weights < 0).tolist():
                kept = {n: v for n, v in entries[place].items() if n in self._shape.key}
                entries[place] = {**kept, "__deleted": "true"}
        for entry in entries:
            if not entry:  # XADD takes at least one field
                entry["__empty"] = "true"
        return entries

    def _put(self, pipe: Any, changes: Delivery) -> None:
        """Replace or delete the hash of each key, whole, so that what has become NULL goes."""
        key_columns = [c for c in self._shape.columns if c.name in self._shape.key]
        parts = [escaped_text(text, ":") for text in texts_of(changes.rows, key_columns)]
        keys = pc.binary_join_element_wise(*parts, pa.scalar(":", pa.string())).to_pylist() if parts else []
        for key, entry, weight in zip(keys, self._fields(_all_there(changes)), changes.weights.tolist(), strict=True):
            name = f"{self._hash}{key}"
            pipe.delete(name)
            if weight > 0:
                pipe.hset(name, mapping=entry)

    def close(self) -> None:
        self._client.close()


def _all_there(changes: Delivery) -> Delivery:
    return Delivery(
        changes.rows,
        np.ones_like(changes.weights),
        changes.epochs,
        changes.numbers,
        changes.first_epoch,
        changes.last_epoch,
    )
