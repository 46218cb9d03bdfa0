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
_RELATIONS = st.sampled_from(["s", "r", "t", "u", "totals", "keyed", "n"])
_SUMS = "SELECT k, sum(x) AS x, count(*) AS n FROM {} GROUP BY k"
# queries that have a key, or find one by joining, or have none: {0}, {1}, {2} are relations with columns k and x
_SHAPES = (
    "SELECT a.k, a.x, b.x AS y, c.k AS z FROM {0} a JOIN {1} b ON a.k = b.k JOIN {2} c ON a.x = c.x",
    "SELECT a.k, a.x, b.x AS y, c.k AS z FROM {0} a LEFT JOIN {1} b ON a.k = b.k LEFT JOIN {2} c ON b.x = c.k AND a.x > 0",
    "SELECT b.x, count(*) AS n, sum(a.x) AS s FROM {0} a JOIN {1} b ON a.k = b.k JOIN {2} c ON a.x = c.x GROUP BY b.x",
    "SELECT a.x, count(b.k) AS n FROM {0} a LEFT JOIN {1} b ON a.k = b.k WHERE b.x IS NULL OR b.x > 0 GROUP BY a.x",
    "SELECT a.k, a.x, c.x AS y FROM {0} a LEFT JOIN {1} b ON a.k = b.k AND b.x > a.x JOIN {2} c ON c.k = b.k",
    "SELECT k, coalesce(p.n, 0) AS a, coalesce(q.x, 0) AS b FROM ("
    + _SUMS.format("{0}")
    + ") p FULL JOIN ("
    + _SUMS.format("{1}")
    + ") q USING (k)",
    "SELECT k, coalesce(p.n, 0) AS a, q.x AS b, t.n AS c FROM ("
    + _SUMS.format("{0}")
    + ") p FULL JOIN ("
    + _SUMS.format("{1}")
    + ") q USING (k) FULL JOIN ("
    + _SUMS.format("{2}")
    + ") t USING (k)",
    "SELECT k, count(*) FILTER (WHERE i = 0) AS a, sum(x) FILTER (WHERE i = 1) AS b FROM (SELECT k, x, 0 AS i FROM {0} "
    "UNION ALL SELECT k, x, 1 FROM {1}) AS q GROUP BY k",
    "SELECT a.k, q.x FROM {0} a, LATERAL (SELECT b.x FROM {1} b WHERE b.k = a.k ORDER BY b.x DESC NULLS LAST LIMIT 1) AS q",
    "SELECT k, x FROM {0} a WHERE k IN (SELECT k FROM {1}) AND x IN (SELECT x FROM {2} WHERE x > 0)",
    "SELECT k, x FROM {0} a WHERE NOT EXISTS (SELECT 1 FROM {1} b WHERE b.k = a.k AND EXISTS "
    "(SELECT 1 FROM {2} c WHERE c.k = b.k AND c.x = a.x))",
    "SELECT k, x FROM {0} a WHERE k NOT IN (SELECT k FROM {1})",
    "SELECT k, (SELECT sum(b.x) FROM {1} b WHERE b.k = a.k) AS y, count(*) AS n FROM {0} a GROUP BY k",
    "SELECT a.k, a.x, q.n FROM {0} a JOIN (" + _SUMS.format("{1}") + ") q ON q.k = a.k JOIN {2} c ON c.x = a.x",
    "SELECT c.x, sum(q.n) AS n FROM (" + _SUMS.format("{0}") + ") q JOIN {1} c ON c.k = q.k GROUP BY c.x",
    "SELECT k, max(n) AS most FROM (SELECT k, x, count(*) AS n FROM {0} GROUP BY k, x) AS q GROUP BY k",
    "SELECT k, x FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY x DESC NULLS LAST) AS i FROM {0}) AS q "
    "WHERE i <= 2",
    "SELECT DISTINCT ON (k) k, x FROM {0} ORDER BY k, x DESC NULLS LAST",
    "SELECT a.k, a.x FROM {0} a SEMI JOIN {1} b ON a.k = b.k AND b.x >= a.x",
    "SELECT a.k, a.x, c.x AS y FROM {0} a ANTI JOIN {1} b ON a.k = b.k LEFT JOIN {2} c ON c.k = a.x",
    "SELECT k, x FROM {0} UNION ALL (SELECT a.k, b.x FROM {1} a JOIN {2} b USING (k))",
    "(SELECT k, x FROM {0} UNION SELECT k, x FROM {1}) EXCEPT SELECT k, x FROM {2}",
    "SELECT k, count(*) AS n FROM (SELECT k, x FROM {0} INTERSECT SELECT k, x FROM {1}) AS q GROUP BY k",
    "WITH p AS (" + _SUMS.format("{0}") + "), q AS (SELECT k, x FROM p WHERE n > 1) "
    "SELECT q.k, q.x, p.n FROM q JOIN p USING (k)",
    "SELECT a.k, a.x, b.k AS y FROM {0} a FULL JOIN {1} b ON coalesce(a.k, 0) = b.k",
    "SELECT a.k, b.k AS y, c.x FROM {0} a LEFT JOIN {1} b ON coalesce(b.k, 0) = a.k JOIN {2} c ON coalesce(b.k, 0) = c.k",
    "SELECT k, x FROM {0} UNION SELECT * FROM (VALUES (1, 3), (NULL, 0)) AS q(k, x)",
    "SELECT k, count(*) AS n FROM (SELECT k FROM {0} UNION ALL SELECT 2) AS q GROUP BY k",
    "SELECT a.k, q.x FROM {0} a FULL JOIN (VALUES (1, 3), (2, 0)) AS q(k, x) ON a.k = q.k",
    "SELECT k + 1 AS k, x FROM {0} WHERE x > 0 OR k IS NULL",
    "SELECT x, y FROM (SELECT k, x, unnest([x, x + 1]) AS y FROM {0}) AS q WHERE y > 0",
    "SELECT k, x, lag(x) OVER w AS before FROM {0} WINDOW w AS (PARTITION BY k ORDER BY x)",
    "SELECT k, x, sum(x) OVER (PARTITION BY k ORDER BY x NULLS FIRST RANGE UNBOUNDED PRECEDING) AS w FROM {0}",
    "SELECT a.k, b.x FROM {0} a RIGHT JOIN {1} b ON a.k = b.k AND a.x = b.x",
    "SELECT k, n FROM (SELECT k, count(*) AS n FROM {0} GROUP BY k) AS q ORDER BY n DESC, k NULLS LAST LIMIT 2",
    "SELECT k, count(*) AS n FROM {0} WHERE x * INTERVAL '1 minute' > now() - TIMESTAMPTZ '2026-01-01' GROUP BY k",
    "SELECT a.k, a.x, b.x AS y FROM {0} a LEFT JOIN {1} b ON a.k = b.k "
    "WHERE TIMESTAMPTZ '2026-01-01' + a.x * INTERVAL '1 minute' > now() - INTERVAL '2 minutes'",
    "SELECT k, x FROM {0} a WHERE EXISTS (SELECT 1 FROM {1} b WHERE b.k = a.k "
    "AND b.x * INTERVAL '1 minute' <= now() - TIMESTAMPTZ '2026-01-01')",
    "SELECT b.k, count(DISTINCT a.x) AS n FROM {0} a JOIN {1} b ON a.k IS NOT DISTINCT FROM b.k GROUP BY b.k "
    "HAVING count(*) > 1",
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Draw a SELECT over two of the relations: a join, a set operation, a subquery, a window function, a top-N."""
    one, two = draw(_RELATIONS), draw(_RELATIONS)
    kind = draw(st.integers(0, 19))
    if kind > 9:
        return draw(st.sampled_from(_SHAPES)).format(one, two, draw(_RELATIONS))
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
    if not draw(st.integers(0, 6)):
        return f"{_CLOCK}{draw(st.integers(1, 4))}"
    name = draw(st.sampled_from(["s", "s", "r", "t", "t", "u", "keyed", "n"]))
    kind = draw(st.integers(0, 4)) if name not in {"s", "r"} else 0
    keys = st.sampled_from(["NULL", "0.0", "'-0'", "'NaN'", "1"]) if name == "n" else _KEYS
    key, value = draw(keys), draw(_VALUES)
    if name == "keyed" and kind <= 1:
        rows = draw(
            st.lists(st.tuples(st.sampled_from("0123"), _VALUES), min_size=1, max_size=3, unique_by=lambda r: r[0])
        )
        conflict = draw(st.sampled_from(["DO NOTHING", "DO UPDATE SET x = EXCLUDED.x"]))
        return f"INSERT INTO keyed (k, x) VALUES {', '.join(f'({k}, {x})' for k, x in rows)} ON CONFLICT (k) {conflict}"
    if kind <= 1:
        rows = draw(st.lists(st.tuples(keys, _VALUES), min_size=1, max_size=4))
        return f"INSERT INTO {name} (k, x) VALUES {', '.join(f'({k}, {x})' for k, x in rows)}"
    where = draw(st.sampled_from([f"k = {key}", f"x = {value}", "k IS NULL", "true"]))
    if kind == 2:
        new = ["x = x", f"x = {value}", *([] if name == "keyed" else ["k = k + 1", f"k = {key}"])]
        return f"UPDATE {name} SET {draw(st.sampled_from(new))} WHERE {where}"
    if kind == 4:
        other = draw(st.sampled_from(["s", name if name != "keyed" else "t"]))
        return f"BEGIN; DELETE FROM {name} WHERE {where}; INSERT INTO {other} (k, x) VALUES (1, {value}); COMMIT"
    return f"DELETE FROM {name} WHERE {where}"


# moves the wall clock on by so many minutes
_CLOCK = "clock +"


def _run(database: Database, statement: str) -> None:
    if statement.startswith(_CLOCK):
        database.advance(int(statement.removeprefix(_CLOCK)) * 60_000_000)
    else:
        database.execute(statement)


def _at_its_time(database: Database, select: str) -> str:
    """Give the query with the engine's time in place of now()."""
    return select.replace("now()", f"(TIMESTAMPTZ 'epoch' + INTERVAL '{database.clock.now_us() // 1_000_000} seconds')")


_SETUP = """
    CREATE STREAM s (k INT, x INT) WITH (retention = 'forever');
    CREATE STREAM r (k INT, x INT) WITH (retention = 'forever');
    CREATE TABLE t (k INT, x INT);
    CREATE TABLE u (k INT, x INT);
    CREATE TABLE keyed (k INT PRIMARY KEY, x INT);
    CREATE TABLE n (k DOUBLE PRECISION, x INT);
    CREATE MATERIALIZED VIEW totals AS SELECT k, sum(x) AS x FROM s GROUP BY k EMIT UPDATE;
"""


@examples(15)
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
            _run(database, statement)
            database.settle()
            for index, select in enumerate(selects):
                if index < 2 or number >= late:
                    held = Counter(database.query(f"SELECT * FROM v{index}"))
                    assert held == Counter(database.query(_at_its_time(database, select))), (index, statement)
            assert +follower.integrated() == Counter(database.query("SELECT * FROM v0")), statement
