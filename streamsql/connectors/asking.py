"""Asks the origins of tables that are looked up: one thread for each table that is asked for, while the engine goes on.

What the engine's epochs miss (`engine.waiting`) comes here as a question: keys of one or several tables. A table's thread asks
its origin, later and later where that fails, until there is an answer, or nobody waits for it any more; why it fails is shown
in ``streamsql.lookups``. Once all tables of a question have answered, the engine is told.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError, UndefinedTable
from streamsql.catalog.objects import Table
from streamsql.connectors import LOOKUPS, given_of
from streamsql.connectors.backoff import Backoff
from streamsql.connectors.lookup import Lookup
from streamsql.connectors.source import Surroundings
from streamsql.engine import ingest
from streamsql.engine.answers import Answer
from streamsql.engine.epoch import Engine
from streamsql.engine.waiting import Waiting

log = structlog.get_logger()


@dataclass(slots=True)
class _Question:
    """What one group of writes waits for."""

    number: int
    wanted: Mapping[str, pa.Table]
    answers: list[Answer] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Answer) -> bool:
        """Take an answer; tell whether it is the last."""
        with self.lock:
            self.answers.append(answer)
            return len(self.answers) == len(self.wanted)


class Askers:
    """The threads that ask. `start` it before the engine takes anything in, `stop` it before readers and engine are stopped."""

    def __init__(
        self, engine: Engine, allowed_paths: tuple[Path, ...] = (), allowed_urls: tuple[str, ...] = ()
    ) -> None:
        self._engine = engine
        self._allowed = allowed_paths, allowed_urls
        self._askers: dict[int, Asker] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        self._engine.waiting.asked, self._engine.waiting.ask = self._asked, self.ask
        self._engine.flows.on_change(self._follow)
        if any(isinstance(made, Table) and made.outside for made in self._engine.catalog):
            self._engine.call(self._engine.waiting.note)  # what waited when the last server ended waits no more

    def stop(self) -> None:
        """End all threads, and refuse what waits."""
        with self._lock:
            askers = list(self._askers.values())
        for asker in askers:
            asker.stop()
        for asker in askers:
            asker.join()
        with contextlib.suppress(AdminShutdown):
            self._engine.call(self._engine.waiting.give_up).result()

    def ask(self, wanted: Mapping[str, pa.Table]) -> list[Answer]:
        """Ask at once, on the caller's thread. Raises StreamSQLError where there is no answer."""
        return [self._answer(name, keys) for name, keys in wanted.items()]

    def _answer(self, name: str, keys: pa.Table) -> Answer:
        found = self._engine.catalog.find(name)
        if not isinstance(found, Table) or not found.outside:
            raise UndefinedTable(f'relation "{name}" was dropped and made anew')
        table = Asked(self._engine, found, *self._allowed)
        with contextlib.closing(table):
            return table.ask(keys)

    def _asked(self, waiting: Waiting) -> None:
        """Begin to ask. On the engine's thread."""
        question = _Question(waiting.number, waiting.wanted)
        with self._lock:
            for name in waiting.wanted:
                table = self._engine.catalog.find(name)
                assert isinstance(table, Table)
                if table.id not in self._askers:
                    self._askers[table.id] = Asker(self._engine, Asked(self._engine, table, *self._allowed))
                    self._askers[table.id].start()
                self._askers[table.id].put(question)

    def _follow(self) -> None:
        """End the threads of tables that are gone."""
        with self._lock:
            for number in set(self._askers) - {made.id for made in self._engine.catalog}:
                self._askers.pop(number).stop()


class Asked:
    """A table, open to be asked by one thread."""

    def __init__(
        self, engine: Engine, table: Table, allowed_paths: tuple[Path, ...], allowed_urls: tuple[str, ...]
    ) -> None:
        self._engine = engine
        self.table = table
        self._surroundings = Surroundings(
            allowed_paths, name=table.bare, identity=f"{engine.identity}-{table.id}", allowed_urls=allowed_urls
        )
        self._lookup: Lookup | None = None

    def ask(self, keys: pa.Table) -> Answer:
        """Give the answer for these keys. Raises StreamSQLError."""
        table, now = self.table, self._engine.clock.now_us()
        if self._lookup is None:
            connector = LOOKUPS[table.connector["connector"]]
            given = given_of(table.connector, {}, table=True)
            self._lookup = connector.open(given, table.columns, table.primary_key, self._surroundings)
        rows = self._lookup.ask(keys)
        with contextlib.closing(self._engine.store.cursor()) as cursor:
            schema = ingest.arrow_schema(table, cursor)
            shaped = ingest.conform(rows, table.columns, table, schema, cursor)
        return Answer(table.name, table.id, keys, shaped, now + self._lookup.cache_us, self._lookup.cache_rows)

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.close()


class Asker(threading.Thread):
    """Asks for one table's rows."""

    def __init__(self, engine: Engine, asked: Asked) -> None:
        super().__init__(name=f"lookup {asked.table.name}", daemon=True)
        self._engine = engine
        self._asked = asked
        self._questions: deque[_Question] = deque()
        self._woken = threading.Event()
        self._stopping = False
        self._backoff = Backoff()

    def put(self, question: _Question) -> None:
        """Have a question answered. For any thread."""
        self._questions.append(question)
        self._woken.set()

    def stop(self) -> None:
        """Ask it to end after what it is doing."""
        self._stopping = True
        self._woken.set()

    def run(self) -> None:
        with contextlib.closing(self._asked), contextlib.suppress(AdminShutdown):
            while not self._stopping:
                self._woken.clear()
                if not self._questions:
                    self._woken.wait()
                elif self._attempt(self._questions[0]):
                    self._questions.popleft()

    def _attempt(self, question: _Question) -> bool:
        """Ask; tell whether that is done with. Waits where it has failed."""
        waiting, name = self._engine.waiting, self._asked.table.name
        if not waiting.still(question.number):
            return True
        try:
            answer = self._asked.ask(question.wanted[name])
        except StreamSQLError as error:
            self._failed(question, error.message)
            return False
        except Exception as error:  # noqa: BLE001  # a connector's own fault must not pass unnoticed in a thread
            log.error("lookup failed", table=name, error=repr(error))
            self._failed(question, "an internal error; the server's log says more")
            return False
        self._backoff.succeeded()
        if question.add(answer):
            self._engine.call(lambda: waiting.answered(question.number, question.answers))
        return True

    def _failed(self, question: _Question, error: str) -> None:
        seconds = self._backoff.failed()
        log.warning("no answer", table=self._asked.table.name, error=error)
        self._engine.call(lambda: self._engine.waiting.failed(question.number, error))
        if not self._stopping:
            self._woken.wait(seconds)
