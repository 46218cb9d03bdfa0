"""Reads Redis streams by XREAD from kept ids, so that reading again from a position gives the same rows.

    XREAD COUNT n STREAMS key 1700000000000-0   in one transaction with   XINFO STREAM key

A position is ``ID COUNT``: the last entry's id, and how many entries had been added to the stream up to it. Redis counts the
entries that were ever added. Whoever has read up to the end has read as many; if not, some were trimmed or deleted before they
were read. That is a gap, which is told (`incoming.Gaps`), with how many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import DataCorrupted, FeatureNotSupported
from streamsql.connectors.incoming import Gaps
from streamsql.connectors.messages import MessageDecoder
from streamsql.connectors.redis import RedisConnector
from streamsql.connectors.redis.client import asking, connect
from streamsql.connectors.redis.fields import FieldDecoder
from streamsql.connectors.source import Batch, Surroundings
from streamsql.engine.positions import Positions
from streamsql.formats.format import rejected
from streamsql.sql.statements import ColumnDefinition

Entry = tuple[bytes, dict[bytes, bytes]]
_NOTHING = "0-0"


@dataclass(frozen=True, slots=True)
class _At:
    """How far a stream is read."""

    id: str
    count: int

    def __str__(self) -> str:
        return f"{self.id} {self.count}"


class RedisSource:
    """Open streams of one Redis."""

    def __init__(
        self,
        options: Mapping[str, Any],
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> None:
        self._keys = [key.strip() for key in options["stream"].split(",") if key.strip()]
        self._startup: str = options["startup"]
        self._field: bytes | None = None if options["field"] is None else options["field"].encode()
        self._poll_us: int = options["poll"]
        self._included = {c.include for c in columns if c.include}
        self._decoder: MessageDecoder | FieldDecoder
        if self._field is None:
            self._decoder = FieldDecoder(columns, options["times"])
        else:
            self._decoder = MessageDecoder(options, columns, RedisConnector.metadata, surroundings.record_bytes_max)
        self._empty = self._decoder.decode([], self._told([], "")).rows
        self._gaps = Gaps(options["on_gap"])
        self._client = connect(options, surroundings)
        self._at: dict[str, _At] = {}
        self._next = 0
        try:
            for key in self._keys:
                self._at[key] = self._begin(key, positions.get(key))
        except BaseException:
            self._client.close()
            raise

    def _begin(self, key: str, position: int | str | None) -> _At:
        """Say where to go on. Raises where it is no stream, or another than the position is of."""
        _, found = self._look(key, None, 0)
        if position is not None:
            last, _, count = str(position).partition(" ")
            if not _is_id(last) or not count.isdecimal():
                raise DataCorrupted(
                    f'"{position}" is no position in a stream of Redis', hint="drop the stream and create it again"
                )
            at = _At(last, int(count))
            if found is None or found.added < at.count or _order(found.last) < _order(at.id):
                raise DataCorrupted(
                    f'the Redis stream "{key}" is not the one that was read up to {at.id}: it has been made anew',
                    hint="drop the stream and create it again to begin anew",
                )
            return at
        if found is None:
            return _At(_NOTHING, 0)
        if self._startup == "latest":
            return _At(found.last, found.added)
        start = _NOTHING if self._startup == "earliest" else self._startup
        with asking():
            # what lies before is not wanted; what was trimmed before the stream was made is no gap
            ahead = found.length if start == _NOTHING else len(self._client.xrange(key, f"({start}", "+"))
        return _At(start, found.added - ahead)

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        self._gaps.check()
        for _ in self._keys:
            key = self._keys[self._next]
            self._next = (self._next + 1) % len(self._keys)
            batch = self._read(key, rows_max)
            if batch is not None:
                return batch
        return None

    def _read(self, key: str, rows_max: int) -> Batch | None:
        at = self._at[key]
        entries, found = self._look(key, at.id, rows_max)
        if found is None:
            if at.count:
                raise DataCorrupted(f'the Redis stream "{key}" is gone, which was read up to {at.id}')
            return None
        if found.added < at.count:
            raise DataCorrupted(
                f'the Redis stream "{key}" has been made anew, which was read up to {at.id}',
                hint="drop the stream and create it again to begin anew",
            )
        read_to = at.count + len(entries)
        # all that is not there any more was there before; at the end, what was not read is not there any more
        gone = (found.added - read_to) if len(entries) < rows_max else (found.added - found.length - at.count)
        if gone > 0:
            self._at[key] = _At(at.id, at.count + gone)
            message = f'{gone} entries of the Redis stream "{key}" after {at.id} were trimmed or deleted before they were read'
            return self._gaps.found(key, self._empty, str(self._at[key]), message)
        if not entries:
            return None
        last = entries[-1][0].decode()
        self._at[key] = _At(last, read_to)
        return self._batch(key, entries, str(self._at[key]))

    def _look(self, key: str, after: str | None, rows_max: int) -> tuple[list[Entry], _Found | None]:
        """Read entries, and what the stream is, at one instant."""
        from redis.exceptions import ResponseError

        with asking():
            pipe = self._client.pipeline(transaction=True)
            if after is not None:
                pipe.xread({key: after}, count=rows_max)
            pipe.execute_command("XINFO STREAM", key)
            answers = pipe.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, ResponseError) and "no such key" in str(answer):
                    return [], None
                if isinstance(answer, Exception):
                    raise answer
        entries: list[Entry] = answers[0][0][1] if after is not None and answers[0] else []
        return entries, _Found.of(answers[-1])

    def _batch(self, key: str, entries: list[Entry], position: str) -> Batch:
        told = self._told(entries, key)
        if isinstance(self._decoder, FieldDecoder):
            made = self._decoder.decode(entries, told)
            shown = [repr(e[1]).encode() for e in entries] if made.rejected.num_rows else []
        else:
            assert self._field is not None
            field = self._field
            payloads = [fields.get(field) for _, fields in entries]
            made = self._decoder.decode(payloads, told)
            shown = [p or b"" for p in payloads] if made.rejected.num_rows else []
        aside = made.rejected
        if aside.num_rows:
            places = aside.column("position").to_pylist()
            reasons = [
                f"{reason} (entry {entries[place][0].decode()})"
                for place, reason in zip(places, aside.column("reason").to_pylist(), strict=True)
            ]
            aside = rejected(places, reasons, [shown[place] for place in places])
        return Batch(key, made.rows, position, aside, defaults=True)

    def _told(self, entries: list[Entry], key: str) -> dict[str, Any]:
        """Give what entries tell beside their fields."""
        told: dict[str, Any] = {}
        if "id" in self._included:
            told["id"] = pa.array([i.decode() for i, _ in entries], pa.string())
        if "stream" in self._included:
            told["stream"] = pa.array([key] * len(entries), pa.string())
        if "timestamp" in self._included:
            times = np.fromiter((int(i.partition(b"-")[0]) for i, _ in entries), np.int64, len(entries))
            told["timestamp"] = pa.array(times * 1_000, pa.timestamp("us", "UTC"))
        return told

    def due_us(self, now_us: int) -> int | None:
        return now_us + self._poll_us

    def committed(self, positions: Positions) -> None:
        pass  # Redis keeps no note of who has read what by XREAD

    def close(self) -> None:
        self._client.close()


@dataclass(frozen=True, slots=True)
class _Found:
    """What XINFO STREAM says."""

    length: int
    added: int
    last: str

    @classmethod
    def of(cls, answer: Any) -> _Found:
        found = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        said = {k.decode() if isinstance(k, bytes) else k: v for k, v in found.items()}
        if "entries-added" not in said:
            raise FeatureNotSupported(
                "this Redis does not count the entries of a stream, so that trimmed ones would go unnoticed",
                hint="Redis 7.0 or later does",
            )
        last = said["last-generated-id"]
        return cls(int(said["length"]), int(said["entries-added"]), last.decode() if isinstance(last, bytes) else last)


def _order(text: str) -> tuple[int, int]:
    time, _, number = text.partition("-")
    return int(time), int(number)


def _is_id(text: str) -> bool:
    time, dash, number = text.partition("-")
    return bool(dash) and time.isdecimal() and number.isdecimal()
