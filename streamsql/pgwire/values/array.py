"""Arrays of any scalar type: ``{1,2,NULL}`` as text, a header and the elements' own form as binary.

All elements of a column are encoded at once, flattened; only arrays of arrays go element by element. Postgres has
rectangular arrays alone, so a ragged array of arrays has no binary form. Input takes one dimension, without bounds.
See https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO and `array_send` in PostgreSQL.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import (
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
    Numbers,
    Piece,
    as_values,
    binary_of_fixed,
    binary_of_offsets,
    strings_of,
    valid,
)

_MUST_BE_QUOTED = r'^$|[{}",\\\s\v]|^(?i:null)$'
_HEADER = struct.Struct(">iiI")
_DIMENSION = struct.Struct(">ii")
_DIMENSIONS_MAX = 6  # PostgreSQL's MAXDIM
_SIMPLE = r'^\s*\{[^"\\{}]*\}\s*$'  # one dimension, nothing quoted
_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^"\\{},]|\\.)*))\s*([,}])', re.DOTALL | re.ASCII)


def codec(wire_type: WireType, element: Codec) -> Codec:
    """Make the codec of the arrays whose elements have this codec."""
    assert wire_type.element is not None
    element_type = wire_type.element

    def to_text(column: pa.Array) -> Piece:
        column = _as_list(column)
        if pa.types.is_list(column.type.value_type):
            inner = _rows(column, lambda rows: strings_of(to_text(rows), rows))
        else:
            inner = _rows(column, lambda items: _quoted(strings_of(element.to_text(items), items)))
        texts = pc.binary_join_element_wise("{", pc.binary_join(inner, ","), "}", "")
        return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts

    def to_binary(column: pa.Array) -> Piece:
        column = _as_list(column)
        if pa.types.is_list(column.type.value_type):
            return _nested_to_binary(column, element, element_type)
        items = column.flatten()
        bodies = framed(element.to_binary(items), items)
        starts = _list_offsets(column)
        joined = _concatenated(bodies, starts)
        header = np.zeros(len(column), [("head", ">i4", 3), ("dimension", ">i4", 2)])
        lengths = np.diff(starts)
        missing = np.concatenate(([0], np.cumsum(~valid(items))))
        header["head"][:, 0] = lengths > 0
        header["head"][:, 1] = missing[starts[1:]] > missing[starts[:-1]]
        header["head"][:, 2] = element_type.oid
        header["dimension"][:, 0] = lengths
        header["dimension"][:, 1] = 1
        whole = binary_of_fixed(header)
        headers = pc.if_else(pa.array(lengths > 0), whole, pc.binary_slice(whole, 0, 12))
        found = pc.binary_join_element_wise(headers, joined, b"")
        return pc.if_else(column.is_valid(), found, None) if column.null_count else found

    def from_text(strings: pa.Array, modifier: int) -> pa.Array:
        rows, items = _split(strings)
        try:
            values = element.from_text(items, modifier)
        except BadValue as bad:
            raise _of_row(bad, rows) from None
        return _listed(rows, values, strings.is_valid())

    def from_binary(values: BinaryValues) -> pa.Array:
        values = as_values(values)
        lengths: list[int] = []
        items: list[bytes | None] = []
        for row, value in enumerate(values):
            try:
                found = [] if value is None else _elements(value, element_type)
            except StreamSQLError as error:
                raise BadValue(row, error) from None
            lengths.append(len(found))
            items += found
        rows = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64))))
        try:
            inner = element.from_binary(items) if items else pa.array([], canonical_arrow(element_type))
        except BadValue as bad:
            raise _of_row(bad, rows) from None
        return _listed(rows, inner, pa.array([value is not None for value in values], pa.bool_()))

    def value_to_text(value: bytes) -> str:
        items = [None if item is None else element.value_to_text(item) for item in _elements(value, element_type)]
        quoted = _quoted(pa.array(items, pa.string()))
        return "{" + ",".join(quoted.to_pylist()) + "}"

    return Codec(to_text, to_binary, from_text, from_binary, value_to_text)


def framed(piece: Piece, column: pa.Array) -> pa.Array:
    """Put its length before each value of a piece, -1 for NULL; the values of a binary array, none of them null."""
    if isinstance(piece, np.ndarray):
        piece = binary_of_fixed(piece)
    elif piece.type != pa.binary():
        piece = piece.view(pa.binary())
    lengths = pc.binary_length(piece)
    if column.null_count:
        missing = column.is_null()
        lengths = pc.if_else(missing, pa.scalar(-1, pa.int32()), lengths)
        piece = pc.if_else(missing, pa.scalar(b"", pa.binary()), piece)
    prefixes = binary_of_fixed(np.asarray(lengths).astype(">i4"))
    return pc.binary_join_element_wise(prefixes, piece, b"")


def _as_list(column: pa.Array) -> pa.Array:
    """Bring large and fixed-size lists into the usual form, whose offsets the functions here read."""
    if pa.types.is_list(column.type):
        return column
    return pc.cast(column, pa.list_(column.type.value_type))


def _list_offsets(column: pa.Array) -> Numbers:
    """Give where each row starts in `column.flatten()`, and its end."""
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return np.concatenate(([0], np.cumsum(np.asarray(lengths, dtype=np.int64))))


def _rows(column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> pa.Array:
    offsets = pa.array(_list_offsets(column), pa.int32())
    return pa.ListArray.from_arrays(offsets, convert(column.flatten()))


def _concatenated(values: pa.Array, starts: Numbers) -> pa.Array:
    """Concatenate the values of each row: the same bytes under coarser offsets."""
    if not len(values):
        return binary_of_offsets(np.zeros(len(starts), np.int32), b"", len(starts) - 1)
    _, offset_buffer, data = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(values) + 1, values.offset * 4)
    return binary_of_offsets(offsets[starts], data if data is not None else b"", len(starts) - 1)


def _quoted(texts: pa.Array) -> pa.Array:
    """Quote what would read back as something else; NULL becomes the word."""
    odd = pc.match_substring_regex(texts, _MUST_BE_QUOTED)
    if pc.any(odd).as_py():
        escaped = pc.replace_substring_regex(texts, pattern=r'(["\\])', replacement=r"\\\1")
        texts = pc.if_else(odd, pc.binary_join_element_wise('"', escaped, '"', ""), texts)
    return pc.fill_null(texts, "NULL")


def _nested_to_binary(column: pa.Array, element: Codec, element_type: WireType) -> pa.Array:
    found: list[bytes | None] = []
    for row in range(len(column)):
        cell = column[row]
        if not cell.is_valid:
            found.append(None)
            continue
        dimensions: list[int] = []
        items = cell.values
        count = 1
        while True:
            dimensions.append(len(items) // count if count else 0)
            count = len(items)
            if not pa.types.is_list(items.type):
                break
            lengths = set(pc.list_value_length(items).to_pylist())
            if len(lengths) > 1 or None in lengths:
                raise FeatureNotSupported(
                    "an array whose rows differ in length has no binary form", hint="ask for the text format"
                )
            items = items.flatten()
        if len(dimensions) > _DIMENSIONS_MAX:
            raise FeatureNotSupported(f"number of array dimensions ({len(dimensions)}) exceeds {_DIMENSIONS_MAX}")
        if not count:
            found.append(_HEADER.pack(0, 0, element_type.oid))
            continue
        head = _HEADER.pack(len(dimensions), int(items.null_count > 0), element_type.oid)
        shape = b"".join(_DIMENSION.pack(size, 1) for size in dimensions)
        found.append(head + shape + b"".join(framed(element.to_binary(items), items).to_pylist()))
    return pa.array(found, pa.binary())


def _malformed(text: str, detail: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f'malformed array literal: "{text}"', detail=detail)


def _split(strings: pa.Array) -> tuple[Numbers, pa.Array]:
    """Cut array literals into their elements; give where each row starts, and the texts of all elements."""
    if pc.all(pc.match_substring_regex(strings, _SIMPLE)).as_py() is not False:
        inner = pc.replace_substring_regex(strings, pattern=r"^\s*\{\s*|\s*\}\s*$", replacement="")
        parts = pc.split_pattern(pc.fill_null(inner, ""), ",")
        empty = np.asarray(pc.equal(pc.fill_null(inner, ""), ""))
        lengths = np.asarray(pc.list_value_length(parts)).astype(np.int64)
        words = pc.ascii_trim(parts.flatten(), WHITE_SPACE)
        if empty.any():
            words = words.filter(pa.array(~np.repeat(empty, lengths)))
            lengths[empty] = 0
        rows = np.concatenate(([0], np.cumsum(lengths)))
        if not pc.any(pc.equal(words, "")).as_py():
            missing = pc.match_substring_regex(words, "^(?i:null)$")
            return rows, pc.if_else(missing, pa.scalar(None, pa.string()), words)
    lengths_read: list[int] = []
    items: list[str | None] = []
    for row, text in enumerate(strings.to_pylist()):
        try:
            found = [] if text is None else _elements_of_text(text)
        except StreamSQLError as error:
            raise BadValue(row, error) from None
        lengths_read.append(len(found))
        items += found
    return np.concatenate(([0], np.cumsum(np.array(lengths_read, np.int64)))), pa.array(items, pa.string())


def _elements_of_text(text: str) -> list[str | None]:
    word = text.strip(WHITE_SPACE)
    if not word.startswith("{"):
        if word.startswith("["):
            raise FeatureNotSupported("array literals with bounds are not supported")
        raise _malformed(text, 'Array value must start with "{" or dimension information.')
    if re.match(r"\{\s*\}\Z", word, re.ASCII):
        return []
    items: list[str | None] = []
    position = 1
    while True:
        match = _ELEMENT.match(word, position)
        if match is None:
            if re.match(r"\s*\{", word[position:], re.ASCII):
                raise FeatureNotSupported("array literals of more than one dimension are not supported")
            raise _malformed(text, "Unexpected end of input.")
        quoted, plain, end = match.groups()
        position = match.end()
        if quoted is not None:
            items.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        elif not plain.strip(WHITE_SPACE):
            raise _malformed(text, f'Unexpected "{end}" character.')
        else:
            items.append(
                None
                if plain.strip(WHITE_SPACE).lower() == "null"
                else re.sub(r"\\(.)", r"\1", plain.strip(WHITE_SPACE), flags=re.DOTALL)
            )
        if end == "}":
            if position != len(word):
                raise _malformed(text, "Junk after closing right brace.")
            return items


def _elements(value: bytes, element_type: WireType) -> list[bytes | None]:
    """Read the elements of a binary array of one dimension."""
    try:
        dimensions, _, oid = _HEADER.unpack_from(value)
        if oid != element_type.oid:
            raise InvalidBinaryRepresentation(
                f"binary data has array element type {oid} where {element_type.oid} was expected"
            )
        if dimensions > 1:
            raise FeatureNotSupported("binary arrays of more than one dimension are not supported")
        if dimensions == 0 and len(value) == _HEADER.size:
            return []
        count, _ = _DIMENSION.unpack_from(value, _HEADER.size)
        position = _HEADER.size + _DIMENSION.size
        items: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", value, position)
            position += 4
            if length < -1 or position + max(length, 0) > len(value):
                raise InvalidBinaryRepresentation("insufficient data left in message")
            items.append(None if length < 0 else value[position : position + length])
            position += max(length, 0)
    except struct.error:
        raise InvalidBinaryRepresentation("insufficient data left in message") from None
    if dimensions < 0 or count < 0 or position != len(value):
        raise InvalidBinaryRepresentation("incorrect binary data format for an array")
    return items


def _of_row(bad: BadValue, rows: Numbers) -> BadValue:
    return BadValue(int(np.searchsorted(rows, bad.row, side="right")) - 1, bad.error)


def _listed(rows: Numbers, values: pa.Array, there: pa.Array) -> pa.Array:
    mask = pc.invert(there) if pc.any(pc.invert(there)).as_py() else None
    return pa.ListArray.from_arrays(pa.array(rows, pa.int32()), values, mask=mask)
