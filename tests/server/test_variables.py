"""SET, SHOW, current_setting and set_config, told like PostgreSQL 15 tells them: each script runs on both servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]

# Scripts of which both servers must say the same: rows, tags, or the SQLSTATE of an error.
SCRIPTS = [
    ["SET statement_timeout = '5s'", "SHOW statement_timeout", "RESET statement_timeout", "SHOW statement_timeout"],
    ["SET statement_timeout TO 0", "SET statement_timeout = 'x'", "SET SESSION statement_timeout = DEFAULT"],
    ["SET lock_timeout = 0", "SET idle_in_transaction_session_timeout = 0", "SET idle_session_timeout = 0"],
    ["SET client_encoding TO 'UNICODE'", "SET names 'UTF8'", "SHOW server_encoding"],
    ["SET check_function_bodies = false", "SET xmloption = content", "SET row_security = off", "SET default_tablespace = ''"],
    ["SET default_table_access_method = heap", "SET session_replication_role = replica", "SET synchronize_seqscans TO off"],
    ["SET work_mem = '64MB'", "SHOW work_mem", "RESET work_mem", "SHOW work_mem"],
    ["SET enable_seqscan = off", "SHOW enable_seqscan", "SET random_page_cost = 1.1", "SHOW random_page_cost", "SHOW geqo"],
    ["SHOW search_path", "SET search_path TO public", "SHOW search_path", "SELECT current_schemas(true), current_schema()"],
    ["SELECT set_config('search_path', 'public', false)", "SELECT current_setting('search_path')", "RESET search_path"],
    ["SELECT set_config('application_name', 'y', false), current_setting('application_name')", "SHOW application_name"],
    ["SHOW transaction_isolation", "SHOW TRANSACTION ISOLATION LEVEL", "SHOW transaction_read_only"],
    ["SHOW lc_collate", "SHOW lc_ctype", "SHOW lc_messages", "SHOW ssl", "SHOW in_hot_standby", "SHOW max_identifier_length"],
    ["SHOW is_superuser", "SHOW session_authorization", "SHOW bytea_output", "SHOW DateStyle", "SHOW intervalstyle"],
    ["SHOW nosuch", "SET nosuch = 1", "SELECT current_setting('nosuch')", "SELECT current_setting('nosuch', true)"],
    ["SET a.b = 'x'", "SHOW a.b", "SELECT current_setting('a.b')", "RESET a.b"],
    ["SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT", "RESET ALL"],
    ["BEGIN", "SET LOCAL application_name = 'local'", "SHOW application_name", "COMMIT", "SHOW application_name"],
    ["SET LOCAL application_name = 'nowhere'", "SHOW application_name"],
    ["BEGIN", "SET application_name = 'undone'", "SHOW application_name", "ROLLBACK", "SHOW application_name"],
    ["BEGIN", "SET application_name = 'kept'", "COMMIT", "SHOW application_name", "SET application_name TO DEFAULT"],
    ["BEGIN", "SET application_name = 'lost'", "SELECT nosuch", "SHOW application_name", "COMMIT", "SHOW application_name"],
    ["BEGIN READ ONLY", "SHOW transaction_read_only", "CREATE TABLE ro (a INT)", "ROLLBACK", "SHOW transaction_read_only"],
    ["BEGIN ISOLATION LEVEL SERIALIZABLE", "SHOW transaction_isolation", "COMMIT", "SHOW transaction_isolation"],
    ["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SHOW transaction_isolation", "COMMIT"],
    [
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ ONLY",
        "SHOW transaction_isolation", "SHOW default_transaction_read_only", "CREATE TABLE ro (a INT)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "CREATE TABLE rw (a INT)", "INSERT INTO rw VALUES (1)",
        "SET default_transaction_read_only TO on", "INSERT INTO rw VALUES (2)", "DELETE FROM rw", "SELECT * FROM rw",
        "SET default_transaction_read_only TO off", "DROP TABLE rw",
    ],
    ["SELECT name, setting FROM pg_settings WHERE name IN ('TimeZone', 'search_path', 'DateStyle') ORDER BY name"],
    ["SELECT s.name, current_setting(s.name) FROM pg_settings s WHERE s.name = 'work_mem'"],
]  # fmt: skip


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


@pytest.fixture
def postgres(postgres_port: int) -> Iterator[Connection]:
    with psycopg.connect(f"postgresql://tester@127.0.0.1:{postgres_port}/postgres", autocommit=True) as opened:
        yield opened


def told(connection: Connection, script: list[str]) -> list[Any]:
    found: list[Any] = []
    for statement in script:
        try:
            cursor = connection.execute(statement.encode())
        except psycopg.Error as error:
            found.append(error.sqlstate)
        else:
            found.append(cursor.fetchall() if cursor.description is not None else cursor.statusmessage)
    return found


@pytest.mark.postgres
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script[0])
def test_a_script_is_told_as_postgres_tells_it(connection: Connection, postgres: Connection, script: list[str]):
    assert told(connection, script) == told(postgres, script)


def test_show_all_lists_every_variable_in_order(connection: Connection):
    rows = connection.execute("SHOW ALL").fetchall()
    names = [str(row[0]).lower() for row in rows]
    assert names == sorted(names)
    assert {"timezone", "search_path", "work_mem", "server_version"} <= set(names)
    assert [(row[0], row[1]) for row in rows] == connection.execute(
        "SELECT name, setting FROM pg_settings ORDER BY lower(name)"
    ).fetchall()


def test_a_statement_ends_when_its_time_is_over_and_the_session_goes_on(connection: Connection):
    connection.execute("SET statement_timeout = '100ms'")
    with pytest.raises(psycopg.errors.QueryCanceled) as canceled:
        connection.execute("SELECT count(*) FROM range(100000000) a(x), range(100000) b(y) WHERE (x * y) % 7 = 3")
    assert canceled.value.diag.message_primary == "canceling statement due to statement timeout"
    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("statement", ["SET IntervalStyle TO 'iso_8601'", "SET DateStyle TO 'German'"])
def test_what_would_change_results_is_refused_and_not_ignored(connection: Connection, statement: str):
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute(statement)
