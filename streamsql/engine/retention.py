"""Drops what is kept no longer: rows past their stream's retention, and the oldest entries of the ledger of late rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from streamsql.base.faults import reached
from streamsql.base.limits import Limits
from streamsql.catalog.objects import CatalogObject, Stream, quoted
from streamsql.engine import dropped
from streamsql.engine.store import Store

CHECK_US_MIN = 1_000_000


class Retention:
    """Looks now and then, since looking costs a scan: at most once a second, and a hundred times in a retention."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._last: dict[str, int] = {}
        self._ledger = 0

    def due(self, objects: Iterable[CatalogObject], now: int) -> bool:
        """Tell whether it is time to look."""
        return any(isinstance(o, Stream) and self._due(o, now) for o in objects)

    def trim(
        self,
        objects: Iterable[CatalogObject],
        needed: Collection[str],
        forgotten: Mapping[str, int],
        late: int,
        now: int,
    ) -> None:
        """Drop what is due, within the caller's transaction, but no rows of the streams that are `needed` whole.

        Of those in `forgotten` only rows before that event time (us) are not needed.
        `late` is how many rows the ledger has taken in so far.
        """
        for stream in objects:
            if not isinstance(stream, Stream) or stream.name in needed or not self._due(stream, now):
                continue
            assert stream.retention_us
            self._last[stream.name] = now
            past = f"__arrived_at < make_timestamp({now - stream.retention_us})"
            if stream.name in forgotten:
                assert stream.watermark is not None
                assert stream.watermark.column is not None
                time = f"epoch_us({quoted(stream.watermark.column)})"
                past += f" AND ({time} < {forgotten[stream.name]} OR {time} IS NULL)"
            dropped.drop(self._store, stream, past)
            reached("retention.trimmed")
        if late - self._ledger > self._limits.late_rows_max // 10:
            self._ledger = late
            self._store.execute(
                "DELETE FROM _engine.late_rows WHERE rowid IN (SELECT rowid FROM _engine.late_rows "
                f"ORDER BY epoch DESC, seq DESC OFFSET {self._limits.late_rows_max})"
            )

    def _due(self, stream: Stream, now: int) -> bool:
        if not stream.retention_us:
            return False
        return now - self._last.get(stream.name, 0) >= max(CHECK_US_MIN, stream.retention_us // 100)
