"""Where what an operator emits goes: to the result's table and, if somebody follows, to the change log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.engine.changes import Change, Progress, sorts
from streamsql.engine.operators.base import Operator, Sink, Tables
from streamsql.engine.outflow import Outflow
from streamsql.engine.store import Store
from streamsql.engine.subscriptions import ChangeLog
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan

# Up to so many rows in an epoch, a view's new rows are sorted although nobody follows them: it costs next to nothing,
# and a person who reads the table finds it in order.
ORDERED_ROWS_MAX = 4_096


MASK = npt.NDArray[np.bool_]


class Shown:
    """Which of the merged groups go as they were (`gone`), and which come as they are."""

    def __init__(self, gone: MASK, came: MASK) -> None:
        self.gone = gone
        self.came = came
        self.count = int(np.count_nonzero(came))
        self.any = bool(self.count or gone.any())


def mask_of(column: pa.ChunkedArray) -> MASK:
    """Give a column of booleans, NULL as false."""
    found: MASK = column.fill_null(False).to_numpy()
    return found


class Results(Sink):
    """The part of a continuous query (`engine.views`) that takes what is emitted in an epoch."""

    plan: ContinuousPlan
    tables: Tables
    temporary: bool
    keeps_result: bool
    log: ChangeLog
    out: Outflow
    progress: Progress
    shared: Results | None
    _store: Store
    _operator: Operator
    _arrived: int
    _epoch: int
    emitted: list[Change]
    _rows_out: int
    _changed: bool

    def _result_shape(self) -> str:
        grouping = self.plan.grouping
        if grouping is None:
            return stages.linear_result(self.plan, self.tables.delta)
        groups = stages.whole_windows(self.plan, self.tables.delta)
        if not self.plan.retracts:
            return stages.result(self.plan, groups, ordered=False)
        return f"SELECT * EXCLUDE (__shown) FROM ({stages.result(self.plan, groups, with_keys=True)})"

    def append(self, groups: str, *values: int) -> int:
        # what is shown comes in the order of its keys; a table has no order, and sorting costs as much as grouping, so
        # that a large epoch's readers sort for themselves where Arrow can
        if self.out.wanted:
            return self._append(stages.result(self.plan, groups, with_end=True), *values)
        if self.shown and self._arrived > ORDERED_ROWS_MAX:
            return self._append(stages.result(self.plan, groups, keys_last=True), *values, unordered=True)
        ordered = self._arrived <= ORDERED_ROWS_MAX
        return self._append(stages.result(self.plan, groups, ordered=ordered), *values)

    def append_rows(self, sql: str) -> int:
        return self._append(sql)

    @property
    def shown(self) -> bool:
        return self.temporary or self.log.wanted or self.out.wanted

    @property
    def handed_on(self) -> bool:
        return self.out.wanted

    def _append(self, sql: str, *values: int, unordered: bool = False) -> int:
        """Emit what a query gives; `unordered` rows have the columns of their order after the outputs."""
        size = self.progress.state_rows
        if not self.shown:
            count = self._store.run(f"INSERT INTO {self.tables.result} {sql}", *values, size=size)
            self._rows_out += count
            return count
        rows = self._store.rows(sql, *values, size=size)
        if rows.num_rows:
            names = stages.output_columns(self.plan)
            if self.out.wanted:
                self.out.emit(rows)
            change = Change(self._epoch, rows.select(names))
            if unordered:
                change = self._with_order(rows, names)
            if self.keeps_result:
                self._store.insert(self.tables.result, change.rows)
            self.emitted.append(change)
        self._rows_out += rows.num_rows
        return int(rows.num_rows)

    def _with_order(self, rows: pa.Table, names: list[str]) -> Change:
        keys = rows.select(stages.order_columns(self.plan))
        if all(sorts(field.type) for field in keys.schema):
            return Change(self._epoch, rows.select(names), order=keys)
        self._store.register("__emitted", rows)
        order = ", ".join(keys.column_names)
        return Change(self._epoch, self._store.arrow(f"SELECT {', '.join(names)} FROM __emitted ORDER BY {order}"))

    def change(self, merged: pa.Table) -> None:
        changed = mask_of(merged.column("__changed"))
        gone = changed & mask_of(merged.column("__was_shown"))
        came = changed & mask_of(merged.column("__shown"))
        self.show(merged, range(len(self.plan.outputs)), Shown(gone, came))

    def show(self, merged: pa.Table, outputs: Sequence[int], shown: Shown) -> None:
        """Emit changed groups: `outputs` are the places of the query's own columns among those of `merged`."""
        self._rows_out += shown.count
        if not shown.any:
            return
        self._changed = True
        if not self.log.wanted:
            return
        names = stages.output_columns(self.plan)
        gone, came = shown.gone, shown.came
        old = merged.select([f"old_o{i}" for i in outputs]).rename_columns(names).filter(pa.array(gone))
        new = merged.select([f"o{i}" for i in outputs]).rename_columns(names).filter(pa.array(came))
        rows = pa.concat_tables([old, new])
        # the order of the groups, the old values of each before the new
        at = np.concatenate([2 * np.flatnonzero(gone), 2 * np.flatnonzero(came) + 1])
        weights = np.repeat(np.array([-1, 1], np.int8), [old.num_rows, rows.num_rows - old.num_rows])
        order = np.argsort(at)
        self.emitted.append(Change(self._epoch, rows.take(order), pa.array(weights[order])))

    def _emit_weighted(self, changes: pa.Table) -> None:
        weights = changes.column("__weight").combine_chunks()
        self.emitted.append(Change(self._epoch, changes.drop_columns(["__weight"]), weights))

    def update(self, groups: str, *values: int) -> int:
        store, grouping, result, changed = self._store, self.plan.grouping, self.tables.result, self.tables.changed
        assert grouping is not None
        keys = stages.result_keys(grouping)
        names = [f"o{i}" for i in range(len(self.plan.outputs))]
        on = " AND ".join(f"r.{k} IS NOT DISTINCT FROM f.{k}" for k in keys) or "true"
        same = " AND ".join(f"r.{n} IS NOT DISTINCT FROM f.{n}" for n in names)
        old = ", ".join(f"r.{n} AS old_{n}" for n in names)
        fresh = stages.result(self.plan, groups, with_keys=True)
        columns = ", ".join(f"f.{c}" for c in [*keys, *names, "__shown"])
        size = self.progress.rows_out
        store.run(f"DELETE FROM {changed}")
        touched = store.run(
            f"INSERT INTO {changed} SELECT {columns}, r.rowid AS __row, {old} FROM ({fresh}) AS f "
            f"LEFT JOIN {result} AS r ON {on} "
            f"WHERE CASE WHEN r.rowid IS NULL THEN f.__shown ELSE NOT (f.__shown AND {same}) END",
            *values,
            size=size,
        )
        if not touched:
            return 0
        gone = store.run(
            f"DELETE FROM {result} WHERE rowid IN (SELECT __row FROM {changed} WHERE __row IS NOT NULL)", size=size
        )
        came = store.run(f"INSERT INTO {result} SELECT {', '.join([*keys, *names])} FROM {changed} WHERE __shown")
        if self.log.wanted:
            self._emit_weighted(self._changes(keys, names))
        self._rows_out += came
        self._changed = self._changed or gone + came > 0
        return gone + came

    def _changes(self, keys: list[str], names: list[str]) -> pa.Table:
        """Read what `update` changed as rows that went and rows that came."""
        changed = self.tables.changed
        return self._store.rows(
            f"SELECT {', '.join(names)}, __weight FROM ("
            f"SELECT {', '.join([*keys, *(f'old_{n} AS {n}' for n in names)])}, (-1)::TINYINT AS __weight "
            f"FROM {changed} WHERE __row IS NOT NULL UNION ALL "
            f"SELECT {', '.join([*keys, *names])}, 1::TINYINT FROM {changed} WHERE __shown) "
            f"ORDER BY {', '.join(keys) or '1'}, __weight"
        )

    def result_rows(self) -> pa.Table:
        """Read the whole result, in the order of its keys."""
        return self._store.arrow(self.snapshot_query())

    def result_of(self, member: Results) -> str:  # noqa: ARG002  # a query by itself has no members
        """What holds the result of a query that this one takes rows in for."""
        return self.result

    @property
    def result(self) -> str:
        """What holds the result, as it stands in FROM: the groups' keys, where there are groups, and ``o0``.. ."""
        if self.shared is not None:
            return self.shared.result_of(self)
        if not self._operator.shows_state:
            return self.tables.result
        assert self.plan.grouping is not None
        columns = ", ".join([*stages.result_keys(self.plan.grouping), *stages.output_columns(self.plan)])
        kept = f"SELECT {columns} FROM {self.tables.state} WHERE __shown"
        return f"({kept} UNION ALL SELECT {columns} FROM {self.tables.result})"

    def snapshot_query(self) -> str:
        """SQL that reads the whole result, in the order of its keys."""
        keys = stages.result_keys(self.plan.grouping) if self.plan.grouping and self.plan.retracts else []
        order = f" ORDER BY {', '.join(keys)}" if keys else ""
        return f"SELECT {', '.join(stages.output_columns(self.plan))} FROM {self.result}{order}"
