"""Sequences over restarts: a number is given once, also where a server is killed; one that is stopped goes on exactly."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer


def test_no_number_is_given_twice(tmp_path: Path):
    with RunningServer(tmp_path) as server:
        server.execute("CREATE SEQUENCE s", "CREATE TABLE t (id SERIAL PRIMARY KEY, v TEXT)", "CREATE ROLE ann LOGIN")
        server.execute("INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 40)")
        given = [server.execute("SELECT nextval('s')")[0][0] for _ in range(3)]
        with server.connect() as one, server.connect() as other:
            with pytest.raises(errors.ObjectNotInPrerequisiteState):
                one.execute("SELECT currval('s')")
            one.execute("BEGIN")
            gone = one.execute("INSERT INTO t (v) VALUES ('gone') RETURNING id").fetchall()
            one.execute("ROLLBACK")
            kept = other.execute("INSERT INTO t (v) VALUES ('kept') RETURNING id").fetchall()
            assert (gone, kept) == ([(41,)], [(42,)])
        server.stop(signal.SIGKILL)
        server.start()
        after = server.execute("SELECT nextval('s')")[0][0]
        assert given == [1, 2, 3]
        assert after > 3
        assert server.execute("INSERT INTO t (v) VALUES ('after') RETURNING id")[0][0] > 42
        server.stop()
        server.start()
        assert server.execute("SELECT nextval('s')") == [(after + 1,)]
        ann = psycopg.connect(f"host=127.0.0.1 port={server.port} user=ann dbname=streamsql")
        with ann, pytest.raises(errors.InsufficientPrivilege):
            ann.execute("SELECT nextval('s')")


def test_a_sequence_that_truncate_sets_back_gives_no_number_before_the_commit(tmp_path: Path):
    with RunningServer(tmp_path) as server, server.connect() as connection:
        connection.execute("CREATE TABLE t (id SERIAL PRIMARY KEY, v TEXT)")
        connection.execute("INSERT INTO t (v) VALUES ('a')")
        with pytest.raises(errors.ObjectInUse, match="begins anew when the transaction is committed"):
            connection.execute("BEGIN; TRUNCATE t RESTART IDENTITY; INSERT INTO t (v) VALUES ('b'); COMMIT")
        connection.execute("ROLLBACK")
        assert connection.execute("INSERT INTO t (v) VALUES ('b') RETURNING id").fetchall() == [(2,)]
        with connection.transaction():
            connection.execute("TRUNCATE t RESTART IDENTITY")
        assert connection.execute("INSERT INTO t (v) VALUES ('c') RETURNING id").fetchall() == [(1,)]
        connection.execute("TRUNCATE t RESTART IDENTITY")
    with RunningServer(tmp_path) as server, server.connect() as connection:
        assert connection.execute("INSERT INTO t (v) VALUES ('d') RETURNING id, v").fetchall() == [(1, "d")]
