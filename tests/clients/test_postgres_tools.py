"""The programs that come with PostgreSQL beside psql: pgbench, pg_dump, pg_dumpall, vacuumdb, reindexdb, clusterdb."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import postgres
from tests.clients.programs import needs
from tests.postgres import PROGRAMS
from tests.running import RunningServer

pytestmark = pytest.mark.postgres


def run(server: RunningServer, program: str, *arguments: str) -> str:
    """Run a program against the server's database; it must end well. Gives what it printed."""
    return run_all(server, program, *arguments, "streamsql")


def run_all(server: RunningServer, program: str, *arguments: str) -> str:
    """Do the same without the name of a database."""
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "streamsql"}
    done = subprocess.run(
        [needs(PROGRAMS / program, program), *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_pgbench_fills_its_tables_and_runs_its_transactions(server: RunningServer):
    made = run(server, "pgbench", "--initialize", "--foreign-keys")
    assert 'storage parameter "fillfactor" has no effect' in made
    assert server.execute("SELECT count(*), sum(abalance) FROM pgbench_accounts") == [(100_000, 0)]
    told = run(server, "pgbench", "--transactions=5")
    assert re.search(r"actually processed: 5/5\b", told), told
    told = run(
        server, "pgbench", "--transactions=20", "--protocol=prepared", "--select-only", "--no-vacuum", "--client=2"
    )
    assert re.search(r"actually processed: 40/40\b", told), told
    (sums,) = server.execute(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
        "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history), "
        "(SELECT count(*) FROM pgbench_history)"
    )
    assert len(set(sums[:4])) == 1
    assert sums[4] == 5


def test_upkeep_is_done_for_all_and_for_one_table(server: RunningServer):
    server.execute("CREATE TABLE kept (a INT PRIMARY KEY)", "CREATE INDEX kept_a ON kept (a)")
    for program, *more in (
        ("vacuumdb", "--analyze"), ("vacuumdb", "--full", "--table=kept"), ("vacuumdb", "--analyze-only", "--table=kept(a)"),
        ("reindexdb",), ("reindexdb", "--table=kept"), ("reindexdb", "--index=kept_a"), ("clusterdb",),
        ("clusterdb", "--table=kept"),
    ):  # fmt: skip
        assert "ERROR" not in run(server, program, *more)


# what a database has that PostgreSQL has, too
COMMON = r"""
CREATE SCHEMA shop;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE SEQUENCE shop.tickets START 100 INCREMENT 5;
CREATE SEQUENCE serials;
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE, m mood DEFAULT 'ok',
    price numeric(10,2) CHECK (price > 0), created timestamptz DEFAULT now(), n bigint DEFAULT nextval('serials'));
CREATE TABLE shop.orders (id serial PRIMARY KEY, customer bigint REFERENCES customers (id) ON DELETE CASCADE,
    qty int DEFAULT 1 NOT NULL, note varchar(20), ticket bigint DEFAULT nextval('shop.tickets'), tags text[], data jsonb,
    CONSTRAINT few CHECK (qty < 1000), UNIQUE (customer, note));
CREATE INDEX orders_qty ON shop.orders (qty);
COMMENT ON TABLE customers IS 'those who buy';
COMMENT ON COLUMN customers.email IS 'it''s unique';
INSERT INTO customers (email, price, created) VALUES ('a@x', 1.5, '2024-05-06 07:08:09+00'), ('b@x', NULL, '-infinity');
INSERT INTO shop.orders (customer, qty, note, tags, data)
    VALUES (1, 2, E'tab\there', '{a,"b c"}', '{"k": 1}'), (2, 3, NULL, NULL, NULL);
CREATE VIEW cheap AS SELECT id, email FROM customers WHERE price < 10 AND m = 'ok'::mood;
CREATE VIEW cheaper AS SELECT c.id FROM cheap c JOIN customers ON customers.id = c.id;
CREATE MATERIALIZED VIEW per_customer AS SELECT customer, count(*) AS n, sum(qty) AS q FROM shop.orders GROUP BY customer;
GRANT SELECT ON customers TO PUBLIC;
"""
STREAMING = """
CREATE STREAM events (ts timestamp, k text, v double precision, WATERMARK FOR ts AS ts - INTERVAL '10 seconds');
INSERT INTO events VALUES ('2024-01-01 00:00:00', 'a', 1.5);
CREATE MATERIALIZED VIEW hourly AS SELECT window_start, k, count(*) AS n FROM events GROUP BY window(ts, '1h'), k EMIT UPDATE;
"""
# what is asked of a database after it was restored
ASKED = (
    "SELECT * FROM customers ORDER BY id", "SELECT * FROM shop.orders ORDER BY id", "SELECT * FROM cheap",
    "SELECT * FROM cheaper", "SELECT * FROM per_customer ORDER BY 1", "SELECT last_value, is_called FROM shop.tickets",
    "SELECT last_value, is_called FROM customers_id_seq", "SELECT relacl[2]::text FROM pg_class WHERE relname = 'customers'",
    "SELECT obj_description('customers'::regclass, 'pg_class'), col_description('customers'::regclass, 2)",
    "SELECT conname, contype::text FROM pg_constraint WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN "
    "('shop', 'public')) AND contype <> 'n' ORDER BY 1",
    "SELECT attname, attidentity::text, attnotnull, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = 'customers'::regclass AND attnum > 0 ORDER BY attnum",
)  # fmt: skip


def dumped(server: RunningServer, *arguments: str) -> str:
    text = run(server, "pg_dump", "--no-owner", *arguments)
    # the marks around a dump are made anew each time
    return re.sub(r"(?m)^(\\(un)?restrict|-- Dumped|SET |-- Name).*\n", "", text)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("full")) as running:
        for text in (COMMON, STREAMING):
            psql(f"host=127.0.0.1 port={running.port} user=streamsql dbname=streamsql", text)
        yield running


def psql(dsn: str, text: str) -> str:
    done = subprocess.run(
        [needs(PROGRAMS / "psql", "psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", dsn],
        input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def assert_same(here: str, there: str, queries: Sequence[str]) -> None:
    """Ask both databases; the owners have names of their own."""
    for query in queries:
        assert psql(here, query).replace("streamsql", "tester") == psql(there, query) != "", query


def test_a_dump_is_restored_into_postgresql(full: RunningServer):
    with postgres.running() as port:
        there = f"host=127.0.0.1 port={port} user=tester dbname=postgres"
        here = f"host=127.0.0.1 port={full.port} user=streamsql dbname=streamsql"
        psql(there, dumped(full, "--exclude-table=hourly"))
        assert_same(here, there, (*ASKED, "SELECT * FROM events"))
        # the sequences go on where they were
        told = psql(there, "INSERT INTO shop.orders (customer) VALUES (1) RETURNING id, ticket")
        assert told == "3|110\n"


def test_the_statements_of_a_dump_are_those_that_postgresql_writes(full: RunningServer):
    with postgres.running() as port:
        psql(f"host=127.0.0.1 port={port} user=tester dbname=postgres", COMMON)
        arguments = [
            "pg_dump",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "tester",
            "--no-owner",
            "--schema-only",
            "postgres",
        ]
        there = subprocess.run(
            [PROGRAMS / arguments[0], *arguments[1:], "-T", "cheap*", "-T", "per_customer"],
            text=True, stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
    here = dumped(full, "--schema-only", "-T", "cheap*", "-T", "per_customer", "-T", "events", "-T", "hourly")

    def statements(text: str) -> list[str]:
        text = re.sub(r"(?m)^(--|\\|SET ).*\n", "", text)
        return [s.strip() for s in re.sub(r"\n\n+", "\n\n", text).split(";\n")]

    # two expressions are told by us as they were written
    told = [s.replace("DEFAULT CURRENT_TIMESTAMP", "DEFAULT now()").replace("price > 0)", "price > (0)::numeric)")
            for s in statements(here)]  # fmt: skip
    assert told == statements(there)


def test_a_dump_of_postgresql_is_restored_here(tmp_path: Path):
    more = """
        ALTER TABLE customers ALTER m SET DEFAULT 'happy'::mood, ADD CONSTRAINT merry CHECK (m > 'sad'::mood);
        CREATE UNIQUE INDEX once ON per_customer (customer);
        CREATE TABLE tagged (id smallint GENERATED BY DEFAULT AS IDENTITY (START WITH 7), s text DEFAULT 'x'::text);
        INSERT INTO tagged DEFAULT VALUES; REFRESH MATERIALIZED VIEW per_customer;
    """
    with postgres.running() as port, RunningServer(tmp_path) as server:
        there = f"host=127.0.0.1 port={port} user=tester dbname=postgres"
        here = f"host=127.0.0.1 port={server.port} user=streamsql dbname=streamsql"
        psql(there, COMMON + more)
        command = [
            str(PROGRAMS / "pg_dump"),
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "tester",
            "--no-owner",
            "postgres",
        ]
        psql(here, subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout)
        assert_same(here, there, (*ASKED, "SELECT * FROM tagged"))
        for text in (
            "INSERT INTO shop.orders (customer) VALUES (1) RETURNING id, ticket",
            "INSERT INTO tagged DEFAULT VALUES RETURNING *",
            "INSERT INTO customers (email) VALUES ('c@x') RETURNING id, m",
        ):  # fmt: skip
            assert psql(here, text) == psql(there, text)
        server.stop()
        server.start()
        here = f"host=127.0.0.1 port={server.port} user=streamsql dbname=streamsql"
        assert psql(here, "INSERT INTO customers (email) VALUES ('d@x') RETURNING id, m") == "4|happy\n"
        assert psql(here, "SELECT n FROM per_customer WHERE customer = 1") == "2\n"


def test_dumps_of_a_part_and_in_other_forms(full: RunningServer, tmp_path: Path):
    rows = dumped(full, "--data-only", "--table=customers", "--inserts")
    assert "INSERT INTO public.customers OVERRIDING SYSTEM VALUE VALUES (2, 'b@x', 'ok', NULL, '-infinity', 2);" in rows
    assert "CREATE" not in rows
    views = dumped(full, "--schema-only", "--table=cheap", "--table=hourly")
    assert "SELECT id, email FROM public.customers WHERE price < 10 AND m = 'ok'::public.mood;" in views
    assert "FROM public.events GROUP BY window(ts, '1h'), k EMIT UPDATE" in views
    schema = dumped(full, "--schema=shop", "--schema-only")
    assert "CREATE SEQUENCE shop.tickets" in schema
    assert "customers (" not in schema
    run(full, "pg_dump", "--format=custom", f"--file={tmp_path / 'dump'}")
    listed = subprocess.run(
        [PROGRAMS / "pg_restore", "--list", tmp_path / "dump"], capture_output=True, text=True, check=True
    )
    assert "TABLE DATA shop orders" in listed.stdout


def test_roles_are_dumped(server: RunningServer):
    server.execute("CREATE ROLE readers", "CREATE ROLE ann LOGIN CONNECTION LIMIT 3 IN ROLE readers")
    told = run_all(server, "pg_dumpall", "--database=streamsql", "--globals-only")
    assert (
        "CREATE ROLE ann;\nALTER ROLE ann WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS "
        in told
    )
    assert re.search(r"GRANT readers TO ann GRANTED BY \w+;", told)
    assert "CREATE ROLE readers;" in run_all(server, "pg_dumpall", "--database=streamsql", "--roles-only")
