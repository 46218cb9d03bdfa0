"""What the documents show is what comes out: their SQL is run, and README's transcript is compared line by line.

``pytest tests/docs --update`` writes the transcript anew from what psql prints.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningServer

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROMPT = "streamsql=> "
MORE = "streamsql-> "


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path) as running:
        yield running


def psql(server: RunningServer, sql: str) -> str:
    """Run one statement as psql shows it to a person; gives what it prints, errors too."""
    program = shutil.which("psql")
    assert program is not None, "psql is needed (Debian's postgresql-client)"
    done = subprocess.run(
        [program, "-X", "-d", server.dsn, "-c", sql], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def transcript_parts(block: str) -> list[tuple[str, str]]:
    """Take a transcript apart into statements, as typed with their prompts, and what is shown after each."""
    parts: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith(PROMPT):
            parts.append(([line], []))
        elif line.startswith(MORE):
            parts[-1][0].append(line)
        else:
            parts[-1][1].append(line)
    return [("\n".join(typed), "\n".join(shown)) for typed, shown in parts]


def statement_of(typed: str) -> str:
    return "\n".join(line[len(PROMPT) :] for line in typed.splitlines())


def trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_the_documents_sql_runs(server: RunningServer, document: Path) -> None:
    for block in re.findall(r"```sql\n(.*?)```", document.read_text(), re.DOTALL):
        shown = psql(server, f"{block}")
        assert "ERROR" not in shown, shown


def test_the_documents_link_to_what_is_there() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
