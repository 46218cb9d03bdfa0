"""What docs/how-to/postgres.md shows is what psql prints, but for where the origin is; ``--update`` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.docs.transcripts import psql, statement_of, transcript_parts, trimmed
from tests.house.project import ROOT
from tests.running import RunningServer, until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

PAGE = ROOT / "docs/how-to/postgres.md"
ORIGIN = re.compile(
    r"host = 'localhost', database = 'shop', user = 'streamsql',\s*password = secret 'env:SHOP_PASSWORD'"
)


def test_the_sessions_are_what_psql_prints(
    tmp_path: Path, request: pytest.FixtureRequest, other_database: OtherDatabase
):
    page = PAGE.read_text("utf-8")
    made = re.search(r"database `shop`:\n\n((?:    .*\n)+)", page)
    assert made is not None
    other_database.execute(made[1])
    with RunningServer(tmp_path, ["--in-memory"]) as server:
        for block in re.findall(r"```psql\n(.*?)```", page, re.DOTALL):
            shown: list[tuple[str, str]] = []
            for typed, _ in transcript_parts(block):
                sql = ORIGIN.sub(other_database.written_options, statement_of(typed))
                shown.append((typed, trimmed(psql(server, sql))))
                if "CREATE TABLE" in sql:
                    until(lambda: server.execute("SELECT count(*) FROM orders") == [(9,)])
                elif "CREATE SINK" in sql:
                    until(lambda: server.execute("SELECT rows_waiting FROM streamsql.sinks") == [(0,)])
            text = "\n".join(f"{typed}\n{answer}" for typed, answer in shown) + "\n"
            if request.config.getoption("--update"):
                PAGE.write_text(PAGE.read_text("utf-8").replace(block, text), "utf-8")
            else:
                assert text == block
        assert len(other_database.rows("SELECT * FROM regions")) == 3
        server.execute("DROP SINK regions", "DROP MATERIALIZED VIEW regions", "DROP TABLE orders")
