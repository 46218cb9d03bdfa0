"""LISTEN, NOTIFY and UNLISTEN, which take effect when their transaction commits; see `server.notifications`.

Who listens to a view's name must be allowed to read the view: when it is asked for, and whenever the view has changed.
"""

from __future__ import annotations

from streamsql.catalog.objects import View
from streamsql.catalog.rights import require_read
from streamsql.server.context import Context, Values
from streamsql.server.notifications import ListenTo, checked
from streamsql.server.results import Done
from streamsql.sql.statements import Listen, Notify, Unlisten


async def listen(context: Context, statement: Listen, values: Values) -> Done:
    view = context.catalog.get(statement.channel)
    if isinstance(view, View):
        require_read(context.catalog, context.asker.role, view)
    context.transaction.act(ListenTo(statement.channel))
    return Done("LISTEN")


async def notify(context: Context, statement: Notify, values: Values) -> Done:
    context.transaction.act(checked(statement.channel, statement.payload, context.asker.process_id))
    return Done("NOTIFY")


async def unlisten(context: Context, statement: Unlisten, values: Values) -> Done:
    context.transaction.act(ListenTo(statement.channel, begins=False))
    return Done("UNLISTEN")
