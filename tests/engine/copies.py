"""Streams with queries over them, in one database for all examples of a test; dropped when the example ends."""

from __future__ import annotations

from itertools import count
from typing import Any

from streamsql.engine import definitions
from streamsql.engine.definitions import ViewSubscription
from tests.driver import Database
from tests.engine.streams import COLUMNS, Event, Select, table_of

_NUMBERS = count()


class Copy:
    """A stream of its own name, and a view for each of the queries."""

    def __init__(self, database: Database, queries: list[Select]) -> None:
        self.database = database
        self.name = f"s{next(_NUMBERS)}"
        self.views: list[str] = []
        self.queries: list[Select] = []
        database.execute(f"CREATE STREAM {self.name} ({COLUMNS}) WITH (retention = 'forever')")
        for select in queries:
            self.add(select)

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.execute(f"DROP STREAM {self.name} CASCADE")

    def add(self, select: Select) -> None:
        """Make one more view, over the rows that are there."""
        view = f"{self.name}_v{len(self.views)}"
        self.database.execute(f"CREATE MATERIALIZED VIEW {view} AS {select.sql(self.name)}")
        self.views.append(view)
        self.queries.append(select)

    def push(self, events: list[Event], cuts: list[int]) -> None:
        """Send rows in epochs of these sizes."""
        self.database.push_arrow(self.name, table_of(events), cuts)

    def follow(self, view: str) -> ViewSubscription:
        """Follow a view from the current epoch; its reader closes the snapshot and the subscription."""
        engine = self.database.engine
        return self.database.on_engine(lambda: definitions.subscribe(engine, view, None, lambda: None))

    def rows(self, view: str) -> list[tuple[Any, ...]]:
        """Read a view."""
        return self.database.values(f"SELECT * FROM public.{view}")

    def late(self, view: str) -> tuple[int, int]:
        """Give the number of late rows that were counted, and of those in the ledger."""
        counted = self.database.values(f"SELECT rows_late FROM streamsql.views WHERE name = '{view}'")[0][0]
        kept = self.database.values(f"SELECT count(*) FROM streamsql.late_rows WHERE view = '{view}'")[0][0]
        return int(counted), int(kept)
