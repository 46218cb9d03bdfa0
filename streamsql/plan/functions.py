"""Which functions a client's SQL may call.

DuckDB runs user SQL in the server's process, with files and extensions closed off. What is left to refuse are functions
that read the server's memory by address, show or change its inner state, or run SQL that was not looked at: every table
function that is not in `TABLE_FUNCTIONS`, and the scalar functions of `REFUSED`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sqlglot import exp

from streamsql import __version__
from streamsql.base.errors import FeatureNotSupported, UndefinedFunction, UndefinedObject
from streamsql.catalog.access import OWNER, OWNER_NAME
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of, start_of

TABLE_FUNCTIONS = frozenset({
    "generate_series", "generate_subscripts", "json_each", "json_tree", "range", "regexp_split_to_table", "repeat", "unnest",
})  # fmt: skip

# functions of one value that clients call in FROM, as if they were a relation of one row
VALUES_IN_FROM = frozenset({
    "current_database", "current_schema", "current_schemas", "current_setting", "now", "parse_ident", "pg_backend_pid",
    "string_to_array", "version",
})  # fmt: skip

REFUSED = frozenset({
    # the server's settings, variables, secrets, log and inner numbers
    "current_connection_id", "current_query", "current_query_id", "current_setting", "current_transaction_id", "getvariable",
    "parse_duckdb_log_message", "which_secret", "write_log", "getenv", "set_config", "setseed", "txid_current",
    # sequences: there are none of the user's
    "currval", "nextval", "setval",
    # SQL, or a plan, that nobody looked at
    "json_execute_serialized_sql", "json_serialize_plan", "query", "query_table",
    # bytes taken for DuckDB's inner structures
    "combine", "combine_aggr", "finalize", "to_aggregate_state", "variant_bytes_to_variant",
    # types made at run time
    "cast_to_type", "get_type", "make_type", "replace_type",
})  # fmt: skip
OWN = "own"  # in the meta of a call that the server has written
_HYPOTHETICAL = (exp.CumeDist, exp.DenseRank, exp.PercentRank, exp.Rank)
# DuckDB's own names for what its optimizer writes; they trust their arguments
_REFUSED_PREFIX = "__"

SERVER_VERSION = "15.0"


class Settings(Protocol):
    """The variables of a session."""

    def get(self, name: str) -> str:
        """Give a variable's value; raises UndefinedObject."""
        ...

    def set(self, name: str, value: str | None) -> None:
        """Set a variable; raises StreamSQLError for a value that cannot be."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: what ``current_user``, ``pg_backend_pid()`` and ``current_setting(name)`` say, and with whose rights.

    `role` is the OID of the role that `user` names. `owner` is the name by which the first owner is shown. `path` are the
    schemas of the search path that there are.
    """

    user: str
    process_id: int = 0
    database: str = "streamsql"
    settings: Settings | None = field(default=None, compare=False)
    role: int = OWNER
    session_user: str = ""
    owner: str = ""
    path: tuple[str, ...] = ("public",)

    @property
    def owner_shown(self) -> str:
        return self.owner or (self.user if self.role == OWNER else OWNER_NAME)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# What clients ask about the server itself: name -> the SQL of the answer.
SESSION_FUNCTIONS: dict[str, Callable[[Asker], str]] = {
    "current_catalog": lambda asker: _text(asker.database),
    "current_database": lambda asker: _text(asker.database),
    "current_role": lambda asker: _text(asker.user),
    "current_schema": lambda asker: _text(asker.path[0]) if asker.path else "NULL",
    "current_user": lambda asker: _text(asker.user),
    "pg_backend_pid": lambda asker: str(asker.process_id),
    "pg_is_in_recovery": lambda _: "FALSE",
    "session_user": lambda asker: _text(asker.session_user or asker.user),
    "user": lambda asker: _text(asker.user),
    "version": lambda _: _text(f"PostgreSQL {SERVER_VERSION} (streamsql {__version__})"),
}
SETTING_FUNCTIONS = frozenset({"current_setting", "set_config"})
# those that are called without parentheses, so that they look like columns
_BARE = frozenset({"current_role", "session_user", "user"})


def function_name(node: exp.Expr, statement: Statement) -> str | None:
    """Give the name of a function call as the client wrote it, in lower case; None for what is no call."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).strip('"').lower()
    if not isinstance(node, exp.Func) or isinstance(node, (exp.Cast, exp.Case)):
        return None
    start, end = node.meta.get("start"), node.meta.get("end")
    if start is not None and end is not None:
        first = start - statement.position
        written = statement.text[first : end + 1 - statement.position] if first >= 0 else ""
        if written.replace("_", "").isalnum():
            return written.lower()
    if isinstance(node, (exp.Binary, exp.If)):
        return None  # an operator
    return node.sql_name().lower()


_ANY_DATE_PART = re.compile(r"\bdate_part\s*\((?!.*\bextract\s*\()", re.IGNORECASE | re.DOTALL)
_DATE_PART = re.compile(r"date_part\s*\(\s*'\w+'\s*,\s*\Z", re.IGNORECASE)


def is_date_part(node: exp.Extract, statement: Statement) -> bool:
    """Tell whether a client wrote ``date_part('year', x)``, which the stock parser turns into EXTRACT(year FROM x)."""
    start = start_of(node.expression)
    if start is None:  # nothing in it says where it stands: both are not written in one statement
        return _ANY_DATE_PART.search(statement.text) is not None
    return _DATE_PART.search(statement.text[: start - statement.position]) is not None


def refuse_functions(tree: exp.Expr, statement: Statement) -> None:
    """Raise UndefinedFunction or FeatureNotSupported, with a position, for a call that a client may not make."""
    for node in tree.walk():
        if isinstance(node, (exp.Table, exp.Lateral)):
            _refuse_table_function(node, statement)
        if isinstance(node, (exp.IgnoreNulls, exp.RespectNulls)) and node.find_ancestor(exp.Window) is None:
            raise FeatureNotSupported(
                "IGNORE NULLS and RESPECT NULLS stand in window functions only",
                hint="write FILTER (WHERE x IS NOT NULL)",
                position=position_of(node, statement),
            )
        if isinstance(node, exp.WithinGroup) and isinstance(node.this, _HYPOTHETICAL):
            raise FeatureNotSupported(
                "hypothetical-set aggregates are not supported",
                hint="count the rows that come before the value",
                position=position_of(node.this, statement),
            )
        name = function_name(node, statement) if OWN not in node.meta else None
        if name is not None and (name in REFUSED or name.startswith(_REFUSED_PREFIX)):
            raise UndefinedFunction(f"function {name} does not exist", position=position_of(node, statement))


def _refuse_table_function(node: exp.Table | exp.Lateral, statement: Statement) -> None:
    called = node.this
    if not isinstance(called, (exp.Func, exp.Anonymous)) or isinstance(called, (exp.Explode, exp.Unnest)):
        return
    name = function_name(called, statement) or called.sql_name().lower()
    if name not in TABLE_FUNCTIONS:
        raise UndefinedFunction(
            f"function {name} does not exist, or cannot be used in FROM",
            hint=f"functions that can: {', '.join(sorted(TABLE_FUNCTIONS))}",
            position=position_of(called, statement),
        )


def refuse_session_functions(tree: exp.Expr, statement: Statement, where: str) -> None:
    """Raise FeatureNotSupported for a question about the session where there is no session to ask."""
    for node in tree.walk():
        name = _session_function(node, statement)
        if name is not None:
            raise FeatureNotSupported(f"{name} cannot be used in {where}", position=position_of(node, statement))


def asks_settings(tree: exp.Expr, statement: Statement) -> bool:
    """Tell whether a query's answer changes with the session's variables."""
    return any(function_name(node, statement) in SETTING_FUNCTIONS for node in tree.walk())


def session_value(node: exp.Expr, asker: Asker, statement: Statement) -> str | None:
    """Give the SQL of what this call says about the session, or None for any other expression.

    ``set_config`` sets the variable: it is what a client calls where it cannot send SET.
    """
    name = _session_function(node, statement)
    if name is None:
        return _setting(node, asker, statement)
    return SESSION_FUNCTIONS[name](asker)


def _session_function(node: exp.Expr, statement: Statement) -> str | None:
    if isinstance(node, exp.Column):
        plain = isinstance(node.this, exp.Identifier) and not node.table and not node.this.args.get("quoted")
        return node.name.lower() if plain and node.name.lower() in _BARE else None
    name = function_name(node, statement)
    return name if name in SESSION_FUNCTIONS else None


def _setting(node: exp.Expr, asker: Asker, statement: Statement) -> str | None:
    if asker.settings is None or not isinstance(node, exp.Anonymous):
        return None
    name = function_name(node, statement)
    if name == "set_config" and node.expressions and isinstance(node.expressions[0], exp.Column):
        column = node.expressions[0].sql("duckdb")  # pg_dump names a variable so that only newer servers have
        return f"error('set_config of a column is not supported: ' || {column})"
    literals = [a for a in node.expressions if isinstance(a, (exp.Literal, exp.Boolean))]
    if name not in SETTING_FUNCTIONS or not literals or len(literals) != len(node.expressions):
        return None
    variable, *others = literals
    if name == "set_config" and others:
        asker.settings.set(variable.name, others[0].name)
        return _text(others[0].name)
    try:
        return _text(asker.settings.get(variable.name))
    except UndefinedObject:
        if others and others[0].this:  # missing_ok
            return "NULL"
        raise
