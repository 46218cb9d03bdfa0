"""The engine: one thread that owns the writing connection and cuts time into epochs.

An epoch is one DuckDB transaction. Everything that waits is taken; rows are kept, each query takes them in, states,
results, progress and the ledger of late rows are written, and the transaction commits. Only then are producers
answered and subscribers shown the changes. So a row and all its effects are durable together or not at all.

Definitions change between epochs (`Engine.call`), in transactions of their own, in the order in which they were asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import structlog

from streamsql.base.clock import Clock
from streamsql.base.errors import InternalError, StreamSQLError, UniqueViolation
from streamsql.base.faults import reached
from streamsql.base.limits import Limits, exceeded
from streamsql.base.metrics import Durations
from streamsql.catalog.objects import OutputColumn, Stream, Table
from streamsql.engine import chains, finished, foreign_keys, outbox, receipts, recovery, stream_time
from streamsql.engine.answers import Answer, Missing
from streamsql.engine.changes import Changes, Progress
from streamsql.engine.constraints import check_columns, check_within, duplicate_within, explained, explaining
from streamsql.engine.filters import Filters
from streamsql.engine.flow import Arriving
from streamsql.engine.flows import Flows
from streamsql.engine.opening import opened
from streamsql.engine.outbox import SinkProgress
from streamsql.engine.partitions import TimeMove
from streamsql.engine.positions import Build, StreamProgress, moved
from streamsql.engine.receipts import Receipt
from streamsql.engine.recomputed import RecomputedQuery, RecomputeError, needed_rows, recompute_readers
from streamsql.engine.rejected import QueryFailureError, Rejected
from streamsql.engine.retention import Retention
from streamsql.engine.sequences import SequencePlaces
from streamsql.engine.shared import SharedQuery
from streamsql.engine.sharing import grown, part_all, part_failing
from streamsql.engine.store import UTC, Delta, Store, translated
from streamsql.engine.table_changes import TableChange, applied, by_key, refuse_if_filled, registered
from streamsql.engine.touched_rows import Snapshot, mark_followed, rows_of
from streamsql.engine.translate import translate, translate_text
from streamsql.engine.views import ContinuousQuery
from streamsql.engine.waiting import WaitingWrites
from streamsql.engine.writes import Call, Write, WriteQueue

T = TypeVar("T")
log = structlog.get_logger()


class Engine:
    """Owns the store and runs the epochs. Start it with `start`, end it with `stop`; both from one thread."""

    def __init__(self, store: Store, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        # where connectors may read and write files
        self.allowed_paths: tuple[Path, ...] = ()
        self.allowed_urls: tuple[str, ...] = ()
        self.clock = clock
        self.store = store
        self.queries: dict[str, ContinuousQuery] = {}
        self.builds: dict[str, Build] = {}
        self.on_view_change: Callable[[str, int], None] = lambda *_: None  # on the engine's thread, after the commit
        self.queue = WriteQueue(limits)
        self.waiting = WaitingWrites(self)
        self._published = -1  # so many commits are in the change logs
        self.broken: StreamSQLError | None = None  # why it has given up
        self.on_broken: Callable[[], None] = lambda: None  # on the engine's thread
        self.seconds = Durations()
        self._retention, self._filters, self._snapshot = Retention(store, limits), Filters(store), Snapshot(store)
        self._kept: dict[int, Delta] = {}
        recovery.create_engine_tables(store)
        self.describe_cursor = store.cursor()
        found = recovery.recover(store, self.describe, limits)
        self.sequences = SequencePlaces(store)
        self.catalog = found.catalog
        self.flows = Flows(found.catalog)
        self.identity = str(store.fetch("SELECT identity FROM _engine.identity")[0][0])
        self.epoch = found.epoch
        self.streams: dict[str, StreamProgress] = found.streams
        self.sinks: Mapping[str, SinkProgress] = found.sinks
        self.next_sequence = found.next_sequence
        self._next_id = found.next_id
        self.queries.update(opened(store, found, self.describe, limits))
        self.queue.apart = chains.apart(self.catalog, self.queries.values())
        outbox.mark(self.catalog, self.queries)
        self.waiting.start()
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    # ---- for any thread ----

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end the thread and close the store."""
        self.queue.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self.waiting.give_up()
        self.sequences.settle()
        self.store.checkpoint()
        self.store.close()

    @property
    def settled(self) -> bool:
        """Tell whether all that was ever committed, and may have been read, is published. For any thread."""
        return self._published == self.store.commits

    def submit(self, write: Write) -> Future[int]:
        """Queue rows; the future is done when they and their effects are durable.

        The rows of each relation have exactly its columns and Arrow types (`engine.ingest` sees to it).
        """
        if not write.moves:
            refuse_if_filled(self.catalog, write.relations)
            outbox.check_room(self.catalog, self.sinks, self.limits, write.relations)
            self.waiting.check_room(self.limits, write.relations)
        self.queue.put(write)
        return write.done

    def call(self, run: Callable[[], T]) -> Future[T]:
        """Run a function on the engine's thread, between epochs, after everything queued so far."""
        call = Call(run)
        self.queue.put(call)
        return call.done

    def describe(self, sql: str) -> list[OutputColumn]:
        """Give the columns of a SELECT without running it. For the thread that binds: the engine's own, or at the start."""
        with translated():
            relation = self.describe_cursor.sql(sql)
            return [OutputColumn(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]

    # ---- the engine's thread ----

    def _loop(self) -> None:
        seconds = stream_time.seconds_between_ticks
        while (taken := self.queue.take(seconds(self.catalog, self.queries.values()))) is not None:
            if isinstance(taken, Call):
                self._run_call(taken)
            elif taken:
                with self.seconds.measured():
                    self.run_writes(taken)
            else:
                self._run_safely(self.tick)
            self._published = self.store.commits
            if self.store.broken is not None:
                self._give_up(self.store.broken)
                return

    def _give_up(self, reason: str) -> None:
        """End where the database can be used no more: what was acknowledged is there when it is opened again."""
        self.broken = translate_text(reason)
        with contextlib.suppress(OSError):  # the log may be on the same disk
            log.critical(
                "the database cannot go on", error=self.broken.message,
                hint="see to it, and start the server again: what was acknowledged is there", reason=reason,
            )  # fmt: skip
        self.queue.give_up(self.broken)
        self.waiting.give_up()
        self.on_broken()

    def _run_call(self, call: Call) -> None:
        if not call.done.set_running_or_notify_cancel():
            return
        before = self.catalog
        try:
            call.done.set_result(call.run())
        except duckdb.Error as error:
            call.done.set_exception(translate(error))
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to who asked; the engine goes on
            call.done.set_exception(error)
        self.queue.apart = chains.apart(self.catalog, self.queries.values())
        self.flows.tell(self.catalog)
        if self.catalog is not before:
            self.waiting.follow_catalog()

    def _run_safely(self, run: Callable[[], object]) -> None:
        call = Call(run)
        self._run_call(call)

    def run_writes(self, writes: list[Write], held: Sequence[Answer] = ()) -> None:
        """Run an epoch of writes, but for those that have to wait for answers; `held` are answers that they have waited for."""
        writes = self.waiting.may_go(writes)
        if not writes:
            return
        try:
            self._epoch_of(writes)
        except Missing as missing:
            self.run_writes(self.waiting.wait(writes, missing, held), held)
            return
        except StreamSQLError as error:
            if len(writes) == 1:
                writes[0].done.set_exception(error)
                return
            # one of them is at fault: each gets an epoch of its own, so that the others go on
            for write in writes:
                self.run_writes([write], held)
            return
        except duckdb.Error as error:
            for write in writes:
                write.done.set_exception(translate(error))
            return
        except Exception as error:  # noqa: BLE001  # our own fault: producers learn of it, the engine goes on
            failure = InternalError(f"the epoch failed: {error!r}")
            failure.__cause__ = error
            for write in writes:
                write.done.set_exception(failure)
            return
        for group in grown(self):
            self._run_safely(partial(part_all, self, group))
        for write in writes:
            write.done.set_result(self.epoch)

    def _epoch_of(self, writes: list[Write]) -> None:
        changes = writes[0].changes
        if writes[0].keyed:
            changes = [by_key(self.store, self.catalog, change) for change in writes[0].keyed]
        first = self.next_sequence + sum(c.own.num_rows for c in changes)
        rejected = Rejected()
        beside = [receipt for write in writes for receipt in write.receipts]
        streams, rows, now = self.streams, [], self.clock.now_us()
        for write in writes:  # one after the other, so that where epochs are cut does not show
            before, streams = streams, moved(self.catalog, streams, write.moves, now)
            rows.append(stream_time.tagged(write, self.catalog, before, streams, self.describe_cursor))
        streams = receipts.counted(streams, beside)
        batches, sequence = chains.numbered(rows, first)
        while True:
            try:
                with registered(self.store, self.catalog, self.queries.values(), changes):
                    self._attempt(batches, sequence, changes, streams, rejected, beside)
                return
            except QueryFailureError as failure:
                self._set_aside(failure, rejected)
            except RecomputeError as failure:
                rejected.broken.add(failure.query.name)
                failure.query.fail(failure.error)

    def _set_aside(self, failure: QueryFailureError, rejected: Rejected) -> None:
        """Find the rows that a query fails on. Queries that share their groups are told apart first."""
        if isinstance(failure.query, SharedQuery):
            part_failing(self, failure.query, failure.rows)
        elif not rejected.set_aside(failure):
            failure.query.fail(failure.error)

    def _attempt(
        self,
        batches: dict[str, pa.Table],
        sequence: int,
        changes: list[TableChange],
        streams: dict[str, StreamProgress],
        rejected: Rejected,
        beside: list[Receipt],
    ) -> None:
        """Run one epoch, which starts from `streams`, as one transaction; `sequence` is the next arrival number after it.

        On QueryFailureError nothing has happened.
        """
        now = self.clock.now_us()
        epoch = self.epoch + 1
        streams = dict(streams)
        progresses: list[tuple[ContinuousQuery, Progress]] = []
        arrivals: list[tuple[Stream | Table, pa.Table]] = []
        idle: set[int] = set()
        for name, table in batches.items():
            relation = self.catalog.relation(name)
            check_columns(relation, table)
            arrivals.append((relation, table))
            self._open_kept(*arrivals[-1])
            # a failing condition would take the transaction with it, so they are asked before
            idle |= self._filters.without_rows(f'"__kept {relation.id}"', table.num_rows, self._readers(name))
        followed = mark_followed(self.queries.values())
        chains.mark_handed_on(self.queries)
        self.store.answers.begin(now)
        with self.store.transaction():
            reached("epoch.begun")
            changed = applied(self.store, changes, self.next_sequence, now)
            for relation, rows in arrivals:
                name = relation.name
                streams[name] = stream_time.arrived(relation, rows, streams.get(name) or StreamProgress(), now)
                self._keep(relation, now)
                reached("epoch.rows_written")
                for query in self._readers(name):
                    progress = rejected.apply(query, epoch, rows, now, query.progress, matching=query.id not in idle)
                    progresses += query.all_progress(progress)
            arriving = Arriving(epoch, now, sequence - 1, rejected.apply, batches)
            foreign_keys.check_epoch(self.store, self.catalog, arrivals, changes)
            progresses += chains.follow(self.queries, arriving, progresses)
            self.store.answers.check()
            changed.update((r.name, t.num_rows) for r, t in arrivals)
            changed.update((q.name, 0) for q, _ in progresses if q.changed)
            progresses += recompute_readers(
                self.queries,
                epoch,
                now,
                changed,
                rejected.broken,
                rows_of(arrivals, changes, followed),
                stream_time.largest_of(streams),
            )
            reached("epoch.operators_applied")
            receipts.write(self.store, self.limits, beside, epoch, now)
            finished.write(self.store, beside)
            self._trim(now)
            sinks = self._save(epoch, now, sequence, streams, {q.name: p for q, p in progresses})
        self._committed(epoch, sequence, streams, sinks, progresses)

    def _readers(self, name: str) -> list[ContinuousQuery]:
        readers = (
            q.unit for q in self.queries.values()
            if q.plan.recomputed is None and q.plan.origin is None and q.plan.source == name and q.progress.error is None
        )  # fmt: skip
        return list(dict.fromkeys(readers))

    def recompute_time(self, query: RecomputedQuery) -> int:
        """Give the time that a query is run for when it is made, or made anew."""
        return query.time(self.clock.now_us(), stream_time.largest_of(self.streams))

    def change_table(self, table: Table, sql: str, arrivals: int = 0, zone: str = UTC) -> int:
        """Run a statement that changes a table's rows as an epoch, with all its effects; gives how many rows it changed.

        `arrivals` are the arrival numbers that it uses up, `zone` is the statement's time zone and not that of its effects.
        """
        broken: set[str] = set()
        while True:
            now, epoch, sequence = self.clock.now_us(), self.epoch + 1, self.next_sequence + arrivals
            try:
                followed = mark_followed(self.queries.values())
                with self.store.transaction():
                    with self.store.in_zone(zone):
                        count, rows = self._change(table, sql, followed)
                    changed, largest = (
                        dict.fromkeys([table.name], count) if count else {},
                        stream_time.largest_of(self.streams),
                    )
                    progresses = recompute_readers(self.queries, epoch, now, changed, broken, rows, largest)
                    sinks = self._save(epoch, now, sequence, self.streams, {q.name: p for q, p in progresses})
            except RecomputeError as failure:
                broken.add(failure.query.name)
                failure.query.fail(failure.error)
                continue
            self._committed(epoch, sequence, self.streams, sinks, progresses)
            return count

    def _change(self, table: Table, sql: str, followed: set[str]) -> tuple[int, Changes]:
        """Run a statement, and hold what it leaves against the table's constraints."""
        with explaining(table):
            count, rows = self._snapshot.change(table, sql, followed=table.name in followed)
            if not sql.startswith("DELETE"):
                check_within(self.store.fetch, table, table.rows_table)
                foreign_keys.check_rows(self.store.fetch, self.catalog, table, table.rows_table)
        if not sql.startswith("INSERT"):
            foreign_keys.check_referencing(self.store.fetch, self.catalog, table)
        return count, rows

    def _open_kept(self, relation: Stream | Table, rows: pa.Table) -> None:
        """Let SQL read the rows that arrived. Outside of a transaction: one that is rolled back takes the name with it."""
        if relation.id not in self._kept:
            self._kept[relation.id] = Delta(rows.slice(0, 0))
            self.store.register(f"__kept {relation.id}", self._kept[relation.id])
        self._kept[relation.id].batch = rows

    def forget_kept(self, relation: Stream | Table) -> None:
        """Let the rows of a relation come in another shape from now on."""
        self._kept.pop(relation.id, None)

    def _keep(self, relation: Stream | Table, now: int) -> None:
        if isinstance(relation, Stream) and relation.retention_us == 0:
            return
        try:
            kept = f'SELECT *, make_timestamp($1) AS __arrived_at FROM "__kept {relation.id}"'
            with self._kept[relation.id].in_row_groups():
                self.store.run(f"INSERT INTO {relation.rows_table} BY NAME {kept}", now)
        except duckdb.Error as error:
            raise self._refused(translate(error), relation) from error

    def _refused(self, error: StreamSQLError, relation: Stream | Table) -> StreamSQLError:
        """Say which constraint it is that rows which arrived do not keep."""
        if isinstance(error, UniqueViolation) and isinstance(relation, Table):
            twice = duplicate_within(self._kept[relation.id].batch, relation, self.store.cursor())
            if twice is not None:
                return twice
        return explained(error, relation)

    def _trim(self, now: int) -> None:
        read_again, forgotten = needed_rows(self.queries.values())
        late = sum(q.progress.rows_late for q in self.queries.values())
        self._retention.trim(self.catalog, read_again, forgotten, late, now)

    def _save(
        self, epoch: int, now: int, sequence: int, streams: dict[str, StreamProgress], changed: dict[str, Progress]
    ) -> Mapping[str, SinkProgress]:
        """Write how far everything is, and what goes to sinks; give how far these are."""
        sinks = outbox.write(self.store, self.catalog, self.queries, changed, epoch, self.sinks, self.flows.handing)
        running = [(q.name, q.plan, changed.get(q.name, q.progress), q.temporary) for q in self.queries.values()]
        progress = recovery.progress_of(self.catalog, streams, running)
        progress["builds"] = [dataclasses.asdict(build) for build in self.builds.values()]
        progress["sinks"] = outbox.progress_of(self.catalog, sinks)
        self.waiting.tell(progress)
        recovery.save_progress(self.store, epoch, now, sequence, self._next_id, progress)
        return sinks

    def _committed(
        self,
        epoch: int,
        sequence: int,
        streams: dict[str, StreamProgress],
        sinks: Mapping[str, SinkProgress],
        progresses: list[tuple[ContinuousQuery, Progress]],
    ) -> None:
        self.epoch, self.next_sequence, self.streams = epoch, sequence, streams
        if sinks is not self.sinks:
            self.sinks = sinks
            self.flows.outgoing()
        for query, progress in progresses:
            query.commit(progress)
            if query.changed:
                self.on_view_change(query.name, epoch)
        self._published = self.store.commits

    # ---- time without rows ----

    def tick(self, held: Sequence[Answer] = ()) -> None:
        """Do what time alone brings about: move idle streams' watermarks on, drop old rows; `held` as in `run_writes`."""
        now, waiting = self.clock.now_us(), self.waiting.roots
        moved = {n: m for n, m in stream_time.idle(self.catalog, self.streams, now).items() if n not in waiting}
        due, streams = chains.idle_moves(self.queries, moved) if moved else ([], {})
        largest = stream_time.largest_of(self.streams, moved)
        temporal = [
            q.name for q in self.queries.values()
            if isinstance(q, RecomputedQuery) and (q.recomputed.by_clock or (moved and q.recomputed.marks))
            and q.would_change(q.time(now, largest))
        ]  # fmt: skip
        if due or streams or temporal or self._retention.due(self.catalog, now):
            try:
                self._idle_epoch(due, streams, temporal, now, largest)
            except Missing as missing:
                self.waiting.wait([], missing, held)

    def _idle_epoch(
        self, due: list[tuple[ContinuousQuery, TimeMove]], moved: dict[str, TimeMove], temporal: list[str], now: int,
        largest: Callable[[str], int],
    ) -> None:  # fmt: skip
        rejected = Rejected()
        while True:
            try:
                self._attempt_idle(due, moved, temporal, now, rejected, largest)
                return
            except QueryFailureError as failure:
                self._set_aside(failure, rejected)
            except RecomputeError as failure:
                rejected.broken.add(failure.query.name)
                failure.query.fail(failure.error)

    def _attempt_idle(
        self, due: list[tuple[ContinuousQuery, TimeMove]], moved: dict[str, TimeMove], temporal: list[str], now: int,
        rejected: Rejected, largest: Callable[[str], int],
    ) -> None:  # fmt: skip
        epoch, position = self.epoch + 1, self.next_sequence - 1
        chains.mark_handed_on(self.queries)
        mark_followed(self.queries.values())
        self.store.answers.begin(now)
        with self.store.transaction():
            units = {query.unit: move for query, move in due if query.progress.error is None}
            progresses = [p for unit, move in units.items()
                          for p in unit.all_progress(unit.advance(epoch, move, now, position))]  # fmt: skip
            arriving = Arriving(epoch, now, position, rejected.apply, moved=moved)
            progresses += chains.follow(self.queries, arriving, progresses)
            self.store.answers.check()
            changed = dict.fromkeys([*(q.name for q, _ in progresses if q.changed), *temporal], 0)
            progresses += recompute_readers(self.queries, epoch, now, changed, rejected.broken, {}, largest)
            self._trim(now)
            sinks = self._save(epoch, now, self.next_sequence, self.streams, {q.name: p for q, p in progresses})
        self._committed(epoch, self.next_sequence, self.streams, sinks, progresses)

    def next_id(self) -> int:
        made = self._next_id
        self._next_id += 1
        return made

    def check_query_count(self) -> None:
        """Raise where one more continuous query would be too many."""
        if len(self.queries) >= self.limits.queries_max:
            raise exceeded(self.limits, "queries_max", "the number of continuous queries")

    def save(self) -> None:
        """Write all progress, within the caller's transaction, when no epoch has changed."""
        self._save(self.epoch, self.clock.now_us(), self.next_sequence, self.streams, {})
