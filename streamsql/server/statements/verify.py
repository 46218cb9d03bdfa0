"""VERIFY MATERIALIZED VIEW: the view's query over the rows that are kept, beside the view, in one snapshot.

weight | <the view's columns>
1      | ...        ought to be in the view and is not        no row: the view is proven equal
-1     | ...        is in the view and ought not to be
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import duckdb

from streamsql.base.errors import NotInPrerequisiteState
from streamsql.base.types import INT8
from streamsql.catalog.objects import View
from streamsql.catalog.rights import require_read
from streamsql.engine.views import ContinuousQuery
from streamsql.plan import stages
from streamsql.plan.verification import answer_sql, difference_sql
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


async def execute(context: Context, statement: Verify, values: Values) -> Rows:
    found = await columns(context, statement, values)
    engine = context.engine

    def take() -> _Snapshot:
        view = engine.catalog.view(statement.name, statement.name_position + 1)
        query = engine.queries[view.name]
        return _Snapshot(view, query, engine.store.snapshot(query.tables.result))

    snapshot = await context.on_engine(take)
    try:
        sql = await context.reads.compute(lambda: _difference(context, snapshot))
    except BaseException:
        snapshot.cursor.close()
        raise
    return Rows(found, context.reads.stream(sql, found, context.cancel, snapshot.cursor), tag="VERIFY")


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
        rows_table = context.catalog.relation(query.plan.source).rows_table
        _check_kept(view, progress, rows_table, cursor)
    answer = answer_sql(query.plan, view.name, rows_table, committed_at, progress["closed_to"])
    return difference_sql(answer, query.result, stages.output_columns(query.plan))


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
