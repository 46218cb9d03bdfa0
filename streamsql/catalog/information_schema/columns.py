"""columns: of tables and of the system's relations; as in PostgreSQL, not of materialized views."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.base.types import RECORD, WireType, shown_type
from streamsql.catalog.information_schema.granted import granted, tables
from streamsql.catalog.objects import Stream, Table
from streamsql.catalog.pg_catalog.shapes import NUMBER_DIGITS, TEXT_OCTETS_MAX, Shape, shapes
from streamsql.catalog.relation import Row, Snapshot, standard

_TIMES = frozenset({"interval", "time", "timestamp", "timestamptz"})
_TEXTS = frozenset({"bpchar", "text", "varchar"})


def _columns(snapshot: Snapshot) -> Iterator[Row]:
    for made in tables(snapshot):
        for shape in shapes(made, snapshot.catalog):
            yield {
                **_column(snapshot, made.schema, made.bare, shape.number, shape.name, shape.type, shape.modifier),
                "column_default": shape.default, "is_nullable": "NO" if shape.not_null else "YES",
                "is_updatable": "YES", **_of_identity(snapshot, made, shape),
            }  # fmt: skip
    for relation in snapshot.relations.values():
        for number, column in enumerate(relation.columns, 1):
            yield _column(snapshot, relation.schema, relation.name, number, column.name, column.type, -1)


def _of_identity(snapshot: Snapshot, made: Stream | Table, shape: Shape) -> Row:
    sequence = snapshot.catalog.sequence_of(made, shape.name)
    if shape.numbered is None or not shape.numbered.is_identity or sequence is None:
        return {}
    options = sequence.options
    return {
        "is_identity": "YES", "identity_generation": "ALWAYS" if shape.numbered.always else "BY DEFAULT",
        "identity_start": str(options.first), "identity_increment": str(options.increment),
        "identity_maximum": str(options.highest), "identity_minimum": str(options.lowest),
        "identity_cycle": "YES" if options.cycle else "NO",
    }  # fmt: skip


def _column(
    snapshot: Snapshot, schema: str, relation: str, number: int, name: str, wire_type: WireType, modifier: int
) -> dict[str, object]:
    return {
        "table_catalog": snapshot.database, "table_schema": schema, "table_name": relation, "column_name": name,
        "ordinal_position": number, "is_nullable": "YES", "udt_catalog": snapshot.database, "udt_schema": "pg_catalog",
        "udt_name": wire_type.name, "dtd_identifier": str(number), "is_self_referencing": "NO", "is_identity": "NO",
        "identity_cycle": "NO", "is_generated": "NEVER", "is_updatable": "NO", **_of_type(wire_type, modifier),
        **_of_user(snapshot, wire_type),
    }  # fmt: skip


def _of_user(snapshot: Snapshot, wire_type: WireType) -> dict[str, object]:
    """Name the type that a user has made by schema and name."""
    made = snapshot.catalog.types.get(wire_type.scalar.oid)
    if made is None:
        return {}
    return {"udt_schema": made.schema, "udt_name": f"_{made.bare}" if wire_type.element is not None else made.bare}


def _of_type(wire_type: WireType, modifier: int) -> dict[str, object]:
    if wire_type.element is not None:
        return {"data_type": "ARRAY"}
    if wire_type.is_made and wire_type.oid != RECORD.oid:
        return {"data_type": "USER-DEFINED"}
    name = wire_type.name
    found: dict[str, object] = {"data_type": shown_type(wire_type)}
    if name in _TEXTS:
        found["character_octet_length"] = TEXT_OCTETS_MAX
        if modifier >= 4:
            found |= {"character_maximum_length": modifier - 4, "character_octet_length": 4 * (modifier - 4)}
    if name in NUMBER_DIGITS:
        found |= {"numeric_precision": NUMBER_DIGITS[name], "numeric_precision_radix": 2}
        if name.startswith("int"):
            found["numeric_scale"] = 0
    if name == "numeric":
        found["numeric_precision_radix"] = 10
        if modifier >= 0:
            found |= {"numeric_precision": (modifier - 4) >> 16, "numeric_scale": (modifier - 4) & 0xFFFF}
    if name in _TIMES or name == "date":
        found["datetime_precision"] = 0 if name == "date" else 6 if modifier < 0 else modifier
    return found


def _privileges(snapshot: Snapshot) -> Iterator[Row]:
    columns: dict[tuple[object, object], list[object]] = {}
    for column in _columns(snapshot):
        columns.setdefault((column["table_schema"], column["table_name"]), []).append(column["column_name"])
    for found in granted(snapshot):
        if found.privilege in ("INSERT", "SELECT", "UPDATE", "REFERENCES"):
            for name in columns.get((found.schema, found.table), []):
                yield {**found.row(), "table_catalog": snapshot.database, "column_name": name}


RELATIONS = (
    standard(
        13295,
        "columns",
        """table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4,
    column_default varchar, is_nullable varchar, data_type varchar, character_maximum_length int4,
    character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4,
    datetime_precision int4, interval_type varchar, interval_precision int4, character_set_catalog name,
    character_set_schema name, character_set_name name, collation_catalog name, collation_schema name,
    collation_name name, domain_catalog name, domain_schema name, domain_name name, udt_catalog name, udt_schema
    name, udt_name name, scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4,
    dtd_identifier name, is_self_referencing varchar, is_identity varchar, identity_generation varchar,
    identity_start varchar, identity_increment varchar, identity_maximum varchar, identity_minimum varchar,
    identity_cycle varchar, is_generated varchar, generation_expression varchar, is_updatable varchar""",
        _columns,
    ),
    standard(
        13285,
        "column_privileges",
        """grantor name, grantee name, table_catalog name, table_schema name, table_name name, column_name name,
    privilege_type varchar, is_grantable varchar""",
        _privileges,
    ),
    standard(
        13344,
        "role_column_grants",
        """grantor name, grantee name, table_catalog name, table_schema name, table_name name, column_name name,
    privilege_type varchar, is_grantable varchar""",
        _privileges,
    ),
)
