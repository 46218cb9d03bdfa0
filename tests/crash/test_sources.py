"""A server killed while it reads a source: neither is an event lost, nor does one come twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.connectors.test_nexmark import rows
from tests.crash.servers import Server, serving
from tests.running import until

EVENTS = 20_000
# the n-th time that a point is reached after each start
FAULTS = ("epoch.rows_written:5", "epoch.before_commit:3", "epoch.after_commit:4", "epoch.begun:9", "")


def test_a_killed_server_goes_on_with_the_next_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", "300")
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_AHEAD_ROWS_MAX", "900")
    directory = tmp_path / "data"
    with serving(directory) as server, server.connect() as connection:
        connection.execute(
            f"CREATE STREAM bids WITH (connector = 'nexmark', table = 'bid', events = {EVENTS}, retention = 'forever')"
        )
        connection.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT auction, count(*) AS n FROM bids GROUP BY auction EMIT UPDATE"
        )
    for fault in FAULTS[:-1]:
        server = Server(directory, fault)
        assert server.was_killed()
    with serving(directory) as server, server.connect() as connection:
        query = "SELECT positions->>'0' FROM streamsql.sources"
        until(lambda: connection.execute(query).fetchall() == [(str(EVENTS),)])
        wanted = rows("bid", EVENTS)
        held = connection.execute("SELECT auction, bidder, price, date_time FROM bids").fetchall()
        columns = (wanted.column(name).to_pylist() for name in ("auction", "bidder", "price", "date_time"))
        assert sorted(held) == sorted(zip(*columns, strict=True))
        assert connection.execute("VERIFY MATERIALIZED VIEW v").fetchall() == []
        counted = connection.execute("SELECT sum(n) FROM v").fetchall()
        assert counted == [(len(held),)]
