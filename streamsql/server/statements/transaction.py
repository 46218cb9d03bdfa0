"""BEGIN, COMMIT, ROLLBACK, and savepoints."""

from __future__ import annotations

from streamsql.base.errors import NoActiveTransaction
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.session import set_modes
from streamsql.server.variables import TRANSACTION_VARIABLES
from streamsql.sql.statements import Transaction, TransactionVerb


async def execute(context: Context, statement: Transaction, values: Values) -> Done:
    transaction = context.transaction
    if statement.verb is TransactionVerb.BEGIN:
        tag = "START TRANSACTION" if statement.text[:5].upper() == "START" else "BEGIN"
        if transaction.explicit:
            return Done(tag, [_warning("there is already a transaction in progress", "25001")])
        transaction.begin()
        context.variables.begin()
        set_modes(context, "transaction_", statement.modes)
        return Done(tag)
    if statement.name:
        return Done(statement.verb.value.removesuffix(" TO"), await _savepoint(context, statement))
    if statement.chain and not transaction.explicit:
        raise NoActiveTransaction(f"{statement.verb.value} AND CHAIN can only be used in transaction blocks")
    modes = {name: context.variables.get(name) for name in TRANSACTION_VARIABLES} if statement.chain else {}
    try:
        return await _end(context, statement)
    finally:
        if statement.chain:
            transaction.begin()
            context.variables.begin()
            for name, value in modes.items():
                context.variables.set(name, value)


async def _end(context: Context, statement: Transaction) -> Done:
    transaction = context.transaction
    outside = [] if transaction.explicit else [_warning("there is no transaction in progress", "25P01")]
    if statement.verb is TransactionVerb.ROLLBACK or transaction.failed:
        transaction.roll_back()
        context.variables.end(committed=False)
        await context.cursors.end()
        return Done("ROLLBACK", outside + await _undone(context))
    try:
        await context.cursors.hold()
        await transaction.commit()
    except BaseException:
        context.variables.end(committed=False)
        await _undone(context)
        raise
    finally:
        await context.cursors.end()
    context.variables.end(committed=True)
    return Done("COMMIT", outside)


async def _undone(context: Context) -> list[dict[str, str]]:
    """Drop what the transaction has made and does not keep; warn of what others use."""
    return [_warning(text, "25000") for text in await context.undo()]


async def _savepoint(context: Context, statement: Transaction) -> list[dict[str, str]]:
    transaction, variables, name = context.transaction, context.variables, statement.name
    if not transaction.explicit:
        words = "ROLLBACK TO SAVEPOINT" if statement.verb is TransactionVerb.ROLLBACK_TO else statement.verb.value
        words = "RELEASE SAVEPOINT" if statement.verb is TransactionVerb.RELEASE else words
        raise NoActiveTransaction(f"{words} can only be used in transaction blocks", hint="send BEGIN first")
    if statement.verb is TransactionVerb.SAVEPOINT:
        names = frozenset(cursor.name for cursor in context.cursors)
        transaction.set_savepoint(name, dict(variables.values), names)
    elif statement.verb is TransactionVerb.RELEASE:
        transaction.release(name)
    else:
        found = transaction.roll_back_to(name)
        variables.restore(found.settings)
        await context.cursors.close_since(found.cursors)
    return await _undone(context)


def _warning(message: str, sqlstate: str) -> dict[str, str]:
    return notice(message, severity="WARNING", sqlstate=sqlstate)
