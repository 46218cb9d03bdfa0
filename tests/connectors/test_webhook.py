"""Webhooks, against a real server that fails, hangs and cuts connections."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamsql.base.errors import ExternalError, InvalidParameterValue, StreamSQLError, Unavailable
from streamsql.connectors.sink import Guarantee, Sink
from streamsql.connectors.source import Given
from streamsql.connectors.webhook import WebhookConnector
from streamsql.sql.secrets import SecretReference
from tests.certificates import Certificates
from tests.connectors.by_hand import delivery, given, opened_sink, shape
from tests.connectors.servers.hook import Answer, HookServer
from tests.connectors.servers.process import free_port

KEY = b"0123456789abcdef01234567"


@pytest.fixture
def hook() -> Iterator[HookServer]:
    with HookServer() as server:
        yield server


_open: list[Sink] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while _open:
        _open.pop().close()


def sink(
    url: str, *, append_only: bool = True, key: tuple[str, ...] = (), folder: Path | None = None, **options: Any
) -> Sink:
    said = Given({"url": url, **options}, {})
    _open.append(opened_sink(WebhookConnector(), said, shape(append_only=append_only, key=key), folder=folder))
    return _open[-1]


def test_rows_are_sent_by_epoch_with_stable_names_and_a_signature(hook: HookServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOOK", "whsec_" + base64.b64encode(KEY).decode())
    monkeypatch.setenv("LOGIN", "Bearer abc")
    secrets: dict[str, Any] = {
        "signing_secret": SecretReference("env:HOOK"),
        "authorization": SecretReference("env:LOGIN"),
    }
    writing = sink(hook.url, batch_rows="2", **secrets)
    assert writing.delivered() is None
    writing.deliver(delivery((3, 1, "a", 1), (3, 1, 'b"\n', None), (3, 1, "c", 3), (5, 1, "d", 4)))
    assert [json.loads(t.body) for t in hook.taken] == [
        {"sink": "alerts", "epoch": 3, "rows": [{"k": "a", "n": 1}, {"k": 'b"\n', "n": None}]},
        {"sink": "alerts", "epoch": 3, "rows": [{"k": "c", "n": 3}]},
        {"sink": "alerts", "epoch": 5, "rows": [{"k": "d", "n": 4}]},
    ]
    assert [t.headers["webhook-id"] for t in hook.taken] == ["test-1-3.0", "test-1-3.2", "test-1-5.0"]
    assert all(t.headers["idempotency-key"] == t.headers["webhook-id"] for t in hook.taken)
    assert all(t.is_signed(KEY) for t in hook.taken)
    assert not hook.taken[0].is_signed(b"x" * 24)
    assert abs(int(hook.taken[0].headers["webhook-timestamp"]) - time.time()) < 60
    assert {t.headers["authorization"] for t in hook.taken} == {"Bearer abc"}


def test_what_is_repeated_has_the_same_names_whatever_comes_behind(hook: HookServer):
    writing = sink(hook.url)
    hook.answers += [Answer(), Answer(503)]
    with pytest.raises(Unavailable, match="answered 503 Service Unavailable"):
        writing.deliver(delivery((3, 1, "a", 1), (4, 1, "b", 2)))
    writing.deliver(delivery((3, 1, "a", 1), (4, 1, "b", 2), (5, 1, "c", 3)))
    names = [t.headers["webhook-id"] for t in hook.taken]
    assert names == ["test-1-3.0", "test-1-4.0", "test-1-3.0", "test-1-4.0", "test-1-5.0"]
    assert [t.body for t in hook.taken[:2]] == [t.body for t in hook.taken[2:4]]


def test_changes_and_deletions(hook: HookServer):
    changes = delivery((3, 1, "a", 1), (4, -1, "a", 1), (4, 1, "a", 2), (4, -1, "b", 7))
    sink(hook.url, append_only=False).deliver(changes)
    sink(hook.url, append_only=False, key=("k",)).deliver(changes)
    assert [json.loads(t.body) for t in hook.taken] == [
        {"sink": "alerts", "epoch": 3, "changes": [{"weight": 1, "row": {"k": "a", "n": 1}}]},
        {"sink": "alerts", "epoch": 4, "changes": [
            {"weight": -1, "row": {"k": "a", "n": 1}}, {"weight": 1, "row": {"k": "a", "n": 2}},
            {"weight": -1, "row": {"k": "b", "n": 7}},
        ]},
        {"sink": "alerts", "epoch": 3, "rows": [{"k": "a", "n": 1}], "deleted": []},
        {"sink": "alerts", "epoch": 4, "rows": [{"k": "a", "n": 2}], "deleted": [{"k": "b"}]},
    ]  # fmt: skip


def test_lines_are_what_another_streamsql_takes(hook: HookServer):
    sink(hook.url, format="ndjson").deliver(delivery((3, 1, "a", 1), (3, 1, "b", 2)))
    assert hook.taken[0].body == b'{"k":"a","n":1}\n{"k":"b","n":2}\n'
    assert hook.taken[0].headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer(500), Unavailable, "answered 500"),
        (Answer(429), Unavailable, "answered 429"),
        (Answer(408), Unavailable, "answered 408"),
        (Answer(hang_seconds=20), Unavailable, "did not answer in time"),
        (Answer(cut=True), Unavailable, "cannot be reached"),
        (Answer(400, body=b"no such\n  field"), ExternalError, "answered 400 Bad Request: no such field"),
        (Answer(404), ExternalError, "answered 404"),
        (Answer(410), ExternalError, "answered 410"),
        (Answer(302, {"Location": "http://elsewhere.example/"}), ExternalError, "redirects are not followed"),
    ],
)
def test_what_may_pass_is_tried_again_and_what_will_not_stops(
    hook: HookServer, answer: Answer, kind: type[StreamSQLError], message: str
):
    hook.answers.append(answer)
    writing = sink(hook.url, timeout="500ms")
    with pytest.raises(kind, match=message):
        writing.deliver(delivery((3, 1, "a", 1)))
    writing.deliver(delivery((3, 1, "a", 1)))
    assert len(hook.taken) == 2


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("100000", 3600), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("soon", None)]
)
def test_a_server_may_say_when_to_come_back(hook: HookServer, said: str, seconds: float | None):
    hook.answers.append(Answer(429, {"Retry-After": said}))
    with pytest.raises(Unavailable) as failed:
        sink(hook.url).deliver(delivery((3, 1, "a", 1)))
    assert failed.value.after_seconds == seconds


def test_certificates_are_looked_at(certificates: Certificates):
    changes = delivery((3, 1, "a", 1))
    with HookServer(certificates.of("server")) as hook:
        with pytest.raises(ExternalError, match=r"certificate of localhost:.* is not believed"):
            sink(hook.url).deliver(changes)
        sink(hook.url, folder=certificates.folder, tls_ca=str(certificates.authority)).deliver(changes)
        assert len(hook.taken) == 1


def test_nobody_is_there():
    with pytest.raises(Unavailable, match="cannot be reached"):
        sink(f"http://localhost:{free_port()}/x?token=hidden").deliver(delivery((3, 1, "a", 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, 'needs the option "url"'),
        ({"url": "ftp://x"}, "does not begin with https://"),
        ({"url": "https://ann:secret@x.example"}, "a secret does not stand in a definition"),
        ({"url": "https://x", "signing_secret": "whsec_abc"}, "a secret does not stand in a definition"),
        ({"url": "https://x", "format": "ndjson", "mode": "changelog"}, "format ndjson sends rows"),
    ],
)
def test_options_are_checked(options: dict[str, str], message: str):
    with pytest.raises(InvalidParameterValue, match=message):
        WebhookConnector().check(given(**options), shape())


def test_a_secret_must_be_one(hook: HookServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOOK", "whsec_c2hvcnQ=")
    with pytest.raises(InvalidParameterValue, match="has 16 to 512 bytes"):
        sink(hook.url, signing_secret=SecretReference("env:HOOK"))


def test_the_guarantee():
    assert WebhookConnector().check(given(url="https://x"), shape()) is Guarantee.AT_LEAST_ONCE
