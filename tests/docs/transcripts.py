"""Sessions with psql as documents show them: what is typed behind its prompts, and what psql prints."""

from __future__ import annotations

import shutil
import subprocess

from tests.running import RunningServer

PROMPT = "streamsql=> "
MORE = "streamsql-> "


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
