"""MERGE: rows of a table are changed, deleted and written by what a source has for them.

What is to be done is computed by one query in the session's transaction (`plan.merging`); then sequences number the new rows
that ask for it, and all is done to the rows at once (`server.written.merge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, StreamSQLError, WrongObjectType
from streamsql.base.types import WireType
from streamsql.catalog.objects import Table
from streamsql.catalog.rights import require
from streamsql.plan import merging
from streamsql.plan.adhoc import Scope, known_types
from streamsql.plan.parameters import infer_types, substituted
from streamsql.plan.places import located
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.server.numbering import check_always, numbering, take
from streamsql.server.results import Done
from streamsql.server.returning import committed
from streamsql.sql.statements import ColumnDefinition, Merge
from streamsql.sql.trees import position_of


def types_of(
    context: Context, statement: Merge, declared: Sequence[WireType | None], cursor: duckdb.DuckDBPyConnection
) -> tuple[WireType, ...]:
    """Give the types of the parameters."""
    return _types(context, statement, _target(context, statement), declared, context.scope(cursor))


async def execute(context: Context, statement: Merge, values: Values) -> Done:
    target = _target(context, statement)

    async def work() -> int:
        plan = await context.reads.compute(lambda: _planned(context, statement, target, values))
        plan = replace(plan, actions=await _numbered(context, target, plan))
        return (await context.reads.compute(lambda: written.merge(context, target, plan))).count

    try:
        alone = not (context.transaction.explicit or target.temporary)
        count = await committed(context, work) if alone else await work()
    except StreamSQLError as error:
        raise located(error, statement.tree, statement) from error
    return Done(f"MERGE {count}")


def _target(context: Context, statement: Merge) -> Table:
    position = position_of(statement.tree.this, statement)
    target = context.catalog.find(statement.name, position)
    if not isinstance(target, Table):
        raise WrongObjectType(
            f'cannot execute MERGE on relation "{target.bare}"',
            detail="It is not a table.",
            hint="MERGE changes rows of tables; a stream's rows are events",
            position=position,
        )
    return target


def _is_numbered(context: Context, target: Table) -> merging.IsNumbered:
    return lambda column: numbering(context, target, column) is not None


def _types(
    context: Context, statement: Merge, target: Table, declared: Sequence[WireType | None], scope: Scope
) -> tuple[WireType, ...]:
    clauses = merging.clauses_of(statement, statement.tree, target, _is_numbered(context, target))
    query = merging.actions_query(statement.tree, clauses, target)
    for column in list(query.find_all(exp.Column)):
        if column.name == merging.ROW:
            column.replace(exp.Literal.number(1))  # the table itself has no such column
    known = known_types(statement, scope)
    return tuple(infer_types(query, statement.parameter_count, declared, scope.describe, known=known))


def _planned(context: Context, statement: Merge, target: Table, values: Values) -> written.Merging:
    def actions(scope: Scope) -> tuple[str, list[merging.Clause]]:
        tree = statement.tree
        if statement.parameter_count:
            types = values.types or _types(context, statement, target, (), scope)
            tree = substituted(tree, types, values.texts or None)
        clauses = merging.clauses_of(statement, tree, target, _is_numbered(context, target))
        require(context.catalog, context.asker.role, target, "SELECT", *merging.verbs(clauses))
        _check_always(clauses, target)
        query = merging.actions_query(tree, clauses, target)
        merging.check_values(query, clauses, target, statement, scope)
        return merging.actions_sql(merging.guarded(query), clauses, target, statement, scope), clauses

    return written.planned(context, target, actions)


def _check_always(clauses: Sequence[merging.Clause], target: Table) -> None:
    """Raise GeneratedAlways where a clause writes into a column that only its sequence may number."""
    always = [c for c in target.columns if c.numbered is not None and c.numbered.always]
    for clause in clauses:
        written_to: list[ColumnDefinition] = [c for c in always if c.name in clause.values]
        if clause.verb == "INSERT":
            check_always(written_to)
        elif written_to:
            raise FeatureNotSupported(f'column "{written_to[0].name}" can only be updated to DEFAULT')


async def _numbered(context: Context, target: Table, plan: written.Merging) -> pa.Table:
    """Give the actions with the numbers of what sequences number."""
    actions = plan.actions
    for clause in plan.clauses:
        for name in clause.numbered:
            column = target.column(name)
            sequence = None if column is None else numbering(context, target, column)
            chosen = pc.equal(actions.column(merging.KIND), clause.number).combine_chunks()
            count = int(pc.sum(chosen).as_py() or 0)
            if sequence is None or not count:
                continue
            numbers = pa.array(await take(context, sequence, count), pa.int64())
            place = actions.schema.get_field_index(name)
            before = actions.column(place).combine_chunks().cast(pa.int64())
            actions = actions.set_column(place, name, pc.replace_with_mask(before, chosen, numbers))
    return actions
