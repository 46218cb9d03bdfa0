"""The plan of a continuous query: what is read, how it is grouped, what is shown and when.

A plan holds SQL for DuckDB, cut where state stands between two pieces (`plan.stages` joins the pieces into statements).
Plans are values: they hold no rows and no state, and equal text over an equal catalog gives an equal plan.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamsql.base.types import NUMERIC, WireType
from streamsql.catalog.objects import OutputColumn, TimeBound
from streamsql.plan.parts import Part
from streamsql.plan.rulers import PLACES, PLAIN, Ruler
from streamsql.plan.touched.plans import Keyed, Linear
from streamsql.sql.statements import EmitMode

if TYPE_CHECKING:
    from streamsql.plan.origins import Origin

# SQL of a SELECT -> its columns' names and DuckDB types. Raises StreamSQLError.
Describe = Callable[[str], list[OutputColumn]]


# What stands for the epoch's time in the SQL of a query that depends on it: a parameter, in microseconds.
EPOCH_US = "CAST($1 AS BIGINT)"


class Strategy(enum.Enum):
    """How a stage is kept up to date (docs/architecture.md, "Four ways to be incremental")."""

    LINEAR = "linear"
    COMBINE = "combine"
    BILINEAR = "bilinear"
    RECOMPUTE = "recompute"


class WindowKind(enum.Enum):
    """How rows find their windows; a tumbling window hops by its own size."""

    HOP = "hop"
    CUMULATE = "cumulate"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Window:
    """A window over an event time. Lengths are microseconds on the window's ruler.

    HOP: a window of `size_us` starts at each multiple of `slide_us`. It is cut into panes of gcd(size, slide): a row is
    aggregated into one pane, a window is the panes in it (Li et al., "No pane, no gain", SIGMOD Record 2005).
    CUMULATE: at each multiple of `size_us` start windows of one, two, ... `slide_us`, up to `size_us`. A window is known
    by its end less `size_us`: so they are the hopping windows, cut off at the last multiple of the size.
    SESSION: a row's own window is as long as the gap, which is `size_us`; windows of a key that overlap are one.
    With `instant` the query has no window: it groups by an event time itself, and each is closed once the watermark is past it.
    """

    time_sql: str
    time_column: str | None
    time_type: str
    size_us: int
    slide_us: int
    pane_us: int
    kind: WindowKind = WindowKind.HOP
    ruler: Ruler = PLAIN
    instant: bool = False

    def __post_init__(self) -> None:
        assert 0 < self.slide_us <= self.size_us, (self.slide_us, self.size_us)
        assert self.size_us % self.pane_us == 0 == self.slide_us % self.pane_us, self.pane_us
        assert self.kind is not WindowKind.CUMULATE or self.size_us % self.slide_us == 0
        assert self.kind is not WindowKind.SESSION or self.ruler.plain

    @property
    def tumbling(self) -> bool:
        return self.size_us == self.slide_us and not self.session

    @property
    def session(self) -> bool:
        return self.kind is WindowKind.SESSION

    def last_end(self, place: int) -> int:
        """Give the end of the last window that holds this place."""
        return int(self.last_ends(np.array([place], dtype=np.int64))[0])

    def last_ends(self, places: PLACES) -> PLACES:
        """Give the ends of the last windows that hold these places; for a session, of the row's own."""
        if self.session:
            return places + self.size_us
        step = self.size_us if self.kind is WindowKind.CUMULATE else self.slide_us
        return places // step * step + self.size_us


# DuckDB type of an output -> the type that it is kept as
_KEPT_AS = {"BIT": "VARCHAR", "TIME WITH TIME ZONE": "VARCHAR", "UHUGEINT": "DECIMAL(38,0)"}

_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_NUMBERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", *_FLOATS})
# PostgreSQL's numbers, and the types that they are kept as; of those that are numeric here, integers of any length
_KEPT_NUMBERS = {
    "int2": "SMALLINT", "int4": "INTEGER", "int8": "BIGINT", "numeric": "HUGEINT", "float4": "FLOAT", "float8": "DOUBLE",
}  # fmt: skip


def as_quotient(sql: str) -> str:
    """Give the numeric of a floating-point number with the digits that it is written with; a plain cast makes up more."""
    return f"CAST(CAST({sql} AS VARCHAR) AS DECIMAL(38,16))"


@dataclass(frozen=True, slots=True)
class Output:
    """A result column: its name, its SQL over the groups (or, in a linear plan, over the source), its DuckDB type.

    `made` is the type that a user has made of which its values are, or an array of it.
    """

    name: str
    sql: str
    type: str
    made: WireType | None = None

    @property
    def shown(self) -> Output:
        """The output as it is kept and shown: Arrow loses values of some types, or DuckDB does not take them back from it."""
        kept = _KEPT_AS.get(self.type)
        return self if kept is None else Output(self.name, f"CAST({self.sql} AS {kept})", kept)

    def told(self, wire_type: WireType | None) -> Output:
        """The output as it is kept and shown, as a number of PostgreSQL's type: a `sum` of integers is a bigint."""
        wanted = _KEPT_NUMBERS.get(wire_type.name) if wire_type is not None else None
        if wanted is None or self.type not in _NUMBERS or self.type == wanted:
            return self.shown
        if wire_type is NUMERIC and self.type in _FLOATS:
            return Output(self.name, as_quotient(self.sql), "DECIMAL(38,16)")
        return Output(self.name, f"CAST({self.sql} AS {wanted})", wanted)


def as_told(outputs: Iterable[Output], told: Sequence[WireType | None] | None) -> tuple[Output, ...]:
    """Give outputs as they are kept and shown; `told` are PostgreSQL's types for them, None where they are not known."""
    found = tuple(outputs)
    known = told if told is not None and len(told) == len(found) else [None] * len(found)
    return tuple(output.told(wire_type) for output, wire_type in zip(found, known, strict=True))


@dataclass(frozen=True, slots=True)
class Arm:
    """A grouping set of its own keys, one of several queries' that share a state: SQL by key column, and places of parts."""

    keys: tuple[str | None, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Distinct:
    """Values of which a group counts each once: `value` is SQL over the source, `condition` says which rows count.

    Those that a group has had are rows of a table of their own (`stages.seen`); the source's column `column` tells which rows
    of an epoch bring a group one that is new to it.
    """

    column: str
    value: str
    condition: str | None


@dataclass(frozen=True, slots=True)
class Grouping:
    """An aggregation: keys and parts are SQL over the source; groups have columns ``w``, ``k0``.., ``p0``.. .

    `sets` are the grouping sets, each the indexes of its keys (`plan.grouping_sets`): none for a plain GROUP BY. With them
    the groups have one more key, the number of the set. `calls` and `having_text` are what the user wrote, for EXPLAIN;
    `splits` are the floating-point expressions that parts sum (`aggregates.split_columns`);
    `growing` are the (call, by what of a group it grows). `distincts` are the values that parts count once.
    `arms` are there where the sets are different queries' (`plan.sharing`), one a set.
    """

    keys: tuple[str, ...]
    parts: tuple[Part, ...]
    window: Window | None
    having: str | None
    calls: tuple[str, ...] = ()
    having_text: str | None = None
    growing: tuple[tuple[str, str], ...] = ()
    sets: tuple[tuple[int, ...], ...] = ()
    splits: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    distincts: tuple[Distinct, ...] = ()

    @property
    def from_start(self) -> tuple[int, ...]:
        """Numbers of the grouping sets whose one group is there before the first row, as in one SELECT over no rows."""
        if self.window is not None:
            return ()
        return tuple(number for number, keys in enumerate(self.sets or (tuple(range(len(self.keys))),)) if not keys)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A query that is run again when what it reads has changed: its SQL, which gives columns ``o0``.., and its sources.

    A `temporal` query depends on the time as well: ``$1`` stands for the epoch's, in microseconds; with `marks`, which are
    streams and their watermarks' delays, for the lowest of their watermarks. `reason` says why no
    operator keeps it, for EXPLAIN. `part` says how to run it for a part of its result, None that it is run again whole,
    for the reason `whole_because`. Where there is an `inner` query, that is kept in a table of its own, and `over_inner` is
    the SQL that reads the result from there (`plan.touched.top`; `nested`: the inner one is a subquery, `plan.touched.nested`).
    """

    sql: str
    sources: tuple[str, ...]
    temporal: bool
    reason: str
    part: Linear | Keyed | None = None
    whole_because: str = ""
    inner: ContinuousPlan | None = None
    over_inner: str = ""
    nested: bool = False
    marks: tuple[tuple[str, int], ...] = ()

    @property
    def by_clock(self) -> bool:
        """Tell whether the clock alone can change the result."""
        return self.temporal and not self.marks

    @property
    def whole(self) -> str:
        """SQL of all that the result's table holds: the outputs, and hidden columns."""
        return self.part.whole if isinstance(self.part, Keyed) else self.sql

    @property
    def hidden(self) -> int:
        """How many hidden columns, ``h0``.., the result's table has."""
        return self.part.hidden if isinstance(self.part, Keyed) else 0

    def at(self, now_us: int) -> str:
        """Give the SQL with the epoch's time written in."""
        return self.sql.replace(EPOCH_US, str(now_us)) if self.temporal else self.sql


@dataclass(frozen=True, slots=True)
class Face:
    """What a query shows of groups that it shares (`plan.sharing`): the places of its outputs among all.

    `shown` is the place of the output that tells whether its HAVING holds; None: it shows every group.
    """

    outputs: tuple[int, ...]
    shown: int | None


@dataclass(frozen=True, slots=True)
class ContinuousPlan:
    """A continuous query over one stream or table, or over an `origin`; where it is `recomputed`, over any relations.

    `grouping` None means a linear query (filter and project). `watermark_delay_us` None means that nothing is ever late
    and no window closes. `allowed_lateness_us` keeps windows open for longer than the watermark does.
    `alias` is the name by which the query's expressions call the source. `bound` gives the largest event time from the
    origin's watermark, where it can be followed (`plan.bounds`); `times` are the bounds of the query's own columns, by its
    own watermark. `time` is the event time that a query without a window hands on from its stream: a column and its delay.
    `faces` are there where the plan stands for several queries, whose outputs it has all. `laterals` is SQL behind the source
    that gives each of its rows several, or none, which ``r`` names, in the order of `lateral_order` (`plan.laterals`); only a
    query without a grouping has them.
    """

    source: str
    alias: str
    condition: str | None
    grouping: Grouping | None
    outputs: tuple[Output, ...]
    mode: EmitMode
    watermark_delay_us: int | None = None
    every_us: int | None = None
    limit: int | None = None
    allowed_lateness_us: int = 0
    recomputed: Recomputed | None = None
    origin: Origin | None = None
    bound: TimeBound | None = None
    times: tuple[tuple[str, TimeBound], ...] = ()
    time: tuple[str, int] | None = None
    state_ttl_us: int | None = None
    faces: tuple[Face, ...] = ()
    laterals: str = ""
    lateral_order: tuple[str, ...] = ()
    lateral_text: str = ""

    def __post_init__(self) -> None:
        assert not (self.laterals and self.grouping), self.laterals

    @property
    def sources(self) -> tuple[str, ...]:
        if self.recomputed is not None:
            return self.recomputed.sources
        return self.origin.names if self.origin is not None else (self.source,)

    @property
    def followed(self) -> tuple[str, ...]:
        """Those of the sources whose new rows it takes in."""
        return self.origin.followed if self.origin is not None else self.sources

    @property
    def closing_delay_us(self) -> int | None:
        """How far a window's end must lie behind the largest event time for the window to be closed; None: never is."""
        return None if self.watermark_delay_us is None else self.watermark_delay_us + self.allowed_lateness_us

    @property
    def window(self) -> Window | None:
        return self.grouping.window if self.grouping else None

    @property
    def distincts(self) -> tuple[Distinct, ...]:
        return self.grouping.distincts if self.grouping else ()

    @property
    def retracts(self) -> bool:
        """Tell whether the query takes back rows that it has shown."""
        if self.recomputed is not None:
            return True
        return self.grouping is not None and self.mode is not EmitMode.APPEND

    @property
    def state_bounded(self) -> bool:
        """Tell whether the watermark lets state be dropped."""
        return self.grouping is None or (self.window is not None and self.watermark_delay_us is not None)
