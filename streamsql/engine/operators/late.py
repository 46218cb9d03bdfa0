"""Rows that come behind the watermark of an operator over origins: which they are, and their way into the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.catalog.objects import quoted
from streamsql.engine import ledger
from streamsql.engine.flow import Arriving
from streamsql.engine.origins import typed
from streamsql.engine.store import Store
from streamsql.engine.watermark import MICROSECONDS
from streamsql.plan.origins import Origin


class Owner(Protocol):
    """The query that an operator is inside of."""

    @property
    def id(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...


def late_rows(times: MICROSECONDS, valid: npt.NDArray[np.bool_] | None, before: MICROSECONDS) -> npt.NDArray[np.bool_]:
    """Tell which rows come behind the watermark `before` each, or have no time."""
    late = times < before
    return late if valid is None else late | ~valid


def record_late(
    store: Store, owner: Owner, origin: Origin, rows: pa.Table, times: MICROSECONDS, before: MICROSECONDS,
    late: npt.NDArray[np.bool_], arriving: Arriving, reason: str, labels: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Put the `late` ones of an origin's rows into the ledger, and give their number.

    `labels` are the names that the ledger shows, each with that of its column; by default the columns' own.
    """
    labels = labels or {name: name for name in rows.column_names if not name.startswith("__")}
    given = rows.filter(pa.array(late))
    for name, column in (("__before", before), ("__time", times), ("__end", times)):
        given = given.append_column(name, pa.array(column[late]))
    store.register("__late", given)
    shown = "".join(f"{quoted(name)} AS {quoted(label)}, " for label, name in labels.items())
    return ledger.record_late(
        store, f"SELECT {shown}__seq, __before, __time, __end FROM {typed('__late', origin.columns)}", list(labels),
        owner.label, ", ".join(origin.names), arriving.epoch, arriving.now_us, 0, reason,
    )  # fmt: skip
