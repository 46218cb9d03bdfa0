"""LOCK TABLE.

There is nothing to do in the modes that let others read and write: reads are snapshots, and writes of one commit are one
epoch. A transaction cannot keep others from writing, so the modes that promise that are refused.
"""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported, NoActiveTransaction
from streamsql.catalog.rights import require_any
from streamsql.server.context import Context, Values
from streamsql.server.results import Done
from streamsql.sql.locks import LockTable

_CHANGES = ("UPDATE", "DELETE", "TRUNCATE")
# the modes that there are, and the privileges of which PostgreSQL asks for one
_WEAK_MODES = {"access share": ("SELECT",), "row share": _CHANGES, "row exclusive": ("INSERT", *_CHANGES)}


async def execute(context: Context, statement: LockTable, values: Values) -> Done:
    if not context.transaction.in_block:
        raise NoActiveTransaction("LOCK TABLE can only be used in transaction blocks")
    for name, position in zip(statement.names, statement.name_positions, strict=True):
        made = context.catalog.find(name, position + 1)
        require_any(context.catalog, context.asker.role, made, *_WEAK_MODES.get(statement.mode, _CHANGES))
    if statement.mode not in _WEAK_MODES:
        raise FeatureNotSupported(
            f"LOCK TABLE in {statement.mode.upper()} MODE is not supported",
            hint="a transaction cannot keep others from writing; the modes ACCESS SHARE, ROW SHARE and ROW EXCLUSIVE do not",
            position=statement.mode_position + 1,
        )
    return Done("LOCK TABLE")
