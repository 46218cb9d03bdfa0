"""Executes sqllogictest records on a database with every SELECT as a materialized view that was there before its rows.

The statements of a file are put into another order: what creates relations comes first, then a view for each query, then
all else as it stands. So each view has taken in every INSERT, UPDATE and DELETE as a change when its turn to be compared
comes: with the ad-hoc answer at that place, which in its turn is compared with the file's. At the end all views are
compared with their ad-hoc answers once more.

Relations are tables; or streams (`Runner(..., streams=True)`), where the operators keep the queries that they can: then UPDATE
and DELETE are left out, and after the first of them a view is compared with the ad-hoc answer only.

A DROP ends a stretch of the file that is put into order by itself. Indexes are passed over: they change no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streamsql.base.errors import DuplicateColumn, StreamSQLError
from tests.driver import Database, Row
from tests.sqllogic.answers import digest, flat
from tests.sqllogic.records import Query, Record, Statement

_CREATES = re.compile(r"\s*CREATE\s+(TEMP\s+|TEMPORARY\s+)?(TABLE|VIEW)\b", re.IGNORECASE)
_INDEXES = re.compile(r"\s*(CREATE\s+(UNIQUE\s+)?INDEX|DROP\s+INDEX|REINDEX)\b", re.IGNORECASE)
_DROPS = re.compile(r"\s*DROP\b", re.IGNORECASE)
_CHANGES = re.compile(r"\s*(UPDATE|DELETE)\b", re.IGNORECASE)


@dataclass(slots=True)
class Report:
    """What a run found: what is wrong, as texts; how many queries, how many of them as views."""

    wrong: list[str] = field(default_factory=list)
    queries: int = 0
    views: int = 0
    operators: int = 0


class Runner:
    """Runs one file's records on a database of its own."""

    def __init__(self, database: Database, name: str, *, streams: bool = False) -> None:
        self._database = database
        self._name = name
        self._streams = streams
        self._report = Report()
        self._labels: dict[str, str] = {}
        self._strayed = False
        self._made = 0

    def run(self, records: Iterable[Record]) -> Report:
        """Execute all of them."""
        for stretch in _stretches(records):
            self._stretch(stretch)
        return self._report

    def _stretch(self, records: list[Record]) -> None:
        creates = [r for r in records if isinstance(r, Statement) and _CREATES.match(r.sql)]
        for create in creates:
            self._statement(create)
        views = {r.line: v for r in records if isinstance(r, Query) and (v := self._view(r)) is not None}
        for record in records:
            if isinstance(record, Query):
                self._query(record, views.get(record.line))
            elif _DROPS.match(record.sql):
                self._compare_all(records, views)
                for view in views.values():
                    self._database.execute(f"DROP MATERIALIZED VIEW {view}")
                views = {}
                self._statement(record)
            elif record not in creates:
                self._statement(record)
        self._compare_all(records, views)

    def _compare_all(self, records: list[Record], views: dict[int, str]) -> None:
        for record in records:
            if isinstance(record, Query) and record.line in views:
                self._compare(record, views[record.line], self._rows(record, record.sql))

    def _statement(self, statement: Statement) -> None:
        sql = statement.sql
        if _INDEXES.match(sql):
            return
        if self._streams:
            if _CHANGES.match(sql):
                self._strayed = True
                return
            if _CREATES.match(sql):
                sql = _as_stream(sql)
        try:
            self._database.execute(re.sub(r"(?i)^\s*CREATE\s+VIEW", "CREATE MATERIALIZED VIEW", sql))
        except StreamSQLError as error:
            if statement.ok:
                self._fail(statement, f"failed: {error.message}")
            return
        if not statement.ok and not self._streams:
            self._fail(statement, "was executed, and ought to have been refused")

    def _view(self, query: Query) -> str | None:
        self._made += 1
        name = f"view_{self._made}"
        columns = ", ".join(f"c{i}" for i in range(len(query.types)))
        for sql in (query.sql, f"SELECT * FROM ({query.sql}) AS q({columns})"):
            try:
                self._database.execute(f"CREATE MATERIALIZED VIEW {name} AS {sql}")
            except DuplicateColumn:
                continue
            except StreamSQLError as error:
                self._fail(query, f"no view: {error.message}")
                return None
            self._report.views += 1
            self._report.operators += self._database.engine.queries[name].plan.recomputed is None
            return name
        return None

    def _query(self, query: Query, view: str | None) -> None:
        self._report.queries += 1
        rows = self._rows(query, query.sql)
        if rows is None:
            return
        found = flat(rows, query.types, query.sort)
        if not self._strayed:
            self._check(query, found)
        if view is not None:
            self._compare(query, view, rows)

    def _check(self, query: Query, found: list[str]) -> None:
        hashed = digest(found)
        wanted = query.hashed or (len(query.values), digest(query.values))
        if (len(found), hashed) != wanted:
            known = "\n".join(query.values) if query.hashed is None else f"{wanted[0]} values hashing to {wanted[1]}"
            self._fail(query, "the ad-hoc answer is\n{}\ninstead of\n{}".format("\n".join(found), known))
        if query.label is not None and self._labels.setdefault(query.label, hashed) != hashed:
            self._fail(query, f"differs from the other queries labelled {query.label}")

    def _compare(self, query: Query, view: str, rows: list[Row] | None) -> None:
        """Hold a view against the ad-hoc answer, in no order."""
        held = self._rows(query, f"SELECT * FROM {view}")
        if rows is None or held is None:
            return
        status = self._database.values(f"SELECT status FROM streamsql.views WHERE name = '{view}'")
        if status != [("running",)]:
            self._fail(query, f"the view is {status}")
        one, other = flat(held, query.types, "rowsort"), flat(rows, query.types, "rowsort")
        if one != other:
            self._fail(query, "the view holds\n{}\ninstead of\n{}".format("\n".join(one), "\n".join(other)))

    def _rows(self, query: Query, sql: str) -> list[Row] | None:
        try:
            return self._database.query(sql)
        except StreamSQLError as error:
            if not self._strayed:  # rows that ought to be gone may be what it fails on
                self._fail(query, f"failed: {error.message}")
            return None

    def _fail(self, record: Record, what: str) -> None:
        self._report.wrong.append(f"{self._name}:{record.line}: {what}\n{record.sql}")


def _stretches(records: Iterable[Record]) -> Iterator[list[Record]]:
    stretch: list[Record] = []
    for record in records:
        stretch.append(record)
        if isinstance(record, Statement) and _DROPS.match(record.sql):
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _as_stream(sql: str) -> str:
    if not re.match(r"(?i)\s*CREATE\s+TABLE", sql):
        return sql
    sql = re.sub(r"(?i)^\s*CREATE\s+TABLE", "CREATE STREAM", sql)
    return re.sub(r"(?i)\s+PRIMARY\s+KEY", "", sql) + " WITH (retention = 'forever')"
