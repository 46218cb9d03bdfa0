"""COMMENT ON: kept with its object over restarts and kills, gone when the object is dropped."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer

ALL = "SELECT objoid::regclass::text, objsubid, description FROM pg_description WHERE objoid >= 16384 ORDER BY 1, 2"


def test_comments_stay_with_their_objects(tmp_path: Path):
    server = RunningServer(tmp_path)
    server.start()
    with server.session() as opened:
        opened.execute("CREATE STREAM s (ts TIMESTAMP, x INT)")
        opened.execute("CREATE TABLE t (k TEXT PRIMARY KEY)")
        opened.execute("CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM s GROUP BY x EMIT UPDATE")
        opened.execute("COMMENT ON STREAM s IS 'events'; COMMENT ON TABLE t IS 'it''s a table'")
        opened.execute("COMMENT ON COLUMN s.x IS 'a number'; COMMENT ON COLUMN public.t.k IS 'gone at once'")
        opened.execute("COMMENT ON COLUMN t.k IS NULL; COMMENT ON VIEW v IS 'first'; COMMENT ON VIEW v IS 'second'")
        opened.execute("COMMENT ON COLUMN streamsql.public.v.n IS 'how many'")
        wanted = [
            ("s", 0, "events"),
            ("s", 2, "a number"),
            ("t", 0, "it's a table"),
            ("v", 0, "second"),
            ("v", 2, "how many"),
        ]
        assert opened.execute(ALL).fetchall() == wanted
    server.stop(signal.SIGKILL)
    with server, server.session() as opened:
        assert opened.execute(ALL).fetchall() == wanted
        opened.execute("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM s GROUP BY x EMIT UPDATE")
        assert opened.execute(ALL).fetchall() == wanted
        opened.execute("DROP STREAM s CASCADE")
        opened.execute("CREATE STREAM s (ts TIMESTAMP, x INT)")
        assert opened.execute(ALL).fetchall() == [("t", 0, "it's a table")]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("COMMENT ON TABLE nope IS 'x'", errors.UndefinedTable),
        ("COMMENT ON STREAM kept IS 'x'", errors.WrongObjectType),
        ("COMMENT ON MATERIALIZED VIEW kept IS 'x'", errors.WrongObjectType),
        ("COMMENT ON COLUMN kept.nope IS 'x'", errors.UndefinedColumn),
        ("COMMENT ON COLUMN other.kept.k IS 'x'", errors.InvalidSchemaName),
        ("COMMENT ON COLUMN k IS 'x'", errors.SyntaxError),
        ("COMMENT ON TABLE kept IS x", errors.SyntaxError),
        ("COMMENT ON FUNCTION f() IS 'x'", errors.FeatureNotSupported),
    ],
)
def test_what_cannot_be_commented_on_is_refused(server: RunningServer, statement: str, error: type[psycopg.Error]):
    with server.session() as opened:
        opened.execute("CREATE TABLE IF NOT EXISTS kept (k TEXT)")
        with pytest.raises(error) as failed:
            opened.execute(statement)
        assert failed.value.diag.statement_position is not None
