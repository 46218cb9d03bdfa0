"""Users' types as they are kept in ``_engine.types``, and the macros by which DuckDB knows the order of an enum's values.

The values are texts everywhere. Macros are made with the type and made anew with each label, in the same transaction; what
runs by them plans again by itself:

    __enum_16401(v)          the text, or error 22P02           __enum_rank_16401(v)    its rank, a double
    __enum_labels_16401()    all labels, in their order         __enum_label_16401(r)   the label of a rank
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from streamsql.base.limits import Limits
from streamsql.base.types import Field
from streamsql.catalog.objects import literal
from streamsql.catalog.user_types import STORED_ENUM, UserType, composite_type, enum_type
from streamsql.engine.store import Store
from streamsql.plan.type_names import column_found
from streamsql.sql.names import joined, quote_name
from streamsql.sql.parse import parse
from streamsql.sql.render_columns import type_text
from streamsql.sql.statements import ColumnDefinition, CreateTable

TABLE = "CREATE TABLE IF NOT EXISTS _engine.types (id BIGINT, key VARCHAR, schema VARCHAR, name VARCHAR, definition VARCHAR)"


def read(store: Store, limits: Limits) -> dict[int, UserType]:
    """Read the types back, by OID."""
    found: dict[int, UserType] = {}
    for type_id, key, schema, name, definition in store.fetch(
        "SELECT id, key, schema, name, definition FROM _engine.types ORDER BY id"
    ):
        kept = json.loads(definition)
        if "ranks" in kept:
            made = UserType(
                type_id, key, enum_type(type_id, name, kept["ranks"]), STORED_ENUM, schema=schema, label=name
            )
        else:
            fields = tuple((field, text) for field, text in kept["fields"])
            made = composite(type_id, key, name, _columns(fields, found, limits), schema)
        found[made.wire.oid] = made
    return found


def _columns(
    fields: tuple[tuple[str, str], ...], types: Mapping[int, UserType], limits: Limits
) -> tuple[ColumnDefinition, ...]:
    """Read the fields of a composite type, whose own types are named by their keys."""
    by_key = {made.name: made for made in types.values()}
    text = ", ".join(f"{quote_name(name)} {of}" for name, of in fields)
    statement = parse(f"CREATE TABLE t ({text})", limits)[0]
    assert isinstance(statement, CreateTable)
    return tuple(column_found(c, lambda schema, name: by_key.get(joined(schema, name))) for c in statement.columns)


def composite(type_id: int, key: str, name: str, columns: tuple[ColumnDefinition, ...], schema: str) -> UserType:
    fields = [Field(c.name, c.wire.type, c.wire.modifier) for c in columns]
    stored = f"STRUCT({', '.join(f'{_quoted(c.name)} {c.type}' for c in columns)})"
    texts = tuple((c.name, type_text(c)) for c in columns)
    wire = composite_type(type_id, name, fields)
    return UserType(type_id, key, wire, stored, texts, schema=schema, label=name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def definition_of(made: UserType) -> str:
    """Write down what a type is."""
    return json.dumps({"fields": made.fields} if made.labels is None else {"ranks": dict(made.labels.ranks)})


def make_macros(store: Store, made: UserType) -> None:
    """Make the macros of an enum, or make them anew; within the caller's transaction."""
    if made.labels is None:
        return
    oid, ranks = made.wire.oid, made.labels.ranks
    listed = ", ".join(map(literal, ranks))
    ranked = " ".join(f"WHEN {literal(label)} THEN CAST({rank!r} AS DOUBLE)" for label, rank in ranks.items())
    labelled = " ".join(f"WHEN CAST({rank!r} AS DOUBLE) THEN {literal(label)}" for label, rank in ranks.items())
    wrong = literal(f'{{22P02}} invalid input value for enum {made.bare}: "')
    refused = f"""CAST(error({wrong} || CAST(v AS VARCHAR) || '"') AS VARCHAR)"""
    known = f"CAST(v AS VARCHAR) IN ({listed})" if ranks else "false"
    macros = {
        f"__enum_{oid}(v)": f"CASE WHEN v IS NULL OR {known} THEN CAST(v AS VARCHAR) ELSE {refused} END",
        f"__enum_rank_{oid}(v)": f"CASE v {ranked} END" if ranks else "CAST(NULL AS DOUBLE)",
        f"__enum_label_{oid}(v)": f"CASE v {labelled} END" if ranks else "CAST(NULL AS VARCHAR)",
        f"__enum_labels_{oid}()": f"CAST([{listed}] AS VARCHAR[])",
    }
    for call, body in macros.items():
        store.execute(f"CREATE OR REPLACE MACRO main.{call} AS {body}")


def drop_macros(store: Store, made: UserType) -> None:
    if made.labels is not None:
        for name in ("__enum", "__enum_rank", "__enum_label", "__enum_labels"):
            store.execute(f"DROP MACRO main.{name}_{made.wire.oid}")
