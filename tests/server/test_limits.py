"""Every bound that a client can reach is reached: the error names it, and the session goes on where it can."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from streamsql.base.limits import Limits
from tests.running import RunningServer, until
from tests.server.raw import RawClient

LIMITS = {
    "columns_max": 10,
    "connections_max": 6,
    "expression_depth_max": 60,
    "expression_nodes_max": 5_000,
    "message_bytes_max": 300_000,
    "output_bytes_max": 100_000,
    "parameters_max": 20,
    "portals_max": 3,
    "queries_max": 3,
    "query_text_bytes_max": 100_000,
    "statements_max": 4,
    "startup_seconds_max": 2,
    "subscription_rows_max": 2_000,
    "transaction_rows_max": 5_000,
    "window_panes_max": 100,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    options = [option for name, value in LIMITS.items() for option in ("--limit", f"{name}={value}")]
    with RunningServer(tmp_path_factory.mktemp("server"), options) as running:
        yield running
        running.wait_for_live_queries(0)


@pytest.fixture
def client(server: RunningServer) -> Iterator[RawClient]:
    with RawClient(server.port) as connected:
        yield connected


def refusal(lines: list[str], name: str) -> bool:
    """Tell whether one of the messages is an error that names the bound."""
    return any("ErrorResponse" in line and f"exceeds {name} = {LIMITS[name]}" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("columns_max", f"CREATE TABLE wide ({', '.join(f'c{i} INT' for i in range(11))})"),
        ("expression_depth_max", f"SELECT {'(' * 80}1{')' * 80}"),
        ("expression_nodes_max", f"SELECT {'quote_ident(' * 9}k{')' * 9} FROM (VALUES ('a')) AS v(k)"),
        ("query_text_bytes_max", f"SELECT '{'x' * 100_000}'"),
        ("transaction_rows_max", "INSERT INTO rows SELECT i FROM range(5001) AS r(i)"),
        ("transaction_rows_max", "INSERT INTO rows SELECT 1 FROM range(5000); INSERT INTO rows VALUES (1)"),
        ("window_panes_max", "SELECT count(*) FROM events GROUP BY window(ts, '1 day', '1 second')"),
        ("window_panes_max", "SELECT count(*) FROM events GROUP BY window(ts, '1 day', '1 second') EMIT UPDATE"),
        ("parameters_max", "SELECT $21"),
    ],
)
def test_a_statement_that_is_too_much_is_refused_by_name(
    server: RunningServer, client: RawClient, name: str, statement: str
):
    server.execute("CREATE TABLE IF NOT EXISTS rows (n INT)", "CREATE STREAM IF NOT EXISTS events (ts TIMESTAMP)")
    assert refusal(client.query(statement), name)
    assert client.query("SELECT 1")[-1] == 'ReadyForQuery {"status": "I"}'
    assert server.execute("SELECT count(*) FROM rows") == [(0,)]


def test_the_hint_of_a_limit_says_how_to_raise_it(server: RunningServer):
    with server.session() as session:
        with pytest.raises(errors.ProgramLimitExceeded) as refused:
            session.execute(f"SELECT {'(' * 80}1{')' * 80}")
        assert refused.value.diag.message_hint == (
            "start the server with --limit expression_depth_max=N, or set STREAMSQL_LIMIT_EXPRESSION_DEPTH_MAX"
        )


def test_a_message_that_is_too_long_ends_the_session_and_no_other(server: RunningServer, client: RawClient):
    with RawClient(server.port) as other:
        other.send_bytes(b"Q" + (LIMITS["message_bytes_max"] + 1).to_bytes(4, "big") + b"SELECT")
        (line,) = other.lines(1)
        assert "FATAL" in line
        assert refusal([line], "message_bytes_max")
        assert other.at_end()
    assert client.query("SELECT 1")[-1] == 'ReadyForQuery {"status": "I"}'


def test_prepared_statements_are_bounded_and_replacing_the_unnamed_one_is_free(client: RawClient):
    for number in range(4):
        client.send("Parse", {"name": f"s{number}", "text": "SELECT 1"}, "Sync")
        assert client.until_ready()[0] == "ParseComplete"
    client.send("Parse", {"name": "s5", "text": "SELECT 1"}, "Sync")
    assert refusal(client.until_ready(), "statements_max")
    client.send(
        "Close", {"kind": "S", "name": "s0"}, "Parse", {"text": "SELECT 1"}, "Parse", {"text": "SELECT 2"}, "Sync"
    )
    assert client.until_ready()[:-1] == ["CloseComplete", "ParseComplete", "ParseComplete"]


def test_portals_are_bounded(client: RawClient):
    binds = [item for number in range(4) for item in ("Bind", {"portal": f"p{number}"})]
    client.send("Query", {"text": "BEGIN"}, "Parse", {"text": "SELECT 1"}, *binds, "Sync")
    client.until_ready()
    assert refusal(client.until_ready(), "portals_max")


def test_parameters_of_a_bind_are_bounded(client: RawClient):
    client.send("Parse", {"text": "SELECT 1"}, "Bind", {"values": ["x"] * 21}, "Sync")
    assert refusal(client.until_ready(), "parameters_max")


def test_a_copy_longer_than_a_transaction_keeps_nothing(server: RunningServer):
    server.execute("CREATE TABLE IF NOT EXISTS copied (n INT)")

    def copy(session: psycopg.Connection, rows: int) -> None:
        with session.cursor().copy("COPY copied FROM STDIN") as writing:
            for number in range(rows):
                writing.write_row((number,))

    with server.session() as session:
        with pytest.raises(errors.ProgramLimitExceeded, match="transaction_rows_max = 5000"):
            copy(session, 5_001)
        assert session.execute("SELECT count(*) FROM copied").fetchone() == (0,)
        copy(session, 5_000)
        assert session.execute("SELECT count(*) FROM copied").fetchone() == (5_000,)


def test_a_transaction_counts_the_rows_of_all_its_statements(server: RunningServer):
    server.execute("CREATE TABLE IF NOT EXISTS counted (n INT)")
    with server.session(autocommit=False) as session:
        session.execute("INSERT INTO counted SELECT 1 FROM range(3000)")
        with pytest.raises(errors.ProgramLimitExceeded, match="transaction_rows_max"):
            session.execute("INSERT INTO counted SELECT 1 FROM range(2001)")
        session.rollback()
        assert session.execute("SELECT count(*) FROM counted").fetchone() == (0,)


def test_continuous_queries_are_bounded_and_give_their_place_back(server: RunningServer):
    server.execute("CREATE STREAM IF NOT EXISTS watched (n INT)")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.port)) for _ in range(3)]
        for follower in clients:
            follower.send("Query", {"text": "SELECT n FROM watched EMIT APPEND"})
        server.wait_for_live_queries(3)
        with server.session() as session:
            for statement in (
                "SELECT n FROM watched EMIT APPEND",
                "CREATE MATERIALIZED VIEW v AS SELECT n FROM watched EMIT APPEND",
            ):
                with pytest.raises(errors.ProgramLimitExceeded, match="queries_max = 3"):
                    session.execute(statement)
    server.wait_for_live_queries(0)
    server.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM watched EMIT APPEND", "DROP MATERIALIZED VIEW v")


def test_connections_are_bounded_and_give_their_place_back(server: RunningServer):
    until(lambda: _sessions_fit(server, LIMITS["connections_max"]))
    with contextlib.ExitStack() as stack:
        for _ in range(LIMITS["connections_max"]):
            stack.enter_context(server.session())
        with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already") as refused:
            server.connect()
        assert "connections_max = 6" in str(refused.value)
    until(lambda: _sessions_fit(server, LIMITS["connections_max"]))


def _sessions_fit(server: RunningServer, count: int) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(count):
                stack.enter_context(server.session())
        except psycopg.OperationalError:
            return False
    return True


def test_a_connection_that_never_logs_in_is_closed(server: RunningServer):
    with RawClient(server.port, log_in=False) as silent:
        assert silent.at_end()


def test_a_follower_that_does_not_read_is_told_and_holds_up_nobody(server: RunningServer):
    server.execute("CREATE STREAM IF NOT EXISTS torrent (n INT, padding TEXT)")
    with RawClient(server.port, receive_bytes=4_096) as slow:
        slow.send("Query", {"text": "SELECT n, padding FROM torrent EMIT APPEND"})
        server.wait_for_live_queries(1)
        began = dt.datetime.now(dt.UTC)
        with server.session() as session:
            for _ in range(40):
                session.execute("INSERT INTO torrent SELECT i, repeat('x', 2000) FROM range(500) AS r(i)")
            assert session.execute("SELECT count(*) FROM torrent").fetchone() == (20_000,)
        assert dt.datetime.now(dt.UTC) - began < dt.timedelta(seconds=30)
        kinds: list[str] = []
        while not kinds or kinds[-1] not in "EC":
            kinds.append(slow.message()[0])
        assert 500 <= kinds.count("D") < 20_000
        slow.send("Query", {"text": "SELECT 'usable'"})
        assert slow.lines(1) == ['ReadyForQuery {"status": "I"}']
        assert 'DataRow {"values": ["usable"]}' in slow.until_ready()
    assert 'sqlstate=53400 message="the subscription fell behind' in server.log()
    server.wait_for_live_queries(0)


def test_the_limits_reached_here_are_limits_of_the_server():
    assert set(LIMITS) <= set(Limits.__slots__)
