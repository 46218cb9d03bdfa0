"""The law for queries over several relations: at every epoch, a view holds what the same SELECT gives ad hoc."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.driver import Database
from tests.engine.streams import examples

_KEYS = st.sampled_from(["NULL", "0", "1", "2"])
_VALUES = st.sampled_from(["NULL", "-1", "0", "0", "3", "7"])
_CONDITIONS = st.sampled_from(
    ["a.k = b.k", "a.k = b.k AND a.x < b.x", "a.k IS NOT DISTINCT FROM b.k", "a.x BETWEEN b.x AND b.x + 2"]
)
_JOINS = st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
_RELATIONS = st.sampled_from(["s", "r", "t", "u", "totals"])


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Draw a SELECT over two of the relations: a join, a set operation, a subquery, a window function, a top-N."""
    one, two = draw(_RELATIONS), draw(_RELATIONS)
    kind = draw(st.integers(0, 9))
    if kind <= 3:
        rows = f"{one} a {draw(_JOINS)} {two} b ON {draw(_CONDITIONS)}"
        if kind <= 1:
            return f"SELECT a.k AS ak, a.x AS ax, b.k AS bk, b.x AS bx FROM {rows}"
        having = draw(st.sampled_from(["", " HAVING count(*) > 1", " HAVING sum(b.x) IS NOT NULL"]))
        values = "count(*) AS n, sum(b.x) AS s, min(a.x) AS least, count(DISTINCT b.k) AS d"
        return f"SELECT a.k, {values} FROM {rows} GROUP BY a.k{having}"
    if kind == 4:
        operation = draw(st.sampled_from(["UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]))
        return f"SELECT k, x FROM {one} {operation} SELECT k, x FROM {two}"
    if kind == 5:
        test = draw(st.sampled_from(["k IN (SELECT k FROM {0})", "EXISTS (SELECT 1 FROM {0} b WHERE b.k = a.k AND b.x > a.x)",
            "x = (SELECT max(x) FROM {0})", "NOT EXISTS (SELECT 1 FROM {0} b WHERE b.k = a.k)"]))  # fmt: skip
        return f"SELECT k, x FROM {one} a WHERE {test.format(two)}"
    if kind == 6:
        call = draw(st.sampled_from(["row_number() OVER (PARTITION BY k ORDER BY x)", "sum(x) OVER (PARTITION BY k)",
            "rank() OVER (ORDER BY x)", "sum(x) OVER (ORDER BY x, k ROWS 2 PRECEDING)"]))  # fmt: skip
        return f"SELECT k, x, {call} AS w FROM (SELECT DISTINCT k, x FROM {one}) AS q"
    if kind == 7:
        return f"SELECT DISTINCT k, x FROM {one} ORDER BY x DESC NULLS LAST, k LIMIT {draw(st.integers(1, 3))}"
    if kind == 8:
        sums = f"SELECT k, sum(x) AS x FROM {one} GROUP BY k"
        return f"WITH q AS ({sums}) SELECT q.k, q.x, b.x AS y FROM q JOIN {two} b ON b.k = q.k"
    return f"SELECT k, count(*) AS n, list(DISTINCT x ORDER BY x) AS xs FROM {one} GROUP BY ROLLUP (k)"


@st.composite
def changes(draw: st.DrawFn) -> str:
    """Draw a statement that changes one of the relations."""
    name = draw(st.sampled_from(["s", "s", "r", "t", "t", "u"]))
    kind = draw(st.integers(0, 3)) if name in {"t", "u"} else 0
    key, value = draw(_KEYS), draw(_VALUES)
    if kind <= 1:
        rows = draw(st.lists(st.tuples(_KEYS, _VALUES), min_size=1, max_size=4))
        return f"INSERT INTO {name} (k, x) VALUES {', '.join(f'({k}, {x})' for k, x in rows)}"
    where = draw(st.sampled_from([f"k = {key}", f"x = {value}", "k IS NULL", "true"]))
    if kind == 2:
        return f"UPDATE {name} SET {draw(st.sampled_from(['k = k + 1', f'x = {value}', f'k = {key}', 'x = x']))} WHERE {where}"
    return f"DELETE FROM {name} WHERE {where}"


_SETUP = """
    CREATE STREAM s (k INT, x INT) WITH (retention = 'forever');
    CREATE STREAM r (k INT, x INT) WITH (retention = 'forever');
    CREATE TABLE t (k INT, x INT);
    CREATE TABLE u (k INT, x INT);
    CREATE MATERIALIZED VIEW totals AS SELECT k, sum(x) AS x FROM s GROUP BY k EMIT UPDATE;
"""


@examples(60)
@given(
    st.lists(queries(), min_size=1, max_size=3),
    st.lists(changes(), max_size=10),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_a_view_holds_the_ad_hoc_answer_in_every_epoch(
    tmp_path_factory: pytest.TempPathFactory, selects: list[str], statements: list[str], late: int, crash: int
):
    folder: Path = tmp_path_factory.mktemp("relations")
    with Database(folder / "data") as database:
        database.execute(_SETUP)
        for index, select in enumerate(selects):
            note(select)
            if index < 2:
                database.execute(f"CREATE MATERIALIZED VIEW v{index} AS {select}")
        follower = database.follow("SUBSCRIBE v0")
        for number, statement in enumerate(statements):
            note(statement)
            if number == late and len(selects) > 2:  # a view may come when there is something to read already
                database.execute(f"CREATE MATERIALIZED VIEW v2 AS {selects[2]}")
            if number == crash:
                database.crash()
                follower = database.follow("SUBSCRIBE v0")
            database.execute(statement)
            database.settle()
            for index, select in enumerate(selects):
                if index < 2 or number >= late:
                    held = Counter(database.query(f"SELECT * FROM v{index}"))
                    assert held == Counter(database.query(select)), (index, statement)
            assert +follower.integrated() == Counter(database.query("SELECT * FROM v0")), statement
