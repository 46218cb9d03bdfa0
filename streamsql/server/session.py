"""A session: the events of one connection, executed in order, and the bytes that answer them.

The session knows nothing of sockets: it is given events (`handle`), and what is to be sent goes through a function that
waits while the client does not read. One event is handled at a time; COPY data is decoded in another thread meanwhile.

A commit comes before its acknowledgement: the CommandComplete of an INSERT is said when its epoch has committed, or, in a
batch of the extended protocol, before the ReadyForQuery that follows the batch's commit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from streamsql.base.errors import (
    FeatureNotSupported,
    IdleInTransaction,
    IdleSession,
    InternalError,
    QueryCanceled,
    StreamSQLError,
)
from streamsql.pgwire import messages
from streamsql.pgwire.connection import Connection
from streamsql.server.cancellation import shutdown
from streamsql.server.context import NO_VALUES, Context
from streamsql.server.execution import Execution
from streamsql.server.extended import Extended
from streamsql.server.output import Output
from streamsql.server.results import CopyIn, CopyOut, Cursor, Done, Rows, described
from streamsql.server.statements import copy_from
from streamsql.server.statements.query import by_template
from streamsql.sql.secrets import redacted

log = structlog.get_logger()

Send = Callable[[bytes | bytearray | memoryview], Awaitable[None]]


class Session:
    """Executes one client's events."""

    def __init__(self, connection: Connection, context: Context, send: Send) -> None:
        self._connection = connection
        self._context = context
        self._output = Output(send, context.limits.output_bytes_max)
        self._execution = Execution(connection, context, self._output)
        self._extended = extended = Extended(context, self._execution, self._output)
        self._log = log.bind(pid=context.asker.process_id)
        context.prepared = extended
        asker = context.logged_in
        context.known.cancellations[asker.process_id] = (asker.role, context.cancel)
        self._handlers: dict[type[messages.FrontendMessage], Callable[..., Awaitable[None]]] = {
            messages.Bind: extended.bind,
            messages.Close: extended.close,
            messages.CopyData: self._on_copy_data,
            messages.CopyDone: self._on_copy_done,
            messages.CopyFail: self._on_copy_fail,
            messages.Describe: extended.describe,
            messages.Execute: extended.execute,
            messages.Flush: extended.flush,
            messages.FunctionCall: self._on_function_call,
            messages.Parse: extended.parse,
            messages.Query: self._on_query,
            messages.Sync: extended.sync,
        }

    async def handle(self, event: messages.FrontendMessage) -> None:
        """Execute one event. Never raises but for a broken connection: errors go to the client."""
        self._context.cancel.reset()
        timer = self._timer(event)
        try:
            await self._handlers[type(event)](event)
        except StreamSQLError as error:
            await self.report(error)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  # our own fault: the log gets it all, the client a clean error
            failure = InternalError("internal error", hint="see the server's log")
            failure.__cause__ = error
            await self.report(failure)
        finally:
            if timer is not None:
                timer.cancel()
        if self._connection.owes_ready:
            self._say_ready()
            await self._output.flush()

    def _timer(self, event: messages.FrontendMessage) -> asyncio.TimerHandle | None:
        """Make what ends a statement after `statement_timeout`."""
        seconds = self._context.variables.statement_seconds_max
        if seconds is None or not isinstance(event, messages.Query | messages.Execute):
            return None
        error = QueryCanceled("canceling statement due to statement timeout")
        return asyncio.get_running_loop().call_later(seconds, self._context.cancel.cancel, error)

    def _say_ready(self) -> None:
        for name, value in self._context.variables.take_changed():
            self._output.say(messages.parameter_status(name, value))
        if not self._context.transaction.explicit:
            self._say_notifications()
        if self._connection.owes_ready:
            self._output.say(self._connection.ready_for_query(self._context.transaction.status))

    def _say_notifications(self) -> None:
        """Tell what the session listens to. Where some is lost the conversation ends with an error."""
        listener = self._context.listener
        try:
            for told in listener.take():
                self._output.say(messages.notification_response(told.process_id, told.channel, told.payload))
        except StreamSQLError as error:
            self._log.info("session ended", sqlstate=error.sqlstate, message=error.message)
            self._output.say(self._connection.error(error))

    @property
    def has_news(self) -> bool:
        """Tell whether there is something to be said although the client has not asked: it waits between transactions."""
        idle = self._connection.idle and not self._context.transaction.explicit
        return idle and self._context.listener.has_news

    async def tell_news(self) -> None:
        """Say it."""
        self._say_notifications()
        await self._output.flush()

    async def report(self, error: StreamSQLError) -> None:
        """Tell the client of an error; what it ends, ends."""
        self._execution.copy = None
        self._context.transaction.implicit = False
        error = await self._extended.fail(error)
        transaction = self._context.transaction
        transaction.fail()
        with contextlib.suppress(StreamSQLError):
            await self._context.undo()
        if transaction.explicit:
            savepoint = transaction.last_savepoint
            self._context.variables.fail(None if savepoint is None else savepoint.settings)
        if isinstance(error, InternalError):
            self._log.error("internal error", message=error.message, exc_info=error)
        else:
            self._log.info("statement failed", sqlstate=error.sqlstate, message=error.message)
        self._output.say(self._connection.error(error))
        if self._connection.owes_ready:
            self._say_ready()
        await self._output.flush()

    @property
    def idle_seconds_max(self) -> float | None:
        """How long the client may idle now; None: for ever."""
        return self._context.variables.idle_limit(in_transaction=self._context.transaction.explicit)

    def idled(self) -> StreamSQLError:
        """Make the error that ends a session whose client idled for too long."""
        if self._context.transaction.explicit:
            return IdleInTransaction("terminating connection due to idle-in-transaction timeout", severity="FATAL")
        return IdleSession("terminating connection due to idle-session timeout", severity="FATAL")

    def cancel(self) -> None:
        """End what is running, as CancelRequest asks."""
        self._context.cancel.cancel()

    def leave(self) -> None:
        """End what is running, and what would wait, because the client has gone."""
        self._context.cancel.leave()

    def shut_down(self) -> None:
        """End what is running because the server stops."""
        self._context.cancel.cancel(shutdown())

    async def close(self) -> None:
        """Let go of everything that the session holds."""
        await self._extended.close_portals()
        await self._context.cursors.close(None)
        self._context.transaction.roll_back()
        with contextlib.suppress(StreamSQLError):
            await self._context.undo()
        self._context.listener.leave(None)
        self._context.known.advisory.release_all(self._context.logged_in.process_id, transaction=False)
        self._context.known.cancellations.pop(self._context.logged_in.process_id, None)

    # ---- simple protocol ----

    async def _on_query(self, event: messages.Query) -> None:
        self._log.debug("query", text=redacted(event.text)[:1_000])
        transaction = self._context.transaction
        found = by_template(self._context, event.text)
        if found is not None:
            await self._send_all(found, last=True)
            if not transaction.explicit:
                await self._extended.close_portals()
            return
        statements = await self._context.known.parse(event.text)
        if not statements:
            self._output.say(messages.empty_query_response())
        transaction.implicit = len(statements) > 1
        for number, statement in enumerate(statements, 1):
            last = number == len(statements)
            outcome = await self._execution.execute(statement, NO_VALUES)
            if isinstance(outcome, CopyIn):
                if not last:
                    raise FeatureNotSupported("COPY must be the last statement of a query string")
                self._execution.begin_copy(outcome)
                await self._output.flush()
                return
            if isinstance(outcome, Rows):
                await self._send_all(outcome, last=last)
                continue
            if isinstance(outcome, CopyOut):
                outcome = Done(await self._execution.copy_out(outcome))
            if last and not transaction.explicit:
                await self._execution.commit()
            self._execution.finish(outcome)
        transaction.implicit = False
        if not transaction.explicit:
            await self._extended.close_portals()

    async def _send_all(self, rows: Rows, *, last: bool) -> None:
        cursor = Cursor(rows)
        formats = [int(rows.binary)] * len(rows.columns)
        transaction = self._context.transaction
        try:
            self._output.say(described(rows.columns, formats))
            sent = await self._execution.send_rows(cursor, formats, None)
        finally:
            await cursor.close()
        if last and not transaction.explicit:
            await self._execution.commit()
        self._output.say(messages.command_complete(rows.tag_of(sent)))

    async def _on_function_call(self, _: messages.FunctionCall) -> None:
        raise FeatureNotSupported("function calls by the fastpath interface are not supported", hint="use SELECT")

    # ---- COPY ----

    async def _on_copy_data(self, event: messages.CopyData) -> None:
        copy = self._execution.copy
        if copy is not None:
            await copy_from.take(self._context, copy, event.data)

    async def _on_copy_done(self, _: messages.CopyDone) -> None:
        copy, self._execution.copy = self._execution.copy, None
        if copy is None:
            return
        count = await copy_from.finish(self._context, copy)
        if not self._context.transaction.explicit:
            await self._execution.commit()
        self._output.say(messages.command_complete(f"COPY {count}"))

    async def _on_copy_fail(self, event: messages.CopyFail) -> None:
        raise QueryCanceled(f"COPY from stdin failed: {event.message}")
