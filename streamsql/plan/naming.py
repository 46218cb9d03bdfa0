"""Names that are looked up: a statement's names of relations become keys, and its queries read by key.

::

    SET search_path TO sales, public
    SELECT orders.id FROM orders      ->   SELECT orders.id FROM "sales.orders" AS orders

A name without a schema is looked for in the schemas of the search path, in order: after the session's temporary tables and
``pg_catalog``. Everything behind this knows objects by their keys alone (`sql.names`). A name that is not found is left as it
is, for those who use it to say so.

Specification: https://www.postgresql.org/docs/15/ddl-schemas.html
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlglot import exp

from streamsql.base.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidSchemaName,
    InvalidTableDefinition,
    UndefinedTable,
)
from streamsql.base.types import TEXT
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import (
    PUBLIC_SCHEMA,
    SYSTEM_SCHEMA,
    SYSTEM_SCHEMAS,
    TEMPORARY_SCHEMA,
    Catalog,
    PlainView,
    Sequence,
)
from streamsql.catalog.relation import PG_CATALOG
from streamsql.catalog.rights import require_usage
from streamsql.catalog.standard import STANDARD
from streamsql.catalog.user_types import UserType
from streamsql.plan.ctes import is_cte
from streamsql.plan.plain_views import LOOKED_UP, put
from streamsql.plan.type_names import MADE, changed_columns, constraint_found, type_named
from streamsql.plan.windows.tables import window_relation
from streamsql.sql.constraints import Constraint, ForeignKey
from streamsql.sql.flow_statements import AddColumn, AlterFlow, CreateSink, ResetStream
from streamsql.sql.locks import LockTable
from streamsql.sql.names import NOTE, Key, joined, key_of, parted
from streamsql.sql.parse import position_of
from streamsql.sql.role_statements import GrantPrivileges
from streamsql.sql.statements import (
    Comment,
    CopyFrom,
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    CreateTableAs,
    CreateView,
    Delete,
    Describe,
    Drop,
    ExplainWhy,
    Insert,
    Merge,
    ObjectKind,
    Prepare,
    Refresh,
    Statement,
    Subscribe,
    Update,
    Verify,
)
from streamsql.sql.upkeep import Upkeep

S = TypeVar("S", bound=Statement)

SEQUENCE = "sequence"  # in the meta of a table that is a sequence, read by its key
_ITEM = re.compile(r'"((?:[^"]|"")+)"|([^",]+)')

# what names an object that is there
_NAMING = (
    AddColumn, AlterFlow, Comment, CopyFrom, Delete, Describe, ExplainWhy, Insert, Merge, Refresh, ResetStream, Subscribe,
    Update,
    Verify,
)  # fmt: skip
_WRITING = (Delete, Insert, Merge, Update)
# what names several
_LISTING = (GrantPrivileges, LockTable, Upkeep)
# what names one that is to be
_MAKING = (CreateMaterializedView, CreateStream, CreateTable, CreateTableAs, CreateView)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where names are looked up: a catalog, the schemas of the search path, and with whose rights."""

    catalog: Catalog
    path: tuple[str, ...] = (PUBLIC_SCHEMA,)
    role: int = OWNER

    def key(self, schema: str | None, name: str) -> str | None:
        """Give the key of the object that is called so; None where there is none. Raises InsufficientPrivilege."""
        if schema is not None:
            if schema in self.catalog.schemas:
                require_usage(self.catalog, self.role, schema)
            found = self.catalog.lookup(schema, name)
            return None if found is None else found.name
        for each in (TEMPORARY_SCHEMA, *self.path):
            found = self.catalog.lookup(each, name)
            if found is not None:
                return found.name
        return None

    def type(self, schema: str | None, name: str) -> UserType | None:
        """Give the type of a user's that is called so; None where there is none. Raises InsufficientPrivilege."""
        if schema is not None and schema in self.catalog.schemas:
            require_usage(self.catalog, self.role, schema)
        paths = self.path if schema is None else (schema,)
        return next((made for each in paths if (made := self.catalog.type_called(each, name)) is not None), None)

    def sequence(self, schema: str | None, name: str) -> Sequence | None:
        """Give the sequence that is called so; None where there is none."""
        paths = self.path if schema is None else (schema,)
        return next((s for each in paths if (s := self.catalog.sequence_called(each, name)) is not None), None)

    def schema_of(self, key: str) -> str:
        """Tell in which schema an object stands."""
        return self.catalog.objects[key].schema

    def view(self, key: str) -> PlainView | None:
        """Give the view whose query is to stand where this is read; None for what is read itself."""
        found = self.catalog.get(key)
        return found if isinstance(found, PlainView) else None

    def system_schema(self, name: str) -> str | None:
        """Give the schema of the server's own that the path finds a relation in; None for pg_catalog, and for none."""
        for schema in self.path:
            if self.catalog.lookup(schema, name) is not None:
                return None
            known = schema == SYSTEM_SCHEMA or (schema, name) in STANDARD
            if schema in SYSTEM_SCHEMAS and schema != PG_CATALOG and known:
                return schema
        return None

    def new(self, schema: str | None, name: str, *, temporary: bool = False) -> str:
        """Give the key for what is to be called so. Raises StreamSQLError where it cannot be."""
        if temporary:
            if schema not in (None, TEMPORARY_SCHEMA):
                raise InvalidTableDefinition("cannot create temporary relation in non-temporary schema")
            return key_of(TEMPORARY_SCHEMA, name)
        if schema is None:
            schema = next(iter(self.path), None)
            if schema is None:
                raise InvalidSchemaName("no schema has been selected to create in", hint="SET search_path TO public")
        if schema in SYSTEM_SCHEMAS:
            raise InsufficientPrivilege(f"permission denied for schema {schema}", hint="it is the server's own")
        if schema not in self.catalog.schemas:
            raise InvalidSchemaName(f'schema "{schema}" does not exist')
        return key_of(schema, name)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What names meant when a definition was made: its own key, and those of what it names.

    Views and the types of users are those of the `catalog`. Without one, a type stands for text: for what is gone, whose
    types may be gone as well.
    """

    own: str
    keys: Mapping[str, str]
    catalog: Catalog | None = None
    role: None = None  # whose rights it was made with has been seen to

    def type(self, schema: str | None, name: str) -> UserType | None:
        if self.catalog is None:
            return UserType(0, name, TEXT, "VARCHAR")
        found = self.keys.get(NOTE + joined(schema, name))
        return None if found is None else self.catalog.types.get(int(found))

    def key(self, schema: str | None, name: str) -> str | None:
        return self.keys.get(joined(schema, name))

    def system_schema(self, _: str) -> str | None:
        return None

    def view(self, key: str) -> PlainView | None:
        found = None if self.catalog is None else self.catalog.get(key)
        return found if isinstance(found, PlainView) else None

    def schema_of(self, key: str) -> str:
        return next(parted(name)[0] or PUBLIC_SCHEMA for name, found in self.keys.items() if found == key)

    def new(self, *_: object, temporary: bool = False) -> str:
        assert not temporary
        return self.own


@dataclass(slots=True)
class _Resolver:
    """Looks the names of one statement up. `found` notes what was found, by the names in its text."""

    lookup: Lookup | Remembered
    found: dict[str, str] = field(default_factory=dict)
    opens: bool = True  # whether queries of views are put where these are read

    def statement(self, statement: S) -> S:
        changed: dict[str, Any] = {}
        if isinstance(statement, Prepare):
            return statement  # which is looked up when it is used
        if isinstance(statement, CreateView):
            self.opens = False
        if isinstance(statement, CreateSink):
            changed = {"name": _sink_name(statement.name), "view": self._name(statement.view, None)}
        elif isinstance(statement, AlterFlow) and statement.kind is ObjectKind.SINK:
            changed["name"] = _sink_name(statement.name)
        elif isinstance(statement, Drop) and statement.kind is ObjectKind.SINK:
            changed["names"] = tuple(map(_sink_name, statement.names))
        elif isinstance(statement, _NAMING):
            changed["name"] = self._name(statement.name, None if isinstance(statement, _WRITING) else statement)
        elif isinstance(statement, _LISTING) and not _is_of_schemas(statement):
            changed["names"] = tuple(self._name(name, statement) for name in statement.names)
        elif isinstance(statement, _MAKING) and not isinstance(statement.name, Key):
            temporary = isinstance(statement, (CreateTable, CreateTableAs)) and statement.on_commit is not None
            changed["name"] = Key(self.lookup.new(*parted(statement.name), temporary=temporary))
            if isinstance(statement, (CreateStream, CreateTable)):
                changed["constraints"] = tuple(
                    self._constraint(c, statement, changed["name"]) for c in statement.constraints
                )
        changed |= changed_columns(statement, self._type)
        for place in dataclasses.fields(statement):
            value = getattr(statement, place.name)
            if isinstance(value, exp.Expr):
                changed[place.name] = self.tree(value, statement)
            elif isinstance(value, Statement):
                changed[place.name] = self.statement(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Statement):
                changed[place.name] = tuple(map(self.statement, value))
        if all(_same(value, getattr(statement, name)) for name, value in changed.items()):
            return statement
        return dataclasses.replace(statement, **changed)

    def _type(self, schema: str | None, name: str) -> UserType | None:
        found = self.lookup.type(schema, name)
        if found is not None:
            self.found[NOTE + joined(schema, name)] = str(found.wire.oid)
        return found

    def _constraint(self, constraint: Constraint, statement: CreateStream | CreateTable, own: str) -> Constraint:
        if not isinstance(constraint, ForeignKey):
            return constraint_found(constraint, self._type) or constraint
        schema, name = parted(constraint.table)
        own_schema, own_name = parted(statement.name)
        if name == own_name and schema in (None, own_schema) and self._key(schema, name) is None:
            return dataclasses.replace(constraint, table=Key(own))  # it speaks of itself
        return dataclasses.replace(constraint, table=self._name(constraint.table, statement))

    def _name(self, written: str, statement: Statement | None) -> str:
        """Look a name up. As in PostgreSQL, all but what writes rows finds fault with the schema where that is missing."""
        if isinstance(written, Key):
            return written
        schema, name = parted(written)
        known = isinstance(self.lookup, Remembered) or schema in (None, *SYSTEM_SCHEMAS, *self.lookup.catalog.schemas)
        if statement is not None and not known:
            position = getattr(statement, "name_position", None)
            raise InvalidSchemaName(
                f'schema "{schema}" does not exist', position=None if position is None else position + 1
            )
        found = self._key(schema, name)
        return written if found is None or found == written else Key(found)

    def _key(self, schema: str | None, name: str, position: int | None = None) -> str | None:
        """Find a key; raises UndefinedTable where what is not found would be taken for another object."""
        found = self.lookup.key(schema, name)
        if found is not None:
            self.found[joined(schema, name)] = found
        elif isinstance(self.lookup, Lookup) and joined(schema, name) in self.lookup.catalog.objects:
            there = self.lookup.catalog.objects[joined(schema, name)]
            hint = f"there is {there.schema}.{there.bare}" if there.bare == name else f"it is called {there.bare} now"
            shown = name if schema is None else f"{schema}.{name}"
            raise UndefinedTable(f'relation "{shown}" does not exist', hint=hint, position=position)
        return found

    def tree(self, tree: exp.Expr, statement: Statement) -> exp.Expr:
        """Look the relations of a tree up; it is changed only where a name is not its own key."""
        if not any(self._is_other(node, statement) for node in tree.walk()):
            return tree
        made = tree.copy()
        for table in list(made.find_all(exp.Table)):
            self._table(table, statement)
        for node in list(made.find_all(exp.DataType)):
            found = type_named(node, self._type)
            if found is not None:
                node.meta[MADE] = found.wire
        read = made.find_all(exp.Table, exp.Subquery)
        schemas = {t.alias: s for t in read if (s := t.meta.get(LOOKED_UP)) is not None}
        for column in list(made.find_all(exp.Column)):
            if column.db in ("", *SYSTEM_SCHEMAS) or column.table not in schemas:
                continue
            if column.db != schemas[column.table]:
                raise UndefinedTable(
                    f'invalid reference to FROM-clause entry for table "{column.table}"',
                    position=position_of(column, statement),
                )
            column.set("db", None)
        return made

    def _is_other(self, node: exp.Expr, statement: Statement) -> bool:
        if isinstance(node, exp.Column):
            return bool(node.db)
        if isinstance(node, exp.DataType):
            return MADE not in node.meta and type_named(node, self._type) is not None
        if not isinstance(node, exp.Table) or LOOKED_UP in node.meta:
            return False
        if window_relation(node) is not None:
            return True
        if not isinstance(node.this, exp.Identifier) or (not node.db and is_cte(node)):
            return False
        if node.db:
            return node.db not in SYSTEM_SCHEMAS
        if (PG_CATALOG, node.name) in STANDARD:
            return False
        found = self._key(None, node.name, position_of(node.this, statement))
        if found is None:
            return self.lookup.system_schema(node.name) is not None or self._sequence(node) is not None
        return found != node.name or (self.opens and self.lookup.view(found) is not None)

    def _table(self, table: exp.Table, statement: Statement) -> None:
        column = window_relation(table)
        if column is not None and LOOKED_UP not in column.meta:
            self._first_argument(table, column)
        known = not isinstance(table.this, exp.Identifier) or LOOKED_UP in table.meta
        if known or table.catalog or table.db in SYSTEM_SCHEMAS or (not table.db and is_cte(table)):
            return
        if not table.db and (PG_CATALOG, table.name) in STANDARD:
            return
        key = self._key(table.db or None, table.name, position_of(table, statement))
        if key is None:
            sequence = self._sequence(table)
            if sequence is not None:
                _read_by_key(table, sequence.name)
                table.meta[LOOKED_UP], table.meta[SEQUENCE] = sequence.schema, True
                return
            schema = None if table.db else self.lookup.system_schema(table.name)
            if schema is not None:
                table.set("db", exp.to_identifier(schema, quoted=True))
            elif table.db:
                raise UndefinedTable(
                    f'relation "{table.db}.{table.name}" does not exist', position=position_of(table, statement)
                )
            return
        _read_by_key(table, key)
        table.meta[LOOKED_UP] = self.lookup.schema_of(key)
        view = self.lookup.view(key) if self.opens else None
        if view is not None and self.lookup.catalog is not None:
            opened = put(table, view, self.lookup.catalog, self.lookup.role)
            opened.meta[LOOKED_UP] = table.meta[LOOKED_UP]

    def _sequence(self, table: exp.Table) -> Sequence | None:
        return self.lookup.sequence(table.db or None, table.name) if isinstance(self.lookup, Lookup) else None

    def _first_argument(self, table: exp.Table, column: exp.Column) -> None:
        key = self._key(column.table or None, column.name)
        if key is None:
            return
        column.meta[LOOKED_UP] = True
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(column.name, quoted=True)))
        _put(column, key)
        column.set("table", None)


def _sink_name(written: str) -> str:
    """Give the name of a sink, which stands in no schema."""
    schema, name = parted(written)
    if schema not in (None, PUBLIC_SCHEMA):
        raise FeatureNotSupported(
            "a sink stands in no schema", hint=f"leave {schema} away: its view may be in any schema"
        )
    return Key(name)


def _is_of_schemas(statement: Statement) -> bool:
    return isinstance(statement, GrantPrivileges) and (statement.kind != "table" or statement.whole_schema)


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (isinstance(one, str) and one == other)


def _read_by_key(table: exp.Table, key: str) -> None:
    """Let a relation be read by its key; columns name it as they did."""
    alias = table.args.get("alias")
    if alias is None:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))
    elif alias.args.get("this") is None:
        alias.set("this", exp.to_identifier(table.name, quoted=True))
    _put(table, key)
    table.set("db", None)


def _put(node: exp.Table | exp.Column, key: str) -> None:
    name = exp.to_identifier(key, quoted=True)
    name.meta.update(node.this.meta)
    node.set("this", name)


def resolved(statement: S, lookup: Lookup | Remembered) -> S:
    """Give a statement whose names are keys: the same one, where they are already. Raises StreamSQLError."""
    made = _Resolver(lookup)
    found = made.statement(statement)
    if isinstance(found, (CreateMaterializedView, CreateStream, CreateTable, CreateView)) and isinstance(
        lookup, Lookup
    ):
        return dataclasses.replace(found, names=made.found)
    return found


def path_of(text: str, user: str, catalog: Catalog, role: int) -> tuple[str, ...]:
    """Give the schemas of a value of ``search_path`` that there are, and in which the role may look names up."""
    found = []
    for quoted, plain in _ITEM.findall(text):
        name = quoted.replace('""', '"') if quoted else plain.strip().lower()
        if name == "$user":
            name = user
            if name in SYSTEM_SCHEMAS:
                continue  # the first owner is called like the server's own schema, which is not his
        known = catalog.schemas.get(name)
        if name in SYSTEM_SCHEMAS or (known is not None and catalog.access.has(role, known.id, "USAGE")):
            found.append(name)
    return tuple(dict.fromkeys(found))
