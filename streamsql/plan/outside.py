"""Tables whose rows are not here (`Table.outside`): a row of theirs is asked for by its primary key when one is joined with it.

FROM orders AS o LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.customer_id = c.id
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp

from streamsql.base.errors import DatatypeMismatch, FeatureNotSupported
from streamsql.catalog.objects import CatalogObject, OutputColumn, Table
from streamsql.plan.origins import Outside
from streamsql.plan.semijoins import conjuncts

if TYPE_CHECKING:
    from streamsql.plan.join_parts import Joined
    from streamsql.plan.joins import Planner

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "FLOAT", "DOUBLE")


def refuse_outside(found: CatalogObject | None, position: int | None) -> None:
    """Raise FeatureNotSupported where the rows of what is read are not here."""
    if isinstance(found, Table) and found.outside:
        raise FeatureNotSupported(
            f'"{found.bare}" can only be looked up: its rows are not here',
            detail=f'the connector "{found.connector["connector"]}" asks its origin for a row when one is joined with it',
            hint=f"FROM s [LEFT] JOIN {found.bare} FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = {found.bare}."
            f"{found.primary_key[0]} EMIT APPEND, where s is a stream",
            position=position,
        )


def outside_of(
    planner: Planner, table: Table, condition: exp.Expr, left: Joined, right: Joined, position: int | None
) -> Outside:
    """Find in a join's condition by what a table outside is looked up.

    Raises FeatureNotSupported where that is not its primary key, DatatypeMismatch for values of another type.
    """
    found = dict(pair for part in conjuncts(condition) if (pair := _pair(planner, part, left, right)) is not None)
    missing = [name for name in table.primary_key if name not in found]
    if missing:
        raise FeatureNotSupported(
            f'"{table.bare}" is looked up by its primary key ({", ".join(table.primary_key)})',
            detail=f"the condition does not say what {missing[0]} is equal to",
            hint=f"ON s.k = {table.bare}.{missing[0]}; or declare as PRIMARY KEY what it is looked up by, if that is unique",
            position=position,
        )
    columns = tuple(OutputColumn(c.name, c.type) for c in table.columns)
    by_name = {c.name: c for c in columns}
    key = tuple(by_name[name] for name in table.primary_key)
    values = tuple(found[name] for name in table.primary_key)
    shape = left.origin.shape
    types = planner.sources.describe(f"SELECT {', '.join(values)} FROM {shape} AS l")
    for column, value in zip(key, types, strict=True):
        if not _alike(column.type, value.type):
            raise DatatypeMismatch(
                f'"{table.bare}"."{column.name}" is of type {column.type}, and is compared with {value.type}',
                hint="CAST the value to the type of the key",
                position=position,
            )
    return Outside(columns, key, values)


def _pair(planner: Planner, part: exp.Expr, left: Joined, right: Joined) -> tuple[str, str] | None:
    """Give the right column that a comparison sets equal to something of the left, and that as SQL over ``l``."""
    part = part.unnest()
    if not isinstance(part, exp.EQ):
        return None
    sql, _ = planner.on(part, left, right)
    made = sqlglot.parse_one(sql, read="duckdb")
    if not isinstance(made, exp.EQ):
        return None
    for one, other in ((made.this, made.expression), (made.expression, made.this)):
        if not isinstance(one, exp.Column) or one.table != "r":
            continue
        columns = list(other.find_all(exp.Column))
        if columns and all(c.table == "l" for c in columns):
            return one.name, other.sql("duckdb")
    return None


def _alike(one: str, other: str) -> bool:
    """Tell whether values of these types that are equal are so as values of either."""
    numbers = [t.partition("(")[0] in _NUMBERS for t in (one, other)]
    return all(numbers) or one == other
