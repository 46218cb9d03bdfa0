"""History from files first, then the live source from where history ends: no row is missing, none comes twice."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyarrow import parquet

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.connectors import CONNECTORS, resolved
from streamsql.connectors.backfilling import Backfilled
from streamsql.connectors.files import Files
from streamsql.connectors.source import Given, Surroundings
from streamsql.engine.positions import Position
from streamsql.sql.parse import parse
from streamsql.sql.statements import ColumnDefinition
from tests.connectors.file_reading import LATER_US, Notes
from tests.connectors.servers import kafka as servers
from tests.connectors.servers.kafka import Broker
from tests.running import RunningServer, until

COLUMNS = (ColumnDefinition("at", "TIMESTAMP"), ColumnDefinition("n", "BIGINT"))
HISTORY = 200


def history(path: Path, first: int = 0, count: int = HISTORY) -> None:
    """Write rows one a second, in two files of two groups."""
    path.mkdir(exist_ok=True)
    for part in range(2):
        numbers = [first + n for n in range(count) if n * 2 // count == part]
        times = pa.array([n * 1_000_000 for n in numbers], pa.timestamp("us"))
        parquet.write_table(pa.table({"at": times, "n": numbers}), path / f"{part}.parquet", row_group_size=count // 4)


def live(first: int, count: int) -> bytes:
    return b"".join(b'{"at": %d, "n": %d}\n' % (n, n) for n in range(first, first + count))


def given(tmp_path: Path, **options: str) -> Given:
    history = {"backfill": f"{tmp_path}/history/*.parquet", "backfill.time": "at"}
    return Given({**history, "path": f"{tmp_path}/live.json", "times": "s", **options}, {})


@pytest.mark.parametrize("rows_max", [1, 7, 1_000])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_live_source_goes_on_where_history_ends(tmp_path: Path, rows_max: int, restarts: bool):
    history(tmp_path / "history")
    (tmp_path / "live.json").write_bytes(live(HISTORY - 50, 100) + b'{"n": -1}\n')
    connector, notes, source = Backfilled(Files()), Notes(), None
    positions: dict[str, Position] = {}
    surroundings = Surroundings((tmp_path.resolve(),), notes=notes)
    found: list[Any] = []
    now = LATER_US
    for _ in range(2_000):
        if source is None:
            source = connector.open(given(tmp_path), COLUMNS, positions, now, surroundings)
        batch = source.read(rows_max, now)
        if batch is None:
            due = source.due_us(now)
            assert due is not None
            if due > now + 1_000 and "files" in positions:
                break
            now = due
            continue
        positions[batch.partition] = batch.position
        notes.update(batch.finished)
        found += batch.rows.column("n").to_pylist()
        if restarts:
            source.close()
            source = None
    assert found == [*range(HISTORY + 50), -1]
    assert '"finished":true' in str(positions["backfill"])


def test_what_cannot_be_backfilled_is_refused(tmp_path: Path):
    for text, said in (
        ("(n INT) WITH (backfill = '/x.json', connector = 'file', path = '/y.json')", "history ends at an event time"),
        (
            "(n INT) WITH (backfill = '/x.json', backfill.time = 'n', connector = 'file', path = '/y.json')",
            '"n" is no time',
        ),
        (
            "(n INT) WITH (backfill = '/x.json', backfill.time = 'z', connector = 'file', path = '/y.json')",
            '"z" does not',
        ),
        (
            "(at TIMESTAMP) WITH (backfill = '/x', backfill.time = 'at', connector = 'file', path = '/y.json')",
            '"format"',
        ),
        (
            "(at TIMESTAMP) WITH (backfill = '/x.json', backfill.wrong = 'at', connector = 'file', path = '/y.json')",
            "wrong",
        ),
    ):
        with pytest.raises(StreamSQLError, match=said) as caught:
            resolved(parse(f"CREATE STREAM s {text}", Limits())[0])  # type: ignore[type-var]  # it is a CreateStream
        assert caught.value.position is not None
    assert "file" in CONNECTORS


def test_a_server_shows_how_far_history_is_read_and_goes_on_after_a_kill(tmp_path: Path):
    history(tmp_path / "history", count=100_000)
    (tmp_path / "live.json").write_bytes(live(99_000, 2_000))
    with RunningServer(tmp_path, ["--allow-path", str(tmp_path)]) as server:
        server.execute(
            "CREATE STREAM s (at TIMESTAMP, n BIGINT, WATERMARK FOR at AS at) WITH (connector = 'file', times = 's', "
            f"path = '{tmp_path}/live.json', backfill = '{tmp_path}/history/*.parquet', retention = 'forever')"
        )
        until(lambda: server.execute("SELECT 1 FROM streamsql.backfills WHERE rows_read > 0"))
        process = server.process
        assert process is not None
        process.kill()
        process.communicate()
        server.start()
        until(lambda: server.execute("SELECT count(*) FROM s") == [(101_000,)])
        assert server.execute("SELECT count(DISTINCT n), max(n) FROM s") == [(101_000, 100_999)]
        found = server.execute(
            "SELECT name, rows_read, bytes_read = bytes_total, history_end::TEXT, time_left, status FROM streamsql.backfills"
        )
        assert found == [("s", 100_000, True, "1970-01-02 03:46:39", None, "finished")]


def test_what_is_live_is_not_starved_by_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows of another stream are committed, and seen, between pieces of the history; which says how long it will take."""
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_AHEAD_ROWS_MAX", "16384")
    rows = 600_000
    history(tmp_path / "history", count=rows)
    (tmp_path / "live.json").touch()
    with RunningServer(tmp_path, ["--allow-path", str(tmp_path)]) as server, server.connect() as connection:
        connection.execute("CREATE STREAM other (n INT)")
        connection.execute("CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS c FROM other EMIT UPDATE")
        backfilled(server, tmp_path, "s", f"connector = 'file', path = '{tmp_path}/live.json'")
        sent = 0
        progress: set[int] = set()
        estimates: list[timedelta] = []
        while True:
            connection.execute("INSERT INTO other VALUES (1)")
            sent += 1
            assert connection.execute("SELECT c FROM counted").fetchall() == [(sent,)]
            found = connection.execute("SELECT rows_read, status, time_left FROM streamsql.backfills").fetchall()
            if found and found[0][1] == "finished":
                break
            progress |= {read for read, _, _ in found}
            if found and found[0][2] is not None:
                estimates.append(found[0][2])
        assert len(progress - {0, rows}) > 4, progress
        assert len([left for left in estimates if timedelta() < left < timedelta(hours=1)]) > 4, estimates
        until(lambda: server.execute("SELECT count(*) FROM s") == [(rows,)])


@pytest.mark.parametrize("ending", ["parquet", "json.gz", "json"])
def test_how_much_of_a_file_is_read_is_told_while_it_is_read(tmp_path: Path, ending: str):
    file = tmp_path / f"one.{ending}"
    if ending == "parquet":
        numbers = list(range(60_000))
        table = pa.table({"at": pa.array(numbers, pa.timestamp("us")), "n": numbers})
        parquet.write_table(table, file, row_group_size=10_000)
    else:
        chance = random.Random(1)
        lines = b"".join(b'{"n": %d, "pad": "%x"}\n' % (n, chance.getrandbits(800)) for n in range(60_000))
        file.write_bytes(gzip.compress(lines) if ending.endswith("gz") else lines)
    surroundings = Surroundings((tmp_path.resolve(),))
    source = Files().open(Given({"path": str(file), "follow": "false"}, {}), COLUMNS, {}, LATER_US, surroundings)
    told = []
    while source.read(5_000, LATER_US) is not None:
        told.append(source.extent())
    source.close()
    size = file.stat().st_size
    assert told == sorted(told)
    assert told[-1] == (size, size)
    assert len({read for read, _ in told}) >= 3
    assert all(0 < read <= total == size for read, total in told)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    yield from servers.broker_in(tmp_path_factory.mktemp("kafka"))


def backfilled(server: RunningServer, folder: Path, name: str, live: str) -> None:
    server.execute(
        f"CREATE STREAM {name} (at TIMESTAMP, n BIGINT, WATERMARK FOR at AS at) WITH ({live}, times = 's', "
        f"backfill = '{folder}/history/*.parquet', retention = 'forever')"
    )


def killed(server: RunningServer) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.communicate()
    server.start()


def has(server: RunningServer, first: int, last: int) -> None:
    """Wait until stream s has these numbers, each once, and its view says the same."""
    wanted = (last - first + 1, first, last)
    until(lambda: server.execute("SELECT count(DISTINCT n), min(n), max(n) FROM s") == [wanted], 30)
    assert server.execute("SELECT count(*) FROM s") == [(wanted[0],)]
    until(lambda: server.execute("SELECT * FROM v") == [wanted])


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_a_stream_with_history_is_reset(broker: Broker, tmp_path: Path):
    """History has 0 to 99,999; the topic has 99,000 to 100,999, of which what comes after history is read."""
    history(tmp_path / "history", count=100_000)
    broker.create("resets")
    broker.send("resets", live(99_000, 2_000).splitlines())
    kafka = f"connector = 'kafka', brokers = '{broker.address}', topic = 'resets', startup = 'latest'"
    with RunningServer(tmp_path, ["--allow-path", str(tmp_path)]) as server:
        backfilled(server, tmp_path, "s", kafka)
        server.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, min(n) AS a, max(n) AS z FROM s")
        has(server, 0, 99_999)
        status = "SELECT status FROM streamsql.backfills"
        until(lambda: server.execute(status) == [("finished",)])

        server.execute("ALTER STREAM s RESET TO EARLIEST")
        until(lambda: server.execute("SELECT 1 FROM streamsql.backfills WHERE rows_read > 0"))
        killed(server)
        has(server, 0, 100_999)
        was = server.execute("SELECT positions::TEXT FROM streamsql.sources")[0][0]

        server.execute("ALTER STREAM s RESET TO TIMESTAMP '1970-01-02 00:00:00'")
        until(lambda: server.execute("SELECT 1 FROM streamsql.backfills WHERE rows_read > 0"))
        killed(server)
        has(server, 86_400, 100_999)
        server.execute("ALTER STREAM s RESET TO TIMESTAMP '1970-01-02 03:46:50+00'")
        has(server, 100_010, 100_999)
        until(lambda: server.execute("SELECT rows_read, status FROM streamsql.backfills") == [(0, "finished")])

        server.execute("""ALTER STREAM s RESET TO POSITIONS '{"0": 500}'""")
        has(server, 99_500, 100_999)
        left_out = "SELECT rows_read, history_end, began_at, time_left, status FROM streamsql.backfills"
        assert server.execute(left_out) == [(0, None, None, None, "left out")]
        killed(server)
        has(server, 99_500, 100_999)
        server.execute(f"ALTER STREAM s RESET TO POSITIONS '{was.replace('2000', '500')}'")
        has(server, 100_000, 100_999)

        server.execute("ALTER STREAM s RESET TO LATEST")
        until(lambda: server.execute("SELECT count(*) FROM s") == [(0,)])
        assert server.execute(status) == [("left out",)]
        broker.send("resets", live(7, 2).splitlines())
        has(server, 7, 8)


def test_a_stream_with_history_is_not_reset_to_where_it_cannot_begin(tmp_path: Path):
    history(tmp_path / "history")
    (tmp_path / "live.json").write_bytes(live(HISTORY - 50, 100))
    with RunningServer(tmp_path, ["--allow-path", str(tmp_path)]) as server:
        backfilled(server, tmp_path, "s", f"connector = 'file', path = '{tmp_path}/live.json'")
        server.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, min(n) AS a, max(n) AS z FROM s")
        has(server, 0, HISTORY + 49)
        for target, said in (
            ("LATEST", 'the connector "file" cannot be reset to latest'),
            ("TIMESTAMP 'x'", '"x" is not a timestamp'),
            ("""POSITIONS '{"backfill": "{}"}'""", "history is read from its beginning, or not at all"),
            ("""POSITIONS '{"backfill": 5}'""", "history is read from its beginning, or not at all"),
            ("""POSITIONS '{"wrong": 5}'""", '"wrong": 5 is no position of the connector "file"'),
        ):
            with pytest.raises(psycopg.Error, match=said):
                server.execute(f"ALTER STREAM s RESET TO {target}")
        has(server, 0, HISTORY + 49)
        server.execute("ALTER STREAM s RESET TO TIMESTAMP '1970-01-01 00:01:00'")
        has(server, 60, HISTORY + 49)
        server.execute("ALTER STREAM s RESET TO EARLIEST")
        has(server, 0, HISTORY + 49)
