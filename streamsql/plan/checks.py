"""CHECK constraints as SQL: the rows of a batch, or of a table, for which a condition is false.

A condition speaks of the relation's own columns; it is read as an ad-hoc query reads it, once, when the relation is made or
read back, and then run over whole batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from streamsql.base.errors import DatatypeMismatch, FeatureNotSupported, GroupingError, StreamSQLError, UndefinedColumn
from streamsql.base.limits import Limits
from streamsql.base.types import type_name, wire_column
from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.plan.adhoc import adhoc_query
from streamsql.plan.expressions import closed_scope
from streamsql.plan.functions import refuse_functions, refuse_session_functions
from streamsql.plan.nodes import Describe
from streamsql.plan.places import located
from streamsql.sql.constraints import Check
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

# stands in FROM for the rows that are looked at
CHECKED = "__checked"
_REFUSED: tuple[tuple[type[exp.Expr], str, type[StreamSQLError]], ...] = (
    (exp.Query, "cannot use subquery in check constraint", FeatureNotSupported),
    (exp.AggFunc, "aggregate functions are not allowed in check constraints", GroupingError),
    (exp.Window, "window functions are not allowed in check constraints", GroupingError),
)


def check_sqls(
    relation: Stream | Table, statement: Statement, limits: Limits, describe: Describe | None = None
) -> dict[str, str]:
    """Give the SELECT of the rows that violate each CHECK, by the constraint's name; see `violating`.

    With `describe`, conditions are also looked at by DuckDB. Raises StreamSQLError, with a position in the statement.
    """
    found = {}
    for check in relation.checks:
        try:
            found[check.name] = _check_sql(check, relation, statement, limits, describe)
        except StreamSQLError as error:
            raise located(error, check.expression, statement) from error
    return found


def violating(sql: str, rows: str, limit: int = 1) -> str:
    """Give the SELECT of rows that violate a check, of those that `rows` names in FROM."""
    return f"{sql.replace(quoted(CHECKED), rows)} LIMIT {limit}"


def _check_sql(
    check: Check, relation: Stream | Table, statement: Statement, limits: Limits, describe: Describe | None
) -> str:
    refuse(check.expression, statement)
    for column in check.expression.find_all(exp.Column):
        if relation.column(column.name) is None:
            raise UndefinedColumn(f'column "{column.name}" does not exist', position=position_of(column, statement))
    rows, trees = {relation.name: relation}, [check.expression]
    scope = closed_scope(rows, trees, limits, {relation.name: CHECKED}, "a CHECK constraint", describe)
    if describe is not None:
        columns = ", ".join(f"CAST(NULL AS {c.type}) AS {quoted(c.name)}" for c in relation.columns)
        told = adhoc_query(_select([check.expression.copy()], relation), statement, scope)
        shown = describe(told.sql.replace(quoted(CHECKED), f"(SELECT {columns})"))[0].type
        if shown not in ("BOOLEAN", '"NULL"'):
            raise DatatypeMismatch(
                f"argument of CHECK must be type boolean, not type {type_name(wire_column(shown).type)}",
                position=position_of(check.expression, statement),
            )
    names: list[exp.Expr] = [exp.column(c.name, quoted=True) for c in relation.columns]
    tree = _select(names, relation).where(exp.not_(exp.paren(check.expression.copy())))
    return adhoc_query(tree, statement, scope).sql


def refuse(expression: exp.Expr, statement: Statement) -> None:
    """Raise where an expression cannot stand in a CHECK."""
    refuse_functions(expression, statement)
    refuse_session_functions(expression, statement, "a CHECK constraint")
    for kind, message, error in _REFUSED:
        found = expression.find(kind)
        if found is not None:
            raise error(message, position=position_of(found, statement))


def _select(items: Sequence[exp.Expr], relation: Stream | Table) -> exp.Select:
    name = exp.Table(this=exp.to_identifier(relation.name, quoted=True))
    name.set("alias", exp.TableAlias(this=exp.to_identifier(relation.bare, quoted=True)))
    return exp.select(*items).from_(name)
