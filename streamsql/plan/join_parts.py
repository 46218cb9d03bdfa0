"""What joins in append mode are made of: comparisons, spans of time, and the event times of their sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sqlglot import exp

from streamsql.base.errors import AmbiguousColumn, InvalidTableDefinition
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A column that the query can name: by what alias and name, and as which column of the origin."""

    alias: str
    name: str
    column: str
    type: str


@dataclass(slots=True)
class Joined:
    """What is joined so far. `merged` are the columns of USING, as the expression that they stand for."""

    origin: Origin
    entries: list[Entry]
    merged: dict[str, exp.Expr] = field(default_factory=dict)

    def find(self, column: exp.Column) -> Entry | None:
        found = [e for e in self.entries if e.name == column.name and column.table in ("", e.alias)]
        if len(found) > 1:
            raise AmbiguousColumn(f'column reference "{column.name}" is ambiguous')
        return found[0] if found else None

    @property
    def aliases(self) -> set[str]:
        return {e.alias for e in self.entries}

    def named(self, column: str) -> exp.Column:
        """Give a column of the origin as the query names it."""
        entry = next(e for e in self.entries if e.column == column)
        return exp.column(entry.name, table=entry.alias, quoted=True)


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


def unbounded(
    left: Joined, right: Joined, spans: dict[tuple[str, str], Span], position: int | None, *, tables: bool
) -> InvalidTableDefinition:
    if tables:
        return InvalidTableDefinition(
            "a join with a table in append mode needs FOR SYSTEM_TIME AS OF",
            detail="rows of a table change and go, and a pair that was shown could not be taken back",
            hint="JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON ... gives the table's rows as they are when a row arrives; "
            "EMIT UPDATE follows its changes",
            position=position,
        )
    for side in (left, right):
        if not side.origin.times:
            names = ", ".join(side.origin.names)
            return InvalidTableDefinition(
                "a join in append mode needs a watermark on both sides",
                detail=f"no watermark is known of {names}, so its rows would have to be kept for ever",
                hint="add WITH WATERMARK '10 minutes', or declare WATERMARK FOR a column in CREATE STREAM",
                position=position,
            )
    one, other = (next(e for e in s.entries if e.column == s.origin.times[0][0]) for s in (left, right))
    a, b = f"{one.alias}.{one.name}", f"{other.alias}.{other.name}"
    span = next(iter(spans.values()), Span())
    missing = f"AND {a} BETWEEN {b} - INTERVAL '5 minutes' AND {b} + INTERVAL '5 minutes'"
    if span.low is not None:
        missing = f"AND {b} <= {a} + INTERVAL '5 minutes'"
    elif span.high is not None:
        missing = f"AND {b} >= {a} - INTERVAL '5 minutes'"
    return InvalidTableDefinition(
        "a join in append mode needs a time bound on both sides",
        detail=f"nothing in its condition says how far {b} and {a} may lie apart, so rows would have to be kept for ever",
        hint=f"add to the condition, for example: {missing}; or let state_ttl do it: WITH (state_ttl = '1 day')",
        position=position,
    )
