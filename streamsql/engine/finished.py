"""What sources are through with: files that are read to their end.

A source that reads very many things cannot have each of them in its position for ever. What it is through with it says beside
a batch, as a name and a text of its own; that is committed with the batch, in a table, and the source finds it again.

``_engine.finished``    for each stream (by its id) and name, what was said last
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from streamsql.engine.receipts import Receipt
from streamsql.engine.store import Store

TABLE = "CREATE TABLE IF NOT EXISTS _engine.finished (stream_id BIGINT, name VARCHAR, state VARCHAR)"


def write(store: Store, receipts: Sequence[Receipt]) -> None:
    """Keep what sources are through with, within the epoch's transaction."""
    said: dict[tuple[int, str], str] = {}
    for receipt in receipts:
        said.update({(receipt.stream_id, name): state for name, state in receipt.finished.items()})
    if not said:
        return
    columns = {
        "stream_id": pa.array([stream for stream, _ in said], pa.int64()),
        "name": pa.array([name for _, name in said], pa.string()),
        "state": pa.array(list(said.values()), pa.string()),
    }
    store.register("__finished", pa.table(columns))
    store.execute("DELETE FROM _engine.finished WHERE (stream_id, name) IN (SELECT (stream_id, name) FROM __finished)")
    store.execute("INSERT INTO _engine.finished SELECT stream_id, name, state FROM __finished")
    store.unregister("__finished")


def forget(store: Store, stream_id: int) -> None:
    """Forget all that the source of a stream is through with, within the caller's transaction."""
    store.execute("DELETE FROM _engine.finished WHERE stream_id = ?", [stream_id])


class Notes:
    """What the source of one stream is through with, for the thread that reads it."""

    def __init__(self, store: Store, stream_id: int) -> None:
        self._store, self._stream_id = store, stream_id

    def get(self, name: str) -> str | None:
        found = self._fetch(
            "SELECT state FROM _engine.finished WHERE stream_id = ? AND name = ?", [self._stream_id, name]
        )
        return str(found[0][0]) if found else None

    def all(self) -> Iterator[tuple[str, str]]:
        found = self._fetch("SELECT name, state FROM _engine.finished WHERE stream_id = ?", [self._stream_id])
        yield from ((str(name), str(state)) for name, state in found)

    def _fetch(self, sql: str, values: list[object]) -> list[tuple[object, ...]]:
        cursor = self._store.cursor()
        try:
            return cursor.execute(sql, values).fetchall()
        finally:
            cursor.close()
