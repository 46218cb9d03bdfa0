"""VERIFY MATERIALIZED VIEW: the view's query over the rows that are kept, beside the view, in one snapshot.

weight | <the view's columns>
1      | ...        ought to be in the view and is not        no row: the view is proven equal
-1     | ...        is in the view and ought not to be
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import duckdb

from streamsql.base.errors import FeatureNotSupported, NotInPrerequisiteState
from streamsql.base.types import INT8
from streamsql.catalog.objects import RESULTS_SCHEMA, View, quoted
from streamsql.catalog.rights import require_read
from streamsql.engine.views import ContinuousQuery
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.origins import ViewScan
from streamsql.plan.verification import SESSIONS, answer_sql, difference_sql, sessions_of, timed_rows_sql
from streamsql.server.context import Context, Values
from streamsql.server.results import ResultColumn, Rows
from streamsql.sql.statements import Verify


async def columns(context: Context, statement: Verify, values: Values) -> list[ResultColumn]:
    view = context.catalog.view(statement.name, statement.name_position + 1)
    require_read(context.catalog, context.asker.role, view)
    return [ResultColumn("weight", INT8), *(ResultColumn.of(c.name, c.type) for c in view.columns)]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    view: View
    query: ContinuousQuery
    cursor: duckdb.DuckDBPyConnection
    result: str


async def execute(context: Context, statement: Verify, values: Values) -> Rows:
    found = await columns(context, statement, values)
    engine = context.engine

    def take() -> _Snapshot:
        view = engine.catalog.view(statement.name, statement.name_position + 1)
        query = engine.queries[view.name]
        return _Snapshot(view, query, engine.store.snapshot(query.tables.result), query.result)

    snapshot = await context.on_engine(take)
    try:
        sql = await context.reads.compute(lambda: _difference(context, snapshot))
    except BaseException:
        snapshot.cursor.close()
        raise
    return Rows(found, context.reads.stream(sql, found, context.cancel, snapshot.cursor), tag="VERIFY")


def _forgets(plan: ContinuousPlan) -> bool:
    """Tell whether the time that the view's query was run for is a watermark."""
    return plan.recomputed is not None and bool(plan.recomputed.marks)


def _difference(context: Context, snapshot: _Snapshot) -> str:
    """Give the SQL of what differs. Raises where the rows that are kept cannot tell."""
    view, query, cursor = snapshot.view, snapshot.query, snapshot.cursor
    committed_at, text = cursor.execute(
        "SELECT coalesce(epoch_us(committed_at), 0), progress FROM _engine.epoch"
    ).fetchall()[0]
    progress = next(v for v in json.loads(text)["views"] if v["name"] == view.name)
    if progress["error"] is not None:
        raise NotInPrerequisiteState(f'materialized view "{view.name}" has stopped: {progress["error"]}')
    rows_table = ""
    if query.plan.recomputed is None:
        rows_table = _rows_of(context, query.plan)
        _check_kept(view, progress, rows_table, cursor)
        _check_moves(view, progress, query)
    window = query.plan.window
    if window is not None and window.session:
        rows = cursor.sql(timed_rows_sql(query.plan, view.name, rows_table)).to_arrow_table()
        cursor.register(SESSIONS, sessions_of(rows, window.size_us))
    time = progress["computed_at"] if _forgets(query.plan) else committed_at
    answer = answer_sql(query.plan, view.name, rows_table, time, progress["closed_to"])
    return difference_sql(answer, snapshot.result, stages.output_columns(query.plan))


def _check_moves(view: View, progress: dict[str, int], query: ContinuousQuery) -> None:
    """Raise where which rows counted cannot be told from the rows alone, because time moved on without them."""
    window = query.plan.window
    if window is None or window.tumbling:
        return
    if query.plan.origin is not None:
        raise FeatureNotSupported(
            "a view of hopping, cumulating or session windows over a view cannot be verified yet",
            detail="which rows were in time is told by the watermark of the view below, at each row",
            hint="compare it with an ad-hoc SELECT",
        )
    if progress.get("idle_moves", 0):
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: its stream was idle',
            detail="idle_timeout has moved the watermark on, and nothing tells between which rows",
            hint="views of tumbling windows, and of none, can be verified all the same",
        )


def _rows_of(context: Context, plan: ContinuousPlan) -> str:
    """Give the relation of the rows that a view has read. Raises FeatureNotSupported."""
    if plan.origin is None:
        return context.catalog.relation(plan.source).rows_table
    if not isinstance(plan.origin, ViewScan):
        raise FeatureNotSupported(
            "a view over a subquery, a union or a join in append mode cannot be verified yet",
            hint="compare it with an ad-hoc SELECT",
        )
    columns = ", ".join(f"o{i} AS {quoted(c.name)}" for i, c in enumerate(plan.origin.columns))
    table = f"{RESULTS_SCHEMA}.{quoted(plan.origin.name)}"
    return f"(SELECT {columns}, rowid + 1 AS __seq, NULL AS __arrived_at FROM {table})"


def _check_kept(view: View, progress: dict[str, int], rows_table: str, cursor: duckdb.DuckDBPyConnection) -> None:
    kept = int(cursor.execute(f"SELECT count(*) FROM {rows_table}").fetchall()[0][0])
    if kept < progress["rows_in"]:
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: rows that it has read are gone',
            detail=f"retention has kept {kept} of the {progress['rows_in']} rows",
            hint="verify views of streams that keep their rows: WITH (retention = 'forever')",
        )
    ledger = cursor.execute("SELECT count(*) FROM _engine.late_rows WHERE view = ?", [view.name]).fetchall()
    if int(ledger[0][0]) < progress["rows_late"]:
        raise NotInPrerequisiteState(
            f'materialized view "{view.name}" cannot be verified: the ledger of late rows has dropped some of its rows',
            hint="start the server with a larger --limit late_rows_max=N",
        )
