"""Which functions a client's SQL may call, beyond the pure ones.

DuckDB runs user SQL in the server's process, with files and extensions closed off. What is left to refuse are functions
that read the server's memory by address, change its state, or run SQL that was not looked at: every table function that
is not on the list below, and the scalar functions of `REFUSED_SCALARS`.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from streamsql import __version__

TABLE_FUNCTIONS = frozenset({
    "generate_series", "generate_subscripts", "histogram_values", "json_each", "json_tree", "range", "repeat", "repeat_row",
    "unnest", "test_all_types",
})  # fmt: skip

REFUSED_SCALARS = frozenset({
    "current_connection_id", "current_setting", "force_checkpoint", "getvariable", "nextval", "currval", "parse_duckdb_log_message",
    "pg_read_file", "query", "query_table", "set_config", "setseed", "sleep_ms", "write_log", "getenv", "lo_import", "lo_export",
    "json_serialize_plan", "json_execute_serialized_sql", "in_search_path", "add_parquet_key", "which_secret",
})  # fmt: skip

SERVER_VERSION = "15.0"

# What clients ask about the server itself: name -> the value for a user.
SESSION_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "current_catalog": lambda _: "'streamsql'",
    "current_database": lambda _: "'streamsql'",
    "current_role": lambda user: user,
    "current_schema": lambda _: "'public'",
    "current_user": lambda user: user,
    "pg_advisory_unlock_all": lambda _: "NULL",
    "pg_backend_pid": lambda _: "0",
    "pg_is_in_recovery": lambda _: "FALSE",
    "session_user": lambda user: user,
    "user": lambda user: user,
    "version": lambda _: f"'PostgreSQL {SERVER_VERSION} (streamsql {__version__})'",
}


def function_name(node: exp.Expression) -> str | None:
    """Give the lower-case name of a function call as the client wrote it, or None for what is no call."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if isinstance(node, exp.Func):
        return node.sql_name().lower()
    return None


def session_value(node: exp.Expression, user: str) -> str | None:
    """Give the SQL of what this call says about the session, or None for any other expression."""
    if isinstance(node, exp.Column) and (node.table or node.this.args.get("quoted")):
        return None
    if isinstance(node, exp.Column):
        name = node.name.lower() if node.name.lower() in {"current_role", "session_user", "user"} else None
    elif isinstance(node, exp.Anonymous) and not node.expressions:
        name = str(node.this).lower()
    elif isinstance(node, exp.Func) and not isinstance(node, exp.Cast):
        name = node.sql("postgres").partition("(")[0].lower()
    else:
        return None
    make = SESSION_FUNCTIONS.get(name or "")
    return make("'" + user.replace("'", "''") + "'") if make else None
