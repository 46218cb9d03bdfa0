"""Messages of Kafka's partitions to rows of each: mixed as they come, or in stretches that are moved as a whole."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streamsql.connectors.joined import Payloads
from streamsql.connectors.kafka import METADATA
from streamsql.connectors.kafka.chunks import STRETCH_MIN, Chunk, by_partition, parts
from streamsql.connectors.messages import FORMAT_OPTIONS, MessageDecoder
from streamsql.connectors.settings import read_options
from streamsql.connectors.source import Given
from streamsql.sql.statements import ColumnDefinition


def _chunk(messages: list[tuple[int, int, bytes | None]]) -> Chunk:
    return Chunk(
        Payloads.of([value for _, _, value in messages]),
        np.array([partition for partition, _, _ in messages], np.int64),
        np.array([offset for _, offset, _ in messages], np.int64),
        np.zeros(0, np.int64),
        {"key": [b"%d" % offset for _, offset, _ in messages]},
    )


@pytest.mark.parametrize("length", [1, 3, 4 * STRETCH_MIN])
def test_each_partition_has_its_rows_in_order_however_they_are_mixed(length):
    chosen = random.Random(length)
    ends, chunks = [0] * 4, []
    sent: dict[int, list[tuple[int, bytes | None]]] = {number: [] for number in range(4)}
    for _ in range(6):
        messages: list[tuple[int, int, bytes | None]] = []
        while len(messages) < 1_000:
            number = chosen.randrange(4)
            for _ in range(length):
                offset, ends[number] = ends[number], ends[number] + 1
                value = None if offset % 97 == 5 else b"\n" * (offset % 3) + b"%d/%d" % (number, offset)
                messages.append((number, offset, value))
                sent[number].append((offset, value))
        chunks.append(_chunk(messages))
    options = read_options(Given({"format": "raw"}, {}), FORMAT_OPTIONS, "kafka")
    columns = [ColumnDefinition("t", "VARCHAR"), ColumnDefinition("k", "VARCHAR", include="key")]
    decoder = MessageDecoder(options, columns, METADATA)

    whole = Chunk.joined(by_partition(chunks))
    found = parts(whole, whole.decoded(decoder))

    assert bool((np.diff(whole.partitions) >= 0).all()) == (length > STRETCH_MIN)
    assert [read.batch.partition for read in found] == ["0", "1", "2", "3"]
    for number, read in enumerate(found):
        there = [(offset, value) for offset, value in sent[number] if value is not None]
        assert read.batch.position == ends[number]
        assert read.batch.rows.column("t").to_pylist() == [value.decode() for _, value in there]
        assert read.batch.rows.column("k").to_pylist() == [str(offset) for offset, _ in there]
        assert read.places.tolist() == [offset for offset, _ in there]
        missing = [offset for offset, value in sent[number] if value is None]
        assert read.batch.rejected.column("position").to_pylist() == missing
