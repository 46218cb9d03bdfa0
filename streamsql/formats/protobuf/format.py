"""Messages of Protocol Buffers to the fields of a stream, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.formats.binary import BinaryDecoder, RecordReader, Schemas, SchemaText
from streamsql.formats.format import Field
from streamsql.formats.protobuf.reading import read
from streamsql.formats.protobuf.schema import Message, message_of
from streamsql.formats.typed import TypedReading, column_types
from streamsql.formats.varints import Block, Cursor

_INDEXES_MAX = 64


class ProtobufCodec:
    """Protocol Buffers for these fields, by the schema of each id, or by one; `message` names a message of the schema."""

    def __init__(
        self, fields: tuple[Field, ...], times: str, schemas: Schemas | None, schema: SchemaText | None,
        message: str | None,
    ) -> None:  # fmt: skip
        self._fields, self._times = fields, times
        self._schemas, self._schema, self._message = schemas, schema, message
        self._paths: dict[tuple[int, ...], int] = {(0,): 0}

    def after_header(self, cursor: Cursor) -> npt.NDArray[np.int64]:
        """Read the indexes of the message: how many, and each; none stands for the first message."""
        counts = cursor.zigzags()
        wrong = (counts < 0) | (counts > _INDEXES_MAX)
        if wrong.any():
            cursor.mark(wrong, "no indexes of a message")
            counts = np.where(wrong, 0, counts)
        if not counts.any():
            return np.zeros(len(cursor), np.int64)
        read_indexes = np.full((len(cursor), int(counts.max())), -1)
        for place in range(read_indexes.shape[1]):
            index = np.flatnonzero(counts > place)
            part = cursor.some(index)
            read_indexes[index, place] = part.zigzags()
            cursor.back(index, part)
        read_indexes[counts == 0, 0] = 0
        distinct, places = np.unique(read_indexes, axis=0, return_inverse=True)
        numbers = [
            self._paths.setdefault(tuple(i for i in path if i >= 0), len(self._paths)) for path in distinct.tolist()
        ]
        return np.array(numbers)[places.reshape(-1)]

    def reader(self, schema_id: int | None, kind: int, /) -> RecordReader:
        schema = self._schema
        if schema_id is not None and self._schemas is not None:
            schema = self._schemas(schema_id)
        assert schema is not None
        path = next(path for path, number in self._paths.items() if number == kind)
        return ProtobufReader(message_of(schema, path, self._message), self._fields, self._times)

    def decoder(self, *, framed: bool) -> BinaryDecoder:
        return BinaryDecoder(self._fields, self, framed)


class ProtobufReader:
    """Reads messages of one kind."""

    def __init__(self, message: Message, fields: Sequence[Field], times: str) -> None:
        self._message, self._fields, self._times = message, fields, times
        self._wanted = {f.keys[0] for f in fields}

    def read(self, cursor: Cursor) -> pa.Table:
        columns = read(self._message, cursor, self._wanted)
        return pa.table(columns or {"": pa.nulls(len(cursor), pa.int8())})

    def planned(self, given: pa.Schema) -> TypedReading:
        return TypedReading.of(self._fields, given, self._times)


def infer_protobuf(schema: SchemaText, message: str | None) -> tuple[Field, ...]:
    """Tell the columns of a message, by default the first of the schema."""
    found = message_of(schema, (0,), message)
    nobody = np.zeros(0, np.int64)
    rows = pa.table(read(found, Cursor.of(Block(b""), nobody, nobody)))
    return tuple(Field(n, t) for n, t in zip(rows.column_names, column_types(rows.schema), strict=True))
