"""Continuous results: each mode over the wire, subscriptions, cancelling, clients that vanish. Nothing is left running."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer, until
from tests.server.raw import RawClient, cancel_request

Connection = psycopg.Connection[TupleRow]
READY = 'ReadyForQuery {"status": "I"}'


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("DROP STREAM IF EXISTS s CASCADE")
        opened.execute("CREATE STREAM s (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts)")
        yield opened


def put(connection: Connection, *rows: tuple[str, str, int]) -> None:
    for time_of_day, key, number in rows:
        connection.execute("INSERT INTO s VALUES (%s, %s, %s)", [f"2024-01-01 {time_of_day}", key, number])


@contextlib.contextmanager
def following(server: RunningServer, query: str) -> Iterator[RawClient]:
    """A client whose continuous query has begun."""
    with RawClient(server.port) as client:
        client.send("Query", {"text": query})
        assert client.lines(1)[0].startswith("RowDescription")
        yield client


def rows(client: RawClient, count: int) -> list[str]:
    """Read so many rows, each as its values joined."""
    found = []
    for line in client.lines(count):
        assert line.startswith('DataRow {"values": ['), line
        found.append(line.removeprefix('DataRow {"values": [').removesuffix("]}"))
    return found


def cancelled(client: RawClient, server: RunningServer) -> None:
    """Cancel what a client runs, and see that it is told and can go on."""
    cancel_request(server.port, client.process_id, client.secret)
    lines = client.until_ready()
    assert [line for line in lines if line.startswith("ErrorResponse")] == [
        'ErrorResponse {"severity": "ERROR", "code": "57014", "message": "canceling statement due to user request"}'
    ]
    assert client.query("SELECT 1")[-2:] == ['CommandComplete {"tag": "SELECT 1"}', READY]


def test_append_mode_shows_a_window_when_it_closes(server: RunningServer, connection: Connection):
    query = "SELECT window_start::time, k, count(*) FROM s GROUP BY window(ts, '1 minute'), k EMIT APPEND"
    with following(server, query) as client:
        put(connection, ("00:00:10", "a", 1), ("00:00:20", "a", 2), ("00:01:10", "b", 3), ("00:03:00", "c", 4))
        assert rows(client, 2) == ['"00:00:00", "a", "2"', '"00:01:00", "b", "1"']
        cancelled(client, server)


def test_update_mode_shows_each_new_value(server: RunningServer, connection: Connection):
    with following(server, "SELECT k, sum(x) FROM s GROUP BY k EMIT UPDATE") as client:
        put(connection, ("00:00:10", "a", 1))
        assert rows(client, 1) == ['"a", "1"']
        put(connection, ("00:00:20", "b", 5))
        assert rows(client, 1) == ['"b", "5"']
        put(connection, ("00:00:20", "a", 5))
        assert rows(client, 1) == ['"a", "6"']
        cancelled(client, server)


def test_complete_mode_shows_the_whole_result_each_time(server: RunningServer, connection: Connection):
    put(connection, ("00:00:10", "a", 1), ("00:00:10", "b", 1))
    with following(server, "SELECT k, sum(x) FROM s GROUP BY k EMIT COMPLETE") as client:
        assert rows(client, 2) == ['"a", "1"', '"b", "1"']
        put(connection, ("00:00:20", "b", 5))
        assert rows(client, 2) == ['"a", "1"', '"b", "6"']
        cancelled(client, server)


def test_every_holds_changes_back_and_shows_the_last_of_them(server: RunningServer, connection: Connection):
    with following(server, "SELECT k, sum(x) FROM s GROUP BY k EMIT UPDATE EVERY '1 second'") as client:
        put(connection, ("00:00:10", "a", 1))
        assert rows(client, 1) == ['"a", "1"']
        began = time.monotonic()
        for number in range(2, 42):
            put(connection, ("00:00:10", "a", number))
        shown = rows(client, 1)
        while shown[-1] != '"a", "861"':
            shown += rows(client, 1)
        assert len(shown) <= time.monotonic() - began + 1
        cancelled(client, server)


def test_a_stateless_query_passes_rows_on_in_types_of_all_kinds(server: RunningServer, connection: Connection):
    query = "SELECT upper(k), x * 2, ARRAY[x, NULL], x > 1, ts::date, x::numeric(5,1) FROM s EMIT APPEND"
    with following(server, query) as client:
        put(connection, ("00:00:10", "ä", 1))
        assert rows(client, 1) == ['"Ä", "2", "{1,NULL}", "f", "2024-01-01", "1.0"']
        cancelled(client, server)


def test_a_new_live_query_begins_with_the_rows_kept(server: RunningServer, connection: Connection):
    put(connection, ("00:00:10", "a", 1), ("00:00:20", "b", 2))
    with following(server, "SELECT k FROM s EMIT APPEND") as client:
        assert rows(client, 2) == ['"a"', '"b"']
        put(connection, ("00:00:30", "c", 3))
        assert rows(client, 1) == ['"c"']
        cancelled(client, server)


def test_a_subscription_gives_the_snapshot_then_weighted_changes_then_progress(
    server: RunningServer, connection: Connection
):
    connection.execute("CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS total FROM s GROUP BY k EMIT UPDATE")
    put(connection, ("00:00:10", "a", 1), ("00:00:10", "b", 2))
    epoch = server.execute("SELECT epoch FROM streamsql.epoch")[0][0]
    with following(server, "SUBSCRIBE v WITH (PROGRESS = true)") as client:
        assert sorted(rows(client, 2)) == [f'"{epoch}", "1", "f", "a", "1"', f'"{epoch}", "1", "f", "b", "2"']
        assert rows(client, 1) == [f'"{epoch}", null, "t", null, null']
        put(connection, ("00:00:20", "a", 5))
        changed = rows(client, 3)
        assert sorted(row.split(", ", 1)[1] for row in changed[:2]) == ['"-1", "f", "a", "1"', '"1", "f", "a", "6"']
        assert changed[2].endswith('null, "t", null, null')
        cancelled(client, server)
    with following(server, "SUBSCRIBE v WITH (SNAPSHOT = false)") as client:
        put(connection, ("00:00:20", "c", 9))
        assert [row.split(", ", 1)[1] for row in rows(client, 1)] == ['"1", "c", "9"']
        cancelled(client, server)


def test_dropping_what_is_followed_ends_the_followers_with_an_error(server: RunningServer, connection: Connection):
    connection.execute("CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS total FROM s GROUP BY k EMIT UPDATE")
    with following(server, "SUBSCRIBE v") as subscriber, following(server, "SELECT k FROM s EMIT APPEND") as follower:
        connection.execute("DROP STREAM s CASCADE")
        for client, name in ((subscriber, "v"), (follower, "s")):
            assert client.until_ready() == [
                f'ErrorResponse {{"severity": "ERROR", "code": "2BP01", "message": "\\"{name}\\" was dropped"}}', READY,
            ]  # fmt: skip
    server.wait_for_live_queries(0)


def test_a_parameter_stands_in_a_continuous_query(server: RunningServer, connection: Connection):
    put(connection, ("00:00:10", "a", 1), ("00:00:20", "b", 20), ("00:00:20", "c", 30))
    query = "SELECT k, x + %s FROM s WHERE x > %s AND k <> %s EMIT APPEND LIMIT 1"
    assert connection.execute(query, [100, 10, "b"]).fetchall() == [("c", 130)]


@pytest.mark.parametrize("how", ["close", "reset", "half", "terminate"])
def test_a_client_that_goes_takes_its_queries_along(server: RunningServer, connection: Connection, how: str):
    connection.execute("CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS total FROM s GROUP BY k EMIT UPDATE")
    clients = []
    for query in ("SELECT k FROM s EMIT APPEND", "SELECT k, sum(x) FROM s GROUP BY k EMIT COMPLETE", "SUBSCRIBE v"):
        client = RawClient(server.port)
        client.send("Query", {"text": query})
        clients.append(client)
    # one more by the extended protocol, waiting between two Executes
    portal = RawClient(server.port)
    portal.send("Query", {"text": "BEGIN"}, "Parse", {"text": "SELECT k FROM s EMIT APPEND"}, "Bind", {"portal": "p"})
    put(connection, ("00:00:10", "a", 1))
    portal.send("Execute", {"portal": "p", "max_rows": 1}, "Sync")
    portal.until_ready()
    assert portal.until_ready()[-2] == "PortalSuspended"
    server.wait_for_live_queries(3)
    for client in [*clients, portal]:
        match how:
            case "reset":
                client.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: an RST instead of a FIN
            case "half":
                client.socket.shutdown(1)
                continue
            case "terminate":
                client.send("Terminate")
        client.socket.close()
    if how != "terminate":  # a client that waits for its rows is not heard before it goes
        server.wait_for_live_queries(0)
    for client in [*clients, portal]:
        client.socket.close()
    server.wait_for_live_queries(0)
    put(connection, ("00:00:10", "b", 2))
    until(lambda: "connection closed" in server.log())


def test_a_live_query_that_fails_to_start_leaves_nothing(server: RunningServer, connection: Connection):
    for statement, error in (
        ("SELECT k, sum(x) FROM s GROUP BY k EMIT APPEND", errors.InvalidTableDefinition),
        ("SELECT k FROM s ORDER BY k EMIT APPEND", errors.FeatureNotSupported),
        ("SELECT nosuch FROM s EMIT APPEND", errors.UndefinedColumn),
        ("SELECT k FROM nowhere EMIT APPEND", errors.UndefinedTable),
    ):
        with pytest.raises(error):
            connection.execute(statement)
    # a wrong count of result formats is found after the query was started
    with RawClient(server.port) as client:
        client.send(
            "Parse", {"text": "SELECT k FROM s EMIT APPEND"}, "Bind", {"result_formats": [0, 0]}, "Execute", "Sync"
        )
        assert '"code": "08P01"' in client.until_ready()[-2]
    assert server.live_queries() == []


def test_many_followers_see_every_row_in_order(server: RunningServer, connection: Connection):
    seen: list[list[int]] = []

    def follow() -> None:
        with server.session() as session:
            seen.append([row[0] for row in session.cursor().stream("SELECT x FROM s EMIT APPEND LIMIT 500")])

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    server.wait_for_live_queries(8)
    for start in range(0, 500, 50):
        connection.execute(f"INSERT INTO s SELECT '2024-01-01', 'k', i FROM range({start}, {start + 50}) AS r(i)")
    for thread in threads:
        thread.join(30)
    assert seen == [list(range(500))] * 8
    server.wait_for_live_queries(0)


def test_garbage_on_the_port_disturbs_nobody(server: RunningServer, connection: Connection):
    with following(server, "SELECT x FROM s EMIT APPEND") as follower:
        for garbage in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 64, b"\xff" * 64,
            struct.pack(">II", 8, 12345), struct.pack(">II", 9, 196608), struct.pack(">II", 200, 196608) + b"user\0",
            struct.pack(">III", 12, 80877102, 1), b"Q\0\0\0\x04", b"\0\0\0\x08\x04\xd2\x16\x2f" * 3,
        ):  # fmt: skip
            with RawClient(server.port, log_in=False) as client:
                client.send_bytes(garbage)
                client.socket.shutdown(1)
                said = b""
                while piece := client.socket.recv(4_096):
                    said += piece
                assert said == b"" or said[:1] in b"EN", garbage
        with RawClient(server.port) as client:
            client.send_bytes(b"\x01\x02\x03\x04\x05\x06")
            assert '"severity": "FATAL", "code": "08P01"' in client.lines(1)[0]
            assert client.at_end()
        put(connection, ("00:00:10", "a", 7))
        assert rows(follower, 1) == ['"7"']
        cancelled(follower, server)


def test_a_wrong_secret_cancels_nothing(server: RunningServer, connection: Connection):
    with following(server, "SELECT x FROM s EMIT APPEND") as client:
        cancel_request(server.port, client.process_id, b"nope")
        cancel_request(server.port, client.process_id + 1_000, client.secret)
        put(connection, ("00:00:10", "a", 7))
        assert rows(client, 1) == ['"7"']
        cancelled(client, server)
        cancel_request(server.port, client.process_id, client.secret)  # nothing runs: nothing happens
        assert client.query("SELECT 1")[-1] == READY


def test_pg_cancel_backend_tells_whether_there_is_such_a_session(server: RunningServer):
    with server.session() as asking, server.session() as other:
        number = other.info.backend_pid
        assert asking.execute("SELECT 1 AS one, pg_cancel_backend(2000000000)").fetchone() == (1, False)
        assert asking.execute("SELECT pg_cancel_backend(NULL)").fetchone() == (None,)
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            asking.execute(f"SELECT 1 WHERE pg_cancel_backend({number})")
        asking.execute("CREATE ROLE bystander")
        asking.execute("SET ROLE bystander")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            asking.execute(f"SELECT pg_cancel_backend({number})")
        asking.execute("RESET ROLE")
        asking.execute("DROP ROLE bystander")
    with server.session() as asking, server.session() as idle:
        assert asking.execute("SELECT pg_terminate_backend(%s)", (idle.info.backend_pid,)).fetchone() == (True,)
        with pytest.raises(psycopg.errors.AdminShutdown):
            idle.execute("SELECT 1")
    with server.session() as asking:  # who has left cannot be cancelled
        until(lambda: asking.execute(f"SELECT pg_cancel_backend({number})").fetchone() == (False,))
