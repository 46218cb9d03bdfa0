"""INSERT ... ON CONFLICT: rows into a table, each in place of the one with its key or not at all."""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import StreamSQLError
from streamsql.catalog.objects import Stream, Table
from streamsql.catalog.rights import require
from streamsql.engine import upserts
from streamsql.plan.parameters import substituted
from streamsql.plan.places import located
from streamsql.plan.upsert import conflict_sql
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, Rows
from streamsql.server.returning import and_committed
from streamsql.server.statements.insert import rows_of, types_of
from streamsql.sql.statements import Insert


async def execute(context: Context, statement: Insert, values: Values) -> Done | Rows:
    relation = context.catalog.relation(statement.name, statement.name_position + 1)
    _require(context, statement, relation)
    assert statement.conflict is not None
    clause: exp.Expr = statement.conflict
    if clause.find(exp.Parameter):
        types = values.types or await context.reads.run(lambda cursor: types_of(context, statement, (), cursor))
        clause = substituted(clause, types, values.texts or None)
    conflict = conflict_sql(statement, clause, relation, context.limits)
    assert isinstance(relation, Table)
    rows = await rows_of(context, statement, values, relation)
    try:
        if statement.returning is not None:
            return await and_committed(
                context, statement.returning, relation, "INSERT 0",
                lambda: written.upsert(context, relation, rows, conflict, returning=True),
            )  # fmt: skip
        if context.transaction.explicit or relation.temporary:
            count = (await context.reads.compute(lambda: written.upsert(context, relation, rows, conflict))).count
        else:
            count = await context.on_engine(lambda: upserts.upsert(context.engine, relation, rows, conflict))
    except StreamSQLError as error:
        raise located(error, statement.conflict, statement) from error
    return Done(f"INSERT 0 {count}")


def _require(context: Context, statement: Insert, relation: Stream | Table) -> None:
    """Raise unless who asks may do what the statement may do: as in PostgreSQL, it reads the key that it compares."""
    conflict = statement.conflict
    assert conflict is not None
    updates = bool(conflict.expressions)
    reads = updates or bool(conflict.args.get("conflict_keys"))
    wanted = ["INSERT", *(["UPDATE"] if updates else []), *(["SELECT"] if reads else [])]
    require(context.catalog, context.asker.role, relation, *wanted)
