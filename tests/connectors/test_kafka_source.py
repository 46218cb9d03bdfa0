"""A topic of a real broker as rows: from where they are wanted, each once, over restarts and whatever else happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from streamsql.base.errors import StreamSQLError, Unavailable
from streamsql.base.limits import Limits
from streamsql.connectors import CONNECTORS, given_of, resolved
from streamsql.connectors.kafka.source import BYTES_MAX
from streamsql.connectors.readers import SourceReaders
from streamsql.connectors.source import Batch, Source, Surroundings
from streamsql.engine.positions import Position
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateStream
from tests.connectors.servers import kafka as servers
from tests.connectors.servers.kafka import Broker
from tests.driver import Database
from tests.running import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[Broker]:
    yield from servers.broker_in(tmp_path_factory.mktemp("kafka"))


class Reading:
    """A source that is read by hand: what it gave, and where it is."""

    def __init__(self, broker: Broker, topic: str, columns: str = "(n INT)", address: str = "", **more: str) -> None:
        options = {"brokers": address or broker.address, "topic": topic, "discovery": "1 s", **more}
        written = ", ".join(
            f"{name.replace('__', '.')} = {value if value.startswith('secret ') else repr(value)}"
            for name, value in options.items()
        )
        (statement,) = parse(f"CREATE STREAM s {columns} WITH (connector = 'kafka', {written})", Limits())
        assert isinstance(statement, CreateStream)
        self.statement = resolved(statement)
        self.allowed: tuple[Path, ...] = ()
        self.positions: dict[str, Position] = {}
        self.rows: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        self.batches: list[Batch] = []
        self.source: Source | None = None

    def open(self) -> Source:
        given = given_of(self.statement.options, {})
        around = Surroundings(self.allowed, name="s", identity="test-1")
        self.source = CONNECTORS["kafka"].open(given, self.statement.columns, dict(self.positions), 0, around)
        return self.source

    def step(self, rows_max: int = 65_536) -> bool:
        """Read once; open the source before, if it is not."""
        batch = (self.source or self.open()).read(rows_max, 0)
        if batch is None:
            time.sleep(0.005)
            return False
        self.batches.append(batch)
        self.positions[batch.partition] = batch.position
        self.rows += batch.rows.to_pylist()
        self.rejected += [{"partition": batch.partition, **r} for r in batch.rejected.to_pylist()]
        return True

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:

        def stepped() -> bool:
            self.step()
            return condition()

        until(stepped, seconds)

    def numbers(self) -> list[int]:
        return sorted(row["n"] for row in self.rows)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None


@pytest.fixture
def reading(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def make(topic: str, *more: str, **options: str) -> Reading:
        made.append(Reading(broker, topic, *more, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(start, start + count)]


def test_all_partitions_are_read_and_reading_goes_on_from_positions(broker, reading):
    broker.create("plain", 3)
    broker.send("plain", numbers(3_000))
    one = reading("plain")
    one.until(lambda: len(one.rows) == 3_000)
    assert one.numbers() == list(range(3_000))
    ends = {str(m.partition()): m.offset() + 1 for m in broker.received("plain")}
    assert {p: at for p, at in one.positions.items() if at} == ends  # of what is empty the position may be known, too
    one.close()
    broker.send("plain", numbers(10, start=3_000))
    one.rows.clear()
    one.until(lambda: len(one.rows) == 10)
    assert one.numbers() == list(range(3_000, 3_010))
    one.source.committed({"0": 4})  # nobody is told without a group


def test_reading_again_from_any_position_gives_the_same_rows(broker, reading):
    broker.create("again")
    broker.send("again", [b'{"op":"u","before":{"n":%d},"after":{"n":%d}}' % (n, n + 1) for n in range(50)])
    whole, cut = (reading("again", "(n INT) INCLUDE OFFSET AS o", format="debezium") for _ in range(2))
    whole.until(lambda: len(whole.rows) == 100)
    while len(cut.rows) < 100:
        if cut.step(rows_max=7):
            # the first tells of the partition, and where it begins
            assert cut.batches[-1].rows.num_rows in ({2, 4, 6} if cut.rows else {0}), "an update is not cut in two"
            cut.close()
    assert cut.rows == whole.rows
    weights = pa.concat_arrays([b.weights for b in cut.batches if b.rows.num_rows])
    assert weights.to_pylist() == [-1, 1] * 50
    assert cut.step(rows_max=1) is False


def test_what_a_message_tells_beside_its_value_is_included(broker, reading):
    broker.create("told", 2, retention_ms="-1")  # the message is older than what a broker keeps
    broker.send("told", [(b"k", b'{"n":1}')], partition=1, headers=[("trace", b"t-1")], timestamp=1_700_000_000_123)
    one = reading(
        "told",
        "(n INT) INCLUDE KEY AS k, PARTITION AS p, OFFSET AS o, TIMESTAMP AS at TIMESTAMP, HEADER 'trace' AS t, HEADERS AS h",
    )
    one.until(lambda: bool(one.rows))
    (row,) = one.rows
    assert str(row.pop("at")) == "2023-11-14 22:13:20.123000"
    assert row == {"n": 1, "k": "k", "p": 1, "o": 0, "t": "t-1", "h": '{"trace": "t-1"}'}


def test_records_that_cannot_be_read_are_set_aside_with_their_offsets(broker, reading):
    broker.create("mixed")
    broker.send("mixed", [b'{"n":1}', b"junk", b"", (b"k", None), b'{"n":"x"}', b'{"n":2}'])
    one = reading("mixed")
    one.until(lambda: len(one.rows) == 2)
    assert one.numbers() == [1, 2]
    assert [(r["position"], r["reason"]) for r in one.rejected] == [
        (1, "invalid JSON"), (2, "an empty message"), (3, "a message without a payload"),
        (4, 'column "n": invalid input for type int4: "x"'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"startup": "latest"}, [100]),
        ({"startup": "timestamp", "startup_timestamp": "1970-01-01 00:00:07"}, [7, 8, 9, 100]),
        ({"startup": "timestamp", "startup_timestamp": "2001-01-01"}, [100]),
        ({"startup": "positions", "startup_positions": "0:4"}, [*range(4, 10), 100]),
    ],
)
def test_a_stream_begins_where_it_is_told_to_and_stays_there_over_a_restart(broker, reading, options, expected):
    topic = f"start-{abs(hash(str(options)))}"
    broker.create(topic, retention_ms="-1")
    for n in range(10):
        broker.send(topic, [b'{"n":%d}' % n], timestamp=n * 1_000 or 1)
    one = reading(topic, **options)
    assert one.step(), "where it begins is told before a row has come"
    assert one.batches[0].rows.num_rows == 0
    one.close()
    broker.send(topic, numbers(1, start=100), timestamp=1_000_000)
    one.until(lambda: len(one.rows) == len(expected))
    assert one.numbers() == expected


def test_partitions_that_are_added_are_read_from_their_beginning(broker, reading):
    from confluent_kafka.cimpl import NewPartitions

    broker.create("growing", 1)
    one = reading("growing", startup="latest")
    one.step()
    admin = broker.admin()
    admin.create_partitions([NewPartitions("growing", 3)])["growing"].result(30)
    until(lambda: len(admin.list_topics("growing", 5).topics["growing"].partitions) == 3)
    for number in range(3):
        broker.send("growing", numbers(5, start=number * 5), partition=number)
    one.until(lambda: len(one.rows) == 15)
    assert one.numbers() == list(range(15))
    assert set(one.positions) == {"0", "1", "2"}


def test_what_is_not_committed_or_was_aborted_is_not_read(broker, reading):
    from confluent_kafka import Producer

    broker.create("transactions")
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": "t"})
    producer.init_transactions(30)
    for first, end in ((0, producer.abort_transaction), (10, producer.commit_transaction)):
        producer.begin_transaction()
        for value in numbers(10, start=first):
            producer.produce("transactions", value)
        producer.flush(30)  # what has not been sent is not aborted, but dropped
        end(30)
    producer.begin_transaction()
    producer.produce("transactions", b'{"n":99}')
    producer.flush(30)
    one, dirty = reading("transactions"), reading("transactions", isolation="read_uncommitted")
    dirty.until(lambda: len(dirty.rows) == 21)
    one.until(lambda: len(one.rows) == 10)
    assert one.numbers() == list(range(10, 20))
    producer.abort_transaction(30)


def test_messages_that_the_broker_no_longer_has_stop_the_stream_or_are_passed_over(broker, reading):
    from confluent_kafka import TopicPartition

    broker.create("short")
    broker.send("short", numbers(10))
    admin = broker.admin()
    admin.delete_records([TopicPartition("short", 0, 6)])[TopicPartition("short", 0)].result(30)
    one = reading("short")
    one.positions["0"] = 2
    with pytest.raises(StreamSQLError) as caught:
        one.until(lambda: False)
    assert caught.value.message == 'Kafka: offsets 2 to 5 of partition 0 of topic "short" are gone'
    assert caught.value.sqlstate == "XX001"
    for rule, expected, end in (("latest", [10], 11), ("earliest", [6, 7, 8, 9, 10, 10], 12)):
        other = reading("short", auto_reset=rule)
        other.positions["0"] = 2
        source: Any = other.open()
        if rule == "latest":
            other.until(lambda source=source: source._next[0] == 10)
        broker.send("short", numbers(1, start=10))
        other.until(lambda other=other, expected=expected: len(other.rows) == len(expected))
        assert other.numbers() == expected
        assert other.positions["0"] == end


def test_a_broker_that_restarts_or_pauses_loses_and_repeats_nothing(broker, reading):
    broker.create("steady", 2)
    broker.send("steady", numbers(1_000))
    one = reading("steady")
    one.until(lambda: len(one.rows) == 1_000)
    broker.stop(at_once=True)
    for _ in range(20):
        assert one.step() is False
    broker.start()
    broker.send("steady", numbers(1_000, start=1_000))
    one.until(lambda: len(one.rows) == 2_000)
    broker.pause()
    try:
        for _ in range(20):
            assert one.step() is False
    finally:
        broker.go_on()
    broker.send("steady", numbers(1_000, start=2_000))
    one.until(lambda: len(one.rows) == 3_000)
    assert one.numbers() == list(range(3_000))


def test_a_reader_that_does_not_ask_stops_what_is_read_ahead(broker, reading):
    broker.create("big")
    broker.send("big", [b'{"n":1,"x":"%s"}' % (b"y" * 100_000)] * 600)  # 60 MB
    one = reading(
        "big", properties__queued__max__messages__kbytes="1024", properties__max__partition__fetch__bytes="200000"
    )
    source: Any = one.open()
    until(lambda: sum(c.byte_count for c in source._chunks) > BYTES_MAX // 2, 60)
    before = [-1]

    def still() -> bool:
        seen, before[0] = before[0], sum(map(len, source._chunks))
        time.sleep(0.3)
        return bool(seen == before[0])

    until(still)
    assert sum(c.byte_count for c in source._chunks) <= BYTES_MAX
    one.until(lambda: len(one.rows) == 600)


def test_tls_and_passwords(broker, reading, monkeypatch):
    broker.create("safe")
    broker.send("safe", numbers(3))
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", "secret")
    monkeypatch.setenv("KAFKA_TEST_CA", broker.certificate.read_text())
    authority = {"ssl_ca": f"secret 'file:{broker.certificate}'"}
    tls = reading("safe", "(n INT)", broker.tls_address, **authority)
    with pytest.raises(StreamSQLError, match="is not below a folder that the server may use"):
        tls.open()
    tls.allowed = (broker.folder,)
    tls.until(lambda: len(tls.rows) == 3)
    login = {
        "ssl_ca": "secret 'env:KAFKA_TEST_CA'",
        "sasl_username": "alice",
        "sasl_password": "secret 'env:KAFKA_TEST_PASSWORD'",
    }
    sasl = reading("safe", "(n INT)", broker.sasl_address, **login)
    sasl.until(lambda: len(sasl.rows) == 3)
    with pytest.raises(Unavailable, match="no answer from") as unchecked:
        reading("safe", "(n INT)", broker.tls_address, security_protocol="ssl").open()
    assert "certificate verify failed" in unchecked.value.message
    monkeypatch.setenv("KAFKA_TEST_PASSWORD", "wrong")
    with pytest.raises(StreamSQLError, match="Authentication failed") as caught:
        reading("safe", "(n INT)", broker.sasl_address, **login).open()
    assert not isinstance(caught.value, Unavailable)


def test_a_topic_that_is_not_there_or_goes_is_told(broker, reading):
    with pytest.raises(StreamSQLError, match='Kafka: there is no topic "nowhere"'):
        reading("nowhere").open()
    broker.create("gone")
    one = reading("gone")
    one.step()
    broker.admin_delete("gone")
    with pytest.raises(StreamSQLError, match=r'Kafka: (topic "gone" is gone|there is no topic "gone")'):
        one.until(lambda: False)


def test_a_group_is_told_of_what_is_committed(broker, reading):
    from confluent_kafka import Consumer, TopicPartition

    broker.create("watched")
    broker.send("watched", numbers(5))
    one = reading("watched", group="people")
    one.until(lambda: len(one.rows) == 5)
    one.source.committed({"0": 5})
    reader = Consumer({"bootstrap.servers": broker.address, "group.id": "people"})
    until(lambda: reader.committed([TopicPartition("watched", 0)], 10)[0].offset == 5)
    reader.close()


def test_a_partition_that_lags_is_not_late_and_defaults_are_filled_in(broker: Broker):
    broker.create("times", 2)
    at = [b'{"ts":"2026-01-01 00:%02d:00"}' % minute for minute in range(60)]
    broker.send("times", at, partition=0)
    broker.send("times", at[:30], partition=1)  # half an hour behind
    with Database() as database:
        database.execute(
            "CREATE STREAM t (ts TIMESTAMP, n INT NOT NULL DEFAULT 7, WATERMARK FOR ts AS ts) "
            f"WITH (connector = 'kafka', brokers = '{broker.address}', topic = 'times')"
        )
        database.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT window_start, count(*) AS c, sum(n) AS n FROM t "
            "GROUP BY window(ts, '10 minutes') EMIT APPEND"
        )
        readers = SourceReaders(database.engine)
        readers.start()
        until(lambda: database.query("SELECT rows_in FROM streamsql.sources") == [("90",)], 30)
        readers.stop()
        assert [row[1:] for row in database.query("SELECT * FROM v")] == [("20", "140"), ("20", "140")]
        assert database.query("SELECT rows_late FROM streamsql.views") == [("0",)]
        assert [row[0] for row in database.query("SELECT position FROM streamsql.partitions ORDER BY partition")] == [
            "60", "30"
        ]  # fmt: skip


def shows(database: Database, expected: tuple[str | None, ...]) -> bool:
    return database.query("SELECT * FROM v") == [expected]


def test_a_stream_is_read_again_from_a_time_or_from_offsets(broker: Broker):
    broker.create("resets", 2)
    begin = datetime.now(UTC) - timedelta(hours=1)  # what is older than a week the broker drops
    for minute in range(10):
        at = begin + timedelta(minutes=minute)
        broker.send("resets", [b'{"n":%d}' % minute], partition=minute % 2, timestamp=round(at.timestamp() * 1_000))
    with Database() as database:
        database.execute(
            "CREATE STREAM r (n INT) "
            f"WITH (connector = 'kafka', brokers = '{broker.address}', topic = 'resets', startup = 'latest')"
        )
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, min(n) AS first FROM r")
        readers = SourceReaders(database.engine)
        readers.start()
        for target, expected in (
            ("EARLIEST", ("10", "0")),
            (f"TIMESTAMP '{begin + timedelta(minutes=4, seconds=30)}'", ("5", "5")),
            ("""POSITIONS '{"0": 4, "1": 3}'""", ("3", "7")),
            ("LATEST", ("0", None)),
        ):
            database.execute(f"ALTER STREAM r RESET TO {target}")
            until(partial(shows, database, expected), 30)
        broker.send("resets", [b'{"n":99}'])
        until(lambda: database.query("SELECT * FROM v") == [("1", "99")], 30)
        readers.stop()


def test_a_table_has_the_last_row_of_each_key_and_none_that_was_deleted(broker):
    for topic in ("by_object", "by_text"):
        broker.create(topic)
    broker.send("by_object", [(b'{"id":%d}' % n, b'{"id":%d,"n":%d}' % (n, n)) for n in range(6)])
    broker.send("by_object", [(b'{"id":1}', None), (b'{"id":2}', b'{"id":2,"n":22}'), (b"no", None), (None, None)])
    broker.send("by_object", [(b'{"id":3}', None), (b'{"id":3}', b'{"id":3}'), (b'{"id":9}', None)])
    broker.send("by_text", [(b"1", b'{"id":1,"n":1}'), (b"2", b'{"id":2,"n":2}'), (b"1", None), (b"x", None)])
    where = f"connector = 'kafka', brokers = '{broker.address}'"
    with Database() as database:
        readers = SourceReaders(database.engine)
        readers.start()
        database.execute(f"CREATE TABLE a (id INT PRIMARY KEY, n INT DEFAULT 7) WITH ({where}, topic = 'by_object')")
        database.execute(
            f"CREATE TABLE b (id INT PRIMARY KEY, n INT) WITH ({where}, topic = 'by_text', key_format = 'raw')"
        )
        positions = "SELECT count(*) FROM streamsql.sources WHERE positions IN ('{\"0\":13}', '{\"0\":4}')"
        until(lambda: database.query(positions) == [("2",)])
        assert sorted(database.query("SELECT * FROM a")) == [
            ("0", "0"),
            ("2", "22"),
            ("3", "7"),
            ("4", "4"),
            ("5", "5"),
        ]
        assert database.query("SELECT * FROM b") == [("2", "2")]
        assert database.query("SELECT stream, position, reason FROM streamsql.rejected_rows ORDER BY 1, 2") == [
            ("a", "8", "no payload, and in the key: invalid JSON"),
            ("a", "9", "neither a payload nor a key"),
            ("b", "3", 'no payload, and in the key: column "id": invalid input for type int4: "x"'),
        ]
        for option, message in (
            ("tombstones = 'delete'", "a stream's rows are not deleted"),
            ("key_format = 'raw'", 'the option "key_format" is for tables whose rows are deleted by key'),
        ):
            with pytest.raises(StreamSQLError, match=message):
                database.execute(f"CREATE STREAM s (n INT) WITH ({where}, topic = 'by_text', {option})")
        readers.stop()
