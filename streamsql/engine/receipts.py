"""What is committed beside a write's rows: records that could not be read, and what the producer is answered under its key.

Both belong to the epoch of the rows. So a record is either in the ledger, with what was read around it, or was never sent;
and a producer that did not hear the answer, because the server or the connection was gone, sends again under the same key and
is answered as before: its rows are there once.

``_engine.rejected_rows``   the ledger; `rejected_rows_max` are kept
``_engine.receipts``        answers by key; `idempotency_keys_max` are kept
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from streamsql.base.faults import reached
from streamsql.base.limits import Limits
from streamsql.engine.positions import StreamProgress
from streamsql.engine.store import Store

TABLES = (
    "CREATE TABLE IF NOT EXISTS _engine.rejected_rows (number BIGINT, epoch BIGINT, arrived_at TIMESTAMP, stream VARCHAR, "
    "position BIGINT, reason VARCHAR, bytes BLOB)",
    "CREATE TABLE IF NOT EXISTS _engine.receipts (number BIGINT, epoch BIGINT, answered_at TIMESTAMP, key VARCHAR, "
    "digest VARCHAR, answer VARCHAR)",
)
VIEW = (
    "CREATE OR REPLACE VIEW streamsql.rejected_rows AS SELECT stream, position, reason, bytes, arrived_at, epoch "
    "FROM _engine.rejected_rows ORDER BY number"
)
# of the receipts, so many more than `idempotency_keys_max` may be there for a while: dropping them costs a scan
_RECEIPTS_SLACK = 1_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """Beside a write for `stream`: the records `rejected` (columns position, reason, bytes), and the answer under a key.

    `digest` tells whether another request under the same key is the same one.
    """

    stream: str
    rejected: pa.Table
    key: str | None = None
    digest: str = ""
    answer: str = ""
    # what the source of the stream is through with (`engine.finished`)
    stream_id: int = 0
    finished: Mapping[str, str] = field(default_factory=dict)


def counted(streams: dict[str, StreamProgress], receipts: Iterable[Receipt]) -> dict[str, StreamProgress]:
    """Give the progress of streams with what was rejected."""
    for receipt in receipts:
        if receipt.rejected.num_rows:
            at = streams.get(receipt.stream) or StreamProgress()
            count = at.rows_rejected + receipt.rejected.num_rows
            streams = {**streams, receipt.stream: replace(at, rows_rejected=count, skips=False)}
    return streams


def write(store: Store, limits: Limits, receipts: Sequence[Receipt], epoch: int, now: int) -> None:
    """Write receipts within the epoch's transaction; the oldest ones make room."""
    if receipts:
        _write(store, limits, receipts, epoch, now)
    reached("epoch.receipts_written")


def _write(store: Store, limits: Limits, receipts: Sequence[Receipt], epoch: int, now: int) -> None:
    rejected = [_kept(r, limits) for r in receipts if r.rejected.num_rows]
    if rejected:
        store.register("__rejected", pa.concat_tables(rejected))
        store.execute(
            "INSERT INTO _engine.rejected_rows SELECT (SELECT coalesce(max(number), 0) FROM _engine.rejected_rows) "
            f"+ row_number() OVER (), {epoch}, make_timestamp({now}), stream, position, reason, bytes FROM __rejected"
        )
        store.unregister("__rejected")
        _trim(store, "rejected_rows", limits.rejected_rows_max)
    keyed = [r for r in receipts if r.key is not None]
    if keyed:
        first = int(store.fetch("SELECT coalesce(max(number), 0) FROM _engine.receipts")[0][0])
        for number, receipt in enumerate(keyed, first + 1):
            store.execute(
                "INSERT INTO _engine.receipts VALUES (?, ?, make_timestamp(?), ?, ?, ?)",
                [number, epoch, now, receipt.key, receipt.digest, receipt.answer],
            )
        if (first + len(keyed)) // _RECEIPTS_SLACK > first // _RECEIPTS_SLACK:
            _trim(store, "receipts", limits.idempotency_keys_max)


def _kept(receipt: Receipt, limits: Limits) -> pa.Table:
    records = receipt.rejected.slice(max(receipt.rejected.num_rows - limits.rejected_rows_max, 0))
    return records.append_column("stream", pa.array([receipt.stream] * records.num_rows, pa.string()))


def _trim(store: Store, table: str, kept: int) -> None:
    store.execute(f"DELETE FROM _engine.{table} WHERE number <= (SELECT max(number) FROM _engine.{table}) - {kept}")
