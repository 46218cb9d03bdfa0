"""Arrays of any scalar type: ``{1,2,NULL}`` as text, a header and the elements' own form as binary.

All elements of a column are encoded at once, flattened. Postgres has rectangular arrays alone, so a ragged array of arrays
has no binary form; its text shows NULL for a list that is missing. Input takes up to six dimensions, without bounds; the rows
of a column have the same number of them, but for empty arrays.
See https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO and `array_send` in PostgreSQL.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidBinaryRepresentation,
    InvalidTextRepresentation,
    StreamSQLError,
)
from streamsql.base.types import JSON, JSONB, WireType, canonical_arrow
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
_NESTED = r"^\s*\{\s*\{"
_JSON_ARRAY = r"^\s*\[\s*([\[{\]]|null)"
_SIMPLE = r'^\s*\{[^"\\{}]*\}\s*$'  # one dimension, nothing quoted
_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^"\\{},]|\\.)*))\s*([,}])', re.DOTALL | re.ASCII)


def codec(wire_type: WireType, element: Codec) -> Codec:
    """Make the codec of the arrays whose elements have this codec."""
    assert wire_type.element is not None
    element_type = wire_type.element

    def to_text(column: pa.Array) -> Piece:
        column = _as_list(column)
        if _is_any_list(column.type.value_type):
            inner = _rows(column, lambda rows: pc.fill_null(strings_of(to_text(rows), rows), "NULL"))
        else:
            inner = _rows(column, lambda items: _quoted(strings_of(element.to_text(items), items)))
        texts = pc.binary_join_element_wise("{", pc.binary_join(inner, ","), "}", "")
        return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts

    def to_binary(column: pa.Array) -> Piece:
        return _to_binary(_as_list(column), element, element_type)

    def from_text(strings: pa.Array, modifier: int) -> pa.Array:
        if element_type.fields or element_type in (JSON, JSONB):
            strings = _as_arrays(strings)
        rows, items = _split(strings)
        if items is None:
            return _nested_from_text(strings, modifier, element)
        try:
            values = element.from_text(items, modifier)
        except BadValue as bad:
            raise _of_row(bad, rows) from None
        return _listed(rows, values, strings.is_valid())

    def from_binary(values: BinaryValues) -> pa.Array:
        values = as_values(values)
        shapes: list[tuple[int, ...]] = []
        items: list[bytes | None] = []
        lengths: list[int] = []
        for row, value in enumerate(values):
            try:
                shape, found = ((0,), []) if value is None else _elements(value, element_type)
            except StreamSQLError as error:
                raise BadValue(row, error) from None
            shapes.append(shape)
            lengths.append(len(found))
            items += found
        rows = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64))))
        try:
            inner = element.from_binary(items) if items else pa.array([], canonical_arrow(element_type))
        except BadValue as bad:
            raise _of_row(bad, rows) from None
        return _shaped(shapes, inner, pa.array([value is not None for value in values], pa.bool_()))

    def value_to_text(value: bytes) -> str:
        shape, found = _elements(value, element_type)
        items = [None if item is None else element.value_to_text(item) for item in found]
        texts: list[str] = _quoted(pa.array(items, pa.string())).to_pylist()
        for size in reversed(shape[1:]):
            texts = ["{" + ",".join(texts[i : i + size]) + "}" for i in range(0, len(texts), size)]
        return "{" + ",".join(texts) + "}"

    return Codec(to_text, to_binary, from_text, from_binary, value_to_text)


def _as_arrays(strings: pa.Array) -> pa.Array:
    """Write JSON arrays among the texts as PostgreSQL's; with bounds, as ``[1:2]={..}``, they are none."""
    if not pc.any(pc.match_substring_regex(strings, _JSON_ARRAY)).as_py():
        return strings
    made: list[str | None] = []
    for text in strings.to_pylist():
        try:
            found = json.loads(text) if text is not None and re.match(_JSON_ARRAY, text) else None
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            items = pa.array([None if item is None else json.dumps(item) for item in found], pa.string())
            text = "{" + ",".join(_quoted(items).to_pylist()) + "}"
        made.append(text)
    return pa.array(made, pa.string())


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


def _to_binary(column: pa.Array, element: Codec, element_type: WireType) -> pa.Array:
    """Write arrays of any depth, all rows at once: a row's dimensions are the lengths of its lists, level by level."""
    counts = np.ones(len(column), np.int64)  # lists of a row at this level
    there = valid(column)
    sizes: list[Numbers] = []
    items = column
    owners = np.arange(len(column))  # the row that each list belongs to
    while pa.types.is_list(items.type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(items), 0)).astype(np.int64)
        ragged = np.zeros(len(column), bool)
        size = np.zeros(len(column), np.int64)
        size[owners] = lengths
        ragged[owners[(lengths != size[owners]) | (~valid(items) & (len(sizes) > 0))]] = True
        if ragged.any():
            raise FeatureNotSupported(
                "an array whose rows differ in length has no binary form", hint="ask for the text format"
            )
        sizes.append(size)
        counts = counts * size
        owners = np.repeat(owners, lengths)
        items = _as_list(items.flatten()) if _is_any_list(items.type.value_type) else items.flatten()
    depth = len(sizes)
    if depth > _DIMENSIONS_MAX:
        raise FeatureNotSupported(f"number of array dimensions ({depth}) exceeds {_DIMENSIONS_MAX}")
    starts = np.concatenate(([0], np.cumsum(counts)))
    missing = np.concatenate(([0], np.cumsum(~valid(items))))
    header = np.zeros(len(column), [("head", ">i4", 3), ("dimensions", ">i4", 2 * depth)])
    header["head"][:, 0] = np.where(counts > 0, depth, 0)
    header["head"][:, 1] = missing[starts[1:]] > missing[starts[:-1]]
    header["head"][:, 2] = element_type.oid
    for level, size in enumerate(sizes):
        header["dimensions"][:, 2 * level] = size
        header["dimensions"][:, 2 * level + 1] = 1
    whole = binary_of_fixed(header)
    headers = pc.if_else(pa.array(counts > 0), whole, pc.binary_slice(whole, 0, _HEADER.size))
    bodies = _concatenated(framed(element.to_binary(items), items), starts)
    found = pc.binary_join_element_wise(headers, bodies, b"")
    return pc.if_else(pa.array(there), found, None) if column.null_count else found


def _is_any_list(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def _malformed(text: str, detail: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f'malformed array literal: "{text}"', detail=detail)


def _split(strings: pa.Array) -> tuple[Numbers, pa.Array | None]:
    """Cut array literals of one dimension into their elements.

    Gives where each row starts, and the texts of all elements: None where there are arrays of arrays.
    """
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
    if pc.any(pc.match_substring_regex(strings, _NESTED)).as_py():
        return np.zeros(1, np.int64), None
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


def _elements(value: bytes, element_type: WireType) -> tuple[tuple[int, ...], list[bytes | None]]:
    """Read a binary array: its dimensions, and its elements in their order."""
    try:
        depth, _, oid = _HEADER.unpack_from(value)
        if oid != element_type.oid:
            raise InvalidBinaryRepresentation(
                f"binary data has array element type {oid} where {element_type.oid} was expected"
            )
        if not 0 <= depth <= _DIMENSIONS_MAX:
            raise InvalidBinaryRepresentation(f"invalid number of array dimensions: {depth}")
        if depth == 0 and len(value) == _HEADER.size:
            return (0,), []
        shape: list[int] = []
        count, position = 1, _HEADER.size
        for _ in range(depth):
            size, lower = _DIMENSION.unpack_from(value, position)
            if lower != 1:
                raise FeatureNotSupported("arrays with lower bounds other than 1 are not supported")
            shape.append(size)
            count *= size
            position += _DIMENSION.size
        if depth == 0 or min(shape) < 0 or 4 * count > len(value):
            raise InvalidBinaryRepresentation("incorrect binary data format for an array")
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
    if position != len(value):
        raise InvalidBinaryRepresentation("incorrect binary data format for an array")
    return tuple(shape), items


def _shaped(shapes: Sequence[tuple[int, ...]], values: pa.Array, there: pa.Array) -> pa.Array:
    """Put elements into lists of lists of these dimensions. Raises BadValue where rows differ in depth."""
    depth = next((len(shape) for shape in shapes if shape != (0,)), 1)
    row = next((i for i, shape in enumerate(shapes) if shape != (0,) and len(shape) != depth), None)
    if row is not None:
        raise BadValue(
            row, FeatureNotSupported("arrays of different numbers of dimensions cannot be mixed in a column")
        )
    for level in range(depth - 1, 0, -1):  # the innermost lists first
        lengths = [shape[level] for shape in shapes if shape != (0,) for _ in range(math.prod(shape[:level]))]
        offsets = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64))))
        values = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    rows = np.concatenate(([0], np.cumsum(np.array([shape[0] for shape in shapes], np.int64))))
    return _listed(rows, values, there)


def _nested_from_text(strings: pa.Array, modifier: int, element: Codec) -> pa.Array:
    """Read arrays of arrays; value by value, for they are rare."""
    shapes: list[tuple[int, ...]] = []
    items: list[str | None] = []
    lengths: list[int] = []
    for row, text in enumerate(strings.to_pylist()):
        try:
            shape, found = ((0,), []) if text is None else _read_nested(text)
        except StreamSQLError as error:
            raise BadValue(row, error) from None
        shapes.append(shape)
        items += found
        lengths.append(len(found))
    rows = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64))))
    try:
        values = element.from_text(pa.array(items, pa.string()), modifier)
    except BadValue as bad:
        raise _of_row(bad, rows) from None
    return _shaped(shapes, values, strings.is_valid())


def _read_nested(text: str) -> tuple[tuple[int, ...], list[str | None]]:
    """Read one array literal: its dimensions, and its elements in their order."""
    word = text.strip(WHITE_SPACE)
    if not re.match(r"\{\s*\{", word, re.ASCII):
        found = _elements_of_text(text)
        return (len(found),), found
    shapes: list[tuple[int, ...]] = []
    items: list[str | None] = []
    position = 1
    while True:
        end = _matching(word, position, text)
        shape, found = _read_nested(word[position:end])
        shapes.append(shape)
        items += found
        if len(shape) >= _DIMENSIONS_MAX:
            raise InvalidTextRepresentation(f"number of array dimensions ({len(shape) + 1}) exceeds {_DIMENSIONS_MAX}")
        rest = re.match(r"\s*([,}])\s*", word[end:], re.ASCII)
        if rest is None:
            raise _malformed(text, "Unexpected array element.")
        position = end + rest.end()
        if rest[1] == "}":
            break
    if position != len(word):
        raise _malformed(text, "Junk after closing right brace.")
    if len(set(shapes)) > 1:
        raise _malformed(text, "Multidimensional arrays must have sub-arrays with matching dimensions.")
    return (len(shapes), *shapes[0]), items


def _matching(word: str, start: int, text: str) -> int:
    """Find where the part of an array literal that begins with a brace ends."""
    depth, quoted, position = 0, False, start
    if word[start : start + 1] != "{":
        raise _malformed(text, "Unexpected array element.")
    while position < len(word):
        mark = word[position]
        if mark == "\\":
            position += 1
        elif mark == '"':
            quoted = not quoted
        elif not quoted:
            depth += (mark == "{") - (mark == "}")
            if depth == 0:
                return position + 1
        position += 1
    raise _malformed(text, "Unexpected end of input.")


def _of_row(bad: BadValue, rows: Numbers) -> BadValue:
    return BadValue(int(np.searchsorted(rows, bad.row, side="right")) - 1, bad.error)


def _listed(rows: Numbers, values: pa.Array, there: pa.Array) -> pa.Array:
    mask = pc.invert(there) if pc.any(pc.invert(there)).as_py() else None
    return pa.ListArray.from_arrays(pa.array(rows, pa.int32()), values, mask=mask)
