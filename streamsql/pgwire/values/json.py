"""json and jsonb: text as it is; jsonb's binary form is a version byte, 1, and the text.

Input is checked but not changed, for jsonb neither: DuckDB keeps JSON as its text.
See https://www.postgresql.org/docs/current/datatype-json.html.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidBinaryRepresentation, InvalidTextRepresentation, ProgramLimitExceeded
from streamsql.pgwire.values import text
from streamsql.pgwire.values.column import BadValue, BinaryValues, Codec, Piece, read_in_two_speeds

_VERSION = b"\x01"


def _refuse_constant(name: str) -> object:
    raise ValueError(f'token "{name}" is invalid')


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=str, parse_float=str)


def _check(value: str) -> str:
    try:
        _decoder.decode(value)
    except ValueError as error:
        raise InvalidTextRepresentation("invalid input syntax for type json", detail=str(error)) from None
    except RecursionError:
        raise ProgramLimitExceeded("json value is nested too deeply") from None
    return value


def _unread(strings: pa.Array) -> pa.Array:
    if len(strings) == strings.null_count:
        return strings
    raise pa.ArrowInvalid("no kernel checks JSON")


def _from_text(strings: pa.Array, _: int) -> pa.Array:
    return read_in_two_speeds(strings, _unread, _check, pa.string())


def _json_from_binary(values: BinaryValues) -> pa.Array:
    return _from_text(text.from_bytes(values), -1)


def _jsonb_to_binary(column: pa.Array) -> Piece:
    return pc.binary_join_element_wise(pa.scalar(_VERSION), pc.cast(column, pa.binary()), b"")


def _without_version(value: bytes) -> bytes:
    if value[:1] != _VERSION:
        raise InvalidBinaryRepresentation(f"unsupported jsonb version number {value[0] if value else 'missing'}")
    return value[1:]


def _jsonb_from_binary(values: BinaryValues) -> pa.Array:
    if isinstance(values, pa.Array):
        if pc.all(pc.starts_with(values, _VERSION)).as_py() is not False:
            return _json_from_binary(pc.binary_slice(values, 1))
        values = values.to_pylist()
    texts: list[bytes | None] = []
    for row, value in enumerate(values):
        try:
            texts.append(None if value is None else _without_version(value))
        except InvalidBinaryRepresentation as error:
            raise BadValue(row, error) from None
    return _json_from_binary(texts)


def _json_value(value: bytes) -> str:
    return _check(text.decode(value))


def _jsonb_value(value: bytes) -> str:
    return _json_value(_without_version(value))


JSON = Codec(text.to_text, text.to_text, _from_text, _json_from_binary, _json_value)
JSONB = Codec(text.to_text, _jsonb_to_binary, _from_text, _jsonb_from_binary, _jsonb_value)
