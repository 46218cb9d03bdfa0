"""CREATE TYPE, ALTER TYPE and DROP TYPE. Runs on the engine's thread, between epochs, each as one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from streamsql.base.errors import (
    DependentObjectsExist,
    DuplicateObject,
    FeatureNotSupported,
    InvalidTableDefinition,
)
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import KIND_OF, PUBLIC_SCHEMA, Catalog, CatalogObject, PlainView, Stream, Table, View
from streamsql.catalog.user_types import STORED_ENUM, UserType, check_labels, enum_type, with_label
from streamsql.engine import altering, definitions
from streamsql.engine.commits import commit
from streamsql.engine.epoch import Engine
from streamsql.engine.kept_types import composite, definition_of, drop_macros, make_macros
from streamsql.sql import altering as a
from streamsql.sql.names import NOTE, key_of, parted
from streamsql.sql.types import AddLabel, CreateType, MoveType


def create(engine: Engine, statement: CreateType, owner: int) -> UserType:
    """CREATE TYPE. Raises DuplicateObject where the name is taken."""
    schema, label = parted(statement.name)
    schema = schema or PUBLIC_SCHEMA
    if engine.catalog.type_called(schema, label) is not None or engine.catalog.lookup(schema, label) is not None:
        raise DuplicateObject(f'type "{label}" already exists')
    type_id = engine.next_id()
    key = key_of(schema, label)
    if any(made.name == key for made in engine.catalog.types.values()):
        key = f"{key} ({type_id})"
    if statement.labels is not None:
        check_labels(statement.labels)
        ranks = {text: float(place) for place, text in enumerate(statement.labels, 1)}
        made = UserType(type_id, key, enum_type(type_id, label, ranks), STORED_ENUM, schema=schema, label=label)
    else:
        if not statement.columns:
            raise FeatureNotSupported("a composite type without columns is not supported", hint="give it one")
        made = composite(type_id, key, label, statement.columns, schema)

    def change() -> None:
        engine.store.execute(
            "INSERT INTO _engine.types VALUES (?, ?, ?, ?, ?)", [type_id, key, schema, label, definition_of(made)]
        )
        make_macros(engine.store, made)

    catalog = engine.catalog.with_types({**engine.catalog.types, made.wire.oid: made})
    if owner != OWNER:
        catalog = catalog.with_access(catalog.access.with_owner(type_id, owner))
    _keep(engine, catalog, change)
    return made


def add_label(engine: Engine, made: UserType, statement: AddLabel) -> bool:
    """ALTER TYPE ... ADD VALUE; False where it was there and IF NOT EXISTS was said. Raises StreamSQLError."""
    labels = made.labels
    assert labels is not None
    if statement.label in labels.ranks:
        if statement.if_not_exists:
            return False
        raise DuplicateObject(f'enum label "{statement.label}" already exists')
    ranks = with_label(labels, statement.label, statement.neighbour, before=statement.before)
    before = labels.ranks

    def change() -> None:
        labels.ranks = ranks
        engine.store.execute("UPDATE _engine.types SET definition = ? WHERE id = ?", [definition_of(made), made.id])
        make_macros(engine.store, made)

    try:
        _keep(engine, engine.catalog.with_types(dict(engine.catalog.types)), change)
    except BaseException:
        labels.ranks = before
        raise
    return True


def move(engine: Engine, made: UserType, statement: MoveType) -> None:
    """ALTER TYPE ... RENAME TO, and SET SCHEMA. Raises DuplicateObject."""
    schema, label = statement.schema or made.schema, statement.new_name or made.bare
    catalog = engine.catalog
    if catalog.type_called(schema, label) is not None or catalog.lookup(schema, label) is not None:
        raise DuplicateObject(f'type "{label}" already exists')
    moved = replace(made, schema=schema, label=label)

    def change() -> None:
        engine.store.execute("UPDATE _engine.types SET schema = ?, name = ? WHERE id = ?", [schema, label, made.id])
        make_macros(engine.store, moved)

    _keep(engine, catalog.with_types({**catalog.types, made.wire.oid: moved}), change)


def drop(engine: Engine, gone: list[UserType], *, cascade: bool) -> list[str]:
    """DROP TYPE; gives what else has gone, for people. Raises DependentObjectsExist."""
    wanted = list(gone)
    notes: list[str] = []
    for made in wanted:  # which grows as composite types are found
        users = users_of(engine.catalog, made, wanted)
        if users and not cascade:
            raise DependentObjectsExist(
                f"cannot drop type {made.shown} because other objects depend on it",
                detail="\n".join(f"{shown} depends on type {made.shown}" for shown, _, _ in users),
                hint="Use DROP ... CASCADE to drop the dependent objects too.",
            )
        wanted += [user for _, user, _ in users if isinstance(user, UserType)]
        if any(isinstance(user, Stream) for _, user, _ in users):
            raise InvalidTableDefinition(
                f"cannot drop type {made.shown}: a stream has a column of it", hint="drop the stream first"
            )
        notes += [shown for shown, _, _ in users]
        _drop_users(engine, users)

    def change() -> None:
        for made in wanted:
            engine.store.execute("DELETE FROM _engine.types WHERE id = ?", [made.id])
            drop_macros(engine.store, made)

    ids = {made.id for made in wanted}
    left = {oid: made for oid, made in engine.catalog.types.items() if made.id not in ids}
    catalog = engine.catalog.with_types(left)
    _keep(engine, catalog.with_access(catalog.access.without_objects(ids)), change)
    return notes


User = tuple[str, CatalogObject | UserType, str]


def users_of(catalog: Catalog, made: UserType, but: Sequence[UserType] = ()) -> list[User]:
    """List what depends on a type: as people call it, the object, and the column's name or an empty text."""
    oid = made.wire.oid
    found: list[User] = []
    for item in catalog:
        columns = [c.name for c in item.columns if c.made is not None and c.made.scalar.oid == oid]
        if isinstance(item, (PlainView, View)):
            named = any(name.startswith(NOTE) and value == str(oid) for name, value in item.names.items())
            found += [(f"{KIND_OF[type(item)].value.lower()} {item.shown}", item, "")] if columns or named else []
        else:
            kind = "table" if isinstance(item, Table) else "stream"
            found += [(f"column {name} of {kind} {item.shown}", item, name) for name in columns]
    for other in catalog.types.values():
        if other not in but and any(f.type.scalar.oid == oid for f in other.wire.fields):
            found.append((f"type {other.shown}", other, ""))
    return found


def _drop_users(engine: Engine, users: list[User]) -> None:
    views = [user for _, user, _ in users if isinstance(user, (PlainView, View))]
    if views:
        definitions.drop_objects(engine, list(views), cascade=True)
    tables: dict[str, list[str]] = {}
    for _, user, column in users:
        if isinstance(user, Table):
            tables.setdefault(user.name, []).append(column)
    for name, columns in tables.items():
        table = engine.catalog.relation(name)
        assert isinstance(table, Table)
        actions = tuple(a.DropColumn(column, cascade=True) for column in columns)
        altering.alter(engine, table, a.AlterTable("", 0, name=name, name_position=0, actions=actions))


def _keep(engine: Engine, catalog: Catalog, change: Callable[[], None]) -> None:
    commit(engine, catalog, change)
    engine.store.forget_statements()
