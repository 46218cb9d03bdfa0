"""Which part of a recomputed query an epoch runs again, for a list of shapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamsql.base.limits import Limits
from streamsql.plan.continuous import plan_query
from streamsql.plan.nodes import Recomputed
from streamsql.plan.touched.plans import Linear, Tail, Touched
from streamsql.sql.parse import parse
from streamsql.sql.statements import Query
from tests.driver import Database

_SETUP = """
    CREATE STREAM s (k INT, x INT, ts TIMESTAMP, tags TEXT[]) WITH (retention = 'forever');
    CREATE TABLE t (k INT, x INT);
    CREATE TABLE u (k INT, x INT, name TEXT);
    CREATE TABLE wide (k BIGINT, code TEXT, d DOUBLE PRECISION);
    CREATE TABLE bits (k INT, b BIT(3));
    CREATE MATERIALIZED VIEW sums AS SELECT k, count(*) AS n FROM t GROUP BY k;
"""

# a query, and the keys by which a part of it is run again
_KEYED = {
    "SELECT k, count(*) AS n FROM t GROUP BY k": ["t.k"],
    "SELECT x, k, count(*) AS n FROM t GROUP BY k, x HAVING count(*) > 1": ["t.k", "t.x"],
    "SELECT k % 2 AS even, count(*) AS n FROM t GROUP BY 1": ["t.k % 2"],
    "SELECT k, x, count(*) AS n FROM t GROUP BY ALL": ["t.k", "t.x"],
    "SELECT k, sum(n) AS n FROM sums GROUP BY k": ["sums.k"],
    "SELECT k, x, sum(x) OVER (PARTITION BY k ORDER BY x NULLS FIRST) AS r FROM t": ["t.k"],
    "SELECT DISTINCT k FROM t": ["t.k"],
    "SELECT DISTINCT ON (k) k, x FROM t ORDER BY k, x": ["t.k"],
    "SELECT k, x FROM t UNION SELECT k, x FROM u": ["k", "x"],
    "SELECT k FROM t EXCEPT SELECT k FROM u": ["k"],
    "SELECT t.k, u.x FROM t LEFT JOIN u ON u.k = t.k": ["t.k"],
    "SELECT t.k, t.x, u.x AS y FROM t LEFT JOIN u ON u.k = t.k": ["t.k", "t.x"],
    "SELECT k, t.x, u.x AS y FROM t FULL JOIN u USING (k)": ["COALESCE(t.k, u.k)"],
    "SELECT k, x FROM t WHERE k IN (SELECT k FROM u)": ["t.k", "t.x"],
    "SELECT k FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND u.x > t.x)": ["t.k"],
    "SELECT k, (SELECT max(x) FROM u WHERE u.k = t.k) AS m FROM t": ["t.k"],
    "SELECT t.k, q.x FROM t, LATERAL (SELECT x FROM u WHERE u.k = t.k ORDER BY x LIMIT 1) AS q": ["t.k"],
    "SELECT u.name, sum(t.x) AS n FROM t JOIN u ON u.k = t.k GROUP BY u.name": ["u.name"],
    "SELECT t.k, count(*) AS n FROM t JOIN u ON u.k = t.k GROUP BY t.k": ["t.k"],
    "SELECT k, count(*) AS n FROM s WHERE ts > now() - INTERVAL '1 hour' GROUP BY k": ["s.k"],
    "WITH q AS (SELECT k, max(x) AS x FROM t GROUP BY k) SELECT q.k, u.name FROM q JOIN u ON u.k = q.k": ["q.k", "u.name"],
}  # fmt: skip
_BY_JOINING = {
    "SELECT u.name, sum(t.x) AS n FROM t JOIN u ON u.k = t.k GROUP BY u.name": ("t",),
    "SELECT t.k, t.x, u.x AS y FROM t LEFT JOIN u ON u.k = t.k": ("u",),
    "SELECT t.k, count(*) AS n FROM t JOIN u ON u.k = t.k GROUP BY t.k": (),
}
_LINEAR = {
    "SELECT t.k, u.name FROM t JOIN u ON u.k = t.k WHERE t.x > 0": True,
    "SELECT * FROM t, u WHERE t.k = u.k": True,
    "SELECT * FROM (SELECT k, x + 1 AS y FROM t) AS q JOIN u USING (k)": True,
    "SELECT k, x FROM t UNION ALL SELECT k, x FROM u": False,
    "SELECT k, x * 2 AS y FROM t WHERE x > 0": False,
    "SELECT k, unnest([x, k]) AS y FROM t": False,
}
# window functions that are run from the first changed row on: their keys, and what they are ordered by
_FROM_A_ROW_ON = {
    "SELECT k, x, sum(x) OVER (PARTITION BY k ORDER BY x) AS r FROM t": (["t.k"], "t.x"),
    "SELECT k, x FROM t QUALIFY row_number() OVER (PARTITION BY k ORDER BY x) = 1": (["t.k"], "t.x"),
    "SELECT k, x FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY x) AS i FROM t) AS q WHERE i = 1": (
        ["t.k"],
        "t.x",
    ),
    "SELECT k, rank() OVER (ORDER BY x) AS r FROM t": ([], "t.x"),
    "SELECT k, x, sum(x) OVER (PARTITION BY k ORDER BY x DESC) AS r FROM t": (["t.k"], "t.x"),
    "SELECT k, x FROM t QUALIFY row_number() OVER (PARTITION BY k ORDER BY x DESC) = 1": (["t.k"], "t.x"),
    "SELECT k, rank() OVER (ORDER BY x DESC) AS r FROM t": ([], "t.x"),
}
_WHOLE = {
    "SELECT count(*) AS n FROM t": "it has no key that all its rows have",
    "SELECT k FROM t WHERE x > (SELECT avg(x) FROM t)": "a subquery reads all rows",
    "SELECT k FROM t WHERE k NOT IN (SELECT k FROM u)": "a subquery reads all rows",
    "SELECT k FROM t UNION ALL SELECT 1": "a part of a set operation reads nothing",
    "SELECT t.k, u.x FROM t FULL JOIN u ON coalesce(t.k, 0) = u.k": "an outer join goes by an expression",
    "SELECT k, now() AS at FROM t": "it asks the time outside of a condition of WHERE on one relation",
    "SELECT t.k, u.x FROM t FULL JOIN u ON t.k > u.k": "it has no key that all its rows have",
    "SELECT k, count(*) AS n FROM bits GROUP BY k": '"bits" has a column of type bit',
    "SELECT wide.k, t.x FROM wide LEFT JOIN t ON t.x = wide.d": "values of different types are compared: DOUBLE, INTEGER",
}  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        made.execute(_SETUP)
        yield made


def _plan(database: Database, select: str) -> Recomputed:
    query = parse(f"{select} EMIT UPDATE", Limits())[0]
    assert isinstance(query, Query)
    engine = database.engine
    plan = database.on_engine(lambda: plan_query(query, engine.catalog, engine.describe, engine.limits))
    assert plan.recomputed is not None, "an operator keeps it"
    return plan.recomputed


@pytest.mark.parametrize("select", _KEYED)
def test_a_key_is_found(database: Database, select: str):
    part = _plan(database, select).part
    assert isinstance(part, Touched)
    assert list(part.keys) == _KEYED[select]


@pytest.mark.parametrize("select", _FROM_A_ROW_ON)
def test_window_functions_go_from_a_row_on(database: Database, select: str):
    part = _plan(database, select).part
    assert isinstance(part, Tail)
    assert (list(part.keys), part.order) == _FROM_A_ROW_ON[select]
    assert part.descending == ("DESC" in select)


@pytest.mark.parametrize("select", _BY_JOINING)
def test_changes_without_the_key_find_it_by_joining(database: Database, select: str):
    part = _plan(database, select).part
    assert isinstance(part, Touched)
    assert part.joined == _BY_JOINING[select]


@pytest.mark.parametrize("select", _LINEAR)
def test_rows_that_only_join_are_followed_by_weight(database: Database, select: str):
    part = _plan(database, select).part
    assert isinstance(part, Linear)
    assert part.joins is _LINEAR[select]


@pytest.mark.parametrize("select", _WHOLE)
def test_what_has_no_key_says_why(database: Database, select: str):
    made = _plan(database, select)
    assert made.part is None
    assert made.whole_because == _WHOLE[select]


def test_a_top_n_is_over_a_table_where_that_has_a_key(database: Database):
    made = _plan(database, "SELECT k, sum(x) AS n FROM t GROUP BY k ORDER BY n DESC, min(x) LIMIT 3")
    assert made.inner is not None
    assert made.inner.recomputed is not None
    assert isinstance(made.inner.recomputed.part, Touched)
    assert len(made.inner.outputs) == 3
    assert _plan(database, "SELECT k, x FROM t ORDER BY x LIMIT 3").inner is None


def test_a_key_that_cannot_be_computed_for_all_rows_is_no_fault(database: Database):
    """The query comes to compute it only for the rows that its WHERE lets through."""
    database.execute(
        "CREATE MATERIALIZED VIEW digits AS SELECT q.code::INT AS code, count(*) AS n "
        "FROM (SELECT * FROM wide WHERE code SIMILAR TO '[0-9]+') AS q GROUP BY q.code::INT"
    )
    database.execute("INSERT INTO wide (k, code) VALUES (1, '7'), (2, 'seven'), (3, '07')")
    database.execute("UPDATE wide SET k = k + 1")
    assert isinstance(database.engine.queries["digits"].plan.recomputed.part, Touched)  # type: ignore[union-attr]
    assert database.query("SELECT * FROM digits") == [("7", "2")]
