"""Delivers outboxes to sinks: one thread each, from CREATE to DROP and from start to stop.

A deliverer reads whole epochs from the outbox on a connection of its own, gives them to its sink, and when that has them for
good, lets the engine drop them. It never holds the engine: what is not delivered waits on disk, up to `outbox_rows_max`, and
from there on sources wait and clients are refused. What the other side says that it holds already is left out, so a crash
between a delivery and its note repeats nothing where the sink keeps such notes (`sink.Sink.delivered`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError, Unavailable
from streamsql.base.faults import reached
from streamsql.catalog.objects import Sink as SinkObject
from streamsql.catalog.objects import quoted
from streamsql.connectors import SINKS, given_of_sink
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.shapes import shape_of
from streamsql.connectors.sink import Delivery, Sink
from streamsql.connectors.source import Surroundings
from streamsql.engine import outbox, sinks
from streamsql.engine.epoch import Engine
from streamsql.engine.outbox import SinkProgress

log = structlog.get_logger()


class Deliverers:
    """The deliverers of an engine's sinks. `start` it once the engine runs, `stop` it before the engine is stopped."""

    def __init__(
        self, engine: Engine, allowed_paths: tuple[Path, ...] = (), allowed_urls: tuple[str, ...] = ()
    ) -> None:
        self._engine = engine
        self._allowed = allowed_paths, allowed_urls
        self._deliverers: dict[int, Deliverer] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Deliver from now on to whatever sinks the catalog has, and follow its changes."""
        self._engine.flows.on_change(self._follow)
        self._engine.flows.on_outgoing(self._wake)
        self._follow()

    def stop(self) -> None:
        """End all deliverers after what they are doing."""
        with self._lock:
            self._stopped = True
            deliverers = list(self._deliverers.values())
        for deliverer in deliverers:
            deliverer.stop()
        for deliverer in deliverers:
            deliverer.join()

    def _wake(self) -> None:
        for deliverer in list(self._deliverers.values()):
            deliverer.wake()

    def _follow(self) -> None:
        """Start the deliverers that are missing, end those whose sink is gone, and wake the others."""
        with self._lock:
            if self._stopped:
                return
            wanted = {sink.id: sink for sink in self._engine.catalog.sinks.values()}
            for number in [n for n in self._deliverers if n not in wanted]:
                self._deliverers.pop(number).stop()
            for number, sink in wanted.items():
                if number not in self._deliverers:
                    self._deliverers[number] = Deliverer(self._engine, sink, *self._allowed)
                    self._deliverers[number].start()
        self._wake()


class Deliverer(threading.Thread):
    """Delivers one sink's outbox."""

    def __init__(
        self,
        engine: Engine,
        sink: SinkObject,
        allowed_paths: tuple[Path, ...] = (),
        allowed_urls: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self._engine = engine
        self._sink = sink
        self._woken = threading.Event()
        self._stopping = False
        self._backoff = Backoff()
        self._open: Sink | None = None
        self._epoch = engine.sinks[sink.name].delivered_epoch
        view = engine.catalog.view(sink.view)
        self._columns = view.columns
        self._shape = shape_of(engine, sink.view, sink.connector)
        self._surroundings = Surroundings(
            allowed_paths,
            self._woken.set,
            sink.name,
            f"{engine.identity}-{sink.id}",
            engine.limits.record_bytes_max,
            allowed_urls,
        )

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Ask it to end after what it is doing."""
        self._stopping = True
        self._woken.set()

    # ---- its thread ----

    def run(self) -> None:
        cursor = self._engine.store.cursor()
        try:
            while not self._stopping:
                self._woken.clear()
                at = self._engine.sinks.get(self._sink.name)
                if at is None:
                    return
                seconds = self._attempt(cursor, at) if at.runs and at.rows_waiting else None
                if seconds != 0:
                    self._woken.wait(seconds)
        except AdminShutdown:
            return
        finally:
            self._close()
            cursor.close()

    def _attempt(self, cursor: duckdb.DuckDBPyConnection, at: SinkProgress) -> float | None:
        """Deliver once; give how long to wait then: 0 not at all, None until woken."""
        try:
            more = self._deliver(cursor)
        except AdminShutdown:
            raise
        except Unavailable as error:
            self._close()
            self._say(replace(at, error=error.message, retrying=True))
            log.warning("sink unavailable", sink=self._sink.name, error=error.message)
            self._keep_away(error.after_seconds or 0.0)
            return self._backoff.failed()
        except StreamSQLError as error:
            self._stopped(error.message)
            return None
        except Exception as error:  # noqa: BLE001  # a connector's own fault must not pass unnoticed in a thread
            log.error("sink failed", sink=self._sink.name, error=repr(error))
            self._stopped("an internal error; the server's log says more")
            return None
        self._backoff.succeeded()
        return 0 if more else None

    def _keep_away(self, seconds: float) -> None:
        """Wait as long as the other side asked for, whatever there is to deliver meanwhile."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._woken.clear()
            if not self._stopping:
                self._woken.wait(left)

    def _stopped(self, message: str) -> None:
        self._close()
        log.error("sink stopped", sink=self._sink.name, error=message)
        at = self._engine.sinks.get(self._sink.name)
        if at is not None and not self._stopping:
            self._say(replace(at, error=message, retrying=False))

    def _say(self, at: SinkProgress) -> None:
        """Show how the sink is doing."""
        engine, sink = self._engine, self._sink

        def note() -> None:
            now = engine.catalog.sinks.get(sink.name)
            if now is sink:
                known = engine.sinks[sink.name]
                sinks.note(engine, sink, replace(known, error=at.error, retrying=at.retrying))

        with contextlib.suppress(AdminShutdown):
            engine.call(note).result()

    def _deliver(self, cursor: duckdb.DuckDBPyConnection) -> bool:
        """Deliver the oldest epochs; tell whether there were any."""
        if self._open is None:
            connector = SINKS[self._sink.connector["connector"]]
            self._open = connector.open(given_of_sink(self._sink.connector, {}), self._shape, self._surroundings)
            held = self._open.delivered()
            if held is not None and held > self._epoch:
                self._let_go(held)
        delivery = self._next(cursor)
        if delivery is None:
            return False
        reached("sink.before_delivery")
        self._open.deliver(delivery)
        reached("sink.after_delivery")
        self._let_go(delivery.last_epoch)
        return True

    def _let_go(self, epoch: int) -> None:
        self._engine.call(lambda: sinks.delivered(self._engine, self._sink, epoch)).result()
        self._epoch = epoch

    def _next(self, cursor: duckdb.DuckDBPyConnection) -> Delivery | None:
        """Read the oldest epochs that have not been delivered: as many as `sink_batch_rows_max` allows, but one at least."""
        table, rows_max = outbox.table_of(self._sink), self._engine.limits.sink_batch_rows_max
        found = cursor.execute(
            f"SELECT min(__epoch), coalesce(max(__epoch) FILTER (WHERE before + n <= {rows_max}), min(__epoch)) FROM ("
            f"SELECT __epoch, n, sum(n) OVER (ORDER BY __epoch) - n AS before FROM ("
            f"SELECT __epoch, count(*) AS n FROM {table} WHERE __epoch > {self._epoch} GROUP BY __epoch))"
        ).fetchall()[0]
        if found[0] is None:
            return None
        first, last = found
        names = ", ".join(f"o{i} AS {quoted(c.name)}" for i, c in enumerate(self._columns))
        rows = cursor.sql(
            f"SELECT {names}, __weight, __epoch, __number FROM {table} WHERE __epoch BETWEEN {first} AND {last} "
            "ORDER BY __epoch, __number"
        ).to_arrow_table()
        return Delivery(
            rows.drop_columns(["__weight", "__epoch", "__number"]),
            np.asarray(rows.column("__weight")).astype(np.int8),
            np.asarray(rows.column("__epoch")),
            np.asarray(rows.column("__number")),
            first,
            last,
        )

    def _close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            try:
                opened.close()
            except Exception as error:  # noqa: BLE001  # what fails to close is closed
                log.warning("sink did not close", sink=self._sink.name, error=repr(error))
