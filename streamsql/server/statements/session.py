"""Statements that concern the session alone: SET, SHOW name, RESET, DISCARD."""

from __future__ import annotations

from streamsql.base.errors import ActiveTransaction
from streamsql.server.context import Context, Values
from streamsql.server.notifications import ListenTo
from streamsql.server.results import Done, ResultColumn, Rows, notice, static_columns, static_rows
from streamsql.server.variables import VARIABLES, key_of, spelling
from streamsql.sql.statements import (
    Discard,
    SetVariable,
    ShowVariable,
)


async def set_variable(context: Context, statement: SetVariable, values: Values) -> Done:
    tag = "RESET" if statement.reset else "SET"
    notices: list[dict[str, str]] = []
    if (statement.name == "transaction" or statement.local) and not context.transaction.in_block:
        what = "SET TRANSACTION" if statement.name == "transaction" else "SET LOCAL"
        message = f"{what} can only be used in transaction blocks"
        notices.append(notice(message, severity="WARNING", sqlstate="25P01"))
    if statement.name in _MODES_OF and statement.value is not None:
        set_modes(context, _MODES_OF[statement.name], statement.value)
    elif statement.reset and statement.name == "all":
        context.variables.reset_all()
    else:
        context.variables.set(statement.name, statement.value, local=statement.local)
    return Done(tag, notices)


# SET TRANSACTION and SET SESSION CHARACTERISTICS: what their variables begin with
_MODES_OF = {"transaction": "transaction_", "session_characteristics": "default_transaction_"}


def set_modes(context: Context, prefix: str, modes: str) -> None:
    """Set the variables behind ``ISOLATION LEVEL ..., READ ONLY, NOT DEFERRABLE``."""
    for mode in modes.lower().split(","):
        words = " ".join(mode.split())
        if words.startswith("isolation level "):
            context.variables.set(f"{prefix}isolation", words.removeprefix("isolation level "))
        elif words in ("deferrable", "not deferrable"):
            context.variables.set(f"{prefix}deferrable", "on" if words == "deferrable" else "off")
        elif words in ("read only", "read write"):
            context.variables.set(f"{prefix}read_only", "on" if words == "read only" else "off")


async def show_columns(context: Context, statement: ShowVariable, values: Values) -> list[ResultColumn]:
    if statement.name == "all":
        return static_columns(("name", str), ("setting", str), ("description", str))
    return static_columns((spelling(key_of(statement.name)), str))


async def show_variable(context: Context, statement: ShowVariable, values: Values) -> Rows:
    columns = await show_columns(context, statement, values)
    if statement.name == "all":
        rows = [(spelling(n), context.variables.get(n), v.description) for n, v in VARIABLES.items()]
        return static_rows(columns, rows, "SHOW")
    return static_rows(columns, [(context.variables.get(statement.name),)], "SHOW")


async def discard(context: Context, statement: Discard, values: Values) -> Done:
    """Do what PostgreSQL does for ALL; no plans are kept by a session."""
    if statement.what == "all":
        if context.transaction.in_block:
            raise ActiveTransaction("DISCARD ALL cannot run inside a transaction block")
        await context.cursors.close(None)
        context.transaction.act(ListenTo(None, begins=False))
        context.known.advisory.release_all(context.logged_in.process_id, transaction=False)
        context.prepared.clear()
        context.variables.discard_all()
    if statement.what in ("all", "sequences"):
        context.numbers.clear()
    if statement.what in ("all", "temp"):
        context.transaction.set_temporary({})
    return Done(f"DISCARD {statement.what.upper()}")
