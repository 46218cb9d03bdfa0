"""Functions whose value depends on the moment, the session or the batch have no place in a continuous query."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from streamsql.base.errors import FeatureNotSupported, StreamSQLError, UndefinedFunction
from tests.driver import Database

# It says the same each time: it fails.
STEADY = {"error"}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        made.execute("CREATE STREAM s (ts TIMESTAMP, k TEXT, x INT)")
        yield made


def _unsteady() -> list[tuple[str, int]]:
    """List the functions that DuckDB itself calls volatile, or the same within one query only."""
    found = duckdb.execute(
        "SELECT DISTINCT function_name, len(parameters) FROM duckdb_functions() "
        "WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY') AND function_type = 'scalar' ORDER BY ALL"
    ).fetchall()
    return [(name, count) for name, count in found if name not in STEADY]


@pytest.mark.parametrize(("name", "count"), _unsteady())
def test_what_duckdb_calls_volatile_is_refused(database: Database, name: str, count: int):
    call = f"{name}({', '.join(['k'] * count)})"
    with pytest.raises((FeatureNotSupported, UndefinedFunction)) as raised:
        database.execute(f"CREATE MATERIALIZED VIEW v AS SELECT {call} AS c FROM s EMIT APPEND")
    assert raised.value.position is not None


@pytest.mark.parametrize(
    "expression",
    [
        "age(ts)", "current_time", "current_timestamp", "localtimestamp", "localtime", "current_user", "session_user",
        "version()",
        "clock_timestamp()", "timeofday()", "current_setting('TimeZone')", "getvariable('x')", "current_query()",
    ],
)  # fmt: skip
def test_what_depends_on_the_moment_or_the_session_is_refused(database: Database, expression: str):
    with pytest.raises(StreamSQLError) as raised:
        database.execute(f"CREATE MATERIALIZED VIEW v AS SELECT {expression} AS c FROM s EMIT APPEND")
    assert raised.value.sqlstate in {"0A000", "42883", "42703"}


def test_the_same_functions_answer_ad_hoc(database: Database):
    assert database.query("SELECT now() IS NOT NULL, current_user, age(TIMESTAMP '2020-01-01') IS NOT NULL") == [
        ("t", "tester", "t")
    ]
