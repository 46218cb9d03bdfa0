"""User SQL reaches the user's own objects and nothing else: no files, settings, memory, inner tables; no names of ours.

Each attack is sent by every way that SQL can come: ad hoc, prepared, inside a view, as the source of an INSERT, in a DEFAULT,
in UPDATE and DELETE, in a continuous query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]

SECRET = "the secret of the file"
# what no client may ever see: our tables and columns, Python, DuckDB's advice and its SQL
OURS = re.compile(
    r"__delta|__seq|__arrived_at|__given|__shown|__written|__rows|\b_(?:rows|state|results|engine)\b|\bo\d+\b|\bk\d+\b|"
    r"Traceback|\.py\b|Exception|Python|pyarrow|sqlglot|duckdb\.|NoneType|<.* object at|AttributeError|KeyError|"
    r"\bSET \w+ *=|enable_external_access|LINE \d+: (?:WITH|CREATE VIEW)",
)

FUNCTIONS_IN_FROM = [
    "read_csv('{file}')", "read_csv_auto('{file}')", "read_text('{file}')", "read_blob('{file}')", "read_json('{file}')",
    "read_json_auto('{file}')", "read_ndjson_objects('{file}')", "read_parquet('{file}')", "parquet_scan('{file}')",
    "parquet_metadata('{file}')", "sniff_csv('{file}')", "glob('{folder}/*')", "read_duckdb('{file}')",
    "arrow_scan(1, 2, 3)", "arrow_scan_dumb(1, 2, 3)", "pandas_scan(1)", "python_map_function(1, 2)",
    "query('SELECT 1')", "query_table('own')", "query_table('_engine.objects')", "histogram_values('own', 'a')",
    "histogram(own, a)", "seq_scan('own')", "summary((SELECT 1))", "duckdb_settings()", "duckdb_secrets()", "duckdb_tables()",
    "duckdb_views()", "duckdb_functions()", "duckdb_logs()", "duckdb_temporary_files()", "duckdb_variables()",
    "pragma_table_info('own')", "pragma_storage_info('own')", "pragma_database_size()", "which_secret('x', 'y')",
    "enable_logging()", "checkpoint()", "force_checkpoint()", "test_all_types()", "repeat_row(1, num_rows = 1)",
    "json_execute_serialized_sql('{{}}')", "main.read_text('{file}')", "system.main.read_text('{file}')",
    "pg_catalog.read_text('{file}')", '"read_text"(\'{file}\')', "READ_TEXT('{file}')", "pg_read_file('{file}')",
]  # fmt: skip
RELATIONS = [
    "'{file}'", '"{file}"', "rows", "limits", "self", "context", "batch", "given", "pa", "os", "__given",
    "__shown", "__changes",
    "_engine.objects", "_engine.epoch", "_engine.late_rows", '_rows.own', '"_rows"."own"', "_state.own_view",
    "_results.own_view", "main.own", "temp.own", "temp.main.own", "system.information_schema.tables", "state.public.own",
    "memory.main.own", "streamsql._rows.own", "streamsql.nosuch", "sqlite_master", "duckdb_tables", "duckdb_columns",
    "pragma_database_list", "nosuch.own", 'pg_temp.own', "public.\"__written_0\"", "ROWS FROM (read_text('{file}'))",
]  # fmt: skip
SCALARS = [
    "current_setting('data_directory')", "current_setting('temp_directory')", "getvariable('x')", "getenv('HOME')",
    "nextval('s')", "currval('s')", "setseed(0.5)", "write_log('x')", "read_text('{file}')", "query_table('own')",
    "json_serialize_plan('SELECT 1')", "parse_duckdb_log_message('a', 'b')", "current_query()", "finalize(1)", "combine(1, 2)",
    "to_aggregate_state(1)", "__internal_decompress_string(1::bigint)", "__internal_compress_integral_utinyint(1, 0)",
    '"read_text"(\'{file}\')', "cast_to_type('a', 1)", "make_type('x')", "set_config('data_directory', '/tmp', false)",
    "pg_read_file('{file}')", "pg_ls_dir('/')", "lo_import('{file}')", "dblink('x', 'y')",
]  # fmt: skip
STATEMENTS = [
    "COPY own TO '{file}.out'", "COPY (SELECT 1) TO '{file}.out'", "COPY own FROM '{file}'",
    "COPY _engine.objects TO STDOUT", "COPY (SELECT * FROM read_csv('{file}')) TO STDOUT",
    "COPY own FROM PROGRAM 'cat {file}'", "COPY own TO PROGRAM 'cat'", "ATTACH '{file}' AS other", "DETACH state",
    "INSTALL httpfs", "LOAD httpfs", "FORCE INSTALL httpfs", "LOAD '{file}'", "SET enable_external_access = true",
    "SET python_enable_replacements TO true", "SET memory_limit = '1GB'", "SET lock_configuration = false",
    "SET GLOBAL threads = 1", "SET VARIABLE x = 1", "RESET threads", "SET temp_directory = '/tmp'", "PRAGMA database_list",
    "PRAGMA threads=1", "CALL pragma_version()", "EXPORT DATABASE '{folder}/x'", "IMPORT DATABASE '{folder}/x'",
    "CREATE SECRET s (TYPE s3)", "CREATE TABLE t AS SELECT * FROM read_text('{file}')",
    "CREATE VIEW w AS SELECT * FROM read_csv('{file}')",
    "CREATE MACRO m() AS 1", "CREATE FUNCTION f() AS 1", "CREATE OR REPLACE TABLE own (a INT)",
    "CREATE TABLE _rows.x (a INT)", "CREATE STREAM _engine.x (a INT)", "DROP TABLE _rows.own", "DROP SCHEMA _rows CASCADE",
    "DROP VIEW own", "USE _rows", "SUMMARIZE own",
    "SHOW ALL TABLES",
    "FROM own", "DESCRIBE _engine.objects", "SUBSCRIBE _results.own_view", "INSERT INTO _engine.objects VALUES (1)",
    "INSERT INTO _rows.own VALUES (1)", "UPDATE _engine.epoch SET epoch = 0", "DELETE FROM _engine.objects",
    "EXECUTE x", "DO $$ x $$", "EXPLAIN COPY own TO '{file}.out'",
    "CREATE TABLE u (a INT DEFAULT read_text('{file}'))", "CREATE TABLE u (a INT DEFAULT (SELECT count(*) FROM own))",
    "CREATE TABLE u (a INT, b INT DEFAULT a)", "CREATE TABLE u (a TEXT DEFAULT current_setting('x'))",
    "CREATE TABLE u (a TEXT DEFAULT getenv('HOME'))", "CREATE TABLE u (a TEXT DEFAULT current_user)",
    "CREATE TABLE u (__seq INT)", "UPDATE own SET __seq = 0", "DELETE FROM own WHERE __seq > 0", "UPDATE own SET a = __seq",
    "UPDATE own SET a = 1 WHERE own.__arrived_at IS NULL", "SELECT __seq FROM own", "SELECT rowid FROM own",
    "INSERT INTO own (__seq) VALUES (1)", "COPY own (__seq) FROM STDIN", "SELECT * FROM own; ATTACH '{file}'",
    "SELECT 1 INTO OUTFILE '{file}.out'", "SELECT * INTO pg_catalog.other FROM own", "SELECT * INTO other FROM '{file}'",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("secrets")
    (made / "secret.csv").write_text(SECRET + "\n")
    return made


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("CREATE TABLE IF NOT EXISTS own (a INT)")
        opened.execute("CREATE TABLE IF NOT EXISTS texts (t TEXT)")
        opened.execute("CREATE STREAM IF NOT EXISTS events (ts TIMESTAMP, x INT, t TEXT)")
        if not opened.execute("SELECT 1 FROM own").fetchall():
            opened.execute("INSERT INTO own VALUES (1)")
            opened.execute("INSERT INTO events VALUES ('2024-01-01', 1, 'x')")
            opened.execute("CREATE MATERIALIZED VIEW own_view AS SELECT x, count(*) FROM events GROUP BY x EMIT UPDATE")
        yield opened


def refused(connection: Connection, statement: str) -> psycopg.Error:
    """Send a statement, which must fail, cleanly and without a word about our inside."""
    with pytest.raises(psycopg.Error) as failed:
        connection.execute(statement)
    error = failed.value
    assert error.sqlstate is not None
    assert error.sqlstate != "XX000", (statement, str(error))
    diagnosis = error.diag
    told = " ".join(filter(None, [diagnosis.message_primary, diagnosis.message_detail, diagnosis.context]))
    hidden = OURS.search(told)
    assert hidden is None or hidden[0] in statement, (statement, told)
    hint = diagnosis.message_hint or ""
    assert not OURS.search(hint) or hint.startswith("names that start"), (statement, hint)
    assert SECRET not in str(error)
    assert connection.execute("SELECT 'usable'").fetchone() == ("usable",)
    return error


def written(attack: str, folder: Path) -> str:
    return attack.format(file=folder / "secret.csv", folder=folder)


@pytest.mark.parametrize("attack", [*FUNCTIONS_IN_FROM, *RELATIONS])
def test_nothing_but_the_users_relations_can_be_read(connection: Connection, folder: Path, attack: str):
    source = written(attack, folder)
    for query in (
        f"SELECT * FROM {source}",
        f"SELECT * FROM own, {source}" if not source.startswith("ROWS") else f"SELECT * FROM {source} x, own",
        f"SELECT * FROM own CROSS JOIN LATERAL {source} AS l",
        f"SELECT (SELECT count(*) FROM {source})",
        f"WITH own AS (SELECT * FROM {source}) SELECT * FROM own",
        f"SELECT 1 WHERE EXISTS (SELECT 1 FROM {source})",
        f"INSERT INTO texts SELECT 'x' FROM {source}",
        f"DELETE FROM own WHERE a IN (SELECT 1 FROM {source})",
        f"SELECT * FROM {source} EMIT APPEND",
        f"CREATE MATERIALIZED VIEW stolen AS SELECT * FROM {source} EMIT APPEND",
        f"EXPLAIN SELECT * FROM {source}",
        f"COPY {source} TO STDOUT",
        f"COPY (SELECT * FROM {source}) TO STDOUT",
        f"DECLARE stolen CURSOR WITH HOLD FOR SELECT * FROM {source}",
    ):
        refused(connection, query)
    with pytest.raises(psycopg.Error):
        connection.execute(f"SELECT %s::int, * FROM {source}", [1], prepare=True)


@pytest.mark.parametrize("attack", SCALARS)
def test_no_function_tells_or_changes_what_is_the_servers(connection: Connection, folder: Path, attack: str):
    call = written(attack, folder)
    for statement in (
        f"SELECT {call}",
        f"SELECT a FROM own WHERE {call} IS NULL",
        f"SELECT a FROM own ORDER BY {call}",
        f"INSERT INTO texts VALUES ({call})",
        f"INSERT INTO texts SELECT {call}",
        f"UPDATE own SET a = 1 WHERE {call} IS NULL",
        f"DELETE FROM own WHERE {call} IS NOT NULL",
        f"SELECT {call} FROM events EMIT APPEND",
        f"SELECT x, count(*) FROM events WHERE {call} IS NULL GROUP BY x EMIT UPDATE",
        f"SELECT x, max({call}) FROM events GROUP BY x EMIT UPDATE",
        f"SELECT count(*) FROM events GROUP BY window(ts, {call}) EMIT UPDATE",
        f"CREATE MATERIALIZED VIEW stolen AS SELECT {call} AS v FROM events EMIT APPEND",
        f"CREATE TABLE stolen (v TEXT DEFAULT {call})",
    ):
        refused(connection, statement)


@pytest.mark.parametrize("attack", STATEMENTS)
def test_no_statement_reaches_beyond_the_users_objects(connection: Connection, folder: Path, attack: str):
    refused(connection, written(attack, folder))
    assert [path.name for path in folder.iterdir()] == ["secret.csv"]


def test_a_name_that_hides_another_does_not_open_it(connection: Connection):
    connection.execute("""CREATE TABLE "duckdb_tables" (a INT)""")
    assert connection.execute("SELECT * FROM duckdb_tables").fetchall() == []
    connection.execute("DROP TABLE duckdb_tables")
    # a CTE in one place does not make its name known in another
    refused(connection, "SELECT * FROM (WITH duckdb_views AS (SELECT 1) SELECT * FROM duckdb_views) x, duckdb_views")
    refused(connection, "WITH a AS (SELECT * FROM sqlite_master), sqlite_master AS (SELECT 1) SELECT * FROM a")


def test_parameters_are_values_and_never_sql(connection: Connection):
    hostile = "'; DROP TABLE own; --"
    marks = "$parameter_0_1 $1 {} %s \\' \" \0".replace("\0", "")
    for value in (hostile, marks, "$$x$$", "E'\\''", "NULL", "') UNION SELECT 1 --"):
        assert connection.execute("SELECT %s::text, length(%s)", [value, value]).fetchone() == (value, len(value))
        connection.execute("INSERT INTO texts VALUES (%s)", [value])
        connection.execute("INSERT INTO texts SELECT %s::text", [value])
        assert connection.execute("SELECT count(*) FROM texts WHERE t = %s", [value]).fetchone() == (2,)
    assert connection.execute("SELECT * FROM own").fetchall() == [(1,)]


def test_odd_names_are_names(connection: Connection):
    names = ['a"b', "a.b", "select", "x'y", "naïve ☃", "Mixed", " ", "a;b", "%s", "--"]
    for name in names:
        quoted = psycopg.sql.Identifier(name)
        for statement in (
            "CREATE TABLE {0} ({0} INT)", "INSERT INTO {0} VALUES (1)", "INSERT INTO {0} ({0}) VALUES (2)",
            "UPDATE {0} SET {0} = {0} + 1 WHERE {0} > 1",
        ):  # fmt: skip
            connection.execute(psycopg.sql.SQL(statement).format(quoted))
        cursor = connection.execute(psycopg.sql.SQL("SELECT {0}, {0}.{0} AS again FROM {0} ORDER BY 1").format(quoted))
        assert cursor.description is not None
        assert cursor.description[0].name == name
        assert cursor.fetchall() == [(1, 1), (3, 3)]
        connection.execute(psycopg.sql.SQL("DROP TABLE {0}").format(quoted))


def test_errors_of_every_kind_keep_our_names_to_themselves(connection: Connection):
    for statement in (
        "SELECT x + t FROM events", "SELECT sum(t) FROM events", "SELECT sum(t) FROM events EMIT UPDATE",
        "SELECT x, count(*) FROM events EMIT UPDATE", "SELECT max(nosuch) FROM events EMIT UPDATE",
        "SELECT x FROM events GROUP BY x HAVING nosuch > 1 EMIT UPDATE", "SELECT t::int FROM events",
        "SELECT unnest(x) FROM events", "SELECT x FROM events GROUP BY window(t, '1h'), x",
        "SELECT x FROM events GROUP BY window(t, '1h'), x EMIT UPDATE",
        "SELECT count(*) FROM events GROUP BY window(ts, t) EMIT UPDATE",
        "INSERT INTO events VALUES ('x')", "INSERT INTO events (x) VALUES ('x'), (1)", "INSERT INTO own SELECT t FROM events",
        "UPDATE own SET a = 'x'", "UPDATE own SET a = (SELECT t FROM events)", "INSERT INTO own VALUES (1, 2)",
        "SELECT * FROM own UNION SELECT t FROM events ORDER BY 9", "SELECT own FROM own WHERE own = 'x'",
        "SELECT struct_pack(a := x).b FROM events", "SELECT list_transform([1], x -> nosuch)",
        "SELECT regexp_matches(t, '(') FROM events",
        "SELECT '{'::json", "SELECT json_extract('{', 'x')", "SELECT strptime('x', '%Y')", "SELECT 10::numeric(2, 1) * 10",
        "SELECT CAST('x' AS nosuch)", "SELECT 'x' COLLATE nosuch", "SELECT x OVER () FROM events",
        "SELECT row_number() FROM events", "SELECT (SELECT x, t FROM events)", "SELECT * FROM own a JOIN own a USING (a)",
        "SELECT * EXCLUDE (nosuch) FROM own", "SELECT COLUMNS('nosuch') FROM own", "SELECT repeat('x', 10000000000)",
        "SELECT chr(-1)", "SELECT list_value(1)['a']", "SELECT make_timestamp(9223372036854775807)", "SELECT 'a' || 1 || ",
    ):  # fmt: skip
        refused(connection, statement)


def test_the_catalog_views_that_are_shown_hold_no_rows_of_others(connection: Connection):
    """Names of inner tables may be listed by DuckDB's own catalog; what they hold cannot be read through it."""
    for relation in ("information_schema.tables", "pg_catalog.pg_tables", "pg_class"):
        assert connection.execute(f"SELECT count(*) >= 0 FROM {relation}").fetchone() == (True,)
