"""What every operator shares: its tables, the rows it is given, and how it hands over what it emits.

An operator runs inside the epoch's transaction and keeps nothing in memory: what it knows is in its state table and in
the `Progress` that it takes and gives back, so a rolled back epoch leaves no trace.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streamsql.engine.changes import Progress
from streamsql.engine.ingest import LOST_IN_ARROW
from streamsql.engine.store import Delta, Store
from streamsql.engine.watermark import MICROSECONDS
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan, Strategy, Window


@dataclass(frozen=True, slots=True)
class Tables:
    """Where a query keeps its state and its result: qualified, quoted table names.

    `temporary` tables die with the server (a live query's client dies with it, too). `delta` is the name under which SQL reads
    the rows of an epoch; `merged`, `changed` and `touched` are scratch, empty between epochs: tables, or names like the delta.
    """

    state: str
    result: str
    delta: str
    merged: str
    changed: str
    touched: str
    temporary: bool

    def seen(self, number: int) -> str:
        """Name the table of the values that groups have had, of the plan's distinct values with this number."""
        return stages.seen_name(self.state.removesuffix('"'), number) + '"'

    def create(self, table: str) -> str:
        return f"CREATE {'TEMP ' if self.temporary else ''}TABLE {table}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Rows that arrived for a query, in order of arrival, late ones taken out already.

    SQL reads them as the delta: the source's columns and ``__seq``, and in hopping windows ``__from``. `times` are the
    places of their event times on the window's ruler (None without a window).
    """

    count: int
    times: MICROSECONDS | None = None


class Sink(ABC):
    """Takes what an operator emits; see `engine.views`."""

    @abstractmethod
    def append(self, groups: str, *values: int) -> int:
        """Emit the groups that `groups` selects (keys, then ``p0``..; ``$1``.. stand for `values`) as final."""

    @abstractmethod
    def append_rows(self, sql: str) -> int:
        """Emit the output rows that `sql` selects as final; give their number."""

    @property
    @abstractmethod
    def shown(self) -> bool:
        """Tell whether somebody sees what is emitted, so that its order matters."""

    @property
    @abstractmethod
    def handed_on(self) -> bool:
        """Tell whether another query reads what is emitted: rows of a query without a window keep their ``__seq``."""

    @abstractmethod
    def change(self, merged: pa.Table) -> None:
        """Emit what changed between the kept groups and those of `merged`; see `stages.merged_groups`."""

    @abstractmethod
    def update(self, groups: str, *values: int) -> int:
        """Emit the new values of the groups that `groups` selects (keys, then ``p0``..); give how many rows changed."""


class Operator(ABC):
    """Keeps one plan up to date."""

    strategy: ClassVar[Strategy] = Strategy.COMBINE
    # the state's rows hold the groups' current output columns too, and what is closed is moved to the result's table
    shows_state: ClassVar[bool] = False

    def __init__(self, plan: ContinuousPlan, store: Store, tables: Tables) -> None:
        self.plan = plan
        self.store = store
        self.tables = tables
        self.delta: Delta

    @property
    def window(self) -> Window:
        assert self.plan.window is not None
        return self.plan.window

    def create(self, sink: Sink, progress: Progress) -> Progress:
        """Make the state's table in the shape of the partial states; the delta is empty."""
        partials = stages.partials(self.plan, self.tables.delta)
        self.store.execute(f"{self.tables.create(self.tables.state)} AS {partials} LIMIT 0")
        return progress

    def create_scratch(self) -> None:
        """Make the scratch tables, once in the life of the server; the state's table is there."""
        if self.plan.retracts:
            self.store.execute(
                f"CREATE TEMP TABLE {self.tables.merged} AS SELECT *, 0::BIGINT AS __row FROM {self.tables.state} LIMIT 0"
            )

    def drop_scratch(self) -> None:
        """Drop what `create_scratch` made, which may be nothing."""
        for table in (self.tables.merged, self.tables.touched):
            self.store.execute(f"DROP TABLE IF EXISTS {table}")

    @abstractmethod
    def apply(self, arrival: Arrival, progress: Progress, sink: Sink) -> Progress:
        """Take rows in, and emit what they complete or change. `progress.largest` already counts these rows in."""

    def watermark(self, progress: Progress) -> int | None:
        """Give the place up to which windows are closed after all rows so far; None where no window ever closes."""
        if self.plan.closing_delay_us is None:
            return None
        return self.window.ruler.place(progress.largest - self.plan.closing_delay_us)


def bare(name: str) -> str:
    """The name under which a quoted name is registered."""
    return name.removeprefix("temp.main.").strip('"')


# State tables of append mode hold one row a group and epoch; merging them is put off until it pays.
COMPACT_ROWS_MIN = 8_192
COMPACT_GROWTH = 4


def compacted(operator: Operator, progress: Progress) -> Progress:
    """Merge the state's rows of equal groups once there are several times as many as after the last time."""
    if progress.state_rows <= max(COMPACT_ROWS_MIN, COMPACT_GROWTH * progress.compacted):
        return progress
    grouping = operator.plan.grouping
    assert grouping is not None
    store, state = operator.store, operator.tables.state
    store.execute(f"CREATE OR REPLACE TEMP TABLE __compacted AS {stages.combined(grouping, state)}")
    store.execute(f"DELETE FROM {state}")
    rows = store.execute(f"INSERT INTO {state} SELECT * FROM __compacted")
    store.execute("DROP TABLE __compacted")
    return replace(progress, state_rows=rows, compacted=rows)


# A state of so few rows is read whole: planning the join with what touches it takes longer than reading it.
WHOLE_STATE_ROWS_MAX = 1_024

# Up to so many rows are multiplied by the grouping sets of several queries.
SETS_ROWS_MAX = 1_024


class KeptGroups(Operator):
    """Update mode where a state is a group: each kept row has the group's states and its current output columns.

    The rows of touched groups are deleted and inserted anew: DuckDB updates scattered rows in place forty times more slowly
    (docs/decisions, "State is replaced, not updated").
    """

    shows_state = True
    takes_out: ClassVar[bool] = True  # what is kept of touched groups leaves the database to be merged

    def create(self, sink: Sink, progress: Progress) -> Progress:
        groups = stages.kept_groups(self.plan, stages.partials(self.plan, self.tables.delta))
        self.store.execute(f"{self.tables.create(self.tables.state)} AS {groups} LIMIT 0")
        for number, item in enumerate(self.plan.distincts):
            shape = stages.seen_shape(self.plan, self.tables.delta, item)
            self.store.execute(f"{self.tables.create(self.tables.seen(number))} AS {shape} LIMIT 0")
        return progress

    def create_scratch(self) -> None:
        store, tables = self.store, self.tables
        touched = store.arrow(f"SELECT *, 0::BIGINT AS __row FROM {tables.state} LIMIT 0")
        columns = store.describe(f"SELECT * FROM {tables.state}")
        self._by_arrow = (
            self.takes_out
            and all(returns(field.type) for field in touched.schema if field.name.startswith("s"))
            and not any(lost in column.type for column in columns for lost in LOST_IN_ARROW)
        )
        if self._by_arrow:
            self._touched = Delta(touched)
            store.register(bare(tables.touched), self._touched)
            self._merged = Delta(store.arrow(f"SELECT * FROM ({self._merged_groups(ordered=False)}) LIMIT 0"))
            store.register(bare(tables.merged), self._merged)
        else:
            store.execute(
                f"CREATE TEMP TABLE {tables.merged} AS SELECT * FROM ({self._merged_groups(ordered=False)}) LIMIT 0"
            )
        # the statements of every epoch are kept: writing them takes as long as some of them run
        self._merge_sql: dict[tuple[bool, bool], str] = {}
        self._touched_sql: dict[bool, str] = {}
        self._seen_sql = [
            stages.seen(self.plan, tables.delta, item, tables.seen(number))
            for number, item in enumerate(self.plan.distincts)
        ]
        columns_kept = ", ".join(stages.kept_columns(self.plan))
        self._insert_sql = f"INSERT INTO {tables.state} SELECT {columns_kept} FROM {tables.merged}"
        self._delete_sql = (
            f"DELETE FROM {tables.state} WHERE rowid IN (SELECT __row FROM {tables.merged} WHERE __row IS NOT NULL)"
        )

    def drop_scratch(self) -> None:
        if not self._by_arrow:
            super().drop_scratch()
            return
        for name in (self.tables.touched, self.tables.merged):
            self.store.unregister(bare(name))

    def merge(self, progress: Progress, sink: Sink) -> Progress:
        """Merge the delta into the kept groups, and emit what changed."""
        store, size = self.store, progress.state_rows
        if self.delta.batch.num_rows:
            progress = self._look_for_new(progress)
        merged = self._merge_by_arrow(size, sink) if self._by_arrow else self._merge_in_table(size, sink)
        gone = self._delete(merged.column("__row").drop_null(), size)
        came = store.run(self._insert_sql)
        sink.change(merged)
        return replace(progress, state_rows=size + came - gone)

    def _look_for_new(self, progress: Progress) -> Progress:
        """Tell which of the delta's rows bring a group a value that it has not had, and keep these values."""
        added = 0
        for item, sql in zip(self.plan.distincts, self._seen_sql, strict=True):
            rows = np.asarray(self.store.rows(sql, size=progress.seen_rows).column("q"))
            added += len(rows)
            batch = self.delta.batch
            new = pa.array(np.isin(np.asarray(batch.column("__seq")), rows))
            self.delta.batch = batch.set_column(batch.schema.get_field_index(item.column), item.column, new)
        return replace(progress, seen_rows=progress.seen_rows + added) if added else progress

    def _delete(self, rows: pa.ChunkedArray, size: int) -> int:
        """Delete kept rows, whose numbers are given; give how many."""
        if not len(rows):
            return 0
        if len(rows) == 1:  # found by its number, without a join
            return self.store.execute(f"DELETE FROM {self.tables.state} WHERE rowid = {rows[0].as_py()}")
        return self.store.run(self._delete_sql, size=size)

    def _merge_by_arrow(self, size: int, sink: Sink) -> pa.Table:
        """Take what is kept of the touched groups out of the database, and merge it there with the delta.

        A prepared statement that reads no table is not planned anew, which takes longer than all else in a small epoch.
        """
        apart = self._apart
        if 0 < size <= WHOLE_STATE_ROWS_MAX:
            self._touched.batch = self.store.rows(f"SELECT *, rowid AS __row FROM {self.tables.state}")
        elif size:
            if apart not in self._touched_sql:
                tables = self.tables
                self._touched_sql[apart] = stages.touched_groups(self.plan, tables.delta, tables.state, apart=apart)
            self._touched.batch = self.store.rows(self._touched_sql[apart], size=size)
        self._merged.batch = self.store.rows(self._merge(ordered=sink.shown))
        if size:
            self._touched.clear()
        return self._merged.batch

    def _merge_in_table(self, size: int, sink: Sink) -> pa.Table:
        merged = self.tables.merged
        self.store.run(f"DELETE FROM {merged}")
        self.store.run(f"INSERT INTO {merged} {self._merge(ordered=False)}", size=size)
        return self.read_merged(sink)

    @property
    def _apart(self) -> bool:
        """Tell whether the delta has so many rows that several queries' grouping sets are better taken one by one."""
        grouping = self.plan.grouping
        return grouping is not None and bool(grouping.arms) and self.delta.batch.num_rows > SETS_ROWS_MAX

    def _merge(self, *, ordered: bool) -> str:
        apart = self._apart
        if (ordered, apart) not in self._merge_sql:
            self._merge_sql[ordered, apart] = self._merged_groups(ordered=ordered, apart=apart)
        return self._merge_sql[ordered, apart]

    def read_merged(self, sink: Sink) -> pa.Table:
        """Read the table ``merged`` without the states."""
        assert self.plan.grouping is not None
        states = ", ".join(f"s{i}" for i in range(len(self.plan.grouping.parts)))
        keys = stages.result_keys(self.plan.grouping)
        order = f" ORDER BY {', '.join(keys)}" if sink.shown and keys else ""
        return self.store.rows(f"SELECT * EXCLUDE ({states}) FROM {self.tables.merged}{order}")

    def _merged_groups(self, *, ordered: bool, apart: bool = False) -> str:
        touched = self.tables.touched if self._by_arrow else None
        return stages.merged_groups(
            self.plan, self.tables.delta, self.tables.state, touched, ordered=ordered, apart=apart
        )


def returns(data_type: pa.DataType) -> bool:
    """Tell whether DuckDB takes a state that left it as an Arrow value of this type back as a state."""
    kinds = pa.types
    return any(test(data_type) for test in (kinds.is_integer, kinds.is_floating, kinds.is_string, kinds.is_decimal))


def merge_partials(operator: Operator, progress: Progress) -> Progress:
    """Merge the delta into a state that holds one row a group; leaves the new states in the scratch table `merged`.

    The old rows are deleted and new ones inserted: DuckDB updates scattered rows in place forty times more slowly
    (docs/decisions, "State is replaced, not updated").
    """
    grouping = operator.plan.grouping
    assert grouping is not None
    store, tables = operator.store, operator.tables
    columns = stages.group_columns(grouping)
    on = " AND ".join(f"s.{c} IS NOT DISTINCT FROM d.{c}" for c in columns) or "true"
    keys = "".join(f"d.{c}, " for c in columns)
    merged = ", ".join(f"{part.merged(f's.s{i}', f'd.s{i}')} AS s{i}" for i, part in enumerate(grouping.parts))
    names = ", ".join([*columns, *(f"s{i}" for i in range(len(grouping.parts)))])
    size = progress.state_rows
    store.run(f"DELETE FROM {tables.merged}")
    came = store.run(
        f"INSERT INTO {tables.merged} SELECT {keys}{merged}, s.rowid AS __row "
        f"FROM ({stages.partials(operator.plan, tables.delta)}) d LEFT JOIN {tables.state} s ON {on}",
        size=size,
    )
    gone = store.run(
        f"DELETE FROM {tables.state} WHERE rowid IN (SELECT __row FROM {tables.merged} WHERE __row IS NOT NULL)",
        size=size,
    )
    store.run(f"INSERT INTO {tables.state} SELECT {names} FROM {tables.merged}")
    return replace(progress, state_rows=size + came - gone)
