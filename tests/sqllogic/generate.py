"""Writes the files of cases: ``python -m tests.sqllogic.generate [--count 60] [--seed 1] [--folder DIR]``.

A PostgreSQL 15 is started, and its answers are what is written; a query that it refuses is drawn anew. The same seed gives
the same files. What PostgreSQL has nothing to compare with belongs into golden files instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from tests import postgres
from tests.sqllogic.answers import digest, flat
from tests.sqllogic.drawing import DATES, TABLES, TEXTS, Draw, Drawn
from tests.sqllogic.families import FAMILIES

HASH_THRESHOLD = 60
Connection = psycopg.Connection[tuple[Any, ...]]


def row_of(random: Random, table: str, key: int) -> str:
    """Draw a row of a table, as it stands in VALUES; `key` is the primary key of t3."""

    def value(*choices: object) -> str:
        return "NULL" if random.random() < 0.15 else str(random.choice(choices))

    numbers = range(-3, 8)
    if table == "t1":
        row = [value(*numbers), value(*numbers), value(*range(-100, 101)), value(*TEXTS), value("true", "false")]
    elif table == "t2":
        row = [
            value(*numbers),
            value(*range(0, 5_000_000_000, 1_250_000_000)),
            value(0.5, -0.25, 0, 2, 100.125),
            value(*TEXTS),
        ]
    else:
        row = [str(key), value(*numbers), value(*(n / 4 for n in range(-8, 9))), value(*DATES)]
    return f"({', '.join(row)})"


def _inserts(random: Random, keys: Iterator[int], sizes: dict[str, int]) -> list[str]:
    found = []
    for table, size in sizes.items():
        rows = ", ".join(row_of(random, table, next(keys)) for _ in range(size))
        found.append(f"INSERT INTO {table} VALUES {rows}")
    random.shuffle(found)
    return found


def changes(number: int) -> list[str]:
    """List statements that change rows of the three tables."""
    return [
        f"UPDATE t1 SET b = b + 1, c = c * 2 WHERE a = {number}",
        f"UPDATE t1 SET a = {number}, d = 'moved' WHERE b < 0",
        "UPDATE t1 SET e = NOT e WHERE e IS NOT NULL AND c > 0",
        f"UPDATE t2 SET a = a - 1 WHERE f > {number}",
        "UPDATE t2 SET d = NULL, g = g * 2 WHERE d LIKE 'a%'",
        f"UPDATE t3 SET p = p + 0.25 WHERE a >= {number}",
        f"DELETE FROM t1 WHERE c BETWEEN {number} AND {number + 20}",
        f"DELETE FROM t2 WHERE a IS NULL OR a = {number}",
        f"DELETE FROM t3 WHERE a = {number}",
        "DELETE FROM t3 WHERE w < DATE '1970-01-01'",
    ]


def _written(query: Drawn, rows: list[tuple[Any, ...]], label: str) -> str:
    sort = "nosort" if query.ordered else "rowsort"
    values = flat(rows, query.types, sort)
    answer = "\n".join(values)
    if len(values) > HASH_THRESHOLD:
        answer = f"{len(values)} values hashing to {digest(values)}"
    return f"query {query.types} {sort}{label}\n{query.sql}\n----\n{answer}\n"


def generate(connection: Connection, family: str, count: int, seed: int) -> str:
    """Draw a file's cases, and ask PostgreSQL."""
    random = Random(f"{family} {seed}")
    draw = Draw(random)
    keys = iter(range(1, 10_000))
    about = (FAMILIES[family].__doc__ or "").removeprefix("Draw ").rstrip(".")
    parts = [f"# Drawn: {about}.\n# Written by tests/sqllogic/generate.py; the answers are PostgreSQL's.\n",
             f"hash-threshold {HASH_THRESHOLD}\n"]  # fmt: skip
    sizes = {"t1": 12, "t2": 9, "t3": 8}
    connection.execute("DROP TABLE IF EXISTS t1, t2, t3")
    stages = [
        TABLES.strip().splitlines(),
        _inserts(random, keys, sizes),
        _inserts(random, keys, sizes),
        random.sample(changes(random.randint(-3, 7)), 5),
    ]
    shares = [0, count // 5, count // 5, count - 2 * (count // 5)]
    if family in {"aggregates", "simple"}:  # some answers of no rows
        shares[0], shares[3] = 6, shares[3] - 6
    for statements, queries in zip(stages, shares, strict=True):
        for sql in statements:
            connection.execute(sql)
            parts.append(f"statement ok\n{sql}\n")
        made = 0
        while made < queries:
            drawn = FAMILIES[family](draw)
            rows = _answer(connection, drawn.sql)
            if rows is None:
                continue
            made += 1
            parts.append(_written(drawn, rows, ""))
    return "\n".join(parts)


def _answer(connection: Connection, sql: str) -> list[tuple[Any, ...]] | None:
    """Ask for the values as text; None where PostgreSQL refuses or fails."""
    try:
        with connection.cursor() as cursor:
            result = cursor.execute(sql).pgresult
            assert result is not None
            return [
                tuple(None if (v := result.get_value(r, c)) is None else v.decode() for c in range(result.nfields))
                for r in range(result.ntuples)
            ]
    except psycopg.Error:
        return None


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="queries a file (default 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "cases")
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    with (
        postgres.running() as port,
        psycopg.connect(f"postgresql://tester@127.0.0.1:{port}/postgres", autocommit=True) as connection,
    ):
        for family in FAMILIES:
            text = generate(connection, family, given.count, given.seed)
            (given.folder / f"{family}.slt").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
