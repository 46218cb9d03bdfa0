"""INSERT ... ON CONFLICT: the clause as DuckDB's, checked against the table."""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidColumnReference,
    SQLSyntaxError,
    UndefinedColumn,
    WrongObjectType,
)
from streamsql.catalog.objects import Stream, Table, nearest, quoted
from streamsql.plan.fitting import fitted_sql
from streamsql.plan.functions import refuse_functions, refuse_session_functions
from streamsql.plan.insertion import default_of
from streamsql.sql.parse import position_of
from streamsql.sql.render import duckdb_sql
from streamsql.sql.statements import Insert


def conflict_sql(statement: Insert, relation: Stream | Table) -> str:
    """Give the SQL of an INSERT's ON CONFLICT clause. Raises StreamSQLError, with a position where there is one."""
    conflict = statement.conflict
    assert conflict is not None
    if not isinstance(relation, Table):
        raise WrongObjectType(
            f'"{relation.name}" is not a table',
            hint="ON CONFLICT is for a table's primary key; a stream takes every row",
            position=statement.name_position + 1,
        )
    updates = str(conflict.args["action"].name).upper() == "DO UPDATE"
    _check_key(conflict, statement, relation, required=updates)
    key = ", ".join(quoted(c) for c in relation.primary_key)
    if not updates:
        return f"ON CONFLICT ({key}) DO NOTHING"
    if not conflict.expressions:
        raise SQLSyntaxError("ON CONFLICT DO UPDATE needs SET", hint="write DO UPDATE SET column = EXCLUDED.column")
    assignments = ", ".join(_assignment(e, statement, relation) for e in conflict.expressions)
    where = conflict.args.get("where")
    condition = f" WHERE {duckdb_sql(_checked(where.this, statement))}" if where is not None else ""
    return f"ON CONFLICT ({key}) DO UPDATE SET {assignments}{condition}"


def _check_key(conflict: exp.OnConflict, statement: Insert, table: Table, *, required: bool) -> None:
    named = [k.this.name if isinstance(k, exp.Ordered) else k.name for k in conflict.args.get("conflict_keys") or []]
    if required and not named:
        raise SQLSyntaxError(
            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            hint="for example, ON CONFLICT (column_name)",
        )
    if not table.primary_key or (named and set(named) != set(table.primary_key)):
        shown = f"its primary key is ({', '.join(table.primary_key)})" if table.primary_key else "it has no primary key"
        raise InvalidColumnReference(
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            detail=f'of table "{table.bare}": {shown}',
            position=statement.name_position + 1,
        )


def _assignment(node: exp.Expr, statement: Insert, table: Table) -> str:
    if not isinstance(node, exp.EQ) or not isinstance(node.this, exp.Column):
        raise FeatureNotSupported("assignments to several columns at once are not supported", hint="assign one by one")
    name = node.this.name
    column = table.column(name)
    if column is None:
        raise UndefinedColumn(
            f'column "{name}" of relation "{table.bare}" does not exist',
            hint=nearest(name, [c.name for c in table.columns]),
            position=position_of(node.this, statement),
        )
    value = node.expression
    if isinstance(value, exp.Column) and not value.table and value.name.lower() == "default":
        value = default_of(column)
    fitting = fitted_sql(f"CAST({duckdb_sql(_checked(value, statement))} AS {column.type})", column)
    return f"{quoted(name)} = {fitting}"


def _checked(value: exp.Expr, statement: Insert) -> exp.Expr:
    refuse_functions(value, statement)
    refuse_session_functions(value, statement, "ON CONFLICT")
    query = value.find(exp.Query)
    if query is not None:
        raise FeatureNotSupported("a subquery cannot be used in ON CONFLICT", position=position_of(query, statement))
    hidden = next((c for c in value.find_all(exp.Column) if c.name.startswith("__")), None)
    if hidden is not None:
        raise UndefinedColumn(f'column "{hidden.name}" does not exist', position=position_of(hidden, statement))
    return value
