"""Window functions: what DuckDB computes over the rows, in append mode over those that were not late, of each that is final.

The oracle goes through the rows one by one to tell which are late and how far the watermark is; the rest is DuckDB's own answer
to the same functions, where rows that the order leaves equal come in the order of arrival.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import note as noted
from hypothesis import strategies as st

from streamsql.engine.operators import over
from tests.driver import Database
from tests.engine.streams import SECOND_US, cut_lists, examples

_NUMBERS = itertools.count()
_SCHEMA = pa.schema(
    [("ts", pa.timestamp("us")), ("k", pa.string()), ("x", pa.int32()), ("y", pa.float64()), ("n", pa.int32())]
)
MINUTE_US = 60 * SECOND_US

Row = tuple[int | None, str | None, int | None, float | None, int]

# function -> the same for DuckDB, where ``{r}`` numbers the rows in the order of the window, and of arrival
AGGREGATES = {
    "count(*)": "count(*)",
    "count(x)": "count(x)",
    "sum(x)": "sum(x)",
    "avg(x)": "avg(x)",
    "min(x)": "min(x)",
    "max(y)": "max(y) + 0",
    "sum(y)": "sum(y)",
    "avg(y)": "avg(y)",
    "sum(x) FILTER (WHERE x > 0)": "sum(x) FILTER (WHERE x > 0)",
    "bool_or(x > 1)": "bool_or(x > 1)",
    "count(DISTINCT x)": "count(DISTINCT x)",
    "median(x)": "median(x)",
    "stddev(x)": "stddev(x)",
    "sum(x + 1) - min(n)": "sum(x + 1) - min(n)",
    "first_value(x)": "arg_min_null(x, {r})",
    "last_value(x)": "arg_max_null(x, {r})",
    "last_value(x) IGNORE NULLS": "arg_max(x, {r})",
    "first_value(y IGNORE NULLS)": "arg_min(y, {r})",
    "nth_value(x, 2)": "list(x ORDER BY {r})[2]",
    "list(x)": "list(x ORDER BY {r})",
    "string_agg(k || n, '-')": "string_agg(k || n, '-' ORDER BY {r})",
    "arg_max(n, x)": "arg_max(n, struct_pack(x := x, r := -{r})) FILTER (WHERE x IS NOT NULL)",
    "max(x, 2)": "max(x, 2)",
}
FRAMES = (
    "",
    "ROWS UNBOUNDED PRECEDING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE TIES",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW",
    "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
    "ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING",
    "GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING",
)
RANGES = (
    "RANGE BETWEEN INTERVAL '4 seconds' PRECEDING AND CURRENT ROW",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL '3 seconds' PRECEDING",
    "RANGE BETWEEN INTERVAL '2 seconds' PRECEDING AND INTERVAL '3 seconds' FOLLOWING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL '2 seconds' FOLLOWING",
)
WAITING = (
    "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 2 FOLLOWING",
    "ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING",
)
WHOLE = (
    "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
)
# by the number of the row
NUMBERED = {
    "row_number()": 0,
    "lag(x)": 0,
    "lag(x, 2, -1)": 0,
    "lag(n, 1) IGNORE NULLS": 0,
    "lag(x, 2) IGNORE NULLS": 0,
    "lead(x)": 1,
    "lead(n, 2, 0)": 2,
}
RANKS = ("rank()", "dense_rank()")


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the query says it, and as the oracle does. A row waits for so many rows of its key, so many microseconds."""

    sql: str
    oracle: str
    rows: int = 0
    us: int = 0


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Draw rows in the order of arrival."""
    base, rows = draw(st.integers(-30, 30)), []
    floats = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 1e-7, 1234.5, float("nan"), float("inf"), None])
    for number in range(draw(st.integers(0, 24))):
        base += draw(st.integers(0, 4))
        beside = draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
        ts = draw(st.sampled_from([(base + draw(st.integers(-6, 3))) * SECOND_US + beside] * 12 + [None]))
        x = draw(st.one_of(st.integers(-2, 3), st.none()))
        rows.append((ts, draw(st.sampled_from(["p", "q", "q", None])), x, draw(floats), number))
    return rows


@st.composite
def calls(draw: st.DrawFn, partition: str, *, waits: bool, whole: bool) -> Call:
    """Draw a call over a key. `whole`: all rows of the key are there when it is shown."""
    second = draw(st.sampled_from(["", "", ", x DESC"]))
    order, by_number = f"ORDER BY ts{second}", "ORDER BY {r}"
    kind = draw(st.integers(0, 5))
    if kind == 0:
        function = draw(st.sampled_from(RANKS + (("ntile(2)", "cume_dist()") if whole else ())))
        own = f"{function} OVER ({partition} {order})"
        ordered = by_number if function == "ntile(2)" else order
        return Call(own, _with_number(f"{function} OVER ({partition} {ordered})", second))
    if kind <= 2:
        function = draw(st.sampled_from([f for f, ahead in NUMBERED.items() if waits or whole or not ahead]))
        theirs = function.replace(") IGNORE NULLS", " IGNORE NULLS)")
        ahead = 0 if whole else NUMBERED[function]
        own = f"{function} OVER ({partition} {order})"
        return Call(own, _with_number(f"{theirs} OVER ({partition} {by_number})", second), ahead)
    function = draw(st.sampled_from(sorted(AGGREGATES)))
    frames = FRAMES + (() if second else RANGES) + (WAITING if waits or whole else ()) + (WHOLE if whole else ())
    frame = draw(st.sampled_from(frames))
    ordered = by_number if frame.startswith("ROWS") else order
    window = f"OVER ({partition} {order} {frame})"
    parts = (("sum(x + 1)", "min(n)"),) if function.startswith("sum(x + 1)") else ((function,),)
    own = " - ".join(f"{p} {window}" for p in parts[0])
    theirs = " - ".join(_over(AGGREGATES.get(p, p), f"OVER ({partition} {ordered} {frame})") for p in parts[0])
    ahead = int(frame.split(" FOLLOWING")[0][-1]) if frame in WAITING and not whole else 0
    ahead = 2 if frame == WAITING[2] and not whole else ahead
    us = {RANGES[2]: 3 * SECOND_US, RANGES[3]: 2 * SECOND_US}.get(frame, 0)
    return Call(own, _with_number(theirs, second), ahead, 0 if whole else us)


def _over(function: str, window: str) -> str:
    """Put a window behind a function: before the subscript of a list, around the sum."""
    head, bracket, rest = function.partition(")[")
    if bracket:
        return f"({head}) {window})[{rest}"
    return f"({function.removesuffix(' + 0')} {window}) + 0" if function.endswith(" + 0") else f"{function} {window}"


def _with_number(sql: str, second: str) -> str:
    """Name the column that numbers the rows in this order; in DuckDB NULL would come last."""
    return sql.replace("{r}", "r2" if second else "r0").replace("x DESC", "x DESC NULLS FIRST")


def judged(rows: list[Row], delay: int, unit: int) -> tuple[list[Row], list[int], int | None]:
    """Give the rows that are not late, the numbers of the others, and the watermark, cut to whole units."""
    largest: int | None = None
    taken: list[Row] = []
    late = []
    for row in rows:
        mark = None if largest is None else (largest - delay) // unit * unit
        if row[0] is None or (mark is not None and row[0] // unit * unit < mark):
            late.append(row[4])
        else:
            taken.append(row)
        if row[0] is not None:
            largest = row[0] if largest is None else max(largest, row[0])
    return taken, late, None if largest is None else (largest - delay) // unit * unit


def wanted(drawn: list[Call], key: str, rows: list[Row], mark: int | None, unit: int) -> list[tuple[Any, ...]]:
    """Ask DuckDB for the rows that are final, with the values of the functions."""
    if mark is None:
        return []
    passed = [r for r in rows if r[0] is not None and r[0] // unit * unit < mark]
    us, ahead = max(c.us for c in drawn), max(c.rows for c in drawn)
    ready = f"epoch_us(ts) + {us} < {mark}"
    if ahead:
        ready += f" AND lead(n, {ahead}) OVER ({key} ORDER BY r0) IS NOT NULL"
    numbers = "row_number() OVER (ORDER BY ts, n) AS r0, row_number() OVER (ORDER BY ts, x DESC NULLS FIRST, n) AS r2"
    values = ", ".join(c.oracle for c in drawn)
    with duckdb.connect() as connection:
        connection.register("given", table(passed))
        return connection.execute(
            f"SELECT n, {values} FROM (SELECT *, {numbers} FROM given) QUALIFY {ready} ORDER BY n"
        ).fetchall()


def table(rows: list[Row]) -> pa.Table:
    return pa.table({f.name: [r[i] for r in rows] for i, f in enumerate(_SCHEMA)}, schema=_SCHEMA)


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Write numbers to ten digits: sums of floating-point numbers are rounded otherwise by DuckDB."""
    return [tuple(_written(v) for v in row) for row in rows]


def _written(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_written, value))
    return f"{float(value) + 0:.10g}" if isinstance(value, (Decimal, float)) else str(value)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


def _check(
    database: Database, data: st.DataObject, rows: list[Row], drawn: list[Call], key: str, delay: int, unit: int
) -> None:
    stream, view = f"s{next(_NUMBERS)}", f"v{next(_NUMBERS)}"
    taken, late, mark = judged(rows, delay, unit)
    selected = ", ".join(f"{c.sql} AS c{i}" for i, c in enumerate(drawn))
    query = f"SELECT n, {selected} FROM {stream} EMIT APPEND"
    noted(query)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(over, "PRUNE_ROWS_MIN", data.draw(st.sampled_from([0, 1024])))
        database.execute(
            f"CREATE STREAM {stream} (ts TIMESTAMP, k TEXT, x INT, y DOUBLE PRECISION, n INT, "
            f"WATERMARK FOR ts AS ts - INTERVAL '{delay} us')"
        )
        database.execute(f"CREATE MATERIALIZED VIEW {view} AS {query}")
        try:
            database.push_arrow(stream, table(rows), data.draw(cut_lists(len(rows))) if rows else None)
            found = database.values(f"SELECT * FROM public.{view} ORDER BY n")
            expected = wanted(drawn, key, taken, mark, unit)
            noted(f"found {found}, expected {expected}")
            assert plain(found) == plain(expected)
            told = database.values(f"SELECT row FROM streamsql.late_rows WHERE view = '{view}'")
            assert len(told) == len(late)
        finally:
            database.execute(f"DROP STREAM {stream} CASCADE")


@examples(15)
@given(st.data(), row_lists(), st.sampled_from([0, 1, SECOND_US, 5 * SECOND_US]))
def test_rows_have_their_values_once_the_watermark_is_past_them(
    database: Database, data: st.DataObject, rows: list[Row], delay: int
):
    key = data.draw(st.sampled_from(["PARTITION BY k", "PARTITION BY k", "PARTITION BY y", ""]))
    drawn = [data.draw(calls(key, waits=True, whole=False)) for _ in range(data.draw(st.integers(1, 3)))]
    if data.draw(st.booleans()):  # over another key, which is computed first
        other = data.draw(st.sampled_from(["PARTITION BY x", "PARTITION BY k, date_trunc('minute', ts)"]))
        made = data.draw(calls(other, waits=False, whole=False))
        drawn += [made] if not made.us else []
    _check(database, data, rows, drawn, key, delay, 1)


@examples(8)
@given(st.data(), row_lists(), st.sampled_from([0, 1, SECOND_US, 5 * SECOND_US]))
def test_rows_of_a_day_have_their_values_once_it_is_over(
    database: Database, data: st.DataObject, rows: list[Row], delay: int
):
    key = "PARTITION BY k, date_trunc('minute', ts)"
    drawn = [Call(f"count(*) OVER ({key})", f"count(*) OVER ({key})")]  # of all its rows
    drawn += [data.draw(calls(key, waits=True, whole=True)) for _ in range(data.draw(st.integers(0, 2)))]
    plain_calls = [c for c in drawn[1:] if _needs_all(c)]
    _check(database, data, rows, [drawn[0], *plain_calls], key, delay, MINUTE_US)


def _needs_all(call: Call) -> bool:
    return any(
        word in call.sql for word in ("lead", "UNBOUNDED FOLLOWING", "ntile", "cume_dist", "1 FOLLOWING", "2 FOLLOWING")
    )


# not computed from their first changed row on: their states grow
_WHOLE_KEYS = ("list(", "string_agg", "nth_value", "max(x, 2)", "median", "DISTINCT", "IGNORE NULLS")


@st.composite
def statements(draw: st.DrawFn, rows: list[Row]) -> list[str]:
    """Draw statements that put rows into a table in their order, and change and take some of them."""
    made: list[str] = []
    there: list[int] = []
    waiting = list(rows)
    while waiting:
        count = draw(st.integers(1, 6))
        values = ", ".join(f"({', '.join(map(_literal, row))})" for row in waiting[:count])
        made.append(f"INSERT INTO {{t}} VALUES {values}")
        there += [row[4] for row in waiting[:count]]
        waiting = waiting[count:]
        changes = draw(st.lists(st.sampled_from(_CHANGES), max_size=2))
        made += [c.format(t="{t}", n=draw(st.sampled_from(there)), us=draw(st.integers(-9, 9))) for c in changes]
    return made


_CHANGES = (
    "DELETE FROM {t} WHERE n = {n}",
    "UPDATE {t} SET x = x + 1, y = 0.1 WHERE n >= {n} AND n < {n} + 3",
    "UPDATE {t} SET ts = ts + INTERVAL '{us} seconds' WHERE n = {n}",
    "UPDATE {t} SET k = 'p' WHERE n = {n}",
)


def _literal(value: object) -> str:
    if isinstance(value, float):
        return f"'{value!r}'::DOUBLE PRECISION"
    return "NULL" if value is None else f"'{value}'"


@examples(11)
@given(st.data(), row_lists())
def test_rows_that_come_and_go_change_what_comes_behind_them(database: Database, data: st.DataObject, rows: list[Row]):
    key = data.draw(st.sampled_from(["PARTITION BY k", "PARTITION BY k", "PARTITION BY y", "PARTITION BY k, x", ""]))
    drawn = [data.draw(calls(key, waits=True, whole=False)) for _ in range(data.draw(st.integers(1, 3)))]
    drawn = [c for c in drawn if not any(word in c.sql for word in _WHOLE_KEYS)]
    down = data.draw(st.booleans(), "down")
    if down:
        drawn = [Call(_downwards(c.sql, ""), _downwards(c.oracle, " NULLS FIRST")) for c in drawn]
    relation, view = f"s{next(_NUMBERS)}", f"v{next(_NUMBERS)}"
    where = data.draw(st.sampled_from(["", " WHERE x > 0 OR n < 5"]))
    selected = ", ".join(["n", *(f"{c.sql} AS c{i}" for i, c in enumerate(drawn))])
    query = f"SELECT {selected} FROM {relation}{where} EMIT UPDATE"
    noted(query)
    database.execute(f"CREATE TABLE {relation} (ts TIMESTAMP, k TEXT, x INT, y DOUBLE PRECISION, n INT PRIMARY KEY)")
    try:
        explained = "".join(r[0] or "" for r in database.query(f"EXPLAIN {query}"))
        assert "from their first changed row on" in explained or not drawn
        database.execute(f"CREATE MATERIALIZED VIEW {view} AS {query}")
        stamped: list[Row] = [(None if r[0] is None else _stamp(r[0]), *r[1:]) for r in rows]  # type: ignore[misc]  # as text
        for statement in data.draw(statements(stamped)):
            noted(statement.format(t=relation))
            database.execute(statement.format(t=relation))
        first = "ts DESC NULLS FIRST" if down else "ts"
        orders = (f"{first}, n", f"{first}, x DESC NULLS FIRST, n")
        numbers = ", ".join(f"row_number() OVER (ORDER BY {o}) AS r{2 * i}" for i, o in enumerate(orders))
        values = ", ".join(["n", *(c.oracle for c in drawn)])
        numbered = f"SELECT *, {numbers} FROM public.{relation}{where}"
        expected = database.values(f"SELECT {values} FROM ({numbered}) ORDER BY n")
        assert plain(database.values(f"SELECT * FROM public.{view} ORDER BY n")) == plain(expected)
        assert database.query(f"VERIFY MATERIALIZED VIEW {view}") == []
    finally:
        database.execute(f"DROP TABLE {relation} CASCADE")


def _downwards(sql: str, nulls: str) -> str:
    return sql.replace("ORDER BY ts", f"ORDER BY ts DESC{nulls}")


def _stamp(us: int) -> str:
    return str(datetime(1970, 1, 1) + timedelta(microseconds=us))


def test_what_frames_and_keys_of_an_hour_keep_is_level_over_a_day():
    sizes = []
    with Database() as made:
        made.execute(
            "CREATE STREAM s (ts TIMESTAMP, k TEXT, x INT, y DOUBLE PRECISION, n INT, "
            "WATERMARK FOR ts AS ts - INTERVAL '1 minute') WITH (retention = '0')"
        )
        made.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT n, "
            "count(*) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5 minutes' PRECEDING AND CURRENT ROW), "
            "sum(x) OVER (PARTITION BY k, date_trunc('hour', ts) ORDER BY ts), "
            "lag(n) OVER (PARTITION BY k ORDER BY ts) FROM s EMIT APPEND"
        )
        for hour in range(24):
            rows: list[Row] = [
                ((hour * 3600 + 10 * i) * SECOND_US, "pqr"[i % 3], 1, None, hour * 360 + i) for i in range(360)
            ]
            made.push_arrow("s", table(rows))
            sizes.append(int(made.query("SELECT state_rows FROM streamsql.views")[0][0] or 0))
        last = made.values("SELECT * FROM public.v ORDER BY n DESC LIMIT 1")
    # what is kept is looked through once it is twice as much, and more than a thousand rows
    assert max(sizes) <= over.PRUNE_ROWS_MIN + 360, sizes
    assert last == [(24 * 360 - 8, 11, 118, 24 * 360 - 11)]
