"""Which columns of a result show all that it is grouped by."""

from __future__ import annotations

import pytest

from streamsql.base.limits import Limits
from streamsql.plan.result_key import grouped_columns
from streamsql.sql.parse import parse
from streamsql.sql.statements import Query

QUERIES = {
    "SELECT k, count(*) FROM t GROUP BY k": ("k",),
    "SELECT count(*), k AS key, b FROM t GROUP BY b, k": ("b", "key"),
    "SELECT t.k, count(*) FROM t GROUP BY k": ("k",),
    "SELECT t.k, count(*) FROM t GROUP BY t.k": ("k",),
    "SELECT lower(a) AS l, count(*) FROM t GROUP BY lower(a)": ("l",),
    "SELECT a + 1, count(*) FROM t GROUP BY 1": ("?column?",),
    "SELECT k, 1 AS one, count(*) FROM t GROUP BY 1": ("k",),
    "SELECT 2 AS two, k, count(*) FROM t GROUP BY 2": ("k",),
    "SELECT count(*) FROM t GROUP BY k": (),
    "SELECT k, count(*) FROM t GROUP BY k, b": (),
    "SELECT a AS b, count(*) FROM t GROUP BY a, b": (),
    "SELECT count(*) FROM t": (),
    "SELECT k FROM t": (),
    "SELECT k, count(*) FROM t GROUP BY ROLLUP (k)": (),
    "SELECT k, count(*) FROM t GROUP BY CUBE (k)": (),
    "SELECT k, count(*) FROM t GROUP BY GROUPING SETS ((k), ())": (),
    "SELECT k, unnest(array_agg(a)) FROM t GROUP BY k": (),
    "SELECT k, generate_series(1, 3) FROM t GROUP BY k": (),
    "SELECT k FROM t GROUP BY k UNION ALL SELECT k FROM t GROUP BY k": (),
}


@pytest.mark.parametrize("text", QUERIES)
def test_a_result_is_told_apart_by_what_it_is_grouped_by(text: str):
    (query,) = parse(text, Limits())
    assert isinstance(query, Query)
    assert grouped_columns(query) == QUERIES[text]
