"""The ledger of rows that a query could not take in: late ones, those without a time, those that its expressions fail on."""

from __future__ import annotations

import pyarrow as pa

from streamsql.catalog.objects import ENGINE_SCHEMA, literal, quoted
from streamsql.engine.store import Store

LATE_ROWS_TABLE = f"{ENGINE_SCHEMA}.late_rows"
_NO_TIME = -(1 << 62)


def _fields(names: list[str]) -> str:
    return ", ".join(f"{quoted(c)} := l.{quoted(c)}" for c in names if not c.startswith("__"))


def record_rejected(
    store: Store, rows: pa.Table, view: str, source: str, epoch: int, arrived_at_us: int, reason: str
) -> None:
    """Put rows into the ledger that a query's expressions fail on."""
    store.register("__late", rows)
    store.execute(
        f"INSERT INTO {LATE_ROWS_TABLE} SELECT {epoch}, l.__seq, make_timestamp({arrived_at_us}), "
        f"{literal(view)}, {literal(source)}, {literal('error: ' + reason)}, NULL, NULL, NULL, "
        f"to_json(struct_pack({_fields(rows.column_names)}))::VARCHAR FROM __late AS l"
    )


def record_late(
    store: Store, selected: str, names: list[str], view: str, source: str, epoch: int, arrived_at_us: int,
    delay: int | None, reason: str = "window closed",
) -> int:  # fmt: skip
    """Put late rows into the ledger, and give their number.

    `selected` gives the rows, their columns `names`, ``__before`` (the largest event time before the row), ``__time``
    (NEVER: it has none), and ``__end``, what the watermark had reached when the row came.
    """
    watermark = "NULL::TIMESTAMP" if delay is None else f"make_timestamp(l.__before - {delay})"
    missing = f"l.__time = {_NO_TIME}"
    return store.execute(
        f"INSERT INTO {LATE_ROWS_TABLE} SELECT {epoch}, l.__seq, make_timestamp({arrived_at_us}), "
        f"{literal(view)}, {literal(source)}, "
        f"CASE WHEN {missing} THEN 'no event time' ELSE {literal(reason)} END, "
        f"CASE WHEN {missing} THEN NULL ELSE make_timestamp(l.__time) END, "
        f"CASE WHEN {missing} THEN NULL ELSE {watermark} END, "
        f"CASE WHEN {missing} THEN NULL ELSE to_microseconds(epoch_us({watermark}) - l.__end) END, "
        f"to_json(struct_pack({_fields(names)}))::VARCHAR FROM ({selected}) AS l"
    )
