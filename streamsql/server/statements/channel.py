"""LISTEN, NOTIFY and UNLISTEN, which take effect when their transaction commits; see `server.notifications`."""

from __future__ import annotations

from streamsql.server.context import Context, Values
from streamsql.server.notifications import ListenTo, checked
from streamsql.server.results import Done
from streamsql.sql.statements import Listen, Notify, Unlisten


async def listen(context: Context, statement: Listen, values: Values) -> Done:
    context.transaction.act(ListenTo(statement.channel))
    return Done("LISTEN")


async def notify(context: Context, statement: Notify, values: Values) -> Done:
    context.transaction.act(checked(statement.channel, statement.payload, context.asker.process_id))
    return Done("NOTIFY")


async def unlisten(context: Context, statement: Unlisten, values: Values) -> Done:
    context.transaction.act(ListenTo(statement.channel, begins=False))
    return Done("UNLISTEN")
