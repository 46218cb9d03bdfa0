"""Clients that are programs of their own: where they are, and running them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent
PROGRAM_SECONDS_MAX = 100.0


def needs(path: Path | str | None, what: str) -> str:
    """Give a path as text; skip the test where there is nothing (`.ci/run` installs it, and no test is skipped there)."""
    if path is None or not Path(path).exists():
        pytest.skip(f"{what} is not installed")
    return str(path)


def output_of(command: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Run a program, which must succeed; give what it prints."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PROGRAM_SECONDS_MAX, env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sections(printed: str) -> dict[str, list[str]]:
    """Read lines of the form ``section: value``."""
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        section, _, value = line.partition(": ")
        found.setdefault(section, []).append(value)
    return found
