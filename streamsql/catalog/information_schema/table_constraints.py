"""table_constraints, key_column_usage and their like: primary keys, and NOT NULL as the checks that PostgreSQL makes of it."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.objects import CatalogObject, View
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.shapes import key_name, namespace, shapes, with_keys
from streamsql.catalog.relation import Row, Snapshot, standard


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
    for made in with_keys(snapshot.catalog):
        kind = {"constraint_type": "PRIMARY KEY"}
        yield {**_constraint(snapshot, made, key_name(made)), **_table(snapshot, made), **kind, **always}
    for name, relation, _ in _not_null(snapshot):
        kind = {"constraint_type": "CHECK"}
        yield {**_constraint(snapshot, relation, name), **_table(snapshot, relation), **kind, **always}


def _checks(snapshot: Snapshot) -> Iterator[Row]:
    for name, relation, column in _not_null(snapshot):
        yield {**_constraint(snapshot, relation, name), "check_clause": f"{column} IS NOT NULL"}


def _key_columns(snapshot: Snapshot) -> Iterator[Row]:
    for made in with_keys(snapshot.catalog):
        for place, column in enumerate(made.primary_key, 1):
            yield {
                **_constraint(snapshot, made, key_name(made)), **_table(snapshot, made), "column_name": column,
                "ordinal_position": place,
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
        _key_columns,
    ),
    standard(
        13305,
        "constraint_table_usage",
        """table_catalog name, table_schema name, table_name name, constraint_catalog name, constraint_schema name,
    constraint_name name""",
    ),
    standard(
        13339,
        "referential_constraints",
        """constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name,
    unique_constraint_schema name, unique_constraint_name name, match_option varchar, update_rule varchar,
    delete_rule varchar""",
    ),
)
