"""What each statement does when it is executed: one file a statement, one line here.

A handler has ``describe``, which tells the columns of the result without executing anything (None: no rows), and
``execute``. Where a statement takes parameters, ``types_of`` tells their types. ``at_once`` marks what takes effect by
itself, so that rows written before it in the same query string are committed first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streamsql.base.types import WireType
from streamsql.server.context import Context, Values
from streamsql.server.results import Outcome, ResultColumn
from streamsql.server.returning import returned_columns
from streamsql.server.statements import (
    alter,
    change,
    channel,
    comment,
    constraints,
    copy_from,
    copy_to,
    create,
    create_table,
    cursor,
    describe,
    drop,
    explain,
    explain_why,
    extension,
    flow,
    grant,
    index,
    insert,
    lock,
    merge,
    owner,
    prepared,
    query,
    refresh,
    role,
    schema,
    sequence,
    session,
    show,
    subscribe,
    transaction,
    truncate,
    upkeep,
    upsert,
    user_type,
    verify,
)
from streamsql.sql import cursor_statements as cs
from streamsql.sql import flow_statements as f
from streamsql.sql import indexes as x
from streamsql.sql import role_statements as r
from streamsql.sql import schema_statements as n
from streamsql.sql import sequences as q
from streamsql.sql import statements as s
from streamsql.sql import types as y
from streamsql.sql.altering import AlterTable
from streamsql.sql.blocks import DoBlock
from streamsql.sql.comments import CommentOn
from streamsql.sql.extensions import CreateExtension, DropExtension
from streamsql.sql.locks import LockTable, SetConstraints
from streamsql.sql.upkeep import Upkeep

Describe = Callable[[Context, Any, Values], Awaitable["list[ResultColumn] | None"]]
Execute = Callable[[Context, Any, Values], Awaitable[Outcome]]
# context, statement, what the client declared, a connection
TypesOf = Callable[..., tuple[WireType, ...]]


async def _no_rows(context: Context, statement: object, values: Values) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Handler:
    """How a statement is described and executed."""

    execute: Execute
    describe: Describe = _no_rows
    types_of: TypesOf | None = None
    at_once: bool = False


async def _resolved(context: Context, statement: s.ExecutePrepared, values: Values) -> Outcome:
    found, given = await prepared.resolve(context, statement)
    return await handler(found).execute(context, found, given)


async def _in_steps(context: Context, statement: DoBlock, values: Values) -> Outcome:
    raise NotImplementedError  # whoever executes statements runs its steps


DROP_SINKS = Handler(flow.drop_sinks, at_once=True)
TEMPORARY = Handler(create_table.temporary)
UPSERT = Handler(upsert.execute, returned_columns, insert.types_of, at_once=True)

HANDLERS: dict[type[s.Statement], Handler] = {
    f.AddColumn: Handler(flow.add_column, at_once=True),
    f.AlterFlow: Handler(flow.alter, at_once=True),
    cs.CloseCursor: Handler(cursor.close),
    s.Comment: Handler(comment.execute, at_once=True),
    CommentOn: Handler(comment.on_other, at_once=True),
    s.CopyFrom: Handler(copy_from.execute),
    s.CopyTo: Handler(copy_to.execute),
    s.CreateMaterializedView: Handler(create.view, at_once=True),
    f.CreateSink: Handler(flow.create_sink, at_once=True),
    f.ResetStream: Handler(flow.reset, at_once=True),
    s.CreateStream: Handler(create.relation, at_once=True),
    s.CreateTable: Handler(create.relation, at_once=True),
    cs.DeclareCursor: Handler(cursor.declare, types_of=cursor.types_of),
    cs.Fetch: Handler(cursor.fetch, cursor.columns),
    s.Deallocate: Handler(prepared.deallocate),
    s.CreateTableAs: Handler(create_table.of_query, at_once=True),
    s.CreateView: Handler(create.plain_view, at_once=True),
    s.Delete: Handler(change.execute, returned_columns, change.types_of, at_once=True),
    s.Describe: Handler(describe.execute, describe.columns),
    s.Discard: Handler(session.discard),
    s.Drop: Handler(drop.execute, at_once=True),
    s.ExecutePrepared: Handler(_resolved, prepared.columns),
    s.Explain: Handler(explain.execute, explain.columns),
    s.ExplainWhy: Handler(explain_why.execute, explain_why.columns),
    s.Insert: Handler(insert.execute, returned_columns, insert.types_of),
    s.Query: Handler(query.execute, query.columns, query.types_of),
    s.Refresh: Handler(refresh.execute),
    s.SetVariable: Handler(session.set_variable),
    s.Show: Handler(show.execute, show.columns),
    s.ShowVariable: Handler(session.show_variable, session.show_columns),
    s.Subscribe: Handler(subscribe.execute, subscribe.columns, at_once=True),
    s.Transaction: Handler(transaction.execute),
    s.Listen: Handler(channel.listen),
    s.Merge: Handler(merge.execute, types_of=merge.types_of, at_once=True),
    LockTable: Handler(lock.execute),
    CreateExtension: Handler(extension.create),
    DropExtension: Handler(extension.drop),
    SetConstraints: Handler(constraints.execute),
    s.Notify: Handler(channel.notify),
    s.Prepare: Handler(prepared.prepare),
    s.Unlisten: Handler(channel.unlisten),
    s.Truncate: Handler(truncate.execute, at_once=True),
    s.Verify: Handler(verify.execute, verify.columns),
    s.Update: Handler(change.execute, returned_columns, change.types_of, at_once=True),
    AlterTable: Handler(alter.execute, at_once=True),
    DoBlock: Handler(_in_steps),
    Upkeep: Handler(upkeep.execute, at_once=True),
    n.AlterSchema: Handler(schema.alter, at_once=True),
    n.CreateSchema: Handler(schema.create, at_once=True),
    n.DropSchema: Handler(schema.drop, at_once=True),
    n.MoveObject: Handler(schema.move, at_once=True),
    x.CreateIndex: Handler(index.create, at_once=True),
    x.DropIndex: Handler(index.drop, at_once=True),
    x.RenameIndex: Handler(index.rename, at_once=True),
    y.AddLabel: Handler(user_type.add_label, at_once=True),
    y.CreateType: Handler(user_type.create, at_once=True),
    y.DropType: Handler(user_type.drop, at_once=True),
    y.MoveType: Handler(user_type.move, at_once=True),
    q.AlterSequence: Handler(sequence.alter, at_once=True),
    q.CreateSequence: Handler(sequence.create, at_once=True),
    q.DropSequence: Handler(sequence.drop, at_once=True),
    r.AlterOwner: Handler(owner.alter, at_once=True),
    r.AlterOwnerOf: Handler(owner.alter_other, at_once=True),
    r.AlterRole: Handler(role.alter, at_once=True),
    r.AlterRoleSet: Handler(role.set_variable, at_once=True),
    r.CreateRole: Handler(role.create, at_once=True),
    r.DropRole: Handler(role.drop, at_once=True),
    r.GrantPrivileges: Handler(grant.execute, at_once=True),
    r.GrantRoles: Handler(role.grant, at_once=True),
    r.ReassignOwned: Handler(owner.reassign, at_once=True),
    r.RenameRole: Handler(role.rename, at_once=True),
}


def handler(statement: s.Statement) -> Handler:
    """Give the handler of a statement."""
    if isinstance(statement, s.CreateTable) and statement.on_commit is not None:
        return TEMPORARY
    if isinstance(statement, s.Drop) and statement.kind is s.ObjectKind.SINK:
        return DROP_SINKS
    if isinstance(statement, s.Insert) and statement.conflict is not None:
        return UPSERT
    return HANDLERS[type(statement)]
