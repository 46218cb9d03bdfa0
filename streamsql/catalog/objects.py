"""The durable definitions of what users create: streams, tables, views.

A definition is the statement's own text (as `sql.render` prints it) and what cannot be read from it: the id, which names
the object's DuckDB tables. Definitions are rows of ``_engine.objects``; nothing here touches DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sqlglot import exp

from streamsql.base.errors import (
    DuplicateObject,
    DuplicateTable,
    NotInPrerequisiteState,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.base.types import BY_OID, WireColumn, WireType, wire_column
from streamsql.catalog.access import PUBLIC_SCHEMA as PUBLIC_ID
from streamsql.catalog.access import TEMPORARY_IDS_FROM, Access
from streamsql.sql.constraints import Check, Constraint, ForeignKey, Unique
from streamsql.sql.names import OWN_SCHEMA, key_of, parted
from streamsql.sql.sequence_statements import SequenceOptions
from streamsql.sql.statements import ColumnDefinition, EmitMode, ObjectKind, Watermark

if TYPE_CHECKING:
    from streamsql.catalog.user_types import UserType

PUBLIC_SCHEMA = "public"
ROWS_SCHEMA = "_rows"
RESULTS_SCHEMA = "_results"
STATE_SCHEMA = "_state"
ENGINE_SCHEMA = "_engine"
OUTBOX_SCHEMA = "_outbox"
SYSTEM_SCHEMA = OWN_SCHEMA
TEMPORARY_SCHEMA = "pg_temp"
# what no schema of a user's can be called; nor can it begin with pg_
SYSTEM_SCHEMAS = frozenset({"information_schema", "pg_catalog", SYSTEM_SCHEMA})

# Connectors of tables whose rows stay where they are: each is asked for when a row is joined with it.
LOOKUP_CONNECTORS = frozenset({"postgres-lookup"})

# From watermarks to lower bounds of a column, in microseconds: see plan.bounds.
TimeBound = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]


def quoted(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for SQL."""
    return "'" + text.replace("'", "''") + "'"


def comment_key(number: int) -> str:
    """Give what stands for a schema, sequence or type of this id among the names of what has comments: no object's key."""
    return f".{number}"


@dataclass(frozen=True, slots=True)
class Named:
    """What stands in a schema. `name` is its key, for good: what the server's own tables are called by (`sql.names.key_of`).

    `label` is what it is called within its schema, where that is not the key.
    """

    id: int
    name: str
    schema: str = field(default=PUBLIC_SCHEMA, kw_only=True)
    label: str = field(default="", kw_only=True)

    @property
    def bare(self) -> str:
        """Its name within its schema."""
        return self.label or self.name

    @property
    def shown(self) -> str:
        """Its name as people write it: with its schema, but for ``public``."""
        return key_of(self.schema, self.bare)


@dataclass(frozen=True, slots=True)
class Schema:
    """A namespace for objects."""

    id: int
    name: str


PUBLIC = Schema(PUBLIC_ID, PUBLIC_SCHEMA)


@dataclass(frozen=True, slots=True)
class Relation(Named):
    """What rows can be sent to: a stream or a table.

    Its rows are kept in ``_rows."name"`` with two columns more, `__seq` (the arrival number, unique in the server) and
    `__arrived_at`; the DuckDB view ``public."name"`` shows the declared columns. `names` are the keys of the tables, and the
    OIDs of the types, that its text names, by the names there (`plan.naming`).
    """

    columns: tuple[ColumnDefinition, ...]
    text: str
    constraints: tuple[Constraint, ...] = field(default=(), kw_only=True)
    names: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    # by the constraint's name: the SELECT of the rows in `plan.checks.CHECKED` that violate it
    check_sql: Mapping[str, str] = field(default_factory=dict, kw_only=True, compare=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(c for c in self.constraints if isinstance(c, Check))

    @property
    def rows_table(self) -> str:
        return f"{ROWS_SCHEMA}.{quoted(self.name)}"

    @property
    def public_name(self) -> str:
        return f"{PUBLIC_SCHEMA}.{quoted(self.name)}"

    def column(self, name: str) -> ColumnDefinition | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Stream(Relation):
    """A stream. `retention_us` None keeps rows for ever, 0 keeps none; `idle_timeout_us` None never moves time on.

    `connector` are the options of what its rows are read from, as they were given; none where clients send them. It `fails`
    where a record that cannot be read stops it. Such records are put into the stream `rejected_into` as well, if there is one.
    """

    watermark: Watermark | None = None
    retention_us: int | None = None
    idle_timeout_us: int | None = None
    connector: Mapping[str, str] = field(default_factory=dict)
    fails: bool = False
    rejected_into: str = ""

    @property
    def is_read(self) -> bool:
        """Tell whether a reader feeds it."""
        return bool(self.connector)


@dataclass(frozen=True, slots=True)
class Table(Relation):
    """A table: rows are kept until they are deleted. With a `connector` (as in `Stream`) rows are replaced by their key.

    `key_name` is its primary key's.
    """

    primary_key: tuple[str, ...] = ()
    connector: Mapping[str, str] = field(default_factory=dict)
    fails: bool = False
    key_name: str = ""
    rejected_into: str = ""

    @property
    def uniques(self) -> tuple[Unique, ...]:
        """The keys besides the primary one."""
        return tuple(c for c in self.constraints if isinstance(c, Unique))

    @property
    def keys(self) -> tuple[Unique, ...]:
        """All keys, the primary one first."""
        return ((Unique(self.key_name, self.primary_key),) if self.primary_key else ()) + self.uniques

    @property
    def foreign_keys(self) -> tuple[ForeignKey, ...]:
        return tuple(c for c in self.constraints if isinstance(c, ForeignKey))

    @property
    def is_read(self) -> bool:
        """Tell whether a reader feeds it."""
        return bool(self.connector) and not self.outside

    @property
    def outside(self) -> bool:
        """Tell whether its rows are not here: it can be joined with as of now, and nothing else."""
        return self.connector.get("connector") in LOOKUP_CONNECTORS

    @property
    def temporary(self) -> bool:
        """Tell whether it is a session's own (`server.temporary`)."""
        return self.id >= TEMPORARY_IDS_FROM


@dataclass(frozen=True, slots=True)
class Sequence(Named):
    """A sequence of numbers. `owned_by` are the id of a table and the name of a column of it, with which it goes."""

    options: SequenceOptions
    owned_by: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index that a user has made, in the schema of its relation: `columns` has "" for an expression.

    `text` is what stands behind the relation's name in its definition. A unique one is a key of its table, by the same name.
    """

    id: int
    name: str
    relation: int
    columns: tuple[str, ...]
    text: str
    unique: bool = False


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of a query's result: its name and DuckDB type, and that of a user's that its values are of."""

    name: str
    type: str
    made: WireType | None = None

    @property
    def wire(self) -> WireColumn:
        """How it is shown to clients."""
        shown = wire_column(self.type)
        return shown if self.made is None else WireColumn(self.made, shown.cast)


@dataclass(frozen=True, slots=True)
class View(Named):
    """A materialized view: its rendered query, its output columns, and the relations that it reads.

    `append_only`: no row that it has shown ever goes. `times` are the bounds of its columns that its watermark tells of.
    `names` are the keys of what its text names, by the names there.
    """

    columns: tuple[OutputColumn, ...]
    text: str
    sources: tuple[str, ...]
    mode: EmitMode
    append_only: bool = False
    times: tuple[tuple[str, TimeBound], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """What it reads, for people."""
        return ", ".join(self.sources)

    @property
    def public_name(self) -> str:
        return f"{PUBLIC_SCHEMA}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class PlainView(Named):
    """A view that keeps nothing: its query stands where the view is read (`plan.plain_views`).

    `tree` is that query, its names looked up, `sources` are the keys of what it reads itself, other views among it. `own_names`
    are what its query calls the columns, `names` the keys of what its text names, by the names there.
    """

    columns: tuple[OutputColumn, ...]
    text: str
    sources: tuple[str, ...]
    tree: exp.Expr = field(compare=False)
    own_names: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sink:
    """What a view's changes are delivered to, by the `connector` and its options, as they were given.

    Sinks have names of their own: nothing is read from a sink. `guarantee` is what the connector promises of each row.
    """

    id: int
    name: str
    view: str
    text: str
    connector: Mapping[str, str]
    guarantee: str


CatalogObject = Stream | Table | View | PlainView

KIND_OF: dict[type, ObjectKind] = {
    Stream: ObjectKind.STREAM,
    Table: ObjectKind.TABLE,
    View: ObjectKind.VIEW,
    PlainView: ObjectKind.PLAIN_VIEW,
}


def answers_to(made: CatalogObject, kind: ObjectKind) -> bool:
    """Tell whether a statement may call an object so: VIEW is the short word for materialized ones, too."""
    own = KIND_OF[type(made)]
    return own is kind or (own, kind) == (ObjectKind.VIEW, ObjectKind.PLAIN_VIEW)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All objects by name. Immutable: the engine thread makes a new one, every other thread reads the one it got."""

    objects: dict[str, CatalogObject] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
    # by (object, column), the column '' for the object itself
    comments: Mapping[tuple[str, str], str] = field(default_factory=dict)
    schemas: Mapping[str, Schema] = field(default_factory=lambda: {PUBLIC_SCHEMA: PUBLIC})
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    # by key; they share their names with the objects
    sequences: Mapping[str, Sequence] = field(default_factory=dict)
    # those that users have made, by OID
    types: Mapping[int, UserType] = field(default_factory=dict)
    # by id
    indexes: Mapping[int, Index] = field(default_factory=dict)

    def __iter__(self) -> Iterator[CatalogObject]:
        return iter(self.objects.values())

    def get(self, name: str) -> CatalogObject | None:
        return self.objects.get(name)

    def lookup(self, schema: str, name: str) -> CatalogObject | None:
        """Give what is called so in a schema."""
        found = self.objects.get(key_of(schema, name))
        if found is not None and (found.schema, found.bare) == (schema, name):
            return found
        return next((o for o in self if o.bare == name and o.schema == schema), None)

    def called(self, key: str) -> CatalogObject | None:
        """Give what has the name that this is the key of, whatever its own key."""
        schema, name = parted(key)
        return self.lookup(schema or PUBLIC_SCHEMA, name)

    def key_called(self, written: str) -> str:
        """Give the key of what is called so; the name itself, where nothing is."""
        found = self.called(written)
        return written if found is None else found.name

    def is_taken(self, schema: str, name: str) -> bool:
        """Tell whether an object or a sequence is called so."""
        return self.lookup(schema, name) is not None or self.sequence_called(schema, name) is not None

    def sequence_called(self, schema: str, name: str) -> Sequence | None:
        """Give the sequence that is called so."""
        return next((s for s in self.sequences.values() if (s.schema, s.bare) == (schema, name)), None)

    def of_id(self, object_id: int) -> CatalogObject | None:
        """Give the object of this id."""
        return next((o for o in self if o.id == object_id), None)

    def index_called(self, schema: str, name: str) -> Index | None:
        """Give the index that is called so, and was made by CREATE INDEX."""
        for index in self.indexes.values():
            made = self.of_id(index.relation)
            if index.name == name and made is not None and made.schema == schema:
                return index
        return None

    def type_called(self, schema: str, name: str) -> UserType | None:
        """Give the type of a user's that is called so."""
        return next((made for made in self.types.values() if (made.schema, made.bare) == (schema, name)), None)

    def type_of(self, oid: int) -> WireType | None:
        """Give the type of this OID, as clients name it: a built-in one, one of a user's, or an array of such."""
        if oid in BY_OID:
            return BY_OID[oid]
        for made in self.types.values():
            if oid in (made.wire.oid, made.wire.array_oid):
                return made.wire if oid == made.wire.oid else made.wire.array
        return None

    def with_types(self, types: Mapping[int, UserType]) -> Catalog:
        return replace(self, types=types)

    def sequence_of(self, made: Relation, column: str) -> Sequence | None:
        """Give the sequence that a column owns."""
        return next((s for s in self.sequences.values() if s.owned_by == (made.id, column)), None)

    def with_sequences(self, made: Iterable[Sequence]) -> Catalog:
        return replace(self, sequences={**self.sequences, **{s.name: s for s in made}})

    def without_sequences(self, ids: Iterable[int]) -> Catalog:
        gone = set(ids)
        return replace(self, sequences={k: s for k, s in self.sequences.items() if s.id not in gone})

    def in_schema(self, schema: str) -> list[CatalogObject]:
        """List what stands in a schema."""
        return [made for made in self if made.schema == schema]

    def with_schemas(self, schemas: Mapping[str, Schema]) -> Catalog:
        return replace(self, schemas=schemas)

    def with_object(self, made: CatalogObject) -> Catalog:
        """Give a catalog that also holds `made`. Raises DuplicateTable where the name is taken."""
        if made.name in self.objects:
            raise DuplicateTable(f'relation "{made.bare}" already exists')
        return replace(self, objects={**self.objects, made.name: made})

    def with_sink(self, made: Sink) -> Catalog:
        """Give a catalog that also holds a sink. Raises DuplicateObject where the name is taken."""
        if made.name in self.sinks:
            raise DuplicateObject(f'sink "{made.name}" already exists')
        return replace(self, sinks={**self.sinks, made.name: made})

    def without_sink(self, name: str) -> Catalog:
        return replace(self, sinks={n: s for n, s in self.sinks.items() if n != name})

    def sink(self, name: str, position: int | None = None) -> Sink:
        """Give the sink of this name, or raise UndefinedObject with the nearest name as a hint."""
        found = self.sinks.get(name)
        if found is None:
            raise UndefinedObject(f'sink "{name}" does not exist', hint=nearest(name, self.sinks), position=position)
        return found

    def sinks_of(self, view: str) -> list[Sink]:
        """List the sinks that a view's changes go to."""
        return [s for s in self.sinks.values() if s.view == view]

    def with_access(self, access: Access) -> Catalog:
        return replace(self, access=access)

    def without(self, name: str) -> Catalog:
        return replace(self, objects={n: o for n, o in self.objects.items() if n != name})

    def with_comment(self, name: str, column: str, comment: str | None) -> Catalog:
        """Give a catalog with this comment on an object, or on one of its columns; None takes one away."""
        comments = {k: c for k, c in self.comments.items() if k != (name, column)}
        return replace(self, comments=comments if comment is None else {**comments, (name, column): comment})

    def without_comments(self, name: str) -> Catalog:
        """Give a catalog without the comments on an object and its columns."""
        return replace(self, comments={k: c for k, c in self.comments.items() if k[0] != name})

    def find(self, name: str, position: int | None = None) -> CatalogObject:
        """Give the object of this name, or raise UndefinedTable with the nearest name as a hint."""
        found = self.objects.get(name)
        if found is None:
            raise UndefinedTable(
                f'relation "{name}" does not exist', hint=nearest(name, self.objects), position=position
            )
        return found

    def relation(self, name: str, position: int | None = None) -> Stream | Table:
        """Give the stream or table of this name; a view cannot take rows."""
        found = self.find(name, position)
        if isinstance(found, PlainView):
            raise NotInPrerequisiteState(
                f'cannot insert into view "{found.bare}"',
                hint="a view shows what a query gives: insert into what that reads",
                position=position,
            )
        if isinstance(found, View):
            raise WrongObjectType(
                f'cannot insert into materialized view "{found.bare}"',
                hint=f"insert into what it reads: {found.source}",
                position=position,
            )
        return found

    def view(self, name: str, position: int | None = None) -> View:
        """Give the materialized view of this name."""
        found = self.find(name, position)
        if not isinstance(found, View):
            raise WrongObjectType(
                f'"{found.bare}" is not a materialized view',
                hint=f"SELECT ... FROM {name} EMIT APPEND follows the rows of a stream",
                position=position,
            )
        return found

    def referencing(self, name: str) -> list[tuple[Table, ForeignKey]]:
        """List the foreign keys that speak of this table, each with the table that it belongs to."""
        return [(o, key) for o in self if isinstance(o, Table) for key in o.foreign_keys if key.table == name]

    def dependents(self, name: str) -> list[View]:
        """List the views that read this object, directly."""
        return [o for o in self if isinstance(o, View) and name in o.sources]


def nearest(name: str, names: object) -> str | None:
    """Make a hint that names the closest of `names`, or None where none is close."""
    import difflib

    close = difflib.get_close_matches(name, list(names), n=1)  # type: ignore[call-overload]  # any iterable of str
    return f'did you mean "{close[0]}"?' if close else None
