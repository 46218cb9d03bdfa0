"""A view over many kept rows is built in pieces, between which rows go on to be committed."""

from __future__ import annotations

from typing import Any

import pytest

from streamsql.base.errors import DuplicateTable, UndefinedTable
from streamsql.base.limits import Limits
from streamsql.catalog.objects import View
from streamsql.engine import building, view_definitions
from streamsql.engine.building import Building
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateMaterializedView
from tests.driver import Database

CREATE = "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(x) AS x FROM s WHERE x <> 7 GROUP BY k"
QUERY = "SELECT k, count(*) AS n, sum(x) AS x FROM s WHERE x <> 7 GROUP BY k ORDER BY k"


@pytest.fixture
def database(monkeypatch, tmp_path):
    monkeypatch.setattr(building, "PIECE_ROWS", 10)
    with Database(tmp_path / "data") as made:
        made.execute("CREATE STREAM s (k TEXT, x INT) WITH (retention = 'forever')")
        made.execute("INSERT INTO s SELECT 'k' || i % 3, i FROM range(35) t(i)")
        yield made


def begun(database: Database) -> Building:
    (statement,) = parse(CREATE, Limits())
    assert isinstance(statement, CreateMaterializedView)
    made: Any = database.on_engine(lambda: view_definitions.create_view(database.engine, statement))
    assert isinstance(made, Building)
    return made


def test_rows_are_committed_between_pieces_and_none_is_lost_or_taken_twice(database: Database):
    made = begun(database)
    backfills = "SELECT name, rows_read, rows_total, status FROM streamsql.backfills"
    assert database.query(backfills) == [("v", "0", "35", "building")]
    for number in range(3):
        assert database.on_engine(made.step) is False
        database.execute(f"INSERT INTO s VALUES ('k0', {100 + number})")
        assert database.query("SELECT count(*) FROM s") == [(str(36 + number),)]
        assert database.query(backfills) == [("v", str(10 * number + 10), "35", "building")]
    with pytest.raises(DuplicateTable, match="is being built"):
        begun(database)
    assert database.on_engine(made.step) is True
    assert database.query(backfills) == []
    assert database.query("SELECT * FROM v ORDER BY k") == database.query(QUERY)
    database.execute("INSERT INTO s VALUES ('k9', 1)")
    assert database.query("SELECT * FROM v ORDER BY k") == database.query(QUERY)
    database.restart()
    assert database.query("SELECT * FROM v ORDER BY k") == database.query(QUERY)


def test_a_statement_makes_the_view_whole(database: Database):
    database.execute(CREATE)
    assert isinstance(database.engine.catalog.get("v"), View)
    assert database.query("SELECT * FROM v ORDER BY k") == database.query(QUERY)
    database.execute("CREATE MATERIALIZED VIEW w AS SELECT x FROM s WHERE 1 / (x - 20) < 5")  # which fails on a row
    assert database.query("SELECT count(*) FROM w") == [("34",)]


def test_a_view_that_was_not_finished_leaves_nothing(database: Database):
    made = begun(database)
    database.on_engine(made.step)
    database.on_engine(made.abandon)
    assert database.query("SELECT * FROM streamsql.backfills") == []
    again = begun(database)
    database.on_engine(again.step)
    database.execute("ALTER STREAM s ADD COLUMN more INT")
    with pytest.raises(UndefinedTable, match="while a view over it was built"):
        database.on_engine(again.step)
    database.on_engine(again.abandon)
    third = begun(database)
    database.on_engine(third.step)
    database.crash()
    assert database.query("SELECT * FROM streamsql.backfills") == []
    database.execute(CREATE)
    assert database.query("SELECT * FROM v ORDER BY k") == database.query(QUERY)
