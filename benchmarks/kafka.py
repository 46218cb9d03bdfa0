"""Kafka: rows of a topic into a windowed view, views into a topic, and from topic to topic.

Estimate. librdkafka and its Python client give 100-byte messages at about a second of CPU for each million, half of it in the
one thread that may run Python; a loop that only reads them is the bound. We read the same messages in the same way, so each
further microsecond a row is ours: JSON to columns 0.7 (DuckDB, beside the reading, while there are cores), the epoch 0.2.

A sink's bound is a producer that sends the same payloads without transactions. What it adds is a round trip of a few
milliseconds for each delivery: the offset, the end of the transaction.

From topic to topic a row waits for the source's poll, an epoch (3 ms), a transaction of the sink (two round trips, which
the broker writes to disk) and the reader's poll. Needs java and Kafka's jars in build/kafka, as .ci/run brings them.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from benchmarks.figures import Figure, say
from benchmarks.servers import Server
from benchmarks.servers import streamsql as streamsql_server
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors import SINKS
from streamsql.connectors.payloads import PayloadWriter
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Given, Surroundings
from tests.connectors.servers.kafka import Broker, missing

ROWS = 2_000_000
PARTITIONS = 8
SINK_ROWS = 400_000
DELIVERY_ROWS = 50_000
PACE_PER_SECOND = 10_000
PACED_SECONDS = 20
WINDOWED = (
    "CREATE MATERIALIZED VIEW v AS SELECT window_start, symbol, count(*) AS n, avg(price) AS mean, max(qty) AS most "
    "FROM trades GROUP BY window(ts, '1 minute'), symbol WITH WATERMARK '5 seconds' EMIT APPEND"
)


def run(scale: float) -> list[Figure]:
    """Measure all; nothing, where there is no broker."""
    lacks = missing()
    if lacks is not None:
        print(f"kafka: {lacks}")
        return []
    with _broker() as broker:
        return [*_source(broker, scale), *_sink(broker, scale), *_latency(broker, scale)]


@contextmanager
def _broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name))
        try:
            broker.start()
            yield broker
        finally:
            broker.stop(at_once=True)


def _producer(broker: Broker, **more: Any) -> Any:
    from confluent_kafka import Producer

    return Producer({
        "bootstrap.servers": broker.address, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "log_level": 0, **more,
    })  # fmt: skip


def _fill(broker: Broker, rows: int) -> None:
    producer = _producer(broker)
    made = [
        json.dumps({
            "ts": f"2026-01-01T{n // 3_600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000", "symbol": f"S{n % 1_000:04d}",
            "price": n % 977 / 8 + 100, "qty": n % 100, "id": 10_000_000 + n,
        }).encode()
        for n in range(86_400)
    ]  # fmt: skip
    for start in range(0, rows, 10_000):
        for number in range(PARTITIONS):
            part = range(start + number, min(start + 10_000, rows), PARTITIONS)
            messages = [{"value": made[n * 86_400 // rows]} for n in part]
            while messages:
                producer.produce_batch("trades", messages, partition=number)
                messages = [{"value": m["value"]} for m in messages if "_error" in m]
                producer.poll(0.05 if messages else 0)
    producer.flush(60)


def _plain_loop(broker: Broker, rows: int) -> tuple[float, float]:
    """Only read; give the seconds and those of CPU."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "loop", "enable.auto.commit": False})
    consumer.assign([TopicPartition("trades", number, 0) for number in range(PARTITIONS)])
    begun, cpu, seen = time.perf_counter(), time.process_time(), 0
    while seen < rows:
        seen += len(consumer.consume(10_000, 0.1))
    seconds = time.perf_counter() - begun, time.process_time() - cpu
    consumer.close()
    return seconds


def _source(broker: Broker, scale: float) -> list[Figure]:
    rows = max(100_000, int(ROWS * scale))
    broker.create("trades", PARTITIONS)
    _fill(broker, rows)
    plain, plain_cpu = _plain_loop(broker, rows)
    with streamsql_server() as server, psycopg.connect(server.url, autocommit=True) as connection:
        begun, cpu = time.perf_counter(), _cpu(server)
        connection.execute(
            "CREATE STREAM trades (ts TIMESTAMP, symbol TEXT, price DOUBLE PRECISION, qty INT, id BIGINT) "
            f"WITH (connector = 'kafka', brokers = '{broker.address}', topic = 'trades', retention = '0')"
        )
        connection.execute(WINDOWED)
        query = "SELECT rows_in FROM streamsql.sources"
        while connection.execute(query).fetchall() != [(rows,)]:
            time.sleep(0.02)
        seconds, used = time.perf_counter() - begun, _cpu(server) - cpu
        peak = server.rss_peak_bytes
    loop = "a loop that only reads"
    return [
        say(
            Figure(
                "kafka",
                "JSON into a windowed view",
                rows / seconds,
                "rows/s",
                rows / plain,
                loop,
                300_000,
                ratio_min=0.5,
            )
        ),
        say(Figure("kafka", "the same, a second of CPU time", rows / used, "rows/s", rows / plain_cpu, loop)),
        say(Figure("kafka", "the server's largest size, behind by all rows", peak / 2**20, "MiB", value_max=1_024)),
    ]


def _cpu(server: Server) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sink(broker: Broker, scale: float) -> list[Figure]:
    rows = max(DELIVERY_ROWS, int(SINK_ROWS * scale)) // DELIVERY_ROWS * DELIVERY_ROWS
    broker.create("sunk", PARTITIONS)
    shape = Shape(
        (OutputColumn("symbol", "VARCHAR"), OutputColumn("n", "BIGINT"), OutputColumn("mean", "DOUBLE")), True, ()
    )
    given = Given({"brokers": broker.address, "topic": "sunk"}, {})
    numbers = np.arange(DELIVERY_ROWS)
    table = pa.table({
        "symbol": pa.array([f"S{n % 1_000:04d}" for n in range(DELIVERY_ROWS)]), "n": pa.array(numbers),
        "mean": pa.array(numbers / 8),
    })  # fmt: skip
    sink = SINKS["kafka"].open(given, shape, Surroundings(name="sunk", identity="benchmark-1"))
    sink.delivered()
    begun = time.perf_counter()
    for epoch in range(1, rows // DELIVERY_ROWS + 1):
        weights = np.ones(DELIVERY_ROWS, np.int8)
        sink.deliver(Delivery(table, weights, np.full(DELIVERY_ROWS, epoch), numbers, epoch, epoch))
    seconds = time.perf_counter() - begun
    sink.close()
    writer = PayloadWriter({"format": "json", "key_format": "json"}, shape)
    made = writer.write(Delivery(table, weights, numbers, numbers, 1, 1)).values.to_pylist()
    producer = _producer(broker, **{"enable.idempotence": True})
    begun = time.perf_counter()
    for _ in range(rows // DELIVERY_ROWS):
        for value in made:
            producer.produce("sunk", value)
        producer.flush(60)
    plain = time.perf_counter() - begun
    return [
        say(
            Figure("kafka", "sink with transactions", rows / seconds, "rows/s", rows / plain, "a producer without them")
        )
    ]


def _latency(broker: Broker, scale: float) -> list[Figure]:
    """Send at a steady pace; each row carries when it was sent."""
    from confluent_kafka import Consumer, TopicPartition

    seconds = max(5.0, PACED_SECONDS * min(scale, 1))
    broker.create("sent", PARTITIONS)
    broker.create("arrived", 1)
    where = f"connector = 'kafka', brokers = '{broker.address}'"
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "l", "isolation.level": "read_committed",
                         "fetch.wait.max.ms": 10})  # fmt: skip
    consumer.assign([TopicPartition("arrived", 0, 0)])
    with streamsql_server() as server, psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE STREAM sent (at BIGINT, n INT) WITH ({where}, topic = 'sent', retention = '0', "
            "properties.fetch.wait.max.ms = 10)"
        )
        connection.execute("CREATE MATERIALIZED VIEW passed AS SELECT at, n FROM sent EMIT APPEND")
        connection.execute(f"CREATE SINK out FROM passed WITH ({where}, topic = 'arrived', properties.linger.ms = 0)")
        total = int(PACE_PER_SECOND * seconds)
        sender = threading.Thread(target=_send_paced, args=(broker, total))
        sender.start()
        waits: list[int] = []
        deadline = time.monotonic() + seconds + 60
        while len(waits) < total and time.monotonic() < deadline:
            messages = consumer.consume(1, 0.1)
            messages += consumer.consume(10_000, 0) if messages else []
            now = time.time_ns()
            waits += [now - json.loads(m.value())["at"] for m in messages if m.error() is None]
        sender.join()
    consumer.close()
    steady = np.array(waits[total // 5 :]) / 1e6  # not the first fifth: the server has just begun
    note = f"at {PACE_PER_SECOND} rows/s" + (
        "" if len(waits) == total else f"; {total - len(waits)} rows did not arrive in time"
    )
    half, most = np.percentile(steady, [50, 99])
    return [
        say(Figure("kafka", "from topic to topic, half of the rows", float(half), "ms", value_max=25, note=note)),
        say(Figure("kafka", "from topic to topic, 99 of 100 rows", float(most), "ms", value_max=100, note=note)),
    ]


def _send_paced(broker: Broker, total: int) -> None:
    producer = _producer(broker)
    begun, sent = time.monotonic(), 0
    while sent < total:
        due = min(total, int((time.monotonic() - begun) * PACE_PER_SECOND))
        for number in range(sent, due):
            producer.produce("sent", b'{"at":%d,"n":%d}' % (time.time_ns(), number))
        sent = due
        producer.poll(0.001)
    producer.flush(30)
