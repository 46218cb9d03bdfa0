"""CREATE INDEX, DROP INDEX and ALTER INDEX ... RENAME TO: indexes as migrations make them, durable in ``_engine.indexes``.

Lookups need none (docs/decisions, "Lookups by key are answered from memory"), so an index is a name and what it is of. A unique
one is also a key of its table, by the same name, and enforced as such. Runs on the engine's thread, between epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from streamsql.base.errors import DuplicateTable
from streamsql.catalog.objects import Catalog, Index, Stream, Table, View
from streamsql.engine import altering
from streamsql.engine.commits import commit
from streamsql.engine.epoch import Engine
from streamsql.engine.kept_indexes import write
from streamsql.sql import altering as a
from streamsql.sql.constraints import Unique, free_name
from streamsql.sql.indexes import CreateIndex


def create(engine: Engine, statement: CreateIndex, made: Stream | Table | View) -> Index | None:
    """CREATE INDEX; None where its name is taken and IF NOT EXISTS was said. Raises DuplicateTable, UniqueViolation."""
    middle = "_".join(c or "expr" for c in statement.columns)
    name = statement.index or free_name(made.bare, middle, "idx", lambda n: _is_taken(engine.catalog, made.schema, n))
    if _is_taken(engine.catalog, made.schema, name):
        if statement.if_not_exists:
            return None
        raise DuplicateTable(f'relation "{name}" already exists')
    columns = tuple(c or "" for c in statement.columns)
    index = Index(engine.next_id(), name, made.id, columns, statement.tail, unique=statement.unique)
    if statement.unique and isinstance(made, Table):  # rows of a view are
        action = a.AddConstraint(Unique(name, columns))
        altering.alter(engine, made, a.AlterTable("", 0, name=made.name, name_position=0, actions=(action,)))
    _keep(engine, {**engine.catalog.indexes, index.id: index})
    return index


def _is_taken(catalog: Catalog, schema: str, name: str) -> bool:
    if catalog.is_taken(schema, name) or catalog.index_called(schema, name) is not None:
        return True
    tables = (o for o in catalog if isinstance(o, Table) and o.schema == schema)
    return any(key.name == name for table in tables for key in table.keys)


def drop(engine: Engine, gone: Iterable[Index], *, cascade: bool) -> None:
    """DROP INDEX. Raises DependentObjectsExist where a foreign key speaks of a unique one."""
    for index in gone:
        made = engine.catalog.of_id(index.relation)
        if index.unique and isinstance(made, Table):
            action = a.DropConstraint(index.name, cascade=cascade)
            altering.alter(engine, made, a.AlterTable("", 0, name=made.name, name_position=0, actions=(action,)))
        _keep(engine, {i: other for i, other in engine.catalog.indexes.items() if i != index.id})


def rename(engine: Engine, index: Index, new_name: str) -> None:
    """ALTER INDEX ... RENAME TO. Raises DuplicateTable."""
    made = engine.catalog.of_id(index.relation)
    assert made is not None
    if _is_taken(engine.catalog, made.schema, new_name):
        raise DuplicateTable(f'relation "{new_name}" already exists')
    if index.unique and isinstance(made, Table):
        action = a.RenameConstraint(index.name, new_name)
        altering.alter(engine, made, a.AlterTable("", 0, name=made.name, name_position=0, actions=(action,)))
    _keep(engine, {**engine.catalog.indexes, index.id: replace(index, name=new_name)})


def _keep(engine: Engine, indexes: dict[int, Index]) -> None:
    commit(engine, replace(engine.catalog, indexes=indexes), lambda: write(engine.store, indexes.values()))
