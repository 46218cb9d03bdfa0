"""Change capture from PostgreSQL and the sink into it, each beside what PostgreSQL itself needs.

    snapshot   rows of a table that are there, until they are columns here; beside COPY TO whose bytes nobody looks at
    changes    rows that were inserted in transactions of 1,000, until they are columns here; beside the same stream of the
               walsender, received and not looked at
    sink       epochs of 100,000 rows into a table: copied, and put in the place of those with their key; beside COPY FROM

The estimate: a walsender sends a message a row with a system call each, which costs it more than reading them costs us; so
both should be near their bounds, and the same core divides between the two sides where there are few. The source and the sink
are driven by hand, as their threads do it, so the engine is not part of the figures. Needs PostgreSQL 15's programs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import Address
from streamsql.connectors.postgres.origin import create_slot, start_command
from streamsql.connectors.postgres.sink import PostgresSinkConnector
from streamsql.connectors.postgres.source import PostgresConnector
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Given, Surroundings
from streamsql.pgwire import client
from streamsql.sql.statements import ColumnDefinition
from tests.postgres import cluster

ROWS = 500_000
EPOCHS, EPOCH_ROWS = 5, 100_000
BATCH_ROWS = 65_536
COLUMNS = (
    ColumnDefinition("id", "BIGINT", not_null=True, primary_key=True),
    ColumnDefinition("at", "TIMESTAMP WITH TIME ZONE"),
    ColumnDefinition("customer", "VARCHAR"),
    ColumnDefinition("amount", "DECIMAL(10,2)"),
)
MADE = "SELECT i, now(), 'customer ' || i % 1000, i % 10000 / 100.0 FROM generate_series({}, {}) i"


def run(scale: float = 1.0) -> list[Figure]:
    """Measure all of it."""
    count = max(int(ROWS * scale), 10_000) // 1_000 * 1_000
    with cluster({"wal_level": "logical", "max_wal_size": "4GB", "autovacuum": "off"}) as server:
        options = {"host": "127.0.0.1", "port": str(server.port), "database": "postgres", "user": "tester"}
        sql = Connection(Address("127.0.0.1", server.port, "postgres", "tester", None, "disable", None, 10))
        sql.query(
            "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz, customer text, amount numeric(10, 2)); "
            f"INSERT INTO orders {MADE.format(1, count)}"
        )
        figures = [*_source(sql, options, count), *_sink(sql, options)]
        sql.close()
    return figures


def _rate(rows: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return rows / (time.perf_counter() - began)


def _source(sql: Connection, options: dict[str, str], count: int) -> Iterator[Figure]:
    bound = _rate(count, lambda: sum(map(len, sql.copy_out("COPY orders TO STDOUT (FORMAT csv)"))))
    surroundings = Surroundings(name="orders", identity="bench")
    source = PostgresConnector().open(Given(options, {}), COLUMNS, {}, 0, surroundings)

    def read(left: int) -> None:
        while left > 0:
            batch = source.read(BATCH_ROWS, 0)
            if batch is None:
                time.sleep(0.0005)
                continue
            source.committed({batch.partition: batch.position})
            left -= batch.rows.num_rows

    yield Figure("postgres", "snapshot", _rate(count, lambda: read(count)), "rows/s", bound, "COPY TO, not looked at")
    replication = Connection(sql.address, replication=True)
    place, _ = create_slot(replication, sql, "plain", ours=True)
    source.close()
    for first in range(count, 2 * count, 1_000):
        sql.query(f"INSERT INTO orders {MADE.format(first + 1, first + 1_000)}")
    replication.begin_streaming(start_command("plain", place, "streamsql_orders_bench"))
    bound = _rate(count, lambda: _receive(replication, 2 * count))
    replication.close()
    source = PostgresConnector().open(Given(options, {}), COLUMNS, {"0": str(place)}, 0, surroundings)
    yield Figure("postgres", "changes", _rate(count, lambda: read(count)), "rows/s", bound, "the stream, not looked at")
    source.close()


def _receive(replication: Connection, last_id: int) -> None:
    """Receive until the last row has come."""
    waker, other_end = os.pipe()
    last, kept = f"t\0\0\0{chr(len(str(last_id)))}{last_id}t".encode(), b""
    while last not in (data := kept + replication.receive(10.0, waker)):
        kept = data[-64:]
    os.close(waker)
    os.close(other_end)


def _sink(sql: Connection, options: dict[str, str]) -> Iterator[Figure]:
    numbers = np.arange(EPOCH_ROWS)
    rows = pa.table({"k": numbers % (EPOCH_ROWS // 2), "n": numbers * 1.5, "s": ["a text"] * EPOCH_ROWS})
    columns = (OutputColumn("k", "BIGINT"), OutputColumn("n", "DOUBLE"), OutputColumn("s", "VARCHAR"))
    weights = np.ones(EPOCH_ROWS, np.int8)

    def rate(key: tuple[str, ...]) -> float:
        name = "keyed" if key else "copied"
        given = Given({**options, "table": name, "create_table": "true"}, {})
        opened = PostgresSinkConnector().open(given, Shape(columns, not key, key), Surroundings(identity=name))
        deliveries = [Delivery(rows, weights, np.full(EPOCH_ROWS, e), numbers, e, e) for e in range(1, EPOCHS + 1)]
        found = _rate(EPOCHS * EPOCH_ROWS, lambda: [opened.deliver(d) for d in deliveries])
        opened.close()
        return found

    copied = rate(())
    copy = b"".join(sql.copy_out("COPY copied TO STDOUT"))
    framed = client.message(b"d", copy)
    sql.query("CREATE TABLE plain (LIKE copied)")
    bound = _rate(EPOCHS * EPOCH_ROWS, lambda: sql.copy_in("COPY plain FROM STDIN", [framed]))
    yield Figure("postgres", "sink, copied", copied, "rows/s", bound, "COPY FROM of the same bytes")
    yield Figure("postgres", "sink, by key (each twice an epoch)", rate(("k",)), "rows/s", bound, "the same COPY FROM")
