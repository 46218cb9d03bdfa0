"""table_constraints, key_column_usage and their like: constraints, and NOT NULL as the checks that PostgreSQL makes of it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from streamsql.catalog.objects import CatalogObject, Table, View
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.keys import TableKey, all_keys, others, referenced
from streamsql.catalog.pg_catalog.shapes import namespace, shapes
from streamsql.catalog.relation import Row, Snapshot, standard
from streamsql.sql.constraints import Check, ForeignKey, shown_condition


def _table(snapshot: Snapshot, made: CatalogObject) -> dict[str, object]:
    return {"table_catalog": snapshot.database, "table_schema": made.schema, "table_name": made.bare}


def _constraint(snapshot: Snapshot, made: CatalogObject, name: str) -> dict[str, object]:
    return {"constraint_catalog": snapshot.database, "constraint_schema": made.schema, "constraint_name": name}


def _not_null(snapshot: Snapshot) -> Iterator[tuple[str, CatalogObject, str]]:
    """Give the constraint's name, the table and the column."""
    for made in snapshot.catalog:
        if not isinstance(made, View):
            for shape in shapes(made):
                if shape.not_null:
                    number = f"{namespace(snapshot.catalog, made)}_{oids.relation(made.id)}_{shape.number}"
                    yield f"{number}_not_null", made, shape.name


def _constraints(snapshot: Snapshot) -> Iterator[Row]:
    always = {"is_deferrable": "NO", "initially_deferred": "NO", "enforced": "YES"}
    for key in all_keys(snapshot.catalog):
        kind = {"constraint_type": "PRIMARY KEY" if key.primary else "UNIQUE"}
        distinct = {} if key.primary else {"nulls_distinct": "YES"}
        yield {
            **_constraint(snapshot, key.table, key.name),
            **_table(snapshot, key.table),
            **kind,
            **always,
            **distinct,
        }
    for made, constraint in others(snapshot.catalog):
        kind = {"constraint_type": "CHECK" if isinstance(constraint, Check) else "FOREIGN KEY"}
        timing = {}
        if isinstance(constraint, ForeignKey):
            timing = {
                "is_deferrable": "YES" if constraint.deferrable else "NO",
                "initially_deferred": "YES" if constraint.deferred else "NO",
            }
        yield {**_constraint(snapshot, made, constraint.name), **_table(snapshot, made), **kind, **always, **timing}
    for name, relation, _ in _not_null(snapshot):
        kind = {"constraint_type": "CHECK"}
        yield {**_constraint(snapshot, relation, name), **_table(snapshot, relation), **kind, **always}


def _checks(snapshot: Snapshot) -> Iterator[Row]:
    for made, constraint in others(snapshot.catalog):
        if isinstance(constraint, Check):
            clause = f"({shown_condition(constraint.expression)})"
            yield {**_constraint(snapshot, made, constraint.name), "check_clause": clause}
    for name, relation, column in _not_null(snapshot):
        yield {**_constraint(snapshot, relation, name), "check_clause": f"{column} IS NOT NULL"}


def _foreign(snapshot: Snapshot) -> Iterator[tuple[Table, ForeignKey, TableKey]]:
    for made, constraint in others(snapshot.catalog):
        if isinstance(constraint, ForeignKey) and isinstance(made, Table):
            there = referenced(snapshot.catalog, made, constraint)
            if there is not None:
                yield made, constraint, there


def _key_columns(snapshot: Snapshot) -> Iterator[Row]:
    for key in all_keys(snapshot.catalog):
        for place, column in enumerate(key.key.columns, 1):
            yield {
                **_constraint(snapshot, key.table, key.name), **_table(snapshot, key.table), "column_name": column,
                "ordinal_position": place,
            }  # fmt: skip
    for made, foreign, there in _foreign(snapshot):
        columns = foreign.key or there.key.columns
        for place, column in enumerate(foreign.columns, 1):
            yield {
                **_constraint(snapshot, made, foreign.name), **_table(snapshot, made), "column_name": column,
                "ordinal_position": place, "position_in_unique_constraint": there.key.columns.index(columns[place - 1]) + 1,
            }  # fmt: skip


def _used_columns(snapshot: Snapshot) -> Iterator[Row]:
    for key in all_keys(snapshot.catalog):
        for column in key.key.columns:
            yield {**_constraint(snapshot, key.table, key.name), **_table(snapshot, key.table), "column_name": column}
    for made, constraint in others(snapshot.catalog):
        if isinstance(constraint, Check):
            for column in sorted({c.name for c in constraint.expression.find_all(exp.Column)}):
                yield {**_constraint(snapshot, made, constraint.name), **_table(snapshot, made), "column_name": column}
    for made, foreign, there in _foreign(snapshot):
        for column in foreign.key or there.key.columns:
            yield {
                **_constraint(snapshot, made, foreign.name), **_table(snapshot, there.table), "column_name": column,
            }  # fmt: skip


def _used_tables(snapshot: Snapshot) -> Iterator[Row]:
    for key in all_keys(snapshot.catalog):
        yield {**_constraint(snapshot, key.table, key.name), **_table(snapshot, key.table)}
    for made, foreign, there in _foreign(snapshot):
        yield {**_constraint(snapshot, made, foreign.name), **_table(snapshot, there.table)}


def _references(snapshot: Snapshot) -> Iterator[Row]:
    for made, foreign, there in _foreign(snapshot):
        yield {
            **_constraint(snapshot, made, foreign.name), "unique_constraint_catalog": snapshot.database,
            "unique_constraint_schema": there.table.schema, "unique_constraint_name": there.name,
            "match_option": "NONE", "update_rule": foreign.on_update.words, "delete_rule": foreign.on_delete.words,
        }  # fmt: skip


RELATIONS = (
    standard(
        13411,
        "table_constraints",
        """constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name,
    table_name name, constraint_type varchar, is_deferrable varchar, initially_deferred varchar, enforced varchar,
    nulls_distinct varchar""",
        _constraints,
    ),
    standard(
        13260,
        "check_constraints",
        """constraint_catalog name, constraint_schema name, constraint_name name, check_clause varchar""",
        _checks,
    ),
    standard(
        13329,
        "key_column_usage",
        """constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name,
    table_name name, column_name name, ordinal_position int4, position_in_unique_constraint int4""",
        _key_columns,
    ),
    standard(
        13300,
        "constraint_column_usage",
        """table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name,
    constraint_schema name, constraint_name name""",
        _used_columns,
    ),
    standard(
        13305,
        "constraint_table_usage",
        """table_catalog name, table_schema name, table_name name, constraint_catalog name, constraint_schema name,
    constraint_name name""",
        _used_tables,
    ),
    standard(
        13339,
        "referential_constraints",
        """constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name,
    unique_constraint_schema name, unique_constraint_name name, match_option varchar, update_rule varchar,
    delete_rule varchar""",
        _references,
    ),
)
