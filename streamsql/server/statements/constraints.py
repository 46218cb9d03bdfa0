"""SET CONSTRAINTS: when a transaction's rows are held against deferrable foreign keys; at COMMIT they are in any case."""

from __future__ import annotations

from streamsql.base.errors import UndefinedObject, WrongObjectType
from streamsql.catalog.objects import Table
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.sql.constraints import ForeignKey
from streamsql.sql.locks import SetConstraints
from streamsql.sql.names import parted

_Key = tuple[Table, ForeignKey]


async def execute(context: Context, statement: SetConstraints, values: Values) -> Done:
    """Raises UndefinedObject, WrongObjectType; ForeignKeyViolation where IMMEDIATE finds what was put off violated."""
    tag = "SET CONSTRAINTS"
    transaction = context.transaction
    if not transaction.in_block:
        outside = f"{tag} can only be used in transaction blocks"
        return Done(tag, [notice(outside, severity="WARNING", sqlstate="25P01")])
    if statement.names is None:
        keys = [(t, k) for t in context.catalog if isinstance(t, Table) for k in t.foreign_keys if k.deferrable]
    else:
        keys = [key for name in statement.names for key in _called(context, name, deferred=statement.deferred)]
    if not statement.deferred:
        touched = set(transaction.written)
        due = [(t, k) for t, k in keys if transaction.defers(t, k) and touched & {t.name, k.table}]
        await context.reads.compute(lambda: written.check_deferred(context, due))
    if statement.names is None:
        transaction.deferrals = {None: statement.deferred}
    else:
        said: dict[tuple[str, str] | None, bool] = {(t.name, k.name): statement.deferred for t, k in keys}
        transaction.deferrals = {**transaction.deferrals, **said}
    return Done(tag)


def _called(context: Context, name: str, *, deferred: bool) -> list[_Key]:
    """Find the foreign keys of a name in the first schema of the search path that has such a constraint."""
    schema, bare = parted(name)
    for each in context.asker.path if schema is None else (schema,):
        found = [
            (table, constraint)
            for table in context.catalog
            if isinstance(table, Table) and table.schema == each
            for constraint in (*table.constraints, *table.keys)
            if constraint.name == bare
        ]
        for _, constraint in found:
            if deferred and not (isinstance(constraint, ForeignKey) and constraint.deferrable):
                raise WrongObjectType(f'constraint "{bare}" is not deferrable')
        if found:
            return [(table, key) for table, key in found if isinstance(key, ForeignKey) and key.deferrable]
    raise UndefinedObject(f'constraint "{bare}" does not exist')
