"""Frames of window functions: how far they reach from a row, and their SQL."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, StreamSQLError, WindowingError
from streamsql.plan.origins import Reach
from streamsql.sql.durations import DAY_US, duration_of, months_of
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

UNBOUNDED = "UNBOUNDED"
CURRENT = "CURRENT ROW"
_MONTH_DAYS_MAX = 31


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a frame begins or ends: `distance` before the row (`preceding`) or after it; None: as far as rows go.

    `sql` says the distance. Rows and groups are counted, a range is microseconds; of months it is the most that they can be,
    and DuckDB counts them. The current row is 0 of either side.
    """

    preceding: bool
    distance: int | None
    sql: str

    def written(self) -> str:
        if self.sql == CURRENT:
            return CURRENT
        return f"{self.sql} {'PRECEDING' if self.preceding else 'FOLLOWING'}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: ROWS, RANGE or GROUPS from one edge to another."""

    kind: str
    start: Edge
    end: Edge
    exclude: str = ""

    def written(self) -> str:
        left_out = f" EXCLUDE {self.exclude}" if self.exclude else ""
        return f"{self.kind} BETWEEN {self.start.written()} AND {self.end.written()}{left_out}"

    @property
    def from_start(self) -> bool:
        """Tell whether it begins with the first row of the key."""
        return self.start.distance is None and self.start.preceding

    @property
    def to_end(self) -> bool:
        """Tell whether it goes on to the last row of the key."""
        return self.end.distance is None and not self.end.preceding

    @property
    def back(self) -> Reach:
        """Give what of the rows before a row must be there: a frame from the start, all that may not be folded yet."""
        edge, less = (self.end, self.kind == "ROWS") if self.from_start else (self.start, False)
        if not edge.preceding or edge.distance is None:
            return Reach()
        return self._reach(edge.distance - less if edge.distance else 0)

    @property
    def ahead(self) -> Reach:
        """Give what of the rows after a row must be there."""
        farthest = max(
            (e.distance for e in (self.start, self.end) if not e.preceding and e.distance is not None), default=0
        )
        return self._reach(farthest) if farthest else Reach()

    def _reach(self, distance: int) -> Reach:
        match self.kind:
            case "ROWS":
                return Reach(rows=distance)
            case "GROUPS":
                return Reach(times=distance)
            case _:
                return Reach(us=distance) if distance else Reach()


_HERE = Edge(True, 0, CURRENT)
_START = Edge(True, None, UNBOUNDED)
RUNNING = Frame("RANGE", _START, _HERE)
RUNNING_ROWS = Frame("ROWS", _START, _HERE)
BEFORE = Frame("ROWS", _START, Edge(True, 1, "1"))
WHOLE = Frame("ROWS", _START, Edge(False, None, UNBOUNDED))


def frame_of(spec: exp.Expr | None, query: Query, *, ordered: bool, timed: bool) -> Frame:
    """Read a frame; without one, that of SQL: up to the row's peers, or all rows where there is no order.

    `timed`: distances in a range are intervals, whose lengths must be known. Raises FeatureNotSupported, WindowingError.
    """
    if spec is None:
        return RUNNING if ordered else WHOLE
    kind = str(spec.args.get("kind") or "RANGE").upper()
    start = _edge(spec, "start", kind, query, timed=timed)
    end = _edge(spec, "end", kind, query, timed=timed) if spec.args.get("end") is not None else _HERE
    excluded = spec.args.get("exclude")
    exclude = (excluded.name if isinstance(excluded, exp.Expr) else str(excluded or "")).upper()
    if not start.preceding and start.distance is None:
        raise WindowingError("frame start cannot be UNBOUNDED FOLLOWING", position=position_of(spec, query))
    if end.preceding and end.distance is None:
        raise WindowingError("frame end cannot be UNBOUNDED PRECEDING", position=position_of(spec, query))
    return Frame(kind, start, end, "" if exclude == "NO OTHERS" else exclude)


def _edge(spec: exp.Expr, which: str, kind: str, query: Query, *, timed: bool) -> Edge:
    value, side = spec.args.get(which), str(spec.args.get(f"{which}_side") or "").upper()
    preceding = side != "FOLLOWING"
    if isinstance(value, str):
        return _HERE if value.upper() == CURRENT else Edge(preceding, None, UNBOUNDED)
    assert isinstance(value, exp.Expression)
    if kind == "RANGE":
        if not timed:
            return Edge(preceding, 0, value.sql("duckdb"))
        months = months_of(value)
        if months is not None and months >= 0:
            return Edge(preceding, months * _MONTH_DAYS_MAX * DAY_US, f"INTERVAL '{months} months'")
        length = _length(value, query)
        return Edge(preceding, length, f"INTERVAL '{length} microseconds'")
    if not isinstance(value, exp.Literal) or not value.is_int:
        raise FeatureNotSupported(
            "a frame of a number of rows that the query does not say cannot be kept in append mode",
            hint="write the number",
            position=position_of(value, query),
        )
    return Edge(preceding, int(value.this), value.this)


def _length(value: exp.Expression, query: Query) -> int:
    """Give the length of a range."""
    try:
        return duration_of(value, zero_allowed=True)
    except StreamSQLError as error:
        raise FeatureNotSupported(
            "a frame of a range without a fixed length cannot be kept in append mode",
            detail=error.message,
            hint="give the length in days, hours, minutes or seconds: RANGE BETWEEN INTERVAL '5 minutes' PRECEDING AND ...",
            position=position_of(value, query),
        ) from error
