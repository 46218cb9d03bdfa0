"""Tables that share a replication slot, and transactions at the origin that keep what they have together."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from tests.connectors.servers.postgres import OtherDatabase
from tests.running import until

Session = psycopg.Connection[tuple[Any, ...]]

ACCOUNTS = 40
NAMES = ("left_side", "right_side")
COLUMNS = "(id INT PRIMARY KEY, amount BIGINT NOT NULL)"
# what both tables have together never changes at the origin
TOGETHER = (
    "SELECT (SELECT sum(amount) FROM left_side), (SELECT sum(amount) FROM right_side), (SELECT count(*) FROM left_side), "
    "(SELECT count(*) FROM right_side)"
)
VIEW = "SELECT sum(amount) AS amount FROM (SELECT amount FROM left_side UNION ALL SELECT amount FROM right_side) AS both_sides"
TOTAL = "SELECT sum(amount)::bigint FROM (SELECT amount FROM left_side UNION ALL SELECT amount FROM right_side) AS both_sides"


def made(database: OtherDatabase, names: Sequence[str] = NAMES, rows: int = ACCOUNTS) -> None:
    """Make tables at the origin."""
    for name in names:
        database.execute(
            f"CREATE TABLE {name} {COLUMNS}; INSERT INTO {name} SELECT i, 100 FROM generate_series(1, {rows}) i"
        )


def captured(session: Session, database: OtherDatabase, name: str, columns: str = COLUMNS, more: str = "") -> None:
    """Capture a table over the slot."""
    session.execute(
        f"CREATE TABLE {name} {columns} WITH (connector = 'postgres', slot = 'shop', "
        f"{database.written_options}{more})".encode()
    )


def slots(database: OtherDatabase) -> list[str]:
    found = database.rows(
        f"SELECT slot_name FROM pg_replication_slots WHERE database = '{database.name}' ORDER BY slot_name"
    )
    return [name for (name,) in found]


def published(database: OtherDatabase) -> list[str]:
    return [
        n for (n,) in database.rows("SELECT tablename FROM pg_publication_tables WHERE pubname = 'shop' ORDER BY 1")
    ]


def status(session: Session, name: str) -> str:
    """Give the state of a source."""
    found = session.execute(f"SELECT status FROM streamsql.sources WHERE name = '{name}'".encode()).fetchone()
    return found[0] if found else ""


def same(session: Session, database: OtherDatabase, name: str) -> bool:
    """Tell whether a table is as at the origin."""
    rows = f"SELECT id, amount FROM {name} ORDER BY id"
    return session.execute(rows.encode()).fetchall() == database.rows(rows)


def caught_up(session: Session, database: OtherDatabase, names: Sequence[str] = NAMES) -> None:
    """Wait until all tables are read together: after its snapshot, changes of a table come no other way."""
    begun = "SELECT count(*) FROM streamsql.sources WHERE positions->>'0' LIKE '%/%' AND name IN "
    listed = ", ".join(f"'{name}'" for name in names)
    until(lambda: session.execute(f"{begun} ({listed})".encode()).fetchone() == (len(names),))
    for name in names:
        database.execute(
            f"UPDATE {name} SET amount = amount + 1 WHERE id = 1; UPDATE {name} SET amount = amount - 1 WHERE id = 2"
        )
    until(lambda: all(same(session, database, name) for name in names))


def assert_whole(session: Session, whole: int, times: int, view: str = TOTAL) -> None:
    """Look as often as it takes to see so many states, each of which must be one that the origin had."""
    seen: set[object] = set()
    while len(seen) < times:
        left, right, *_ = session.execute(TOGETHER).fetchone() or ()
        seen.add(left)
        assert left + right == whole
        assert session.execute(view.encode()).fetchall() == [(whole,)]


@contextlib.contextmanager
def transfers(database: OtherDatabase, seed: int, names: Sequence[str] = NAMES) -> Iterator[None]:
    """Move amounts from one table to another, in transactions, for as long as it lasts."""
    stop, chance = threading.Event(), random.Random(seed)

    def run() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                with connection.transaction():
                    for _ in range(chance.randrange(1, 4)):
                        _transfer(connection, chance, names)
                stop.wait(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _transfer(connection: Session, chance: random.Random, names: Sequence[str]) -> None:
    one, other = chance.sample(list(names), 2) if len(names) > 1 else [*names, *names]
    amount, number = chance.randrange(1, 50), chance.randrange(1, ACCOUNTS + 1)
    connection.execute(f"UPDATE {one} SET amount = amount - {amount} WHERE id = {number}".encode())
    if chance.random() < 0.2:  # a row that goes over
        connection.execute(
            f"WITH gone AS (DELETE FROM {one} WHERE id = (SELECT max(id) FROM {one} WHERE id > {ACCOUNTS}) RETURNING amount) "
            f"INSERT INTO {other} SELECT (SELECT max(id) FROM {other}) + 1, amount FROM gone".encode()
        )
    connection.execute(
        f"INSERT INTO {other} SELECT max(id) + 1, {amount} FROM {other}".encode()
        if chance.random() < 0.3
        else f"UPDATE {other} SET amount = amount + {amount} WHERE id = {number}".encode()
    )
