"""Expressions outside of queries, defaults and what ON CONFLICT assigns, as DuckDB's SQL that means what PostgreSQL does.

Each is read as an ad-hoc query's would be, over no rows or those that the clause speaks of, and taken out of it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NoReturn

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog, OutputColumn, Stream, Table
from streamsql.catalog.relation import CatalogRelation, Snapshot
from streamsql.catalog.user_types import user_type
from streamsql.plan.adhoc import Scope, adhoc_sql
from streamsql.plan.functions import Asker, refuse_functions, refuse_session_functions
from streamsql.plan.insertion import default_of
from streamsql.plan.nodes import Describe
from streamsql.plan.type_names import made_type
from streamsql.sql.statements import ColumnDefinition, Statement
from streamsql.sql.trees import position_of


def expressions_sql(
    expressions: Sequence[exp.Expr], statement: Statement, limits: Limits, rows: Mapping[str, Stream | Table]
) -> list[str]:
    """Give the SQL of expressions over `rows`: the relations that they may speak of, by alias. Raises StreamSQLError."""
    query = exp.select(*(exp.alias_(e.copy(), f"__{i}") for i, e in enumerate(expressions)))
    for number, alias in enumerate(rows):
        table = exp.Table(this=exp.to_identifier(alias, quoted=True))
        query = query.from_(table) if not number else query.join(table, join_type="cross")
    stand_ins = {alias: alias for alias in rows}
    scope = closed_scope(rows, expressions, limits, stand_ins, "an expression outside of a query")
    made = sqlglot.parse_one(adhoc_sql(query, statement, scope), read="duckdb")
    assert isinstance(made, exp.Select)
    return [item.unalias().sql("duckdb") for item in made.expressions]


@lru_cache(maxsize=1024)
def default_sql(column: ColumnDefinition) -> str:
    """Give the SQL of a column's default, NULL where it has none, in the column's type. Raises StreamSQLError."""
    (sql,) = expressions_sql([default_of(column)], Statement("", 0), Limits(), {})
    return f"CAST({sql} AS {column.type})"


def check_default(column: ColumnDefinition, statement: Statement, scope: Scope) -> None:
    """Raise StreamSQLError where a column's DEFAULT cannot be one."""
    expression = column.default
    assert expression is not None
    refuse_functions(expression, statement)
    refuse_session_functions(expression, statement, "a DEFAULT expression")
    for kind, what in ((exp.Query, "a subquery"), (exp.Column, "a column"), (exp.AggFunc, "an aggregate")):
        found = expression.find(kind)
        if found is not None:
            raise FeatureNotSupported(
                f"{what} cannot be used in a DEFAULT expression", position=position_of(found, statement)
            )
    scope.describe(f"SELECT {default_sql(column)}")


def closed_scope(
    rows: Mapping[str, Stream | Table],
    expressions: Sequence[exp.Expr],
    limits: Limits,
    stand_ins: Mapping[str, str],
    what: str,
    describe: Describe | None = None,
) -> Scope:
    """Make the scope of expressions that see these relations and no more; `what` they are, an error says."""
    catalog = Catalog(objects=dict(rows), types={made.oid: user_type(made) for made in _made(rows, expressions)})

    def refuse(_: CatalogRelation | None) -> NoReturn:
        raise FeatureNotSupported(f"{what} cannot look names up in the catalog")

    snapshot = Snapshot(catalog, "", "")
    return Scope(catalog, describe or _nothing, limits, Asker(""), frozenset(), snapshot, refuse, stand_ins=stand_ins)


def _made(rows: Mapping[str, Stream | Table], expressions: Sequence[exp.Expr]) -> Iterator[WireType]:
    """Give the types of users that columns are of, and that expressions cast to."""
    for relation in rows.values():
        yield from (c.declared.type.scalar for c in relation.columns if c.declared is not None and c.declared.named)
    for expression in expressions:
        for node in expression.find_all(exp.DataType):
            found = made_type(node)
            if found is not None:
                yield found.scalar


def _nothing(_: str) -> list[OutputColumn]:
    raise AssertionError("nothing is described")
