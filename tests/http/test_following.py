"""GET /subscribe/VIEW: Server-Sent Events and WebSockets, and clients that come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.running import RunningServer, until

Event = tuple[str, Any]


@pytest.fixture
def view(server: RunningServer, request: pytest.FixtureRequest) -> str:
    name: str = request.node.name[5:50]
    server.execute(
        f"CREATE STREAM s_{name} (k TEXT, x INT)",
        f"CREATE MATERIALIZED VIEW {name} AS SELECT k, sum(x) AS total FROM s_{name} GROUP BY k EMIT UPDATE",
        f"INSERT INTO s_{name} VALUES ('a', 1), ('b', 2)",
    )
    return name


def events(lines: Iterator[str]) -> Iterator[Event]:
    """Give events: a change as (weight, row), a progress as its id."""
    kind, found = "", ""
    for line in lines:
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("id: "):
            found = line[4:]
        elif line.startswith("data: "):
            data = json.loads(line[6:])
            yield (
                (kind, found)
                if kind == "progress"
                else (kind, (data["weight"], data["row"]) if kind == "change" else data)
            )


def up_to_progress(following: Iterator[Event]) -> tuple[list[Any], str]:
    """Take events up to the next progress; give the changes and the id."""
    changes: list[Any] = []
    for kind, value in following:
        if kind == "progress":
            return changes, value
        changes.append(value)
    raise AssertionError("the events ended")


def subscribers(client: httpx.Client, view: str) -> float:
    line = f'streamsql_view_subscribers{{view="{view}"}} '
    return next(
        float(found.removeprefix(line)) for found in client.get("/metrics").text.splitlines() if found.startswith(line)
    )


def test_a_snapshot_then_changes_and_one_who_comes_back(server, client, view):
    with client.stream("GET", f"/subscribe/{view}") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        following = events(answer.iter_lines())
        changes, seen = up_to_progress(following)
        assert sorted(changes, key=str) == [(1, {"k": "a", "total": 1}), (1, {"k": "b", "total": 2})]
        server.execute(f"INSERT INTO s_{view} VALUES ('a', 5)")
        changes, seen = up_to_progress(following)
        assert changes == [(-1, {"k": "a", "total": 1}), (1, {"k": "a", "total": 6})]
    until(lambda: subscribers(client, view) == 0)
    server.execute(f"INSERT INTO s_{view} VALUES ('c', 3)")
    with client.stream("GET", f"/subscribe/{view}", headers={"Last-Event-ID": seen}) as answer:
        assert answer.status_code == 200
        changes, later = up_to_progress(events(answer.iter_lines()))
    assert changes == [(1, {"k": "c", "total": 3})]
    assert int(later) > int(seen)


def test_one_who_comes_back_too_late_is_told(server, client, view):
    with client.stream("GET", f"/subscribe/{view}") as answer:
        following = events(answer.iter_lines())
        _, seen = up_to_progress(following)
        for number in range(30):
            server.execute(f"INSERT INTO s_{view} VALUES ('a', {number})")
            up_to_progress(following)
    answer = client.get(f"/subscribe/{view}", headers={"Last-Event-ID": seen})
    assert (answer.status_code, answer.json()["error"]["sqlstate"]) == (410, "53400")
    assert client.get(f"/subscribe/{view}?after=x").status_code == 400
    assert client.get(f"/subscribe/{view}?after=999999").status_code == 410


def test_a_websocket_tells_the_same(server, view):
    url = server.http.replace("http", "ws") + f"/subscribe/{view}?snapshot=false"
    with connect(url) as socket:
        assert json.loads(socket.recv(timeout=30))["event"] == "progress"
        server.execute(f"INSERT INTO s_{view} VALUES ('b', 1)")
        found = [json.loads(socket.recv(timeout=30)) for _ in range(3)]
    assert [(e["event"], e.get("weight"), e.get("row")) for e in found] == [
        ("change", -1, {"k": "b", "total": 2}), ("change", 1, {"k": "b", "total": 3}), ("progress", None, None),
    ]  # fmt: skip


def test_what_is_no_view_is_told(server, client, view):
    assert client.get("/subscribe/nothing").status_code == 404
    assert client.get(f"/subscribe/s_{view}").json()["error"]["sqlstate"] == "42809"
    with connect(server.http.replace("http", "ws") + "/subscribe/nothing") as socket:
        assert json.loads(socket.recv(timeout=30))["error"]["sqlstate"] == "42P01"


def test_the_end_of_a_view_ends_its_subscriptions(server, client, view):
    with client.stream("GET", f"/subscribe/{view}") as answer:
        following = events(answer.iter_lines())
        up_to_progress(following)
        server.execute(f"DROP MATERIALIZED VIEW {view}")
        assert [kind for kind, _ in following] == ["error"]
