"""The law for whatever SELECT can be drawn: at every epoch a view holds what the same SELECT gives ad hoc.

Queries are those of the sqllogictest cases (`tests/sqllogic/families.py`), their source of chance is Hypothesis', so that what
fails is shrunk. The three relations are tables, or streams as long as nothing is changed in them.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from streamsql.base.errors import StreamSQLError
from tests.driver import Database
from tests.engine.streams import examples
from tests.sqllogic.answers import flat
from tests.sqllogic.drawing import TABLES, Draw, Drawn
from tests.sqllogic.families import FAMILIES
from tests.sqllogic.generate import changes, row_of

_VIEWS = 3
_STATEMENTS = 6  # one of them is followed by a crash in a quarter of the cases: the others need no file


def _statements(random: Random, count: int, *, streams: bool) -> list[str]:
    """Draw INSERTs and, but for streams, changes; each is an epoch."""
    found = []
    for number in range(count):
        if not streams and random.random() < 0.4:
            found.append(random.choice(changes(random.randint(-3, 7))))
            continue
        table = random.choice(["t1", "t2", "t3"])
        rows = [row_of(random, table, 10 * number + n) for n in range(random.randint(1, 4))]
        found.append(f"INSERT INTO {table} VALUES {', '.join(rows)}")
    return found


def _answer(database: Database, sql: str, drawn: Drawn) -> list[str] | None:
    """Give a result in no order; None where the query fails on the rows that there are."""
    try:
        return flat(database.query(sql), drawn.types, "rowsort")
    except StreamSQLError:
        return None


def _run(database: Database, sql: str) -> None:
    note(f"{sql};")
    database.execute(sql)


@examples(9)
@given(st.randoms(use_true_random=False), st.booleans(), st.integers(0, 23))
def test_a_drawn_query_is_kept(tmp_path_factory: pytest.TempPathFactory, random: Random, streams: bool, crash: int):
    folder: Path = tmp_path_factory.mktemp("drawn")
    with Database(folder / "data" if crash < _STATEMENTS else None) as database:
        for sql in TABLES.strip().splitlines():
            if streams:
                plain = sql.replace("CREATE TABLE", "CREATE STREAM").replace(" PRIMARY KEY", "")
                _run(database, f"{plain} WITH (retention = 'forever')")
            else:
                _run(database, sql)
        drawn = [FAMILIES[random.choice(list(FAMILIES))](Draw(random)) for _ in range(_VIEWS)]
        views: dict[str, Drawn] = {}
        for number, query in enumerate(drawn):
            names = ", ".join(f"c{i}" for i in range(len(query.types)))
            if _answer(database, query.sql, query) is not None:  # chance draws what has no sense now and then
                _run(database, f"CREATE MATERIALIZED VIEW v{number} AS SELECT * FROM ({query.sql}) AS q({names})")
                views[f"v{number}"] = query
        for number, sql in enumerate(_statements(random, _STATEMENTS, streams=streams)):
            _run(database, sql)
            if number == crash:
                database.crash()
            for view, query in views.items():
                wanted = _answer(database, query.sql, query)
                if wanted is not None:
                    assert _answer(database, f"SELECT * FROM {view}", query) == wanted, (view, sql)
