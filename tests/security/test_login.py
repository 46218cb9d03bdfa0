"""Logging in to a server that wants a password, encrypted or not, with the clients that people use."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.certificates import Certificates
from tests.pgwire.wire import frame, startup, string
from tests.running import RunningServer, until
from tests.server.raw import RawClient

PASSWORD = "pässword'$x"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[RunningServer]:
    certificate, key = certificates.of("server")
    arguments = [
        "--log-level", "debug", "--tls-cert", str(certificate), "--tls-key", str(key), "--tls-ca", str(certificates.authority),
        "--auth", "cert 127.0.0.9, scram all", "--limit", "failed_logins_max=1000",
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("server")
    with RunningServer(folder, arguments, {"STREAMSQL_PASSWORD": "first owner"}) as running:
        with running.owner() as owner:
            owner.execute(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
            owner.execute("CREATE USER expired PASSWORD 'x' VALID UNTIL '2020-01-01'")
            owner.execute("CREATE USER current PASSWORD 'x' VALID UNTIL '2999-01-01 00:00+02'")
            owner.execute("CREATE ROLE group_only PASSWORD 'x'")
            owner.execute("CREATE USER without_password")
            owner.execute("CREATE USER one_at_a_time PASSWORD 'x' CONNECTION LIMIT 1")
            owner.execute("CREATE USER bob")
        yield running


def connect(
    server: RunningServer, user: str = "ann", password: str | None = PASSWORD, **options: Any
) -> psycopg.Connection[TupleRow]:
    return psycopg.connect(
        host="127.0.0.1", port=server.port, dbname="streamsql", user=user, password=password, autocommit=True, **options
    )


def refused(server: RunningServer, user: str, password: str | None, **options: Any) -> str:
    with pytest.raises(psycopg.OperationalError) as failed:
        connect(server, user, password, **options)
    return str(failed.value)


# ------------------------------------------------------------------------------------------------------------- the clients


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require", "verify-full"])
def test_psycopg_logs_in(server: RunningServer, certificates: Certificates, sslmode: str):
    with connect(server, sslmode=sslmode, sslrootcert=str(certificates.authority)) as connection:
        assert connection.execute("SELECT current_user, session_user, current_setting('is_superuser')").fetchone() == (
            "ann", "ann", "off",
        )  # fmt: skip
        assert connection.pgconn.ssl_in_use is (sslmode != "disable")


def test_psycopg_binds_to_the_channel(server: RunningServer):
    with connect(server, sslmode="require", channel_binding="require") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert "channel binding" in refused(server, "ann", PASSWORD, sslmode="disable", channel_binding="require")
    assert (
        refused(server, "ann", "wrong", sslmode="require", channel_binding="require")
        .strip()
        .endswith('password authentication failed for user "ann"')
    )


def test_a_large_result_and_a_large_copy_come_through_encrypted(server: RunningServer):
    with connect(server, "streamsql", "first owner", sslmode="require") as connection:
        rows = connection.execute("SELECT i, repeat('x', 100) FROM generate_series(1, 100000) AS g(i)").fetchall()
        assert (len(rows), rows[-1][0]) == (100_000, 100_000)
        connection.execute("CREATE TABLE IF NOT EXISTS many (a INT, t TEXT)")
        with connection.cursor().copy("COPY many FROM STDIN") as copy:
            for start in range(0, 200_000, 1_000):
                copy.write("".join(f"{i}\t{'y' * 50}\n" for i in range(start, start + 1_000)))
        assert connection.execute("SELECT count(*), sum(a) FROM many").fetchone() == (200_000, 19_999_900_000)


def test_asyncpg_logs_in(server: RunningServer, certificates: Certificates):
    async def ask(**options: Any) -> object:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=server.port, user="ann", database="streamsql", **options
        )
        try:
            return await connection.fetchval("SELECT current_user")
        finally:
            await connection.close()

    context = ssl.create_default_context(cafile=str(certificates.authority))
    assert asyncio.run(ask(password=PASSWORD, ssl=context)) == "ann"
    context.set_alpn_protocols(["postgresql"])
    assert asyncio.run(ask(password=PASSWORD, ssl=context, direct_tls=True)) == "ann"
    assert asyncio.run(ask(password=PASSWORD, ssl=False)) == "ann"
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(ask(password="wrong", ssl=context))
    with warnings.catch_warnings():  # asyncpg leaves the connection of a login that was refused to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_logs_in(server: RunningServer, certificates: Certificates):
    def run(dsn: str, password: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["psql", f"host=localhost port={server.port} dbname=streamsql {dsn}", "-XAtc", "SELECT current_user"],
            capture_output=True, text=True, env={**os.environ, "PGPASSWORD": password}, timeout=30, check=False,
        )  # fmt: skip

    strict = f"user=ann sslmode=verify-full sslrootcert={certificates.authority} channel_binding=require"
    assert run(strict, PASSWORD).stdout == "ann\n"
    wrong = run(strict, "wrong")
    assert wrong.returncode == 2
    assert 'FATAL:  password authentication failed for user "ann"' in wrong.stderr
    other = certificates.of("bob")[0]
    assert "certificate verify failed" in run(f"user=ann sslmode=verify-full sslrootcert={other}", "x").stderr


def test_a_certificate_proves_who_its_name_says(server: RunningServer, certificates: Certificates):
    certificate, key = certificates.of("bob")

    def by_certificate(user: str, **options: Any) -> psycopg.Connection[TupleRow]:
        with socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.9", 0)):
            pass  # the address can be used here
        return psycopg.connect(
            host="127.0.0.1", port=server.port, dbname="streamsql", user=user, sslmode="require",
            sslcert=str(certificate), sslkey=str(key), **options,
        )  # fmt: skip

    context = ssl.create_default_context(cafile=str(certificates.authority))
    context.load_cert_chain(certificate, key)
    for user, greeted in (("bob", True), ("ann", False)):
        raw = socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.9", 0), timeout=20)
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert raw.recv(1) == b"S"
        with context.wrap_socket(raw, server_hostname="localhost") as encrypted:
            encrypted.sendall(startup({"user": user, "database": "streamsql"}))
            said = encrypted.recv(1 << 16)
        if greeted:
            assert said.startswith(b"R\0\0\0\x08\0\0\0\0")
        else:
            assert b'certificate authentication failed for user "ann"' in said
    # a certificate is no password
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        by_certificate("bob")


def test_a_certificate_of_another_authority_is_refused(
    server: RunningServer, certificates: Certificates, tmp_path: Path
):
    key, certificate = tmp_path / "key.pem", tmp_path / "own.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=bob"],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    with pytest.raises(psycopg.OperationalError):
        connect(server, sslmode="require", sslcert=str(certificate), sslkey=str(key))
    assert "could not accept SSL connection" in server.log()


# ----------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        ("ann", "wrong", "the password does not match"), ("ann", PASSWORD + " ", "the password does not match"),
        ("nobody", "x", "the role does not exist"), ("Ann", PASSWORD, "the role does not exist"),
        ("expired", "x", "the password has expired"), ("without_password", "x", "the role has no password"),
        ("streamsql", "secret", "the password does not match"),
    ],
)  # fmt: skip
def test_a_login_fails_with_the_same_words_whatever_the_reason(
    server: RunningServer, user: str, password: str, reason: str
):
    message = refused(server, user, password, sslmode="disable")
    assert message.strip().endswith(f'FATAL:  password authentication failed for user "{user}"')
    line = [line for line in server.log().splitlines() if "authentication failed" in line][-1]
    assert f'reason="{reason}"' in line
    assert "sqlstate=28P01" in line


def test_a_role_that_may_not_log_in_is_told_so_once_it_has_proven_itself(server: RunningServer):
    assert 'role "group_only" is not permitted to log in' in refused(server, "group_only", "x")
    assert 'password authentication failed for user "group_only"' in refused(server, "group_only", "wrong")
    with connect(server, "current", "x") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("current",)


def test_the_database_is_looked_up_after_the_password(server: RunningServer):
    wrong: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "dbname": "nosuch", "user": "ann"}
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**wrong, password="x")
    with pytest.raises(psycopg.OperationalError, match='database "nosuch" does not exist'):
        psycopg.connect(**wrong, password=PASSWORD)


def test_a_role_has_as_many_sessions_as_it_may(server: RunningServer):
    with connect(server, "one_at_a_time", "x"):
        assert 'too many connections for role "one_at_a_time"' in refused(server, "one_at_a_time", "x")
    until(lambda: server.log().count("connection closed") > 0)
    with server.owner() as owner:
        owner.execute("ALTER ROLE one_at_a_time CONNECTION LIMIT 2")
    with connect(server, "one_at_a_time", "x"), connect(server, "one_at_a_time", "x"):
        pass


def test_a_password_that_was_changed_or_taken_away_lets_nobody_in(server: RunningServer):
    with server.owner() as owner:
        owner.execute("CREATE USER changing PASSWORD 'first'")
        connect(server, "changing", "first").close()
        owner.execute("ALTER USER changing PASSWORD 'second'")
        refused(server, "changing", "first")
        with connect(server, "changing", "second") as own:
            own.execute("ALTER ROLE current_user PASSWORD 'third'")
        connect(server, "changing", "third").close()
        owner.execute("ALTER USER changing PASSWORD NULL")
        refused(server, "changing", "third")
        owner.execute("ALTER USER changing PASSWORD ''")
        refused(server, "changing", "")
        # a verifier is taken as it is
        row = owner.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'").fetchone()
        assert row is not None
        assert row[0].startswith("SCRAM-SHA-256$4096:")
        owner.execute(f"ALTER USER changing PASSWORD '{row[0]}'")
        connect(server, "changing", PASSWORD).close()
        owner.execute("DROP USER changing")
        refused(server, "changing", PASSWORD)


def test_what_is_sent_in_the_clear_behind_a_request_for_encryption_is_refused(server: RunningServer):
    """CVE-2021-23214: somebody between could put his own words before the client's."""
    with RawClient(server.port, log_in=False) as client:
        client.send_bytes(b"\0\0\0\x08\x04\xd2\x16\x2f" + startup({"user": "streamsql"}))
        assert client.lines(1) == [
            'ErrorResponse {"severity": "FATAL", "code": "08P01", "message": "received unencrypted data after SSL request"}'
        ]
        assert client.at_end()


@pytest.mark.parametrize(
    "junk", [b"x" * 100, startup({"user": "streamsql"}), b"\x16\x03\x01\0\x05hello", b"\x16" * 600]
)
def test_junk_in_place_of_a_handshake_ends_the_connection(server: RunningServer, junk: bytes):
    for request in (b"\0\0\0\x08\x04\xd2\x16\x2f", b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            if request:
                client.sendall(request)
                assert client.recv(1) == b"S"
            elif not junk.startswith(b"\x16"):
                continue
            client.sendall(junk)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert not answer.startswith((b"R", b"E"))
    with connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_direct_tls_must_say_what_it_is_for(server: RunningServer, certificates: Certificates):
    for protocols, expected in ((["postgresql"], b"R"), ([], b""), (["http/1.1"], b"")):
        context = ssl.create_default_context(cafile=str(certificates.authority))
        if protocols:
            context.set_alpn_protocols(protocols)
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        with context.wrap_socket(raw, server_hostname="localhost") as encrypted:
            said = b""
            try:
                encrypted.sendall(startup({"user": "ann", "database": "streamsql"}))
                said = encrypted.recv(1 << 16)
            except (ConnectionError, ssl.SSLError):
                pass
            assert said[:1] == expected
    # encryption within encryption is nonsense
    context.set_alpn_protocols(["postgresql"])
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    with context.wrap_socket(raw, server_hostname="localhost") as encrypted:
        encrypted.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert encrypted.recv(1 << 16)[:1] == b"E"


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"p\0\0\0\x04", frame("p", b"md5" + b"0" * 32 + b"\0"), frame("p", b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
        frame("p", b"SCRAM-SHA-256\0\0\0\0\x05n,,n="), frame("p", b"PLAIN\0\0\0\0\x03a\0b"), frame("Q", string("SELECT 1")),
        frame("p", b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r="), frame("p", b"x" * 70_000), b"p\x7f\xff\xff\xff", frame("X", b""),
        frame("p", b"SCRAM-SHA-256\0" + (12).to_bytes(4) + b"n,,n=,r=abcd") + frame("p", b"c=biws,r=abcd,p=AAAA"),
        frame("p", b"SCRAM-SHA-256\0" + (12).to_bytes(4) + b"n,,n=,r=abcd") + frame("Q", string("SELECT 1")),
    ],
)  # fmt: skip
def test_anything_but_an_answer_ends_the_login_with_an_error(server: RunningServer, answer: bytes):
    with RawClient(server.port, log_in=False) as client:
        client.send_bytes(startup({"user": "ann", "database": "streamsql"}))
        assert client.lines(1) == ['Authentication {"code": 10}']
        said: list[str] = []
        try:
            client.send_bytes(answer)
            client.socket.shutdown(socket.SHUT_WR)
            while True:
                said += client.lines(1)
        except (EOFError, OSError):  # the latter where it had more to read
            pass
        assert all('"severity": "FATAL"' in line or 'Authentication {"code": 11}' in line for line in said)
        assert not any("ReadyForQuery" in line or '{"code": 0}' in line for line in said)


# ------------------------------------------------------------------------------------------------ settings of the server


def test_too_many_wrong_passwords_make_an_address_wait(tmp_path: Path):
    arguments = ["--in-memory", "--auth", "scram all", "--limit", "failed_logins_max=3"]
    with RunningServer(tmp_path, arguments, {"STREAMSQL_PASSWORD": "right"}) as server:
        for _ in range(3):
            assert "password authentication failed" in refused(server, "streamsql", "wrong", sslmode="disable")
        for password in ("wrong", "right"):
            assert "too many failed logins from 127.0.0.1" in refused(server, "streamsql", password, sslmode="disable")


def test_encryption_can_be_required(tmp_path: Path, certificates: Certificates):
    certificate, key = certificates.of("server")
    arguments = ["--in-memory", "--tls-cert", str(certificate), "--tls-key", str(key), "--require-tls"]
    with RunningServer(tmp_path, arguments) as server:
        message = refused(server, "tester", None, sslmode="disable")
        assert (
            'no authentication rule for host "127.0.0.1", user "tester", database "streamsql", no encryption' in message
        )
        with connect(server, "tester", None, sslmode="require") as connection:
            assert connection.execute("SHOW ssl").fetchone() == ("on",)


def test_certificates_and_rules_are_read_again_at_sighup(tmp_path: Path, certificates: Certificates):
    certificate, key, rules = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "rules"
    for name, path in zip(certificates.of("server"), (certificate, key), strict=True):
        shutil.copy(name, path)
    rules.write_text("trust loopback\n")
    arguments = ["--in-memory", "--tls-cert", str(certificate), "--tls-key", str(key), "--auth", f"@{rules}"]

    def shown(port: int) -> bytes:
        context = ssl.create_default_context(cafile=str(certificates.authority))
        context.set_alpn_protocols(["postgresql"])
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as s:
            found = s.getpeercert(binary_form=True)
            assert found is not None
            return found

    with RunningServer(tmp_path, arguments) as server:
        assert server.process is not None
        first = shown(server.port)
        open_before = connect(server, "tester", None, sslmode="require")
        for name, path in zip(certificates.of("server again"), (certificate, key), strict=True):
            shutil.copy(name, path)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "event=reloaded" in server.log())
        assert shown(server.port) != first
        assert open_before.execute("SELECT 1").fetchone() == (1,)
        open_before.close()
        second = shown(server.port)
        certificate.write_text("nonsense")
        rules.write_text("reject all")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: 'event="not reloaded"' in server.log())
        assert shown(server.port) == second
        connect(server, "tester", None).close()
        shutil.copy(certificates.of("server")[0], certificate)
        shutil.copy(certificates.of("server")[1], key)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.log().count("event=reloaded") == 2)
        assert "authentication rule rejects connection" in refused(server, "tester", None)


def test_a_session_that_idles_for_too_long_is_ended(server: RunningServer):
    with connect(server) as connection:
        connection.execute("SET idle_session_timeout = '50ms'")
        with pytest.raises(errors.IdleSessionTimeout):
            _wait_for_end(connection)
    with connect(server) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = 50")
        connection.execute("BEGIN")
        with pytest.raises(errors.IdleInTransactionSessionTimeout):
            _wait_for_end(connection)
    with server.owner() as owner:
        owner.execute("ALTER ROLE current SET idle_session_timeout TO '50ms'")
    with connect(server, "current", "x") as connection, pytest.raises(errors.IdleSessionTimeout):
        _wait_for_end(connection)


def _wait_for_end(connection: psycopg.Connection[TupleRow]) -> None:
    """Wait until the server has said its last word, then ask."""
    with socket.socket(fileno=os.dup(connection.fileno())) as watched:
        watched.settimeout(20)
        watched.recv(1, socket.MSG_PEEK)
    connection.execute("SELECT 1")


def test_a_login_that_takes_too_long_is_ended(tmp_path: Path):
    arguments = ["--in-memory", "--auth", "scram all", "--limit", "startup_seconds_max=1", "--limit", "logins_max=2"]
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(RunningServer(tmp_path, arguments, {"STREAMSQL_PASSWORD": "x"}))
        slow, silent = (stack.enter_context(RawClient(running.port, log_in=False)) for _ in range(2))
        slow.send_bytes(startup({"user": "streamsql"}))
        assert slow.lines(1) == ['Authentication {"code": 10}']
        with RawClient(running.port, log_in=False) as third:
            (line,) = third.lines(1)
            assert '"code": "53300", "message": "sorry, too many clients are logging in"' in line
        (line,) = slow.lines(1)
        assert '"code": "57014", "message": "canceling authentication due to timeout"' in line
        assert slow.at_end()
        assert silent.at_end()
        connect(running, "streamsql", "x").close()
