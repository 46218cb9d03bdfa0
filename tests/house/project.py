"""The project's files, as the tests of its shape read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streamsql"

# Where the project's text lives. Listed, so that environments, caches and builds are never read.
FOLDERS = (".ci", "benchmarks", "docs", "examples", "grammar", "streamsql", "tests")
TEXT_SUFFIXES = {
    "",
    ".cfg",
    ".ini",
    ".json",
    ".lark",
    ".lock",
    ".md",
    ".py",
    ".sh",
    ".sql",
    ".test",
    ".toml",
    ".txt",
    ".yml",
}


def text_files() -> Iterator[Path]:
    """Every text file of the project, in order."""
    yield from sorted(path for path in ROOT.iterdir() if path.is_file() and _is_text(path))
    for folder in FOLDERS:
        yield from sorted(path for path in (ROOT / folder).rglob("*") if _is_ours(path) and _is_text(path))


def _is_ours(path: Path) -> bool:
    """Tell whether a file is the project's own: packages that a test has installed are not."""
    return path.is_file() and "node_modules" not in path.parts


def python_files(*folders: str) -> Iterator[Path]:
    """Every Python file under these folders of the project (all of them if none is named), in order."""
    for folder in folders or FOLDERS:
        yield from sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _is_text(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix in TEXT_SUFFIXES and path.name != ".git"
