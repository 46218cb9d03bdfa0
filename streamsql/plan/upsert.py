"""INSERT ... ON CONFLICT: the clause as DuckDB's, checked against the table."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidColumnReference,
    SQLSyntaxError,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)
from streamsql.base.limits import Limits
from streamsql.catalog.objects import Stream, Table, nearest, quoted
from streamsql.plan.expressions import expressions_sql
from streamsql.plan.fitting import fitted_sql
from streamsql.plan.functions import refuse_functions, refuse_session_functions
from streamsql.plan.insertion import default_of
from streamsql.sql.parse import position_of
from streamsql.sql.render_trees import duckdb_sql
from streamsql.sql.statements import ColumnDefinition, Insert
from streamsql.sql.trees import table_of


@dataclass(frozen=True, slots=True)
class Conflict:
    """An ON CONFLICT clause: its SQL, the key that it is about (None: any), and whether it updates."""

    sql: str
    key: tuple[str, ...] | None
    updates: bool


def conflict_sql(statement: Insert, conflict: exp.Expr, relation: Stream | Table, limits: Limits) -> Conflict:
    """Give an INSERT's ON CONFLICT clause, whose parameters have been put in. Raises StreamSQLError, with a position."""
    if not isinstance(relation, Table):
        raise WrongObjectType(
            f'"{relation.name}" is not a table',
            hint="ON CONFLICT is for a table's primary key; a stream takes every row",
            position=statement.name_position + 1,
        )
    updates = str(conflict.args["action"].name).upper() == "DO UPDATE"
    target = conflict_key(statement, relation)
    if target is None and updates:
        raise SQLSyntaxError(
            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            hint="for example, ON CONFLICT (column_name)",
        )
    key = "" if target is None else f" ({', '.join(quoted(c) for c in target)})"
    if not updates:
        return Conflict(f"ON CONFLICT{key} DO NOTHING", target, updates)
    if not conflict.expressions:
        raise SQLSyntaxError("ON CONFLICT DO UPDATE needs SET", hint="write DO UPDATE SET column = EXCLUDED.column")
    assigned = [_assignment(e, statement, relation) for e in conflict.expressions]
    where = conflict.args.get("where")
    values = [_checked(value, statement) for _, value in assigned]
    values += [_checked(where.this, statement)] if where is not None else []
    written = _written(values, statement, relation, limits)
    assignments = ", ".join(
        f"{quoted(column.name)} = {fitted_sql(f'CAST({sql} AS {column.type})', column)}"
        for (column, _), sql in zip(assigned, written, strict=False)
    )
    condition = f" WHERE {written[-1]}" if where is not None else ""
    return Conflict(f"ON CONFLICT{key} DO UPDATE SET {assignments}{condition}", target, updates)


def _written(values: list[exp.Expr], statement: Insert, table: Table, limits: Limits) -> list[str]:
    """Give the SQL of what is assigned, and of the condition; EXCLUDED is the row that was to be inserted."""
    if all(isinstance(value, exp.Column) for value in values):
        return [duckdb_sql(value) for value in values]
    return expressions_sql(values, statement, limits, {table.bare: table, "excluded": table})


def as_update(conflict: exp.OnConflict, name: str) -> exp.Expr:
    """Make an UPDATE of the clause, in which the types of its parameters are looked for: EXCLUDED has the table's columns."""
    where = conflict.args.get("where")
    made = exp.Update(
        this=table_of(name),
        expressions=[e.copy() for e in conflict.expressions],
        where=None if where is None else where.copy(),
    )
    for column in made.find_all(exp.Column):
        if column.table.lower() == "excluded":
            column.set("table", None)
    return made


def conflict_key(statement: Insert, table: Table) -> tuple[str, ...] | None:
    """Name the columns of the key that ON CONFLICT is about; None where it is about any. Raises StreamSQLError."""
    conflict = statement.conflict
    assert conflict is not None
    constraint = conflict.args.get("constraint")
    if constraint is not None:
        found = next((k for k in table.keys if k.name == constraint.name), None)
        if found is None:
            raise UndefinedObject(f'constraint "{constraint.name}" for table "{table.bare}" does not exist')
        return found.columns
    named = [k.this.name if isinstance(k, exp.Ordered) else k.name for k in conflict.args.get("conflict_keys") or []]
    if not named:
        return None
    matching = next((k for k in table.keys if set(k.columns) == set(named)), None)
    if matching is None:
        keys = " and ".join(f"({', '.join(k.columns)})" for k in table.keys)
        raise InvalidColumnReference(
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            hint=f"its keys are {keys}" if keys else "the table has no key",
            position=statement.name_position + 1,
        )
    return matching.columns


def _assignment(node: exp.Expr, statement: Insert, table: Table) -> tuple[ColumnDefinition, exp.Expr]:
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
    return column, value


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
