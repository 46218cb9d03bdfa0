"""What retention has dropped of streams: how many rows, and the largest time among them of each column that holds times.

So VERIFY can tell which windows have lost no row: those that begin behind that time.
"""

from __future__ import annotations

import duckdb

from streamsql.catalog.objects import Stream, literal, quoted
from streamsql.engine.store import Store

TABLE = "_engine.dropped_rows"


def time_columns(stream: Stream) -> list[str]:
    """List the columns of a stream that hold times."""
    return [c.name for c in stream.columns if c.type.startswith("TIMESTAMP") or c.type == "DATE"]


def drop(store: Store, stream: Stream, condition: str) -> int:
    """Delete rows of a stream, and note what they were; give their number."""
    times = time_columns(stream)
    largest = "".join(f", max(epoch_us({quoted(n)}::TIMESTAMP)) FILTER (isfinite({quoted(n)}))" for n in times)
    count, *found = store.fetch(f"SELECT count(*){largest} FROM {stream.rows_table} WHERE {condition}")[0]
    if not count:
        return 0
    store.execute(f"DELETE FROM {stream.rows_table} WHERE {condition}")
    for name, time in zip(times, found, strict=True):
        same = f"stream = {stream.id} AND column_name = {literal(name)}"
        before = store.fetch(f"SELECT rows, largest FROM {TABLE} WHERE {same}")
        rows, last = before[0] if before else (0, None)
        known = max((t for t in (last, time) if t is not None), default=None)
        store.execute(f"DELETE FROM {TABLE} WHERE {same}")
        store.execute(
            f"INSERT INTO {TABLE} VALUES ({stream.id}, {literal(name)}, {rows + count}, "
            f"{'NULL' if known is None else known})"
        )
    return int(count)


def forget(store: Store, stream_id: int) -> None:
    """Forget a stream, or what it had before it was emptied."""
    store.execute(f"DELETE FROM {TABLE} WHERE stream = {stream_id}")


def last_time(cursor: duckdb.DuckDBPyConnection, stream: Stream, column: str) -> tuple[int, int | None] | None:
    """Give how many rows were dropped, and the largest time (us) in the column of any of them; None where nothing is noted."""
    found = cursor.execute(
        f"SELECT rows, largest FROM {TABLE} WHERE stream = ? AND column_name = ?", [stream.id, column]
    ).fetchall()
    return found[0] if found else None
