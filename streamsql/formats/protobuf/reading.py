"""Messages of Protocol Buffers to Arrow: the next field of all messages at once, those with the same tag together.

Fields may come in any order, and some not at all; of one that is not repeated and comes twice the last counts, of messages in
messages too (the specification would have the two merged). Numbers that are packed and those that are not are read alike.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.formats.protobuf.schema import Member, Message
from streamsql.formats.varints import Cursor, Integers, Words, as_map, cut, gathered, texts

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRES = {
    "double": _FIXED64, "fixed64": _FIXED64, "sfixed64": _FIXED64, "float": _FIXED32, "fixed32": _FIXED32,
    "sfixed32": _FIXED32, "string": _BYTES, "bytes": _BYTES, "message": _BYTES,
}  # fmt: skip
_FIXED = {
    "double": ("<f8", 8), "fixed64": ("<u8", 8), "sfixed64": ("<i8", 8), "float": ("<f4", 4), "fixed32": ("<u4", 4),
    "sfixed32": ("<i4", 4),
}  # fmt: skip
_SECONDS_MAX = 9_000_000_000_000
_NOBODY = np.zeros(0, np.int64)
_ONE = np.uint64(1)


def read(message: Message, cursor: Cursor, wanted: Collection[str] | None = None) -> dict[str, pa.Array]:
    """Read messages to their ends; give the wanted members (None: all) by name."""
    members = {m.number: m for m in message.members if wanted is None or m.name in wanted}
    parts: dict[int, list[tuple[Integers, pa.Array]]] = {
        number: [(_NOBODY, _values(member, cursor.some(_NOBODY)))] for number, member in members.items()
    }
    active = np.arange(len(cursor))
    while len(active := active[cursor.places[active] < cursor.stops[active]]):
        part = cursor.some(active)
        tags = part.varints()
        good = part.wrong == 0
        for tag in np.unique(tags[good]).tolist():
            index = np.flatnonzero((tags == tag) & good)
            one = part.some(index)
            member, wire = members.get(tag >> 3), tag & 7
            if member is None:
                _skip(wire, one)
            elif wire == _WIRES.get(member.kind, _VARINT):
                values = _values(member, one)
                parts[member.number].append((active[index], values))
            elif wire == _BYTES and member.repeated:
                starts, stops = one.slices(one.varints().view(np.int64))
                _packed(member, one, Cursor.of(one.block, starts, stops), active[index], parts[member.number])
            else:
                one.mark(np.ones(len(index), np.bool_), f'the field "{member.name}" in another form than {member.kind}')
            part.back(index, one)
        cursor.back(active, part)
    return {member.name: _whole(member, parts[number], len(cursor)) for number, member in members.items()}


def _skip(wire: int, cursor: Cursor) -> None:
    if wire == _VARINT:
        cursor.varints()
    elif wire == _FIXED64:
        cursor.take(8)
    elif wire == _FIXED32:
        cursor.take(4)
    elif wire == _BYTES:
        cursor.slices(cursor.varints().view(np.int64))
    else:
        cursor.mark(np.ones(len(cursor), np.bool_), f"a field of the wire type {wire}")


def _packed(
    member: Member, whole: Cursor, cursor: Cursor, owners: Integers, parts: list[tuple[Integers, pa.Array]]
) -> None:
    """Read numbers one after the other; `cursor` stands in their bytes, `whole` in the messages that hold them."""
    cursor.reasons = whole.reasons
    active = np.arange(len(cursor))
    while len(active := active[cursor.places[active] < cursor.stops[active]]):
        part = cursor.some(active)
        parts.append((owners[active], _values(member, part)))
        cursor.back(active, part)
    wrong = cursor.wrong > 0
    for number in np.unique(cursor.wrong[wrong]).tolist():
        whole.mark(cursor.wrong == number, cursor.reasons[number])


def _values(member: Member, cursor: Cursor) -> pa.Array:
    """Read one value of a member in each message."""
    kind = member.kind
    if kind in _FIXED:
        word, size = _FIXED[kind]
        return pa.array(cursor.block.words(word, cursor.take(size)))
    if kind in {"string", "bytes", "message"}:
        starts, stops = cursor.slices(cursor.varints().view(np.int64))
        if kind == "string":
            return texts(cursor.block, starts, stops, cursor)
        if kind == "bytes":
            return cut(cursor.block, starts, stops)
        assert member.message is not None
        inner = Cursor(cursor.block, starts.copy(), stops, cursor.wrong.copy(), cursor.reasons)
        made = _struct(member.message, inner)
        for number in np.unique(inner.wrong[inner.wrong > 0]).tolist():
            cursor.mark((inner.wrong == number) & (cursor.wrong == 0), cursor.reasons[number])
        return made
    return _number(member, cursor.varints())


def _number(member: Member, words: Words) -> pa.Array:
    match member.kind:
        case "bool":
            return pa.array(words != 0)
        case "uint64":
            return pa.array(words)
        case "uint32":
            return pa.array(words.astype(np.uint32))
        case "int32":
            return pa.array(words.astype(np.uint32).view(np.int32))
        case "int64":
            return pa.array(words.view(np.int64))
        case "sint32" | "sint64":
            values = ((words >> _ONE) ^ (~(words & _ONE) + _ONE)).view(np.int64)
            return pa.array(values.astype(np.int32) if member.kind == "sint32" else values)
        case "enum":
            return _symbols(member, words.astype(np.uint32).view(np.int32))
    raise AssertionError(member.kind)


def _symbols(member: Member, numbers: npt.NDArray[np.int32]) -> pa.Array:
    """Give the names of an enum's numbers; one that has none as digits."""
    distinct, places = np.unique(numbers, return_inverse=True)
    names: dict[int, str] = {}
    for number, name in member.symbols:
        names.setdefault(number, name)
    return pa.array([names.get(n, str(n)) for n in distinct.tolist()], pa.large_string()).take(pa.array(places))


def _struct(message: Message, cursor: Cursor) -> pa.Array:
    """Read messages that are values."""
    found = read(message, cursor)
    if message.special in {"timestamp", "duration"}:
        return _time(message, found, cursor)
    if message.special == "wrapper":
        return found["value"]
    return pa.StructArray.from_arrays(list(found.values()), list(found))


def _time(message: Message, found: dict[str, pa.Array], cursor: Cursor) -> pa.Array:
    seconds, nanos = (np.asarray(found[name]).astype(np.int64) for name in ("seconds", "nanos"))
    far = (np.abs(seconds) > _SECONDS_MAX) | (np.abs(nanos) >= 10**9)
    if far.any():
        cursor.mark(far, f"a {message.special} that is too far away")
        seconds = np.where(far, 0, seconds)
    if message.special == "timestamp":
        return pa.array(seconds * 1_000_000 + nanos // 1000).view(pa.timestamp("us", "UTC"))
    long = np.abs(seconds) > 9_000_000_000
    cursor.mark(long & (cursor.wrong == 0), "a duration that is too long")
    packed = np.zeros(len(seconds), np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")]))
    packed["nanos"] = np.where(long, 0, seconds) * 10**9 + nanos
    return pa.Array.from_buffers(pa.month_day_nano_interval(), len(seconds), [None, pa.py_buffer(packed)])


def _whole(member: Member, parts: list[tuple[Integers, pa.Array]], count: int) -> pa.Array:
    """Make a member's column of what has been read of it."""
    if member.repeated:
        lists = gathered(parts, count)
        if member.message is None or member.message.special != "map":
            return lists
        entries = lists.values
        keys, values = (pa.LargeListArray.from_arrays(lists.offsets, entries.field(i)) for i in (0, 1))
        return as_map(keys, values)
    owners = np.concatenate([owner for owner, _ in parts])
    values = pa.concat_arrays([part for _, part in parts])
    if len(owners) != count or (owners != np.arange(count)).any():
        places = np.full(count, -1)
        places[owners] = np.arange(len(owners))  # the last one stays
        values = values.take(pa.array(places, mask=places < 0))
    if member.default is None or not values.null_count:
        return values
    return values.fill_null(pa.scalar(member.default, values.type))
