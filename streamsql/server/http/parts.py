"""The server's parts that HTTP requests use, and a session's context for the time of one request."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from streamsql.base.limits import Limits
from streamsql.catalog.relation import SessionRow
from streamsql.engine.epoch import Engine
from streamsql.pgwire.auth import DATABASE_NAMES
from streamsql.plan.functions import Asker
from streamsql.server.cancellation import shutdown
from streamsql.server.context import Context
from streamsql.server.known import Known
from streamsql.server.reads import ReadPool, SessionReads
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables

# who asks, as long as there are no roles
USER = "streamsql"


@dataclass(slots=True)
class Parts:
    """What is shared with the wire server. `running` are the requests that may have to be ended when the server stops."""

    engine: Engine
    reads: ReadPool
    known: Known
    sessions: Callable[[], Sequence[SessionRow]]
    running: dict[int, Context] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        return self.engine.limits

    @contextlib.contextmanager
    def context(self) -> Iterator[Context]:
        """Make a session for one request, which is ended when the server stops."""
        variables = Variables(USER)
        asker = Asker(USER, 0, DATABASE_NAMES[0], variables)
        reads, transaction = SessionReads(self.reads, lambda: variables.zone), SessionTransaction(self.engine)
        made = Context(self.engine, reads, self.known, asker, transaction, variables, self.sessions)
        self.running[id(made)] = made
        try:
            yield made
        finally:
            del self.running[id(made)]

    def shut_down(self) -> None:
        """End what runs: the server stops."""
        for context in list(self.running.values()):
            context.cancel.cancel(shutdown())
