"""``information_schema``: the views of the SQL standard as PostgreSQL 15 has them, made from our own catalog."""

from __future__ import annotations

from streamsql.catalog.information_schema import columns, empty, schemata, sequences, table_constraints, tables

RELATIONS = (
    *columns.RELATIONS,
    *schemata.RELATIONS,
    *sequences.RELATIONS,
    *table_constraints.RELATIONS,
    *tables.RELATIONS,
    *empty.RELATIONS,
)
