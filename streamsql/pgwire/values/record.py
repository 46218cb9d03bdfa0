"""Records and composite types: ``(1,"a b",)`` as text; as binary the number of fields and, of each, its type, length and value.

All rows of a column are written at once, field by field. Input is read row by row; that of a record whose fields are not known
is refused, as PostgreSQL does. A text in braces is read as a JSON object, by the names of its fields.
See https://www.postgresql.org/docs/15/rowtypes.html#ROWTYPES-IO-SYNTAX and `record_send` in PostgreSQL.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    InvalidBinaryRepresentation,
    InvalidTextRepresentation,
    StreamSQLError,
)
from streamsql.base.types import WireType, canonical_arrow
from streamsql.pgwire.values.column import (
    WHITE_SPACE,
    BadValue,
    BinaryValues,
    Codec,
    Piece,
    as_values,
    binary_of_fixed,
    strings_of,
)

_MUST_BE_QUOTED = r'^$|["(),\\\s\v]'
_LENGTH = struct.Struct(">i")
_HEADER = np.dtype([("oid", ">u4"), ("length", ">i4")])


def codec(wire_type: WireType, codec_of: Callable[[WireType], Codec]) -> Codec:
    """Make the codec of a record; `codec_of` gives those of its fields."""
    codecs = [codec_of(field.type) for field in wire_type.fields]

    def to_text(column: pa.Array) -> Piece:
        parts = []
        for each, values in zip(codecs, _fields(column, wire_type), strict=True):
            parts.append(pc.fill_null(_quoted(strings_of(each.to_text(values), values)), ""))
        inside = pc.binary_join_element_wise(*parts, ",")
        made = pc.binary_join_element_wise("(", inside, ")", "")
        return _with_nulls(made, column)

    def to_binary(column: pa.Array) -> Piece:
        parts: list[pa.Array | pa.Scalar] = [pa.scalar(_LENGTH.pack(len(codecs)))]
        for field, each, values in zip(wire_type.fields, codecs, _fields(column, wire_type), strict=True):
            parts += _binary_field(field.type.oid, each.to_binary(values), values)
        return _with_nulls(pc.binary_join_element_wise(*parts, b""), column)

    def from_text(strings: pa.Array, _: int) -> pa.Array:
        rows = [_row(index, text, lambda t: _read_text(t, wire_type)) for index, text in enumerate(strings.to_pylist())]
        columns = []
        for place, (field, each) in enumerate(zip(wire_type.fields, codecs, strict=True)):
            texts = pa.array([None if row is None else row[place] for row in rows], pa.string())
            columns.append(each.from_text(texts, field.modifier))
        return _made(columns, wire_type, strings.is_null())

    def from_binary(values: BinaryValues) -> pa.Array:
        given = as_values(values)
        rows = [_row(index, value, lambda v: _read_binary(v, wire_type)) for index, value in enumerate(given)]
        columns = []
        for place, each in enumerate(codecs):
            columns.append(each.from_binary([None if row is None else row[place] for row in rows]))
        return _made(columns, wire_type, pa.array([value is None for value in given], pa.bool_()))

    def value_to_text(value: bytes) -> str:
        found = _read_binary(value, wire_type)
        texts = [None if v is None else each.value_to_text(v) for each, v in zip(codecs, found, strict=True)]
        quoted = pc.fill_null(_quoted(pa.array(texts, pa.string())), "").to_pylist()
        return f"({','.join(quoted)})"

    return Codec(to_text, to_binary, from_text, from_binary, value_to_text)


def texts_of(text: str, wire_type: WireType) -> list[str | None]:
    """Read the texts of the fields of one record. Raises StreamSQLError."""
    return _read_text(text, wire_type)


def _fields(column: pa.Array, wire_type: WireType) -> list[pa.Array]:
    """Give the fields' values, null where the record is."""
    found = column.flatten()
    assert len(found) == len(wire_type.fields), (column.type, wire_type)
    return list(found)


def _quoted(texts: pa.Array) -> pa.Array:
    """Put texts in quotes that could not be told otherwise; nulls stay."""
    asked = pc.match_substring_regex(texts, _MUST_BE_QUOTED)
    if not pc.any(asked).as_py():
        return texts
    doubled = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '""')
    return pc.if_else(asked, pc.binary_join_element_wise('"', doubled, '"', ""), texts)


def _with_nulls(made: pa.Array, column: pa.Array) -> pa.Array:
    if not column.null_count:
        return made
    return pc.if_else(column.is_valid(), made, pa.scalar(None, made.type))


def _binary_field(oid: int, piece: Piece, values: pa.Array) -> list[pa.Array]:
    if isinstance(piece, np.ndarray):
        piece = binary_of_fixed(piece)
    elif piece.type != pa.binary():
        piece = piece.view(pa.binary())
    lengths = pc.binary_length(piece)
    if values.null_count:
        lengths = pc.if_else(values.is_null(), pa.scalar(-1, pa.int32()), lengths)
        piece = pc.if_else(values.is_null(), pa.scalar(b"", pa.binary()), piece)
    heads = np.empty(len(values), _HEADER)
    heads["oid"] = oid
    heads["length"] = np.asarray(lengths)
    return [binary_of_fixed(heads), piece]


def _made(columns: list[pa.Array], wire_type: WireType, null: pa.Array) -> pa.Array:
    fields = [pa.field(f.name, c.type) for f, c in zip(wire_type.fields, columns, strict=True)]
    if not columns:
        return pa.nulls(len(null), canonical_arrow(wire_type))
    return pa.StructArray.from_arrays(columns, fields=fields, mask=null)


def _row(index: int, value: object, read: Callable[..., Sequence[object]]) -> Sequence[object] | None:
    if value is None:
        return None
    try:
        return read(value)
    except StreamSQLError as error:
        raise BadValue(index, error) from None


def _read_binary(value: bytes, wire_type: WireType) -> list[bytes | None]:
    _refuse_anonymous(wire_type)
    found: list[bytes | None] = []
    try:
        (count,) = _LENGTH.unpack_from(value)
        if count != len(wire_type.fields):
            raise DatatypeMismatch(f"wrong number of columns: {count}, expected {len(wire_type.fields)}")
        position = 4
        for field in wire_type.fields:
            oid, length = struct.unpack_from(">Ii", value, position)
            if oid != field.type.oid:
                raise DatatypeMismatch(
                    f"binary data has type {oid} instead of expected {field.type.oid} in record column {len(found) + 1}"
                )
            position += 8
            if length > len(value) - position:
                raise InvalidBinaryRepresentation("insufficient data left in message")
            found.append(None if length < 0 else value[position : position + length])
            position += max(length, 0)
    except struct.error:
        raise InvalidBinaryRepresentation("insufficient data left in message") from None
    if position != len(value):
        raise InvalidBinaryRepresentation("incorrect binary data format for a record")
    return found


def _refuse_anonymous(wire_type: WireType) -> None:
    if not wire_type.fields:
        raise FeatureNotSupported("input of anonymous composite types is not implemented")


def _read_text(text: str, wire_type: WireType) -> list[str | None]:
    """Read the texts of the fields of one record."""
    _refuse_anonymous(wire_type)
    word = text.strip(WHITE_SPACE)
    if word.startswith("{"):
        return _read_object(word, wire_type)
    if not word.startswith("("):
        raise _malformed(text, "Missing left parenthesis.")
    found: list[str | None] = []
    position = 1
    while True:
        value, position = _read_field(text, word, position)
        found.append(value)
        mark = word[position : position + 1]
        position += 1
        if mark == ")":
            break
    if position != len(word):
        raise _malformed(text, "Junk after right parenthesis.")
    if len(found) < len(wire_type.fields):
        raise _malformed(text, "Too few columns.")
    if len(found) > len(wire_type.fields):
        raise _malformed(text, "Too many columns.")
    return found


def _read_field(text: str, word: str, position: int) -> tuple[str | None, int]:
    """Read one field; give it, None where it is empty, and the place of the comma or parenthesis behind it."""
    if word[position : position + 1] in (",", ")"):
        return None, position
    made: list[str] = []
    quoted = False
    while True:
        mark = word[position : position + 1]
        if not mark:
            raise _malformed(text, "Unexpected end of input.")
        if mark == "\\":
            made.append(word[position + 1 : position + 2])
            position += 2
        elif mark == '"':
            if quoted and word[position + 1 : position + 2] == '"':
                made.append('"')
                position += 2
            else:
                quoted = not quoted
                position += 1
        elif not quoted and mark in ",)":
            return "".join(made), position
        else:
            made.append(mark)
            position += 1


def _read_object(text: str, wire_type: WireType) -> list[str | None]:
    try:
        found = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise _malformed(text, str(error)) from None
    return [_text_of(found.get(field.name)) for field in wire_type.fields]


def _text_of(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, list):
        return "{" + ",".join("NULL" if v is None else json.dumps(_text_of(v)) for v in value) + "}"
    return json.dumps(value)


def _malformed(text: str, detail: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f'malformed record literal: "{text}"', detail=detail)
