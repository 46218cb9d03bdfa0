"""Statements that concern the session alone: SET, SHOW name, RESET, DEALLOCATE, DISCARD, CLOSE, UNLISTEN."""

from __future__ import annotations

from streamsql.base.errors import InvalidCursorName, InvalidStatementName
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, ResultColumn, Rows, static_columns, static_rows
from streamsql.server.variables import VARIABLES, key_of, spelling
from streamsql.sql.statements import (
    CloseCursor,
    Deallocate,
    Discard,
    SetVariable,
    ShowVariable,
    Unlisten,
)


async def set_variable(context: Context, statement: SetVariable, values: Values) -> Done:
    tag = "RESET" if statement.reset else "SET"
    if statement.name in _MODES_OF and statement.value is not None:
        set_modes(context, _MODES_OF[statement.name], statement.value)
    elif statement.reset and statement.name == "all":
        context.variables.reset_all()
    else:
        context.variables.set(statement.name, statement.value, local=statement.local)
    return Done(tag)


# SET TRANSACTION and SET SESSION CHARACTERISTICS: what their variables begin with
_MODES_OF = {"transaction": "transaction_", "session_characteristics": "default_transaction_"}


def set_modes(context: Context, prefix: str, modes: str) -> None:
    """Set the variables behind ``ISOLATION LEVEL ..., READ ONLY, NOT DEFERRABLE``."""
    for mode in modes.lower().split(","):
        words = " ".join(mode.split())
        if words.startswith("isolation level "):
            context.variables.set(f"{prefix}isolation", words.removeprefix("isolation level "))
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


async def deallocate(context: Context, statement: Deallocate, values: Values) -> Done:
    if statement.name is None:
        context.prepared.clear()
        return Done("DEALLOCATE ALL")
    if statement.name not in context.prepared:
        raise InvalidStatementName(f'prepared statement "{statement.name}" does not exist')
    del context.prepared[statement.name]
    return Done("DEALLOCATE")


async def discard(context: Context, statement: Discard, values: Values) -> Done:
    context.prepared.clear()
    context.variables.discard_all()
    context.transaction.set_temporary({})
    return Done("DISCARD ALL")


async def close_cursor(context: Context, statement: CloseCursor, values: Values) -> Done:
    if statement.name is not None:
        raise InvalidCursorName(f'cursor "{statement.name}" does not exist')
    return Done("CLOSE CURSOR ALL")


async def unlisten(context: Context, statement: Unlisten, values: Values) -> Done:
    return Done("UNLISTEN")
