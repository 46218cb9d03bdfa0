"""What tables promise, statement by statement, as PostgreSQL does: tags, rows, types with modifiers, errors with their fields.

Each file of ``tables/`` is a session of its own, run on both servers; a statement ends with a semicolon at the end of a line.
``-- differs: ...`` before a statement says that, and why, only its SQLSTATE is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

FILES = sorted(Path(__file__).with_name("tables").glob("*.sql"))
_COMMENTS = re.compile(r"^--.*\n", re.MULTILINE)


def statements(path: Path) -> Iterator[tuple[str, bool]]:
    """Give each statement, and whether more than its SQLSTATE is compared."""
    for part in re.split(r";\n", path.read_text("utf-8")):
        text = _COMMENTS.sub("", part.lstrip("\n")).strip()
        if text:
            yield text, "-- differs:" not in part


def outcome(connection: psycopg.Connection[TupleRow], statement: str) -> tuple[Any, ...]:
    """Give what came of a statement."""
    try:
        cursor = connection.execute(statement.encode())
    except psycopg.Error as error:
        told = error.diag
        fields = (told.schema_name, told.table_name, told.column_name, told.datatype_name, told.constraint_name)
        return (told.sqlstate, told.message_primary, told.message_detail, fields)
    if cursor.description is None:
        return ("00000", cursor.statusmessage)
    columns = [(c.name, c.type_code, c.display_size, c.precision, c.scale) for c in cursor.description]
    if "information_schema" in statement:  # whose domains have lengths of their own
        columns = [(name, code, None, None, None) for name, code, *_ in columns]
    return ("00000", cursor.statusmessage, columns, cursor.fetchall())


@pytest.mark.postgres
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tables_are_as_in_postgresql(tmp_path: Path, postgres_port: int, path: Path):
    of_cluster = f"host=127.0.0.1 port={postgres_port} user=tester"
    name = f"tables_{path.stem}"  # each file has a database and a server of its own: what others leave would be listed
    with psycopg.connect(f"{of_cluster} dbname=postgres", autocommit=True) as made:
        made.execute(f"CREATE DATABASE {name}".encode())
    theirs = psycopg.connect(f"{of_cluster} dbname={name}", autocommit=True)
    with theirs, RunningServer(tmp_path) as server, server.session() as ours:
        different = []
        for statement, whole in statements(path):
            expected, found = outcome(theirs, statement), outcome(ours, statement)
            if not whole:
                expected, found = expected[:1], found[:1]
            if found != expected:
                different.append(f"{statement}\n  PostgreSQL: {expected}\n  here:       {found}")
    assert not different, "\n".join(["", *different])
