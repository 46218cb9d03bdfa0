"""What joins in append mode are made of: comparisons, spans of time, and the event times of their sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp

from streamsql.plan.origins import Origin, StreamScan

FLIPPED = {exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE, exp.EQ: exp.EQ}


@dataclass(frozen=True, slots=True)
class Span:
    """What a condition says of a right event time less a left one: both None where nothing."""

    low: int | None = None
    high: int | None = None

    @property
    def complete(self) -> bool:
        return self.low is not None and self.high is not None

    def bounds(self, kind: str) -> bool:
        """Tell whether it is known, for all rows that a join of this kind shows without a match, when none can come."""
        left, right = kind in ("LEFT", "FULL", "ANTI"), kind in ("RIGHT", "FULL")
        return not (left and self.high is None) and not (right and self.low is None)

    def and_(self, low: int | None, high: int | None) -> Span:
        lows, highs = ([v for v in pair if v is not None] for pair in ((self.low, low), (self.high, high)))
        return Span(max(lows, default=None), min(highs, default=None))


def above(node: exp.Expr) -> Iterator[exp.Expr]:
    while node.parent is not None:
        node = node.parent
        yield node


def comparisons(conjunct: exp.Expr) -> list[exp.Expr]:
    """Give BETWEEN as two comparisons, anything else as it is."""
    if isinstance(conjunct, exp.Between):
        return [
            exp.GTE(this=conjunct.this.copy(), expression=conjunct.args["low"].copy()),
            exp.LTE(this=conjunct.this.copy(), expression=conjunct.args["high"].copy()),
        ]
    return [conjunct] if isinstance(conjunct, tuple(FLIPPED)) else []


def declared(origin: Origin, wanted: set[str]) -> Origin:
    """Give a stream whose watermark could be of several columns that of the one that a window is over."""
    if not isinstance(origin, StreamScan) or origin.time_column is not None:
        return origin
    found = tuple(t for t in origin.times if t[0] in wanted)[:1]
    return replace(origin, times=found, time_column=found[0][0] if found else None)


def settled(origin: Origin, time: str | None) -> Origin:
    """Make the column the event time of a stream whose watermark could be of several."""
    return replace(origin, time_column=time) if isinstance(origin, StreamScan) and time is not None else origin


def within(left: exp.Column, right: exp.Column, length_us: int) -> exp.Expr:
    """Give the condition that two event times lie at most so far apart."""
    length = exp.Interval(this=exp.Literal.string(str(length_us)), unit=exp.var("MICROSECOND"))
    bounds = [kind(this=left.copy(), expression=length.copy()) for kind in (exp.Sub, exp.Add)]
    return exp.Between(this=right.copy(), low=bounds[0], high=bounds[1])
