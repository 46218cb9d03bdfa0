"""What both protocols have in common: a statement is executed, and what came of it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    InFailedTransaction,
    ReadOnlyTransaction,
    StreamSQLError,
    UndefinedParameter,
)
from streamsql.base.types import BOOL
from streamsql.pgwire import messages
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.values import encode_rows
from streamsql.server.context import NO_VALUES, Context, Values
from streamsql.server.known import SHARED_ROWS_MAX
from streamsql.server.output import Output
from streamsql.server.results import CopyIn, CopyOut, Cursor, Done, Outcome, Rows
from streamsql.server.statements import handler
from streamsql.server.statements.prepared import resolve
from streamsql.sql.blocks import DoBlock, If, Step
from streamsql.sql.statements import (
    CopyFrom,
    CopyTo,
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    CreateTableAs,
    CreateView,
    Delete,
    Drop,
    ExecutePrepared,
    Insert,
    Merge,
    Query,
    Statement,
    Transaction,
    TransactionVerb,
    Truncate,
    Update,
)
from streamsql.sql.trees import position_of

# encoding so few rows takes less time than handing them to another thread
ROWS_ENCODED_INLINE_MAX = 1_000

_WRITING = (
    CopyFrom, CreateMaterializedView, CreateStream, CreateTable, CreateTableAs, CreateView, Delete, Drop, Insert,
    Merge, Truncate, Update,
)  # fmt: skip


# the savepoint of DO, which no client can name
_BLOCK = "\0do"
# of the warning that a definition is not undone with its transaction
_AT_ONCE = "25000"

# what a failed transaction takes
_ENDING = (TransactionVerb.COMMIT, TransactionVerb.ROLLBACK, TransactionVerb.ROLLBACK_TO)


def _no_parameter(statement: Statement) -> UndefinedParameter:
    tree = getattr(statement, "tree", None)
    found = tree.find(exp.Parameter) if isinstance(tree, exp.Expr) else None
    number = "1" if found is None else found.name
    position = None if found is None else position_of(found, statement)
    return UndefinedParameter(f"there is no parameter ${number}", position=position)


class Execution:
    """Executes one session's statements."""

    def __init__(self, connection: Connection, context: Context, output: Output) -> None:
        self._connection = connection
        self._context = context
        self._output = output
        self.copy: CopyIn | None = None

    def check_transaction(self, statement: Statement | None) -> None:
        """Raise InFailedTransaction where the transaction has failed and this statement does not end it."""
        if not self._context.transaction.failed:
            return
        if isinstance(statement, Transaction) and statement.verb in _ENDING:
            return
        raise InFailedTransaction(
            "current transaction is aborted, commands ignored until end of transaction block", hint="send ROLLBACK"
        )

    async def execute(self, statement: Statement, values: Values) -> Outcome:
        self.check_transaction(statement)
        if isinstance(statement, DoBlock):
            return await self._run_block(statement)
        if isinstance(statement, ExecutePrepared):
            statement, values = await resolve(self._context, statement)
        statement = self._context.resolved(statement)
        if isinstance(statement, _WRITING) and self._context.variables.read_only:
            words = statement.text.upper().split(None, 2)
            verb = " ".join(words[: 2 if words[0] in ("CREATE", "DROP") else 1])
            verb = "COPY FROM" if verb == "COPY" else verb
            raise ReadOnlyTransaction(f"cannot execute {verb} in a read-only transaction")
        if isinstance(statement, Query) and statement.locks and self._context.variables.read_only:
            raise ReadOnlyTransaction(f"cannot execute SELECT {statement.locks[0].strength} in a read-only transaction")
        if getattr(statement, "parameter_count", 0) > len(values.types):  # by the simple protocol
            raise _no_parameter(statement)
        found = handler(statement)
        transaction = self._context.transaction
        source = statement.query if isinstance(statement, CopyTo) else statement
        live = isinstance(source, Query) and source.emit is not None  # it may never end
        if (handler(source).at_once or live) and transaction.dirty and not transaction.explicit:
            await transaction.commit()
        outcome = await found.execute(self._context, statement, values)
        for fields in outcome.notices if isinstance(outcome, Rows) else ():
            self._output.say(messages.notice(fields))
        return outcome

    async def _run_block(self, block: DoBlock) -> Done:
        """Run the steps of DO, in a transaction of its own outside of one. What is passed over undoes what was written."""
        own = not self._context.transaction.explicit
        if own:
            if self._context.transaction.dirty:
                await self._context.transaction.commit()
            await self._control(TransactionVerb.BEGIN)
        try:
            await self._control(TransactionVerb.SAVEPOINT, _BLOCK)
            try:
                await self._run_steps(block.steps, quiet=own)
            except StreamSQLError as error:
                if block.passes_over(error):
                    await self._control(TransactionVerb.ROLLBACK_TO, _BLOCK)
                else:
                    raise
            finally:
                await self._control(TransactionVerb.RELEASE, _BLOCK)
        except BaseException:
            if own:
                await self._control(TransactionVerb.ROLLBACK)
            raise
        if own:
            await self._control(TransactionVerb.COMMIT)
        return Done("DO")

    async def _control(self, verb: TransactionVerb, name: str = "") -> None:
        await self.execute(Transaction("", 0, verb, name=name), NO_VALUES)

    async def _run_steps(self, steps: Sequence[Step], *, quiet: bool) -> None:
        for step in steps:
            if isinstance(step, If):
                chosen = step.then if await self._holds(step.condition) else step.otherwise
                await self._run_steps(chosen, quiet=quiet)
                continue
            outcome = await self.execute(step, NO_VALUES)
            if not isinstance(outcome, Done):
                raise FeatureNotSupported("a statement with rows in DO is not supported", hint="leave RETURNING away")
            for fields in outcome.notices:
                if not (quiet and fields["C"] == _AT_ONCE):
                    self._output.say(messages.notice(fields))

    async def _holds(self, condition: Query) -> bool:
        outcome = await self.execute(condition, NO_VALUES)
        assert isinstance(outcome, Rows)
        if [column.type for column in outcome.columns] != [BOOL]:
            raise DatatypeMismatch("the condition of IF is no boolean")
        try:
            found = [
                value async for batch in outcome.batches if batch is not None for value in batch.column(0).to_pylist()
            ]
        finally:
            await outcome.batches.aclose()
        return found == [True]

    async def commit(self) -> None:
        """End a transaction that no BEGIN began: what was written is durable, and cursors that do not outlive it close."""
        await self._context.cursors.hold()
        await self._context.transaction.commit()
        await self._context.cursors.end()

    def finish(self, done: Done) -> None:
        """Say what a statement without rows has done."""
        for fields in done.notices:
            self._output.say(messages.notice(fields))
        self._output.say(messages.command_complete(done.tag))

    def begin_copy(self, copy: CopyIn) -> None:
        """Ask for COPY data."""
        self.copy = copy
        self._output.say(self._connection.copy_in_response([int(copy.binary)] * len(copy.column_names)))

    async def copy_out(self, copy: CopyOut) -> str:
        """Send all rows as COPY data; gives the tag. What comes behind the data is said, not yet sent."""
        cursor = Cursor(copy.rows)
        encoder = copy.encoder
        try:
            if not copy.rows.live:
                await cursor.look_ahead()
            self._output.say(messages.copy_out_response(encoder.formats))
            self._output.say(encoder.head())
            sent = await self._send(cursor, encoder.rows, None)
        finally:
            await cursor.close()
        self._output.say(encoder.tail() + messages.copy_done())
        return f"COPY {sent}"

    async def send_rows(self, cursor: Cursor, formats: list[int], rows_max: int | None) -> int:
        """Send rows until `rows_max` or the end; a live result's portion also ends when there are no more just now."""
        zone = self._context.zone
        types = [c.type for c in cursor.rows.columns]
        if not cursor.rows.shared:
            return await self._send(cursor, lambda batch: encode_rows(batch, types, formats, zone=zone), rows_max)
        shared = self._context.known.encoded
        key = shared.shape((tuple(formats), tuple(types), zone))

        def encoded(batch: pa.RecordBatch) -> memoryview:
            if batch.num_rows > SHARED_ROWS_MAX:
                return encode_rows(batch, types, formats, zone=zone)
            made = shared.get(batch, key)
            if made is None:
                made = encode_rows(batch, types, formats, zone=zone)
                shared.put(batch, made, key)
            return made

        return await self._send(cursor, encoded, rows_max)

    async def _send(self, cursor: Cursor, encode: Callable[[pa.RecordBatch], memoryview], rows_max: int | None) -> int:
        sent = 0
        while rows_max is None or sent < rows_max:
            batch = await cursor.take(None if rows_max is None else rows_max - sent)
            if batch is None:
                if cursor.ended:
                    break
                self._context.cancel.check()
                if sent and rows_max is not None:
                    break
                await self._output.flush()
                continue
            if batch.num_rows <= ROWS_ENCODED_INLINE_MAX:
                data = encode(batch)
            else:
                data = await self._context.reads.compute(lambda rows=batch: encode(rows))  # type: ignore[misc]
            await self._output.say_rows(data)
            sent += batch.num_rows
            self._context.cancel.check()
        return sent
