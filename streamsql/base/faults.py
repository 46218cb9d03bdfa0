"""Named points at which a test may kill the process, to prove that recovery loses and repeats nothing.

``STREAMSQL_FAULT=epoch.before_commit:3`` ends the process, as SIGKILL would, the third time that point is reached. With
``:stop`` behind it the process stands still instead, as by SIGSTOP, until a SIGCONT. Without the variable a point costs one
comparison.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "start.tables_made",
    "epoch.begun",
    "epoch.rows_written",
    "epoch.operators_applied",
    "epoch.receipts_written",
    "epoch.before_commit",
    "epoch.after_commit",
    "view.created",
    "state.shared",
    "retention.trimmed",
    "checkpoint.before",
    "checkpoint.after",
)
# what is reached only where a view over many rows is made
BUILD_POINTS = ("view.piece_built",)
# what is reached only where a connector fills a stream, or a stream is altered
SOURCE_POINTS = ("stream.before_forget", "stream.column_added", "stream.column_adding", "stream.reset")
# what is reached only where there are sinks
SINK_POINTS = ("epoch.outbox_written", "sink.created", "sink.before_delivery", "sink.after_delivery", "sink.delivered")

# of Kafka's sink: messages and the epoch's number are sent, and the transaction is not ended
KAFKA_POINTS = ("kafka.before_commit",)
# those of a sink of files (`connectors.files.sink`)
FILE_POINTS = ("files.pending_written", "files.staged", "files.manifest_written", "files.published")

_point, _count, _signal = ([*os.environ.get("STREAMSQL_FAULT", "").split(":"), "", ""])[:3]
_remaining = int(_count or 1)


def reached(point: str) -> None:
    """Die here, or stand still, if the environment asked for it."""
    global _remaining
    if point != _point:
        return
    assert point in POINTS + BUILD_POINTS + SOURCE_POINTS + SINK_POINTS + KAFKA_POINTS + FILE_POINTS, point
    _remaining -= 1
    if _remaining == 0:
        os.kill(os.getpid(), signal.SIGSTOP if _signal == "stop" else signal.SIGKILL)
