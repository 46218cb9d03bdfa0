"""ALTER STREAM ... ADD COLUMN. Runs on the engine's thread, between two epochs, as one transaction.

The rows that are kept get the column's default, or NULL. Of the views that read the stream, those go on untouched that are
planned as before: what they keep knows nothing of the column. The others are made anew, as when a view below them is replaced
(`view_definitions.Replacement`). A view of ``SELECT *`` keeps the columns that it has: the star is written out in its text.

Rows that were sent before, and come after, have the column's default as well (`ingest.completed`).
"""

from __future__ import annotations

import json
from dataclasses import replace

from sqlglot.tokens import TokenType

from streamsql.base.errors import DependentObjectsExist
from streamsql.base.faults import reached
from streamsql.catalog.access import Access
from streamsql.catalog.dependents import all_dependents
from streamsql.catalog.objects import Catalog, Stream, View, quoted
from streamsql.engine import recovery
from streamsql.engine.constraints import with_checks
from streamsql.engine.definitions import set_access
from streamsql.engine.epoch import Engine
from streamsql.engine.origin_query import OriginQuery
from streamsql.engine.recomputed import RecomputedQuery
from streamsql.engine.rejected import QueryFailureError
from streamsql.engine.shared import SharedQuery, part
from streamsql.engine.store import Store
from streamsql.engine.view_definitions import Replacement, reorder
from streamsql.plan.expressions import default_sql
from streamsql.plan.type_names import notes_of
from streamsql.sql.names import quote_name
from streamsql.sql.statements import CreateMaterializedView, CreateStream
from streamsql.sql.tokens import tokenize


def add_stream_column(engine: Engine, stream: Stream, statement: CreateStream) -> None:
    """Let a stream have the columns of a statement, of which one is new. Raises StreamSQLError: nothing has happened."""
    grown = recovery.relation_of(statement, stream.id, statement.text)
    assert isinstance(grown, Stream)
    read_back = recovery.defined(
        statement.text, stream.name, notes_of(statement.columns, statement.constraints), engine.limits, engine.catalog
    )
    assert isinstance(read_back, CreateStream)
    grown = replace(
        grown, schema=stream.schema, label=stream.label, constraints=read_back.constraints, names=read_back.names
    )
    grown = with_checks(grown, engine.limits)
    above = all_dependents(engine.catalog, stream.name)
    before, kept = engine.catalog, dict(engine.queries)
    growth = _Growth(engine, grown, above)
    for view in growth.changed():
        query = kept[view.name]
        if isinstance(query.shared, SharedQuery):
            part(engine.store, query.shared, [query])
    while True:
        try:
            with engine.store.transaction():
                growth.run(stream)
            break
        except QueryFailureError as failure:
            engine.catalog, engine.queries = before, kept
            if not growth.rejected.set_aside(failure):
                growth.undo()
                raise failure.error from failure
        except BaseException:
            engine.catalog, engine.queries = before, kept
            growth.undo()
            raise
    engine.store.forget_statements()
    engine.forget_kept(stream)
    growth.committed()
    growth.tell_live(stream.name)
    reached("stream.column_added")


class _Growth(Replacement):
    """One ALTER STREAM ... ADD COLUMN."""

    resets = False

    def changed(self) -> list[View]:
        """List the views that will be made anew."""
        found: set[str] = set()
        for view in self.above:
            query = self.kept[view.name]
            reads = {self.view.name, *found}.intersection(view.sources)
            if reads and isinstance(query, OriginQuery):
                found.add(view.name)
        return [v for v in self.above if v.name in found]

    def run(self, before: Stream) -> None:
        """Do all of it, within the caller's transaction."""
        engine, grown = self.engine, self.view
        assert isinstance(grown, Stream)
        self.asides = {}
        _add(engine.store, before, grown)
        engine.queries, engine.catalog = dict(self.kept), _with(self.before, grown)
        access = self.follow_all(self.before.access)
        if self.asides:
            reorder(engine, grown)
        set_access(engine, access)
        engine.save()
        reached("stream.column_adding")

    def _follow(self, item: View, access: Access) -> Access:
        query = self.kept[item.name]
        item = self._with_columns_written_out(item)
        touched = not {self.view.name, *self.asides}.isdisjoint(item.sources)
        if not touched or not isinstance(query, (OriginQuery, RecomputedQuery)):
            return access
        return super()._follow(item, access)

    def _with_columns_written_out(self, item: View) -> View:
        """Give the view as it is, where its text says the same columns as before; else one whose text names them."""
        engine = self.engine
        found = self._columns_of(item)
        if found == item.columns:
            return item
        text = _star_written_out(item.text, self.before, item, engine)
        made = replace(item, text=text)
        if text == item.text or self._columns_of(made) != item.columns:
            raise DependentObjectsExist(
                f"cannot add a column to stream {self.view.shown} because {item.shown} depends on it",
                detail=f"{item.shown} shows all columns of what it reads, and would have others",
                hint=f"CREATE OR REPLACE MATERIALIZED VIEW {item.shown} with its columns written out",
            )
        engine.store.execute("UPDATE _engine.objects SET definition = ? WHERE id = ?", [text, item.id])
        engine.catalog = _with(engine.catalog, made)
        return made

    def _columns_of(self, item: View) -> tuple[object, ...]:
        engine = self.engine
        statement = recovery.defined(item.text, item.name, item.names, engine.limits, engine.catalog)
        assert isinstance(statement, CreateMaterializedView)
        made, _ = recovery.view_of(statement, item.id, item.text, engine.catalog, engine.store.describe, engine.limits)
        return made.columns

    def tell_live(self, name: str) -> None:
        """End the live queries that hold the stream in the shape that it had."""
        for query in self.engine.queries.values():
            if query.temporary and name in query.plan.sources and isinstance(query, (OriginQuery, RecomputedQuery)):
                query.log.fail(
                    DependentObjectsExist(f'stream "{self.view.shown}" has another column', hint="ask again")
                )


def _with(catalog: Catalog, made: Stream | View) -> Catalog:
    """Give a catalog in which an object has taken its own place."""
    return replace(catalog, objects={**catalog.objects, made.name: made})


def _add(store: Store, before: Stream, grown: Stream) -> None:
    """Give the stream's table the column, and show it."""
    known = {c.name for c in before.columns}
    for column in grown.columns:
        if column.name not in known:
            default = "" if column.default is None else f" DEFAULT {default_sql(column)}"
            store.execute(f"ALTER TABLE {grown.rows_table} ADD COLUMN {quoted(column.name)} {column.type}{default}")
    names = ", ".join(quoted(c.name) for c in grown.columns)
    store.execute(f"CREATE OR REPLACE VIEW {grown.public_name} AS SELECT {names} FROM {grown.rows_table}")
    place = json.dumps(recovery.place_of(grown))
    store.execute("UPDATE _engine.objects SET definition = ?, place = ? WHERE id = ?", [grown.text, place, grown.id])


def _star_written_out(text: str, catalog: Catalog, item: View, engine: Engine) -> str:
    """Put the columns in place of a view's one star, where it reads one relation; give the text as it is if that is not so."""
    tokens = tokenize(text, engine.limits)
    stars = [
        i for i, token in enumerate(tokens)
        if token.token_type is TokenType.STAR
        and tokens[i - 1].text in {"select", "distinct", ","} and tokens[i + 1].text in {"from", ","}
    ]  # fmt: skip
    if len(stars) != 1 or len(item.sources) != 1:
        return text
    star = tokens[stars[0]]
    names = ", ".join(quote_name(c.name) for c in catalog.find(item.sources[0]).columns)
    return text[: star.start] + names + text[star.end + 1 :]
