"""Avro messages to the fields of a stream, by name: what the writer has besides is left, what it has not is NULL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.base.errors import InvalidParameterValue
from streamsql.formats.avro.reading import read, skip
from streamsql.formats.avro.schema import Type, parse, sql_type
from streamsql.formats.binary import BinaryDecoder, RecordReader, Schemas, SchemaText
from streamsql.formats.format import Field
from streamsql.formats.typed import TypedReading
from streamsql.formats.varints import Cursor


def avro_type(schema: SchemaText) -> Type:
    """Read the schema of a message, which must be a record. Raises StreamSQLError."""
    if schema.kind != "AVRO":
        raise InvalidParameterValue(f"it is of type {schema.kind}, not AVRO")
    found = parse(schema.text, dict(schema.references))
    found = found.optional or found
    if found.kind != "record":
        raise InvalidParameterValue(f"the Avro schema of a message must be a record, not {found.kind}")
    return parse(schema.text, dict(schema.references))


class AvroCodec:
    """Avro for these fields, by the schema of each id, or by one.

    A key need not be a record: any schema is read as if it stood in the field `whole` of one; or those that are no
    records, in the field `alone`.
    """

    def __init__(
        self, fields: tuple[Field, ...], times: str, schemas: Schemas | None, schema: SchemaText | None, *,
        whole: str = "", alone: str = "",
    ) -> None:  # fmt: skip
        self._fields, self._times = fields, times
        self._schemas, self._schema = schemas, schema
        self._whole, self._alone = whole, alone

    def after_header(self, cursor: Cursor) -> npt.NDArray[np.int64]:
        return np.zeros(len(cursor), np.int64)

    def reader(self, schema_id: int | None, _: int, /) -> RecordReader:
        if schema_id is not None and self._schemas is not None:
            return AvroReader(self._type(self._schemas(schema_id)), self._fields, self._times)
        assert self._schema is not None
        return AvroReader(avro_type(self._schema), self._fields, self._times)

    def _type(self, schema: SchemaText) -> Type:
        if not (self._whole or self._alone) or schema.kind != "AVRO":
            return avro_type(schema)
        found = parse(schema.text, dict(schema.references))
        if self._whole or (found.optional or found).kind != "record":
            return Type("record", name="key", fields=((self._whole or self._alone, found),))
        return found

    def decoder(self, *, framed: bool) -> BinaryDecoder:
        return BinaryDecoder(self._fields, self, framed)


class AvroReader:
    """Reads records of one schema."""

    def __init__(self, schema: Type, fields: Sequence[Field], times: str) -> None:
        self._schema = schema
        self._record = schema.optional or schema
        self._fields, self._times = fields, times
        self._wanted = {f.keys[0] for f in fields}

    def read(self, cursor: Cursor) -> pa.Table:
        if self._schema.kind == "union":
            self._branch(cursor)
        columns = {}
        for name, field in self._record.fields:
            if name in self._wanted:
                columns[name] = read(field, cursor)
            else:
                skip(field, cursor)
        if not columns:  # so that the rows are counted
            columns = {"": pa.nulls(len(cursor), pa.int8())}
        return pa.table(columns)

    def _branch(self, cursor: Cursor) -> None:
        """Go over the branch of a record that may be null."""
        number = next(i for i, b in enumerate(self._schema.branches) if b.kind == "record")
        cursor.mark((cursor.zigzags() != number) & (cursor.wrong == 0), "null in place of a record")

    def planned(self, given: pa.Schema) -> TypedReading:
        return TypedReading.of(self._fields, given, self._times, self._is_union)

    def _is_union(self, path: tuple[str, ...]) -> bool:
        found: Type | None = self._record
        for key in path:
            found = None if found is None else found.optional or found
            if found is not None and found.kind == "map":
                found = found.item
            elif found is not None:
                found = dict(found.members).get(key)
        return found is not None and found.kind == "union" and found.optional is None


def infer_avro(schema: SchemaText) -> tuple[Field, ...]:
    """Tell the columns of a schema."""
    whole = avro_type(schema)
    record = whole.optional or whole
    return tuple(Field(name, sql_type(field)) for name, field in record.fields)
