"""A server killed anywhere between a source and its sinks: the views equal the oracle, each sink holds each row once.

A stream of generated rows goes through an append-only and an updating view into files, PostgreSQL and Kafka, while the
server is killed at every named point, and at random instants. `make test` runs some thousand rows and three such instants;
`make nightly` as many as STREAMSQL_CRASH_ROWS and STREAMSQL_CRASH_KILLS say.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg.rows import TupleRow

from streamsql.base.faults import FILE_POINTS, POINTS, SINK_POINTS
from streamsql.base.limits import Limits
from streamsql.connectors.datagen import Datagen
from streamsql.connectors.source import Given, Surroundings
from streamsql.sql.parse import parse
from tests.connectors.servers import kafka as brokers
from tests.connectors.servers.kafka import Broker
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.crash.servers import Server, serving
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

ROWS = int(os.environ.get("STREAMSQL_CRASH_ROWS", "30000"))
RANDOM_KILLS = int(os.environ.get("STREAMSQL_CRASH_KILLS", "3"))
CHANCE = random.Random(ROWS)
# how long the server lives before each kill at an instant that nothing decides; rows come so slowly that the last finds work
LIVES = [CHANCE.uniform(0, 1) for _ in range(RANDOM_KILLS)]
SECONDS_MAX = 120 + ROWS / 500 + 10 * RANDOM_KILLS

# no row is dropped, no view made or given a shared state, and no checkpoint due while it runs, and the tables are made before
NOT_HERE = {
    "start.tables_made",
    "retention.trimmed",
    "view.created",
    "state.shared",
    "sink.created",
    "checkpoint.before",
    "checkpoint.after",
}
FAULTS = tuple(
    f"{point}:{1 if point in FILE_POINTS else 3}"
    for point in (*POINTS, *SINK_POINTS, *FILE_POINTS)
    if point not in NOT_HERE
)
OPTIONS = {
    "rows": str(ROWS),
    "rows_per_second": str(0.8 * ROWS / sum(LIVES)),
    "seed": "7",
    "fields.id.kind": "sequence",
    "fields.k.kind": "choice",
    "fields.k.values": "a, b, c",
}
STREAM = "CREATE STREAM s (id BIGINT, k TEXT, n INT) WITH (connector = 'datagen', retention = 'forever', {})".format(
    ", ".join(f"{name} = '{value}'" for name, value in OPTIONS.items())
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    yield from brokers.broker_in(tmp_path_factory.mktemp("kafka"))


def origin() -> list[tuple[int, str, int]]:
    """Make the rows that the stream is to have, by the generator alone."""
    statement: Any = parse(STREAM, Limits())[0]
    options = {name: value for name, value in OPTIONS.items() if name != "rows_per_second"}
    source = Datagen().open(Given(options, {}), statement.columns, {}, 0, Surroundings())
    rows: list[tuple[int, str, int]] = []
    while (batch := source.read(65_536, 0)) is not None:
        rows += zip(*(batch.rows.column(c.name).to_pylist() for c in statement.columns), strict=True)
    return rows


def in_files(out: Path) -> list[tuple[int, int]]:
    """Give the rows of the files that the manifests list."""
    names = [f["path"] for m in sorted((out / "_manifest").rglob("*.json")) for f in json.loads(m.read_text())["files"]]
    if not names:
        return []
    return duckdb.connect().execute("SELECT id, n FROM read_parquet(?)", [[str(out / n) for n in names]]).fetchall()


def define(connection: psycopg.Connection[TupleRow], out: Path, database: OtherDatabase, broker: Broker) -> None:
    """Make the stream, the views and the sinks."""
    to = f"connector = 'postgres', {database.written_options}, create_table = true"
    for text in (
        STREAM,
        "ALTER STREAM s PAUSE",
        "CREATE MATERIALIZED VIEW odd AS SELECT id, n FROM s WHERE id % 2 = 1 EMIT APPEND",
        "CREATE MATERIALIZED VIEW sums AS SELECT k, count(*) AS c, sum(n) AS n FROM s GROUP BY k EMIT UPDATE",
        f"CREATE SINK files FROM odd WITH (connector = 'file', path = '{out}', roll_interval = '50 ms')",
        f"CREATE SINK odd_rows FROM odd WITH ({to})",
        f"CREATE SINK sums_by_key FROM sums WITH ({to})",
        f"CREATE SINK topic FROM odd WITH (connector = 'kafka', brokers = '{broker.address}', topic = 'odd')",
        "ALTER STREAM s RESUME",
    ):
        connection.execute(text)


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(SECONDS_MAX)
def test_each_row_is_everywhere_once_wherever_the_server_dies(
    tmp_path: Path, other_database: OtherDatabase, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STREAMSQL_ALLOW_PATH", str(tmp_path))
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", str(max(ROWS // 200, 100)))
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_AHEAD_ROWS_MAX", str(max(ROWS // 100, 200)))
    directory, out = tmp_path / "data", tmp_path / "out"
    broker.create("odd", partitions=3)
    with serving(directory) as server, server.connect() as connection:
        define(connection, out, other_database, broker)
    kills = 0
    for fault in FAULTS:
        server = Server(directory, fault)
        assert server.was_killed(), fault
        kills += 1
    for seconds in LIVES:
        server = Server(directory)
        wait_for_a_kill(server, seconds)
        kills += 1
    with serving(directory) as server, server.connect() as connection:
        read = f"SELECT positions->>'0' = '{ROWS}' FROM streamsql.sources"
        assert connection.execute(read).fetchall() == [(False,)], "the last kills found nothing to do"
        until(lambda: connection.execute(read).fetchall() == [(True,)], SECONDS_MAX)
        until(lambda: nothing_waits(connection), SECONDS_MAX)
        rows = origin()
        assert sorted(connection.execute("SELECT id, k, n FROM s").fetchall()) == rows
        odd = [(number, n) for number, _, n in rows if number % 2]
        assert sorted(connection.execute("SELECT id, n FROM odd").fetchall()) == odd
        sums: Counter[str] = Counter()
        for _, k, n in rows:
            sums[k] += n
        counts = Counter(k for _, k, _ in rows)
        by_key = sorted((k, counts[k], sums[k]) for k in sums)
        assert sorted(connection.execute("SELECT k, c, n FROM sums").fetchall()) == by_key
        assert sorted(other_database.rows("SELECT k, c, n FROM sums_by_key")) == by_key
        assert sorted(other_database.rows("SELECT id, n FROM odd_rows")) == odd
        until(lambda: len(in_files(out)) >= len(odd), SECONDS_MAX)
        assert sorted(in_files(out)) == odd
        messages = [json.loads(m.value()) for m in broker.received("odd")]
        assert sorted((m["id"], m["n"]) for m in messages) == odd
    print(f"{kills} kills, {ROWS} rows")


def nothing_waits(connection: psycopg.Connection[TupleRow]) -> bool:
    """Tell whether all sinks have everything; fail with the reason of one that has stopped."""
    found = connection.execute("SELECT name, status, rows_waiting FROM streamsql.sinks").fetchall()
    assert not [row for row in found if row[1].startswith("stopped")], found
    return not [row for row in found if row[1] != "delivering" or row[2] > 0]


def wait_for_a_kill(server: Server, seconds: float) -> None:
    """Kill the server at an instant that nothing decides."""
    threading.Event().wait(seconds)
    server.kill()
    assert server.was_killed()
