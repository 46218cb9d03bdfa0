"""What changes schemas, and what moves an object from one name to another. Runs on the engine's thread, between two epochs.

An object keeps its key whatever it is called, so that nothing that is kept by the key has to move (`sql.names`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from streamsql.base.errors import DependentObjectsExist, DuplicateSchema, DuplicateTable
from streamsql.catalog.access import PUBLIC_SCHEMA as PUBLIC_ID
from streamsql.catalog.objects import KIND_OF, Catalog, CatalogObject, Named, Schema, Stream, Table
from streamsql.catalog.objects import Sequence as Numbers
from streamsql.catalog.pg_catalog.shapes import default_sequence
from streamsql.engine import recovery, sequences, user_types
from streamsql.engine.access import save_access
from streamsql.engine.definitions import drop_objects
from streamsql.engine.epoch import Engine


def own_schemas(catalog: Catalog) -> list[Schema]:
    """List the schemas that users have made."""
    return [schema for schema in catalog.schemas.values() if schema.id != PUBLIC_ID]


def create_schema(engine: Engine, name: str, owner: int) -> None:
    """CREATE SCHEMA. Raises DuplicateSchema."""
    before = engine.catalog
    if name in before.schemas:
        raise DuplicateSchema(f'schema "{name}" already exists')
    made = Schema(engine.next_id(), name)

    def change() -> Catalog:
        engine.store.execute("INSERT INTO _engine.schemas VALUES (?, ?)", [made.id, name])
        access = before.access.with_schema(made.id, owner)
        save_access(engine.store, access)
        return before.with_schemas({**before.schemas, name: made}).with_access(access)

    _commit(engine, change)


def drop_schemas(
    engine: Engine, gone: Sequence[Schema], objects: Sequence[CatalogObject] = (), *, cascade: bool
) -> list[Named]:
    """DROP SCHEMA, and of objects with it; gives what else has gone, in the order in which it was made.

    Raises DependentObjectsExist where something depends on them, unless `cascade`.
    """
    inside = [made for schema in gone for made in engine.catalog.in_schema(schema.name) if made not in objects]
    names = {schema.name for schema in gone}
    # those that columns own go with their tables
    numbers = [s for s in engine.catalog.sequences.values() if s.schema in names and s.owned_by is None]
    types = [made for made in engine.catalog.types.values() if made.schema in names]
    if (inside or types or numbers) and not cascade:
        first = min([*inside, *types, *numbers], key=lambda made: made.id).schema
        told: list[tuple[str, Named]] = [(_kind(o), o) for o in inside] + [("type", made) for made in types]
        told += [("sequence", made) for made in numbers]
        told.sort(key=lambda item: item[1].id)
        raise DependentObjectsExist(
            f"cannot drop schema {first} because other objects depend on it",
            detail="\n".join(f"{kind} {o.shown} depends on schema {o.schema}" for kind, o in told),
            hint="Use DROP ... CASCADE to drop the dependent objects too.",
        )
    refuse_users(engine.catalog, numbers, inside)
    more = inside + drop_objects(engine, [*objects, *inside], cascade=cascade)
    if types:
        user_types.drop(engine, types, cascade=cascade)
    if numbers:
        sequences.drop(engine, numbers)
    before = engine.catalog
    left = {name: schema for name, schema in before.schemas.items() if schema not in gone}

    def change() -> Catalog:
        for schema in gone:
            engine.store.execute("DELETE FROM _engine.schemas WHERE id = ?", [schema.id])
        access = before.access.without_objects(schema.id for schema in gone)
        save_access(engine.store, access)
        return before.with_schemas(left).with_access(access)

    if gone:
        _commit(engine, change)
    return sorted([*more, *types, *numbers], key=lambda made: made.id)


def refuse_users(catalog: Catalog, numbers: Sequence[Numbers], gone: Sequence[CatalogObject]) -> None:
    """Raise DependentObjectsExist where a column of what stays gets its default from one of the sequences."""
    ids = {sequence.id for sequence in numbers}
    for made in catalog:
        if isinstance(made, (Stream, Table)) and made not in gone:
            for column in made.columns:
                found = default_sequence(catalog, made, column)
                if found is not None and found.id in ids:
                    user = f"default value for column {column.name} of table {made.shown}"
                    raise DependentObjectsExist(
                        f"cannot drop sequence {found.shown} because other objects depend on it",
                        detail=f"{user} depends on sequence {found.shown}",
                        hint="drop the default first: ALTER TABLE ... ALTER COLUMN ... DROP DEFAULT",
                    )


def rename_schema(engine: Engine, schema: Schema, new_name: str) -> None:
    """ALTER SCHEMA ... RENAME TO. Raises DuplicateSchema."""
    before = engine.catalog
    if new_name in before.schemas:
        raise DuplicateSchema(f'schema "{new_name}" already exists')

    def change() -> Catalog:
        engine.store.execute("UPDATE _engine.schemas SET name = ? WHERE id = ?", [new_name, schema.id])
        catalog = before
        for made in before.in_schema(schema.name):
            catalog = _moved(engine, catalog, made, new_name, made.bare)
        types = {o: replace(t, schema=new_name) if t.schema == schema.name else t for o, t in catalog.types.items()}
        engine.store.execute("UPDATE _engine.types SET schema = ? WHERE schema = ?", [new_name, schema.name])
        catalog = catalog.with_types(types)
        schemas = {new_name if n == schema.name else n: s for n, s in before.schemas.items()}
        return catalog.with_schemas({**schemas, new_name: replace(schema, name=new_name)})

    _commit(engine, change)


def move(engine: Engine, made: CatalogObject, schema: str, name: str) -> None:
    """ALTER ... SET SCHEMA, and RENAME TO. Raises DuplicateTable where the name is taken."""
    before = engine.catalog
    other = before.lookup(schema, name)
    if other is not None:
        in_schema = "" if schema == made.schema else f' in schema "{schema}"'
        raise DuplicateTable(f'relation "{name}" already exists{in_schema}')
    _commit(engine, lambda: _moved(engine, before, made, schema, name))


def _moved(engine: Engine, catalog: Catalog, made: CatalogObject, schema: str, name: str) -> Catalog:
    moved = replace(made, schema=schema, label=name)
    place = json.dumps(recovery.place_of(moved))
    engine.store.execute("UPDATE _engine.objects SET place = ? WHERE id = ?", [place, made.id])
    return replace(catalog, objects={key: moved if o is made else o for key, o in catalog.objects.items()})


def _commit(engine: Engine, change: Callable[[], Catalog]) -> None:
    before = engine.catalog
    try:
        with engine.store.transaction():
            engine.catalog = change()
            engine.save()
    except BaseException:
        engine.catalog = before
        raise


def _kind(made: CatalogObject) -> str:
    return KIND_OF[type(made)].value.lower()
