"""What the clients of a server know: what was acknowledged, and what was on its way when the server died."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from tests.engine.oracle import answer, differences
from tests.engine.streams import AGGREGATES, COLUMNS, SECOND_US, Event, Select

_BY_SQL = {a.sql: a for a in AGGREGATES}
_SHOWN = tuple(_BY_SQL[sql] for sql in ("count(*)", "sum(x)", "list(x)", "last(k)"))
_TUMBLES = (10 * SECOND_US, 10 * SECOND_US, 5 * SECOND_US)
_HOPS = (10 * SECOND_US, 4 * SECOND_US, 5 * SECOND_US)
# a query for each operator that keeps state
SELECTS = (
    Select(*_HOPS, ("k",), _SHOWN, None, None, "APPEND"),
    Select(*_TUMBLES, (), _SHOWN, None, "count(*) > 1", "UPDATE"),
    Select(None, None, None, ("k",), _SHOWN, "x % 3 > 0", None, "UPDATE"),
    Select(*_HOPS, ("k",), _SHOWN, None, None, "UPDATE"),
)


def values(numbers: list[int]) -> list[tuple[Any, ...]]:
    """Give the rows of these numbers: time goes on with the number, but for every fifth, which comes late."""
    return [
        (datetime.fromtimestamp(n * 3 - (40 if n % 5 == 0 else 0), UTC).replace(tzinfo=None), "abc"[n % 3], n, n)
        for n in numbers
    ]


def create_stream(name: str, retention: str = "forever") -> str:
    """Write the CREATE STREAM of a stream of numbered rows."""
    return f"CREATE STREAM {name} ({COLUMNS}, number BIGINT) WITH (retention = '{retention}')"


@dataclass(slots=True)
class Stream:
    """A stream as its clients know it."""

    name: str
    acknowledged: set[int] = field(default_factory=set)
    unanswered: list[set[int]] = field(default_factory=list)
    views: dict[str, Select] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def insert(self, connection: psycopg.Connection[Any], numbers: list[int]) -> None:
        """Send rows in one INSERT; raises OperationalError if there is no answer."""
        marks = ", ".join(["(%s, %s, %s, %s)"] * len(numbers))
        parameters = [value for row in values(numbers) for value in row]
        with self.lock:
            self.unanswered.append(set(numbers))
        connection.execute(f"INSERT INTO {self.name} (ts, k, x, number) VALUES {marks}", parameters)
        self._answered(numbers)

    def copy(self, connection: psycopg.Connection[Any], numbers: list[int]) -> None:
        """Send rows in one COPY; raises OperationalError if there is no answer."""
        with self.lock:
            self.unanswered.append(set(numbers))
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {self.name} (ts, k, x, number) FROM STDIN") as writing,
        ):
            for row in values(numbers):
                writing.write_row(row)
        self._answered(numbers)

    def _answered(self, numbers: list[int]) -> None:
        with self.lock:
            self.unanswered.remove(set(numbers))
            self.acknowledged |= set(numbers)

    def check(self, connection: psycopg.Connection[Any]) -> None:
        """Hold what the server has against what its clients know.

        Every acknowledged row is there once; the rows of an unanswered statement are there all, once, or not at all;
        each view is the answer over the rows that are there.
        """
        found = connection.execute(f"SELECT ts, k, x, y, b, number FROM {self.name}").fetchall()
        numbers = [row[-1] for row in found]
        assert len(numbers) == len(set(numbers)), f"rows are there twice: {sorted(numbers)}"
        assert self.acknowledged <= set(numbers), f"rows are lost: {self.acknowledged - set(numbers)}"
        for statement in self.unanswered:
            assert not statement & set(numbers) or statement <= set(numbers), (
                f"half of a statement is there: {statement}"
            )
        expected = self.acknowledged.union(*self.unanswered)
        assert set(numbers) <= expected, f"rows that nobody sent: {set(numbers) - expected}"
        self.acknowledged, self.unanswered = set(numbers), []
        events = [Event(_microseconds(ts), k, x, y, b) for ts, k, x, y, b, _ in found]
        for name, select in self.views.items():
            self._check_view(connection, name, select, events)

    def _check_view(self, connection: psycopg.Connection[Any], name: str, select: Select, events: list[Event]) -> None:
        wanted = answer(select, events)
        rows = connection.execute(f"SELECT * FROM {name}").fetchall()
        wrong = differences(select, [tuple(map(_plain, row)) for row in rows], wanted.rows)
        assert not wrong, f"{name}: " + "\n".join(wrong)
        counters = connection.execute(
            "SELECT rows_in, rows_late, status, (SELECT count(*) FROM streamsql.late_rows WHERE view = name) "
            "FROM streamsql.views WHERE name = %s",
            [name],
        ).fetchall()
        assert counters == [(len(events), len(wanted.late), "running", len(wanted.late))]


def _microseconds(ts: datetime) -> int:
    return round(ts.replace(tzinfo=UTC).timestamp() * 1e6)


def _plain(value: object) -> object:
    """Give a numeric without digits behind the point as the integer that DuckDB's own interface gives."""
    return int(value) if isinstance(value, Decimal) else value
