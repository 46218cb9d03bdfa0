"""SELECT ... FOR UPDATE and FOR SHARE: rows that nobody else has changed when the transaction commits.

Transactions do not wait for each other here: of two that take the same row the first to commit is right, and the other fails
with 40001, as with SERIALIZABLE in PostgreSQL (docs/decisions, "Transactions hand over their outcome"). So rows that are locked
become part of the transaction's outcome as they are, as if an UPDATE had changed nothing: then COMMIT finds out. Outside of a
transaction block there is nothing to hold.

Specification: https://www.postgresql.org/docs/15/sql-select.html#SQL-FOR-UPDATE-SHARE
"""

from __future__ import annotations

from functools import partial

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, UndefinedTable, WrongObjectType
from streamsql.catalog.objects import Table, View
from streamsql.plan.adhoc import change_tree
from streamsql.plan.parameters import substituted
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.sql.statements import Query, RowLock, Update

_NOT_WITH = {
    "group": "GROUP BY clause", "having": "HAVING clause", "distinct": "DISTINCT clause", "windows": "window functions",
}  # fmt: skip


async def hold(context: Context, query: Query, values: Values) -> None:
    """Hold the rows that a query locks, before it reads them. Raises StreamSQLError."""
    tree = query.tree
    if query.parameter_count and values.texts is not None:
        tree = substituted(tree, values.types, values.texts)
    for lock in query.locks:
        for table, named in _targets(context, tree, lock, query):
            if context.transaction.explicit and not table.temporary:
                update = _update(tree, table, named)
                statement = Update(query.text, query.position, name=table.name, tree=update)
                resolve = partial(change_tree, update, statement, table)
                await context.reads.compute(partial(written.hold, context, table, resolve))


def _targets(context: Context, tree: exp.Expr, lock: RowLock, query: Query) -> list[tuple[Table, exp.Table]]:
    """Give the tables whose rows are locked. Raises in PostgreSQL's words where rows cannot be told."""
    position = query.position + 1
    if not isinstance(tree, exp.Select):
        raise FeatureNotSupported(f"{lock.strength} is not allowed with UNION/INTERSECT/EXCEPT", position=position)
    refused = next((shown for key, shown in _NOT_WITH.items() if tree.args.get(key)), None)
    if refused is None and any(item.find(exp.AggFunc) for item in tree.expressions):
        refused = "aggregate functions"
    if refused is not None:
        raise FeatureNotSupported(f"{lock.strength} is not allowed with {refused}", position=position)
    from_ = tree.args.get("from_")
    items = [from_.this] if from_ is not None else []
    items += [join.this for join in tree.args.get("joins") or []]
    relations = {i.alias_or_name: i for i in items if isinstance(i, exp.Table) and isinstance(i.this, exp.Identifier)}
    for name in lock.of:
        if name not in [i.alias_or_name for i in items]:
            raise UndefinedTable(
                f'relation "{name}" in {lock.strength} clause not found in FROM clause', position=position
            )
    inside = next((i for i in items if isinstance(i, exp.Subquery) and (not lock.of or i.alias in lock.of)), None)
    if inside is not None:
        raise FeatureNotSupported(
            f"{lock.strength} is not supported for rows of a view or a subquery",
            hint=f"name the tables: {lock.strength} OF table",
            position=position,
        )
    found = []
    for name, item in relations.items():
        made = context.catalog.get(item.name) if not item.db else None
        if isinstance(made, View) and (not lock.of or name in lock.of):
            raise WrongObjectType(f'cannot lock rows in materialized view "{made.bare}"', position=position)
        if isinstance(made, Table) and (not lock.of or name in lock.of):  # rows of a stream never change
            found.append((made, item))
    return found


def _update(tree: exp.Expr, table: Table, named: exp.Table) -> exp.Expr:
    """Write an UPDATE that finds the rows of a table that a query reads."""
    name = named.alias_or_name
    target = named.copy()
    target.set("joins", None)
    column = exp.column(table.columns[0].name, quoted=True)
    made = exp.Update(this=target, expressions=[exp.EQ(this=column, expression=column.copy())])
    alone = not tree.args.get("joins") and not tree.args.get("limit") and not tree.args.get("offset")
    if alone and not tree.args.get("with_"):
        where = tree.args.get("where")
        if where is not None:
            made.set("where", where.copy())
        return made
    if not table.primary_key:
        raise FeatureNotSupported(
            f'rows of "{table.bare}" cannot be locked by a query with joins, LIMIT or WITH',
            hint="give the table a primary key",
        )
    inner = tree.copy()
    inner.set("expressions", [exp.column(c, table=name, quoted=True) for c in table.primary_key])
    order = inner.args.get("order")
    if order is not None and not tree.args.get("limit") and not tree.args.get("offset"):
        inner.set("order", None)
    keys = [exp.column(c, table=name, quoted=True) for c in table.primary_key]
    key = keys[0] if len(keys) == 1 else exp.Tuple(expressions=keys)
    made.set("where", exp.Where(this=exp.In(this=key, query=exp.Subquery(this=inner))))
    return made
