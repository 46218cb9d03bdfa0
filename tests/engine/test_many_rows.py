"""Epochs as large as under load: parallel plans, compacted state, results read in pieces. The same rows, the same result."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streamsql.base.limits import Limits
from tests.driver import Database

ROWS = 40_000
KEYS = 3_000
EPOCH_ROWS = (ROWS, 5_000, 700)


def _events() -> pa.Table:
    draw = np.random.default_rng(7)
    scatter = np.where(draw.random(ROWS) < 0.02, -200, draw.integers(-8, 3, ROWS))
    seconds = np.arange(ROWS) / 200 + scatter
    return pa.table(
        {
            "ts": pa.array((seconds * 1e6).astype(np.int64), pa.timestamp("us")),
            "k": pa.array(draw.integers(0, KEYS, ROWS).astype(np.int32)),
            # numbers of many sizes, none of which a double can say exactly
            "y": pa.array(draw.normal(0, 1, ROWS) * 10.0 ** draw.integers(-6, 7, ROWS)),
        }
    )


_QUERIES = {
    "tumbling": "SELECT window_start, k, count(*) AS n, sum(y) AS s, avg(y) AS a, min(y) AS low, first(y) AS f FROM s"
    " GROUP BY window(ts, '1 minute'), k EMIT APPEND",
    "hopping": "SELECT window_start, k, sum(y) AS s, last(y) AS l, max(y) AS high FROM s"
    " GROUP BY window(ts, '1 minute', '25 s'), k EMIT APPEND",
    "updating": "SELECT window_start, k % 10 AS k, sum(y) AS s, avg(y) AS a, median(y) AS m, arg_max(k, y) AS top FROM s"
    " GROUP BY window(ts, '2 minutes'), k % 10 EMIT UPDATE",
    "total": "SELECT count(*) AS n, sum(y) AS s, avg(y) AS a, quantile_cont(y, 0.99) AS q FROM s EMIT UPDATE",
}


def _told(epoch_rows: int, limits: Limits, *, later: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    events = _events()
    with Database(limits=limits) as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, k INT, y DOUBLE PRECISION, WATERMARK FOR ts AS ts - INTERVAL '6 s')"
            " WITH (retention = 'forever')"
        )
        views = [f"CREATE MATERIALIZED VIEW {name} AS {query}" for name, query in _QUERIES.items()]
        if not later:
            database.execute("; ".join(views))
        full, rest = divmod(ROWS, epoch_rows)
        database.push_arrow("s", events, [epoch_rows] * full + [rest] * (rest > 0))
        if later:
            database.execute("; ".join(views))
        told = {name: sorted(database.values(f"SELECT * FROM public.{name}")) for name in _QUERIES}
        told["late"] = sorted(database.values("SELECT name, rows_late FROM streamsql.views"))
        return told


@pytest.fixture(scope="module")
def whole() -> dict[str, list[tuple[Any, ...]]]:
    return _told(ROWS, Limits())


@pytest.mark.parametrize("epoch_rows", EPOCH_ROWS[1:])
def test_results_are_the_same_to_the_last_bit_in_epochs_of_any_size(whole: dict[str, Any], epoch_rows: int):
    assert len(whole["tumbling"]) > 2 * KEYS
    assert min(late for name, late in whole["late"] if name != "total") > 100
    assert _told(epoch_rows, Limits()) == whole


def test_a_view_made_over_rows_that_are_taken_in_piece_by_piece_is_the_same(whole: dict[str, Any]):
    pieces = dataclasses.replace(Limits(), epoch_rows_max=6_000)
    assert _told(ROWS // 4, pieces, later=True) == whole
