"""A continuous query that is run again whenever what it reads has changed, and compared with its result.

    result    (a, 1) (b, 2)          run again    (a, 1) (b, 3)
    change    -(b, 2) +(b, 3)

Rows are compared as DISTINCT compares them, each as often as it occurs. An epoch costs what the query costs, however little
changed; in return any query that DuckDB answers can be kept, over rows that come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import duckdb
import pyarrow.compute as pc

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.engine.changes import Change, Changes, Progress, weighted_rows
from streamsql.engine.flow import mark_of
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.store import Delta, Store
from streamsql.engine.translate import translate
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.watermark import NEVER
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan, Recomputed
from streamsql.plan.touched.plans import TOUCHED, Keyed, Linear, Touched
from streamsql.plan.touched.top import INNER

# With more touched keys than this, and than this share of the result's rows, running the whole query again is as fast.
TOUCHED_KEYS_MIN = 1_000
TOUCHED_SHARE_MAX = 0.3

_FAST_TYPES = frozenset({"BIGINT", "DATE", "DOUBLE", "INTEGER", "SMALLINT", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})


class RecomputeError(Exception):
    """A query could not be run over what it reads now."""

    def __init__(self, query: RecomputedQuery, error: StreamSQLError) -> None:
        super().__init__(error.message)
        self.query = query
        self.error = error


class RecomputedQuery(ContinuousQuery):
    """One query that is kept by recomputing it, or the part of it that an epoch touches (`plan.touched`).

    Between epochs its temporary tables are empty. Where the query fails on what it reads, its result stays as it was, and it
    is tried again with the next change.
    """

    def __init__(
        self, query_id: int, name: str, plan: ContinuousPlan, store: Store, limits: Limits, *, temporary: bool
    ) -> None:
        super().__init__(query_id, name, plan, store, limits, temporary=temporary)
        self._limits = limits
        self._deltas: dict[str, Delta] = {}
        self._now_us = NEVER
        self._inner = self._inner_query()

    @property
    def recomputed(self) -> Recomputed:
        assert self.plan.recomputed is not None
        return self.plan.recomputed

    @property
    def _touched(self) -> str:
        """The temporary table of the touched keys."""
        return f'"__touched {self.id}"'

    @property
    def _columns(self) -> list[str]:
        """The columns of the result's table: outputs, and hidden ones."""
        return [*stages.output_columns(self.plan), *(f"h{i}" for i in range(self.recomputed.hidden))]

    def make(self) -> None:
        """Make the query's tables; `recompute` fills them."""
        self._create_result()
        if self._inner is not None:
            self._inner._create_result()
        self.open_scratch()

    def _create_result(self) -> None:
        whole = replace(self.recomputed, sql=self.recomputed.whole).at(0)
        self._store.execute(f"{self.tables.create(self.tables.result)} AS SELECT * FROM ({whole}) LIMIT 0")

    def open_scratch(self) -> None:
        """Make the temporary tables of a query whose result is there already, or is in a shape of another version."""
        if not self.temporary and self._existing_columns() != self._columns:
            whole = replace(self.recomputed, sql=self.recomputed.whole).at(0)
            self._store.execute(f"CREATE OR REPLACE TABLE {self.tables.result} AS {whole}")
        result, tables = self.tables.result, self.tables
        self._store.execute(f"CREATE OR REPLACE TEMP TABLE {tables.merged} AS SELECT * FROM {result} LIMIT 0")
        self._store.execute(
            f"CREATE OR REPLACE TEMP TABLE {tables.changed} AS SELECT *, 0::BIGINT AS __weight FROM {result} LIMIT 0"
        )
        self._open_part()
        if self._inner is not None:
            self._inner.open_scratch()
            rows = self._store.fetch(f"SELECT count(*) FROM {self._inner.tables.result}")[0][0]
            self._inner.progress = Progress(state_rows=rows)

    def _existing_columns(self) -> list[str]:
        try:
            return [c.name for c in self._store.describe(f"FROM {self.tables.result}")]
        except StreamSQLError:
            return []

    def _open_part(self) -> None:
        part = self.recomputed.part
        if isinstance(part, Keyed):
            columns = ", ".join(f"{name} {type_}" for name, type_ in part.table_columns)
            self._store.execute(f"CREATE OR REPLACE TEMP TABLE {self._touched} ({columns})")
        self._deltas = {}
        for scan in part.scans if part is not None else ():
            if scan.relation not in self._deltas:
                empty = self._store.arrow(f"SELECT *, 0::BIGINT AS __weight FROM {scan.current} LIMIT 0")
                self._deltas[scan.relation] = Delta(empty)
                self._store.register(self._changes_name(scan.number), self._deltas[scan.relation])

    def reopen(self) -> None:
        """Take note that a table which the query reads has other columns; those that it reads are as they were."""
        self._open_part()
        if self._inner is not None:
            self._inner.reopen()

    def change_plan(self, plan: ContinuousPlan) -> None:
        """Take on a plan with the same outputs, within a transaction; `recompute` must follow, over all that it reads."""
        self._drop_inner()
        self.plan = plan
        self._inner = self._inner_query()
        if self._existing_columns() != self._columns:
            # hidden columns are filled in by recomputing: no row has NULL where it has a key, or it is the same
            names = [*stages.output_columns(plan)]
            described = self._store.describe(self.recomputed.whole)[len(names) :]
            names += [f"NULL::{c.type} AS {c.name}" for c in described]
            self._store.execute(
                f"CREATE OR REPLACE TABLE {self.tables.result} AS SELECT {', '.join(names)} FROM {self.tables.result}"
            )
        if self._inner is not None:
            self._inner._create_result()
        self.open_scratch()

    def restore_plan(self, plan: ContinuousPlan) -> None:
        """Take the plan back that it had before `change_plan`, whose transaction was rolled back."""
        self.plan = plan
        self._inner = self._inner_query()
        self.open_scratch()

    def _inner_query(self) -> RecomputedQuery | None:
        if self.recomputed.inner is None:
            return None
        made = RecomputedQuery(
            -self.id, self.name, self.recomputed.inner, self._store, self._limits, temporary=self.temporary
        )
        made.tables = replace(made.tables, result=self.tables.state)
        return made

    def _drop_inner(self) -> None:
        if self._inner is not None:
            self._inner.tables = replace(self._inner.tables, result=self.tables.state)
            self._inner.drop()

    def _changes_name(self, source: int) -> str:
        return f"__changes {self.id} {source}"

    def _sql(self, sql: str) -> str:
        """Give SQL of the plan with this query's own names."""
        return sql.replace(TOUCHED, self._touched).replace('"__changes ', f'"__changes {self.id} ')

    def drop_own(self) -> None:
        self._drop_inner()
        for table in (self.tables.merged, self.tables.changed, self._touched, self.tables.result):
            self._store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
        part = self.recomputed.part
        for number in {s.number for s in part.scans} if part is not None else ():
            self._store.unregister(self._changes_name(number))

    def recompute(self, epoch: int, now_us: int, changes: Changes | None = None, rows_in: int = 0) -> Progress:
        """Run the query within the epoch's transaction, and emit what changed. Raises RecomputeError.

        `changes` are the rows that came to its sources and went from them; None, or None for one of them: not known.
        """
        self._begin(epoch, self.progress)
        self._now_us = now_us
        progress = replace(self.progress, error=None, last_epoch=epoch, rows_in=self.progress.rows_in + rows_in)
        progress = replace(progress, computed_at=now_us if self.recomputed.temporal else NEVER)
        try:
            changed, only_more = self._find(changes)
        except duckdb.Error as error:
            raise RecomputeError(self, translate(error)) from error
        if changed:
            progress = self._write(progress, only_more)
            self._store.run(f"DELETE FROM {self.tables.changed}")
        return progress

    def _find(self, changes: Changes | None) -> tuple[int, bool]:
        """Put what the result changes by into `changed`; gives how many different rows, and whether none goes."""
        part = self.recomputed.part
        if self._inner is not None:
            return self._find_over_inner(self._inner, changes), False
        if part is None or changes is None or self._must_be_whole or None in changes.values():
            return self._find_whole(), False
        known = {name: rows for name, rows in changes.items() if rows is not None and rows.num_rows}
        if not known and not self.recomputed.temporal:
            return 0, True
        try:
            for name, rows in known.items():
                delta = self._deltas[name]
                delta.batch = rows.rename_columns(delta.batch.schema.names).cast(delta.batch.schema)
            if isinstance(part, Linear):
                only_more = all(pc.min(rows.column("__weight")).as_py() > 0 for rows in known.values())
                return self._find_linear(part, frozenset(known)), only_more
            return self._find_touched(part, frozenset(known)), False
        finally:
            for delta in self._deltas.values():
                delta.clear()

    @property
    def _must_be_whole(self) -> bool:
        """Tell whether the result is not that of the last epoch."""
        return self.progress.error is not None or (self.recomputed.temporal and self.progress.computed_at == NEVER)

    @property
    def _now(self) -> tuple[int, ...]:
        """The values of ``$1`` in the query: the time of the epoch under way, if it asks for it."""
        return (self._now_us,) if self.recomputed.temporal else ()

    def _find_over_inner(self, inner: RecomputedQuery, changes: Changes | None) -> int:
        inner.progress = replace(inner.progress, error=self.progress.error)
        try:
            inner.progress = inner.recompute(self._epoch, self._now_us, changes)
        except RecomputeError as failure:
            raise RecomputeError(self, failure.error) from failure
        if not inner.changed and self.progress.error is None:
            return 0
        return self._compare(self.recomputed.over_inner.replace(INNER, inner.tables.result))

    def _find_whole(self) -> int:
        return self._compare(self.recomputed.whole, *self._now)

    def _compare(self, sql: str, *values: int) -> int:
        tables, size = self.tables, self.progress.state_rows
        self._store.run(f"INSERT INTO {tables.merged} {sql}", *values, size=size)
        difference = stages.weighed(self._columns, tables.merged, tables.result)
        changed = self._store.run(f"INSERT INTO {tables.changed} {difference}", size=size)
        self._store.run(f"DELETE FROM {tables.merged}")
        return changed

    def _find_linear(self, part: Linear, changed: frozenset[str]) -> int:
        names = ", ".join(self._columns)
        added = (
            f"SELECT {names}, sum(__weight)::BIGINT FROM ({self._sql(part.difference(changed))}) AS d "
            f"GROUP BY {names} HAVING sum(__weight) <> 0"
        )
        return self._store.run(f"INSERT INTO {self.tables.changed} {added}", size=self.progress.state_rows)

    def _find_touched(self, part: Keyed, changed: frozenset[str]) -> int:
        store, size = self._store, self.progress.state_rows
        times = (*self._now, self.progress.computed_at) if part.crossing else ()
        touched = store.run(f"INSERT INTO {self._touched} {self._sql(part.touched(changed))}", *times, size=size)
        if touched > max(TOUCHED_KEYS_MIN, size * TOUCHED_SHARE_MAX):
            count = self._find_whole()
        else:
            old = self._near(self._touched, part.meets("r", "t"), self._sql(part.near))
            difference = stages.weighed(self._columns, f"({self._sql(part.again)})", old)
            count = store.run(f"INSERT INTO {self.tables.changed} {difference}", *self._now, size=size)
        store.run(f"DELETE FROM {self._touched}")  # where the query fails, the transaction takes them back
        return count

    def _near(self, other: str, on: str, cheap: str = "") -> str:
        """SQL of the result's rows ``r`` that meet a condition with some row of another relation, ``t``, with their ``rowid``.

        The numbers of the rows are found first: reading all columns of all rows takes twice as long. `cheap` is a condition
        on the result's columns that is looked at before.
        """
        result = self.tables.result
        rows = f"(SELECT *, rowid FROM {result} WHERE {cheap})" if cheap else result
        return (
            f"(SELECT *, rowid AS __row FROM {result} WHERE rowid IN "
            f"(SELECT r.rowid FROM {rows} AS r SEMI JOIN {other} AS t ON {on}))"
        )

    def _narrow(self) -> list[str]:
        """Choose columns of the result by which its rows are looked for: its keys, or what compares fast."""
        part = self.recomputed.part
        if isinstance(part, Keyed):
            return list(dict.fromkeys(part.places))
        fixed = [f"o{i}" for i, o in enumerate(self.plan.outputs) if o.type in _FAST_TYPES]
        return fixed[:2] or ["o0"]

    def _write(self, progress: Progress, only_more: bool) -> Progress:
        store, tables, size = self._store, self.tables, progress.state_rows
        self._changed = True
        names, gone = ", ".join(self._columns), 0
        if not only_more:
            on = " AND ".join(f"t.{c} IS NOT DISTINCT FROM r.{c}" for c in self._narrow())
            near = self._near(f"(FROM {tables.changed} WHERE __weight < 0)", on)
            same = " AND ".join(f"r.{c} IS NOT DISTINCT FROM c.{c}" for c in self._columns)
            equal = ", ".join(f"r.{c}" for c in self._columns)
            numbered = (
                f"SELECT r.__row AS number, row_number() OVER (PARTITION BY {equal}) AS n, -c.__weight AS count "
                f"FROM {near} AS r JOIN {tables.changed} AS c ON {same} WHERE c.__weight < 0"
            )
            gone = store.run(
                f"DELETE FROM {tables.result} WHERE rowid IN (SELECT number FROM ({numbered}) WHERE n <= count)",
                size=size,
            )
        came = store.run(
            f"INSERT INTO {tables.result} SELECT {names} FROM {tables.changed}, unnest(range(__weight)) WHERE __weight > 0"
        )
        if self.log.wanted:
            self._emit(", ".join(stages.output_columns(self.plan)))
        return replace(progress, rows_out=progress.rows_out + came, state_rows=size - gone + came)

    def _emit(self, names: str) -> None:
        if self.log.wants_whole:
            self.emitted.append(Change(self._epoch, self.result_rows(), whole=True))
        # rows that differ in hidden columns alone are no change to those who look on
        seen = f"SELECT {names}, sum(__weight)::BIGINT AS __weight FROM {self.tables.changed} GROUP BY {names}"
        changed = f"({seen})" if self.recomputed.hidden else self.tables.changed
        rows = self._store.arrow(
            f"SELECT {names}, sign(__weight)::TINYINT AS __weight FROM {changed} AS c, "
            f"unnest(range(abs(__weight))) ORDER BY {names}, __weight"
        )
        self._emit_weighted(rows)

    def time(self, now_us: int, largest: Callable[[str], int]) -> int:
        """Give the time that the query is run for: the clock's or, of one that forgets, its watermark, which never goes back.

        `largest` gives the largest event time of a stream.
        """
        marks = [mark_of(largest(name), delay) for name, delay in self.recomputed.marks]
        return max(self.progress.computed_at, min(marks)) if marks else now_us

    def would_change(self, now_us: int) -> bool:
        """Tell whether the query, which depends on the time, gives another result at this one."""
        part, before = self.recomputed.part, self.progress.computed_at
        columns = stages.output_columns(self.plan)
        difference = stages.weighed(columns, f"({self.recomputed.sql})", self.tables.result)
        try:
            if isinstance(part, Touched) and not self._must_be_whole:
                return bool(self._store.rows(f"{part.crossed} LIMIT 1", now_us, before).num_rows)
            return bool(self._store.rows(f"{difference} LIMIT 1", now_us).num_rows)
        except duckdb.Error:
            return self.progress.error is None  # the epoch will tell

    def snapshot_query(self) -> str:
        names = ", ".join(stages.output_columns(self.plan))
        return f"SELECT {names} FROM {self.tables.result} ORDER BY {names}"


def query_of(
    query_id: int, name: str, plan: ContinuousPlan, store: Store, limits: Limits, *, temporary: bool
) -> ContinuousQuery:
    """Make the query that a plan asks for."""
    if plan.origin is not None:
        return OriginQuery(query_id, name, plan, store, limits, temporary=temporary)
    kind = ContinuousQuery if plan.recomputed is None else RecomputedQuery
    return kind(query_id, name, plan, store, limits, temporary=temporary)


def recompute_readers(
    queries: Mapping[str, ContinuousQuery],
    epoch: int,
    now: int,
    changed: dict[str, int],
    broken: set[str],
    rows: Changes,
    largest: Callable[[str], int],
) -> list[tuple[ContinuousQuery, Progress]]:
    """Run the queries again that read what has changed, but for the broken ones.

    `changed` are names, each with the number of rows that came; `rows` are these rows, and those that went, as far as known;
    `largest` gives the largest event time of a stream.
    A query is made after what it reads, so one pass in the order of their making sees every change.
    """
    changed, rows = dict(changed), dict(rows)
    found: list[tuple[ContinuousQuery, Progress]] = []
    for query in queries.values() if changed else ():
        if isinstance(query, RecomputedQuery):
            reads = [s for s in query.plan.sources if s in changed]
            if query.name in broken or not (reads or query.name in changed):
                continue
            known = {name: rows.get(name) for name in reads}
            found.append(
                (query, query.recompute(epoch, query.time(now, largest), known, sum(changed[s] for s in reads)))
            )
            if query.changed:
                changed[query.name] = 0
        if query.name in changed:
            rows[query.name] = weighted_rows(query.emitted) if query.log.followed else None
    return found


def needed_rows(queries: Iterable[ContinuousQuery]) -> tuple[set[str], dict[str, int]]:
    """Give the streams whose rows are read again: those that are needed whole, and those with the event time from which on."""
    whole: set[str] = set()
    since: dict[str, int] = {}
    for query in queries:
        if isinstance(query, RecomputedQuery):
            marks, at = dict(query.recomputed.marks), query.progress.computed_at
            whole.update(n for n in query.plan.sources if n not in marks)
            for name in marks:
                first = NEVER if at == NEVER else at - (query.plan.state_ttl_us or 0)
                since[name] = min(since.get(name, first), first)
    return whole, since
