"""What asyncpg asks about types, before it reads an array or for ``set_type_codec``: two statements, known by their text.

It joins five relations of ``pg_catalog`` in a recursive query. What it wants to know stands in `base.types`, so it is
answered from there; any other question to ``pg_catalog`` goes to DuckDB's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamsql.sql.statements import Statement

_TREE = re.compile(r"\s*WITH RECURSIVE typeinfo_tree\(\s*oid, ns, name, kind, basetype, elemtype, elemdelim,")
_BY_NAME = re.compile(
    r"\s*SELECT\s+t\.oid,\s+t\.typelem\s+AS elemtype,\s+t\.typtype\s+AS kind\s+FROM\s+pg_catalog\.pg_type AS t\s"
)


@dataclass(frozen=True, slots=True)
class TypesByOid(Statement):
    """The types with the OIDs of ``$1``, and before them the types of their elements."""

    parameter_count: int = 1


@dataclass(frozen=True, slots=True)
class TypeByName(Statement):
    """The type named ``$1`` in schema ``$2``."""

    parameter_count: int = 2


def driver_question(text: str) -> Statement | None:
    """Recognize one of the two statements."""
    if _TREE.match(text):
        return TypesByOid(text, 0)
    return TypeByName(text, 0) if _BY_NAME.match(text) else None
