"""The answers to what drivers ask about types (see `server.driver_questions`), from `base.types`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from streamsql.base.types import ARRAYS, BY_NAME, BY_OID, BYTEA, INT4, INT8, OID, TEXT, WireType, canonical_arrow
from streamsql.pgwire.values import parse_text
from streamsql.server.context import Context, Values
from streamsql.server.driver_questions import TypesByOid
from streamsql.server.results import Batches, ResultColumn, Rows
from streamsql.sql.statements import Statement

_TREE_COLUMNS = [
    ResultColumn("oid", INT8),
    ResultColumn("ns", TEXT),
    ResultColumn("name", TEXT),
    ResultColumn("kind", BYTEA),  # "char" in PostgreSQL, which clients read as a byte
    ResultColumn("basetype", INT8),
    ResultColumn("elemtype", INT8),
    ResultColumn("elemdelim", BYTEA),
    ResultColumn("range_subtype", INT8),
    ResultColumn("attrtypoids", ARRAYS[OID.name]),
    ResultColumn("attrnames", ARRAYS[TEXT.name]),
    ResultColumn("depth", INT4),
    ResultColumn("basetype_name", TEXT),
    ResultColumn("elemtype_name", TEXT),
    ResultColumn("range_subtype_name", TEXT),
]
_BY_NAME_COLUMNS = [ResultColumn("oid", INT8), ResultColumn("elemtype", INT8), ResultColumn("kind", BYTEA)]


def types_of(
    context: Context, statement: Statement, declared: Sequence[WireType | None], cursor: duckdb.DuckDBPyConnection
) -> tuple[WireType, ...]:
    """Give the types of the parameters."""
    return (OID.array,) if isinstance(statement, TypesByOid) else (TEXT, TEXT)


async def columns(context: Context, statement: Statement, values: Values) -> list[ResultColumn]:
    return _TREE_COLUMNS if isinstance(statement, TypesByOid) else _BY_NAME_COLUMNS


async def execute(context: Context, statement: Statement, values: Values) -> Rows:
    found = await columns(context, statement, values)
    texts = values.texts or ()
    rows = _tree(texts[0]) if isinstance(statement, TypesByOid) else _named(*texts)
    arrays = [pa.array([row[i] for row in rows], canonical_arrow(c.type)) for i, c in enumerate(found)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(found))])

    async def batches() -> Batches:
        yield batch

    return Rows(found, batches())


def _tree(oids: str | None) -> list[tuple[object, ...]]:
    asked = parse_text(pa.array([oids], pa.string()), OID.array)[0].as_py() or []
    types = [BY_OID[oid] for oid in asked if oid in BY_OID]
    elements = {t.element for t in types if t.element is not None}
    return [*_shown(sorted(elements, key=lambda t: t.oid), 1), *_shown(types, 0)]


def _shown(types: Iterable[WireType], depth: int) -> Iterable[tuple[object, ...]]:
    for t in types:
        element = t.element
        elemtype, delimiter, name = (element.oid, b",", element.name) if element else (0, None, "-")
        yield (
            t.oid, "pg_catalog", t.name, b"b", None, elemtype, delimiter, None, None, None, depth, None, name, None,
        )  # fmt: skip


def _named(name: str | None = None, schema: str | None = None) -> list[tuple[object, ...]]:
    found = BY_NAME.get(name or "") if schema == "pg_catalog" else None
    return [] if found is None else [(found.oid, found.element.oid if found.element else 0, b"b")]
