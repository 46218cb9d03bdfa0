"""Messages of Avro and Protocol Buffers: cut, framed, and read by the schema that each was written with.

    0 | schema id, 4 bytes, the highest first | the record             Confluent's framing
    0 | schema id | indexes of the message | the record                the same with Protocol Buffers

A `Codec` knows one of the two; `BinaryDecoder` reads messages of any number of schemas, each in one go with its like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.formats import casts
from streamsql.formats.format import NOTHING_REJECTED, Decoded, Field, rejected
from streamsql.formats.records import Positions, Records
from streamsql.formats.typed import TypedReading, wrong_of
from streamsql.formats.varints import Block, Cursor

HEADER_BYTES = 5
_PLAIN = -1


class RecordReader(Protocol):
    """Reads records of one schema."""

    def read(self, cursor: Cursor) -> pa.Table:
        """Give the columns that are wanted, a row for each record of the cursor; note in it what is wrong."""
        ...

    def planned(self, given: pa.Schema) -> TypedReading:
        """Tell how such columns become fields."""
        ...


class Codec(Protocol):
    """A way to write records."""

    def after_header(self, cursor: Cursor) -> npt.NDArray[np.int64]:
        """Read what stands between the schema's id and the record; give a number for each kind of record."""
        ...

    def reader(self, schema_id: int | None, kind: int, /) -> RecordReader:
        """Give what reads the records of a schema (None: the one that the stream names). Raises StreamSQLError: none does.

        An error of the class Unavailable says that it is not known now.
        """
        ...


@dataclass(slots=True)
class BinaryDecoder:
    """Reads messages; a `RecordDecoder`."""

    fields: tuple[Field, ...]
    codec: Codec
    framed: bool
    positions: Positions = field(default_factory=lambda: np.zeros(0, np.int64))
    _readers: dict[tuple[int, int], RecordReader | str] = field(default_factory=dict)
    _plans: dict[tuple[int, int], tuple[pa.Schema, TypedReading]] = field(default_factory=dict)

    def read_records(self, records: Records, start: int) -> Decoded:
        """Read messages of a block that begins at byte `start`."""
        count = len(records)
        reasons: dict[int, str] = {}
        cursor = Cursor.of(Block(records.data), records.starts, records.stops)
        ids, kinds = np.full(count, _PLAIN), np.zeros(count, np.int64)
        if self.framed and count:
            ids = _schema_ids(cursor)
            kinds = self.codec.after_header(cursor)
            _note(cursor, np.arange(count), reasons)
        parts, places = [], []
        for key, index in _groups(ids, kinds, cursor.wrong == 0):
            rows, kept = self._group(key, cursor.some(index), index, reasons)
            parts.append(rows)
            places.append(kept)
        rows = pa.concat_tables(parts) if parts else casts.empty_rows(self.fields)
        rows, index = _in_order(rows, places)
        self.positions = records.starts[index] + start
        return Decoded(rows, _aside(records, start, reasons))

    def _group(
        self, key: tuple[int, int], cursor: Cursor, index: Positions, reasons: dict[int, str]
    ) -> tuple[pa.Table, Positions]:
        """Read the messages of one schema; give the rows, and the numbers of their messages."""
        reader = self._reader(key)
        if isinstance(reader, str):
            reasons.update(dict.fromkeys(index.tolist(), reader))
            return casts.empty_rows(self.fields), index[:0]
        given = reader.read(cursor)
        cursor.mark((cursor.places < cursor.stops) & (cursor.wrong == 0), "bytes behind the end of the record")
        _note(cursor, index, reasons)
        if cursor.wrong.any():
            good = cursor.wrong == 0
            given, index = given.filter(pa.array(good)), index[good]
        schema, plan = self._plans.get(key, (None, None))
        if plan is None or schema != given.schema:
            plan = reader.planned(given.schema)
            self._plans[key] = given.schema, plan
        rows, said = plan.run(given)
        wrong = wrong_of(said, len(index))
        if said is not None and wrong.any():
            reasons.update(zip(index[wrong].tolist(), said.drop_null().to_pylist(), strict=True))
            rows, index = rows.filter(pa.array(~wrong)), index[~wrong]
        return rows, index

    def _reader(self, key: tuple[int, int]) -> RecordReader | str:
        """Give the reader of a schema, or why there is none. It is asked for once."""
        from streamsql.base.errors import Unavailable

        found = self._readers.get(key)
        if found is None:
            try:
                found = self.codec.reader(None if key[0] == _PLAIN else key[0], key[1])
            except Unavailable:
                raise
            except StreamSQLError as error:
                if key[0] == _PLAIN:
                    raise
                found = f"schema {key[0]}: {error.message}"
            self._readers[key] = found
        return found


def _schema_ids(cursor: Cursor) -> npt.NDArray[np.int64]:
    """Read the first five bytes."""
    begins = cursor.places
    bad = (cursor.stops - begins < HEADER_BYTES) | (cursor.block.octets[begins] != 0)
    cursor.mark(
        bad, "no schema id: the message does not begin with the byte 0 and four more, as Confluent's framing has it"
    )
    begins = cursor.take(HEADER_BYTES)
    found = cursor.block.words(">u4", begins + 1).astype(np.int64)
    return np.where(cursor.wrong == 0, found, _PLAIN)


def _groups(
    ids: npt.NDArray[np.int64], kinds: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]
) -> list[tuple[tuple[int, int], Positions]]:
    """Part messages by schema and kind; those that are not kept are in no part."""
    index = np.flatnonzero(kept)
    ids, kinds = ids[index], kinds[index]
    if len(index) and (ids == ids[0]).all() and (kinds == kinds[0]).all():
        return [((int(ids[0]), int(kinds[0])), index)]
    found = []
    for schema_id in np.unique(ids).tolist():
        own = np.flatnonzero(ids == schema_id)
        found += [((schema_id, kind), index[own[kinds[own] == kind]]) for kind in np.unique(kinds[own]).tolist()]
    return found


def _note(cursor: Cursor, index: Positions, reasons: dict[int, str]) -> None:
    for place in np.flatnonzero(cursor.wrong).tolist():
        reasons.setdefault(int(index[place]), cursor.reasons[cursor.wrong[place]])


def _in_order(rows: pa.Table, places: Sequence[Positions]) -> tuple[pa.Table, Positions]:
    index = np.concatenate(places) if places else np.zeros(0, np.int64)
    if len(places) > 1:
        order = np.argsort(index, kind="stable")
        return rows.take(pa.array(order)), index[order]
    return rows, index


def _aside(records: Records, start: int, reasons: dict[int, str]) -> pa.Table:
    if not reasons:
        return NOTHING_REJECTED
    order = sorted(reasons)
    return rejected(
        (records.starts[order] + start).tolist(), [reasons[i] for i in order], [records.bytes_of(i) for i in order]
    )


@dataclass(frozen=True, slots=True)
class SchemaText:
    """A schema as a registry gives it: its text, and the texts of those that it refers to, by the name it uses."""

    text: str
    kind: str = "AVRO"
    references: tuple[tuple[str, str], ...] = ()


# asked for the schema of an id
Schemas = Callable[[int], SchemaText]
