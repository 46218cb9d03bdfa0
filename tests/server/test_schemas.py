"""Schemas: who may look names up in them, whose search path is asked, and that they outlive the server."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer


def test_schemas_and_what_is_in_them_are_there_after_a_kill(tmp_path: Path):
    server = RunningServer(tmp_path)
    server.start()
    with server.session() as opened:
        opened.execute("CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA empty")
        opened.execute("CREATE STREAM a.s (ts TIMESTAMP, x INT, WATERMARK FOR ts AS ts)")
        opened.execute("CREATE TABLE b.t (id INT PRIMARY KEY, x INT)")
        opened.execute("SET search_path TO b, a")
        opened.execute("CREATE MATERIALIZED VIEW v AS SELECT t.x, count(*) AS n FROM s JOIN t USING (x) GROUP BY t.x")
        opened.execute("CREATE TABLE public.t (id INT); CREATE TABLE public.s (id INT)")
        opened.execute("INSERT INTO t VALUES (1, 7); INSERT INTO s VALUES ('2026-01-01', 7), ('2026-01-01', 8)")
        opened.execute("ALTER TABLE b.t RENAME TO renamed; ALTER SCHEMA a RENAME TO c")
        opened.execute("COMMENT ON TABLE renamed IS 'was t'")
    server.stop(signal.SIGKILL)
    with server, server.session() as opened:
        assert opened.execute("SELECT * FROM b.v").fetchall() == [(7, 1)]
        opened.execute("INSERT INTO c.s VALUES ('2026-01-01', 8); INSERT INTO b.renamed VALUES (2, 8)")
        assert sorted(opened.execute("SELECT * FROM b.v").fetchall()) == [(7, 1), (8, 2)]
        assert opened.execute("VERIFY MATERIALIZED VIEW b.v").fetchall() == []
        schemas = "SELECT nspname FROM pg_namespace WHERE oid > 16383 ORDER BY 1"
        assert opened.execute(schemas).fetchall() == [("b",), ("c",), ("empty",)]
        assert opened.execute("SELECT obj_description('b.renamed'::regclass)").fetchall() == [("was t",)]
        assert opened.execute("SELECT count(*) FROM s").fetchall() == [(0,)]  # that of public


def test_each_session_has_its_own_search_path(server: RunningServer):
    with server.session() as one, server.session(options="-c search_path=two") as two:
        one.execute("CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t (a INT); CREATE TABLE two.t (b INT)")
        one.execute("INSERT INTO one.t VALUES (1); INSERT INTO two.t VALUES (2)")
        one.execute("SET search_path TO one")
        # the same text, prepared and not, means in each session what its path says
        for _ in range(3):
            assert one.execute("SELECT * FROM t", prepare=True).fetchall() == [(1,)]
            assert two.execute("SELECT * FROM t", prepare=True).fetchall() == [(2,)]
            assert two.execute("SELECT * FROM t").fetchall() == [(2,)]
        one.execute("SET search_path TO two")
        assert one.execute("SELECT b FROM t").fetchall() == [(2,)]
        cursor = one.cursor()
        cursor.execute("INSERT INTO t VALUES (%s)", [3], prepare=True)
        one.execute("SET search_path TO one")
        cursor.execute("INSERT INTO t VALUES (%s)", [4], prepare=True)
        assert one.execute("SELECT * FROM one.t ORDER BY 1").fetchall() == [(1,), (4,)]
        assert one.execute("SELECT * FROM two.t ORDER BY 1").fetchall() == [(2,), (3,)]
        one.execute("DROP SCHEMA one, two CASCADE")


def test_a_schema_is_closed_to_those_who_have_no_usage_of_it(server: RunningServer):
    with server.session() as owner:
        owner.execute("CREATE ROLE ann LOGIN; CREATE SCHEMA closed; CREATE TABLE closed.t (a INT)")
        owner.execute("CREATE STREAM closed.s (a INT)")
        owner.execute(
            "CREATE MATERIALIZED VIEW closed.v AS SELECT a, count(*) AS n FROM closed.s GROUP BY a EMIT UPDATE"
        )
        owner.execute("GRANT ALL ON closed.t, closed.s, closed.v TO ann")
        with psycopg.connect(server.dsn, user="ann", autocommit=True) as ann:
            for text in (
                "SELECT * FROM closed.t", "INSERT INTO closed.s VALUES (1)", "UPDATE closed.t SET a = 1",
                "DELETE FROM closed.t", "TRUNCATE closed.t", "COPY closed.t TO STDOUT", "COPY closed.s FROM STDIN",
                "SUBSCRIBE closed.v", "DESCRIBE closed.t", "EXPLAIN SELECT * FROM closed.t", "EXPLAIN WHY closed.v",
                "SELECT a FROM closed.s EMIT APPEND", "WITH q AS (SELECT * FROM closed.t) SELECT * FROM q",
                "CREATE MATERIALIZED VIEW mine AS SELECT a FROM closed.s", "SELECT * FROM TUMBLE(closed.s, a, '1 hour')",
            ):  # fmt: skip
                with pytest.raises(errors.InsufficientPrivilege, match="permission denied for schema closed"):
                    ann.execute(text)
            ann.execute("SET search_path TO closed")
            with pytest.raises(errors.UndefinedTable):
                ann.execute("SELECT * FROM t")
            assert ann.execute("SELECT current_schema()").fetchone() == (None,)
            assert ann.execute("SELECT has_schema_privilege('closed', 'USAGE')").fetchone() == (False,)
            owner.execute("GRANT USAGE ON SCHEMA closed TO ann")
            assert ann.execute("SELECT * FROM t").fetchall() == []
            ann.execute("INSERT INTO closed.s VALUES (1)")
            assert ann.execute("SELECT * FROM closed.v").fetchall() == [(1, 1)]
            assert ann.execute("SELECT has_schema_privilege('closed', 'USAGE')").fetchone() == (True,)
            for text in ("CREATE TABLE u (a INT)", "CREATE TABLE closed.u (a INT)", "CREATE STREAM closed.u (a INT)"):
                with pytest.raises(errors.InsufficientPrivilege, match="permission denied for schema closed"):
                    ann.execute(text)
            with pytest.raises(errors.InsufficientPrivilege, match="must be owner of schema closed"):
                ann.execute("DROP SCHEMA closed")
            with pytest.raises(errors.InsufficientPrivilege, match="permission denied for database"):
                ann.execute("CREATE SCHEMA hers")
            owner.execute("GRANT CREATE ON SCHEMA closed TO ann")
            ann.execute("CREATE TABLE u (a INT)")
            with pytest.raises(errors.DependentObjectsStillExist, match="cannot be dropped"):
                owner.execute("DROP ROLE ann")
            owner.execute("CREATE SCHEMA AUTHORIZATION ann")
            ann.execute("RESET search_path")
            ann.execute("CREATE TABLE t (mine TEXT)")  # in the schema of her own name, which comes first
            assert ann.execute("SELECT * FROM ann.t").fetchall() == []
        owner.execute("DROP OWNED BY ann; DROP ROLE ann; DROP SCHEMA closed CASCADE")


def test_views_in_schemas_are_followed(server: RunningServer):
    with server.session() as opened, server.session() as other:
        opened.execute("CREATE SCHEMA f; CREATE STREAM f.s (a INT)")
        opened.execute("CREATE MATERIALIZED VIEW f.v AS SELECT count(*) AS n FROM f.s EMIT UPDATE")
        opened.execute('LISTEN "f.v"')
        opened.execute("INSERT INTO f.s VALUES (1)")
        other.execute("SET search_path TO f")
        rows = other.cursor().stream("SUBSCRIBE v")
        assert isinstance(rows, Generator)
        assert next(rows)[1:] == (1, 1)
        opened.execute("INSERT INTO f.s VALUES (2)")
        assert sorted(next(rows)[1:] for _ in range(2)) == [(-1, 1), (1, 2)]
        rows.close()
        assert next(opened.notifies(timeout=10)).channel == "f.v"
        opened.execute("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE f.v")
        assert [row[2] for row in opened.execute("FETCH ALL FROM c")] == [2]
        opened.execute("COMMIT; DROP SCHEMA f CASCADE")


def test_http_names_schemas(tmp_path: Path):
    with RunningServer(tmp_path, ["--in-memory", "--http-port", "0"]) as server:
        server.execute("CREATE SCHEMA h", "CREATE STREAM h.s (a INT)", "CREATE TABLE s (b INT)")
        assert httpx.post(f"{server.http}/streams/h.s", json=[{"a": 1}, {"a": 2}]).status_code == 200
        assert httpx.post(f"{server.http}/streams/public.s", json=[{"b": 3}]).status_code == 200
        assert httpx.get(f"{server.http}/query", params={"sql": "SELECT sum(a) AS n FROM h.s"}).json() == [{"n": 3}]
        assert httpx.get(f"{server.http}/query", params={"sql": "SELECT b FROM public.s"}).json() == [{"b": 3}]
        assert httpx.post(f"{server.http}/streams/h.t", json=[]).status_code == 404
