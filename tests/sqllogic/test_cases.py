"""The cases of tests/sqllogic/cases, with every query as a view that is older than its rows: over tables, and over streams.

Files of others in this format can be run too: ``STREAMSQL_SQLLOGIC=/folder pytest tests/sqllogic``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.driver import Database
from tests.sqllogic import generate
from tests.sqllogic.answers import digest, flat
from tests.sqllogic.families import FAMILIES
from tests.sqllogic.records import FormatError, Query, Record, Statement, read
from tests.sqllogic.runner import Runner

CASES = Path(__file__).parent / "cases"
FOLDER = Path(os.environ.get("STREAMSQL_SQLLOGIC", CASES))
FILES = sorted(FOLDER.rglob("*.slt")) + sorted(FOLDER.rglob("*.test"))


def by_day(records: list[Record], streams: bool) -> list[Record]:
    """Ask a third of the queries over tables and another over streams; the nightly profile asks all of them over both."""
    if FOLDER != CASES or os.environ.get("STREAMSQL_PROFILE") == "nightly":
        return records
    queries = [r for r in records if isinstance(r, Query)]
    asked = {id(r) for r in queries[int(streams) :: 3]}
    return [r for r in records if isinstance(r, Statement) or id(r) in asked]


@pytest.mark.parametrize("streams", [False, True], ids=["tables", "streams"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_views_made_before_their_rows_hold_the_answers(path: Path, streams: bool):
    with Database() as database:
        report = Runner(database, path.name, streams=streams).run(by_day(read(path.read_text("utf-8")), streams))
    assert not report.wrong, "\n\n".join(report.wrong)
    assert report.queries
    if FOLDER == CASES:
        assert report.views == report.queries
        assert (report.operators > 0) == (streams and path.stem in {"aggregates", "functions", "simple"})


@pytest.fixture(scope="module")
def connection() -> Iterator[generate.Connection]:
    if not postgres.installed():
        pytest.skip("PostgreSQL 15 is not installed")
    with (
        postgres.running() as port,
        psycopg.connect(f"postgresql://tester@127.0.0.1:{port}/postgres", autocommit=True) as opened,
    ):
        yield opened


@pytest.mark.postgres
@pytest.mark.parametrize("family", FAMILIES)
def test_the_cases_are_what_the_generator_writes(connection: generate.Connection, family: str):
    assert generate.generate(connection, family, count=60, seed=1) == (CASES / f"{family}.slt").read_text("utf-8")


FORMAT = """
# a comment
statement ok
CREATE TABLE t (a INTEGER,
  b TEXT)

onlyif mysql
statement ok
this is not ours

skipif postgresql
statement ok
nor is this

statement error
INSERT INTO nothing VALUES (1)

query IT rowsort label-1
SELECT a, b FROM t
----
1
x

query I nosort
SELECT 1
----
1 values hashing to b026324c6904b2a9cb4b88d6d61c81d1

halt

statement ok
never read
"""


def test_records_are_read_as_sqlite_writes_them():
    assert read(FORMAT) == [
        Statement(3, "CREATE TABLE t (a INTEGER,\n  b TEXT)", ok=True),
        Statement(15, "INSERT INTO nothing VALUES (1)", ok=False),
        Query(18, "SELECT a, b FROM t", "IT", "rowsort", "label-1", ("1", "x"), None),
        Query(24, "SELECT 1", "I", "nosort", None, (), (1, "b026324c6904b2a9cb4b88d6d61c81d1")),
    ]
    with pytest.raises(FormatError, match="line 1"):
        read("query Z\nSELECT 1\n----\n1")


def test_values_are_written_sorted_and_hashed_as_sqlite_does():
    rows = [("2", None, "t"), ("1", "", "0.0625")]
    assert flat(rows, "ITT", "rowsort") == ["1", "(empty)", "0.0625", "2", "NULL", "t"]
    assert flat(rows, "ITT", "valuesort") == ["(empty)", "0.0625", "1", "2", "NULL", "t"]
    assert flat([("t", "3.70", "a\té")], "IIT", "nosort") == ["1", "3", "a@@"]
    assert flat([("0.0625",)], "R", "nosort") == ["0.062"]
    assert digest(["1"]) == "b026324c6904b2a9cb4b88d6d61c81d1"


WRONG = """
statement ok
CREATE TABLE t (a INTEGER)

query I rowsort
SELECT sum(a) FROM t
----
NULL

statement ok
INSERT INTO t VALUES (1), (2)

query I nosort same
SELECT count(*) FROM t
----
3

query I nosort same
SELECT sum(a) FROM t
----
3

query I nosort
SELECT b FROM t
----
1

statement error
INSERT INTO t VALUES (4)

statement ok
CREATE INDEX i ON t (a)

statement ok
DROP TABLE t
"""


def test_what_is_wrong_is_told():
    with Database() as database:
        report = Runner(database, "file").run(read(WRONG))
    told = [w.splitlines()[0] for w in report.wrong]
    assert told == [
        'file:23: no view: column "b" does not exist',
        "file:13: the ad-hoc answer is",
        "file:18: differs from the other queries labelled same",
        'file:23: failed: column "b" does not exist',
        "file:28: was executed, and ought to have been refused",
    ]
    assert (report.queries, report.views) == (4, 3)
