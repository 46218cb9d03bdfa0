"""Broker to view to broker through a server that is killed on the way: nothing is lost, and what promises so is there once."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.connectors.servers.hook import HookServer
from tests.connectors.servers.mosquitto import Mosquitto
from tests.connectors.servers.nats import NatsServer
from tests.connectors.servers.redis import RedisServer
from tests.running import RunningServer, until

COUNT = 2_000
# where the server is killed, one after the other, at its n-th time there: so early that the next one has work left
FAULTS = ("epoch.before_commit:3", "sink.after_delivery:2")
VIEW = "CREATE MATERIALIZED VIEW doubled AS SELECT n, 2 * n AS twice FROM numbers EMIT APPEND"
SMALL = ["source_batch_rows_max=250", "source_ahead_rows_max=250", "sink_batch_rows_max=300"]
SMALL = [word for bound in SMALL for word in ("--limit", bound)]


def set_up(folder: Path, *statements: str) -> None:
    """Create streams, views and sinks while there is nothing to read yet."""
    with RunningServer(folder, SMALL) as server:
        for statement in statements:
            server.execute(statement)


def run_until_killed(folder: Path, fault: str) -> None:
    """Run a server that is killed at a fault, which may be before it says that it is ready."""
    server = RunningServer(folder, SMALL, {"STREAMSQL_FAULT": fault})
    try:
        server.start()
    except AssertionError:
        assert server.process is not None
        server.process.communicate()  # it closes the pipe
        if server.process.returncode != -signal.SIGKILL:
            raise
        return
    assert server.wait() == -signal.SIGKILL


def run_with_kills(folder: Path, done: Callable[[], bool]) -> list[tuple[object, ...]]:
    """Run a server that is killed at each fault, then to the end; give what ``streamsql.sinks`` says."""
    for fault in FAULTS:
        run_until_killed(folder, fault)
    with RunningServer(folder, SMALL) as server:
        until(done, 60)
        until(lambda: server.execute("SELECT rows_waiting FROM streamsql.sinks") == [(0,)])
        counted = server.execute("SELECT count(*), sum(n), count(DISTINCT n) FROM numbers")
        assert counted == [(COUNT, COUNT * (COUNT - 1) // 2, COUNT)]
        return server.execute("SELECT guarantee FROM streamsql.sinks")


@pytest.mark.redis
def test_redis_to_redis_exactly_once(tmp_path: Path, redis_server: RedisServer):
    with redis_server.client() as client:
        client.flushall()
        set_up(
            tmp_path,
            f"CREATE STREAM numbers (n INT) WITH (connector = 'redis', url = '{redis_server.url}', stream = 'numbers')",
            VIEW,
            f"CREATE SINK out FROM doubled WITH (connector = 'redis', url = '{redis_server.url}', stream = 'doubled')",
        )
        pipe = client.pipeline()
        for number in range(COUNT):
            pipe.xadd("numbers", {"n": number})
        pipe.execute()
        said = run_with_kills(tmp_path, lambda: bool(client.xlen("doubled") >= COUNT))
        found = [(int(f["n"]), int(f["twice"])) for _, f in client.xrange("doubled")]
    assert said == [("exactly once",)]
    assert sorted(found) == [(n, 2 * n) for n in range(COUNT)]


@pytest.mark.nats
def test_nats_to_nats_exactly_once(tmp_path: Path, nats_server: NatsServer):
    async def prepare(js: JetStreamContext) -> None:
        await js.add_stream(StreamConfig(name="NUMBERS", subjects=["numbers"]))
        # next to no window for duplicates: the sequence numbers alone keep each row single
        await js.add_stream(StreamConfig(name="DOUBLED", subjects=["doubled"], duplicate_window=0.1))

    async def fill(js: JetStreamContext) -> None:
        for number in range(COUNT):
            await js.publish_async("numbers", b'{"n": %d}' % number)
        await js.publish_async_completed()

    async def count(js: JetStreamContext) -> int:
        return (await js.stream_info("DOUBLED")).state.messages

    async def taken(js: JetStreamContext) -> list[bytes]:
        reading = await js.pull_subscribe("doubled", stream="DOUBLED", durable="check")
        found: list[bytes] = []
        while len(found) < await count(js):
            for message in await reading.fetch(500):
                found.append(message.data)
                await message.ack()
        return found

    nats_server.run(prepare)
    set_up(
        tmp_path,
        f"CREATE STREAM numbers (n INT) WITH (connector = 'nats', url = '{nats_server.url}', stream = 'NUMBERS')",
        VIEW,
        f"CREATE SINK out FROM doubled WITH (connector = 'nats', url = '{nats_server.url}', stream = 'DOUBLED', "
        "subject = 'doubled', exclusive = true)",
    )
    nats_server.run(fill)
    said = run_with_kills(tmp_path, lambda: nats_server.run(count) >= COUNT)
    assert said == [("exactly once",)]
    rows = [json.loads(body) for body in nats_server.run(taken)]
    assert sorted((r["n"], r["twice"]) for r in rows) == [(n, 2 * n) for n in range(COUNT)]


@pytest.mark.mqtt
def test_mqtt_to_mqtt_at_least_once(tmp_path: Path, mosquitto: Mosquitto):
    arrived: set[int] = set()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda c, u, message: arrived.add(json.loads(message.payload)["n"])
    client.connect("127.0.0.1", mosquitto.port)
    client.subscribe("doubled/#", 1)
    client.loop_start()
    try:
        set_up(
            tmp_path,
            f"CREATE STREAM numbers (n INT) WITH (connector = 'mqtt', url = '{mosquitto.url}', topic = 'numbers/+')",
            VIEW,
            f"CREATE SINK out FROM doubled WITH (connector = 'mqtt', url = '{mosquitto.url}', topic = 'doubled/all')",
        )
        # nobody is there: the session keeps them
        mosquitto.publish(*((f"numbers/{number % 7}", f'{{"n": {number}}}') for number in range(COUNT)))
        for fault in FAULTS:
            run_until_killed(tmp_path, fault)
        with RunningServer(tmp_path, SMALL) as server:
            until(lambda: len(arrived) == COUNT, 60)
            counted = server.execute("SELECT count(DISTINCT n) FROM numbers")
            assert counted == [(COUNT,)]
            assert server.execute("SELECT guarantee FROM streamsql.sinks") == [("at least once",)]
    finally:
        client.disconnect()
        client.loop_stop()


def test_generated_rows_to_a_webhook_under_the_same_names(tmp_path: Path):
    with HookServer() as hook:
        set_up(
            tmp_path,
            "CREATE STREAM numbers (n INT) WITH (connector = 'datagen', rows = '2000', rows_per_second = '1000', "
            "fields.n.kind = 'sequence')",
            VIEW,
            f"CREATE SINK out FROM doubled WITH (connector = 'webhook', url = '{hook.url}', batch_rows = '100')",
        )
        for fault in FAULTS:
            run_until_killed(tmp_path, fault)
        with RunningServer(tmp_path, SMALL) as server:
            until(lambda: server.execute("SELECT rows_delivered FROM streamsql.sinks") == [(COUNT,)], 60)
            first, *_ = server.execute("SELECT min(n) FROM numbers")
        requests = {taken.headers["webhook-id"]: taken.body for taken in hook.taken}
        # what came twice came under the name that it had, and is the same
        assert all(requests[taken.headers["webhook-id"]] == taken.body for taken in hook.taken)
        rows = [row for body in requests.values() for row in json.loads(body)["rows"]]
        low = int(str(first[0]))
        assert sorted((r["n"], r["twice"]) for r in rows) == [(n, 2 * n) for n in range(low, low + COUNT)]
        assert len(hook.taken) > len(requests)
