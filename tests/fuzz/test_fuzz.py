"""Faulty messages and faulty SQL, many of them: no fault of our own, no hang, no growth, no way to a file, and right answers.

FUZZ_MESSAGES and FUZZ_TEXTS say how many (the nightly profile: a million and a hundred thousand), FUZZ_SEED which.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.fuzz import corpus
from tests.running import RunningProgram, RunningServer

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "4000"))
TEXTS = int(os.environ.get("FUZZ_TEXTS", "1500"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
MESSAGES_A_CONNECTION = 20
ANSWER_SECONDS_MAX = 30.0
# what a text has made is dropped after so many, so that the catalog does not only grow
TEXTS_A_ROUND = 500
# of the long run: what the allocators of Python, Arrow and DuckDB keep for later lies well below it
GROWTH_BYTES_MAX = 300 << 20
SECRET = "what no client may read"

pytestmark = pytest.mark.timeout(120 + MESSAGES // 100 + TEXTS // 5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    # a mutated repeat() or range() may ask for all the memory there is
    with RunningProgram(tmp_path, ["--memory-limit", "1GB", "--log-level", "error"]) as running:
        running.execute(
            "CREATE TABLE guarded (k INT PRIMARY KEY, t TEXT)",
            "CREATE MATERIALIZED VIEW guard AS "
            "SELECT count(*) AS n, sum(k) AS s, string_agg(t, '' ORDER BY k) AS t FROM guarded",
            "INSERT INTO guarded SELECT i, chr((96 + i)::int) FROM generate_series(1, 5) AS g(i)",
        )
        yield running
        assert answers(running) == [(5, 15, "abcde")]


def answers(server: RunningServer) -> list[tuple[object, ...]]:
    """Ask what must not have changed; a view follows its table still."""
    (found,) = server.execute("SELECT n, s, t FROM guard")
    server.execute("INSERT INTO guarded VALUES (100, 'z')")
    assert server.execute("SELECT n, s, t FROM guard") == [(found[0] + 1, found[1] + 100, found[2] + "z")]
    server.execute("DELETE FROM guarded WHERE k = 100")
    return server.execute("SELECT n, s, t FROM guard")


def resident_bytes(server: RunningServer) -> int:
    """Give the server's resident size (Linux)."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


class Growth:
    """Watches the server's size from the first tenth of the cases on."""

    def __init__(self, server: RunningServer, cases: int) -> None:
        self._server = server
        self._warm_at = cases // 10
        self._warm = 0

    def look(self, case: int) -> None:
        if not self._warm and case >= self._warm_at:
            self._warm = resident_bytes(self._server)

    def check(self) -> None:
        grown = resident_bytes(self._server) - self._warm
        assert grown < GROWTH_BYTES_MAX, f"the server grew by {grown >> 20} MB"


# -------------------------------------------------------------------------------------------------------------- messages


def test_faulty_messages_break_nothing(server: RunningServer):
    server.execute(
        "CREATE TABLE fuzzed (n INT, t TEXT)",
        "CREATE STREAM fuzz_stream (x INT)",
        "CREATE MATERIALIZED VIEW fuzz_view AS SELECT count(*) AS n FROM fuzz_stream EMIT UPDATE",
        "INSERT INTO fuzz_stream VALUES (1)",
    )
    draw = random.Random(SEED)
    growth = Growth(server, MESSAGES)
    sent = 0
    while sent < MESSAGES:
        growth.look(sent)
        parts = [corpus.mutated_startup(draw)]
        kinds = (corpus.message, corpus.mutated_message)
        parts += [draw.choice(kinds)(draw) for _ in range(MESSAGES_A_CONNECTION)]
        sent += MESSAGES_A_CONNECTION
        check_answer(talk(server.port, b"".join(parts)), sent)
        if sent % (2_000 * MESSAGES_A_CONNECTION) == 0:
            server.execute("DELETE FROM fuzzed")
    growth.check()


def talk(port: int, data: bytes) -> bytes:
    """Send bytes, say that no more will come, and read until the server closes: it must."""
    said = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(1 << 16):
                said += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # it closed before it had read all
    return bytes(said)


def check_answer(said: bytes, case: int) -> None:
    """The server has said whole messages, and no error of its own making is among them."""
    at = 0
    while at < len(said):
        if said[at : at + 1] == b"N" and said[at + 1 : at + 2] != b"\0":
            at += 1  # no encryption
            continue
        (length,) = struct.unpack_from(">I", said, at + 1)
        body = said[at + 5 : at + 1 + length]
        if said[at : at + 1] == b"E":
            assert b"\0CXX000\0" not in body, (SEED, case, body)
        at += 1 + length


# ------------------------------------------------------------------------------------------------------------------ texts


def test_faulty_texts_break_nothing(server: RunningServer, tmp_path: Path):
    secret = tmp_path / "secret.csv"
    secret.write_text(SECRET + "\n")
    files = sorted(tmp_path.iterdir())
    draw = random.Random(SEED)
    growth = Growth(server, TEXTS)
    connection = fresh(server)
    last: deque[str] = deque(maxlen=5)
    wrong: list[str] = []
    for case in range(TEXTS):
        growth.look(case)
        if case % TEXTS_A_ROUND == TEXTS_A_ROUND - 1:
            connection.close()
            drop_all(server)
            connection = fresh(server)
        text = corpus.mutated_text(draw, secret)
        last.append(text)
        try:
            answer = send(connection.pgconn, text, prepared=draw.random() < 0.3)
        except psycopg.OperationalError as error:
            raise AssertionError(f"the connection broke: {error}; the last texts: {list(last)}") from error
        if answer is not None:
            wrong.append(f"{answer}: {text!r}")
        if connection.pgconn.transaction_status not in (psycopg.pq.TransactionStatus.IDLE, 2, 3):
            connection = fresh(server)
    connection.close()
    growth.check()
    assert sorted(tmp_path.iterdir()) == files
    assert secret.read_text() == SECRET + "\n"
    assert not wrong, "\n".join(wrong[:50])


def fresh(server: RunningServer) -> psycopg.Connection:
    return server.connect(options="-c statement_timeout=100")


def send(client: psycopg.pq.abc.PGconn, text: str, *, prepared: bool) -> str | None:
    """Execute a text, or prepare and describe it as drivers do; give what is wrong with the answer."""
    data = text.encode()
    if prepared:
        result = client.prepare(b"", data)
        if result.status == ExecStatus.COMMAND_OK:
            result = client.describe_prepared(b"")
            if result.status == ExecStatus.COMMAND_OK:
                result = client.exec_prepared(b"", [b"1"] * result.nparams)
    else:
        result = client.exec_(data)
    if result.status == ExecStatus.COPY_IN:
        client.put_copy_end(b"no more")
        result = client.get_result() or result
    while result.status == ExecStatus.COPY_OUT:
        while client.get_copy_data(0)[0] > 0:
            pass
        result = client.get_result() or result
    while client.transaction_status == psycopg.pq.TransactionStatus.ACTIVE and client.get_result() is not None:
        pass
    return fault(result)


def fault(result: psycopg.pq.abc.PGresult) -> str | None:
    if result.status == ExecStatus.FATAL_ERROR:
        code = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(psycopg.pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
        if code == "XX000":
            return message
    for row in range(min(result.ntuples, 20)):
        for column in range(result.nfields):
            if SECRET.encode() in (result.get_value(row, column) or b""):
                return "a file was read"
    return None


def drop_all(server: RunningServer) -> None:
    """Drop what the texts have made."""
    made = server.execute("SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    kinds = {"m": "MATERIALIZED VIEW", "r": "TABLE"}
    for name, kind in made:
        if str(name).startswith("guard"):
            continue
        quoted = '"' + str(name).replace('"', '""') + '"'
        for words in (kinds.get(str(kind), ""), "STREAM"):
            try:
                server.execute(f"DROP {words} IF EXISTS {quoted} CASCADE")
                break
            except psycopg.Error:
                continue
