"""The protocol of what changes are delivered to: topics, tables, files, addresses.

    CREATE SINK alerts FROM hourly WITH (connector = 'kafka', topic = 'alerts');

Each epoch's changes of the view go into the sink's *outbox*, a table, in the epoch's own transaction. A `SinkConnector`
knows a kind of sink: what its options mean and what it guarantees. A `Sink` is one of them, open. One thread
(`delivering.Deliverer`) uses it:

    sink = connector.open(given, shape, surroundings)
    epoch = sink.delivered()       the last epoch that the other side itself says it holds; None if it keeps no such note
    sink.deliver(delivery)         all of it, or an error; when it returns, the other side has it for good
    sink.close()

The rules: deliveries come in the order of epochs, and each epoch is in one delivery, whole. After `deliver` has returned,
and only then, the outbox lets go of the rows, in a later transaction. So a delivery that was cut off may come again with
the same first epoch, maybe with more epochs behind it. A sink that is `EXACTLY_ONCE` notes `Delivery.last_epoch` on the
other side in one transaction with the rows and tells it by `delivered`; the deliverer then leaves out what it has. Another
gives each row a stable key (`Delivery.row_keys`) for readers to tell repeats by.

What goes wrong: `Unavailable` says that the other side cannot be reached now: the sink is opened again and the delivery
repeated, later and later, for as long as it takes. Any other StreamSQLError stops the sink visibly, until ALTER SINK ...
RESUME. Nothing leaves the outbox by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.catalog.objects import OutputColumn
from streamsql.connectors.source import Given, Surroundings


class Guarantee(Enum):
    """What a sink promises of each row, as ``streamsql.sinks`` shows it."""

    EXACTLY_ONCE = "exactly once"
    AT_LEAST_ONCE = "at least once"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a sink is to deliver: the view's columns, whether rows only ever come, and the columns of a row's key.

    `key` is what ``key = 'a, b'`` names, else the columns by which the view groups, where it shows them all; () if there
    is none.
    """

    columns: tuple[OutputColumn, ...]
    append_only: bool
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The changes of the epochs from `first_epoch` to `last_epoch`, in order.

    `rows` has the view's columns by name. `weights` (int8) are +1 for a row that came, -1 for one that went; of an epoch,
    rows that went stand before those that took their place. `epochs` and `numbers` (int64) are each row's epoch and its
    place in it, from 0.
    """

    rows: pa.Table
    weights: npt.NDArray[np.int8]
    epochs: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    first_epoch: int
    last_epoch: int

    def row_keys(self) -> pa.Array:
        """Give a text for each row that is the same whenever the row is delivered again, and no other row's: EPOCH-NUMBER."""
        return pc.binary_join_element_wise(
            pc.cast(pa.array(self.epochs), pa.string()), pc.cast(pa.array(self.numbers), pa.string()), "-"
        )

    def last_of_keys(self, key: tuple[str, ...]) -> Delivery:
        """Give of each key the last change alone, in their order: what an upsert needs.

        Weights tell whether to put the row or to delete it.
        """
        places = self.rows.select(list(key)).append_column("__place", pa.array(np.arange(self.rows.num_rows)))
        last = places.group_by(list(key)).aggregate([("__place", "max")]).column("__place_max")
        taken = np.sort(np.asarray(last))
        return Delivery(
            self.rows.take(pa.array(taken)),
            self.weights[taken],
            self.epochs[taken],
            self.numbers[taken],
            self.first_epoch,
            self.last_epoch,
        )


class Sink(Protocol):
    """An open sink."""

    def delivered(self) -> int | None:
        """Tell the last epoch that the other side holds, from a note that it took in one transaction with the rows; else
        None.

        0 where it keeps such notes, and has none yet.
        """
        ...

    def deliver(self, delivery: Delivery) -> None:
        """Deliver changes, whole and for good. Raises Unavailable, or another StreamSQLError."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class SinkConnector(Protocol):
    """A kind of sink."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        """Check the options and whether such changes can be delivered; tell what is guaranteed. Connects to nothing.

        Raises StreamSQLError with a position.
        """
        ...

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> Sink:
        """Open a sink; the other side's tables, topics or folders are made where that is its way."""
        ...
