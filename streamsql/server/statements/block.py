"""SAVEPOINT, RELEASE, ROLLBACK TO, and LOCK TABLE.

What a transaction has written waits for its commit, so going back to a savepoint forgets what came after it. LOCK TABLE has
nothing to do in the modes that let others read and write: reads are snapshots, and writes of one commit are one epoch. It
cannot keep others from writing, so the modes that promise that are refused.
"""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported, NoActiveTransaction
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.sql.statements import LockTable, Savepoint, SavepointVerb

_WEAK_MODES = frozenset({"access share", "row share", "row exclusive"})


async def savepoint(context: Context, statement: Savepoint, values: Values) -> Done:
    transaction = context.transaction
    if not transaction.explicit:
        raise NoActiveTransaction(f"{statement.verb.value} can only be used in transaction blocks")
    match statement.verb:
        case SavepointVerb.SAVEPOINT:
            names = frozenset(cursor.name for cursor in context.cursors)
            transaction.set_savepoint(statement.name, context.variables.marked(), names)
            return Done("SAVEPOINT")
        case SavepointVerb.RELEASE:
            transaction.release(statement.name)
            return Done("RELEASE")
        case SavepointVerb.ROLLBACK_TO:
            found = transaction.roll_back_to(statement.name)
            context.variables.go_back(found.variables)
            await context.cursors.close_since(found.cursors)
            return Done("ROLLBACK")


async def lock(context: Context, statement: LockTable, values: Values) -> Done:
    if not context.transaction.in_block:
        raise NoActiveTransaction("LOCK TABLE can only be used in transaction blocks")
    for name, position in zip(statement.names, statement.name_positions, strict=True):
        context.catalog.find(name, position + 1)
    if statement.mode not in _WEAK_MODES:
        raise FeatureNotSupported(
            f"LOCK TABLE in {statement.mode.upper()} MODE is not supported",
            hint="a transaction cannot keep others from writing; the modes ACCESS SHARE, ROW SHARE and ROW EXCLUSIVE do not",
            position=statement.mode_position + 1,
        )
    return Done("LOCK TABLE")
