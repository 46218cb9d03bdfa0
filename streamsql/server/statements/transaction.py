"""BEGIN, COMMIT, ROLLBACK, and savepoints."""

from __future__ import annotations

from streamsql.base.errors import NoActiveTransaction
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.session import set_modes
from streamsql.sql.statements import Transaction, TransactionVerb


async def execute(context: Context, statement: Transaction, values: Values) -> Done:
    transaction = context.transaction
    if statement.verb is TransactionVerb.BEGIN:
        if transaction.explicit:
            return Done("BEGIN", [_warning("there is already a transaction in progress", "25001")])
        transaction.begin()
        context.variables.begin()
        set_modes(context, "transaction_", statement.modes)
        return Done("BEGIN")
    if statement.name:
        _savepoint(context, statement)
        return Done(statement.verb.value.removesuffix(" TO"))
    outside = [] if transaction.explicit else [_warning("there is no transaction in progress", "25P01")]
    if statement.verb is TransactionVerb.ROLLBACK or transaction.failed:
        transaction.roll_back()
        context.variables.end(committed=False)
        return Done("ROLLBACK", outside)
    try:
        await transaction.commit()
    except BaseException:
        context.variables.end(committed=False)
        raise
    context.variables.end(committed=True)
    return Done("COMMIT", outside)


def _savepoint(context: Context, statement: Transaction) -> None:
    transaction, variables, name = context.transaction, context.variables, statement.name
    if not transaction.explicit:
        words = "ROLLBACK TO SAVEPOINT" if statement.verb is TransactionVerb.ROLLBACK_TO else statement.verb.value
        words = "RELEASE SAVEPOINT" if statement.verb is TransactionVerb.RELEASE else words
        raise NoActiveTransaction(f"{words} can only be used in transaction blocks", hint="send BEGIN first")
    if statement.verb is TransactionVerb.SAVEPOINT:
        transaction.set_savepoint(name, dict(variables.values))
    elif statement.verb is TransactionVerb.RELEASE:
        transaction.release(name)
    else:
        variables.restore(transaction.roll_back_to(name))


def _warning(message: str, sqlstate: str) -> dict[str, str]:
    return notice(message, severity="WARNING", sqlstate=sqlstate)
