"""Redis streams as sources and sinks, against a real redis-server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
import redis

from streamsql.base.errors import DataCorrupted, ExternalError, InvalidParameterValue, Unavailable
from streamsql.connectors.redis import RedisConnector, RedisSinkConnector
from streamsql.connectors.redis.sink import RedisSink
from streamsql.connectors.sink import Guarantee
from streamsql.connectors.source import Source
from tests.connectors.by_hand import batches, columns, delivery, given, opened, opened_sink, shape, values
from tests.connectors.servers.redis import RedisServer
from tests.running import until

pytestmark = pytest.mark.redis
KN = "(k TEXT, n INT)"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as made:
        made.flushall()
        yield made


def source(
    server: RedisServer, text: str = KN, positions: dict[str, int | str] | None = None, **options: str
) -> Source:
    said = given(url=server.url, **{"stream": "s", **options})
    return opened(RedisConnector(), said, columns(text), positions)


def add(client: redis.Redis, *numbers: int, key: str = "s") -> None:
    for number in numbers:
        client.xadd(key, {"k": "a", "n": str(number)}, id=f"{number}-0")


# ---- reading ----


def test_fields_are_columns_and_positions_lead_back(redis_server: RedisServer, client: redis.Redis):
    add(client, 1, 2, 3)
    first = batches(source(redis_server), 3, rows_max=2)
    assert values(first) == [("a", 1), ("a", 2), ("a", 3)]
    assert [b.position for b in first] == ["2-0 2", "3-0 3"]
    add(client, 4)
    again = batches(source(redis_server, positions={"s": "2-0 2"}), 2)
    assert values(again) == [("a", 3), ("a", 4)]


def test_a_field_may_hold_json_and_entries_say_more(redis_server: RedisServer, client: redis.Redis):
    client.xadd("s", {"body": '{"k": "a\\nb", "n": 1}'}, id="1500-7")
    client.xadd("s", {"body": '{"k": "c"'}, id="1501-0")
    client.xadd("s", {"other": "x"}, id="1502-0")
    included = f"{KN} INCLUDE ID AS i TEXT, STREAM AS s TEXT, TIMESTAMP AS at TIMESTAMP"
    found = batches(source(redis_server, included, field="body"), 3)
    assert values(found) == [("a\nb", 1, "1500-7", "s", dt.datetime(1970, 1, 1, 0, 0, 1, 500_000))]
    reasons = [r for b in found for r in b.rejected.column("reason").to_pylist()]
    assert reasons[0].endswith("(entry 1501-0)")
    assert reasons[1] == "a message without a payload (entry 1502-0)"


def test_what_cannot_be_read_is_set_aside(redis_server: RedisServer, client: redis.Redis):
    client.xadd("s", {"k": "a", "n": "x"}, id="1-0")
    client.xadd("s", {"k": b"\xff", "n": "2"}, id="2-0")
    client.xadd("s", {"n": "3"}, id="3-0")
    client.xadd("s", {"k": "b", "n": "4", "more": "y"}, id="4-0")
    found = batches(source(redis_server, "(k TEXT NOT NULL, n INT)"), 4)
    assert values(found) == [("b", 4)]
    assert found[0].rejected.column("reason").to_pylist() == [
        'column "n": invalid input for type int4: "x" (entry 1-0)',
        'column "k": the field is not UTF-8: declare it as BYTEA (entry 2-0)',
        'null value in column "k" violates not-null constraint (entry 3-0)',
    ]
    assert b"'n': b'x'" in found[0].rejected.column("bytes").to_pylist()[0]


def test_several_streams_are_partitions(redis_server: RedisServer, client: redis.Redis):
    add(client, 1, 2)
    add(client, 1, key="t")
    found = batches(source(redis_server, stream="s, t"), 3)
    assert {b.partition: b.position for b in found} == {"s": "2-0 2", "t": "1-0 1"}


@pytest.mark.parametrize(
    ("startup", "numbers"), [("earliest", [2, 3, 4, 9]), ("latest", [9]), ("3-0", [4, 9]), ("1", [2, 3, 4, 9])]
)
def test_a_new_stream_begins_where_it_is_told(
    redis_server: RedisServer,
    client: redis.Redis,
    startup: str,
    numbers: list[int],
):
    add(client, 1, 2, 3, 4)
    client.xdel("s", "1-0")
    opened_source = source(redis_server, startup=startup)
    add(client, 9)
    assert [n for _, n in values(batches(opened_source, len(numbers)))] == numbers


@pytest.mark.parametrize("ahead", [1, 100])
def test_entries_that_were_trimmed_before_they_were_read_are_told_once(
    redis_server: RedisServer,
    client: redis.Redis,
    ahead: int,
):
    add(client, *range(1, 11))
    reading = source(redis_server)
    first = reading.read(4, 0)
    assert first is not None
    assert first.position == "4-0 4"
    client.xtrim("s", minid="8-0", approximate=False)
    moved = reading.read(ahead, 0)
    assert moved is not None
    assert (moved.rows.num_rows, moved.position) == (0, "4-0 7")
    with pytest.raises(DataCorrupted, match=r'^3 entries of the Redis stream "s" after 4-0 were trimmed or deleted'):
        reading.read(4, 0)
    resumed = source(redis_server, positions={"s": "4-0 7"})
    assert [n for _, n in values(batches(resumed, 3))] == [8, 9, 10]


def test_a_gap_can_be_skipped_and_a_deleted_entry_is_one(redis_server: RedisServer, client: redis.Redis):
    add(client, *range(1, 6))
    reading = source(redis_server, on_gap="skip")
    reading.read(2, 0)
    client.xdel("s", "1-0", "4-0")  # the first has been read
    found = batches(reading, 3)
    assert [n for _, n in values(found)] == [3, 5]
    assert [r for b in found for r in b.rejected.column("reason").to_pylist()] == [
        '1 entries of the Redis stream "s" after 2-0 were trimmed or deleted before they were read'
    ]


def test_trimming_what_has_been_read_is_no_gap(redis_server: RedisServer, client: redis.Redis):
    add(client, *range(1, 6))
    reading = source(redis_server)
    batches(reading, 5)
    client.xtrim("s", maxlen=0, approximate=False)
    assert reading.read(10, 0) is None
    add(client, 6)
    assert [n for _, n in values(batches(reading, 1))] == [6]


@pytest.mark.parametrize("entries", [0, 1])
def test_a_stream_that_is_made_anew_is_not_taken_for_the_old_one(
    redis_server: RedisServer,
    client: redis.Redis,
    entries: int,
):
    add(client, 7, 8, 9)
    reading = source(redis_server)
    batches(reading, 3)
    client.delete("s")
    add(client, *range(1, 1 + entries))
    with pytest.raises(DataCorrupted, match=r"made anew|is gone"):
        reading.read(10, 0)
    with pytest.raises(DataCorrupted, match="made anew"):
        source(redis_server, positions={"s": "9-0 3"})


def test_a_server_that_is_killed_is_waited_for(redis_server: RedisServer, client: redis.Redis):
    add(client, 1, 2)
    reading = source(redis_server)
    (batch,) = batches(reading, 2)
    redis_server.kill()
    try:
        with pytest.raises(Unavailable):
            reading.read(10, 0)
        with pytest.raises(Unavailable):
            source(redis_server)
    finally:
        redis_server.start()
    add(client, 3)
    assert [n for _, n in values(batches(source(redis_server, positions={"s": batch.position}), 1))] == [3]


def test_a_password_is_asked_for(redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch):
    client.acl_setuser("ann", enabled=True, passwords=["+right"], keys=["*"], commands=["+@all"])
    add(client, 1)
    monkeypatch.setenv("REDIS_PASSWORD", "right")
    from streamsql.sql.secrets import SecretReference

    said = given(url=redis_server.url, stream="s", username="ann")
    said = type(said)({**said.values, "password": SecretReference("env:REDIS_PASSWORD")}, {})
    assert len(values(batches(opened(RedisConnector(), said, columns(KN)), 1))) == 1
    monkeypatch.setenv("REDIS_PASSWORD", "wrong")
    with pytest.raises(ExternalError, match="refuses the login"):
        opened(RedisConnector(), said, columns(KN))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "redis://:secret@127.0.0.1"}, "a secret does not stand in a definition"),
        ({"url": "http://127.0.0.1"}, "does not begin with redis://"),
        ({"startup": "noon"}, "is not earliest, latest or the id"),
        ({"format": "csv"}, "is for messages in one field"),
    ],
)
def test_options_are_checked(options: dict[str, str], message: str):
    with pytest.raises(InvalidParameterValue, match=message):
        RedisConnector().columns(given(**{"stream": "s", **options}), columns(KN))


# ---- writing ----


def sink(server: RedisServer, *, append_only: bool = True, key: tuple[str, ...] = (), **options: str) -> RedisSink:
    made = opened_sink(RedisSinkConnector(), given(url=server.url, **options), shape(append_only=append_only, key=key))
    assert isinstance(made, RedisSink)
    return made


def entries(client: redis.Redis, key: str = "out") -> list[dict[str, str]]:
    found: list[tuple[str, dict[str, str]]] = client.xrange(key)  # type: ignore[assignment]  # not awaited
    return [fields for _, fields in found]


def test_entries_are_added_once(redis_server: RedisServer, client: redis.Redis):
    writing = sink(redis_server, stream="out")
    assert writing.delivered() == 0
    writing.deliver(delivery((3, 1, "a", 1), (3, 1, None, None), (4, 1, "b", 2)))
    assert writing.delivered() == 4
    assert entries(client) == [{"k": "a", "n": "1"}, {"__empty": "true"}, {"k": "b", "n": "2"}]
    # the same again, as after an answer that did not come
    with pytest.raises(Unavailable, match="epoch 4 has come there"):
        writing.deliver(delivery((3, 1, "a", 1), (4, 1, "b", 2), (5, 1, "c", 3)))
    assert sink(redis_server, stream="out").delivered() == 4
    assert len(entries(client)) == 3


def test_a_transaction_that_was_overtaken_does_not_happen(
    redis_server: RedisServer,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
):
    slow, quick = sink(redis_server, stream="out"), sink(redis_server, stream="out")
    added = slow._add

    def overtaken(*arguments: object) -> None:
        quick.deliver(delivery((3, 1, "a", 1)))
        added(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(slow, "_add", overtaken)
    with pytest.raises(Unavailable):
        slow.deliver(delivery((3, 1, "a", 1)))
    assert len(entries(client)) == 1


def test_rows_as_json_changes_and_deletions(redis_server: RedisServer, client: redis.Redis):
    changes = delivery((3, 1, "a", 1), (4, -1, "a", 1), (4, 1, "a", 2), (4, 1, "b", 5), (5, -1, "b", 5))
    sink(redis_server, append_only=False, stream="out").deliver(changes)
    assert entries(client)[1] == {"k": "a", "n": "1", "__epoch": "4", "__weight": "-1"}
    client.flushall()
    sink(redis_server, append_only=False, key=("k",), stream="out").deliver(changes)
    assert entries(client) == [{"k": "a", "n": "2"}, {"k": "b", "__deleted": "true"}]
    client.flushall()
    sink(redis_server, append_only=False, key=("k",), stream="out", field="body").deliver(changes)
    assert entries(client) == [{"body": '{"k":"a","n":2}'}, {"body": '{"k":"b","__deleted":true}'}]


def test_hashes_hold_the_last_row_of_each_key(redis_server: RedisServer, client: redis.Redis):
    writing = sink(redis_server, append_only=False, key=("k",), hash="rooms:")
    writing.deliver(delivery((3, 1, "a", 1), (3, 1, "x:y%", 7), (3, 1, None, 8), (3, 1, "", 9)))
    assert sorted(client.keys("rooms:*")) == ["rooms:%E", "rooms:%N", "rooms:a", "rooms:x%3Ay%25"]
    writing.deliver(delivery((4, -1, "a", 1), (4, 1, "a", None), (4, -1, "x:y%", 7)))
    assert client.hgetall("rooms:a") == {"k": "a"}
    assert client.exists("rooms:x%3Ay%25") == 0


def test_a_key_of_another_kind_stops_the_sink_before_anything_is_noted(
    redis_server: RedisServer,
    client: redis.Redis,
):
    client.set("out", "text")
    writing = sink(redis_server, stream="out")
    with pytest.raises(ExternalError, match="holds a string"):
        writing.deliver(delivery((3, 1, "a", 1)))
    assert writing.delivered() == 0


def test_a_redis_that_is_killed_while_rows_are_written(redis_server: RedisServer, client: redis.Redis):
    writing = sink(redis_server, stream="out")
    writing.deliver(delivery((3, 1, "a", 1)))
    redis_server.kill()
    with pytest.raises(Unavailable):
        writing.deliver(delivery((4, 1, "b", 2)))
    redis_server.start()
    again = sink(redis_server, stream="out")
    until(lambda: again.delivered() == 3)
    again.deliver(delivery((4, 1, "b", 2)))
    assert entries(client) == [{"k": "a", "n": "1"}, {"k": "b", "n": "2"}]


def test_a_stream_keeps_about_so_many_entries(redis_server: RedisServer, client: redis.Redis):
    sink(redis_server, stream="out", maxlen="100").deliver(delivery(*((3, 1, "a", n) for n in range(1_000))))
    assert client.xlen("out") < 400


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({}, (), 'needs one of the options "stream" and "hash"'),
        ({"stream": "s", "hash": "h"}, (), 'needs one of the options "stream" and "hash"'),
        ({"hash": "h"}, (), "mode upsert needs a key"),
        ({"hash": "h", "mode": "changelog"}, ("k",), "hashes hold the last row"),
        ({"stream": "s", "mode": "append"}, (), "mode append is for views whose rows never go"),
    ],
)
def test_what_cannot_be_delivered_is_said(options: dict[str, str], key: tuple[str, ...], message: str):
    with pytest.raises(InvalidParameterValue, match=message):
        RedisSinkConnector().check(given(**options), shape(append_only=False, key=key))


def test_the_guarantee():
    assert RedisSinkConnector().check(given(stream="s"), shape()) is Guarantee.EXACTLY_ONCE
