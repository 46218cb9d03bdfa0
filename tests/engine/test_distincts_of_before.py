"""A view whose state has lists of distinct values, as they were kept before they had tables of their own, goes on with them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.engine import create
from streamsql.base.clock import ManualClock
from streamsql.base.limits import Limits
from streamsql.engine.epoch import Engine
from streamsql.engine.store import Store
from streamsql.engine.writes import Write
from streamsql.plan import bind

VIEW = "CREATE MATERIALIZED VIEW {} AS SELECT k, count(DISTINCT u) AS n FROM s GROUP BY k EMIT UPDATE"


def opened(directory: Path) -> Engine:
    engine = Engine(Store(directory), Limits(), ManualClock(0))
    engine.start()
    return engine


def push(engine: Engine, *rows: tuple[int, int]) -> None:
    table = pa.table({"k": pa.array([k for k, _ in rows], pa.int32()), "u": pa.array([u for _, u in rows], pa.int32())})
    engine.submit(Write([("s", table)])).result()


def shown(engine: Engine, view: str) -> list[tuple[int, int]]:
    return engine.call(lambda: engine.store.fetch(f"SELECT k, n FROM public.{view} ORDER BY k")).result()


def test_lists_of_distinct_values_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine = opened(tmp_path)
    create(engine, "CREATE STREAM s (k INT, u INT)")
    with monkeypatch.context() as before:
        before.setattr(bind, "_keeps_distincts", lambda *_: False)
        create(engine, VIEW.format("one"))
        create(engine, VIEW.format("two"))
    push(engine, (1, 1), (1, 2), (2, 1))
    assert engine.queries["one"].shared is engine.queries["two"].shared is not None
    engine.stop()

    engine = opened(tmp_path)
    create(engine, VIEW.format("three"))
    push(engine, (1, 1), (1, 3))
    assert shown(engine, "one") == shown(engine, "two") == shown(engine, "three") == [(1, 3), (2, 1)]
    assert [engine.queries[name].progress.seen_rows for name in ("one", "two", "three")] == [0, 0, 4]
    engine.stop()

    engine = opened(tmp_path)
    push(engine, (2, 1), (2, 7))
    assert shown(engine, "one") == shown(engine, "three") == [(1, 3), (2, 2)]
    engine.stop()
