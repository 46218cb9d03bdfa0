"""The OIDs of the user's objects: made from their ids, so that they are the same after a restart.

An object's OIDs follow each other: its own, its row type's, that type's array's, its primary key's index's and constraint's.
Those of other constraints are made from the object's id and their names.
"""

from __future__ import annotations

import zlib

FIRST = 16384  # as in PostgreSQL: below are the system's
_PER_OBJECT = 8
_FIRST_DEFAULT = 1 << 30
_FIRST_NAMED = 1 << 29
_COLUMNS_MAX = 2048

CATALOG_SCHEMA = 11
PUBLIC_SCHEMA = 2200
INFORMATION_SCHEMA = 13207
TEMPORARY_SCHEMA = 13208  # a session's own
DATABASES = {"postgres": 5, "streamsql": 6}
TABLESPACE = 1663
OWNER = 10
PUBLIC_OWNER = 6171
HEAP, BTREE = 2, 403
CLASSES = 1259  # pg_class itself
DEFAULT_COLLATION, C_COLLATION = 100, 950


def schema(schema_id: int) -> int:
    """The OID of a schema: `public` has PostgreSQL's, others are numbered with the objects."""
    return PUBLIC_SCHEMA if schema_id < 0 else relation(schema_id)


def relation(object_id: int) -> int:
    return FIRST + object_id * _PER_OBJECT


def row_type(object_id: int) -> int:
    return relation(object_id) + 1


def row_array(object_id: int) -> int:
    return relation(object_id) + 2


def index(object_id: int) -> int:
    return relation(object_id) + 3


def constraint(object_id: int) -> int:
    return relation(object_id) + 4


def named(object_id: int, kind: str, name: str) -> int:
    """The OID of what an object has by name: an index, a constraint."""
    return _FIRST_NAMED + zlib.crc32(f"{object_id} {kind} {name}".encode()) % _FIRST_NAMED


def default(object_id: int, number: int) -> int:
    """The OID of the default of a column, which is the `number`-th of its relation."""
    return _FIRST_DEFAULT + (object_id * _COLUMNS_MAX + number) % _FIRST_DEFAULT
