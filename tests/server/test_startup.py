"""Starting and stopping: one line when ready, one line when it cannot be, settings, the log, signals at any time."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import duckdb
import psycopg
import pytest
from psycopg import errors

from streamsql.base.config import Config, ConfigError, add_arguments, config_of
from streamsql.base.errors import AuthorizationError
from streamsql.engine.recovery import FORMAT
from streamsql.pgwire.auth import Asked, method_for
from streamsql.pgwire.rules import DEFAULT_RULES, Method, is_loopback, read_rules
from tests.pgwire.wire import startup
from tests.running import RunningProgram, RunningServer, until
from tests.server.raw import RawClient, cancel_request

LOG_LINE = re.compile(
    r'timestamp=\S+Z level=(debug|info|warning|error) event=(?:\w+|"[^"]+")( \w+=(?:[^\s"]*|"(?:[^"\\]|\\.)*"))*\Z'
)


def start(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a server that cannot start, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamsql", "serve", *arguments],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **(environment or {})}, timeout=30, check=False,
    )  # fmt: skip


def config(*arguments: str, environment: Mapping[str, str] | None = None) -> Config:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return config_of(parser.parse_args(arguments), environment or {})


# -------------------------------------------------------------------------------------------------------------- settings


def test_without_settings_the_defaults_hold():
    assert (config().host, config().port, config().data_directory) == ("127.0.0.1", 5433, Path("streamsql-data"))


def test_the_command_line_counts_before_the_environment():
    environment = {
        "STREAMSQL_HOST": "::1", "STREAMSQL_PORT": "6000", "STREAMSQL_DATA_DIR": "/x", "STREAMSQL_LOG_LEVEL": "debug",
        "STREAMSQL_LIMIT_PORTALS_MAX": "7", "STREAMSQL_THREADS": "2", "STREAMSQL_MEMORY_LIMIT": "1GB",
    }  # fmt: skip
    from_environment = config(environment=environment)
    assert (from_environment.host, from_environment.port, from_environment.data_directory) == ("::1", 6000, Path("/x"))
    assert (from_environment.log_level, from_environment.limits.portals_max) == ("debug", 7)
    assert (from_environment.threads, from_environment.memory_limit) == (2, "1GB")
    given = config("--port", "0", "--host", "127.0.0.2", "--limit", "portals_max=8", environment=environment)
    assert (given.port, given.host, given.limits.portals_max) == (0, "127.0.0.2", 8)
    assert config(environment={"STREAMSQL_IN_MEMORY": "true"}).data_directory is None
    assert config("--in-memory").data_directory is None


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--port", "70000"], {}, "port must be between 0 and 65535, not 70000"),
        (["--port", "x"], {}, "port must be a number, not 'x'"),
        ([], {"STREAMSQL_PORT": "x"}, "port must be a number, not 'x'"),
        ([], {"STREAMSQL_LOG_LEVEL": "loud"}, "log level must be one of debug, info, warning, error, not 'loud'"),
        (["--in-memory", "--data-dir", "x"], {}, "--in-memory and --data-dir exclude each other"),
        (["--limit", "nosuch=1"], {}, "there is no limit 'nosuch'; limits: advisory_locks_max, "),
        (["--limit", "portals_max"], {}, "limit portals_max must be a number, not ''"),
        (["--limit", "portals_max=0"], {}, "limit portals_max must be between 1 and "),
        ([], {"STREAMSQL_LIMIT_PORTALS_MAX": "x"}, "limit portals_max must be a number, not 'x'"),
        (["--tls-cert", "x"], {}, "--tls-cert and --tls-key go together"),
        (["--require-tls"], {}, "--tls-ca and --require-tls need --tls-cert and --tls-key"),
        ([], {"STREAMSQL_TLS_CA": "x"}, "--tls-ca and --require-tls need --tls-cert and --tls-key"),
        (["--threads", "0"], {}, "threads must be between 1 and 1024, not 0"),
    ],
)
def test_a_wrong_setting_is_named(arguments: list[str], environment: dict[str, str], message: str):
    with pytest.raises(ConfigError) as wrong:
        config(*arguments, environment=environment)
    assert str(wrong.value).startswith(message)


# -------------------------------------------------------------------------------------------------------------- starting


def test_the_ready_line_is_all_that_is_on_stdout_and_the_log_is_structured(tmp_path: Path):
    with RunningProgram(tmp_path, ["--log-level", "debug"]) as server:
        server.execute("SELECT 1")
        with pytest.raises(psycopg.Error):
            server.execute('SELECT "no\nsuch"')
        assert server.stop() == 0
    lines = server.log().splitlines()
    assert not [line for line in lines if not LOG_LINE.match(line)]
    events = [match[1].strip('"') for line in lines if (match := re.search(r'event=(\w+|"[^"]+")', line))]
    wanted = [
        "recovered",
        "listening",
        "connection opened",
        "query",
        "connection closed",
        "statement failed",
        "stopping",
        "stopped",
    ]
    assert [event for event in dict.fromkeys(events) if event in wanted] == wanted
    assert "sqlstate=42703" in server.log()
    assert "application=" in server.log()
    assert (tmp_path / "data" / "state.duckdb").exists()


def test_the_log_level_hides_what_is_less_severe(tmp_path: Path):
    with RunningProgram(tmp_path, environment={"STREAMSQL_LOG_LEVEL": "warning"}) as server:
        server.execute("SELECT 1")
    assert server.log() == ""


def test_settings_come_from_the_environment(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {"STREAMSQL_HOST": "127.0.0.1", "STREAMSQL_DATA_DIR": str(tmp_path / "elsewhere")}
    with RunningProgram(tmp_path, ["--port", str(port), "--in-memory"], {"STREAMSQL_HOST": "localhost"}) as server:
        assert server.port == port
        server.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)")
        assert server.execute("SELECT * FROM t") == [(1,)]
    assert {path.name for path in tmp_path.iterdir()} == {"server.log"}
    with RunningProgram(tmp_path, [], environment) as server:
        server.arguments.clear()
        server.execute("SELECT 1")


def test_it_listens_on_ipv6_too(tmp_path: Path):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with RunningProgram(tmp_path, ["--host", "::1", "--in-memory"]) as server:
        assert server.dsn == f"postgresql://[::1]:{server.port}/streamsql"
        assert server.execute("SELECT 1") == [(1,)]


def test_what_was_committed_is_there_after_a_restart_and_the_log_tells_of_it(tmp_path: Path):
    with RunningProgram(tmp_path) as server:
        server.execute(
            "CREATE STREAM s (x INT)", "CREATE TABLE t (a INT DEFAULT 5)", "INSERT INTO s VALUES (1), (2)",
            "CREATE MATERIALIZED VIEW v AS SELECT sum(x) AS total FROM s EMIT UPDATE",
        )  # fmt: skip
    with RunningProgram(tmp_path) as server:
        server.execute("INSERT INTO s VALUES (3)", "INSERT INTO t DEFAULT VALUES")
        assert server.execute("SELECT total FROM v") == [(6,)]
        assert server.execute("SELECT * FROM t") == [(5,)]
        assert re.search(r"event=recovered .*streams=1 tables=1 views=1 seconds=[\d.]+", server.log())


def refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("timestamp=")]
    assert lines == [f"streamsql: {message}"]
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = start(tmp_path, "--port", str(port), "--in-memory")
    refused(done, f"cannot listen on 127.0.0.1:{port}: address already in use")


def test_other_machines_are_served_with_a_password_only(tmp_path: Path):
    serve = ("--host", "0.0.0.0", "--port", "0", "--data-dir", "data")
    refused(
        start(tmp_path, *serve),
        "serving 0.0.0.0 needs a password for the first owner: set STREAMSQL_PASSWORD, or use --password-file; "
        "or listen on 127.0.0.1",
    )
    (tmp_path / "password").write_text("from a file\n")
    (tmp_path / "empty").write_text("\n")
    refused(
        start(tmp_path, *serve, "--password-file", "nosuch"),
        "cannot read password file nosuch: No such file or directory",
    )
    refused(start(tmp_path, *serve, "--password-file", "empty"), "password file empty is empty")
    arguments = ["--host", "0.0.0.0", "--password-file", str(tmp_path / "password")]

    def connect(server: RunningServer, password: str) -> None:
        psycopg.connect(
            host=_own_address(), port=server.port, dbname="streamsql", user="streamsql", password=password
        ).close()

    with RunningProgram(tmp_path, arguments) as server:
        connect(server, "from a file")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(server, "another")
        assert "connections are not encrypted" in server.log()
        server.execute("ALTER ROLE streamsql PASSWORD 'changed'")
    with RunningProgram(
        tmp_path, arguments
    ) as server:  # what was changed stays, and the log says that it is another one
        connect(server, "changed")
        assert "the first owner has another password already" in server.log()
    with RunningProgram(tmp_path, ["--host", "0.0.0.0"]) as server:
        connect(server, "changed")


def _own_address() -> str:
    """Give an address of this machine that is not its loopback's, or skip the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("there is no network here")
        return str(probe.getsockname()[0])


def test_an_address_that_is_not_this_machines_is_told_in_one_line(tmp_path: Path):
    secret = {"STREAMSQL_PASSWORD": "secret"}
    done = start(tmp_path, "--host", "192.0.2.1", "--port", "0", "--in-memory", environment=secret)
    refused(done, "cannot listen on 192.0.2.1:0: cannot assign requested address")
    done = start(tmp_path, "--host", "no.such.host.invalid", "--port", "0", "--in-memory", "--log-level", "error",
                 environment=secret)  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"streamsql: cannot listen on no\.such\.host\.invalid:0: .+\n", done.stderr)


def test_a_data_directory_that_cannot_be_written_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused(
        start(tmp_path, "--port", "0", "--data-dir", "file/data"),
        "cannot write to data directory file/data: Not a directory",
    )


def test_a_data_directory_in_use_is_told_in_one_line(tmp_path: Path):
    with RunningProgram(tmp_path) as server:
        done = start(tmp_path, "--port", "0", "--data-dir", str(tmp_path / "data"))
        refused(done, f"data directory {tmp_path / 'data'} is in use by another server")
        assert server.execute("SELECT 1") == [(1,)]


def test_a_data_directory_of_another_format_is_told_in_one_line_and_left_as_it_is(tmp_path: Path):
    with RunningProgram(tmp_path) as server:
        server.execute("CREATE STREAM s (n INT)", "INSERT INTO s VALUES (1)")
    file = tmp_path / "data" / "state.duckdb"
    for written in ("", "0:of a layout"):
        with duckdb.connect(str(file)) as connection:
            mine = connection.execute("SELECT digest FROM _engine.layout").fetchall()
            connection.execute("UPDATE _engine.layout SET digest = ?", [written]).fetchall()
        refused(
            start(tmp_path, "--port", "0", "--data-dir", "data"),
            f"the data directory has format 0, and this version of streamsql reads {FORMAT}: start the version that wrote it, "
            "or another directory",
        )
        with duckdb.connect(str(file)) as connection:
            assert connection.execute("SELECT digest FROM _engine.layout").fetchall() == [(written,)]
            connection.execute("UPDATE _engine.layout SET digest = ?", mine[0]).fetchall()
    with RunningProgram(tmp_path) as server:
        assert server.execute("SELECT n FROM s") == [(1,)]


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "state.duckdb").write_text("this is not a database " * 1_000)
    done = start(tmp_path, "--port", "0", "--data-dir", "data")
    assert done.returncode == 1
    assert re.fullmatch(r"streamsql: cannot open the database in data: .+\n", done.stderr)


def test_certificates_and_rules_that_cannot_be_used_are_told_in_one_line(tmp_path: Path):
    (tmp_path / "nonsense").write_text("nonsense")
    for arguments, message in (
        (["--tls-cert", "nosuch", "--tls-key", "nosuch"], "cannot use nosuch with nosuch: no such file or directory"),
        (["--tls-cert", "nonsense", "--tls-key", "nonsense"], "cannot use nonsense with nonsense: "),
        (["--auth", "trust all"], "authentication rule 'trust all': trust is for addresses of this machine only"),
        (["--auth", "@nosuch"], "cannot read authentication rules nosuch: "),
        (["--memory-limit", "much"], "cannot open the database"),
    ):
        done = start(tmp_path, "--port", "0", "--in-memory", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("timestamp=")]
        assert line.startswith(f"streamsql: {message}")


def test_a_wrong_option_is_told_in_one_line(tmp_path: Path):
    refused(start(tmp_path, "--port", "-1"), "port must be between 0 and 65535, not -1")
    usage = start(tmp_path, "--nonsense")
    assert usage.returncode == 2
    assert "unrecognized arguments: --nonsense" in usage.stderr


# --------------------------------------------------------------------------------------------------------------- logging in


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory):
    with RunningProgram(tmp_path_factory.mktemp("idle"), ["--in-memory"]) as server:
        yield server


@pytest.mark.parametrize(
    ("parameters", "sqlstate", "message"),
    [
        ({"user": "ann", "database": "nosuch"}, "3D000", 'database "nosuch" does not exist'),
        ({}, "28000", "no PostgreSQL user name specified in startup packet"),
        ({"database": "streamsql"}, "28000", "no PostgreSQL user name specified in startup packet"),
        ({"user": "ann", "nosuch": "x"}, "42704", 'unrecognized configuration parameter "nosuch"'),
        ({"user": "ann", "server_version": "99"}, "22023", 'parameter "server_version" cannot be changed'),
    ],
)
def test_a_login_that_cannot_be_is_refused(
    idle: RunningProgram, parameters: dict[str, str], sqlstate: str, message: str
):
    with RawClient(idle.port, log_in=False) as client:
        client.send_bytes(startup(parameters))
        (line,) = client.lines(1)
        assert f'"severity": "FATAL", "code": "{sqlstate}"' in line
        assert message in line.replace("\\", "")
        assert client.at_end()


def test_a_client_is_told_of_the_server_when_it_logs_in(idle: RunningProgram):
    with RawClient(
        idle.port,
        {
            "application_name": "mine",
            "client_encoding": "'utf-8'",
            "TimeZone": "Asia/Tokyo",
            "IntervalStyle": "iso_8601",
        },
    ) as client:
        greeting = "\n".join(client.greeting)
    for name, value in (
        ("application_name", "mine"), ("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY"), ("TimeZone", "Asia/Tokyo"),
        ("integer_datetimes", "on"), ("standard_conforming_strings", "on"), ("server_encoding", "UTF8"),
    ):  # fmt: skip
        assert f'ParameterStatus {{"name": "{name}", "value": "{value}"}}' in greeting
    assert (
        '"severity": "WARNING", "code": "0A000", "message": "parameter \\"IntervalStyle\\" cannot be set to' in greeting
    )


def test_encryption_is_declined_and_the_session_begins(idle: RunningProgram):
    with RawClient(idle.port, log_in=False) as client:
        for name in ("SSLRequest", "GSSENCRequest"):
            client.send(name)
            assert client.socket.recv(1) == b"N"
        client.send_bytes(startup({"user": "ann"}))
        assert client.greeted()[-1] == 'ReadyForQuery {"status": "I"}'
    with idle.session(sslmode="prefer") as session:
        assert session.execute("SELECT current_user, current_database()").fetchone() == ("tester", "streamsql")
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        idle.connect(sslmode="require")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::1%lo", True),
        ("10.0.0.1", False), ("192.168.1.5", False), ("::ffff:10.0.0.1", False), ("fe80::1%eth0", False), ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_let_in_without_a_password(address: str, local: bool):
    assert is_loopback(address) is local
    asked = Asked("ann", "streamsql")
    method = method_for(read_rules(DEFAULT_RULES), asked, address, tls=False, tls_required=False)
    assert method is (Method.TRUST if local else Method.SCRAM)
    with pytest.raises(AuthorizationError) as refused:
        method_for(read_rules("trust 127.0.0.1 tls"), asked, address, tls=False, tls_required=False)
    assert (refused.value.severity, refused.value.sqlstate) == ("FATAL", "28000")


# --------------------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_every_session_with_a_word_and_the_server_with_status_0(tmp_path: Path, number: signal.Signals):
    with RunningProgram(tmp_path) as server, contextlib.ExitStack() as stack:
        server.execute("CREATE STREAM s (x INT)", "INSERT INTO s VALUES (1)")
        server.execute("CREATE MATERIALIZED VIEW v AS SELECT x, count(*) FROM s GROUP BY x EMIT UPDATE")
        clients = [stack.enter_context(RawClient(server.port)) for _ in range(6)]
        live, subscriber, copying, busy, idle_client, transaction = clients
        live.send("Query", {"text": "SELECT x FROM s EMIT APPEND"})
        subscriber.send("Query", {"text": "SUBSCRIBE v"})
        copying.send("Query", {"text": "COPY s FROM STDIN"}, "CopyData", {"data": "2\n"})
        busy.send(
            "Query", {"text": "SELECT count(*) FROM range(100000000) a(x), range(100000) b(y) WHERE (x * y) % 7 = 3"}
        )
        transaction.query("BEGIN; INSERT INTO s VALUES (3)")
        half = stack.enter_context(RawClient(server.port, log_in=False))
        half.send_bytes(b"\0\0\0")
        server.wait_for_live_queries(1)
        assert copying.lines(1) == ['CopyInResponse {"format": 0, "columns": [0]}']
        assert server.stop(number) == 0
        for client in clients:
            lines = []
            with contextlib.suppress(EOFError):
                while True:
                    lines += client.lines(1)
            assert lines[-1] == (
                'ErrorResponse {"severity": "FATAL", "code": "57P01", '
                '"message": "terminating connection due to administrator command"}'
            )
        assert idle_client.at_end()
    with RunningProgram(tmp_path) as server:
        assert server.execute("SELECT x FROM s") == [(1,)]


def test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping(tmp_path: Path):
    with RunningProgram(tmp_path, ["--in-memory"]) as server, RawClient(server.port, receive_bytes=4_096) as slow:
        slow.send("Query", {"text": "SELECT repeat('x', 1000) FROM range(1000000)"})
        until(lambda: "connection opened" in server.log())
        assert slow.lines(2)[1].startswith("DataRow")
        assert server.stop() == 0


def test_what_is_being_committed_when_the_server_stops_is_kept_if_it_was_acknowledged(tmp_path: Path):
    acknowledged: list[int] = []

    def write(server: RunningServer, number: int) -> None:
        with contextlib.suppress(psycopg.Error), server.session() as session:
            while True:
                session.execute("INSERT INTO s VALUES (%s)", [number])
                acknowledged.append(number)

    with RunningProgram(tmp_path) as server:
        server.execute("CREATE STREAM s (x INT)")
        threads = [threading.Thread(target=write, args=(server, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) > 100)
        assert server.stop() == 0
        for thread in threads:
            thread.join(20)
    with RunningProgram(tmp_path) as server:
        kept = {row[0]: row[1] for row in server.execute("SELECT x, count(*) FROM s GROUP BY x")}
    for number in range(4):
        # the one that was not acknowledged any more may be there or not
        assert 0 <= kept[number] - acknowledged.count(number) <= 1


def test_a_session_that_is_ended_is_an_admin_shutdown_to_its_driver(tmp_path: Path):
    with RunningProgram(tmp_path, ["--in-memory"]) as server:
        session = server.connect()
        assert server.stop() == 0
        with pytest.raises((errors.AdminShutdown, psycopg.OperationalError)):
            session.execute("SELECT 1")
        session.close()


def test_protocol_3_2_gives_a_longer_key_which_cancels(server: RunningServer):
    with RawClient(server.port, log_in=False) as client:
        client.send_bytes(startup({"user": "tester", "database": "streamsql"}, (3, 2)))
        client.greeting = client.greeted()
        assert len(client.secret) == 32
        client.send("Query", {"text": "SELECT count(*) FROM range(100000000000)"})
        until(
            lambda: server.execute(
                "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%100000000000)'"
            )
        )
        cancel_request(server.port, client.process_id, client.secret[:4])  # part of the key is not the key
        cancel_request(server.port, client.process_id, client.secret)
        assert '"code": "57014"' in client.until_ready()[-2]
