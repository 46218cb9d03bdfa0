"""Kafka: rows of a topic into a windowed view, views into a topic, and from topic to topic.

Estimate. librdkafka and its Python client give 100-byte messages at 0.6 to 0.7 s of CPU for each million, where they are
taken a thousand at a time; a loop that only reads them, with our settings, is the bound. We read the same messages 500 at a
time, since they are still to be taken apart. What a row costs then (microseconds of CPU, of about 3; two cores): the thread
that takes messages 0.7, of which the client's own objects are 0.45 and taking them apart 0.25; JSON to columns and partitions
apart 0.85; the epoch 0.4, and as much for DuckDB's second thread; librdkafka 0.25; the broker 0.4 beside. The first two hold
Python's lock for most of their time, so they go on side by side only in part: 0.5 of the bound is what two cores could give
at best. To have messages as one buffer, without an object for each, the client has no way (2.16). Smaller fetches and queues,
so that payloads are still in the processor's cache, gain nothing. To ask for `streamsql.sources` is a query of 5 ms, so it
is asked seldom.

A sink's bound is a producer that sends the same payloads without transactions. What it adds is a round trip of a few
milliseconds for each delivery: the offset, the end of the transaction.

From topic to topic a row waits for the source's poll, an epoch, a transaction of the sink and the reader's poll. The bound is
a producer and a consumer with nothing between, for whom the broker alone takes half a core. A transaction takes 7 to 10 ms
alone, and as much of the broker's CPU (eight appends to its logs, five requests, of which two pairs go side by side); an
epoch of 300 rows 6 ms of CPU, its delivery 3, the reader 3: on two cores about 50 cycles a second are all there is, and a
stage that has no core waits. So it is work that costs latency, and a reader that keeps up rests (docs/decisions, "Readers
that keep up rest"). An offset first and the messages after it spares librdkafka's 20 ms of waiting where a transaction is
begun within a few milliseconds of the last one's end, and costs the 2.5 ms that both take side by side: no gain. Nor is there
one in answers of the broker that wait for more (`fetch.min.bytes`), or in messages that do not wait to be sent (`linger.ms =
0`). Needs java and Kafka's jars in build/kafka, as .ci/run brings them.
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
import numpy.typing as npt
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

    consumer = Consumer({
        "bootstrap.servers": broker.address, "group.id": "loop", "enable.auto.commit": False, "fetch.queue.backoff.ms": 10,
    })  # fmt: skip
    consumer.assign([TopicPartition("trades", number, 0) for number in range(PARTITIONS)])
    begun, cpu, seen = time.perf_counter(), time.process_time(), 0
    while seen < rows:
        seen += len(consumer.consume(1_000, 0.1))
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
            time.sleep(0.1)
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
    total = int(PACE_PER_SECOND * max(5.0, PACED_SECONDS * min(scale, 1)))
    broker.create("sent", PARTITIONS)
    broker.create("arrived", 1)
    where = f"connector = 'kafka', brokers = '{broker.address}'"
    _waits(broker, "sent", PARTITIONS, total // 2)  # the broker has just begun
    alone = _waits(broker, "sent", PARTITIONS, total // 2)
    with streamsql_server() as server, psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE STREAM sent (at BIGINT, n INT) WITH ({where}, topic = 'sent', startup = 'latest', retention = '0')"
        )
        connection.execute("CREATE MATERIALIZED VIEW passed AS SELECT at, n FROM sent EMIT APPEND")
        connection.execute(f"CREATE SINK out FROM passed WITH ({where}, topic = 'arrived')")
        while connection.execute("SELECT count(*) FROM streamsql.sources WHERE positions <> '{}'").fetchone() != (1,):
            time.sleep(0.02)
        _waits(broker, "arrived", 1, total // 2)
        waits = _waits(broker, "arrived", 1, total)
    missing_rows = total - total // 5 - len(waits)
    note = f"at {PACE_PER_SECOND} rows/s" + (f"; {missing_rows} rows did not arrive in time" if missing_rows else "")
    said = []
    for share, name, bound in ((50, "half of the rows", 25), (99, "99 of 100 rows", 100)):
        least, most = float(np.percentile(alone, share)), float(np.percentile(waits, share))
        what = f"from topic to topic, {name}"
        said.append(
            say(Figure("kafka", what, most, "ms", least, "a producer and a consumer alone", value_max=bound, note=note))
        )
    return said


def _waits(broker: Broker, topic: str, partitions: int, total: int) -> npt.NDArray[np.float64]:
    """Send so many rows, and read them again from a topic; give how long each was on its way, in milliseconds."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "l", "isolation.level": "read_committed",
                         "fetch.wait.max.ms": 10})  # fmt: skip
    places = [TopicPartition(topic, number) for number in range(partitions)]
    ends = [consumer.get_watermark_offsets(place)[1] for place in places]
    consumer.assign([TopicPartition(topic, number, end) for number, end in enumerate(ends)])
    sender = threading.Thread(target=_send_paced, args=(broker, total))
    sender.start()
    waits: list[int] = []
    deadline = time.monotonic() + total / PACE_PER_SECOND + 60
    while len(waits) < total and time.monotonic() < deadline:
        messages = consumer.consume(1, 0.1)
        messages += consumer.consume(10_000, 0) if messages else []
        now = time.time_ns()
        waits += [now - json.loads(m.value())["at"] for m in messages if m.error() is None]
    sender.join()
    consumer.close()
    return np.array(waits[total // 5 :]) / 1e6  # not the first fifth: the server has just begun


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
