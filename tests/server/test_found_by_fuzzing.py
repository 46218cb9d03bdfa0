"""What fuzzing (tests/fuzz) has found: each gets a clean error, and the connection goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.pgwire.wire import frame, startup, string
from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("CREATE STREAM fuzzed (ts TIMESTAMP, x INT, k TEXT)")
        opened.execute("CREATE MATERIALIZED VIEW fuzzed_view AS SELECT count(*) AS n FROM fuzzed EMIT UPDATE")
        yield opened


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("SELECT (*) FROM fuzzed EMIT UPDATE", "42601"),
        ("SELECT x, (*) AS n FROM fuzzed GROUP BY x", "42601"),
        ("SELECT * FRnote FROM fuzzed", "42601"),
        ("SELECT * GROUP BY window(ts, '1h')", "42601"),
        ("SELECT GROUP BY window(ts, '1h') * later", "42703"),
        ("SELECT * FROM ..pg_description d", "42601"),
        ("SELECT k, now()$1FROM fuzzed EMIT APPEND", "42P02"),
        ("SELECT count(*) FROM fuzzed GROUP BY window(ts, '1 day', $1) EMIT UPDATE", "42P02"),
        ("SELECT 1 OPERATOR(pg_catalog.nosuch) 2", "42883"),
        ("SELECT string_to_array(current_setting(), ',') FROM pg_class", "42883"),
        ("SELECT current_setting()", "42883"),
        ("SELECT has_table_privilege()", "42883"),
        ("SELECT array_agg( ORDER BY x) FROM fuzzed", "42601"),
        ("SELECT string_agg(DISTINCT , ',' ORDER BY x) FROM fuzzed GROUP BY window(ts, '1h') EMIT APPEND", "42601"),
        ("SELECT count(DISTINCT) FROM fuzzed", "42601"),
        ("SELECT * FROM SESSION(fuzzed PARTITION BY k \"K\", ts, '1m')", "42601"),
        ("SELECT * FROM SESSION(fuzzed PARTITION BY k AS j, ts, '1m') EMIT UPDATE", "42601"),
        ("SELECT k INTO", "42601"),
        (f"SELECT {'quote_ident(' * 9}k{')' * 9} FROM fuzzed", "54000"),
        (f"SELECT {'format_type(' * 9}23{', -1)::regtype' * 9}", "54000"),
    ],
)
def test_a_text_that_means_nothing_is_refused(connection: Connection, text: str, sqlstate: str):
    failed = connection.pgconn.exec_(text.encode())
    assert failed.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == sqlstate.encode()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_live_query_that_was_asked_for_before_the_client_left_does_not_stay(
    server: RunningServer, connection: Connection
):
    """It comes behind another one, which the end of the client's words cancels."""
    said = bytearray()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        query = frame("Q", string("SUBSCRIBE fuzzed_view"))
        client.sendall(startup({"user": "tester", "database": "streamsql"}) + query * 3)
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(1 << 16):
            said += piece
    assert said.count(b"C57014\0") == 3


def test_a_timeout_while_a_query_is_prepared_is_a_timeout(server: RunningServer):
    with server.session(options="-c statement_timeout=1") as opened:
        codes = set()
        for number in range(40):
            text = (
                f"SELECT attname, format_type(atttypid, atttypmod), {number} "
                "FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
            )
            answer = opened.pgconn.exec_(text.encode())
            codes.add(answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE))
        assert codes <= {None, b"57014"}


def test_casts_that_say_the_same_again_do_not_grow(connection: Connection):
    again = "::regclass" * 30
    found = connection.execute(f"SELECT 'fuzzed'{again}::text, min(attrelid{again}::text) FROM pg_attribute".encode())
    once = connection.execute("SELECT 'fuzzed'::regclass::text, min(attrelid::regclass::text) FROM pg_attribute")
    assert found.fetchall() == once.fetchall()
