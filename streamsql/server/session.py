"""A session: the events of one connection, executed in order, and the bytes that answer them.

The session knows nothing of sockets: it is given events (`handle`), and what is to be sent is taken by `send`, which waits
while the client does not read. One event is handled at a time; COPY data is decoded in another thread meanwhile.

A commit comes before its acknowledgement: the CommandComplete of an INSERT is written when its epoch has committed, or, in
a batch of the extended protocol, held in the output until the Sync that commits the batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from streamsql.base.errors import (
    DuplicateStatement,
    FeatureNotSupported,
    InFailedTransaction,
    InternalError,
    InvalidCursorName,
    InvalidStatementName,
    ProtocolViolation,
    QueryCanceled,
    SQLSyntaxError,
    StreamSQLError,
)
from streamsql.base.limits import exceeded
from streamsql.base.types import BY_OID, TEXT, WireType
from streamsql.pgwire import messages
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.values import BadValue, decode_value, encode_rows
from streamsql.plan.parameters import infer_types
from streamsql.server.cancellation import shutdown
from streamsql.server.context import Context, Values
from streamsql.server.portals import Cursor, Portal, Prepared, expanded
from streamsql.server.reads import describe_on
from streamsql.server.results import CopyIn, Done, Outcome, Rows, described
from streamsql.server.statements import copy_from, handler
from streamsql.server.statements.insert import ParameterRows, parameter_types
from streamsql.sql.parse import parse
from streamsql.sql.statements import Insert, Query, Statement, Transaction, TransactionVerb

log = structlog.get_logger("session")

PARSE_CACHE_SIZE = 256
_INSERTED_ONE = messages.command_complete("INSERT 0 1")
_BIND_COMPLETE = messages.bind_complete()


class Session:
    """Executes one client's events."""

    def __init__(self, connection: Connection, context: Context, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._connection = connection
        self._context = context
        self._send = send
        self._out = bytearray()
        self._prepared: dict[str, Prepared] = {}
        context.statements = self._prepared  # type: ignore[assignment]  # DEALLOCATE sees names only
        self._portals: dict[str, Portal] = {}
        self._parsed: OrderedDict[str, list[Statement]] = OrderedDict()
        self._copy: CopyIn | None = None
        self._copy_error: StreamSQLError | None = None
        self._gathered: ParameterRows | None = None
        self._marks: list[int] = []

    async def handle(self, event: messages.FrontendMessage) -> None:
        """Execute one event. Never raises but for a broken connection: errors go to the client."""
        self._context.cancel.reset()
        try:
            await self._HANDLERS[type(event)](self, event)
        except StreamSQLError as error:
            await self._fail(error)
        except (ConnectionError, BrokenPipeError):
            raise
        except Exception as error:  # our own fault: the log gets it all, the client a clean error
            log.exception("internal error", event=type(event).__name__)
            await self._fail(InternalError(f"internal error: {type(error).__name__}", hint="see the server's log"))
        if isinstance(event, messages.Query | messages.Sync) or self._connection.owes_ready:
            await self._ready()

    def cancel(self) -> None:
        """End what is running, as CancelRequest asks."""
        self._context.cancel.cancel()

    def shut_down(self) -> None:
        """End what is running because the server stops."""
        self._context.cancel.cancel(shutdown())

    async def close(self) -> None:
        """Let go of everything that the session holds."""
        for portal in self._portals.values():
            await _close_portal(portal)
        self._portals.clear()
        self._context.transaction.roll_back()

    async def report(self, error: StreamSQLError) -> None:
        """Tell the client of an error that the connection found in what it received."""
        await self._fail(error)
        if self._connection.owes_ready:
            await self._ready()

    # ---- output ----

    async def _flush(self) -> None:
        if self._out:
            out, self._out = bytes(self._out), bytearray()
            self._marks.clear()
            await self._send(out)

    async def _ready(self) -> None:
        if self._connection.owes_ready:
            self._out += self._connection.ready_for_query(self._context.transaction.status)  # type: ignore[arg-type]
        await self._flush()

    async def _fail(self, error: StreamSQLError) -> None:
        self._copy = self._copy_error = None
        self._gathered = None
        self._context.transaction.fail()
        if not self._context.transaction.explicit:
            await self._close_portals()
        self._out += self._connection.error(error)
        await self._flush()

    def _notices(self, done: Done) -> None:
        for fields in done.notices:
            self._out += messages.notice(fields)

    # ---- simple protocol ----

    async def _on_query(self, event: messages.Query) -> None:
        statements = self._parse(event.text)
        if not statements:
            self._out += messages.empty_query_response()
        for index, statement in enumerate(statements):
            last = index == len(statements) - 1
            outcome = await self._execute(statement, Values())
            if isinstance(outcome, CopyIn):
                if not last:
                    raise FeatureNotSupported("COPY must be the last statement of a query string")
                self._begin_copy(outcome)
                await self._flush()
                return
            if last and not self._context.transaction.explicit:
                await self._context.transaction.commit()
            if isinstance(outcome, Rows):
                await self._send_all(outcome)
            else:
                self._finish(outcome)

    def _finish(self, done: Done) -> None:
        self._notices(done)
        self._report_variables()
        self._out += messages.command_complete(done.tag)

    def _report_variables(self) -> None:
        for name, value in self._context.variables.take_changed():
            self._out += messages.parameter_status(name, value)

    def _parse(self, text: str) -> list[Statement]:
        found = self._parsed.get(text)
        if found is None:
            found = parse(text, self._context.limits)
            if len(text) < 10_000:
                self._parsed[text] = found
                if len(self._parsed) > PARSE_CACHE_SIZE:
                    self._parsed.popitem(last=False)
        return found

    async def _execute(self, statement: Statement, values: Values) -> Outcome:
        transaction = self._context.transaction
        ends = isinstance(statement, Transaction) and statement.verb is not TransactionVerb.BEGIN
        if transaction.failed and not ends:
            raise InFailedTransaction(
                "current transaction is aborted, commands ignored until end of transaction block",
                hint="send ROLLBACK",
            )
        return await handler(statement).execute(self._context, statement, values)

    async def _send_all(self, rows: Rows) -> None:
        cursor = Cursor(rows.batches, rows.limit)
        formats = [0] * len(rows.columns)
        self._out += described(rows.columns, formats)
        try:
            await self._send_portion(rows, cursor, formats, None)
        finally:
            await cursor.close()
        self._out += messages.command_complete(_row_tag(rows, cursor.sent))

    async def _send_portion(self, rows: Rows, cursor: Cursor, formats: list[int], rows_max: int | None) -> int:
        """Send rows until `rows_max` or the end; a live result's portion also ends when there are no more just now."""
        types = [c.type for c in rows.columns]
        sent = 0
        while rows_max is None or sent < rows_max:
            batch = await cursor.take(None if rows_max is None else rows_max - sent)
            if batch is None:
                if cursor.ended:
                    break
                self._context.cancel.check()
                if sent and rows_max is not None:
                    break
                await self._flush()
                continue
            self._out += encode_rows(batch, types, formats)
            sent += batch.num_rows
            if len(self._out) >= self._context.limits.output_bytes_max:
                await self._flush()
                self._context.cancel.check()
        return sent

    # ---- COPY ----

    def _begin_copy(self, copy: CopyIn) -> None:
        self._copy = copy
        self._out += self._connection.copy_in_response([0] * len(copy.column_names))

    async def _on_copy_data(self, event: messages.CopyData) -> None:
        copy = self._copy
        if copy is None or self._copy_error is not None:
            return
        batches = await self._context.reads.compute(lambda: copy.decoder.feed(event.data))
        self._take_batches(copy, batches)

    def _take_batches(self, copy: CopyIn, batches: list) -> None:  # type: ignore[type-arg]
        copy.batches += batches
        copy.row_count += sum(b.num_rows for b in batches)
        if copy.row_count > self._context.limits.transaction_rows_max:
            raise exceeded(self._context.limits, "transaction_rows_max", "the number of rows of a COPY")

    async def _on_copy_done(self, event: messages.CopyDone) -> None:
        copy, self._copy = self._copy, None
        if copy is None:
            return
        self._take_batches(copy, await self._context.reads.compute(copy.decoder.finish))
        count = await copy_from.write(self._context, copy)
        if not self._context.transaction.explicit:
            await self._context.transaction.commit()
        self._out += messages.command_complete(f"COPY {count}")

    async def _on_copy_fail(self, event: messages.CopyFail) -> None:
        self._copy = None
        raise QueryCanceled(f"COPY from stdin failed: {event.message}")

    # ---- extended protocol ----

    async def _on_parse(self, event: messages.Parse) -> None:
        await self._settle()
        limits = self._context.limits
        if event.name and event.name in self._prepared:
            raise DuplicateStatement(f'prepared statement "{event.name}" already exists')
        if len(self._prepared) >= limits.statements_max:
            raise exceeded(limits, "statements_max", "the number of prepared statements")
        statements = self._parse(event.text)
        if len(statements) > 1:
            raise SQLSyntaxError("cannot insert multiple commands into a prepared statement")
        statement = statements[0] if statements else None
        declared = tuple(BY_OID.get(oid) if oid else None for oid in event.parameter_oids)
        self._prepared[event.name] = Prepared(statement, await self._types(statement, declared))
        self._out += messages.parse_complete()

    async def _types(self, statement: Statement | None, declared: tuple[WireType | None, ...]) -> list[WireType]:
        count = getattr(statement, "parameter_count", 0)
        if not count:
            return []
        if isinstance(statement, Insert):
            found = parameter_types(self._context, statement, declared)
            if found is not None:
                return found
            tree = statement.source
        else:
            tree = statement.tree  # type: ignore[union-attr]  # whatever has parameters has a tree
        assert tree is not None
        if all(d is not None for d in declared) and len(declared) >= count:
            return [d or TEXT for d in declared[:count]]
        return await self._context.reads.run(lambda cursor: infer_types(tree, count, declared, describe_on(cursor)))

    async def _on_bind(self, event: messages.Bind) -> None:
        prepared = self._prepared.get(event.statement)
        if prepared is None:
            raise InvalidStatementName(f'prepared statement "{event.statement}" does not exist')
        count = len(prepared.types)
        if len(event.values) != count:
            raise ProtocolViolation(
                f"bind message supplies {len(event.values)} parameters, "
                f'but prepared statement "{event.statement}" requires {count}'
            )
        if event.portal or len(self._portals) > 1:
            await self._check_portal(event.portal)
        old = self._portals.get(event.portal)
        if old is not None and old.cursor is not None:
            await _close_portal(old)
        formats = expanded(event.parameter_formats, count)
        statement = prepared.statement
        if isinstance(statement, Insert) and statement.parameter_columns is not None:
            values = Values()  # decoded later, by column
        else:
            texts = tuple(
                decode_value(v, t, f) for v, t, f in zip(event.values, prepared.types, formats, strict=True)
            )
            values = Values(tuple(prepared.types), texts)
        self._portals[event.portal] = Portal(prepared, event.values, formats, event.result_formats, values)
        self._out += _BIND_COMPLETE

    async def _check_portal(self, name: str) -> None:
        if name and name in self._portals:
            raise InvalidCursorName(f'cursor "{name}" already exists')
        if len(self._portals) >= self._context.limits.portals_max:
            raise exceeded(self._context.limits, "portals_max", "the number of portals")

    async def _on_describe(self, event: messages.Describe) -> None:
        await self._settle()
        if event.kind == "S":
            prepared = self._prepared.get(event.name)
            if prepared is None:
                raise InvalidStatementName(f'prepared statement "{event.name}" does not exist')
            self._out += messages.parameter_description([t.oid for t in prepared.types])
            columns = await self._columns(prepared, Values(tuple(prepared.types)))
            self._out += messages.no_data() if columns is None else described(columns, [0] * len(columns))
            return
        portal = self._portal(event.name)
        columns = await self._columns(portal.prepared, portal.values)
        self._out += messages.no_data() if columns is None else described(columns, portal.formats(len(columns)))

    async def _columns(self, prepared: Prepared, values: Values) -> list | None:  # type: ignore[type-arg]
        """Tell a statement's columns; kept, since clients ask again with each Bind."""
        statement = prepared.statement
        if statement is None:
            return None
        if not prepared.described or (isinstance(statement, Query) and prepared.types):
            prepared.columns = await handler(statement).describe(self._context, statement, values)
            prepared.described = True
        return prepared.columns

    def _portal(self, name: str) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise InvalidCursorName(f'portal "{name}" does not exist')
        return portal

    async def _on_execute(self, event: messages.Execute) -> None:
        portal = self._portal(event.portal)
        statement = portal.prepared.statement
        if statement is None:
            self._out += messages.empty_query_response()
            return
        if isinstance(statement, Insert) and statement.parameter_columns is not None:
            await self._gather(portal, statement)
            return
        await self._settle()
        if portal.cursor is None:
            if portal.done:
                raise InvalidCursorName(f'portal "{event.portal}" cannot be run anymore')
            outcome = await self._execute(statement, portal.values)
            if isinstance(outcome, CopyIn):
                self._begin_copy(outcome)
                await self._flush()
                return
            if isinstance(outcome, Done):
                portal.done = True
                self._finish(outcome)
                self._marks.append(len(self._out))
                return
            portal.rows, portal.cursor = outcome, Cursor(outcome.batches, outcome.limit)
        await self._run_portal(portal, event.max_rows)

    async def _run_portal(self, portal: Portal, max_rows: int) -> None:
        rows, cursor = portal.rows, portal.cursor
        assert rows is not None and cursor is not None
        formats = portal.formats(len(rows.columns))
        rows_max = max_rows or None
        try:
            sent = await self._send_portion(rows, cursor, formats, rows_max)
        except BaseException:
            await _close_portal(portal)
            raise
        if rows_max is not None and not cursor.ended and (sent >= rows_max or rows.live):
            self._out += messages.portal_suspended()
            return
        await _close_portal(portal)
        self._out += messages.command_complete(_row_tag(rows, sent))

    async def _gather(self, portal: Portal, statement: Insert) -> None:
        """Set a row of a prepared INSERT aside; rows of one statement become columns together."""
        if self._context.transaction.failed:
            await self._execute(statement, portal.values)  # raises
        gathered = self._gathered
        if gathered is None or gathered.statement is not statement or gathered.formats != portal.parameter_formats:
            await self._settle()
            gathered = self._gathered = ParameterRows(statement, portal.prepared.types, portal.parameter_formats)
        self._marks.append(len(self._out))
        gathered.rows.append(portal.raw)
        self._out += _INSERTED_ONE

    async def _settle(self) -> None:
        """Turn the rows set aside into columns and hand them to the transaction, before anything else is done."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        context = self._context
        first_mark = max(len(self._marks) - len(gathered.rows), 0)
        try:
            rows, relation = await context.reads.run(lambda cursor: gathered.table(context, cursor))
        except BadValue as bad:
            self._unsay(first_mark + bad.row)
            raise bad.error from bad
        except StreamSQLError:
            self._unsay(first_mark)
            raise
        context.transaction.write(relation.name, rows)

    def _unsay(self, mark: int) -> None:
        """Take back what was to be said from an Execute on, if it has not been sent: it failed after all."""
        if mark < len(self._marks):
            del self._out[self._marks[mark] :]
            del self._marks[mark:]

    async def _on_sync(self, event: messages.Sync) -> None:
        await self._settle()
        if not self._context.transaction.explicit:
            if self._context.transaction.dirty:
                try:
                    await self._context.transaction.commit()
                except StreamSQLError:
                    self._unsay(0)
                    raise
            await self._close_portals()
        self._marks.clear()

    async def _close_portals(self) -> None:
        portals, self._portals = self._portals, {}
        for portal in portals.values():
            await _close_portal(portal)

    async def _on_flush(self, event: messages.Flush) -> None:
        await self._settle()
        await self._flush()

    async def _on_close(self, event: messages.Close) -> None:
        await self._settle()
        if event.kind == "S":
            self._prepared.pop(event.name, None)
        else:
            portal = self._portals.pop(event.name, None)
            if portal is not None:
                await _close_portal(portal)
        self._out += messages.close_complete()

    async def _on_function_call(self, event: messages.FunctionCall) -> None:
        raise FeatureNotSupported("function calls by the fastpath interface are not supported", hint="use SELECT")

    async def _on_nothing(self, event: messages.FrontendMessage) -> None:
        return

    _HANDLERS: dict[type, Callable[..., Awaitable[None]]] = {  # noqa: RUF012  # a table of this class' own methods
        messages.Bind: _on_bind,
        messages.Close: _on_close,
        messages.CopyData: _on_copy_data,
        messages.CopyDone: _on_copy_done,
        messages.CopyFail: _on_copy_fail,
        messages.Describe: _on_describe,
        messages.Execute: _on_execute,
        messages.Flush: _on_flush,
        messages.FunctionCall: _on_function_call,
        messages.Parse: _on_parse,
        messages.Query: _on_query,
        messages.Sync: _on_sync,
    }


async def _close_portal(portal: Portal) -> None:
    if portal.cursor is not None:
        cursor, portal.cursor = portal.cursor, None
        await cursor.close()
    portal.done = True


def _row_tag(rows: Rows, count: int) -> str:
    return f"{rows.tag} {count}" if rows.tag in {"SELECT", "SUBSCRIBE"} else rows.tag
