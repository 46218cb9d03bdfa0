"""NDJSON into a stream with a windowed view: posted over HTTP, and appended to a file that is followed.

Estimate. A row is 60 bytes of JSON; from bytes to columns it takes 1 us of CPU (see `formats`), the engine 0.1 to 0.5 us (see
`engine`). HTTP adds a copy of the body and an epoch for each request, a file a listing and a read for each piece. The bound
is DuckDB alone, reading the same bytes from a file into a table and grouping that once.
"""

from __future__ import annotations

import http.client
import time

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.events import HOUR_US, STREAM, VIEW, Shape, events, scaled
from benchmarks.figures import Figure, say
from benchmarks.servers import folder, free_port, streamsql

ROWS = 2_000_000
PIECE_ROWS = 50_000
BOUND = "DuckDB, read_json and one GROUP BY"


def run(scale: float) -> list[Figure]:
    """Measure both."""
    rows = scaled(ROWS, scale)
    pieces = _ndjson(rows)
    bound = rows / _duckdb(pieces)
    posted = rows / _post(pieces, rows)
    followed = rows / _follow(pieces, rows)
    return [
        say(Figure("feeds", f"HTTP, POSTs of {PIECE_ROWS:,} rows", posted, "rows/s", bound, BOUND)),
        say(Figure("feeds", "a file that grows by as many", followed, "rows/s", bound, BOUND)),
    ]


def _ndjson(rows: int) -> list[bytes]:
    """Give the lines of all events, in pieces."""
    table = events(Shape(rows, 1_000, 24 * HOUR_US))
    parts = [
        pa.scalar('{"ts":"'), pc.strftime(table["ts"], "%Y-%m-%dT%H:%M:%SZ"),
        pa.scalar('","account":'), pc.cast(table["account"], pa.string()),
        pa.scalar(',"amount":'), pc.cast(table["amount"], pa.string()), pa.scalar("}\n"),
    ]  # fmt: skip
    lines = pc.binary_join_element_wise(*parts, "")
    return ["".join(lines.slice(at, PIECE_ROWS).to_pylist()).encode() for at in range(0, rows, PIECE_ROWS)]


def _duckdb(pieces: list[bytes]) -> float:
    """Give the seconds of the bound."""
    with folder("feeds-bench") as base:
        path = base / "events.json"
        path.write_bytes(b"".join(pieces))
        connection = duckdb.connect()
        began = time.perf_counter()
        connection.execute(
            "CREATE TABLE e AS SELECT * FROM read_json(?, format = 'newline_delimited', "
            "columns = {ts: 'TIMESTAMP', account: 'INTEGER', amount: 'DOUBLE'})",
            [str(path)],
        )
        connection.execute(
            "SELECT time_bucket(INTERVAL '1 minute', ts), account, count(*), sum(amount), avg(amount), min(amount), "
            "max(amount) FROM e GROUP BY ALL"
        ).to_arrow_table()
        return time.perf_counter() - began


def _post(pieces: list[bytes], rows: int) -> float:
    """Give the seconds until the last request is answered: then all rows are in the view, on disk."""
    port = free_port()
    with streamsql("--http-port", str(port)) as server, psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(STREAM.encode())
        connection.execute(VIEW)
        client = http.client.HTTPConnection("127.0.0.1", port)
        began = time.perf_counter()
        for piece in pieces:
            client.request("POST", "/streams/payments", piece, {"Content-Type": "application/x-ndjson"})
            answer = client.getresponse()
            body = answer.read()
            assert answer.status == 200, body
        seconds = time.perf_counter() - began
        client.close()
        assert _taken(connection) == rows
        return seconds


def _follow(pieces: list[bytes], rows: int) -> float:
    """Give the seconds from the first appended piece until all rows are in the view."""
    with folder("feeds-bench") as base:
        path = base / "events.json"
        path.write_bytes(b"")
        with streamsql("--allow-path", str(base)) as server, psycopg.connect(server.url, autocommit=True) as connection:
            options = f"connector = 'file', path = '{path}', poll_interval = '20 ms'"
            connection.execute(STREAM.replace("WITH (", f"WITH ({options}, ").encode())
            connection.execute(VIEW)
            began = time.perf_counter()
            with path.open("ab", buffering=0) as out:
                for piece in pieces:
                    out.write(piece)
            while _taken(connection) != rows:
                time.sleep(0.02)
            return time.perf_counter() - began


def _taken(connection: psycopg.Connection) -> int:
    found = connection.execute("SELECT rows_in FROM streamsql.views").fetchone()
    assert found is not None
    return int(found[0])
