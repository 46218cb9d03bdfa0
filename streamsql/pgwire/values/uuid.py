"""uuid: lower-case digits in groups 8-4-4-4-12 as text (also its canonical Arrow form), 16 bytes as binary.

Input takes braces, capitals, and hyphens left out or after any four digits, as
https://www.postgresql.org/docs/current/datatype-uuid.html says.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidTextRepresentation
from streamsql.pgwire.values import bytea
from streamsql.pgwire.values.column import (
    BadValue,
    BinaryValues,
    Codec,
    Fixed,
    Piece,
    binary_of_fixed,
    check_width,
    check_widths,
    from_offsets,
    read_in_two_speeds,
    strings_of,
    wrong_width,
)
from streamsql.pgwire.values.text import to_text

_CANONICAL = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_GROUPS = r"^(.{8})(.{4})(.{4})(.{4})(.{12})$"
_ACCEPTED = re.compile(r"(\{)?(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}(?(1)\})\Z")


def _to_binary(column: pa.Array) -> Piece:
    digits = pc.replace_substring(column, pattern="-", replacement="")
    return bytea.BYTEA.from_text(pc.binary_join_element_wise("\\x", digits, ""), -1)


def _fast(strings: pa.Array) -> pa.Array:
    if pc.all(pc.match_substring_regex(strings, _CANONICAL)).as_py() is False:
        raise pa.ArrowInvalid("another form")
    return strings


def _careful(text: str) -> str:
    if not _ACCEPTED.match(text):
        raise InvalidTextRepresentation(f'invalid input syntax for type uuid: "{text}"')
    digits = text.strip("{}").replace("-", "").lower()
    return re.sub(_GROUPS, r"\1-\2-\3-\4-\5", digits)


def _from_text(strings: pa.Array, _: int) -> pa.Array:
    return read_in_two_speeds(strings, _fast, _careful, pa.string())


def _from_binary(values: BinaryValues) -> pa.Array:
    if isinstance(values, pa.Array):
        check_widths(values, 16, "uuid")
        return _of_bytes(values)
    for row, value in enumerate(values):
        if value is not None and len(value) != 16:
            raise BadValue(row, wrong_width("uuid", len(value), 16))
    return _of_bytes(pa.array(values, pa.binary()))


def _from_fixed(values: Fixed) -> pa.Array:
    column = binary_of_fixed(values.values)
    return _of_bytes(column if values.null is None else from_offsets(column, values.null))


def _of_bytes(column: pa.Array) -> pa.Array:
    digits = pc.utf8_slice_codeunits(strings_of(bytea.BYTEA.to_text(column), column), 2)
    return pc.replace_substring_regex(digits, pattern=_GROUPS, replacement=r"\1-\2-\3-\4-\5")


def _value_to_text(value: bytes) -> str:
    check_width(value, 16, "uuid")
    return re.sub(_GROUPS, r"\1-\2-\3-\4-\5", value.hex())


UUID = Codec(to_text, _to_binary, _from_text, _from_binary, _value_to_text, _from_fixed)
