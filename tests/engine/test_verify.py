"""VERIFY finds what is wrong with a view, and finds nothing where nothing is."""

from __future__ import annotations

import pytest

from tests.driver import Database

_VIEWS = {
    "summed": "SELECT k, sum(x) AS s FROM s GROUP BY k EMIT UPDATE",
    "minutes": "SELECT window_start, k, count(*) AS n FROM s GROUP BY window(ts, '1 minute'), k EMIT APPEND",
    "every": "SELECT k, x FROM s EMIT APPEND",
    "pairs": "SELECT a.k, a.x, b.x AS y FROM s a JOIN s b ON a.x < b.x",
}


@pytest.mark.parametrize("name", _VIEWS)
def test_a_view_that_was_tampered_with_is_told_from_one_that_was_not(name: str):
    with Database() as database:
        database.execute(
            "CREATE STREAM s (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts) WITH (retention = 'forever');"
            f"CREATE MATERIALIZED VIEW v AS {_VIEWS[name]};"
            "INSERT INTO s VALUES ('2026-01-01 00:00:00', 'a', 1), ('2026-01-01 00:00:10', 'b', 2),"
            " ('2026-01-01 00:02:00', 'a', 3)"
        )
        assert database.query("SELECT * FROM v")
        assert database.query("VERIFY MATERIALIZED VIEW v") == []
        store, query = database.engine.store, database.engine.queries["v"]
        table = query.tables.state if name == "summed" else query.tables.result
        last = query.plan.outputs[-1]
        column = f"o{len(query.plan.outputs) - 1}"
        held = database.query(f"SELECT * FROM v ORDER BY {last.name} LIMIT 1")[0]
        smallest = f"SELECT min(rowid) FROM {table} WHERE {column} = (SELECT min({column}) FROM {table})"
        database.on_engine(lambda: store.execute(f"UPDATE {table} SET {column} = 77 WHERE rowid = ({smallest})"))
        found = database.query("VERIFY MATERIALIZED VIEW v")
        assert sorted(found) == sorted([("1", *held), ("-1", *held[:-1], "77")])
