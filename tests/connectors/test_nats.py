"""JetStream as a source and a sink, against a real nats-server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg, StreamConfig

from streamsql.base.errors import DataCorrupted, ExternalError, InvalidParameterValue, Unavailable
from streamsql.connectors.nats import NatsConnector, NatsSinkConnector
from streamsql.connectors.nats.sink import NatsSink
from streamsql.connectors.nats.source import NatsSource
from streamsql.connectors.sink import Guarantee
from tests.connectors.by_hand import batches, columns, delivery, given, opened, opened_sink, shape, values
from tests.connectors.servers.nats import NatsServer
from tests.connectors.servers.process import free_port

pytestmark = pytest.mark.nats
KN = "(k TEXT, n INT)"


_open: list[NatsSource | NatsSink] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while _open:
        _open.pop().close()


@pytest.fixture
def stream(nats_server: NatsServer, request: pytest.FixtureRequest) -> str:
    name: str = f"S{abs(hash(request.node.name)) % 10**9}"
    make(nats_server, name)
    return name


def make(server: NatsServer, name: str, **settings: Any) -> None:
    config = StreamConfig(name=name, subjects=[f"{name}.>"], **settings)
    server.run(lambda js: js.add_stream(config))


def publish(server: NatsServer, name: str, *numbers: int, subject: str = "a", **headers: str) -> None:
    async def sending(js: JetStreamContext) -> None:
        for number in numbers:
            body = b'{"k": "a", "n": %d}' % number
            await js.publish(f"{name}.{subject}", body, headers={**headers, "X": "y"})

    server.run(sending)


def source(server: NatsServer, name: str, text: str = KN, position: int | None = None, **options: str) -> NatsSource:
    positions = {} if position is None else {name: position}
    made = opened(NatsConnector(), given(url=server.url, stream=name, **options), columns(text), positions)
    assert isinstance(made, NatsSource)
    _open.append(made)
    return made


def numbers(source: NatsSource, count: int, rows_max: int = 1_000) -> list[int]:
    return [row[1] for row in values(batches(source, count, rows_max))]


# ---- reading ----


def test_messages_are_rows_and_sequences_lead_back(nats_server: NatsServer, stream: str):
    publish(nats_server, stream, *range(5))
    reading = source(nats_server, stream)
    found = batches(reading, 5, rows_max=2)
    assert [b.position for b in found] == [0, 2, 4, 5]
    assert [n for _, n in values(found)] == list(range(5))
    assert reading.read(10, 0) is None
    publish(nats_server, stream, 5)
    assert numbers(reading, 1) == [5]
    assert numbers(source(nats_server, stream, position=4), 2) == [4, 5]


def test_messages_say_more_and_garbage_is_set_aside(nats_server: NatsServer, stream: str):
    publish(nats_server, stream, 1, subject="b", Trace="t")
    nats_server.run(lambda js: js.publish(f"{stream}.c", b"{not json"))
    included = (
        f"{KN} INCLUDE SUBJECT AS s TEXT, SEQUENCE AS q BIGINT, TIMESTAMP AS at TIMESTAMP, HEADER 'Trace' AS t TEXT"
    )
    reading = source(nats_server, stream, included)
    found = batches(reading, 2)
    ((k, n, subject, sequence, at, trace),) = values(found)
    assert (k, n, subject, sequence, trace) == ("a", 1, f"{stream}.b", 1, "t")
    assert abs((dt.datetime.now(dt.UTC).replace(tzinfo=None) - at).total_seconds()) < 60
    assert [r for b in found for r in b.rejected.column("reason").to_pylist()] == ["invalid JSON (sequence 2)"]
    assert found[-1].position == 2


def test_only_some_subjects_and_more_messages_than_are_taken_at_once(nats_server: NatsServer, stream: str):
    async def sending(js: JetStreamContext) -> None:
        for n in range(3_000):
            await js.publish_async(f"{stream}.{'odd' if n % 2 else 'even'}.x", b'{"k": "a", "n": %d}' % n)
        await js.publish_async_completed()

    nats_server.run(sending)
    assert numbers(source(nats_server, stream, subject=f"{stream}.odd.*"), 1_500, 400) == list(range(1, 3_000, 2))


def test_a_new_stream_begins_where_it_is_told(nats_server: NatsServer, stream: str):
    publish(nats_server, stream, 1, 2)
    assert numbers(source(nats_server, stream, startup="1"), 1) == [2]
    at = dt.datetime.now(dt.UTC).isoformat()
    latest = source(nats_server, stream, startup="latest")
    publish(nats_server, stream, 3)
    assert numbers(source(nats_server, stream, startup=at), 1) == [3]
    first = latest.read(10, 0)
    assert first is not None
    assert (first.rows.num_rows, first.position) == (0, 2)  # kept before there are rows, so that a restart misses none
    assert numbers(latest, 1) == [3]


@pytest.mark.parametrize("on_gap", ["fail", "skip"])
def test_messages_that_were_dropped_before_they_were_read_are_told(nats_server: NatsServer, stream: str, on_gap: str):
    publish(nats_server, stream, *range(1, 11))
    reading = source(nats_server, stream, on_gap=on_gap)
    assert [b.position for b in batches(reading, 3, rows_max=3)] == [0, 3]
    nats_server.run(lambda js: js.purge_stream(stream, seq=8))
    said = f'messages 4 to 7 of the NATS stream "{stream}" were dropped before they were read'
    moved = reading.read(10, 0)
    assert moved is not None
    assert (moved.rows.num_rows, moved.position) == (0, 7)
    if on_gap == "skip":
        assert moved.rejected.column("reason").to_pylist() == [said]
        assert numbers(reading, 3) == [8, 9, 10]
        return
    with pytest.raises(DataCorrupted, match=said):
        reading.read(10, 0)
    again = source(nats_server, stream, position=3)  # as after a kill before the position was committed
    first = again.read(10, 0)
    assert first is not None
    assert first.position == 7
    with pytest.raises(DataCorrupted, match=said):
        again.read(10, 0)
    assert numbers(source(nats_server, stream, position=7), 3) == [8, 9, 10]


def test_a_stream_that_keeps_the_last_of_each_subject_has_no_gaps(nats_server: NatsServer):
    make(nats_server, "LAST", max_msgs_per_subject=1)
    publish(nats_server, "LAST", 1, 2, 3)
    assert numbers(source(nats_server, "LAST", position=1), 1) == [3]


def test_a_stream_that_is_made_anew_is_not_taken_for_the_old_one(nats_server: NatsServer, stream: str):
    publish(nats_server, stream, 1, 2, 3)
    nats_server.run(lambda js: js.delete_stream(stream))
    make(nats_server, stream)
    with pytest.raises(DataCorrupted, match="made anew"):
        source(nats_server, stream, position=3)


def test_a_server_that_is_killed_is_waited_for(nats_server: NatsServer, stream: str):
    publish(nats_server, stream, 1, 2)
    reading = source(nats_server, stream)
    batches(reading, 2)
    nats_server.kill()
    try:
        with pytest.raises(Unavailable):
            reading.read(10, 0)
        reading.close()
        with pytest.raises(Unavailable):
            source(nats_server, stream)
    finally:
        nats_server.start()
    publish(nats_server, stream, 3)
    assert numbers(source(nats_server, stream, position=2), 1) == [3]


def test_a_stream_that_is_not_there_is_said(nats_server: NatsServer):
    with pytest.raises(ExternalError, match='NATS has no stream "NOPE"'):
        source(nats_server, "NOPE")


def test_a_password_is_asked_for(tmp_path, monkeypatch: pytest.MonkeyPatch):
    from streamsql.connectors.source import Given
    from streamsql.sql.secrets import SecretReference

    server = NatsServer(tmp_path, "--user", "ann", "--pass", "right")
    server.start()
    try:
        said = {"url": server.url, "stream": "S", "username": "ann", "password": SecretReference("env:NATS_PASSWORD")}
        monkeypatch.setenv("NATS_PASSWORD", "wrong")
        with pytest.raises(ExternalError, match="refuses the login"):
            opened(NatsConnector(), Given(said, {}), columns(KN))
        monkeypatch.setenv("NATS_PASSWORD", "right")
        with pytest.raises(ExternalError, match='has no stream "S"'):
            opened(NatsConnector(), Given(said, {}), columns(KN))
    finally:
        server.kill()


# ---- writing ----


def sink(
    server: NatsServer, stream: str, *, append_only: bool = True, key: tuple[str, ...] = (), **options: str
) -> NatsSink:
    said = {"url": server.url, "stream": stream, "subject": f"{stream}.out", **options}
    made = opened_sink(NatsSinkConnector(), given(**said), shape(append_only=append_only, key=key))
    assert isinstance(made, NatsSink)
    _open.append(made)
    return made


def messages(server: NatsServer, stream: str) -> list[tuple[str, str]]:
    """Give what is in a stream: subject and body."""

    async def reading(js: JetStreamContext) -> list[RawStreamMsg]:
        state = (await js.stream_info(stream)).state
        return [await js.get_msg(stream, seq) for seq in range(state.first_seq or 1, state.last_seq + 1)]

    return [((m.subject or "").partition(".")[2], (m.data or b"").decode()) for m in server.run(reading)]


def test_a_delivery_that_is_repeated_within_the_window_is_there_once(nats_server: NatsServer, stream: str):
    writing = sink(nats_server, stream)
    assert writing.delivered() is None
    changes = delivery((3, 1, "a", 1), (4, 1, "b", 2))
    writing.deliver(changes)
    writing.deliver(changes)
    assert messages(nats_server, stream) == [("out", '{"k":"a","n":1}'), ("out", '{"k":"b","n":2}')]


def test_an_exclusive_stream_holds_each_row_once_whatever_the_window_is(nats_server: NatsServer):
    make(nats_server, "OWN", duplicate_window=0.1)
    first = sink(nats_server, "OWN", exclusive="true")
    first.deliver(delivery((3, 1, "a", 1)))
    # a delivery of which only the first row arrived: the next one was too large
    torn = delivery((4, 1, "b", 2), (4, 1, "x" * 2_000_000, 3), (5, 1, "c", 4))
    with pytest.raises(ExternalError, match="maximum payload"):
        first.deliver(torn)
    again = sink(nats_server, "OWN", exclusive="true")
    assert again.delivered() == 3
    again.deliver(delivery((4, 1, "b", 2), (4, 1, "x", 3), (5, 1, "c", 4)))
    again.deliver(delivery((6, 1, "d", 5)))
    assert [body[-2] for _, body in messages(nats_server, "OWN")] == ["1", "2", "3", "4", "5"]


def test_two_writers_of_an_exclusive_stream_do_not_mix(nats_server: NatsServer, stream: str):
    slow, quick = (sink(nats_server, stream, exclusive="true") for _ in range(2))
    quick.deliver(delivery((3, 1, "a", 1)))
    with pytest.raises(Unavailable, match="is there already"):
        slow.deliver(delivery((3, 1, "a", 1)))
    with pytest.raises(Unavailable, match="wrong last sequence"):
        slow.deliver(delivery((4, 1, "a", 1)))
    publish(nats_server, stream, 9)
    with pytest.raises(Unavailable, match="wrong last sequence"):
        quick.deliver(delivery((4, 1, "a", 1)))
    with pytest.raises(ExternalError, match="is not from this sink"):
        sink(nats_server, stream, exclusive="true")
    assert len(messages(nats_server, stream)) == 2


def test_subjects_hold_columns_and_changes_are_told(nats_server: NatsServer, stream: str):
    changes = delivery((3, 1, "a b.c", 1), (4, -1, "a b.c", 1), (4, 1, None, 2))
    writing = sink(nats_server, stream, append_only=False, subject=f"{stream}.by.{{k}}")
    writing.deliver(changes)
    assert messages(nats_server, stream) == [
        ("by.a%20b%2Ec", '{"epoch": 3, "weight": 1, "row": {"k":"a b.c","n":1}}'),
        ("by.a%20b%2Ec", '{"epoch": 4, "weight": -1, "row": {"k":"a b.c","n":1}}'),
        ("by.%N", '{"epoch": 4, "weight": 1, "row": {"k":null,"n":2}}'),
    ]


def test_many_rows_keep_their_order(nats_server: NatsServer, stream: str):
    writing = sink(nats_server, stream, exclusive="yes")
    writing.deliver(delivery(*((3, 1, "a", n) for n in range(3_000))))
    assert numbers(source(nats_server, stream), 3_000) == list(range(3_000))


def test_a_server_that_is_killed_while_rows_are_written(nats_server: NatsServer, stream: str):
    writing = sink(nats_server, stream, exclusive="true")
    writing.deliver(delivery((3, 1, "a", 1)))
    nats_server.kill()
    with pytest.raises(Unavailable):
        writing.deliver(delivery((4, 1, "b", 2)))
    nats_server.start()
    again = sink(nats_server, stream, exclusive="true")
    again.deliver(delivery((4, 1, "b", 2)))
    assert [body for _, body in messages(nats_server, stream)] == ['{"k":"a","n":1}', '{"k":"b","n":2}']


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject": "a.*"}, "has no wildcards"),
        ({"url": "http://127.0.0.1"}, "does not begin with nats://"),
        ({"url": "nats://ann:secret@127.0.0.1"}, "a secret does not stand in a definition"),
        ({"mode": "upsert"}, "mode upsert needs a key"),
    ],
)
def test_options_are_checked(options: dict[str, str], message: str):
    with pytest.raises(InvalidParameterValue, match=message):
        NatsSinkConnector().check(given(**{"stream": "S", "subject": "s", **options}), shape())


def test_the_guarantees():
    said = {"stream": "S", "subject": "s"}
    assert NatsSinkConnector().check(given(**said), shape()) is Guarantee.AT_LEAST_ONCE
    assert NatsSinkConnector().check(given(**said, exclusive="true"), shape()) is Guarantee.EXACTLY_ONCE


def test_a_server_that_nobody_runs():
    said = given(url=f"nats://127.0.0.1:{free_port()}", stream="S")
    with pytest.raises(Unavailable):
        opened(NatsConnector(), said, columns(KN))
