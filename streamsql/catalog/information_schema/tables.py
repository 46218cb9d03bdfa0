"""tables, views, and who may do what with them. As in PostgreSQL, materialized views are in none of these."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.information_schema.granted import granted, tables, views
from streamsql.catalog.pg_catalog.pg_tables import view_text
from streamsql.catalog.relation import Row, Snapshot, standard


def _names(snapshot: Snapshot) -> Iterator[tuple[str, str, bool]]:
    """Give the schema and name of each table and view, and whether it is a table."""
    for made in tables(snapshot):
        yield made.schema, made.bare, True
    for view in views(snapshot):
        yield view.schema, view.bare, False
    for relation in snapshot.relations.values():
        yield relation.schema, relation.name, relation.kind == "r"


def _tables(snapshot: Snapshot) -> Iterator[Row]:
    for schema, name, is_table in _names(snapshot):
        yield {
            "table_catalog": snapshot.database, "table_schema": schema, "table_name": name,
            "table_type": "BASE TABLE" if is_table else "VIEW",
            "is_insertable_into": "YES" if is_table else "NO", "is_typed": "NO",
        }  # fmt: skip


def _views(snapshot: Snapshot) -> Iterator[Row]:
    nothing = dict.fromkeys(
        (
            "is_updatable", "is_insertable_into", "is_trigger_updatable", "is_trigger_deletable",
            "is_trigger_insertable_into",
        ),
        "NO",
    )  # fmt: skip
    texts = {(view.schema, view.bare): view_text(view, snapshot) for view in views(snapshot)}
    for schema, name, is_table in _names(snapshot):
        if not is_table:
            yield {
                "table_catalog": snapshot.database, "table_schema": schema, "table_name": name, "check_option": "NONE",
                "view_definition": texts.get((schema, name)), **nothing,
            }  # fmt: skip


def _privileges(snapshot: Snapshot) -> Iterator[Row]:
    for found in granted(snapshot):
        hierarchy = "YES" if found.privilege == "SELECT" else "NO"
        yield {**found.row(), "table_catalog": snapshot.database, "with_hierarchy": hierarchy}


RELATIONS = (
    standard(
        13425,
        "tables",
        """table_catalog name, table_schema name, table_name name, table_type varchar, self_referencing_column_name name,
    reference_generation varchar, user_defined_type_catalog name, user_defined_type_schema name,
    user_defined_type_name name, is_insertable_into varchar, is_typed varchar, commit_action varchar""",
        _tables,
    ),
    standard(
        13483,
        "views",
        """table_catalog name, table_schema name, table_name name, view_definition varchar, check_option varchar,
    is_updatable varchar, is_insertable_into varchar, is_trigger_updatable varchar, is_trigger_deletable varchar,
    is_trigger_insertable_into varchar""",
        _views,
    ),
    standard(
        13416,
        "table_privileges",
        """grantor name, grantee name, table_catalog name, table_schema name, table_name name, privilege_type varchar,
    is_grantable varchar, with_hierarchy varchar""",
        _privileges,
    ),
    standard(
        13421,
        "role_table_grants",
        """grantor name, grantee name, table_catalog name, table_schema name, table_name name, privilege_type varchar,
    is_grantable varchar, with_hierarchy varchar""",
        _privileges,
    ),
)
