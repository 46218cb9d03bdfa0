"""BEGIN, COMMIT, ROLLBACK."""

from __future__ import annotations

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
    outside = [] if transaction.explicit else [_warning("there is no transaction in progress", "25P01")]
    if statement.verb is TransactionVerb.ROLLBACK or transaction.failed:
        transaction.roll_back()
        context.variables.end(committed=False)
        await context.cursors.end()
        return Done("ROLLBACK", outside)
    try:
        await context.cursors.hold()
        await transaction.commit()
    except BaseException:
        context.variables.end(committed=False)
        raise
    finally:
        await context.cursors.end()
    context.variables.end(committed=True)
    return Done("COMMIT", outside)


def _warning(message: str, sqlstate: str) -> dict[str, str]:
    return notice(message, severity="WARNING", sqlstate=sqlstate)
