"""A whole database in the test's own process: engine, statements and sessions as in the server, without its sockets.

`Database` runs SQL text through the statements' own handlers and pushes rows in epochs of the test's choosing, one epoch a
cut. Time stands still unless the test moves it: the engine's clock and the event loop's are set by hand. Nothing here
waits for time to pass, and nothing is polled: `settle` returns when all that was committed has reached its readers.

Rows come out as the text that a client is sent, so a test compares what a person sees. `values` gives DuckDB's Python
values instead, from a connection of its own, for tests that run thousands of them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from streamsql.base.clock import ManualClock
from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.engine.epoch import Engine
from streamsql.engine.store import Store
from streamsql.engine.writes import Write
from streamsql.pgwire.values import encode_rows
from streamsql.plan.functions import Asker
from streamsql.server.cancellation import Cancellation
from streamsql.server.context import Context, Values
from streamsql.server.known import Known
from streamsql.server.reads import ReadPool, SessionReads
from streamsql.server.results import CopyIn, CopyOut, Cursor, Done, ResultColumn, Rows
from streamsql.server.statements import handler
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables
from streamsql.sql.parse import parse
from streamsql.sql.statements import EmitMode, Query, Subscribe

T = TypeVar("T")
Row = tuple[str | None, ...]

START_US = 1_767_225_600_000_000  # 2026-01-01 00:00:00
# Steps of the event loop within which anything that can go on without a thread has gone on; the longest chain has six.
QUIET_STEPS = 30


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self._manual_seconds = 0.0

    def time(self) -> float:
        return self._manual_seconds

    def advance(self, seconds: float) -> None:
        self._manual_seconds += seconds


class CountedReads(ReadPool):
    """A pool of readers that knows whether any of them is at work."""

    def __init__(self, store: Store, limits: Limits) -> None:
        super().__init__(store, limits)
        self.at_work = 0
        self._rested: asyncio.Future[None] | None = None

    async def rested(self) -> None:
        """Return when none of them is at work."""
        while self.at_work:
            self._rested = self._rested or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._rested)

    async def _counted(self, work: Coroutine[Any, Any, T]) -> T:
        self.at_work += 1
        try:
            return await work
        finally:
            self.at_work -= 1
            if not self.at_work and self._rested is not None:
                self._rested.set_result(None)
                self._rested = None

    async def compute(self, work: Callable[[], T]) -> T:
        return await self._counted(super().compute(work))

    async def _on_thread(
        self, work: Callable[[], T], cursor: duckdb.DuckDBPyConnection, cancellation: Cancellation | None
    ) -> T:
        return await self._counted(super()._on_thread(work, cursor, cancellation))


@dataclass(slots=True)
class Result:
    """What one statement gave: its tag and notices, or its columns and rows as text."""

    tag: str
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class Following:
    """A client that follows a continuous query or a subscription, and remembers what it was shown.

    `rows` is everything since the statement began, in order. `error` is what ended it, `ended` whether it has ended.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: list[str] = []
        self.rows: list[Row] = []
        self.batches: list[list[Row]] = []
        self.error: StreamSQLError | None = None
        self.ended = False
        self.mode: EmitMode | None = None
        self.key_columns: list[int] = []
        self.task: asyncio.Task[None] | None = None
        self.cancellation: Cancellation | None = None
        self._taken = 0

    def take(self) -> list[Row]:
        """Give the rows that were shown since the last call."""
        new = self.rows[self._taken :]
        self._taken = len(self.rows)
        return new

    def integrated(self) -> Counter[Row]:
        """Add up a subscription's rows: what the view holds, by what this client was told.

        The first two columns are the epoch and the weight; with progress, rows of progress are passed over. Raises
        AssertionError where a row goes that never came, or an epoch comes after a later one.
        """
        head = 3 if "progressed" in self.columns[:3] else 2
        held: Counter[Row] = Counter()
        last, before = 0, held.copy()
        for row in [*self.rows, ("9" * 18, "0", *([None] * (len(self.columns) - 2)))]:
            epoch = int(row[0] or 0)
            assert epoch >= last, f"epoch {epoch} after {last}"
            if epoch > last:
                assert all(n > 0 for n in held.values()), (
                    f"at epoch {last} a row went that had not come: {held - before}"
                )
                last, before = epoch, held.copy()
            if row[1] is None or row[1] == "0":
                continue
            held[row[head:]] += int(row[1])
            if not held[row[head:]]:
                del held[row[head:]]
        return held


class Database:
    """A server without sockets. In `directory`, or in memory where that is None.

    Used from one thread. `restart` opens the same files anew, `crash` a copy of them as they lie on the disk now.
    """

    def __init__(self, directory: Path | None = None, limits: Limits | None = None, now_us: int = START_US) -> None:
        self.limits = limits or Limits()
        self.clock = ManualClock(now_us)
        self.loop = ManualLoop()
        self.directory = directory
        self._copies = 0
        self._open()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self.store = Store(self.directory)
        self.engine = Engine(self.store, self.limits, self.clock)
        self.engine.start()
        self.reads = CountedReads(self.store, self.limits)
        self.known = Known(self.limits, self.reads)
        self.followings: list[Following] = []
        self.context = self._session()
        self._values: duckdb.DuckDBPyConnection | None = None

    def close(self) -> None:
        """Stop as the server does on SIGTERM."""
        self._shut()
        self.loop.close()

    def _shut(self) -> None:
        for following in list(self.followings):
            self.stop(following)
        self.reads.close()
        self.engine.stop()

    def restart(self) -> None:
        """Stop in order, and start again on the same files."""
        assert self.directory is not None, "a database in memory ends with its process"
        self._shut()
        self._open()

    def crash(self) -> None:
        """Go on from what lies on the disk at this moment, as after SIGKILL: nothing is finished, nothing checkpointed."""
        assert self.directory is not None, "a database in memory ends with its process"
        self._copies += 1
        copy = self.directory.parent / f"{self.directory.name.partition('~')[0]}~{self._copies}"
        self.on_engine(lambda: shutil.copytree(self.directory or "", copy))
        self._shut()
        shutil.rmtree(self.directory)
        self.directory = copy
        self._open()

    # ---- time ----

    def advance(self, microseconds: int) -> None:
        """Move the wall clock on, and let the engine do what time alone brings about."""
        self.clock.advance(microseconds)
        self.loop.advance(microseconds / 1e6)
        self.tick()

    def tick(self) -> None:
        self.on_engine(self.engine.tick)
        self.settle()

    # ---- statements ----

    def execute(self, text: str) -> list[Result]:
        """Run a query string as the simple protocol does. Raises StreamSQLError."""
        return self._run(self._execute(text))

    def query(self, text: str) -> list[Row]:
        """Run one query; give its rows as text."""
        return self.execute(text)[-1].rows

    def values(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL past the server, on a connection that sees the last commit: DuckDB's own Python values."""
        if self._values is None:
            self._values = self.store.cursor()
        return self._values.execute(sql).fetchall()

    def arrow(self, sql: str) -> pa.Table:
        """Do the same and give the rows as Arrow."""
        self.values("SELECT 1")
        assert self._values is not None
        return self._values.sql(sql).to_arrow_table()

    async def _execute(self, text: str) -> list[Result]:
        context = self.context
        context.cancel = Cancellation()
        try:
            statements = parse(text, self.limits)
            results = []
            for index, statement in enumerate(statements):
                statement = context.resolved(statement)
                outcome = await handler(statement).execute(context, statement, Values())
                assert not isinstance(outcome, CopyIn | CopyOut), "COPY takes its rows from push, and gives none"
                results.append(await self._result(outcome))  # reads what is written and not committed
                if index == len(statements) - 1 and not context.transaction.explicit:
                    await context.transaction.commit()
            return results
        except StreamSQLError:
            context.transaction.fail()
            raise

    async def _result(self, outcome: Done | Rows) -> Result:
        if isinstance(outcome, Done):
            return Result(outcome.tag, notices=[_notice(n) for n in outcome.notices])
        assert not outcome.live, "follow a live query"
        made = Result(outcome.tag, [c.name for c in outcome.columns], notices=[_notice(n) for n in outcome.notices])
        cursor = Cursor(outcome)
        try:
            while not cursor.ended:
                batch = await cursor.take(None)
                if batch is not None:
                    made.rows += text_rows(batch, outcome.columns)
        finally:
            await cursor.close()
        return made

    def _session(self) -> Context:
        transaction, variables = SessionTransaction(self.engine), Variables("tester")
        reads = SessionReads(self.reads, lambda: variables.zone)
        return Context(self.engine, reads, self.known, Asker("tester"), transaction, variables)

    # ---- rows ----

    def push(
        self, relation: str, columns: Sequence[str], rows: Sequence[Row], cuts: Iterable[int] | None = None
    ) -> None:
        """Send rows of text as COPY does, in epochs of as many rows as `cuts` says (None: all in one)."""
        if rows:
            self.push_arrow(relation, self._run(self._conform(relation, columns, rows)), cuts)

    async def _conform(self, relation: str, columns: Sequence[str], rows: Sequence[Row]) -> pa.Table:
        context = self._session()
        context.cancel = Cancellation()
        names = ", ".join('"' + c.replace('"', '""') + '"' for c in columns)
        statement = parse(f"COPY {relation} ({names}) FROM STDIN", self.limits)[0]
        copy = await handler(statement).execute(context, context.resolved(statement), Values())
        assert isinstance(copy, CopyIn)
        data = "".join("\t".join(_copy_text(v) for v in row) + "\n" for row in rows)
        from streamsql.server.statements import copy_from

        await copy_from.take(context, copy, data.encode())
        await copy_from.finish(context, copy)
        return context.transaction.pending()[copy.relation]

    def push_arrow(self, relation: str, rows: pa.Table, cuts: Iterable[int] | None = None) -> None:
        """Send rows in the relation's own columns and types, in epochs of as many rows as `cuts` says."""
        start = 0
        for count in [rows.num_rows] if cuts is None else cuts:
            # one at a time: writes that wait together become one epoch
            key = self.engine.catalog.key_called(relation)
            self.engine.submit(Write([(key, rows.slice(start, count))])).result()
            start += count
        assert start >= rows.num_rows, "the cuts leave rows over"

    # ---- followers ----

    def follow(self, text: str) -> Following:
        """Start a continuous SELECT or a SUBSCRIBE, as a client of its own."""
        following = Following(text)
        self.followings.append(following)
        try:
            self._run(self._begin(following))
        except StreamSQLError:
            self.followings.remove(following)
            raise
        self.settle()
        return following

    async def _begin(self, following: Following) -> None:
        context = self._session()
        context.cancel = following.cancellation = Cancellation()
        statement = context.resolved(parse(following.text, self.limits)[0])
        assert isinstance(statement, (Query, Subscribe)), statement
        outcome = await handler(statement).execute(context, statement, Values())
        assert isinstance(outcome, Rows)
        assert outcome.live, "the query is not continuous"
        following.columns = [c.name for c in outcome.columns]
        if isinstance(statement, Query):
            plan = list(self.engine.queries.values())[-1].plan
            following.mode = plan.mode
            following.key_columns = [i for i, o in enumerate(plan.outputs) if not _over_parts(o.sql)]
        following.task = self.loop.create_task(self._collect(following, outcome))

    async def _collect(self, following: Following, outcome: Rows) -> None:
        cursor = Cursor(outcome)
        try:
            while not cursor.ended:
                batch = await cursor.take(None)
                if batch is not None:
                    rows = text_rows(batch, outcome.columns)
                    following.rows += rows
                    following.batches.append(rows)
        except StreamSQLError as error:
            following.error = error
        finally:
            following.ended = True
            await cursor.close()

    def stop(self, following: Following) -> None:
        """End a follower, as a client does that goes away."""
        self.followings.remove(following)
        if following.task is not None:
            assert following.cancellation is not None
            following.cancellation.cancel()
            self._run(asyncio.wait_for(following.task, None))

    def settle(self) -> None:
        """Return when everything that is committed has been shown to every follower."""
        self._run(self._settled())
        for following in self.followings:
            if following.task is not None and following.task.done() and following.task.exception() is not None:
                raise following.task.exception()  # type: ignore[misc]  # it was just seen to be one

    async def _settled(self) -> None:
        quiet = 0
        await asyncio.wrap_future(self.engine.call(lambda: None))
        while quiet < QUIET_STEPS:
            if self.reads.at_work:
                await self.reads.rested()
                quiet = 0
            await asyncio.sleep(0)
            quiet += 1
            if quiet == QUIET_STEPS // 2:  # a query that ended may be asking the engine to forget it
                await asyncio.wrap_future(self.engine.call(lambda: None))

    def on_engine(self, run: Callable[[], T]) -> T:
        """Run a function on the engine's thread, between epochs."""
        return self.engine.call(run).result()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)


def _over_parts(sql: str) -> bool:
    """Tell whether an output is made of aggregates, and so is no key of the result."""
    from sqlglot import exp, parse_one

    return any(
        c.name.startswith("p") and c.name[1:].isdigit() for c in parse_one(sql, read="duckdb").find_all(exp.Column)
    )


def _copy_text(value: str | None) -> str:
    if value is None:
        return "\\N"
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _notice(fields: dict[str, str]) -> str:
    hint = f" (hint: {fields['H']})" if "H" in fields else ""
    return f"{fields['S'].lower()} {fields['C']}: {fields['M']}{hint}"


def text_rows(batch: pa.RecordBatch, columns: Sequence[ResultColumn]) -> list[Row]:
    """Give a batch's rows as a client reads them in text format."""
    data = memoryview(encode_rows(batch, [c.type for c in columns], [0] * len(columns)))
    return list(_data_rows(data))


def _data_rows(data: memoryview) -> Iterator[Row]:
    place = 0
    while place < len(data):
        assert data[place] == ord("D")
        count = int.from_bytes(data[place + 5 : place + 7])
        at = place + 7
        row: list[str | None] = []
        for _ in range(count):
            length = int.from_bytes(data[at : at + 4], signed=True)
            at += 4
            row.append(None if length < 0 else bytes(data[at : at + length]).decode())
            at += max(length, 0)
        place += 1 + int.from_bytes(data[place + 1 : place + 5])
        assert at == place
        yield tuple(row)


def random_cuts(total: int, choose: Callable[[int, int], int]) -> list[int]:
    """Cut `total` rows into epochs; `choose(low, high)` draws a number between both."""
    cuts: list[int] = []
    while total:
        cuts.append(choose(1, total))
        total -= cuts[-1]
    return cuts
