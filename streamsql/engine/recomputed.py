"""A continuous query that is run again whenever what it reads has changed, and compared with its result.

    result    (a, 1) (b, 2)          run again    (a, 1) (b, 3)
    change    -(b, 2) +(b, 3)

Rows are compared as DISTINCT compares them, each as often as it occurs. An epoch costs what the query costs, however little
changed; in return any query that DuckDB answers can be kept, over rows that come and go.
"""

from __future__ import annotations

from dataclasses import replace

import duckdb

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.engine.changes import Change, Progress
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.store import Store
from streamsql.engine.translate import translate
from streamsql.engine.views import ContinuousQuery
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan, Recomputed


class RecomputeError(Exception):
    """A query could not be run over what it reads now."""

    def __init__(self, query: RecomputedQuery, error: StreamSQLError) -> None:
        super().__init__(error.message)
        self.query = query
        self.error = error


class RecomputedQuery(ContinuousQuery):
    """One query that is kept by recomputing it; between epochs its temporary tables are empty.

    Where the query fails on what it reads, its result stays as it was, and it is tried again with the next change.
    """

    @property
    def recomputed(self) -> Recomputed:
        assert self.plan.recomputed is not None
        return self.plan.recomputed

    def make(self) -> None:
        """Make the query's tables; `recompute` fills them."""
        self._store.execute(
            f"{self.tables.create(self.tables.result)} AS SELECT * FROM ({self.recomputed.at(0)}) LIMIT 0"
        )
        self.open_scratch()

    def open_scratch(self) -> None:
        result, tables = self.tables.result, self.tables
        self._store.execute(f"CREATE TEMP TABLE {tables.merged} AS SELECT * FROM {result} LIMIT 0")
        self._store.execute(
            f"CREATE TEMP TABLE {tables.changed} AS SELECT *, 0::BIGINT AS __weight FROM {result} LIMIT 0"
        )

    def drop_own(self) -> None:
        for table in (self.tables.merged, self.tables.changed, self.tables.result):
            self._store.execute(f"DROP TABLE IF EXISTS {table}")

    def close(self) -> None:
        """There is no name to let go of."""

    def recompute(self, epoch: int, now_us: int, rows_in: int = 0) -> Progress:
        """Run the query within the epoch's transaction; emit what changed. Raises RecomputeError."""
        self._begin(epoch, self.progress)
        tables, names, size = self.tables, ", ".join(stages.output_columns(self.plan)), self.progress.state_rows
        values = (now_us,) if self.recomputed.temporal else ()
        try:
            self._store.run(f"INSERT INTO {tables.merged} {self.recomputed.sql}", *values, size=size)
        except duckdb.Error as error:
            raise RecomputeError(self, translate(error)) from error
        difference = stages.weighed(stages.output_columns(self.plan), tables.merged, tables.result)
        changed = self._store.run(f"INSERT INTO {tables.changed} {difference}", size=size)
        progress = replace(self.progress, error=None, last_epoch=epoch, rows_in=self.progress.rows_in + rows_in)
        if changed:
            progress = self._write(progress, names)
        self._store.run(f"DELETE FROM {tables.merged}")
        self._store.run(f"DELETE FROM {tables.changed}")
        return progress

    def _write(self, progress: Progress, names: str) -> Progress:
        store, tables, size = self._store, self.tables, progress.state_rows
        self._changed = True
        columns = stages.output_columns(self.plan)
        same = " AND ".join(f"r.{c} IS NOT DISTINCT FROM c.{c}" for c in columns)
        equal = ", ".join(f"r.{c}" for c in columns)
        numbered = (
            f"SELECT r.rowid AS number, row_number() OVER (PARTITION BY {equal}) AS n, -c.__weight AS count "
            f"FROM {tables.result} AS r JOIN {tables.changed} AS c ON {same} WHERE c.__weight < 0"
        )
        gone = store.run(
            f"DELETE FROM {tables.result} WHERE rowid IN (SELECT number FROM ({numbered}) WHERE n <= count)", size=size
        )
        came = store.run(
            f"INSERT INTO {tables.result} SELECT {names} FROM {tables.changed}, unnest(range(__weight)) WHERE __weight > 0"
        )
        if self.log.wanted:
            self._emit(names)
        return replace(progress, rows_out=progress.rows_out + came, state_rows=size - gone + came)

    def _emit(self, names: str) -> None:
        if self.log.wants_whole:
            self._emitted.append(Change(self._epoch, self.result_rows(), whole=True))
        rows = self._store.arrow(
            f"SELECT {names}, sign(__weight)::TINYINT AS __weight FROM {self.tables.changed}, "
            f"unnest(range(abs(__weight))) ORDER BY {names}, __weight"
        )
        self._emit_weighted(rows)

    def would_change(self, now_us: int) -> bool:
        """Tell whether the query, which depends on the time, gives another result at this one."""
        columns = stages.output_columns(self.plan)
        difference = stages.weighed(columns, f"({self.recomputed.sql})", self.tables.result)
        try:
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
