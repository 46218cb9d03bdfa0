"""The server's parts that HTTP requests use, and a session's context for the time of one request."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streamsql.base.errors import StreamSQLError, TooManyConnections
from streamsql.base.limits import Limits
from streamsql.catalog.relation import SessionRow
from streamsql.engine.epoch import Engine
from streamsql.pgwire.auth import DATABASE_NAMES
from streamsql.plan.functions import Asker
from streamsql.server.cancellation import shutdown
from streamsql.server.context import Context
from streamsql.server.identity import Identity
from streamsql.server.known import Known
from streamsql.server.login import LoggedIn
from streamsql.server.reads import ReadPool, SessionReads
from streamsql.server.transactions import SessionTransaction
from streamsql.server.variables import Variables


@dataclass(slots=True)
class Parts:
    """What is shared with the wire server. `running` are the requests that may have to be ended when the server stops."""

    engine: Engine
    reads: ReadPool
    known: Known
    sessions: Callable[[], Sequence[SessionRow]]
    # how many sessions and requests a role has
    session_count: Callable[[int], int]
    settings: Mapping[str, str]
    running: dict[int, Context] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        return self.engine.limits

    @contextlib.contextmanager
    def context(self, who: LoggedIn) -> Iterator[Context]:
        """Make a session for one request, which is ended when the server stops.

        Raises TooManyConnections where the role has as many as it may.
        """
        role, database = who.role, DATABASE_NAMES[0]
        limited = role.connection_limit >= 0 and not role.superuser
        if limited and self.session_count(role.oid) >= role.connection_limit:
            raise TooManyConnections(f'too many connections for role "{role.name}"')
        identity = Identity(who.name, role.oid, lambda: self.engine.catalog.access, 0, database)
        variables = Variables(who.name, identity=identity, server=self.settings)
        for name, value in role.settings:
            with contextlib.suppress(StreamSQLError):  # as on the wire, where a warning says so
                variables.set(name, value)
        asker = Asker(who.name, 0, database, variables, role.oid)
        reads, transaction = SessionReads(self.reads, lambda: variables.zone), SessionTransaction(self.engine)
        made = Context(self.engine, reads, self.known, asker, transaction, variables, self.sessions, identity=identity)
        self.running[id(made)] = made
        try:
            yield made
        finally:
            del self.running[id(made)]

    def running_of(self, role_oid: int) -> int:
        """Count the requests of a role that are being answered."""
        return sum(c.identity is not None and c.identity.oid == role_oid for c in list(self.running.values()))

    def shut_down(self) -> None:
        """End what runs: the server stops."""
        for context in list(self.running.values()):
            context.cancel.cancel(shutdown())
