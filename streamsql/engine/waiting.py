"""Writes that wait for answers of what is not here (`engine.answers`), while other streams go on.

    taken   s: p          p is not known: the epoch ends, and s waits for the answer
    taken   s: q, r: 1    s: q waits behind the first, in its order; r goes on
    answer  p             s: p is run again, then s: q

What waits is not committed, and nobody is told that it is: whoever sent it waits as well, so a source is not read on, and a
crash leaves it to be sent again. An answer belongs to the epoch that used it. How long writes wait for each other shows in
which answer a row got, as it does for processing time, and in nothing else.

All of it runs on the engine's thread, unless it says otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from streamsql.base.errors import AdminShutdown, QueryCanceled, Unavailable
from streamsql.base.limits import Limits, exceeded
from streamsql.catalog.dependents import roots
from streamsql.catalog.objects import Table
from streamsql.engine.answers import Answer, Missing
from streamsql.engine.writes import Write

if TYPE_CHECKING:
    from streamsql.engine.epoch import Engine

T = TypeVar("T")

_WAITED = "SELECT 1 FROM _engine.epoch WHERE list_max((progress::JSON->'$.lookups[*].rows_waiting')::BIGINT[]) > 0"


@dataclass(slots=True)
class Waiting:
    """Writes that wait together: what was tried, and what came behind it to the same streams.

    `wanted` are the keys by table that are asked for; `answers` what has been said so far, which is held until the writes
    are committed. `error` is why there is no answer yet.
    """

    number: int
    roots: frozenset[str]
    since_us: int
    wanted: Mapping[str, pa.Table]
    tried: list[Write]
    behind: list[Write] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    error: str | None = None

    @property
    def rows(self) -> int:
        return sum(write.row_count for write in (*self.tried, *self.behind))

    @property
    def bytes(self) -> int:
        return sum(write.byte_count for write in (*self.tried, *self.behind))


class WaitingWrites:
    """All that waits. `asked` is called for each that is new: it is asked for, and `answered` or `failed` called."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[int, Waiting] = {}
        self._made = 0
        self._stopped = False
        self.asked: Callable[[Waiting], None] = lambda _: None
        # asks for keys by table at once, on the caller's thread, which is not the engine's. Raises StreamSQLError
        self.ask: Callable[[Mapping[str, pa.Table]], list[Answer]] = _nobody

    @property
    def roots(self) -> set[str]:
        """The streams whose rows wait."""
        return {name for waiting in self._waiting.values() for name in waiting.roots}

    def check_room(self, limits: Limits, relations: Iterable[str]) -> None:
        """Raise ProgramLimitExceeded where too much waits already with what is to be written. For any thread."""
        if not self._waiting:
            return
        names = set(relations)
        for waiting in list(self._waiting.values()):
            if names & waiting.roots and (
                waiting.rows >= limits.queue_rows_max or waiting.bytes >= limits.queue_bytes_max
            ):
                name = "queue_rows_max" if waiting.rows >= limits.queue_rows_max else "queue_bytes_max"
                raise exceeded(limits, name, f"what waits for {', '.join(waiting.wanted)} to answer")

    # ---- what comes

    def may_go(self, writes: list[Write]) -> list[Write]:
        """Give the writes that need not wait behind others; those that must, do so from now on."""
        if not self._waiting:
            return writes
        gone = []
        for write in writes:
            names = write.relations
            before = next((w for w in self._waiting.values() if names & w.roots), None)
            if before is None:
                gone.append(write)
            else:
                before.behind.append(write)
        return gone

    def wait(self, writes: Sequence[Write], missing: Missing, answers: Sequence[Answer] = ()) -> list[Write]:
        """Let what was tried wait for what it misses; give those of the writes that need not."""
        engine = self._engine
        below = frozenset(roots(engine.catalog, missing.roots))
        tried = [write for write in writes if write.relations & below]
        rest = [write for write in writes if not write.relations & below]
        if self._stopped:
            _refuse(tried)
            return rest
        self._made += 1
        made = Waiting(self._made, below, engine.clock.now_us(), missing.wanted, tried, answers=list(answers))
        self._waiting[made.number] = made
        self.asked(made)
        return rest

    # ---- what is answered

    def answered(self, number: int, answers: Sequence[Answer]) -> None:
        """Run what has waited for these answers, and let go what has waited behind it."""
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        engine, held, made = self._engine, [*waiting.answers, *answers], self._made
        engine.store.answers.cache(answers, engine.clock.now_us())
        try:
            with engine.store.answers.holding(held):
                if waiting.tried:
                    engine.run_writes(waiting.tried, held)
                else:
                    engine.tick(held)
        finally:
            again = [w for w in self._waiting.values() if w.number > made and w.roots & waiting.roots]
            if again:  # it needs more
                again[-1].behind[:0] = waiting.behind
            else:
                engine.queue.put_back(waiting.behind)
        if waiting.error is not None:
            self.note()

    def failed(self, number: int, error: str) -> None:
        """Note why there is no answer yet."""
        waiting = self._waiting.get(number)
        if waiting is not None and waiting.error != error:
            waiting.error = error
            self.note()

    def still(self, number: int) -> bool:
        """Tell whether something waits for an answer yet."""
        return number in self._waiting

    def start(self) -> None:
        """Know which tables there are. What waited when the last server ended waits no more: it was never taken in."""
        self.follow_catalog()
        if self._engine.store.fetch(_WAITED):
            self.note()

    def follow_catalog(self) -> None:
        """Know which tables there are; and run what waits, since what reads it may have changed, and needs no answer now."""
        tables = {made.name: made.id for made in self._engine.catalog if isinstance(made, Table) and made.outside}
        self._engine.store.answers.tell(tables)
        for number in list(self._waiting):
            self.answered(number, [])

    def withdraw(self, write: Write) -> None:
        """Refuse a write, if it waits, since whoever sent it asks for that; else it is done with by itself. For any thread."""
        with contextlib.suppress(AdminShutdown):
            self._engine.call(lambda: self._withdraw(write))

    def _withdraw(self, write: Write) -> None:
        for waiting in self._waiting.values():
            for writes in (waiting.tried, waiting.behind):
                place = next((n for n, other in enumerate(writes) if other is write), None)
                if place is not None:
                    del writes[place]
                    write.done.set_exception(QueryCanceled("canceling statement due to user request"))
                    if writes is waiting.tried:  # perhaps nobody needs the answer now
                        del self._waiting[waiting.number]
                        self._engine.queue.put_back([*waiting.tried, *waiting.behind])
                    return

    def give_up(self) -> None:
        """Refuse what waits: the server stops. Who has sent it learns that it is not committed."""
        self._stopped = True
        waiting, self._waiting = list(self._waiting.values()), {}
        for group in waiting:
            _refuse([*group.tried, *group.behind])

    def note(self) -> None:
        """Save how it stands, for ``streamsql.lookups``."""
        engine = self._engine
        with engine.store.transaction():
            engine.save()

    # ---- for who defines something that reads what is kept

    def run_with(self, answers: Sequence[Answer], run: Callable[[], T]) -> T:
        """Run something that takes kept rows in, with answers that it has missed before. Raises Missing where it needs more."""
        engine = self._engine
        engine.store.answers.cache(answers, engine.clock.now_us())
        with engine.store.answers.holding(answers):
            return run()

    # ---- what is shown

    def tell(self, progress: dict[str, list[dict[str, Any]]]) -> None:
        """Add to what is saved how lookups stand, and which views wait."""
        engine = self._engine
        progress["lookups"] = [self._told(made) for made in engine.catalog if isinstance(made, Table) and made.outside]
        reasons = [(w.roots, w.error) for w in self._waiting.values() if w.error is not None]
        for view in progress["views"] if reasons else ():
            query = engine.queries.get(view["name"])
            if query is None or view.get("stalled") is not None:
                continue
            own = roots(engine.catalog, query.plan.followed)
            view["stalled"] = next((error for roots, error in reasons if roots & own), None)

    def _told(self, table: Table) -> dict[str, Any]:
        found = [w for w in self._waiting.values() if table.name in w.wanted]
        return {
            "name": table.name, "connector": table.connector["connector"],
            "keys_cached": self._engine.store.answers.cached_keys(table.name),
            "rows_waiting": sum(w.rows for w in found), "since": min((w.since_us for w in found), default=None),
            "streams": sorted({name for w in found for name in w.roots}),
            "error": next((w.error for w in found if w.error is not None), None),
        }  # fmt: skip


def _nobody(wanted: Mapping[str, pa.Table]) -> list[Answer]:
    raise Unavailable(f"nobody asks for {', '.join(wanted)}")


def _refuse(writes: Iterable[Write]) -> None:
    for write in writes:
        write.done.set_exception(AdminShutdown("the server is shutting down"))
