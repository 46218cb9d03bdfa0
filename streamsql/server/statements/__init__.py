"""What each statement does when it is executed: one file a statement, one line here.

A handler has ``describe``, which tells the columns of the result without executing anything (None: no rows), and
``execute``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streamsql.server.context import Context, Values
from streamsql.server.results import Outcome, ResultColumn
from streamsql.server.statements import (
    change,
    copy_from,
    create,
    describe,
    drop,
    explain,
    insert,
    query,
    session,
    show,
    subscribe,
    transaction,
)
from streamsql.sql import statements as s

Describe = Callable[[Context, Any, Values], Awaitable["list[ResultColumn] | None"]]
Execute = Callable[[Context, Any, Values], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Handler:
    """How a statement is described and executed."""

    execute: Execute
    describe: Describe


async def _no_rows(context: Context, statement: object, values: Values) -> None:
    return None


HANDLERS: dict[type[s.Statement], Handler] = {
    s.CloseCursor: Handler(session.close_cursor, _no_rows),
    s.CopyFrom: Handler(copy_from.execute, _no_rows),
    s.CreateMaterializedView: Handler(create.view, _no_rows),
    s.CreateStream: Handler(create.relation, _no_rows),
    s.CreateTable: Handler(create.relation, _no_rows),
    s.Deallocate: Handler(session.deallocate, _no_rows),
    s.Delete: Handler(change.execute, _no_rows),
    s.Describe: Handler(describe.execute, describe.columns),
    s.Discard: Handler(session.discard, _no_rows),
    s.Drop: Handler(drop.execute, _no_rows),
    s.Explain: Handler(explain.execute, explain.columns),
    s.Insert: Handler(insert.execute, _no_rows),
    s.Query: Handler(query.execute, query.columns),
    s.SetVariable: Handler(session.set_variable, _no_rows),
    s.Show: Handler(show.execute, show.columns),
    s.ShowVariable: Handler(session.show_variable, session.show_columns),
    s.Subscribe: Handler(subscribe.execute, subscribe.columns),
    s.Transaction: Handler(transaction.execute, _no_rows),
    s.Unlisten: Handler(session.unlisten, _no_rows),
    s.Update: Handler(change.execute, _no_rows),
}


def handler(statement: s.Statement) -> Handler:
    """Give the handler of a statement."""
    return HANDLERS[type(statement)]
