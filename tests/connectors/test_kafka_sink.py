"""Changes as messages of a real broker's topic: each once for readers of what is committed, whatever is cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streamsql.base.errors import ObjectInUse, StreamSQLError, Unavailable
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors import SINKS
from streamsql.connectors.kafka.sink import KafkaSink
from streamsql.connectors.sink import Delivery, Guarantee, Shape
from streamsql.connectors.source import Given, Surroundings
from tests.connectors.servers import kafka as servers
from tests.connectors.servers.kafka import Broker
from tests.crash.servers import serving
from tests.running import until

EXAMPLE = Path(__file__).parents[2] / "examples/kafka"
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

COLUMNS = (OutputColumn("k", "VARCHAR"), OutputColumn("n", "BIGINT"))
APPENDS = Shape(COLUMNS, append_only=True, key=())
CHANGES = Shape(COLUMNS, append_only=False, key=("k",))

Change = tuple[int, int, str, int]  # epoch, weight, k, n


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[Broker]:
    yield from servers.broker_in(tmp_path_factory.mktemp("kafka"))


def opened(broker: Broker, topic: str, shape: Shape = APPENDS, identity: str = "", **options: str) -> Any:
    given = Given({"brokers": broker.address, "topic": topic, **options}, {})
    SINKS["kafka"].check(given, shape)
    return SINKS["kafka"].open(given, shape, Surroundings(name="s", identity=identity or f"test-{topic}"))


def delivery(changes: Sequence[Change]) -> Delivery:
    epochs, weights, keys, numbers = (list(column) for column in zip(*changes, strict=True))
    seen: dict[int, int] = {}
    places = [seen.setdefault(e, 0) for e in epochs]
    for index, epoch in enumerate(epochs):
        places[index] = seen[epoch]
        seen[epoch] += 1
    rows = pa.table({"k": pa.array(keys, pa.string()), "n": pa.array(numbers, pa.int64())})
    return Delivery(rows, np.array(weights, np.int8), np.array(epochs), np.array(places), epochs[0], epochs[-1])


def appended(epoch: int, count: int = 10) -> Delivery:
    return delivery([(epoch, 1, f"e{epoch}", n) for n in range(count)])


def values(messages: Sequence[Any]) -> list[Any]:
    return [None if m.value() is None else json.loads(m.value()) for m in messages]


def test_each_delivery_is_there_once_and_its_epoch_with_it(broker):
    broker.create("once", 2)
    sink = opened(broker, "once")
    assert sink.delivered() == 0
    sink.deliver(appended(3))
    sink.deliver(appended(7))
    assert sink.delivered() == 7
    sink.close()
    again = opened(broker, "once")
    assert again.delivered() == 7
    again.deliver(appended(8))
    again.close()
    found = values(broker.received("once"))
    assert sorted((r["k"], r["n"]) for r in found) == [(f"e{e}", n) for e in (3, 7, 8) for n in range(10)]


def test_a_delivery_that_was_cut_off_is_not_there(broker, monkeypatch):
    broker.create("cut")
    sink = opened(broker, "cut")
    sink.deliver(appended(1))

    send = KafkaSink._send

    def cut(*arguments: Any) -> None:
        send(*arguments)
        sink._producer.flush(30)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KafkaSink, "_send", cut)
        with pytest.raises(KeyboardInterrupt):
            sink.deliver(appended(2))
    assert len(broker.received("cut", "read_uncommitted")) == 20
    again = opened(broker, "cut")  # as after a crash: nobody has closed the first one
    assert again.delivered() == 1
    again.deliver(appended(2))
    assert len(broker.received("cut")) == 20
    third = opened(broker, "cut")
    with pytest.raises(ObjectInUse, match="another producer has taken over"):
        again.deliver(appended(3))
    assert third.delivered() == 2
    assert len(broker.received("cut")) == 20
    for each in (sink, again, third):
        each.close()


def held_until_it_ends(broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
    """Hold deliveries with an open transaction until the broker has ended it, so many times."""
    send, left = KafkaSink._send, [times]

    def held(sink: Any, *arguments: Any) -> None:
        send(sink, *arguments)
        if left[0]:
            left[0] -= 1
            sink._producer.flush(30)
            assert broker.has_open_transaction(topic)
            until(lambda: not broker.has_open_transaction(topic), 30)

    monkeypatch.setattr(KafkaSink, "_send", held)


SHORT: dict[str, Any] = {"properties.transaction.timeout.ms": "1000"}


def test_a_transaction_that_outlives_its_timeout_is_made_again(broker, monkeypatch):
    broker.create("stalled")
    sink = opened(broker, "stalled", **SHORT)
    sink.deliver(appended(1))
    held_until_it_ends(broker, "stalled", monkeypatch)
    sink.deliver(appended(2))
    sink.deliver(appended(3))
    assert sink.delivered() == 3
    sink.close()
    assert len(broker.received("stalled", "read_uncommitted")) == 40
    found = values(broker.received("stalled"))
    assert [(r["k"], r["n"]) for r in found] == [(f"e{e}", n) for e in (1, 2, 3) for n in range(10)]


def test_a_sink_whose_transactions_never_end_in_time_stops_and_says_so(broker, monkeypatch):
    broker.create("slow")
    sink = opened(broker, "slow", **SHORT)
    held_until_it_ends(broker, "slow", monkeypatch, times=3)
    with pytest.raises(ObjectInUse, match="the broker ended 3 transactions in a row after their timeout") as caught:
        sink.deliver(appended(1))
    assert "properties.transaction.timeout.ms" in str(caught.value.hint)
    sink.deliver(appended(1))
    sink.close()
    assert len(broker.received("slow")) == 10


@pytest.mark.parametrize("identity", ["test-awake", "another"])
def test_a_sink_that_stalls_while_another_delivers_stops(broker, monkeypatch, identity):
    """Its transaction has outlived the timeout, and meanwhile the topic was another's: a copy's, or a stranger's."""
    topic = f"awake-{identity}"
    broker.create(topic)
    ours: dict[str, Any] = {"transactional_id": topic, **SHORT}
    sink = opened(broker, topic, identity="test-awake", **ours)
    sink.deliver(appended(1))
    others: list[Any] = []
    send = KafkaSink._send

    def stalled(of: Any, *arguments: Any) -> None:
        send(of, *arguments)
        if of is sink and not others:
            of._producer.flush(30)
            until(lambda: not broker.has_open_transaction(topic), 30)
            others.append(opened(broker, topic, identity=identity, **ours))
            assert others[0].delivered() == (1 if identity == "test-awake" else 0)
            others[0].deliver(appended(5))

    monkeypatch.setattr(KafkaSink, "_send", stalled)
    with pytest.raises(ObjectInUse, match="another producer has taken over"):
        sink.deliver(appended(2))
    (other,) = others
    other.deliver(appended(6))  # it was not shut out
    for each in (sink, other):
        each.close()
    assert sorted({r["k"] for r in values(broker.received(topic))}) == ["e1", "e5", "e6"]


def test_of_two_sinks_that_fight_over_an_id_one_ends(broker):
    broker.create("fought")
    both = [opened(broker, "fought", identity=name, transactional_id="fought") for name in ("first", "second")]
    with pytest.raises(ObjectInUse, match="another producer has taken over") as caught:
        both[0].deliver(appended(1))
    assert "transactional_id" in str(caught.value.hint)
    both[1].deliver(appended(1))
    again = opened(broker, "fought", identity="first", transactional_id="fought")  # as after RESUME
    assert again.delivered() == 0  # the note is of the other's epochs
    again.deliver(appended(1))
    assert again.delivered() == 1
    with pytest.raises(ObjectInUse):
        both[1].deliver(appended(2))
    for each in (*both, again):
        each.close()
    assert len(broker.received("fought")) == 20


def test_rows_that_change_are_put_by_key_and_deleted_by_a_tombstone(broker):
    sink = opened(broker, "upserts", CHANGES, create_topic="true")
    sink.deliver(delivery([(1, 1, "a", 1), (1, 1, "b", 1), (2, -1, "a", 1), (2, 1, "a", 2), (2, -1, "b", 1)]))
    sink.deliver(delivery([(3, -1, "a", 2), (3, 1, "a", 3), (3, 1, "c", 1)]))
    sink.close()
    messages = broker.received("upserts")
    assert [(m.key(), m.value()) for m in messages] == [
        (b'{"k":"a"}', b'{"k":"a","n":2}'), (b'{"k":"b"}', None),
        (b'{"k":"a"}', b'{"k":"a","n":3}'), (b'{"k":"c"}', b'{"k":"c","n":1}'),
    ]  # fmt: skip
    assert broker.settings_of("upserts")["cleanup.policy"] == "compact"


def test_changes_can_be_sent_as_envelopes(broker):
    broker.create("envelopes")
    sink = opened(broker, "envelopes", CHANGES, format="debezium", key_format="raw")
    sink.deliver(delivery([(1, 1, "a", 1), (2, -1, "a", 1), (2, -1, "b", 5), (2, 1, "a", 2), (2, 1, "c", 3)]))
    sink.close()
    messages = broker.received("envelopes")
    assert [m.key() for m in messages] == [b"a", b"b", b"a", b"c"]
    assert values(messages) == [
        {"before": None, "after": {"k": "a", "n": 1}, "op": "c"},
        {"before": {"k": "b", "n": 5}, "after": None, "op": "d"},
        {"before": {"k": "a", "n": 1}, "after": {"k": "a", "n": 2}, "op": "u"},
        {"before": None, "after": {"k": "c", "n": 3}, "op": "c"},
    ]
    nameless = Shape(COLUMNS, append_only=False, key=())
    sink = opened(broker, "envelopes", nameless, "other", format="debezium")
    sink.deliver(delivery([(1, -1, "a", 1), (1, 1, "a", 2)]))
    sink.close()
    assert [v["op"] for v in values(broker.received("envelopes"))[4:]] == ["d", "c"]


def test_without_transactions_each_row_has_a_name_to_tell_repeats_by(broker):
    broker.create("named")
    sink = opened(broker, "named", transactions="false")
    assert sink.delivered() is None
    for _ in range(2):
        sink.deliver(appended(4, 2))
    sink.close()
    assert [m.headers() for m in broker.received("named")] == [
        [("streamsql-row", name)] for name in (b"4-0", b"4-1", b"4-0", b"4-1")
    ]


def test_a_broker_that_is_gone_for_a_while_gets_each_row_once(broker):
    broker.create("gone")
    sink = opened(broker, "gone", **SHORT)  # it is waited for as long as a transaction may last
    sink.deliver(appended(1))
    broker.stop(at_once=True)
    with pytest.raises(Unavailable) as caught:
        _with_patience(sink, 2, lambda: sink.deliver(appended(2)))
    assert caught.value.detail
    sink.close()
    broker.start()
    again = opened(broker, "gone")
    assert again.delivered() == 1
    again.deliver(appended(2))
    again.close()
    found = values(broker.received("gone"))
    assert sorted((r["k"], r["n"]) for r in found) == [(f"e{e}", n) for e in (1, 2) for n in range(10)]


def _with_patience(sink: Any, seconds: float, deliver: Any) -> None:
    from streamsql.connectors.kafka import sink as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_COMMIT_SECONDS_MAX", seconds)
        patch.setattr(module, "ANSWER_SECONDS_MAX", seconds)
        deliver()


def test_what_cannot_be_delivered_so_is_refused_before_it_is_tried(broker):
    def refused(shape: Shape, **options: str) -> str:
        with pytest.raises(StreamSQLError) as caught:
            opened(broker, "wrong", shape, **options)
        return caught.value.message

    changing = Shape(COLUMNS, append_only=False, key=())
    assert refused(changing) == "rows of the view change, and no key says which"
    assert refused(APPENDS, format="raw") == "raw messages need one column, of type text or bytea"
    assert refused(APPENDS, key_format="raw") == "a raw key needs one column"
    assert refused(APPENDS, topic_partitions="3") == 'the option "topic_partitions" needs create_topic = true'
    assert refused(APPENDS, **{"properties.plugin.library.paths": "x"}).startswith("unrecognized option")
    assert refused(APPENDS, sasl_username="x") == 'the option "sasl_username" needs "sasl_password"'
    with pytest.raises(StreamSQLError, match="topic"):
        opened(broker, "missing")
    given = Given({"brokers": broker.address, "topic": "t", "transactions": "false"}, {})
    assert SINKS["kafka"].check(given, APPENDS) is Guarantee.AT_LEAST_ONCE


def test_a_server_that_stands_still_for_longer_than_a_transaction_may_goes_on_by_itself(broker, tmp_path):
    broker.create("asleep")
    where = f"connector = 'kafka', brokers = '{broker.address}', topic = 'asleep'"
    with serving(tmp_path / "data", "kafka.before_commit:2:stop") as server, server.connect() as connection:
        connection.execute("CREATE STREAM s (n INT)")
        connection.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s EMIT APPEND")
        connection.execute(f"CREATE SINK o FROM v WITH ({where}, properties.transaction.timeout.ms = 1000)")
        connection.execute("INSERT INTO s SELECT * FROM generate_series(1, 100)")
        until(lambda: len(broker.received("asleep")) == 100)
        connection.execute("INSERT INTO s SELECT * FROM generate_series(101, 200)")
        until(lambda: broker.has_open_transaction("asleep"))
        until(server.stands_still)
        until(lambda: not broker.has_open_transaction("asleep"), 30)
        server.go_on()
        connection.execute("INSERT INTO s SELECT * FROM generate_series(201, 300)")
        query = "SELECT rows_waiting, status FROM streamsql.sinks"
        until(lambda: connection.execute(query).fetchall() == [(0, "delivering")], 60)
    assert sorted(r["n"] for r in values(broker.received("asleep"))) == list(range(1, 301))


def test_the_example_gives_what_it_says(broker, tmp_path):
    broker.create("trades", 1)
    broker.send("trades", (EXAMPLE / "trades.ndjson").read_bytes().splitlines())
    setup = (EXAMPLE / "setup.sql").read_text().replace("localhost:9092", broker.address)
    with serving(tmp_path / "data") as server, server.connect() as connection:
        connection.execute(setup)
        wanted = (EXAMPLE / "expected.txt").read_bytes().splitlines()
        query = "SELECT rows_delivered FROM streamsql.sinks"
        until(lambda: connection.execute(query).fetchall() == [(len(wanted),)], 60)
        reason = connection.execute("SELECT position, reason, bytes FROM streamsql.rejected_rows").fetchall()
        assert reason == [(3, "invalid JSON", b"this is no trade")]
    assert sorted(m.value() for m in broker.received("minutes")) == wanted
