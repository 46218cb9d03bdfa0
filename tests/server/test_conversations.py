"""Conversations in text files, held with a running server: whole, byte by byte, and with PostgreSQL 15 itself.

A block is ``send`` or ``until``, its messages, and ``----``. What stands in ``same_as_postgres`` PostgreSQL answers the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import RunningServer
from tests.server.raw import RawClient, play

HERE = Path(__file__).parent
SAME = sorted((HERE / "same_as_postgres").glob("*.pgtest"))
OWN = sorted((HERE / "transcripts").glob("*.pgtest"))


@pytest.mark.parametrize("by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("path", [*SAME, *OWN], ids=lambda path: path.stem)
def test_a_conversation_goes_as_written(server: RunningServer, path: Path, by_byte: bool):
    for kind in ("TABLE", "STREAM"):
        for name, *_ in server.execute(f"SHOW {kind}S"):
            server.execute(f'DROP {kind} "{name}" CASCADE')
    with RawClient(server.port) as client:
        play(client, path, by_byte=by_byte)


@pytest.mark.postgres
@pytest.mark.parametrize("path", SAME, ids=lambda path: path.stem)
def test_postgres_holds_the_same_conversation(postgres_port: int, path: Path):
    with RawClient(postgres_port, {"database": "postgres"}) as client:
        play(client, path, by_byte=False)


def test_there_are_conversations():
    assert len(SAME) >= 2
    assert OWN
