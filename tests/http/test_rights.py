"""Who may do what over HTTP: the same users, rules, rights and limits as on the wire."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streamsql.base.clock import ManualClock
from streamsql.base.limits import Limits
from streamsql.catalog.access import OWNER, OWNER_NAME, Access, Role
from streamsql.pgwire.rules import read_rules
from streamsql.pgwire.scram import verifier_of
from streamsql.server.http.answers import HttpError
from streamsql.server.http.login import Asking, Door
from streamsql.server.login import Gate
from tests.certificates import Certificates
from tests.running import RunningServer, until

LINES = {"Content-Type": "application/x-ndjson"}
PASSWORD = "pässword:'$x"
PASSWORD_OWNER = "first owner"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[RunningServer]:
    certificate, key = certificates.of("server")
    arguments = [
        "--http-port", "0", "--log-level", "debug",
        "--tls-cert", str(certificate), "--tls-key", str(key), "--tls-ca", str(certificates.authority),
        "--auth", "cert 127.0.0.9, reject 127.0.0.8, scram all", "--limit", "failed_logins_max=5",
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("secured")
    with RunningServer(folder, arguments, {"STREAMSQL_PASSWORD": PASSWORD_OWNER}) as running:
        with running.owner() as owner:
            for statement in (
                f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
                "CREATE USER writer PASSWORD 'w'",
                "CREATE USER reader PASSWORD 'r'",
                "CREATE USER expired PASSWORD 'x' VALID UNTIL '2020-01-01'",
                "CREATE ROLE group_only PASSWORD 'x'",
                "CREATE USER without_password",
                "CREATE USER bob",
                "CREATE STREAM s (k TEXT, x INT)",
                "CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS total FROM s GROUP BY k EMIT UPDATE",
                "GRANT INSERT ON s TO writer",
                "GRANT SELECT ON v TO reader",
            ):
                owner.execute(statement)
        yield running


def of(server: RunningServer, certificates: Certificates, *, plain: bool = False, source: str = "127.0.0.1",
       certificate: str | None = None) -> httpx.Client:  # fmt: skip
    """Make a client. `source` is the address that it comes from: another one has failed logins of its own."""
    context = ssl.create_default_context(cafile=str(certificates.authority))
    if certificate is not None:
        context.load_cert_chain(*certificates.of(certificate))
    transport = httpx.HTTPTransport(verify=context, local_address=source)
    port = server.http.rpartition(":")[2]
    return httpx.Client(base_url=f"{'http' if plain else 'https'}://127.0.0.1:{port}", transport=transport, timeout=30)


@pytest.fixture
def client(secured: RunningServer, certificates: Certificates) -> Iterator[httpx.Client]:
    with of(secured, certificates) as made:
        yield made


def asked(client: httpx.Client, sql: str, user: str, password: str, kind: str = "application/json") -> httpx.Response:
    return client.get("/query", params={"sql": sql}, auth=(user, password), headers={"Accept": kind})


def state_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["sqlstate"]


# ---- who asks ----


@pytest.mark.parametrize("plain", [False, True])
def test_a_user_proves_who_he_is_by_his_password(secured: RunningServer, certificates: Certificates, plain: bool):
    with of(secured, certificates, plain=plain) as client:
        for _ in range(2):  # the second time the password is known
            assert asked(client, "SELECT current_user AS u", "ann", PASSWORD).json() == [{"u": "ann"}]
    assert secured.http.startswith("https://")


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("ann", "wrong"),
        ("ann", ""),
        ("nobody", "x"),
        ("expired", "x"),
        ("without_password", ""),
        ("ann", PASSWORD + "x"),
    ],
)
def test_what_is_wrong_with_a_password_is_told_to_nobody(
    secured: RunningServer, certificates: Certificates, user: str, password: str
):
    source = f"127.0.1.{1 + len(user) * 7 % 200 + len(password)}"
    with of(secured, certificates, source=source) as client:
        answer = asked(client, "SELECT 1", user, password)
    assert state_of(answer) == (401, "28P01")
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.json()["error"]["message"] == f'password authentication failed for user "{user}"'


def test_a_password_that_is_changed_is_wrong_from_then_on(secured: RunningServer, certificates: Certificates):
    with of(secured, certificates, source="127.0.2.1") as client, secured.owner() as owner:
        owner.execute("CREATE USER changing PASSWORD 'one'")
        assert asked(client, "SELECT 1", "changing", "one").status_code == 200
        owner.execute("ALTER ROLE changing PASSWORD 'two'")
        assert asked(client, "SELECT 1", "changing", "one").status_code == 401
        assert asked(client, "SELECT 1", "changing", "two").status_code == 200
        owner.execute("ALTER ROLE changing VALID UNTIL '2020-01-01'")
        assert asked(client, "SELECT 1", "changing", "two").status_code == 401
        owner.execute("ALTER ROLE changing VALID UNTIL 'infinity' NOLOGIN")
        assert state_of(asked(client, "SELECT 1", "changing", "two")) == (403, "28000")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer abc",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic /w==",
        "Negotiate x",
    ],
)
def test_other_ways_to_prove_it_are_refused(client: httpx.Client, header: str):
    answer = client.get("/query?sql=SELECT+1", headers={"Authorization": header})
    assert state_of(answer) == (401, "28P01")
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("path", ["/query?sql=SELECT+1", "/subscribe/v", "/metrics", "/", "/openapi.json", "/nowhere"])
def test_nothing_is_told_without_a_proof(client: httpx.Client, path: str):
    assert state_of(client.get(path)) == (401, "28P01")


def test_health_is_told_to_everybody(client: httpx.Client):
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_wrong_passwords_are_counted_with_those_of_the_wire(secured: RunningServer, certificates: Certificates):
    with of(secured, certificates, source="127.0.3.1") as client:
        assert [asked(client, "SELECT 1", "ann", f"{n}").status_code for n in range(6)] == [401] * 5 + [429]
        answer = asked(client, "SELECT 1", "ann", PASSWORD)
        assert state_of(answer) == (429, "28000")
        assert int(answer.headers["retry-after"]) > 0
    # the wire is asked from the same address, with the right password
    raw = socket.create_connection(("127.0.0.1", secured.port), source_address=("127.0.3.1", 0))
    with raw:
        parameters = b"\0\3\0\0user\0ann\0\0"
        raw.sendall((len(parameters) + 4).to_bytes(4, "big") + parameters)
        assert b"too many failed logins" in raw.recv(4096)


def test_guesses_that_come_at_once_are_counted_one_by_one(secured: RunningServer, certificates: Certificates):
    with of(secured, certificates, source="127.0.3.2") as client:
        statuses: list[int] = []

        def guess(number: int) -> None:
            statuses.append(asked(client, "SELECT 1", "reader", f"guess {number}").status_code)

        threads = [threading.Thread(target=guess, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(statuses) == [401] * 5 + [429] * 15


def test_a_verifier_that_is_too_much_work_is_refused(secured: RunningServer, certificates: Certificates):
    verifier = "SCRAM-SHA-256$999999999:c2FsdHNhbHRzYWx0c2E=$" + f"{base64.b64encode(bytes(32)).decode()}:" * 2
    with of(secured, certificates, source="127.0.3.3") as client, secured.owner() as owner:
        owner.execute(f"CREATE USER laborious PASSWORD '{verifier[:-1]}'")
        assert asked(client, "SELECT 1", "laborious", "x").status_code == 401
    assert "password_iterations_max" in secured.log()


def test_a_certificate_proves_who_its_name_says(secured: RunningServer, certificates: Certificates):
    with of(secured, certificates, source="127.0.0.9", certificate="bob") as client:
        assert client.get("/query?sql=SELECT+current_user+AS+u").json() == [{"u": "bob"}]
        assert asked(client, "SELECT 1", "ann", PASSWORD).status_code == 403
    with of(secured, certificates, source="127.0.0.9") as client:
        assert state_of(client.get("/query?sql=SELECT+1")) == (403, "28000")


def test_rules_count(secured: RunningServer, certificates: Certificates):
    with of(secured, certificates, source="127.0.0.8") as client:
        answer = asked(client, "SELECT 1", "ann", PASSWORD)
    assert state_of(answer) == (403, "28000")
    assert "rejects" in answer.json()["error"]["message"]


def test_pages_from_elsewhere_are_refused_also_with_a_password(client: httpx.Client):
    host = client.base_url.netloc.decode()
    for origin, status in ((f"https://{host}", 200), ("https://elsewhere.example", 403), ("null", 403)):
        answer = client.get("/query?sql=SELECT+1", auth=("ann", PASSWORD), headers={"Origin": origin})
        assert answer.status_code == status
    named = {"Host": "streams.example", "Origin": "https://streams.example"}
    assert client.get("/query?sql=SELECT+1", auth=("ann", PASSWORD), headers=named).status_code == 200


# ---- what he may do ----


def test_rows_take_insert_and_queries_select(client: httpx.Client):
    body = b'{"k": "a", "x": 1}\n'
    assert client.post("/streams/s", content=body, headers=LINES, auth=("writer", "w")).status_code == 200
    assert state_of(client.post("/streams/s", content=body, headers=LINES, auth=("reader", "r"))) == (403, "42501")
    assert asked(client, "SELECT count(*) > 0 AS yes FROM v", "reader", "r").json() == [{"yes": True}]
    assert state_of(asked(client, "SELECT * FROM s", "reader", "r")) == (403, "42501")
    assert state_of(asked(client, "SELECT * FROM v", "writer", "w")) == (403, "42501")
    assert state_of(client.get("/subscribe/v", auth=("writer", "w"))) == (403, "42501")


def test_a_key_is_the_users_own(client: httpx.Client):
    headers = {**LINES, "Idempotency-Key": "shared"}
    answers = [
        client.post("/streams/s", content=b'{"x": 1}\n', headers=headers, auth=auth)
        for auth in (("writer", "w"), ("streamsql", PASSWORD_OWNER), ("writer", "w"))
    ]
    assert [a.status_code for a in answers] == [200] * 3
    assert [a.headers.get("idempotency-replayed") for a in answers] == [None, None, "true"]


def test_a_right_that_is_revoked_while_rows_come_counts(secured: RunningServer, client: httpx.Client):
    with secured.owner() as owner:
        owner.execute("CREATE STREAM slowly (x INT)")
        owner.execute("GRANT INSERT ON slowly TO writer")

        def body() -> Iterator[bytes]:
            yield b'{"x": 1}\n'
            owner.execute("REVOKE INSERT ON slowly FROM writer")
            yield b'{"x": 2}\n'

        answer = client.post("/streams/slowly", content=body(), headers=LINES, auth=("writer", "w"))
        assert state_of(answer) == (403, "42501")
        assert owner.execute("SELECT count(*) FROM slowly").fetchall() == [(0,)]


def test_a_right_that_is_revoked_ends_subscriptions(
    secured: RunningServer, client: httpx.Client, certificates: Certificates
):
    with secured.owner() as owner:
        owner.execute("CREATE USER follower PASSWORD 'f'")
        owner.execute("GRANT SELECT ON v TO follower")
        context = ssl.create_default_context(cafile=str(certificates.authority))
        basic = "Basic " + base64.b64encode(b"follower:f").decode()
        address = secured.http.replace("https", "wss") + "/subscribe/v"
        with (
            client.stream("GET", "/subscribe/v", auth=("follower", "f")) as answer,
            connect(address, ssl=context, additional_headers={"Authorization": basic}) as by_socket,
        ):
            lines = answer.iter_lines()
            until(lambda: next(lines).startswith("event: progress"))
            while json.loads(by_socket.recv(10))["event"] != "progress":
                pass
            owner.execute("REVOKE SELECT ON v FROM follower")
            assert any('"sqlstate": "42501"' in line for line in lines)
            assert json.loads(by_socket.recv(10))["error"]["sqlstate"] == "42501"
        assert state_of(client.get("/subscribe/v", auth=("follower", "f"))) == (403, "42501")


def test_sockets_take_a_proof_too(secured: RunningServer, certificates: Certificates):
    context = ssl.create_default_context(cafile=str(certificates.authority))
    with pytest.raises(InvalidStatus) as refused:
        connect(secured.http.replace("https", "wss") + "/subscribe/v", ssl=context)
    assert refused.value.response.status_code == 401


def test_what_is_measured_is_shown_to_who_may_read_it(client: httpx.Client):
    everything = client.get("/metrics", auth=("streamsql", PASSWORD_OWNER)).text
    assert 'streamsql_stream_rows_in_total{stream="s"}' in everything
    little = client.get("/metrics", auth=("reader", "r")).text
    assert 'view="v"' in little
    assert 'stream="s"' not in little


def test_rejected_records_are_shown_to_who_may_read_the_stream(client: httpx.Client):
    sent = client.post("/streams/s", content=b'{"x": 1}\nsecret\n', headers=LINES, auth=("writer", "w"))
    assert sent.json()["rejected"] == 1
    counted = "SELECT count(*) > 0 AS shown FROM streamsql.rejected_rows"
    assert asked(client, counted, "streamsql", PASSWORD_OWNER).json() == [{"shown": True}]
    assert asked(client, counted, "reader", "r").json() == [{"shown": False}]


def test_settings_of_a_role_count(secured: RunningServer, client: httpx.Client):
    with secured.owner() as owner:
        owner.execute("CREATE USER hurried PASSWORD 'h' CONNECTION LIMIT 1")
        owner.execute("GRANT SELECT ON v TO hurried")
        owner.execute("ALTER ROLE hurried SET statement_timeout TO '50ms'")
        owner.execute("ALTER ROLE hurried SET timezone TO 'Asia/Tokyo'")
    assert asked(client, "SHOW timezone", "hurried", "h").json() == [{"TimeZone": "Asia/Tokyo"}]
    slow = "SELECT sum(a.i * b.i) FROM generate_series(1, 1000000) AS a(i), generate_series(1, 100000) AS b(i)"
    assert state_of(asked(client, slow, "hurried", "h")) == (408, "57014")
    with client.stream("GET", "/subscribe/v", auth=("hurried", "h")) as following:
        assert following.status_code == 200
        assert state_of(asked(client, "SELECT 1", "hurried", "h")) == (503, "53300")


# ---- starting, and other addresses ----


def refused_start(folder: Path, *arguments: str, password: str = "x") -> str:
    command = [sys.executable, "-m", "streamsql", "serve", "--port", "0", "--in-memory", "--http-port", "0", *arguments]
    environment = {**os.environ, "STREAMSQL_PASSWORD": password}
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=60, check=False, env=environment
    )
    assert found.returncode == 1
    return found.stderr


def test_other_addresses_take_encryption_and_a_password(tmp_path: Path, certificates: Certificates):
    assert "needs --tls-cert and --tls-key" in refused_start(tmp_path, "--http-host", "0.0.0.0")
    certificate, key = certificates.of("server")
    secured = ["--http-host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key)]
    assert "needs a password for the first owner" in refused_start(tmp_path, *secured, password="")


def test_other_addresses_are_served(tmp_path: Path, certificates: Certificates):
    certificate, key = certificates.of("server")
    arguments = ["--http-host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key), "--http-port", "0"]
    environment = {"STREAMSQL_PASSWORD": PASSWORD_OWNER}
    with RunningServer(tmp_path, arguments, environment) as running, of(running, certificates) as client:
        assert client.get("/query?sql=SELECT+current_user+AS+u").json() == [{"u": "streamsql"}]  # trust loopback
        assert asked(client, "SELECT current_user AS u", "tester", "").json() == [{"u": "tester"}]
        assert client.get("/query?sql=SELECT+1", headers={"Host": "elsewhere.example"}).status_code == 403


@pytest.mark.parametrize(
    ("rules", "address", "tls", "status"),
    [
        ("scram all", "10.0.0.5", True, 200),
        ("scram all", "10.0.0.5", False, 403),
        ("scram 10.0.0.5 plain", "10.0.0.5", False, 200),
        ("scram 10.0.0.5 plain", "10.0.0.6", False, 403),
        ("scram all", "::1", False, 200),
    ],
)
def test_passwords_of_other_machines_are_taken_encrypted(rules: str, address: str, tls: bool, status: int):
    owner = Role(OWNER, OWNER_NAME, superuser=True, login=True, verifier=str(verifier_of("p", b"salt")))
    limits, clock = Limits(), ManualClock()
    gate = Gate(read_rules(rules), lambda: Access({OWNER: owner}), clock, limits, tls_required=False, mock_secret=b"")
    basic = "Basic " + base64.b64encode(b"streamsql:p").decode()
    request = Asking(address, tls, "streams.example", "", basic, None)
    try:
        assert asyncio.run(Door(gate, clock, limits).admit(request)).role == owner
        found = 200
    except HttpError as error:
        found = error.status
    assert found == status


def test_encryption_can_be_required_and_certificates_are_read_again(tmp_path: Path, certificates: Certificates):
    certificate, key = tmp_path / "now.pem", tmp_path / "now.key"

    def put(name: str) -> None:
        for target, source in zip((certificate, key), certificates.of(name), strict=True):
            target.write_bytes(source.read_bytes())

    put("server")
    arguments = ["--tls-cert", str(certificate), "--tls-key", str(key), "--require-tls", "--http-port", "0"]
    with RunningServer(tmp_path, arguments) as running:
        with of(running, certificates, plain=True) as client:
            assert state_of(client.get("/query?sql=SELECT+1")) == (403, "28000")
        port = int(running.http.rpartition(":")[2])
        before = ssl.get_server_certificate(("127.0.0.1", port))
        put("server2")
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        until(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != before)


def test_a_connection_that_asks_nothing_is_closed(tmp_path: Path):
    with RunningServer(tmp_path, ["--http-port", "0", "--limit", "startup_seconds_max=1"]) as running:
        port = int(running.http.rpartition(":")[2])
        for begun in (b"", b"GET / HTTP/1.1\r\nHost:"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
                silent.sendall(begun)
                assert silent.recv(100) == b""


def test_a_body_is_not_read_before_it_is_known_who_sends_it(secured: RunningServer):
    port = int(secured.http.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(b"POST /streams/s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 401 ")
