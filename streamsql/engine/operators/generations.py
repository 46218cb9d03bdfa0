"""Ranks of rows whose keys are forgotten after a time, so that a later row of a key is its first again.

A key's *generation* starts with a row and lasts for `ttl`; it holds the key's rows that come while it lasts. `now` says how far
time is when a row comes: the watermark before it, its own event time, or the clock::

    ttl 10    now     1   5   11   12   30
              rank    1   2   3    1    1           (11 is still within 1 + 10)

All rows of an epoch are ranked at once: there are as many rounds as the key with the most generations has, mostly one.
"""

from __future__ import annotations

import numpy as np

from streamsql.engine.watermark import MICROSECONDS

FOREVER = 1 << 62
_ENDED = -(1 << 63)  # below all times, also NEVER


def ranked(
    keys: MICROSECONDS, now: MICROSECONDS, starts: MICROSECONDS, counts: MICROSECONDS, lasts: MICROSECONDS, ttl: int
) -> tuple[MICROSECONDS, MICROSECONDS]:
    """Give each row's rank within its generation, and when that ends.

    Takes rows sorted by `keys` and then in their order, in which `now` does not decrease. `starts` is when a generation that
    the row begins is taken to start, at `now` or after it; `counts` and `lasts` are how many rows the generation under way has
    shown, and when it ends, the same for all rows of a key (0 and anything: there is none).
    """
    size = len(keys)
    ranks, ends = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    if not size:
        return ranks, ends
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    after = np.append(first[1:], size)
    places = np.arange(size, dtype=np.int64)
    # (key, time) as one number that is sorted
    times = np.unique(now)
    width = len(times) + 1
    segments = np.arange(len(first), dtype=np.int64)
    sorted_by_both = np.repeat(segments * width, after - first) + np.searchsorted(times, now)
    begin = first.copy()
    shown, end = counts[first], np.where(counts[first] > 0, lasts[first], _ENDED)
    while begin.size:
        fresh = now[begin] > end
        end = np.where(fresh, FOREVER if ttl == FOREVER else starts[begin] + ttl, end)
        shown = np.where(fresh, 0, shown)
        upto = np.searchsorted(sorted_by_both, segments * width + np.searchsorted(times, end, side="right"))
        upto = np.minimum(upto, after)
        lengths = upto - begin
        rows = np.repeat(begin, lengths) + _within(lengths)
        ranks[rows] = places[rows] - np.repeat(begin, lengths) + 1 + np.repeat(shown, lengths)
        ends[rows] = np.repeat(end, lengths)
        left = upto < after
        begin, end, segments, after, shown = upto[left], end[left], segments[left], after[left], shown[left]
    return ranks, ends


def _within(lengths: MICROSECONDS) -> MICROSECONDS:
    """Count from 0 within runs of these lengths."""
    total = int(lengths.sum())
    return np.arange(total, dtype=np.int64) - np.repeat(np.cumsum(lengths) - lengths, lengths)
