"""What the documents show is what comes out: their SQL is run, and README's transcript is compared line by line.

``pytest tests/docs --update`` writes the transcript anew from what psql prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.transcripts import psql, statement_of, transcript_parts, trimmed
from tests.running import RunningServer

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SQL = re.compile(r"```sql\n(.*?)```", re.DOTALL)
WITH_SQL = [document for document in DOCUMENTS if SQL.search(document.read_text())]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path) as running:
        yield running


def test_the_readmes_transcript_is_what_psql_prints(server: RunningServer, request: pytest.FixtureRequest) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```psql\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    made = [(typed, trimmed(psql(server, statement_of(typed)))) for typed, _ in transcript_parts(block[1])]
    assert len(made) >= 8
    if request.config.getoption("--update"):
        text = "\n".join(f"{typed}\n{shown}" for typed, shown in made)
        (ROOT / "README.md").write_text(readme.replace(block[1], text + "\n"))
        return
    for (typed, shown), (_, expected) in zip(made, transcript_parts(block[1]), strict=True):
        assert shown == trimmed(expected), typed


@pytest.mark.parametrize("document", WITH_SQL, ids=lambda d: d.name)
def test_the_documents_sql_runs(server: RunningServer, document: Path) -> None:
    for block in SQL.findall(document.read_text()):
        shown = psql(server, f"{block}")
        assert "ERROR" not in shown, shown


def test_the_documents_link_to_what_is_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
