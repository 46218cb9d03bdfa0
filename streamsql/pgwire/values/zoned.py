"""timestamptz as text in a time zone other than UTC: shown with the zone's offset, and read in it where the text names none.

Binary values are the same in all zones. What lies outside the years 1 to 9999 is shown in UTC: it is the same moment.

    Europe/Berlin      2024-07-01 10:00      ->      2024-07-01 08:00 UTC      ->      2024-07-01 10:00:00+02
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.pgwire.values.column import BadValue, Codec, Numbers, Piece, from_numbers, raw, strings_of, valid
from streamsql.pgwire.values.datetime import TIMESTAMP, TIMESTAMPTZ, USUAL_US

_NAIVE, _UTC = pa.timestamp("us"), pa.timestamp("us", tz="UTC")
# a time of day with an offset behind it, or a word that means one moment everywhere
_FIXED = (
    r"(?i):\d\d[:.\d]*\s*(?:am|pm)?\s*(?:z|utc|gmt|[+-]\d{1,2}(?::?\d{2}(?::?\d{2})?)?)(?:\s+(?:bc|ad))?\s*$"
    r"|infinity|epoch"
)
ZONES_MAX = 64


@lru_cache(maxsize=ZONES_MAX)
def codec(zone: str) -> Codec:
    """Make the codec of timestamptz in a zone that the system knows."""

    def to_text(column: pa.Array) -> Piece:
        microseconds = raw(column, np.int64)
        odd = (microseconds < USUAL_US[0] + _DAY_US) | (microseconds >= USUAL_US[1] - _DAY_US)
        if column.null_count:
            odd &= valid(column)
        null = ~valid(column) if column.null_count else None
        usual = from_numbers(np.where(odd, 0, microseconds), _UTC, null)
        local = raw(pc.local_timestamp(usual.cast(pa.timestamp("us", tz=zone))), np.int64)
        texts = strings_of(TIMESTAMP.to_text(from_numbers(local, _NAIVE, null)), column)
        offsets = _offsets((local - np.where(odd, 0, microseconds)) // 1_000_000)
        shown = pc.binary_join_element_wise(texts, offsets, "")
        if not odd.any():
            return shown
        mask = pa.array(odd)
        selected = column.filter(mask)
        return pc.replace_with_mask(shown, mask, strings_of(TIMESTAMPTZ.to_text(selected), selected))

    def from_text(strings: pa.Array, modifier: int) -> pa.Array:
        fixed = pc.fill_null(pc.match_substring_regex(strings, _FIXED), True)
        if pc.all(fixed).as_py() is not False:
            return TIMESTAMPTZ.from_text(strings, modifier)
        naive = np.flatnonzero(~np.asarray(fixed.to_numpy(zero_copy_only=False), bool))
        try:
            local = TIMESTAMP.from_text(strings.take(pa.array(naive)), modifier)
        except BadValue as bad:
            bad.error.message = bad.error.message.replace("type timestamp:", "type timestamp with time zone:")
            raise BadValue(int(naive[bad.row]), bad.error) from None
        moments = pc.assume_timezone(local, zone, ambiguous="latest", nonexistent="latest").cast(_UTC)
        rest = pc.if_else(fixed, strings, pa.scalar(None, pa.string()))
        return pc.replace_with_mask(TIMESTAMPTZ.from_text(rest, modifier), pc.invert(fixed), moments)

    return Codec(to_text, TIMESTAMPTZ.to_binary, from_text, TIMESTAMPTZ.from_binary, TIMESTAMPTZ.value_to_text)


_DAY_US = 86_400_000_000


def _offsets(seconds: Numbers) -> pa.Array:
    """Write offsets from UTC: ``+02``, ``+05:30``."""
    found, inverse = np.unique(seconds, return_inverse=True)
    return pa.array([_offset(int(s)) for s in found]).take(pa.array(inverse.reshape(-1)))


def _offset(seconds: int) -> str:
    size = abs(seconds)
    text = f"{'-' if seconds < 0 else '+'}{size // 3600:02}"
    if size % 3600:
        text += f":{size // 60 % 60:02}" + (f":{size % 60:02}" if size % 60 else "")
    return text
