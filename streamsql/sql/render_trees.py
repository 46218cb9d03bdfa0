"""sqlglot's trees back to text: in Postgres' dialect for people and durable definitions, in DuckDB's to be run."""

from __future__ import annotations

from typing import Any

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.postgres import Postgres

from streamsql.base.errors import FeatureNotSupported, ProgramLimitExceeded


def duckdb_sql(tree: exp.Expr) -> str:
    """Write a tree (read as Postgres) in DuckDB's dialect. Raises ProgramLimitExceeded for too deep a tree."""
    return _written(tree, DuckDB())


def postgres_sql(tree: exp.Expr) -> str:
    """Write a tree in Postgres' dialect. Raises ProgramLimitExceeded for too deep a tree."""
    return _written(tree, Postgres())


def shown_sql(tree: exp.Expr) -> str:
    """Write a tree as PostgreSQL's catalog shows it: functions in lower case."""
    made = tree.transform(lambda n: exp.Anonymous(this="gen_random_uuid") if isinstance(n, exp.Uuid) else n)
    return _written(made, Postgres(), normalize_functions="lower")


def _written(tree: exp.Expr, dialect: Postgres | DuckDB, **options: Any) -> str:
    try:
        return dialect.generate(tree, copy=True, comments=False, **options)
    except RecursionError as error:
        raise ProgramLimitExceeded(
            "the nesting of a statement is too deep", hint="write the expression with less nesting"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        # a function called with arguments that its signature does not have
        raise FeatureNotSupported("this expression cannot be translated", detail=str(error)[:200]) from error
