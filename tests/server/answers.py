"""Expressions, each beside the answer that PostgreSQL 15 gave: the files in the folder `answers`.

An entry is the SQL (an expression, or a whole query), then indented lines: the names of the result's types, and each row as
a JSON array of texts in the wire's text format, or else the error. Where the server differs on purpose, `here:` stands before
what it gives instead.

    to_char(12, '000')
        text
        [" 012"]
    1 / 0
        ERROR 22012 division by zero

`python -m tests.server.answers record DSN` asks a PostgreSQL for all of them and writes the files anew, keeping `here:`.
`compare` instead of `record` prints what a server answers otherwise, `accept` writes that behind `here:`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Context, InvalidOperation
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

FOLDER = Path(__file__).parent / "answers"
HERE = "here: "
_INDENT = "    "
_QUERIES = ("SELECT ", "VALUES ", "WITH ")
# digits of a numeric or floating-point result in which the two must agree: a quotient has more of them there
_DIGITS = 12
_NUMBERS = frozenset({"numeric", "float8"})
_JSONS = frozenset({"json", "jsonb"})  # compared by value: PostgreSQL writes blanks where DuckDB writes none

Connection = psycopg.Connection[TupleRow]


@dataclass(slots=True)
class Entry:
    """An expression, PostgreSQL's answer, and this server's where it is another."""

    sql: str
    answer: list[str] = field(default_factory=list)
    here: list[str] = field(default_factory=list)

    @property
    def query(self) -> str:
        return self.sql if self.sql.startswith(_QUERIES) else f"SELECT {self.sql}"

    @property
    def expected(self) -> list[str]:
        """What this server must answer."""
        return self.here or self.answer


def entries(path: Path) -> list[Entry]:
    """Read a file."""
    found: list[Entry] = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith(_INDENT):
            found.append(Entry(line))
        elif line.strip().startswith(HERE):
            found[-1].here.append(line.strip().removeprefix(HERE))
        else:
            found[-1].answer.append(line.strip())
    return found


def all_entries() -> Iterator[tuple[str, Entry]]:
    """Give every entry with the name of its file."""
    for path in sorted(FOLDER.glob("*.txt")):
        for entry in entries(path):
            yield path.stem, entry


def ask(connection: Connection, query: str) -> list[str]:
    """Run a query; give the lines of its answer."""
    try:
        cursor = connection.execute(query)
    except psycopg.Error as error:
        return [f"ERROR {error.sqlstate} {error.diag.message_primary}"]
    result = cursor.pgresult
    assert result is not None
    columns = range(result.nfields)
    types = [_type_name(connection, result.ftype(i)) for i in columns]
    rows = [[_text(result.get_value(row, i)) for i in columns] for row in range(result.ntuples)]
    return [", ".join(types), *(json.dumps(row, ensure_ascii=False) for row in rows)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


_type_names: dict[int, str] = {}


def _type_name(connection: Connection, oid: int) -> str:
    """Name a type: both servers must know it."""
    if oid not in _type_names:
        found = connection.execute("SELECT typname FROM pg_type WHERE oid = %s", [oid]).fetchone()
        _type_names[oid] = found[0] if found else f"unknown type {oid}"
    return _type_names[oid]


def agree(expected: list[str], found: list[str]) -> bool:
    """Tell whether two answers are the same: numbers up to a number of digits, errors by their SQLSTATE and message."""
    return _comparable(expected) == _comparable(found)


def _comparable(answer: list[str]) -> list[object]:
    types = answer[0].split(", ")
    rows: Iterable[list[str | None]] = [] if answer[0].startswith("ERROR") else [json.loads(row) for row in answer[1:]]
    compared = [[None if v is None else _value(t, v) for t, v in zip(types, row, strict=True)] for row in rows]
    return [answer[0], compared]


def _value(type_name: str, text: str) -> object:
    if type_name in _JSONS:
        return json.loads(text)
    return _number(text) if type_name in _NUMBERS else text


def _number(text: str) -> str:
    try:
        return str(Context(prec=_DIGITS).create_decimal(text).normalize())
    except InvalidOperation:
        return text


def record(connection: Connection) -> None:
    """Write PostgreSQL's answers into the files."""
    for path in sorted(FOLDER.glob("*.txt")):
        lines: list[str] = []
        for entry in entries(path):
            lines += [entry.sql, *(_INDENT + line for line in ask(connection, entry.query))]
            lines += [_INDENT + HERE + line for line in entry.here]
        path.write_text("\n".join(lines) + "\n", "utf-8")


def accept(connection: Connection) -> None:
    """Write what this server answers otherwise behind `here:`; read the difference."""
    for path in sorted(FOLDER.glob("*.txt")):
        lines: list[str] = []
        for entry in entries(path):
            found = ask(connection, entry.query)
            lines += [entry.sql, *(_INDENT + line for line in entry.answer)]
            lines += [] if agree(entry.answer, found) else [_INDENT + HERE + line for line in found]
        path.write_text("\n".join(lines) + "\n", "utf-8")


def compare(connection: Connection) -> None:
    """Print what a server answers otherwise than the files say."""
    count = wrong = 0
    for name, entry in all_entries():
        count += 1
        found = ask(connection, entry.query)
        if not agree(entry.expected, found):
            wrong += 1
            print(f"{name}: {entry.sql}\n    {entry.expected}\n    {found}")
    print(f"{wrong} of {count} differ")


if __name__ == "__main__":
    with psycopg.connect(sys.argv[2], autocommit=True) as opened:
        {"accept": accept, "compare": compare, "record": record}[sys.argv[1]](opened)
