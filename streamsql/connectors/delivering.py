"""Delivers outboxes to sinks: one thread each, from CREATE to DROP and from start to stop.

A deliverer takes whole epochs from the outbox, by memory where it keeps up, else on a connection of its own, gives them to its
sink, and when that has them for good, lets the engine drop them. It never holds the engine: what is not delivered waits on
disk, up to `outbox_rows_max`, and from there on sources wait and clients are refused. What the other side says that it holds
already is left out, so a crash between a delivery and its note repeats nothing where the sink keeps such notes
(`sink.Sink.delivered`). There the engine is told of deliveries once a second, or when they rest, else of each at once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError, Unavailable
from streamsql.base.faults import reached
from streamsql.catalog.objects import Sink as SinkObject
from streamsql.connectors import SINKS, given_of_sink
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.outboxes import Outgoing
from streamsql.connectors.shapes import shape_of
from streamsql.connectors.sink import Sink
from streamsql.connectors.source import Surroundings
from streamsql.engine import sinks
from streamsql.engine.epoch import Engine
from streamsql.engine.outbox import SinkProgress

log = structlog.get_logger()

# The engine is told of deliveries of which the other side keeps a note when there has been none for so long, and while there
# are some so often: each time costs it a transaction.
NOTE_REST_SECONDS = 0.25
NOTE_SECONDS_MAX = 1.0
# A server that stops waits so long for what is being delivered. Another side that answers nothing may hold a delivery for much
# longer (Kafka's client for a minute); what becomes of it then is asked at the next start, as after a crash.
STOP_SECONDS_MAX = 5.0


def note_due(first: float, last: float) -> float:
    """Tell when the engine is to be told of deliveries of which the `first` and the `last` were at these seconds."""
    return min(last + NOTE_REST_SECONDS, first + NOTE_SECONDS_MAX)


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
        """End all deliverers after what they are doing, if that does not take too long."""
        with self._lock:
            self._stopped = True
            deliverers = list(self._deliverers.values())
        for deliverer in deliverers:
            deliverer.stop()
        until = time.monotonic() + STOP_SECONDS_MAX
        for deliverer in deliverers:
            deliverer.join(max(until - time.monotonic(), 0))
            if deliverer.is_alive():
                log.warning("a delivery was left behind", sink=deliverer.sink_name)

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
        self._keeps_notes = False
        self._unnoted_since: float | None = None
        self._note_due: float | None = None  # when to tell the engine of what has been delivered
        self._unnoted = 0  # rows of it
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

    @property
    def sink_name(self) -> str:
        return self._sink.name

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
            try:
                rows_max = self._engine.limits.sink_batch_rows_max
                handed = self._engine.flows.handing.taken(self._sink.id)
                outgoing = Outgoing(cursor, self._sink, self._columns, rows_max, handed)
            except duckdb.CatalogException:
                if self._dropped():
                    return  # before its thread has begun
                raise
            while not self._stopping:
                self._woken.clear()
                at = self._engine.sinks.get(self._sink.name)
                if at is None:
                    return
                seconds = self._attempt(outgoing, at) if at.runs and at.rows_waiting > self._unnoted else None
                if seconds != 0:
                    self._woken.wait(self._until_note(seconds))
                if self._note_due is not None and time.monotonic() >= self._note_due:
                    self._let_go(self._epoch)
            if self._note_due is not None:
                self._let_go(self._epoch)
        except AdminShutdown:
            return
        finally:
            self._engine.flows.handing.leave(self._sink.id)
            self._close()
            cursor.close()

    def _until_note(self, seconds: float | None) -> float | None:
        if self._note_due is None:
            return seconds
        left = max(self._note_due - time.monotonic(), 0)
        return left if seconds is None else min(left, seconds)

    def _attempt(self, outgoing: Outgoing, at: SinkProgress) -> float | None:
        """Deliver once; give how long to wait then: 0 not at all, None until woken."""
        try:
            more = self._deliver(outgoing, at)
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
            if isinstance(error, duckdb.CatalogException) and self._dropped():
                return None  # and its outbox with it, just as it was to be read
            log.error("sink failed", sink=self._sink.name, error=repr(error))
            self._stopped("an internal error; the server's log says more")
            return None
        self._backoff.succeeded()
        return 0 if more else None

    def _dropped(self) -> bool:
        return self._sink.id not in {sink.id for sink in self._engine.catalog.sinks.values()}

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

    def _deliver(self, outgoing: Outgoing, at: SinkProgress) -> bool:
        """Deliver the oldest epochs; tell whether there were any."""
        if self._open is None:
            connector = SINKS[self._sink.connector["connector"]]
            self._open = connector.open(given_of_sink(self._sink.connector, {}), self._shape, self._surroundings)
            held = self._open.delivered()
            self._keeps_notes = held is not None
            if held is not None and held > self._epoch:
                self._let_go(held)
        delivery = outgoing.after(self._epoch, at.rows_waiting - self._unnoted)
        if delivery is None:
            return False
        reached("sink.before_delivery")
        self._open.deliver(delivery)
        reached("sink.after_delivery")
        self._epoch = delivery.last_epoch
        self._unnoted += delivery.rows.num_rows
        if self._keeps_notes:
            now = time.monotonic()
            self._unnoted_since = self._unnoted_since or now
            self._note_due = note_due(self._unnoted_since, now)
        else:
            self._let_go(self._epoch)
        return True

    def _let_go(self, epoch: int) -> None:
        self._engine.call(lambda: sinks.delivered(self._engine, self._sink, epoch)).result()
        self._epoch, self._unnoted, self._unnoted_since, self._note_due = epoch, 0, None, None

    def _close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            try:
                opened.close()
            except Exception as error:  # noqa: BLE001  # what fails to close is closed
                log.warning("sink did not close", sink=self._sink.name, error=repr(error))
