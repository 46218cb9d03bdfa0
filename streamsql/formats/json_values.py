"""JSON values that line ends may break: where each begins and ends, found by numpy from the brackets outside of strings.

    [{"a": 1}, {"a": 2}]    two records: the elements
    {"a":                   two records: the values
      1} {"a": 2}

An array is taken apart where the whole text is one. What follows the end of it, and an array that does not end, is a record
that cannot be read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamsql.formats.records import Positions, Records

_OPENS, _CLOSES = b"[{", b"]}"
_SPACES = b" \t\r\n"
_KIND = np.zeros(256, np.int8)  # 1 opens, -1 closes, 2 a comma
_KIND[np.frombuffer(_OPENS, np.uint8)] = 1
_KIND[np.frombuffer(_CLOSES, np.uint8)] = -1
_KIND[ord(",")] = 2
_IS_SPACE = np.zeros(256, np.bool_)
_IS_SPACE[np.frombuffer(_SPACES, np.uint8)] = True
# so many characters of white space are stepped over one by one, for all records at once, before they are searched for
_STEPS = 32


def cut_values(data: bytes) -> Records:
    """Cut bytes into the elements of the array that they are, or else into the values that follow each other."""
    first = _skipped(data, 0)
    if first >= len(data):
        none = np.zeros(0, np.int64)
        return Records(data, none, none)
    if data[first] != ord("["):
        ends = _ends(data)
        starts = np.concatenate(([0], ends))
        return _trimmed(data, starts, np.append(ends, len(data)))
    positions, kinds = _structure(data)
    depths = np.cumsum(np.where(kinds == 2, 0, kinds))
    closed = np.flatnonzero((depths == 0) & (kinds == -1))
    end = int(positions[closed[0]]) if len(closed) else len(data)
    commas = positions[(positions < end) & (kinds == 2) & (depths == 1)]
    starts = np.concatenate(([first + 1], commas + 1))
    stops = np.append(commas, end)
    octets = np.frombuffer(data, np.uint8).copy()
    octets[commas] = octets[first] = ord(" ")  # what parts records must be white space
    if len(closed):
        octets[end] = ord(" ")
        if _skipped(data, end + 1) < len(data):
            starts, stops = np.append(starts, end + 1), np.append(stops, len(data))
    else:  # what is there counts, and the bracket that nothing closes is a record that cannot be read
        octets[first] = data[first]
        starts, stops = np.append(first, starts), np.append(first + 1, stops)
    return _trimmed(octets.tobytes(), starts, stops)


def last_value_end(data: bytes) -> int:
    """Give the position after the last value that has ended, where values follow each other; 0 in an array."""
    first = _skipped(data, 0)
    if first >= len(data) or data[first] == ord("["):
        return 0
    ends = _ends(data)
    return int(ends[-1]) if len(ends) else 0


def _ends(data: bytes) -> Positions:
    """Give the positions after the values at the top: where the depth comes back to nothing."""
    positions, kinds = _structure(data)
    brackets = kinds != 2
    positions, kinds = positions[brackets], kinds[brackets]
    depths = np.cumsum(kinds)
    lowest = np.minimum.accumulate(np.minimum(depths, 0))  # a bracket too many closes nothing
    found: Positions = positions[(kinds == -1) & (depths == lowest)] + 1
    return found


def _structure(data: bytes) -> tuple[Positions, npt.NDArray[np.int8]]:
    """Give the positions and kinds of brackets and commas outside of strings."""
    octets = np.frombuffer(data, np.uint8)
    kinds = _KIND[octets]
    positions = np.flatnonzero(kinds)
    quotes = _quotes(octets, data)
    outside = np.searchsorted(quotes, positions) % 2 == 0
    positions = positions[outside]
    return positions, kinds[positions]


def _quotes(octets: npt.NDArray[np.uint8], data: bytes) -> Positions:
    """Give the positions of the quotes that begin or end strings: those that no backslash escapes."""
    quotes = np.flatnonzero(octets == ord('"'))
    if b"\\" not in data or not len(quotes):
        return quotes
    slash = octets == ord("\\")
    places = np.flatnonzero(slash)
    # the length of the run of backslashes that ends at each one
    begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    run = np.arange(len(places)) - np.repeat(begins, np.diff(np.append(begins, len(places)))) + 1
    before = np.searchsorted(places, quotes) - 1
    behind = (before >= 0) & (places[np.maximum(before, 0)] == quotes - 1)
    escaped = behind & (run[np.maximum(before, 0)] % 2 == 1)
    found: Positions = quotes[~escaped]
    return found


def _skipped(data: bytes, position: int) -> int:
    while position < len(data) and data[position] in _SPACES:
        position += 1
    return position


def _trimmed(data: bytes, starts: Positions, stops: Positions) -> Records:
    """Take white space off the beginnings, and drop what is then empty."""
    octets = np.frombuffer(data, np.uint8)
    starts, stops = starts.astype(np.int64), stops.astype(np.int64)
    for _ in range(_STEPS):
        blank = (starts < stops) & _IS_SPACE[octets[np.minimum(starts, len(octets) - 1)]]
        if not blank.any():
            break
        starts = starts + blank
    else:
        solid = np.flatnonzero(~_IS_SPACE[octets])
        index = np.searchsorted(solid, starts)
        starts = (
            np.where(index < len(solid), solid[np.minimum(index, len(solid) - 1)], len(data)) if len(solid) else stops
        )
    kept = starts < stops
    return Records(data, starts[kept], stops[kept])
