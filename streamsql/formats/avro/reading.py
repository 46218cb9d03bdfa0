"""Avro records to Arrow: field by field, each of all records at once (`formats.varints`).

`read` gives the values of a type for each record that a cursor stands in, and moves the cursor behind them; `skip` moves it
alone. What is wrong with a record is noted in the cursor; its values then mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.formats.avro.schema import Type
from streamsql.formats.varints import Cursor, Integers, as_map, cut, gathered, spread, texts

_I32 = np.int64(2**31)
_DAY_US = 86_400_000_000
_TIME_LIMITS = {"time-millis": 86_400_000, "time-micros": _DAY_US}
_NOBODY = np.zeros(0, np.int64)
_MILLIS_MAX = np.int64(2**63 // 1000 - 1)


def read(wanted: Type, cursor: Cursor) -> pa.Array:
    """Read the values of a type."""
    return _READ[wanted.kind](wanted, cursor)


def skip(unwanted: Type, cursor: Cursor) -> None:
    """Go behind the values of a type."""
    kind = unwanted.kind
    if kind in {"int", "long", "enum"}:
        cursor.varints()
    elif kind in _SIZES:
        cursor.take(_SIZES[kind])
    elif kind == "fixed":
        cursor.take(unwanted.size)
    elif kind in {"string", "bytes"}:
        cursor.slices(cursor.zigzags())
    elif kind == "record":
        for _, field in unwanted.fields:
            skip(field, cursor)
    elif kind == "union":
        for branch, index in _branches(unwanted, cursor):
            part = cursor.some(index)
            skip(branch, part)
            cursor.back(index, part)
    elif kind in {"array", "map"}:
        assert unwanted.item is not None
        item = unwanted.item

        def one(_: Integers, part: Cursor) -> None:
            if kind == "map":
                part.slices(part.zigzags())
            skip(item, part)

        _items(cursor, one)


_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


def _null(_: Type, cursor: Cursor) -> pa.Array:
    return pa.nulls(len(cursor), pa.string())


def _boolean(_: Type, cursor: Cursor) -> pa.Array:
    values = cursor.block.octets[cursor.take(1)]
    cursor.mark((values > 1) & (cursor.wrong == 0), "a boolean that is neither 0 nor 1")
    return pa.array(values == 1)


def _float(_: Type, cursor: Cursor) -> pa.Array:
    return pa.array(cursor.block.words("<f4", cursor.take(4)))


def _double(_: Type, cursor: Cursor) -> pa.Array:
    return pa.array(cursor.block.words("<f8", cursor.take(8)))


def _int(wanted: Type, cursor: Cursor) -> pa.Array:
    values = cursor.zigzags()
    over = (values >= _I32) | (values < -_I32)
    if over.any():
        cursor.mark(over, "an int of more than 32 bits")
        values[over] = 0
    if wanted.logical == "date":
        return pa.array(values.astype(np.int32)).view(pa.date32())
    if wanted.logical:
        return _time(wanted, values, cursor)
    return pa.array(values.astype(np.int32))


def _long(wanted: Type, cursor: Cursor) -> pa.Array:
    values = cursor.zigzags()
    if not wanted.logical:
        return pa.array(values)
    if wanted.logical.startswith("time-"):
        return _time(wanted, values, cursor)
    if wanted.logical.endswith("nanos"):
        return pa.array(values).view(pa.timestamp("ns"))
    if wanted.logical.endswith("millis"):
        over = (values > _MILLIS_MAX) | (values < -_MILLIS_MAX)
        if over.any():
            cursor.mark(over, "a time that is too far away")
            values[over] = 0
        values *= 1000
    zone = None if wanted.logical.startswith("local") else "UTC"
    return pa.array(values).view(pa.timestamp("us", zone))


def _time(wanted: Type, values: Integers, cursor: Cursor) -> pa.Array:
    wrong = (values < 0) | (values >= _TIME_LIMITS[wanted.logical])
    if wrong.any():
        cursor.mark(wrong, "a time of day that is not in one")
        values = np.where(wrong, 0, values)
    if wanted.logical == "time-millis":
        values = values * 1000
    return pa.array(values).view(pa.time64("us"))


def _string(_: Type, cursor: Cursor) -> pa.Array:
    starts, stops = cursor.slices(cursor.zigzags())
    return texts(cursor.block, starts, stops, cursor)


def _bytes(wanted: Type, cursor: Cursor) -> pa.Array:
    starts, stops = cursor.slices(cursor.zigzags())
    if wanted.logical == "decimal":
        return decimals(cursor, starts, stops - starts, wanted.scale)
    return cut(cursor.block, starts, stops)


def _fixed(wanted: Type, cursor: Cursor) -> pa.Array:
    starts = cursor.take(wanted.size)
    stops = np.minimum(starts + wanted.size, cursor.stops)
    if wanted.logical == "decimal":
        return decimals(cursor, starts, stops - starts, wanted.scale)
    if wanted.logical == "duration":
        parts = [cursor.block.words("<u4", starts + i).astype(np.int64) for i in (0, 4, 8)]
        packed = np.zeros(len(starts), np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")]))
        for name, part in zip(("months", "days"), parts[:2], strict=True):
            cursor.mark((part >= _I32) & (cursor.wrong == 0), "a duration of more than 2147483647 months or days")
            packed[name] = np.minimum(part, _I32 - 1)
        packed["nanos"] = parts[2] * 1_000_000
        return pa.Array.from_buffers(pa.month_day_nano_interval(), len(starts), [None, pa.py_buffer(packed)])
    return cut(cursor.block, starts, stops)


def decimals(cursor: Cursor, starts: Integers, lengths: Integers, scale: int) -> pa.Array:
    """Read numbers of two's complement, the highest byte first, as decimals of 38 digits."""
    octets = cursor.block.octets
    cursor.mark((lengths > 16) & (cursor.wrong == 0), "a decimal of more than 38 digits")
    lengths = np.minimum(lengths, 16)
    negative = (lengths > 0) & (octets[starts] >= 128)
    made = np.where(negative, 255, 0).astype(np.uint8)[:, None].repeat(16, 1)
    for place in range(int(lengths.max()) if len(lengths) else 0):  # from the lowest byte
        there = np.flatnonzero(lengths > place)
        made[there, place] = octets[starts[there] + lengths[there] - 1 - place]
    found = pa.Array.from_buffers(pa.decimal128(38, scale), len(starts), [None, pa.py_buffer(made)])
    high = made.view(np.int64)[:, 1]
    # beyond 10^38: only by asking those that may be
    for index in np.flatnonzero((high > 5_421_010_862_427_522_169) | (high < -5_421_010_862_427_522_170)).tolist():
        if abs(int.from_bytes(made[index].tobytes(), "little", signed=True)) >= 10**38:
            mask = np.zeros(len(starts), np.bool_)
            mask[index] = True
            cursor.mark(mask, "a decimal of more than 38 digits")
    return found


def _enum(wanted: Type, cursor: Cursor) -> pa.Array:
    values = cursor.zigzags()
    wrong = (values < 0) | (values >= len(wanted.symbols))
    if wrong.any():
        cursor.mark(wrong, f'no symbol of the enum "{wanted.name}"')
        values = np.where(wrong, 0, values)
    return pa.array(wanted.symbols, pa.large_string()).take(pa.array(values))


def _record(wanted: Type, cursor: Cursor) -> pa.Array:
    return pa.StructArray.from_arrays(
        [read(field, cursor) for _, field in wanted.fields], [name for name, _ in wanted.fields]
    )


def _branches(wanted: Type, cursor: Cursor) -> list[tuple[Type, Integers]]:
    """Read which branch of a union each record has; give the records of each."""
    values = cursor.zigzags()
    wrong = (values < 0) | (values >= len(wanted.branches))
    if wrong.any():
        cursor.mark(wrong, "no branch of the union")
        values = np.where(wrong, 0, values)
    return [(branch, np.flatnonzero(values == i)) for i, branch in enumerate(wanted.branches)]


def _union(wanted: Type, cursor: Cursor) -> pa.Array:
    count = len(cursor)
    names = iter(name for name, _ in wanted.members)
    found: list[tuple[str, pa.Array, npt.NDArray[np.bool_]]] = []
    for branch, index in _branches(wanted, cursor):
        if len(index) == count and count:
            values = read(branch, cursor)
        else:
            part = cursor.some(index)
            values = read(branch, part)
            cursor.back(index, part)
        if branch.kind != "null":
            present = np.zeros(count, np.bool_)
            present[index] = True
            found.append((next(names), spread(values, present), present))
    if len(found) == 1:
        return found[0][1]
    some = np.logical_or.reduce([present for _, _, present in found])
    return pa.StructArray.from_arrays(
        [values for _, values, _ in found], [name for name, _, _ in found], mask=pa.array(~some)
    )


def _items(cursor: Cursor, one: Callable[[Integers, Cursor], None]) -> None:
    """Go through blocks of items: `one` reads an item of each record that has one more, and is told which these are."""
    active = np.arange(len(cursor))
    left = np.zeros(len(cursor), np.int64)
    while len(active):
        part = cursor.some(active)
        asking = np.flatnonzero(left[active] == 0)
        if len(asking):
            asked = part.some(asking)
            left[active[asking]] = _block_counts(asked)
            part.back(asking, asked)
        having = np.flatnonzero((left[active] > 0) & (part.wrong == 0))
        reading = part.some(having)
        one(active[having], reading)
        part.back(having, reading)
        cursor.back(active, part)
        left[active[having]] -= 1
        active = active[having]


def _block_counts(cursor: Cursor) -> Integers:
    """Read how many items come; a negative count has the bytes of the block behind it."""
    counts = cursor.zigzags()
    negative = np.flatnonzero(counts < 0)
    if len(negative):
        part = cursor.some(negative)
        part.zigzags()
        cursor.back(negative, part)
        counts[negative] = -counts[negative]
    # every item takes a byte at least
    cursor.mark((counts > cursor.stops - cursor.places) | (counts < 0), "more items than the record has bytes")
    return counts


def _array(wanted: Type, cursor: Cursor) -> pa.Array:
    assert wanted.item is not None
    item, parts = wanted.item, []

    def one(owners: Integers, part: Cursor) -> None:
        parts.append((owners, read(item, part)))

    count = len(cursor)
    one(_NOBODY, cursor.some(_NOBODY))  # so that there is an array of the items' type
    _items(cursor, one)
    return gathered(parts, count)


def _map(wanted: Type, cursor: Cursor) -> pa.Array:
    assert wanted.item is not None
    text, item = Type("string"), wanted.item
    keys: list[tuple[Integers, pa.Array]] = []
    values: list[tuple[Integers, pa.Array]] = []

    def one(owners: Integers, part: Cursor) -> None:
        keys.append((owners, read(text, part)))
        values.append((owners, read(item, part)))

    count = len(cursor)
    one(_NOBODY, cursor.some(_NOBODY))
    _items(cursor, one)
    key_lists, value_lists = gathered(keys, count), gathered(values, count)
    return as_map(key_lists, value_lists)


_READ: dict[str, Callable[[Type, Cursor], pa.Array]] = {
    "null": _null, "boolean": _boolean, "int": _int, "long": _long, "float": _float, "double": _double,
    "bytes": _bytes, "string": _string, "fixed": _fixed, "enum": _enum, "record": _record, "union": _union,
    "array": _array, "map": _map,
}  # fmt: skip
