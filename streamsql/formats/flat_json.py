"""JSON records that are all written alike, read side by side: by numpy and Arrow, at several times the speed of a parser.

    {"ts":"2026-01-01 00:00:01","symbol":"ABC","qty":100}       constant  value  constant  value  constant  value  constant
    {"ts":"2026-01-01 00:00:02","symbol":"DEF","qty":7}         {"ts":"   ...    ","symbol":"  ...  ","qty":  100    }

What producers write has the same keys in the same order: the first record tells the constants between the values, and where
quotes are tells where the values begin and end. A record counts here only if every constant in it is the same to the byte, no
character needs a closer look (a backslash, a control character), and every value is plainly of its column's type. All others
are *doubtful*, and left to the parser (`formats.json`), which gives the same rows for those that could have been read here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.formats.format import Field
from streamsql.formats.records import Records
from streamsql.formats.varints import Block, Integers, cut

Mask = npt.NDArray[np.bool_]

_QUOTE, _BACKSLASH, _SPACE = ord('"'), ord("\\"), ord(" ")
_KEYS_MAX = 100
# arrays for so many stay in the processor's cache, and what numpy does by itself does not count
_RECORDS_AT_A_TIME = 16_384
# a time in full: 2026-01-01T00:00:00
_TIME_BYTES_MIN = 19
_INTEGERS = {"SMALLINT": pa.int16(), "INTEGER": pa.int32(), "BIGINT": pa.int64()}
_TEXTS = frozenset({"VARCHAR", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
_BARE = frozenset({*_INTEGERS, "DOUBLE", "BOOLEAN"})


class _DoubtError(Exception):
    """Something is not plain: the parser is to read all of it."""


@dataclass(frozen=True, slots=True)
class _Constant:
    """Text between two values. One of its quotes, number `quote` of a record's, is its byte `offset`; None: it is the last."""

    text: bytes
    quote: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class _Template:
    """How records are written: a constant before each value, and one at the end. `texts`: which values are strings."""

    constants: tuple[_Constant, ...]
    keys: tuple[str, ...]
    texts: tuple[bool, ...]
    quotes: int


def reads(fields: Sequence[Field]) -> bool:
    """Tell whether records with these fields can be read here at all."""
    return all(f.type in _TEXTS | _BARE and len(f.keys) == 1 for f in fields)


def plain_rows(records: Records, fields: Sequence[Field], schema: pa.Schema) -> tuple[pa.Table, Mask] | None:
    """Give the rows of the records that are plain, and which these are; None where these are less than half."""
    parts: list[pa.Table] = []
    plain = np.zeros(len(records), np.bool_)
    for begin in range(0, len(records), _RECORDS_AT_A_TIME):
        end = min(begin + _RECORDS_AT_A_TIME, len(records))
        first = int(records.starts[begin])
        data = records.data[first : int(records.stops[end - 1]) + 1]
        part = Records(data, records.starts[begin:end] - first, records.stops[begin:end] - first)
        try:
            rows, plain[begin:end] = _rows(part, fields, schema)
        except (_DoubtError, pa.ArrowInvalid):
            if 2 * int(plain[:begin].sum()) < begin or not begin:
                return None
            continue
        parts.append(rows)
    if 2 * int(plain.sum()) < len(plain):
        return None
    return pa.concat_tables(parts), plain


def _rows(records: Records, fields: Sequence[Field], schema: pa.Schema) -> tuple[pa.Table, Mask]:
    plain = _without_special(records)
    if 2 * int(plain.sum()) < len(records):
        raise _DoubtError
    template = _template(records.bytes_of(int(np.argmax(plain))))
    # a word may be asked for so far behind the end
    block = Block(records.data + bytes(max(len(c.text) for c in template.constants)))
    quotes, plain = _quotes(records, plain, template.quotes)
    kept = records.filter(plain)
    starts, same = _places(block, kept, quotes, template)
    if not same.all():
        plain[np.flatnonzero(plain)[~same]] = False
        starts, kept = starts[:, same], kept.filter(same)
        if 2 * len(kept) < len(records):
            raise _DoubtError
    columns: dict[str, pa.Array] = {}
    by_name = {f.keys[0]: f for f in fields}
    for number, (key, is_text) in enumerate(zip(template.keys, template.texts, strict=True)):
        begins, ends = starts[number] + len(template.constants[number].text), starts[number + 1]
        field = by_name.get(key)
        if field is None and is_text:
            continue
        read = _checked if field is None else _READS[field.type]
        if field is not None and is_text != (field.type in _TEXTS):
            raise _DoubtError
        columns[key] = read(block, begins, ends)
    made = []
    for field, wanted in zip(fields, schema, strict=True):
        column = columns.get(field.keys[0])
        column = pa.nulls(len(kept), wanted.type) if column is None else column
        if field.not_null and column.null_count:
            raise _DoubtError
        made.append(column if column.type == wanted.type else column.cast(wanted.type))
    return pa.Table.from_arrays(made, schema=schema), plain


def _without_special(records: Records) -> Mask:
    """Tell which records have no backslash and no control character."""
    octets = np.frombuffer(records.data, np.uint8)
    plain = np.ones(len(records), np.bool_)
    control = octets < _SPACE
    if b"\\" not in records.data:
        parting = records.stops[records.stops < len(octets)]
        if np.count_nonzero(control) == len(parting) and control[parting].all():
            return plain  # they are what parts records
    special = np.flatnonzero(control | (octets == _BACKSLASH))
    owners = np.searchsorted(records.starts, special, side="right") - 1
    inside = (owners >= 0) & (special < records.stops[np.maximum(owners, 0)])
    plain[owners[inside]] = False
    return plain


def _template(first: bytes) -> _Template:
    """Take a record apart. Raises _DoubtError where it is not plain itself."""
    keys: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        keys.extend(key for key, _ in items)
        return dict(items)

    try:
        found = json.loads(first, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        raise _DoubtError from None
    if not isinstance(found, dict) or not keys or len(keys) > _KEYS_MAX:
        raise _DoubtError
    values = list(found.values())
    if len({k.lower() for k in keys}) < len(keys) or list(found) != keys:
        raise _DoubtError  # an object inside, or a key that comes twice
    if any(isinstance(v, (list, dict)) for v in values):
        raise _DoubtError
    constants: list[_Constant] = []
    texts: list[bool] = []
    begins, quote, place = 0, 0, 0
    for key, value in zip(keys, values, strict=True):
        is_text = isinstance(value, str)
        key_at = first.index(b'"', place)
        after = key_at + len(json.dumps(key, ensure_ascii=False).encode())
        colon = first.index(b":", after)
        value_at = colon + 1 + len(first[colon + 1 :]) - len(first[colon + 1 :].lstrip(b" "))
        at = quote
        if is_text:
            value_at += 1
            place = first.index(b'"', value_at)
            constants.append(_Constant(first[begins:value_at], at, key_at - begins))
            begins, quote = place, quote + 4
            place += 1
        else:
            constants.append(_Constant(first[begins:value_at], at, key_at - begins))
            ends = value_at
            while ends < len(first) and first[ends] not in b",} ":
                ends += 1
            begins = place = ends
            quote += 2
        texts.append(is_text)
    constants.append(_Constant(first[begins:], None, 0))
    return _Template(tuple(constants), tuple(keys), tuple(texts), quote)


def _quotes(records: Records, plain: Mask, count: int) -> tuple[Integers, Mask]:
    """Find the quotes of the records that have so many, a column a record; tell which these are."""
    quotes = np.flatnonzero(np.frombuffer(records.data, np.uint8) == _QUOTE)
    if plain.all() and len(quotes) == count * len(records):
        found = quotes.reshape(len(records), count)
        if (found[:, 0] >= records.starts).all() and (found[:, -1] < records.stops).all():
            return found.T, plain
    first = np.searchsorted(quotes, records.starts)
    plain = plain & (np.searchsorted(quotes, records.stops) - first == count)
    return quotes[np.arange(count)[:, None] + first[plain]], plain


def _places(block: Block, records: Records, quotes: Integers, template: _Template) -> tuple[Integers, Mask]:
    """Give where each constant begins in each record, and which records have all of them there."""
    count = len(records)
    starts = np.empty((len(template.constants), count), np.int64)
    same = np.ones(count, np.bool_)
    before = records.starts
    for number, constant in enumerate(template.constants):
        if constant.quote is None:
            np.subtract(records.stops, len(constant.text), out=starts[number])
        else:
            np.subtract(quotes[constant.quote], constant.offset, out=starts[number])
        begins = starts[number]
        same &= begins >= before if number else begins == before
        same &= _is_at(block, begins, constant.text)
        before = begins + len(constant.text)
    for number, is_text in enumerate(template.texts):
        if is_text:  # a value that is a string ends with the next quote
            own = template.constants[number]
            assert own.quote is not None
            same &= quotes[own.quote + 3] == starts[number + 1]
    return starts, same


def _is_at(block: Block, places: Integers, text: bytes) -> Mask:
    """Tell where a text stands, eight bytes at a time. A place may lie before the bytes by less than the text is long."""
    found: Mask | None = None
    for begin in range(0, len(text), 8):
        part = text[begin : begin + 8]
        words = block.words("<u8", places + begin if begin else places).view(np.uint64)
        if len(part) < 8:
            words &= np.uint64((1 << (8 * len(part))) - 1)
        same = words == np.uint64(int.from_bytes(part, "little"))
        found = same if found is None else found & same
    assert found is not None
    return found


# ---- values ----


def _texts(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    return cut(block, begins, ends).view(pa.large_string())


def _bare(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    """Give values without quotes as text, those that are null as null."""
    if (ends <= begins).any():
        raise _DoubtError
    values = _texts(block, begins, ends)
    maybe = block.octets[begins] == ord("n")
    if not maybe.any():
        return values
    if not pc.all(pc.equal(values.filter(pa.array(maybe)), "null")).as_py():
        raise _DoubtError
    return pc.if_else(pa.array(maybe), pa.scalar(None, values.type), values)


def _whole(kind: pa.DataType) -> Callable[[Block, Integers, Integers], pa.Array]:
    def read(block: Block, begins: Integers, ends: Integers) -> pa.Array:
        values = _bare(block, begins, ends)
        _check_digits(block, begins, ends, values)
        return values.cast(kind)

    return read


def _number(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    values = _bare(block, begins, ends)
    _check_digits(block, begins, ends, values)
    for shape in (".e", ".E"):
        if pc.any(pc.match_substring(values, shape)).as_py():
            raise _DoubtError
    numbers = values.cast(pa.float64())
    if not pc.all(pc.is_finite(numbers)).as_py():
        raise _DoubtError
    return numbers


def _check_digits(block: Block, begins: Integers, ends: Integers, values: pa.Array) -> None:
    """Raise where a number does not begin and end with digits, or begins with a zero that JSON does not have there.

    Arrow, which reads it then, takes no more besides than numbers such as ``5.e1``, and 0x10.
    """
    octets = block.octets
    first, last = octets[begins], octets[ends - 1]
    signs = first == ord("-")
    if signs.any():
        begins = begins + signs
        first = octets[begins]
    good = _digit(first) & _digit(last)
    if values.null_count:
        good |= np.asarray(values.is_null())
    zeros = np.flatnonzero(first == ord("0"))
    after = octets[begins[zeros] + 1]
    alone = (ends[zeros] == begins[zeros] + 1) & ~signs[zeros]  # what -0 is depends on its type
    if not good.all() or not (alone | (after == ord("."))).all():
        raise _DoubtError


def _digit(octets: npt.NDArray[np.uint8]) -> Mask:
    return (octets >= ord("0")) & (octets <= ord("9"))


def _truth(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    values = _bare(block, begins, ends)
    true = pc.equal(values, "true")
    if not pc.all(pc.or_(true, pc.equal(values, "false"))).as_py():
        raise _DoubtError
    return true


def _time(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    """Read times in full, all of them with a Z at the end or all without a zone."""
    if not len(begins) or (ends - begins < _TIME_BYTES_MIN).any():
        raise _DoubtError
    last = block.octets[ends - 1]
    zoned = bool(last[0] == ord("Z"))
    if not ((last == ord("Z")) if zoned else _digit(last)).all():
        raise _DoubtError
    return _texts(block, begins, ends).cast(pa.timestamp("us", "UTC" if zoned else None))


def _zoned_time(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    return _time(block, begins, ends).cast(pa.timestamp("us", "UTC"))


def _local_time(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    found = _time(block, begins, ends)
    return found if found.type.tz is None else found.cast(pa.timestamp("us"))


def _checked(block: Block, begins: Integers, ends: Integers) -> pa.Array:
    """Read a value that nobody wants, which has to be JSON all the same."""
    try:
        return _truth(block, begins, ends)
    except _DoubtError:
        return _number(block, begins, ends)


_READS: Mapping[str, Callable[[Block, Integers, Integers], pa.Array]] = {
    **{name: _whole(kind) for name, kind in _INTEGERS.items()},
    "DOUBLE": _number,
    "BOOLEAN": _truth,
    "VARCHAR": _texts,
    "TIMESTAMP": _local_time,
    "TIMESTAMP WITH TIME ZONE": _zoned_time,
}
