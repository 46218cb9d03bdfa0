"""What a query in append mode reads, where that is not just one stream: views, subqueries, unions and joins of them.

An origin gives rows that are never taken back, in an order of their own, and a watermark that moves between them. It is a
tree; its leaves are streams and views, each other node has a state of its own where it needs one (`engine.origins`).

`columns` are an origin's columns, `times` the bounds of those columns that its watermark tells of (`plan.bounds`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from streamsql.catalog.objects import OutputColumn, TimeBound, quoted
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.parts import Part

# How far rows of a join may lie apart in time where nothing bounds it, in microseconds.
UNBOUNDED = 1 << 60

Times = tuple[tuple[str, TimeBound], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Any of those below."""

    columns: tuple[OutputColumn, ...]
    times: Times

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        """The streams, tables and views that are read, each once."""
        return tuple(dict.fromkeys(n for i in self.inputs for n in i.names))

    @property
    def followed(self) -> tuple[str, ...]:
        """Those of them whose new rows are taken in."""
        return tuple(dict.fromkeys(n for i in self.inputs for n in i.followed)) if self.inputs else self.names

    def walk(self) -> Iterator[Origin]:
        """Give all nodes, each after its inputs."""
        for item in self.inputs:
            yield from item.walk()
        yield self

    @property
    def keeps_rows(self) -> bool:
        """Tell whether a watermark matters to the origin itself: it joins, ranks, or has window functions."""
        return any(isinstance(n, (IntervalJoin, Lookup, Over, Rank)) for n in self.walk())

    @property
    def shape(self) -> str:
        """SQL of a relation with these columns, to ask types of."""
        return f"(SELECT {', '.join(f'NULL::{c.type} AS {quoted(c.name)}' for c in self.columns)})"


@dataclass(frozen=True, slots=True)
class StreamScan(Origin):
    """The rows of a stream. Its watermark: the largest `time_column` seen, less the delay; None: it has none."""

    name: str
    time_column: str | None
    delay_us: int

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class ViewScan(Origin):
    """The rows of a materialized view that never take any back, with the view's watermark."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Inner(Origin):
    """The rows of a subquery, which is a query in append mode."""

    plan: ContinuousPlan

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return () if self.plan.origin is None else (self.plan.origin,)

    @property
    def names(self) -> tuple[str, ...]:
        return self.plan.sources

    @property
    def followed(self) -> tuple[str, ...]:
        return self.plan.followed


@dataclass(frozen=True, slots=True)
class Union(Origin):
    """The rows of all inputs, in the order of arrival. Its watermark: the lowest of the inputs' bounds of column `time`."""

    branches: tuple[Origin, ...]
    time: int | None

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return self.branches


@dataclass(frozen=True, slots=True)
class Outside:
    """A table whose rows are not here: its columns, its primary key, and SQL over ``l`` of the key that is looked up."""

    columns: tuple[OutputColumn, ...]
    key: tuple[OutputColumn, ...]
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.key) == len(self.values) > 0


@dataclass(frozen=True, slots=True)
class Lookup(Origin):
    """Rows of `left`, each with the rows of a table, or of a view (`of_view`), that match it when it arrives.

    `kind` is INNER or LEFT. The table's rows may be `outside`.

    `condition` is SQL over ``l`` and ``r``; `chosen` are the output columns: the side, and its column. The table's changes
    bring nothing: it is read, not followed.
    """

    left: Origin
    table: str
    kind: str
    condition: str
    chosen: tuple[tuple[str, str], ...]
    text: str
    of_view: bool = False
    outside: Outside | None = None

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return (self.left,)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.left.names, self.table]))


@dataclass(frozen=True, slots=True)
class IntervalJoin(Origin):
    """Pairs of rows whose event times are near: ``low_us <= right.time - left.time <= high_us``, and the `condition` holds.

    `kind` is INNER, LEFT, RIGHT, FULL, SEMI or ANTI. `condition` is SQL over ``l`` and ``r``, whose columns are the inputs'.
    `chosen` are the output columns: the side, and the input's column. The watermark is the lower of both inputs' bounds of
    their time columns; a row below it is late.

    A bound that is UNBOUNDED is none: rows of that side are kept for ever. Without event times (None) no row is ever dropped,
    nor late, and there is no watermark. `ttl_us` is what the bounds come from where the condition has none.

    ASOF and ASOF LEFT give each row of the left the last version at its time (`strict`: before it) of the right; `keys` are
    the right's columns that tell whose version it is.
    """

    left: Origin
    right: Origin
    kind: str
    condition: str
    left_time: str | None
    right_time: str | None
    low_us: int
    high_us: int
    chosen: tuple[tuple[str, str], ...]
    text: str
    keys: tuple[str, ...] = ()
    strict: bool = False
    ttl_us: int | None = None

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return (self.left, self.right)

    @property
    def kept_for_ever(self) -> tuple[Origin, ...]:
        """The sides whose rows never go."""
        if self.kind.startswith("ASOF"):
            return () if self.ttl_us is not None else (self.right,)
        ends = ((self.left, self.high_us), (self.right, -self.low_us))
        return tuple(side for side, reach in ends if reach >= UNBOUNDED)


class When(enum.Enum):
    """When a row that is ranked can be shown: see `plan.ranking`."""

    ARRIVAL = "at once"
    TIME = "once the watermark is past it"
    CLOSE = "once its window is closed"


@dataclass(frozen=True, slots=True)
class Rank(Origin):
    """The first `count` rows of each key, by the terms of an order (SQL over the input's columns) and then by arrival.

    `when` a row is final; `time` is the column whose bound tells: a row below it is late. `forget` is the key whose bound
    tells when a key can be forgotten: None where rows of it can always come. With `ttl_us` a key is forgotten that long after
    the first row that was shown of it, by event time `axis` or, where that is None, by the clock of arrivals.
    `chosen` are the output columns, as columns of the input; '' is the rank. The texts are what the user wrote, for EXPLAIN.
    """

    input: Origin
    keys: tuple[str, ...]
    order: tuple[str, ...]
    function: str
    count: int | None
    when: When
    time: str | None
    forget: str | None
    chosen: tuple[str, ...]
    text: str
    order_text: str
    time_text: str
    forget_text: str
    ttl_us: int | None = None
    axis: str | None = None

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return (self.input,)

    @property
    def remembers(self) -> bool:
        """Tell whether it must know which keys have been shown."""
        return self.when is not When.CLOSE

    @property
    def unbounded(self) -> bool:
        return self.remembers and self.forget is None and self.ttl_us is None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far from a row the frames of window functions go, in one direction: rows, microseconds, times of its key.

    None: not at all. All of them are what must be there; what a frame takes of it, DuckDB decides.
    """

    rows: int | None = None
    us: int | None = None
    times: int | None = None

    def __bool__(self) -> bool:
        return any((self.rows, self.us, self.times)) or self.us is not None

    def __or__(self, other: Reach) -> Reach:
        return Reach(_farther(self.rows, other.rows), _farther(self.us, other.us), _farther(self.times, other.times))


def _farther(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


@dataclass(frozen=True, slots=True)
class Over(Origin):
    """The rows of an input, each with the values of window functions over the rows of its key (`plan.over`).

    The columns are the input's, and one for each of `values`: SQL over the rows as `plan.over.stages` lays them out. `windows`
    are the window expressions that the values are made of; `orders` their ORDER BY lists, as SQL.
    `parts` are what is kept of the rows that a frame begins with and that are gone; `in_rows` are those of them of which
    a state is made for each row; `splits` the floating-point expressions that parts sum. `peers` are the orders whose
    peers are counted. `counted` tells whether anything is kept of such rows at all, if only how many they are.

    A row is shown when it is final, `when`: `time` is the column whose bound tells, a row below it is late. `back` is how far
    frames go back, `ahead` how far they go on: so long a row waits. `forget` is the key whose bound tells when a key can be
    forgotten. The texts are what the user wrote, for EXPLAIN; `labels` are the user's names of the input's columns, ''
    where there is none.
    """

    input: Origin
    keys: tuple[str, ...]
    orders: tuple[str, ...]
    windows: tuple[str, ...]
    values: tuple[str, ...]
    parts: tuple[Part, ...]
    in_rows: tuple[int, ...]
    splits: tuple[str, ...]
    peers: tuple[int, ...]
    counted: bool
    back: Reach
    ahead: Reach
    when: When
    time: str | None
    forget: str | None
    calls: tuple[str, ...]
    text: str
    time_text: str
    forget_text: str
    labels: tuple[str, ...]

    @property
    def inputs(self) -> tuple[Origin, ...]:
        return (self.input,)

    @property
    def keeps(self) -> bool:
        """Tell whether rows stay that have been final."""
        return self.when is not When.CLOSE and (bool(self.back) or bool(self.ahead))

    @property
    def unbounded(self) -> bool:
        """Tell whether something of each key is kept for ever."""
        each = self.counted or self.back.rows or self.back.times or self.ahead.rows or self.ahead.times
        return self.when is not When.CLOSE and self.forget is None and bool(each)
