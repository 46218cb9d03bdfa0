"""The extended protocol: statements are prepared, bound to portals, described, executed, closed.

Rows of a prepared INSERT are gathered (`server.gathered`): what an Execute of one says, "INSERT 0 1", is said at once, and
taken back if the row turns out to be wrong before anything else is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from streamsql.base.errors import (
    DuplicateCursor,
    DuplicateStatement,
    InvalidCursorName,
    InvalidStatementName,
    NotInPrerequisiteState,
    ProtocolViolation,
    SQLSyntaxError,
    StreamSQLError,
    WrongObjectType,
)
from streamsql.base.limits import exceeded
from streamsql.base.types import WireType
from streamsql.pgwire import messages
from streamsql.pgwire.values import BadValue, decode_value
from streamsql.server import written
from streamsql.server.context import NO_VALUES, Context, Values
from streamsql.server.cursors import SqlCursor
from streamsql.server.execution import Execution
from streamsql.server.gathered import GatheredRows, casts_change_nothing
from streamsql.server.output import Output
from streamsql.server.portals import Portal, Prepared, expanded
from streamsql.server.results import CopyIn, CopyOut, Cursor, Done, ResultColumn, Rows, described
from streamsql.server.statements import TypesOf, handler
from streamsql.sql.cursor_statements import Direction, Fetch
from streamsql.sql.statements import Insert, Query, Statement

# so many gathered rows are read before more are taken, so that memory does not grow with a pipeline
GATHERED_ROWS_MAX = 16_384

_INSERTED_ONE = messages.command_complete("INSERT 0 1")
_BIND_COMPLETE = messages.bind_complete()
_PARSE_COMPLETE = messages.parse_complete()
_CLOSE_COMPLETE = messages.close_complete()
_NO_DATA = messages.no_data()


def _own_types(
    context: Context, types_of: TypesOf, statement: Statement, declared: tuple[WireType | None, ...]
) -> tuple[WireType, ...]:
    with contextlib.closing(context.own_cursor()) as cursor:
        return tuple(types_of(context, statement, declared, cursor))


class Extended:
    """One session's prepared statements and portals."""

    def __init__(self, context: Context, execution: Execution, output: Output) -> None:
        self._context = context
        self._execution = execution
        self._output = output
        self._prepared: dict[str, Prepared] = {}
        self._portals: dict[str, Portal] = {}
        context.cursors.adopt = self._adopt
        self._gathered: GatheredRows | None = None
        self._first_done: int | None = None  # the place in the output where the first Execute since Sync said something

    # ---- the statements of a session, as DEALLOCATE sees them ----

    def __contains__(self, name: object) -> bool:
        return name in self._prepared

    def __delitem__(self, name: str) -> None:
        del self._prepared[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prepared)

    def find(self, name: str) -> tuple[Statement, tuple[WireType, ...]] | None:
        """Give a prepared statement, and its parameters' types."""
        found = self._prepared.get(name)
        return None if found is None or found.statement is None else (found.statement, found.types)

    async def columns_of(self, name: str) -> list[ResultColumn] | None:
        """Tell the columns that a prepared statement gives; None for none, and for one that is not there."""
        found = self.find(name)
        if found is None:
            return None
        statement = self._context.resolved(found[0])
        return await handler(statement).describe(self._context, statement, Values(found[1], None))

    async def add(self, name: str, statement: Statement, oids: tuple[int, ...], text: str) -> None:
        """Prepare a statement for the PREPARE of this text."""
        self._check_new(name)
        self._prepared[name] = await self._prepare(statement, oids, from_sql=text)

    def shown(self) -> list[dict[str, object]]:
        """Give the rows of ``pg_prepared_statements``. For any thread."""
        return [
            {
                "name": name, "statement": p.from_sql or (p.statement.text if p.statement is not None else ""),
                "prepare_time": p.made, "parameter_types": [t.oid for t in p.types], "from_sql": p.from_sql is not None,
                "generic_plans": 0, "custom_plans": 0,
            }
            for name, p in list(self._prepared.items())
            if name
        ]  # fmt: skip

    def clear(self) -> None:
        """Forget all prepared statements."""
        self._prepared.clear()

    # ---- messages ----

    async def parse(self, event: messages.Parse) -> None:
        self._check_new(event.name)
        statements = await self._context.known.parse(event.text)
        if len(statements) > 1:
            raise SQLSyntaxError("cannot insert multiple commands into a prepared statement")
        statement = statements[0] if statements else None
        self._execution.check_transaction(statement)
        self._prepared[event.name] = await self._prepare(statement, event.parameter_oids)
        self._output.say(_PARSE_COMPLETE)

    def _check_new(self, name: str) -> None:
        limits = self._context.limits
        if name and name in self._prepared:
            raise DuplicateStatement(f'prepared statement "{name}" already exists')
        if len(self._prepared) >= limits.statements_max and name not in self._prepared:
            raise exceeded(limits, "statements_max", "the number of prepared statements")

    async def _prepare(
        self, statement: Statement | None, oids: tuple[int, ...], *, from_sql: str | None = None
    ) -> Prepared:
        named = None if statement is None else self._context.resolved(statement)
        types = await self._types(named, oids)
        row = (
            isinstance(named, Insert)
            and named.parameter_columns is not None
            and named.conflict is None
            and named.returning is None
            and casts_change_nothing(named, self._context.catalog, types)
        )
        if isinstance(named, Query) and named.emit is None:
            # as in PostgreSQL, what is wrong with it is told now; Describe will ask for the same
            await handler(named).describe(self._context, named, Values(types, None))
        return Prepared(statement, types, row, from_sql)

    async def _types(self, statement: Statement | None, oids: tuple[int, ...]) -> tuple[WireType, ...]:
        """Find the parameters' types; asked again for the same statement, they are known."""
        types_of = handler(statement).types_of if statement is not None else None
        if statement is None or types_of is None or not getattr(statement, "parameter_count", 0):
            return ()
        context = self._context
        declared = tuple(map(context.catalog.type_of, oids))
        catalog = context.catalog
        found = context.known.types.get(statement, catalog, oids)
        if found is None:
            if context.transaction.temporary:
                return await context.reads.compute(lambda: _own_types(context, types_of, statement, declared))
            found = await context.reads.run(
                lambda cursor: types_of(context, statement, declared, cursor), context.cancel
            )
            context.known.types.put(statement, catalog, found, oids)
        return found

    async def bind(self, event: messages.Bind) -> None:
        prepared = self._prepared.get(event.statement)
        if prepared is None:
            raise InvalidStatementName(f'prepared statement "{event.statement}" does not exist')
        count = len(prepared.types)
        if len(event.values) != count:
            raise ProtocolViolation(
                f"bind message supplies {len(event.values)} parameters, "
                f'but prepared statement "{event.statement}" requires {count}'
            )
        formats = expanded(event.parameter_formats, count)
        if prepared.row:
            values = Values(prepared.types)  # read later, by column
        else:
            texts = (decode_value(v, t, f) for v, t, f in zip(event.values, prepared.types, formats, strict=True))
            values = Values(prepared.types, tuple(texts))
        if event.portal:
            self._context.cursors.check_new(event.portal)
        await self._check_formats(prepared, values, event.result_formats)
        old = self._portals.get(event.portal)
        if old is not None:
            if event.portal:
                raise DuplicateCursor(f'cursor "{event.portal}" already exists')
            if old.cursor is not None:
                await old.close()
        elif len(self._portals) >= self._context.limits.portals_max:
            raise exceeded(self._context.limits, "portals_max", "the number of portals")
        self._portals[event.portal] = Portal(prepared, event.values, formats, event.result_formats, values)
        self._output.say(_BIND_COMPLETE)

    async def _check_formats(self, prepared: Prepared, values: Values, formats: tuple[int, ...]) -> None:
        """Raise ProtocolViolation where there are not as many formats as result columns; one or none is for all."""
        if len(formats) <= 1 or prepared.statement is None:
            return
        statement = self._context.resolved(prepared.statement)
        columns = await handler(statement).describe(self._context, statement, values)
        if columns is not None and len(columns) != len(formats):
            raise ProtocolViolation(
                f"bind message has {len(formats)} result formats but query has {len(columns)} columns"
            )

    async def describe(self, event: messages.Describe) -> None:
        if event.kind == "S":
            prepared = self._prepared.get(event.name)
            if prepared is None:
                raise InvalidStatementName(f'prepared statement "{event.name}" does not exist')
            self._output.say(messages.parameter_description([t.oid for t in prepared.types]))
            values, result_formats = Values(prepared.types, None), None
        elif event.name in self._context.cursors:
            declared = await self._context.cursors.find(event.name)
            self._output.say(described(declared.rows.columns, declared.formats_of()))
            return
        else:
            portal = self._portal(event.name)
            prepared, values, result_formats = portal.prepared, portal.values, portal
        statement = prepared.statement
        columns = None
        if statement is not None:
            statement = self._context.resolved(statement)
            columns = await handler(statement).describe(self._context, statement, values)
        if columns is None:
            self._output.say(_NO_DATA)
        else:
            formats = [0] * len(columns) if result_formats is None else result_formats.formats(len(columns))
            self._output.say(described(columns, formats))

    def _portal(self, name: str) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise InvalidCursorName(f'portal "{name}" does not exist')
        return portal

    async def execute(self, event: messages.Execute) -> None:
        if event.portal in self._context.cursors:
            await self._execute_declared(event)
            return
        portal = self._portal(event.portal)
        prepared = portal.prepared
        if prepared.row and not portal.done:
            await self._gather(portal)
            return
        await self.settle()
        statement = prepared.statement
        if statement is None:
            self._output.say(messages.empty_query_response())
            return
        if portal.cursor is None:
            if portal.done:
                self._say_no_more(portal, event.portal)
                return
            outcome = await self._execution.execute(statement, portal.values)
            if isinstance(outcome, CopyIn):
                portal.done = True
                self._execution.begin_copy(outcome)
                await self._output.flush()
                return
            if self._first_done is None:
                self._first_done = self._output.position
            if isinstance(outcome, CopyOut):
                outcome = Done(await self._execution.copy_out(outcome))
            if isinstance(outcome, Done):
                portal.done = True
                self._execution.finish(outcome)
                return
            portal.rows, portal.cursor = outcome, Cursor(outcome)
        await self._run(portal, portal.cursor, event.max_rows or None)

    async def _execute_declared(self, event: messages.Execute) -> None:
        """Give rows of a cursor that SQL declared: cursors and portals have their names in common."""
        await self.settle()
        formats = (await self._context.cursors.find(event.portal)).formats_of()
        fetch = Fetch("", 0, name=event.portal, direction=Direction.FORWARD, count=event.max_rows or None)
        rows = await self._execution.execute(fetch, NO_VALUES)
        assert isinstance(rows, Rows)
        cursor = Cursor(rows)
        try:
            sent = await self._execution.send_rows(cursor, formats, None)
        finally:
            await cursor.close()
        suspended = sent == event.max_rows > 0
        self._output.say(messages.portal_suspended() if suspended else messages.command_complete(f"SELECT {sent}"))

    async def _adopt(self, name: str) -> SqlCursor | None:
        """Make a cursor of SQL of a portal that FETCH or MOVE names, as asyncpg does to skip rows."""
        portal = self._portals.get(name)
        statement = portal.prepared.statement if portal is not None else None
        if portal is None or statement is None or portal.done:
            return None
        if portal.cursor is None:
            outcome = await self._execution.execute(statement, portal.values)
            if not isinstance(outcome, Rows):
                raise WrongObjectType(f'portal "{name}" gives no rows')
            portal.rows, portal.cursor = outcome, Cursor(outcome)
        del self._portals[name]
        rows = portal.cursor.rows
        formats = portal.formats(len(rows.columns))
        return SqlCursor(name, statement.text, rows, self._context.cancel, formats=formats, source=portal.cursor)

    def _say_no_more(self, portal: Portal, name: str) -> None:
        if portal.rows is None:
            raise NotInPrerequisiteState(f'portal "{name}" cannot be run')
        self._output.say(messages.command_complete(portal.rows.tag_of(0)))

    async def _run(self, portal: Portal, cursor: Cursor, rows_max: int | None) -> None:
        rows = cursor.rows
        try:
            sent = await self._execution.send_rows(cursor, portal.formats(len(rows.columns)), rows_max)
        except BaseException:
            await portal.close()
            raise
        if rows_max is not None and not cursor.ended and (sent >= rows_max or rows.live):
            self._output.say(messages.portal_suspended())
            return
        await portal.close()
        self._output.say(messages.command_complete(rows.tag_of(sent)))

    async def close(self, event: messages.Close) -> None:
        if event.kind == "S":
            self._prepared.pop(event.name, None)
        else:
            portal = self._portals.pop(event.name, None)
            if portal is not None:
                await portal.close()
            elif event.name in self._context.cursors:
                await self._context.cursors.close(event.name)
        self._output.say(_CLOSE_COMPLETE)

    async def flush(self, _: messages.Flush) -> None:
        await self.settle()
        await self._output.flush()

    async def sync(self, _: messages.Sync) -> None:
        await self.settle()
        transaction = self._context.transaction
        if not transaction.explicit:
            try:
                await self._execution.commit()
            except StreamSQLError:
                if self._first_done is not None:
                    self._output.unsay(self._first_done)
                raise
            await self.close_portals()
        self._first_done = None

    # ---- gathered rows ----

    async def _gather(self, portal: Portal) -> None:
        self._execution.check_transaction(portal.prepared.statement)
        gathered = self._gathered
        if gathered is None or not gathered.takes(portal.prepared, portal.parameter_formats):
            await self.settle()
            gathered = self._gathered = GatheredRows(portal)
            if self._first_done is None:
                self._first_done = self._output.position
        portal.done = True
        gathered.rows.append(portal.raw)
        gathered.places.append(self._output.position)
        self._output.say(_INSERTED_ONE)
        if len(gathered.rows) >= GATHERED_ROWS_MAX:
            await self.settle()
            if self._output.full:
                await self._output.flush()

    async def settle(self) -> None:
        """Read the rows set aside and hand them to the transaction, before anything else is done.

        Raises what is wrong with the first bad row; what was said from that row on is taken back.
        """
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        try:
            relation, rows = await gathered.table(self._context)
            await written.write(self._context, relation, rows)
        except BadValue as bad:
            self._output.unsay(gathered.places[bad.row])
            raise bad.error from None
        except StreamSQLError:
            self._output.unsay(gathered.places[0])
            raise

    async def fail(self, error: StreamSQLError) -> StreamSQLError:
        """Let go of everything that an error ends; give the error to report: that of an earlier row comes first."""
        try:
            await self.settle()
        except StreamSQLError as earlier:
            error = earlier
        self._first_done = None
        if self._context.transaction.last_savepoint is None:  # else what was open then is open again after ROLLBACK TO
            await self.close_portals()
        return error

    async def close_portals(self) -> None:
        """Close all portals and cursors that do not outlive it, as the end of a transaction does."""
        await self._context.cursors.end()
        portals, self._portals = self._portals, {}
        for portal in portals.values():
            await portal.close()
