"""A view over one stream that has kept many rows: built in pieces, between which epochs go on.

Each piece is a transaction of the view's own tables, which nobody reads before the last; that one takes in what has arrived
by then, and makes the view known. So live rows wait for a piece at most, and the view misses no row and takes none twice. What
is built so far is shown in ``streamsql.backfills``. A server that ends meanwhile drops the tables when it starts again: the
view was not created.

Views that are run again as a whole, and those over several relations, are filled in one transaction (`engine.starting`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamsql.base.errors import DuplicateTable, UndefinedTable
from streamsql.base.faults import reached
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import Stream, Table, View
from streamsql.engine.changes import Progress
from streamsql.engine.definitions import save_made
from streamsql.engine.epoch import Engine
from streamsql.engine.positions import Build
from streamsql.engine.rejected import QueryFailureError, Rejected
from streamsql.engine.sharing import share
from streamsql.engine.views import ContinuousQuery

# a piece takes about a tenth of a second; with no more rows than this a view is filled at once
PIECE_ROWS = 100_000


def kept_of(engine: Engine, query: ContinuousQuery) -> int | None:
    """Give how many rows there are to be taken in, where a query is to be built in pieces; else None."""
    if query.plan.recomputed is not None or query.plan.origin is not None:
        return None
    relation = engine.catalog.relation(query.plan.source)
    if not isinstance(relation, Stream):  # its rows may change meanwhile
        return None
    count = int(engine.store.fetch(f"SELECT count(*) FROM {relation.rows_table}")[0][0])
    return count if count > PIECE_ROWS else None


def _resets(engine: Engine, source: Stream | Table) -> int:
    """Give how often a stream has been told to begin elsewhere."""
    at = engine.streams.get(source.name)
    return 0 if at is None else at.resets


@dataclass(slots=True)
class Building:
    """A view that is being built. All of it runs on the engine's thread: `begin`, `step` until it tells True, or `abandon`."""

    engine: Engine
    view: View
    query: ContinuousQuery
    show: str
    rows: int
    owner: int = OWNER
    finished: bool = False
    _source: Stream | Table | None = None
    _resets: int = 0
    _last: int = 0
    _rejected: Rejected = field(default_factory=Rejected)

    def begin(self) -> None:
        """Make the tables. Raises DuplicateTable where a view of that name is being built."""
        engine, query = self.engine, self.query
        if self.view.name in engine.builds:
            raise DuplicateTable(f'materialized view "{self.view.bare}" is being built')
        now = engine.clock.now_us()
        self._source = engine.catalog.relation(query.plan.source)
        self._resets = _resets(engine, self._source)
        query.open()
        before = engine.builds
        try:
            with engine.store.transaction():
                query.progress = query.create(engine.epoch)
                engine.builds = {**before, self.view.name: Build(self.view.shown, 0, self.rows, now, now)}
                engine.save()
        except BaseException:
            engine.builds = before
            raise
        query.take_emitted()

    def step(self) -> bool:
        """Take in another piece; tell whether that was the last, with which the view is there."""
        engine, query = self.engine, self.query
        source = self._source
        assert source is not None
        if engine.catalog.get(source.name) is not source or _resets(engine, source) != self._resets:
            raise UndefinedTable(
                f'stream "{source.shown}" was altered or dropped while a view over it was built', hint="create it again"
            )
        rows = engine.store.arrow(
            f"SELECT * EXCLUDE (__arrived_at) FROM {source.rows_table} WHERE __seq > {self._last} "
            f"ORDER BY __seq LIMIT {PIECE_ROWS}"
        )
        last: bool = rows.num_rows < PIECE_ROWS
        before, builds = engine.catalog, engine.builds
        while True:
            try:
                with engine.store.transaction():
                    progress = query.progress
                    if rows.num_rows:
                        now = engine.clock.now_us()
                        progress = self._rejected.apply(query, engine.epoch, rows, now, progress)
                    self._note(rows.num_rows, last=last)
                    if last:
                        self._finish(progress)
                    else:
                        engine.save()
                    reached("view.piece_built")
                break
            except QueryFailureError as failure:
                engine.builds = builds
                if not self._rejected.set_aside(failure):
                    raise failure.error from failure
            except BaseException:
                engine.queries.pop(self.view.name, None)
                engine.catalog, engine.builds = before, builds
                raise
        query.progress = progress
        query.take_emitted()
        if rows.num_rows:
            self._last = rows.column("__seq")[-1].as_py()
        if last:
            self.finished = True
            reached("view.created")
            share(engine, query)
        return last

    def _note(self, rows: int, *, last: bool) -> None:
        engine, name = self.engine, self.view.name
        at = engine.builds[name]
        builds = {n: b for n, b in engine.builds.items() if n != name}
        if not last:
            done = at.rows_done + rows
            builds[name] = Build(at.name, done, max(at.rows_total, done), at.began_at, engine.clock.now_us())
        engine.builds = builds

    def _finish(self, progress: Progress) -> None:
        """Make the view known, as the last act of the transaction."""
        engine = self.engine
        engine.check_query_count()
        engine.store.execute(self.show)
        self.query.progress = progress
        engine.queries[self.view.name] = self.query
        save_made(engine, self.view, self.owner)

    def abandon(self) -> None:
        """Drop what was built, unless it is finished."""
        engine = self.engine
        if self.finished or self.view.name not in engine.builds:
            return
        with engine.store.transaction():
            self.query.drop()
            engine.builds = {n: b for n, b in engine.builds.items() if n != self.view.name}
            engine.save()
        engine.store.forget_statements()
        self.query.close()
