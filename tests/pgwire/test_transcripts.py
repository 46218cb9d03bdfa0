"""Conversations in text files, held against the state machine: sent whole, and one byte at a time.

A block is a directive, its lines, and ``----``. ``send`` lists messages; ``until`` lists all that the server must have said
since. ``login`` starts a session, ``connect`` a new connection, ``state`` says where the conversation must stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamsql.pgwire.states import State
from tests.pgwire.wire import ScriptedServer, client_message, server_messages, startup

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.pgtest"))


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    lines = iter(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines:
        if not line:
            continue
        if line in ("send", "until"):
            body: list[str] = []
            while (inner := next(lines)) != "----":
                body.append(inner)
            yield line, body
        else:
            assert line.split()[0] in ("login", "connect", "state"), line
            yield line, []


def _message(line: str) -> bytes:
    name, _, fields = line.partition(" ")
    return client_message(name, json.loads(fields or "{}"))


def _pieces(data: bytes, by_byte: bool) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))] if by_byte else [data]


def _run(path: Path, by_byte: bool) -> list[object]:
    """Run a transcript; give all events of all its connections."""
    events: list[object] = []
    server = ScriptedServer()
    heard = 0
    for directive, body in _blocks(path.read_text()):
        match directive.split():
            case ["connect"]:
                events += server.events
                server, heard = ScriptedServer(), 0
            case ["login"]:
                server.receive(startup({"user": "ann"}))
                heard = len(server.said)
            case ["send"]:
                for piece in _pieces(b"".join(_message(line) for line in body), by_byte):
                    server.receive(piece)
            case ["until"]:
                assert server_messages(server.said[heard:]) == body
                heard = len(server.said)
            case ["state", name]:
                assert server.connection.state is State[name]
    assert heard == len(server.said), "the server said more than the transcript says"
    return events + list(server.events)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_conversation_goes_as_written_and_the_same_byte_by_byte(path: Path) -> None:
    assert _run(path, by_byte=False) == _run(path, by_byte=True)


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 4
