"""node-postgres with pg-query-stream, pg-cursor and pg-copy-streams. The conversation is node/conversation.js."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.clients.programs import CLIENTS, needs, output_of, sections
from tests.running import RunningServer

pytestmark = pytest.mark.programs

VALUES = {
    "id": 1, "t": "Käse ☃", "x": "1.50", "at": "2024-02-29T12:00:00.000Z", "b": True, "doc": {"a": [1, None]},
    "tags": ["a", None, "b,c"], "raw": "00ff", "f": 0.25, "l": "9223372036854775807",
}  # fmt: skip


@pytest.fixture(scope="module")
def said(server: RunningServer) -> dict[str, list[str]]:
    node = needs(shutil.which("node"), "node")
    needs(CLIENTS / "node" / "node_modules" / "pg", "node-postgres (npm ci in tests/clients/node)")
    return sections(output_of([node, str(CLIENTS / "node" / "conversation.js"), str(server.port)]))


def test_a_row_of_many_types_comes_back(said: dict[str, list[str]]):
    assert json.loads(said["values"][0]) == VALUES
    assert json.loads(said["fields"][0])[:5] == [23, 25, 1700, 1184, 16]


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("inserted", "INSERT 1"),
        ("nulls", "1"),
        ("array", '[["Käse ☃",5]]'),
        ("prepared", "55"),
        ("error", '42703 8 column "nosuch" does not exist'),
        ("aborted", "25P02"),
        ("rolled back", "0"),
        ("several", '[{"a":1},{"b":2}]'),
        ("streamed", "551775"),
        ("cursor", "[1,2,3]"),
        ("copied", "1,a 2,"),
        ("live", "[1,2,3]"),
        ("pool", "380"),
        ("timeout", "57014"),
        ("usable", '[{"one":1}]'),
    ],
)
def test_programs_get_what_they_ask_for(said: dict[str, list[str]], section: str, value: str):
    assert said.get(section) == [value]
