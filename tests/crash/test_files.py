"""A server killed between files that come and grow, a view, and files that it writes: each row is in these exactly once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from streamsql.base.faults import FILE_POINTS
from tests.crash.servers import Server, serving
from tests.running import until

FAULTS = ("epoch.rows_written:1", "epoch.before_commit:2", "epoch.after_commit:2", *(f"{p}:1" for p in FILE_POINTS))


def lines(first: int, count: int) -> bytes:
    return b"".join(b'{"n": %d, "word": "w%d"}\n' % (n, n % 5) for n in range(first, first + count))


def settled(connection: psycopg.Connection[Any], count: int, out: Path) -> bool:
    found = connection.execute("SELECT count(*) FROM words").fetchall()
    return found == [(count,)] and len(written(out)) == count // 5


def written(out: Path) -> list[int]:
    """Give what is in the files that the manifests list."""
    names = [f["path"] for m in sorted((out / "_manifest").rglob("*.json")) for f in json.loads(m.read_text())["files"]]
    assert len(set(names)) == len(names)
    there = [str(out / name) for name in names if (out / name).exists()]
    if not there:
        return []
    rows = duckdb.connect().execute("SELECT n FROM read_parquet(?) ORDER BY n", [there]).fetchall()
    return [n for (n,) in rows]


@pytest.mark.timeout(300)
def test_a_killed_server_leaves_each_row_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STREAMSQL_ALLOW_PATH", str(tmp_path))
    monkeypatch.setenv("STREAMSQL_LIMIT_SOURCE_BATCH_ROWS_MAX", "300")
    source, out, directory = tmp_path / "in", tmp_path / "out", tmp_path / "data"
    source.mkdir()
    total = 0
    with serving(directory) as server, server.connect() as connection:
        connection.execute(
            "CREATE STREAM words (n BIGINT, word TEXT) WITH (connector = 'file', format = 'json', "
            f"path = '{source}/*', poll_interval = '20 milliseconds', retention = 'forever')"
        )
        connection.execute("CREATE MATERIALIZED VIEW few AS SELECT n, word FROM words WHERE word = 'w3' EMIT APPEND")
        connection.execute(
            "CREATE MATERIALIZED VIEW counts AS SELECT word, count(*) AS n FROM words GROUP BY word EMIT UPDATE"
        )
        connection.execute(
            f"CREATE SINK files FROM few WITH (connector = 'file', path = '{out}', roll_interval = '100 milliseconds', "
            "roll_bytes = 20000)"
        )
    for index, fault in enumerate(FAULTS):
        (source / f"{index}.json.gz").write_bytes(gzip.compress(lines(total, 1_000)))
        total += 1_000
        with (source / "growing.json").open("ab") as file:
            file.write(lines(total, 1_000)[:-9])
            total += 1_000
            server = Server(directory, fault)
            file.write(lines(total - 1_000, 1_000)[-9:])
        assert server.was_killed(), fault
    with serving(directory) as server, server.connect() as connection:
        until(lambda: settled(connection, total, out))
        assert written(out) == [n for n in range(total) if n % 5 == 3]
        seen = [p.relative_to(out).as_posix() for p in out.glob("part-*.parquet")]
        assert len(duckdb.connect().execute(f"SELECT n FROM '{out}/part-*.parquet'").fetchall()) == total // 5, seen
        held = connection.execute("SELECT count(*), count(DISTINCT n) FROM words").fetchall()
        assert held == [(total, total)]
        assert connection.execute("SELECT sum(n) FROM counts").fetchall() == [(total,)]
        assert connection.execute("SELECT * FROM streamsql.rejected_rows").fetchall() == []
        shown = connection.execute("SELECT guarantee, status FROM streamsql.sinks").fetchall()
        assert shown == [("exactly once", "delivering")]
