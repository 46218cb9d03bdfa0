"""Reads files in the format of SQLite's sqllogictest: https://www.sqlite.org/sqllogictest/doc/trunk/about.wiki.

A file is a list of records parted by blank lines; lines that start with ``#`` are comments.

    statement ok | error          then the SQL
    query IRT [nosort | rowsort | valuesort] [label]      then the SQL, ``----``, and the values, one a line,
                                  or ``30 values hashing to <md5>``
    hash-threshold N, halt        skipif ENGINE, onlyif ENGINE (about the next record)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SORTS = ("nosort", "rowsort", "valuesort")
# what this server answers to in skipif and onlyif: its SQL is PostgreSQL's
ENGINES = frozenset({"streamsql", "postgresql"})
_HASHED = re.compile(r"(\d+) values hashing to ([0-9a-f]{32})")


class FormatError(Exception):
    """A file is not in the format; the message says where."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL that must be executed, or refused."""

    line: int
    sql: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT and its answer: a value a line in `values`, or how many there are and their MD5 in `hashed`."""

    line: int
    sql: str
    types: str
    sort: str
    label: str | None
    values: tuple[str, ...]
    hashed: tuple[int, str] | None


Record = Statement | Query


def read(text: str) -> list[Record]:
    """Give the records that are meant for this server, up to ``halt``. Raises FormatError."""
    found: list[Record] = []
    skipped = False
    for line, lines in _paragraphs(text):
        while lines and (words := lines[0].split())[0] in {"skipif", "onlyif"}:
            ours = words[1] in ENGINES
            skipped = skipped or (ours if words[0] == "skipif" else not ours)
            lines, line = lines[1:], line + 1
        words = lines[0].split() if lines else []
        if words[:1] == ["halt"] and not skipped:
            return found
        if not words or words[0] in {
            "hash-threshold",
            "halt",
        }:  # values are hashed where the file says so, at any number
            skipped = False
            continue
        record = _record(line, words, lines[1:])
        if not skipped:
            found.append(record)
        skipped = False
    return found


def _paragraphs(text: str) -> Iterator[tuple[int, list[str]]]:
    lines: list[str] = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            yield first, lines
            lines = []


def _record(line: int, words: list[str], lines: list[str]) -> Record:
    if words[0] == "statement" and words[1:2] in (["ok"], ["error"]):
        return Statement(line, "\n".join(lines), words[1] == "ok")
    if words[0] != "query" or len(words) < 2 or not set(words[1]) <= set("ITR"):
        raise FormatError(f"line {line}: not a record: {' '.join(words)}")
    sort = words[2] if len(words) > 2 else "nosort"
    if sort not in SORTS:
        raise FormatError(f"line {line}: {sort} is no way to sort")
    at = lines.index("----") if "----" in lines else len(lines)
    values = lines[at + 1 :]
    hashed = _HASHED.fullmatch(values[0]) if len(values) == 1 else None
    return Query(
        line,
        "\n".join(lines[:at]),
        words[1],
        sort,
        words[3] if len(words) > 3 else None,
        () if hashed else tuple(values),
        (int(hashed[1]), hashed[2]) if hashed else None,
    )
