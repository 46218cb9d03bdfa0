"""Messages of Kafka on their way to rows: taken apart at once, while they are few and still in the processor's cache.

chunk = Chunk.of(messages, decoder.wanted)           payloads joined, columns of offsets, and what else is wanted
found = Chunk.joined(by_partition(chunks)).decoded(decoder)   rows, of all partitions
parts(chunk, found)                                  rows of one partition each, with the offsets that they lead to
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.connectors.joined import Payloads
from streamsql.connectors.messages import DecodedMessages, MessageDecoder
from streamsql.connectors.source import Batch

if TYPE_CHECKING:
    from confluent_kafka import Message

Integers = npt.NDArray[np.int64]
# messages of one partition, on average, from which on a stretch is moved as a whole
STRETCH_MIN = 100


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some messages: what they hold, of each its partition and offset, and what a stream includes beside these."""

    payloads: Payloads
    partitions: Integers
    offsets: Integers
    times: Integers  # milliseconds; below 0 where there is none
    beside: dict[str, list[Any]]

    @classmethod
    def of(cls, messages: Sequence[Message], wanted: Set[str]) -> Chunk:
        from confluent_kafka import Message

        count = len(messages)
        times = (t for _, t in map(Message.timestamp, messages)) if "timestamp" in wanted else ()
        beside: dict[str, list[Any]] = {}
        if "key" in wanted:
            beside["key"] = list(map(Message.key, messages))
        if "headers" in wanted:
            beside["headers"] = list(map(Message.headers, messages))
        return cls(
            Payloads.of(list(map(Message.value, messages))),
            np.fromiter(map(Message.partition, messages), np.int64, count),
            np.fromiter(map(Message.offset, messages), np.int64, count),
            np.fromiter(times, np.int64),
            beside,
        )

    @classmethod
    def joined(cls, chunks: Sequence[Chunk]) -> Chunk:
        """Put some together, in order."""
        first = chunks[0]
        if len(chunks) == 1:
            return first
        return cls(
            Payloads.joined([c.payloads for c in chunks]),
            np.concatenate([c.partitions for c in chunks]),
            np.concatenate([c.offsets for c in chunks]),
            np.concatenate([c.times for c in chunks]),
            {name: [v for c in chunks for v in c.beside[name]] for name in first.beside},
        )

    def stretches(self) -> list[Chunk]:
        """Cut it where the partition changes."""
        edges = [0, *(np.flatnonzero(np.diff(self.partitions)) + 1).tolist(), len(self)]
        return [self] if len(edges) == 2 else [self._part(*two) for two in itertools.pairwise(edges)]

    def _part(self, begin: int, stop: int) -> Chunk:
        beside = {name: values[begin:stop] for name, values in self.beside.items()}
        return Chunk(
            self.payloads.part(begin, stop), self.partitions[begin:stop], self.offsets[begin:stop],
            self.times[begin:stop], beside,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.partitions)

    @property
    def byte_count(self) -> int:
        return len(self.payloads.data)

    def decoded(self, decoder: MessageDecoder) -> DecodedMessages:
        """Read the messages."""
        told: dict[str, Any] = dict(self.beside)
        if "partition" in decoder.wanted:
            told["partition"] = pa.array(self.partitions, pa.int32())
        if "offset" in decoder.wanted:
            told["offset"] = pa.array(self.offsets, pa.int64())
        if "timestamp" in decoder.wanted:
            told["timestamp"] = pa.array(self.times * 1_000, mask=self.times < 0).cast(pa.timestamp("us", "UTC"))
        return decoder.decode(self.payloads, told)


def by_partition(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Order messages by their partitions, within which they stay in order, where they come in long stretches.

    So do those of a topic that is read from far behind; to move rows is dearer then than to move payloads. Where they are mixed
    they stay as they are, and `parts` tells their rows apart.
    """
    count = sum(map(len, chunks))
    changes = sum(int(np.count_nonzero(np.diff(c.partitions))) for c in chunks)
    if (len(chunks) + changes) * STRETCH_MIN > count:
        return list(chunks)
    return sorted((s for c in chunks for s in c.stretches()), key=lambda s: int(s.partitions[0]))


@dataclass(frozen=True, slots=True)
class Read:
    """Rows of one partition; `places` are the offsets of each row's message."""

    batch: Batch
    places: Integers

    @classmethod
    def of_nothing(cls, found: DecodedMessages, partition: int, position: int) -> Read:
        """Give what tells of a partition, where there is nothing to read yet."""
        return cls(Batch(str(partition), found.rows, position, own_watermark=True), np.zeros(0, np.int64))

    def cut(self, rows_max: int) -> tuple[Read, Read | None]:
        """Give at most so many rows, and the rest. No message is cut in two, though it has more rows than that."""
        batch, places = self.batch, self.places
        if batch.rows.num_rows <= rows_max:
            return self, None
        cut = int(np.searchsorted(places, places[rows_max], side="left"))
        cut = cut or int(np.searchsorted(places, places[0], side="right"))
        if cut == batch.rows.num_rows:
            return self, None
        at = int(places[cut])
        before = int(np.searchsorted(batch.rejected.column("position").to_numpy(), at))
        weights = batch.weights
        one = replace(
            batch, rows=batch.rows.slice(0, cut), position=at, rejected=batch.rejected.slice(0, before),
            weights=None if weights is None else weights.slice(0, cut),
        )  # fmt: skip
        two = replace(
            batch, rows=batch.rows.slice(cut), rejected=batch.rejected.slice(before),
            weights=None if weights is None else weights.slice(cut),
        )  # fmt: skip
        return Read(one, places[:cut]), Read(two, places[cut:])


def parts(chunk: Chunk, found: DecodedMessages) -> list[Read]:
    """Tell the rows of partitions apart. Within a partition they stay in order."""
    owners = chunk.partitions[found.messages]
    rows, weights, messages = found.rows, found.weights, found.messages
    if (owners[1:] < owners[:-1]).any():
        order = np.argsort(owners, kind="stable")
        rows, messages, owners = rows.take(pa.array(order)), messages[order], owners[order]
        weights = None if weights is None else weights.take(pa.array(order))
    aside = found.rejected.column("position").to_numpy()
    aside_owners = chunk.partitions[aside]
    made = []
    for number in np.unique(chunk.partitions).tolist():
        low, high = (int(i) for i in np.searchsorted(owners, [number, number + 1]))
        rejected = found.rejected.slice(0, 0)
        own = aside_owners == number
        if own.any():
            rejected = found.rejected.filter(pa.array(own)).set_column(
                0, "position", pa.array(chunk.offsets[aside[own]])
            )
        batch = Batch(
            str(number), rows.slice(low, high - low), int(chunk.offsets[chunk.partitions == number].max()) + 1, rejected,
            None if weights is None else weights.slice(low, high - low),
            own_watermark=True, defaults=found.defaults,
        )  # fmt: skip
        made.append(Read(batch, chunk.offsets[messages[low:high]]))
    return made
