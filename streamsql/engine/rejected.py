"""Rows that a query's expressions fail on: found one by one and set aside, so that everything else goes on.

An epoch is one transaction, so a failure undoes it; it is then tried again without the rows at fault, which go to the
ledger. Which rows those are may not depend on how the rows were cut into epochs: a row that comes too late is left out
before any expression sees it, and is late, not at fault, however bad it is; and a row that is set aside moves no watermark.
"""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.engine.changes import Progress
from streamsql.engine.translate import translate
from streamsql.engine.views import ContinuousQuery


class QueryFailureError(Exception):
    """A query could not take rows in. `progress` is where it stood before them."""

    def __init__(self, query: ContinuousQuery, rows: pa.Table, progress: Progress, error: StreamSQLError) -> None:
        super().__init__(error.message)
        self.query = query
        self.rows = rows
        self.progress = progress
        self.error = error


class Rejected:
    """The rows set aside in the attempts at one epoch so far, by query, each with what is wrong with it."""

    def __init__(self) -> None:
        self._by_query: dict[int, dict[int, tuple[pa.Table, str]]] = {}
        self.broken: set[str] = set()  # the names of queries that could not be recomputed

    def apply(
        self, query: ContinuousQuery, epoch: int, rows: pa.Table, now: int, progress: Progress, *, matching: bool = True
    ) -> Progress:
        """Let a query take in all rows but those set aside; give its progress. Raises QueryFailureError.

        `matching` False says that its condition holds for none of them.
        """
        set_aside = self._by_query.get(query.id)
        if set_aside is not None:
            numbers = rows.column("__seq").to_numpy()
            here = np.isin(numbers, np.fromiter(set_aside, dtype=np.int64))
            for number in numbers[here].tolist():
                query.record_rejected(set_aside[number][0], now, epoch, set_aside[number][1])
            count = int(here.sum())
            progress = replace(progress, rows_in=progress.rows_in + count, rows_late=progress.rows_late + count)
            rows = rows.filter(pa.array(~here))
        try:
            return query.apply(epoch, rows, now, progress, matching=matching)
        except duckdb.Error as error:
            raise QueryFailureError(query, rows, progress, translate(error)) from error

    def set_aside(self, failure: QueryFailureError) -> bool:
        """Find the rows that made the query fail, for the next attempt; False where no row is at fault."""
        query = failure.query
        if not failure.rows.num_rows:
            return False
        failing = _failing_rows(query, failure.rows)
        bad = np.isin(failure.rows.column("__seq").to_numpy(), np.fromiter(failing, dtype=np.int64))
        late = query.late_without(failure.rows, bad, failure.progress)
        for number in failure.rows.column("__seq").to_numpy()[bad & late].tolist():
            if not query.fails_when_late(failing[number][0]):
                del failing[number]
        self._by_query.setdefault(query.id, {}).update(failing)
        return bool(failing)


def _failing_rows(query: ContinuousQuery, rows: pa.Table) -> dict[int, tuple[pa.Table, str]]:
    """Find by halving the single rows on which a query's expressions fail, by their arrival numbers."""
    found: dict[int, tuple[pa.Table, str]] = {}
    pending = [rows]
    while pending:
        part = pending.pop()
        error = query.failure_of(part)
        if error is None:
            continue
        if part.num_rows == 1:
            found[part.column("__seq")[0].as_py()] = (part, error.message)
            continue
        half = part.num_rows // 2
        pending += [part.slice(half), part.slice(0, half)]
    return found
