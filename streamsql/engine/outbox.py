"""What is on its way to sinks: each epoch's changes of a view, written in the epoch's own transaction.

``_outbox."<id>"``   a sink's changes that have not been delivered: the view's columns as ``o0``.. ., ``__weight``,
                     ``__epoch`` and ``__number``, a row's place in its epoch from 0

A deliverer (`connectors.delivering`) takes changes from memory (`engine.handed`) where it keeps up, else it reads the outbox on
a connection of its own, and lets go of rows by `sinks.delivered`, when the other side has them for good. How far a sink is
belongs to the progress that every epoch saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import DependentObjectsExist
from streamsql.base.faults import reached
from streamsql.base.limits import Limits, exceeded
from streamsql.catalog.dependents import all_dependents
from streamsql.catalog.objects import OUTBOX_SCHEMA, Catalog, Sink
from streamsql.engine.changes import Change
from streamsql.engine.handed import Handing
from streamsql.engine.store import Store
from streamsql.engine.views import ContinuousQuery


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """How far a sink is. Rows of epochs up to `delivered_epoch` are delivered; `rows_in` less `rows_delivered` wait.

    `error` is what stopped it, or where it is `retrying` what it waits for to pass.
    """

    delivered_epoch: int = 0
    rows_in: int = 0
    rows_delivered: int = 0
    paused: bool = False
    error: str | None = None
    retrying: bool = False

    @property
    def rows_waiting(self) -> int:
        return self.rows_in - self.rows_delivered

    @property
    def runs(self) -> bool:
        """Tell whether its deliverer is to deliver."""
        return not self.paused and (self.error is None or self.retrying)


def table_of(sink: Sink) -> str:
    """Name the table that holds a sink's changes."""
    return f'{OUTBOX_SCHEMA}."{sink.id}"'


def create(store: Store, sink: Sink, query: ContinuousQuery, epoch: int, *, snapshot: bool) -> int:
    """Make a sink's table, with the view's rows as the changes of this epoch if wanted; gives how many rows they are.

    Within the caller's transaction.
    """
    rows = query.snapshot_query()
    filled = "" if snapshot else " LIMIT 0"
    store.execute(
        f"CREATE TABLE {table_of(sink)} AS SELECT *, 1::TINYINT AS __weight, {epoch}::BIGINT AS __epoch, "
        f"row_number() OVER () - 1 AS __number FROM ({rows}){filled}"
    )
    return int(store.fetch(f"SELECT count(*) FROM {table_of(sink)}")[0][0])


def mark(catalog: Catalog, queries: Mapping[str, ContinuousQuery]) -> None:
    """Tell queries whether their changes go to a sink."""
    views = {sink.view for sink in catalog.sinks.values()}
    for query in queries.values():
        query.log.delivered = query.name in views


def write(
    store: Store,
    catalog: Catalog,
    queries: Mapping[str, ContinuousQuery],
    changed: Iterable[str],
    epoch: int,
    sinks: Mapping[str, SinkProgress],
    handing: Handing,
) -> Mapping[str, SinkProgress]:
    """Put what an epoch has changed in views into the outboxes of their sinks, within its transaction.

    `changed` names the queries that took the epoch in. Gives how far the sinks are then; `handing` is to hand the changes over
    once they are committed.
    """
    handing.begin(epoch)
    if not catalog.sinks:
        return sinks
    names = set(changed)
    found = dict(sinks)
    for sink in catalog.sinks.values():
        if sink.view in names:
            written = _append(store, sink, queries[sink.view].emitted, epoch)
            handing.stage(sink.id, written)
            count = sum(rows.num_rows for rows in written)
            found[sink.name] = replace(found[sink.name], rows_in=found[sink.name].rows_in + count)
    reached("epoch.outbox_written")
    return found


def _append(store: Store, sink: Sink, changes: Iterable[Change], epoch: int) -> list[pa.Table]:
    number, written = 0, []
    for change in changes:
        if change.whole or not change.rows.num_rows:
            continue
        shown = change.sorted()
        count = shown.rows.num_rows
        weights = pa.array(np.ones(count, np.int8)) if shown.weights is None else shown.weights.cast(pa.int8())
        rows = shown.rows.append_column("__weight", weights)
        if shown.weights is not None:  # what goes stands before what takes its place
            rows = rows.take(pa.array(np.argsort(np.asarray(rows.column("__weight")), kind="stable")))
        rows = rows.append_column("__epoch", pa.array(np.full(count, epoch, np.int64)))
        rows = rows.append_column("__number", pa.array(np.arange(number, number + count, dtype=np.int64)))
        store.insert(table_of(sink), rows)
        written.append(rows)
        number += count
    return written


def full_for(
    catalog: Catalog, sinks: Mapping[str, SinkProgress], limits: Limits, relations: Iterable[str]
) -> Sink | None:
    """Find a sink that has too much to deliver already, of a view that any of these relations feeds."""
    for name, at in sinks.items():
        if at.rows_waiting >= limits.outbox_rows_max:
            sink = catalog.sinks[name]
            if any(sink.view in {v.name for v in all_dependents(catalog, r)} for r in relations):
                return sink
    return None


def check_room(catalog: Catalog, sinks: Mapping[str, SinkProgress], limits: Limits, relations: Iterable[str]) -> None:
    """Raise ProgramLimitExceeded where rows for these relations would add to what is too much for a sink already."""
    sink = full_for(catalog, sinks, limits, relations)
    if sink is not None:
        raise exceeded(limits, "outbox_rows_max", f'what waits to be delivered to sink "{sink.name}"')


def refuse_replacing(catalog: Catalog, names: list[str], verb: str = "replace") -> None:
    """Raise where a view that is to be replaced, or begun anew, has sinks: what they have delivered would not be undone."""
    found = [s for name in names for s in catalog.sinks_of(name)]
    if found:
        raise DependentObjectsExist(
            f"cannot {verb} {names[0]} because sink {found[0].name} depends on it",
            detail=f"{found[0].name} has delivered rows of {found[0].view}",
            hint=f"DROP SINK {found[0].name} first",
        )


def remove(
    store: Store, catalog: Catalog, sinks: Mapping[str, SinkProgress], gone: Iterable[Sink]
) -> tuple[Catalog, Mapping[str, SinkProgress]]:
    """Drop sinks with all that waits for delivery, within the caller's transaction; give the catalog and progress without."""
    for sink in gone:
        store.execute(f"DROP TABLE {table_of(sink)}")
        store.execute(f"DELETE FROM _engine.objects WHERE id = {sink.id}")
        catalog = catalog.without_sink(sink.name)
        catalog = catalog.with_access(catalog.access.without_objects([sink.id]))
    return catalog, {name: at for name, at in sinks.items() if name in catalog.sinks}


def let_go(store: Store, sink: Sink, epoch: int) -> int:
    """Drop the changes up to an epoch, within the caller's transaction; gives how many rows they were."""
    return store.run(f"DELETE FROM {table_of(sink)} WHERE __epoch <= $1", epoch)


def progress_of(catalog: Catalog, sinks: Mapping[str, SinkProgress]) -> list[dict[str, Any]]:
    """Put together what is saved, and shown in ``streamsql.sinks``."""
    return [
        {
            "name": sink.name,
            "view": sink.view,
            "connector": sink.connector["connector"],
            "guarantee": sink.guarantee,
            **asdict(sinks[sink.name]),
        }
        for sink in catalog.sinks.values()
    ]


def recovered(saved: Iterable[Mapping[str, Any]]) -> dict[str, SinkProgress]:
    """Read back what `progress_of` has put together."""
    names = SinkProgress.__slots__
    return {item["name"]: SinkProgress(**{n: item[n] for n in names if n in item}) for item in saved}
