"""What an epoch costs that touches 100 groups of n: an aggregate over a table, joins, top-N per group, global top-N.

And one of 100 rows for a group of a stream that has n distinct values, which it counts: half of the rows bring a new one.

Each epoch is one UPDATE of 100 rows of a table of `2 n` rows, two a group. The bound is the query's own time over the whole
table, which is what keeping it by running it again costs at least.

Estimate. The epoch finds the touched keys among the changed rows, and reads the rows of these keys, and of the result, by
semijoins with a hash table of 100 keys: a scan of narrow columns, 2 to 5 ns a row. The whole query builds a hash table of n
groups: 250 ns a row where that is larger than the caches. The rest does not depend on n: ten statements of 0.3 to 3 ms, among
them the UPDATE, the old rows by their numbers (a scan more), and the commit. So the floor is some 10 ms, and at 10^6 groups the
scans add as much for each relation, to the UPDATE as well; there the whole query takes 1.5 to 4.5 times as long (measured).
"""

from __future__ import annotations

import time

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.engine import create, open_engine
from benchmarks.figures import Figure, say
from benchmarks.servers import folder
from streamsql.catalog.objects import Table
from streamsql.engine import definitions
from streamsql.engine.epoch import Engine
from streamsql.engine.writes import Write

TOUCHED = 100
GROUPS = (1_000, 10_000, 100_000, 1_000_000)
EPOCHS = 20
VIEWS = {
    "aggregate": "SELECT k, count(*) AS n, sum(x) AS total, max(x) AS most FROM facts GROUP BY k",
    "join": "SELECT facts.id, facts.x, names.name FROM facts JOIN names ON names.k = facts.k",
    "join by row": "SELECT facts.id, facts.x, names.name FROM facts LEFT JOIN names ON names.k = facts.k",
    "join, grouped": "SELECT names.region, count(*) AS n, sum(facts.x) AS total FROM facts JOIN names ON names.k = facts.k "
    "GROUP BY names.region",
    "top-N per group": "SELECT k, id, x FROM (SELECT k, id, x, row_number() OVER (PARTITION BY k ORDER BY x DESC, id) AS place "
    "FROM facts) AS placed WHERE place = 1",
    "global top-N": "SELECT k, total FROM (SELECT k, sum(x) AS total FROM facts GROUP BY k) AS sums "
    "ORDER BY total DESC, k LIMIT 10",
}


def run(scale: float) -> list[Figure]:
    """Measure each view with each number of groups up to a million times the scale."""
    sizes = [groups for groups in GROUPS if groups <= max(1_000, 1_000_000 * scale)]
    kept = [say(_figure(name, select, groups)) for groups in sizes for name, select in VIEWS.items()]
    return kept + [say(_distinct_figure(values)) for values in sizes]


def _figure(name: str, select: str, groups: int) -> Figure:
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        for statement in (
            "CREATE TABLE facts (id INT, k INT, x INT)",
            "CREATE TABLE names (k INT, name TEXT, region INT)",
        ):
            create(engine, statement)
        _fill(engine, groups)
        create(engine, f"CREATE MATERIALIZED VIEW v AS {select}")
        bound = _whole_ms(engine, select)
        facts = engine.catalog.relation("facts")
        assert isinstance(facts, Table)
        times = [_epoch_ms(engine, facts, groups, number) for number in range(EPOCHS)]
        engine.stop()
    return Figure(
        "cost",
        f"{name}, {TOUCHED} of {groups:,} groups",
        sorted(times)[len(times) // 2],
        "ms",
        bound,
        "the whole query",
    )


def _distinct_figure(values: int) -> Figure:
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        create(engine, "CREATE STREAM visits (page INT, visitor INT) WITH (retention = 'forever')")
        select = "SELECT page, count(DISTINCT visitor) AS visitors FROM visits GROUP BY page"
        create(engine, f"CREATE MATERIALIZED VIEW v AS {select} EMIT UPDATE")
        for start in range(0, values, 500_000):
            _visit(engine, range(start, min(start + 500_000, values)))
        bound = _whole_ms(engine, select)
        half = TOUCHED // 2
        begins = [values + half * (number - 1) for number in range(EPOCHS)]
        times = sorted(_visit(engine, range(begin, begin + TOUCHED)) for begin in begins)
        found = engine.store.fetch("SELECT visitors FROM public.v")
        assert found == [(begins[-1] + TOUCHED,)], found
        engine.stop()
    what = f"count of distinct values, {TOUCHED} rows for a group with {values:,}"
    return Figure("cost", what, times[len(times) // 2], "ms", bound, "the whole query")


def _visit(engine: Engine, visitors: range) -> float:
    rows = pa.table(
        {"page": np.zeros(len(visitors), np.int32), "visitor": np.arange(visitors.start, visitors.stop, dtype=np.int32)}
    )
    began = time.perf_counter()
    engine.submit(Write([("visits", rows)])).result()
    return (time.perf_counter() - began) * 1e3


def _fill(engine: Engine, groups: int) -> None:
    connection = duckdb.connect()
    facts = connection.sql(
        f"SELECT i::INT AS id, (hash(i // 2) % {groups})::INT AS k, (hash(i) % 1000)::INT AS x FROM range({2 * groups}) AS r(i)"
    ).to_arrow_table()
    # regions of two groups, so that a region's rows are as few as a group's
    names = connection.sql(
        f"SELECT i::INT AS k, 'name ' || i AS name, (i // 2)::INT AS region FROM range({groups}) AS r(i)"
    ).to_arrow_table()
    connection.close()
    for name, rows in (("facts", facts), ("names", names)):
        batch = 500_000
        for start in range(0, rows.num_rows, batch):
            engine.submit(Write([(name, _plain(rows.slice(start, batch)))])).result()


def _plain(rows: pa.Table) -> pa.Table:
    return rows.cast(
        pa.schema([(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in rows.schema])
    )


def _whole_ms(engine: Engine, select: str) -> float:
    cursor = engine.store.cursor()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        cursor.sql(select).to_arrow_table()
        times.append((time.perf_counter() - began) * 1e3)
    return min(times)


def _epoch_ms(engine: Engine, facts: Table, groups: int, number: int) -> float:
    step = max(1, 2 * groups // TOUCHED)
    sql = f'UPDATE _rows."facts" AS facts SET x = x + {number + 1} WHERE id % {step} = {number % step}'
    began = time.perf_counter()
    engine.call(lambda: definitions.change_table(engine, facts, sql, "UTC")).result()
    return (time.perf_counter() - began) * 1e3
