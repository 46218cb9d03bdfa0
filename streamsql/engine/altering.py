"""ALTER TABLE: a table gets other columns or constraints, in one transaction, with all of its rows.

What the table is to be is put together first (`planned`), so that what is wrong with it is known before anything is done. Rows
are then moved to a table with the new columns and keys; arrival numbers stay, so that views which follow the table do not
notice. Runs on the engine's thread, between two epochs.
"""

from __future__ import annotations

import json
from dataclasses import replace

from sqlglot import exp

from streamsql.base.errors import (
    CheckViolation,
    DependentObjectsExist,
    FeatureNotSupported,
    NotNullViolation,
    ObjectInUse,
    UniqueViolation,
)
from streamsql.catalog.dependents import plain_dependents
from streamsql.catalog.objects import KIND_OF, Catalog, CatalogObject, PlainView, Table, View, quoted
from streamsql.catalog.objects import Sequence as NumberSequence
from streamsql.engine import definitions, foreign_keys, kept_indexes, recovery, sequences
from streamsql.engine.alter_actions import Plan, planned
from streamsql.engine.constraints import about, check_within, explaining, with_checks
from streamsql.engine.epoch import Engine
from streamsql.engine.recomputed import RecomputedQuery
from streamsql.plan.type_names import notes_of
from streamsql.sql import altering as a
from streamsql.sql.constraints import ForeignKey
from streamsql.sql.names import joined, key_of, parted
from streamsql.sql.render import render
from streamsql.sql.statements import CreateMaterializedView, CreateTable, Statement


def alter(engine: Engine, table: Table, statement: a.AlterTable) -> tuple[list[str], list[CatalogObject]]:
    """Run ALTER TABLE; gives notices, and what else has gone. Raises StreamSQLError, and has then done nothing."""
    plan = planned(engine.catalog, table, statement.actions)
    views = _readers(engine, plan)
    made = _written(engine, plan.table)
    catalog = engine.catalog
    for other, key in plan.gone:
        catalog = _replaced(catalog, _without(engine, catalog.relation(other.name), key))
    catalog = _replaced(catalog, made)
    foreign_keys.check_new(catalog, made, [c for c in plan.checked if isinstance(c, ForeignKey)])
    dropped = definitions.drop_objects(engine, list(views), cascade=True) if views else []
    catalog = replace(catalog, objects={n: o for n, o in catalog.objects.items() if n in engine.catalog.objects})
    _commit(engine, plan, table, made, catalog)
    return plan.notices, [*views, *dropped]


# ---- who reads the table ----


def _readers(engine: Engine, plan: Plan) -> list[View | PlainView]:
    """Give the views that go with a column; raises where what reads the table cannot follow."""
    table = plan.table
    if not plan.affected:
        return []
    changed = {name for name in plan.affected if name}
    if changed and any(q.temporary and table.name in q.plan.sources for q in engine.queries.values()):
        raise ObjectInUse(
            f'cannot alter "{table.bare}" because a live query reads it',
            hint="end the query (SHOW QUERIES) and try again",
        )
    fixed = [
        q.name for q in engine.queries.values() if table.name in q.plan.sources and not isinstance(q, RecomputedQuery)
    ]
    if fixed:
        raise FeatureNotSupported(
            f'columns of "{table.bare}" cannot be changed while a query in append mode reads it',
            detail=f"read by: {', '.join(fixed)}",
            hint="drop what reads it first",
        )
    gone: list[View | PlainView] = []
    views: list[View | PlainView] = [*engine.catalog.dependents(table.name)]
    views += plain_dependents(engine.catalog, table.name)
    for view in views:
        kind = KIND_OF[type(view)].value.lower()
        read, reads_all = _columns_read(engine, view)
        found = [name for name in changed if name in read or reads_all]
        if reads_all and "" in plan.affected and not found and isinstance(view, View):
            raise FeatureNotSupported(
                f'cannot add a column to "{table.bare}": materialized view "{view.shown}" reads it with *',
                hint="name the columns in the view: CREATE OR REPLACE MATERIALIZED VIEW",
            )
        if not found:
            continue
        if all(plan.affected[name] for name in found):
            gone.append(view)
            continue
        name = next(n for n in found if not plan.affected[n])
        if name not in plan.renamed and plan.table.column(name) is None:
            raise DependentObjectsExist(
                f"cannot drop column {name} of table {table.bare} because other objects depend on it",
                detail=f"{kind} {view.shown} depends on column {name} of table {table.bare}",
                hint="use DROP ... CASCADE to drop the dependent objects too",
            )
        raise FeatureNotSupported(
            f'cannot change column "{name}": {kind} "{view.shown}" reads it', hint="drop the view first"
        )
    return gone


def _columns_read(engine: Engine, view: View | PlainView) -> tuple[set[str], bool]:
    """Name the columns that a view's text speaks of, and tell whether it reads all there are."""
    if isinstance(view, PlainView):
        tree = view.tree
    else:
        statement = recovery.defined(view.text, view.name, view.names, engine.limits, engine.catalog)
        assert isinstance(statement, CreateMaterializedView)
        tree = statement.query.tree
    columns = {c.name for c in tree.find_all(exp.Column) if not isinstance(c.this, exp.Star)}
    stars = [s for s in tree.find_all(exp.Star) if isinstance(s.parent, (exp.Select, exp.Column))]
    joined_by = {i.name for join in tree.find_all(exp.Join) for i in join.args.get("using") or []}
    return columns | joined_by, bool(stars)


# ---- doing it ----


def _written(engine: Engine, table: Table) -> Table:
    """Give a table as it is read back from its definition, which is written anew."""
    names = {joined(*parted(c.table)): c.table for c in table.foreign_keys if c.table != table.name}
    names |= notes_of(table.columns, table.constraints)
    name = key_of(table.schema, table.bare)
    constraints = tuple(
        replace(c, table=name) if isinstance(c, ForeignKey) and c.table == table.name else c for c in table.constraints
    )
    text = render(
        CreateTable(
            "", 0, name=name, columns=table.columns, primary_key=table.primary_key, options=dict(table.connector),
            key_name=table.key_name, constraints=constraints,
        )
    )  # fmt: skip
    statement = recovery.defined(text, table.name, names, engine.limits, engine.catalog)
    assert isinstance(statement, CreateTable)
    made = recovery.relation_of(statement, table.id, text)
    assert isinstance(made, Table)
    made = replace(made, schema=table.schema, label=table.label, fails=table.fails)
    return with_checks(made, engine.limits, Statement(text, 0), engine.describe)


def _without(engine: Engine, table: object, key: ForeignKey) -> Table:
    assert isinstance(table, Table)
    return _written(engine, replace(table, constraints=tuple(c for c in table.constraints if c.name != key.name)))


def without_references(engine: Engine, catalog: Catalog, gone: set[str]) -> list[Table]:
    """Give the tables that are left as they are without foreign keys that speak of tables that go."""
    found: dict[str, Table] = {}
    for name in gone:
        for table, key in catalog.referencing(name):
            if table.name not in gone:
                found[table.name] = _without(engine, found.get(table.name, table), key)
    return list(found.values())


def _replaced(catalog: Catalog, made: Table) -> Catalog:
    return replace(catalog, objects={**catalog.objects, made.name: made})


def save_definition(engine: Engine, made: Table) -> None:
    """Write a table's definition anew, within the caller's transaction."""
    engine.store.execute(
        "UPDATE _engine.objects SET definition = ?, place = ? WHERE id = ?",
        [made.text, json.dumps(recovery.place_of(made)), made.id],
    )


def _commit(engine: Engine, plan: Plan, old: Table, made: Table, catalog: Catalog) -> None:
    before, store = engine.catalog, engine.store
    numbering = sequences.owned(engine, replace(made, columns=tuple(plan.numbered)))
    identities = sequences.owned(engine, replace(made, columns=tuple(plan.identities)))
    lost = [
        s.id for s in catalog.sequences.values()
        if s.owned_by is not None and s.owned_by[0] == old.id
        and plan.renamed.get(s.owned_by[1], s.owned_by[1]) not in {c.name for c in made.columns} - plan.unnumbered
    ]  # fmt: skip
    moved = [
        replace(s, owned_by=(old.id, plan.renamed[s.owned_by[1]]))
        for s in catalog.sequences.values()
        if s.owned_by is not None and s.owned_by[0] == old.id and s.owned_by[1] in plan.renamed
    ]
    try:
        with store.transaction():
            for sequence in [*numbering, *identities]:
                sequences.save(store, sequence)
            if plan.moves_rows:
                _move_rows(engine, plan, old, made)
            _check(engine, plan, made, catalog)
            save_definition(engine, made)
            for other, _ in plan.gone:
                changed = catalog.relation(other.name)
                assert isinstance(changed, Table)
                save_definition(engine, changed)
            for sequence in moved:
                assert sequence.owned_by is not None
                store.execute(
                    "UPDATE _engine.sequences SET owner_column = ? WHERE id = ?", [sequence.owned_by[1], sequence.id]
                )
            sequences.forget(store, lost)
            catalog = kept_indexes.followed(
                store, catalog, made.id, plan.renamed, [c.name for c in made.columns], [k.name for k in made.keys]
            )
            comments = _comments(engine, plan, made, catalog)
            engine.catalog = comments.without_sequences(lost).with_sequences([*moved, *numbering, *identities])
            engine.save()
    except BaseException:
        engine.catalog = before
        raise
    _number(engine, made, numbering)
    for sequence in identities:
        engine.sequences.add(sequence)
    store.forget_statements()
    engine.forget_kept(made)
    for query in engine.queries.values():
        if isinstance(query, RecomputedQuery) and made.name in query.plan.sources and plan.moves_rows:
            query.reopen()


def _comments(engine: Engine, plan: Plan, made: Table, catalog: Catalog) -> Catalog:
    kept = {c.name for c in made.columns} | {""}
    found = dict(catalog.comments)
    for (name, column), text in catalog.comments.items():
        if name != made.name:
            continue
        new = plan.renamed.get(column, column)
        if new != column or column not in kept:
            engine.store.execute("DELETE FROM _engine.comments WHERE object = ? AND column_name = ?", [name, column])
            found.pop((name, column))
            if new in kept:
                engine.store.execute("INSERT INTO _engine.comments VALUES (?, ?, ?)", [name, new, text])
                found[(name, new)] = text
    return replace(catalog, comments=found)


def _move_rows(engine: Engine, plan: Plan, old: Table, made: Table) -> None:
    store = engine.store
    aside = f"_rows.{quoted(f'{old.name} altered')}"
    numbered = {c.name for c in plan.numbered}
    for column in made.columns:
        if (column.not_null or column.primary_key) and column.name not in numbered:
            found = store.fetch(f"SELECT 1 FROM {old.rows_table} WHERE ({plan.sources[column.name]}) IS NULL LIMIT 1")
            if found:
                raise NotNullViolation(
                    f'column "{column.name}" of relation "{made.bare}" contains null values',
                    about=about(made, column=column.name),
                )
    sources = {
        c.name: "row_number() OVER (ORDER BY __seq)" if c.name in numbered else plan.sources[c.name]
        for c in made.columns
    }
    items = ", ".join(f"{sources[c.name]} AS {quoted(c.name)}" for c in made.columns)
    store.execute(f"DROP VIEW {old.public_name}")
    store.execute(f"CREATE TABLE {aside} AS SELECT {items}, __seq, __arrived_at FROM {old.rows_table}")
    _check_keys(engine, made, aside)
    store.execute(f"DROP TABLE {old.rows_table}")
    store.execute(definitions.rows_table(made))
    with explaining(made):
        store.execute(f"INSERT INTO {made.rows_table} SELECT * FROM {aside}")
    store.execute(f"DROP TABLE {aside}")
    names = ", ".join(quoted(c.name) for c in made.columns)
    store.execute(f"CREATE VIEW {made.public_name} AS SELECT {names} FROM {made.rows_table}")


def _check_keys(engine: Engine, made: Table, rows: str) -> None:
    for key in made.keys:
        names = ", ".join(map(quoted, key.columns))
        known = " AND ".join(f"{quoted(c)} IS NOT NULL" for c in key.columns)
        found = engine.store.fetch(
            f"SELECT {names} FROM {rows} WHERE {known} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
        )
        if found:
            raise UniqueViolation(
                f'could not create unique index "{key.name}"',
                detail=f"Key ({', '.join(key.columns)})=({', '.join(map(str, found[0]))}) is duplicated.",
                about=about(made, constraint=key.name),
            )


def _check(engine: Engine, plan: Plan, made: Table, catalog: Catalog) -> None:
    """Hold the rows that are there against what is new."""
    names = {c.name for c in plan.checked}
    new = replace(made, check_sql={name: sql for name, sql in made.check_sql.items() if name in names})
    try:
        check_within(engine.store.fetch, new, made.rows_table)
    except CheckViolation as error:
        name = error.about.constraint if error.about is not None else ""
        raise CheckViolation(
            f'check constraint "{name}" of relation "{made.bare}" is violated by some row', about=error.about
        ) from error
    keyed = replace(made, constraints=tuple(c for c in made.foreign_keys if c.name in names))
    foreign_keys.check_rows(engine.store.fetch, catalog, keyed, made.rows_table)


def _number(engine: Engine, made: Table, numbering: list[NumberSequence]) -> None:
    """Let new sequences go on behind the numbers that the rows got."""
    for sequence in numbering:
        engine.sequences.add(sequence)
        count = engine.store.fetch(f"SELECT count(*) FROM {made.rows_table}")[0][0]
        if count:
            engine.sequences.take_durably(sequence, count)
