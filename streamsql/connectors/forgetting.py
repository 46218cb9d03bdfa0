"""Has origins let go of what they keep for streams and tables that were dropped.

What was not done before the server stopped, or was killed, is done at the next start (`engine.left_behind`).
"""

from __future__ import annotations

import contextlib
import threading

import structlog

from streamsql.base.errors import AdminShutdown, StreamSQLError
from streamsql.base.faults import reached
from streamsql.catalog.objects import Stream, Table
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.source import LeavesTraces, Surroundings
from streamsql.connectors.surroundings import surroundings_of
from streamsql.engine import left_behind
from streamsql.engine.epoch import Engine

log = structlog.get_logger()


def forget(engine: Engine, item: Stream | Table, surroundings: Surroundings) -> None:
    """Have the origin let go of what was dropped; where it does not, say so. Its source is closed."""
    reached("stream.before_forget")
    try:
        connector = connector_of(item.connector, {})
        if isinstance(connector, LeavesTraces):
            given = given_of(item.connector, {}, table=isinstance(item, Table))
            connector.forget(given, item.columns, surroundings)
    except StreamSQLError as error:
        log.warning("the origin still keeps something", stream=item.name, error=error.message, hint=error.hint)
        return
    engine.call(lambda: left_behind.settled(engine.store, item)).result()
    log.info("the origin has let go", stream=item.name)


def forget_left_behind(engine: Engine) -> None:
    """Do so, on a thread of its own, for what was dropped before the server started."""

    def run() -> None:
        with contextlib.suppress(AdminShutdown):
            for item in engine.call(lambda: left_behind.found(engine.store, engine.limits)).result():
                forget(engine, item, surroundings_of(engine, item))

    threading.Thread(target=run, name="forgetting", daemon=True).start()
