"""What the system's own relations (``pg_catalog``, ``information_schema``) are made of, and how they become Arrow tables.

A relation says its columns in PostgreSQL's types, and a function gives its rows from a `Snapshot`. A row is a mapping; what
it leaves out is NULL in a view, and in a table what PostgreSQL has there: 0, false, '', an empty vector, or NULL where
that may stand. Rows of `lasting` relations depend on the catalog and the asker alone.

Specification: https://www.postgresql.org/docs/15/catalogs.html
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamsql.base.types import ARRAYS, BY_NAME, OID, WireType, canonical_arrow
from streamsql.catalog.access import OWNER, OWNER_NAME, PUBLIC
from streamsql.catalog.objects import PUBLIC_SCHEMA, TEMPORARY_SCHEMA, Catalog
from streamsql.catalog.objects import Sequence as Sequence_

PG_CATALOG = "pg_catalog"
INFORMATION_SCHEMA = "information_schema"
# what a relation is called where SQL reads it; no client can write such a name
READ_AS_PREFIX = "__catalog_"

# types whose value is the OID of something, shown as its name
REGISTERED = frozenset({"regclass", "regnamespace", "regproc", "regrole", "regtype"})

_DEFAULTS: dict[str, object] = {
    "bool": False, "char": "", "float4": 0.0, "int2": 0, "int4": 0, "int2vector": [], "name": "", "oid": 0,
    "oidvector": [], "regproc": 0, "xid": 0,
}  # fmt: skip


Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Setting:
    """A session variable as ``pg_settings`` shows it."""

    name: str
    value: str
    default: str
    description: str
    writable: bool
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as ``pg_stat_activity`` shows it."""

    process_id: int
    user: str
    database: str
    application_name: str
    address: str | None
    port: int | None
    began: dt.datetime
    state: str
    query: str
    role: int = OWNER


@dataclass(frozen=True, slots=True)
class OwnObjects:
    """What only the asking session has: its cursors and prepared statements as rows, its channels by name."""

    cursors: Callable[[], Iterable[Row]] = tuple
    prepared: Callable[[], Iterable[Row]] = tuple
    channels: Callable[[], Iterable[str]] = tuple


NOTHING_OWN = OwnObjects()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the relations tell of: the catalog at one epoch, who asks, and the server around.

    `settings`, `sessions` and `rows_in` are asked by relations that are not lasting; `relations` are all of the system's.
    `role` is the OID of who asks, `owner` the name by which the first owner is shown to him, `path` the schemas in which names
    are looked up.
    """

    catalog: Catalog
    user: str
    database: str
    settings: Callable[[], Sequence[Setting]] = field(default=tuple, compare=False)
    sessions: Callable[[], Sequence[SessionRow]] = field(default=tuple, compare=False)
    rows_in: Callable[[str], int] = field(default=lambda _: 0, compare=False)
    relations: Mapping[tuple[str, str], CatalogRelation] = field(default_factory=dict, compare=False)
    own: OwnObjects = field(default=NOTHING_OWN, compare=False)
    role: int = OWNER
    owner: str = OWNER_NAME
    path: tuple[str, ...] = (PUBLIC_SCHEMA,)
    last_number: Callable[[Sequence_], tuple[int, bool]] = field(default=lambda _: (0, False), compare=False)
    # bytes on disk by OID, 0 for the database
    sizes: Callable[[], Mapping[int, int]] = field(default=dict, compare=False)

    def visible(self, schema: str, name: str) -> bool:
        """Tell whether a name without its schema means what is called so in this schema."""
        for other in (TEMPORARY_SCHEMA, *self.path):
            if other == schema:
                return True
            if self.catalog.is_taken(other, name) or (other, name) in self.relations:
                return False
        return False

    def role_name(self, oid: int) -> str:
        """Name a role as whoever asks sees it; 0 is everybody, who has no name."""
        if oid == PUBLIC:
            return ""
        return self.owner if oid == OWNER else self.catalog.access.name_of(oid)


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column, and its type as PostgreSQL names it."""

    name: str
    type: WireType


RowsOf = Callable[[Snapshot], Iterable[Row]]


def no_rows(_: Snapshot) -> Iterable[Row]:
    """Give no rows: there are none of these things here."""
    return ()


@dataclass(frozen=True, slots=True)
class CatalogRelation:
    """One of the system's relations; `kind` is ``r`` for a table and ``v`` for a view, as in ``pg_class``."""

    schema: str
    name: str
    oid: int
    kind: str
    columns: tuple[CatalogColumn, ...]
    rows: RowsOf = field(default=no_rows, compare=False)
    lasting: bool = True

    @property
    def read_as(self) -> str:
        """The name under which SQL reads it."""
        return f"{READ_AS_PREFIX}{self.schema}_{self.name}"

    def table(self, snapshot: Snapshot) -> pa.Table:
        """Make its rows."""
        rows = list(self.rows(snapshot))
        return pa.table(
            [pa.array([r.get(c.name, self._default(c)) for r in rows], stored_type(c.type)) for c in self.columns],
            names=[c.name for c in self.columns],
        )

    def _default(self, column: CatalogColumn) -> object:
        return _DEFAULTS.get(column.type.name) if self.kind == "r" else None


def stored_type(wire_type: WireType) -> pa.DataType:
    """Give the Arrow type in which a column is kept: canonical, but OIDs for what is shown as a name."""
    if wire_type.element is not None:
        return pa.list_(stored_type(wire_type.element))
    return canonical_arrow(OID if wire_type.name in REGISTERED else wire_type)


def columns(text: str) -> tuple[CatalogColumn, ...]:
    """Read a list of columns: names and PostgreSQL's types."""
    found = []
    for item in text.split(","):
        name, type_name = item.split()
        wire_type = ARRAYS[type_name[:-2]] if type_name.endswith("[]") else BY_NAME[type_name]
        found.append(CatalogColumn(name, wire_type))
    return tuple(found)


def table(oid: int, name: str, listed: str, rows: RowsOf = no_rows, *, lasting: bool = True) -> CatalogRelation:
    """Make a table of ``pg_catalog``; `listed` are its columns: names and types."""
    return CatalogRelation(PG_CATALOG, name, oid, "r", columns(listed), rows, lasting)


def view(oid: int, name: str, listed: str, rows: RowsOf = no_rows, *, lasting: bool = True) -> CatalogRelation:
    """Make a view of ``pg_catalog``."""
    return CatalogRelation(PG_CATALOG, name, oid, "v", columns(listed), rows, lasting)


def standard(oid: int, name: str, listed: str, rows: RowsOf = no_rows) -> CatalogRelation:
    """Make a view of ``information_schema``."""
    return CatalogRelation(INFORMATION_SCHEMA, name, oid, "v", columns(listed), rows)
