"""Every statement and every synonym: what it is read as, and that what is written reads back the same."""

from __future__ import annotations

import pytest
from sqlglot import exp

from streamsql.base.limits import Limits
from streamsql.sql.parse import parse, position_of
from streamsql.sql.render import render, same
from streamsql.sql.render_trees import duckdb_sql
from streamsql.sql.statements import (
    CreateMaterializedView,
    CreateStream,
    CreateTable,
    EmitMode,
    Insert,
    Query,
    Statement,
    Update,
    Watermark,
)

LIMITS = Limits()
MINUTE_US = 60_000_000


def one(text: str) -> Statement:
    (statement,) = parse(text, LIMITS)
    return statement


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("SELECT A, \"B\" FROM Trades", 'SELECT a, "B" FROM trades'),
        ("select 1 -- a comment", "SELECT 1"),
        ("(SELECT 1) UNION ALL (SELECT 2) LIMIT 3", "(SELECT 1) UNION ALL (SELECT 2) LIMIT 3"),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM x", "WITH x AS (SELECT 1 AS a) SELECT a FROM x"),
        ("VALUES (1, 'a'), (2, 'b')", "VALUES (1, 'a'), (2, 'b')"),
        ("TABLE t", "SELECT * FROM t"),
        ("SELECT * FROM public.t, streamsql.public.u", "SELECT * FROM public.t, public.u"),
        ("SELECT * FROM pg_catalog.pg_class", "SELECT * FROM pg_catalog.pg_class"),
        ("SELECT * FROM streamsql.late_rows", "SELECT * FROM streamsql.late_rows"),
        ("SELECT $$it's$$, E'a\\'b', U&'\\0041', $x$;$x$", "SELECT 'it''s', 'a''b', 'A', ';'"),
        ("SELECT sum(x) OVER w FROM t WINDOW w AS (ORDER BY x)", "SELECT SUM(x) OVER w FROM t WINDOW w AS (ORDER BY x)"),
        ("SELECT * FROM SESSION(t, ts, '5m')", "SELECT * FROM SESSION(t, ts, '5m')"),
        ("EXPLAIN SELECT 1", "EXPLAIN SELECT 1"),
        ("EXPLAIN ANALYZE VERBOSE SELECT 1", "EXPLAIN (ANALYZE) SELECT 1"),
        ("EXPLAIN (analyze off, buffers, format json, costs false) SELECT 1", "EXPLAIN (FORMAT JSON) SELECT 1"),
        ("CREATE TABLE t (a TEXT ARRAY, b varchar(3) array)", "CREATE TABLE t (a TEXT[], b character varying(3)[])"),
        ("VACUUM FULL VERBOSE ANALYZE a, s.b (x, y)", "VACUUM a, s.b"),
        ("VACUUM (SKIP_DATABASE_STATS, PARALLEL 2) a", "VACUUM a"),
        ("ANALYSE VERBOSE", "ANALYZE"),
        ("REINDEX (VERBOSE) INDEX CONCURRENTLY i", "REINDEX INDEX i"),
        ("REINDEX DATABASE", "REINDEX DATABASE"),
        ("CLUSTER VERBOSE a USING i", "CLUSTER a"),
        ("CREATE UNLOGGED TABLE t (a INT) WITH (fillfactor = 70)", "CREATE TABLE t (a INTEGER) WITH (fillfactor = '70')"),
        ("ALTER TABLE t SET (fillfactor = 80, toast.x = off)", "ALTER TABLE t RESET (fillfactor, toast.x)"),
        ("EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT 1 EMIT UPDATE", "EXPLAIN SELECT 1 EMIT UPDATE"),
        ("INSERT INTO public.t (A, b) VALUES (1, 'x')", "INSERT INTO public.t (a, b) VALUES (1, 'x')"),
        ("INSERT INTO t SELECT * FROM u WHERE x = $2", "INSERT INTO t SELECT * FROM u WHERE x = $2"),
        ("INSERT INTO t DEFAULT VALUES", "INSERT INTO t DEFAULT VALUES"),
        ("INSERT INTO t (SELECT 1)", "INSERT INTO t (SELECT 1)"),
        ("UPDATE public.t SET a = 1 WHERE b = $1", "UPDATE public.t SET a = 1 WHERE b = $1"),
        ("DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = 1"),
        ("DROP STREAM a, public.b CASCADE", "DROP STREAM a, public.b CASCADE"),
        ("DROP SOURCE IF EXISTS a RESTRICT", "DROP STREAM IF EXISTS a"),
        ("DROP TABLE a", "DROP TABLE a"),
        ("DROP VIEW a", "DROP VIEW a"),
        ("DROP MATERIALIZED VIEW a", "DROP MATERIALIZED VIEW a"),
        ("SHOW STREAMS", "SHOW STREAMS"),
        ("SHOW SOURCES", "SHOW STREAMS"),
        ("show tables", "SHOW TABLES"),
        ("SHOW VIEWS", "SHOW MATERIALIZED VIEWS"),
        ("SHOW MATERIALIZED VIEWS", "SHOW MATERIALIZED VIEWS"),
        ("SHOW QUERIES", "SHOW QUERIES"),
        ("SHOW DateStyle", "SHOW datestyle"),
        ("SHOW ALL", "SHOW ALL"),
        ("SHOW TIME ZONE", "SHOW timezone"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "SHOW transaction_isolation"),
        ("SAVEPOINT \"My point\"", "SAVEPOINT \"My point\""),
        ("RELEASE s", "RELEASE s"),
        ("ROLLBACK TRANSACTION TO SAVEPOINT s", "ROLLBACK TO s"),
        ("SET a.b = 5", "SET a.b TO '5'"),
        ("SET search_path TO \"$user\", public", "SET search_path TO '\"$user\", public'"),
        ("SET SESSION x TO 'y z'", "SET x TO 'y z'"),
        ("SET LOCAL x = on", "SET LOCAL x TO 'on'"),
        ("SET extra_float_digits = -1", "SET extra_float_digits TO '-1'"),
        ("SET x TO DEFAULT", "SET x TO DEFAULT"),
        ("SET TIME ZONE 'UTC'", "SET timezone TO 'UTC'"),
        ("SET TIME ZONE LOCAL", "SET timezone TO DEFAULT"),
        ("SET TIME ZONE -5", "SET timezone TO '-5'"),
        ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "SET timezone TO '+02:00'"),
        ("SET NAMES 'UTF8'", "SET client_encoding TO 'UTF8'"),
        ("SET ROLE NONE", "SET role TO 'none'"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION CHARACTERISTICS AS TRANSACTION read only, isolation level serializable",
        ),
        ("SET TRANSACTION READ WRITE NOT DEFERRABLE", "SET TRANSACTION read write, not deferrable"),
        ("RESET x", "RESET x"),
        ("RESET ALL", "RESET ALL"),
        ("DESCRIBE public.trades", "DESCRIBE public.trades"),
        ("DESC trades", "DESCRIBE trades"),
        ("COPY t FROM STDIN", "COPY t FROM STDIN"),
        (
            "COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL '', QUOTE '\"', ESCAPE '\"')",
            "COPY t (a, b) FROM STDIN WITH (FORMAT 'csv', HEADER 'true', DELIMITER ';', NULL '', QUOTE '\"', ESCAPE '\"')",
        ),
        ("COPY t FROM STDIN (HEADER off)", "COPY t FROM STDIN WITH (HEADER 'false')"),
        (
            "COPY t FROM STDIN CSV HEADER DELIMITER ','",
            "COPY t FROM STDIN WITH (FORMAT 'csv', HEADER 'true', DELIMITER ',')",
        ),
        ("COPY t FROM STDIN WITH NULL AS 'x'", "COPY t FROM STDIN WITH (NULL 'x')"),
        ("COPY BINARY t FROM STDIN", "COPY t FROM STDIN WITH (FORMAT 'binary')"),
        ("COPY t FROM STDIN CSV FORCE NOT NULL a, b", "COPY t FROM STDIN WITH (FORMAT 'csv', FORCE_NOT_NULL (a, b))"),
        ("COPY t FROM STDIN (HEADER match) WHERE a > 1", "COPY t FROM STDIN WITH (HEADER 'match') WHERE a > 1"),
        ("COPY t TO STDOUT USING DELIMITERS ',' WITH NULL 'x'", "COPY t TO STDOUT WITH (DELIMITER ',', NULL 'x')"),
        ("COPY t (a, \"B\") TO STDIN CSV FORCE QUOTE *", "COPY t (a, \"B\") TO STDOUT WITH (FORMAT 'csv', FORCE_QUOTE *)"),
        ("COPY (SELECT 1 EMIT APPEND) TO STDOUT", "COPY (SELECT 1 EMIT APPEND) TO STDOUT"),
        ("COPY (SUBSCRIBE v) TO STDOUT", "COPY (SUBSCRIBE TO v WITH (SNAPSHOT = true, PROGRESS = false)) TO STDOUT"),
        ("SUBSCRIBE hourly", "SUBSCRIBE TO hourly WITH (SNAPSHOT = true, PROGRESS = false)"),
        (
            "SUBSCRIBE TO hourly WITH (SNAPSHOT = false, PROGRESS)",
            "SUBSCRIBE TO hourly WITH (SNAPSHOT = false, PROGRESS = true)",
        ),
        ("BEGIN", "BEGIN"),
        ("BEGIN WORK ISOLATION LEVEL READ COMMITTED, READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"),
        ("START TRANSACTION READ WRITE", "BEGIN READ WRITE"),
        ("COMMIT", "COMMIT"),
        ("END TRANSACTION", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("ABORT", "ROLLBACK"),
        ("COMMIT AND NO CHAIN", "COMMIT"),
        ("DEALLOCATE ALL", "DEALLOCATE ALL"),
        ("DEALLOCATE PREPARE s1", "DEALLOCATE s1"),
        ("DEALLOCATE \"S 1\"", 'DEALLOCATE "S 1"'),
        ("DISCARD ALL", "DISCARD ALL"),
        ("DISCARD TEMP", "DISCARD TEMP"),
        ("UNLISTEN *", "UNLISTEN *"),
        ("CLOSE ALL", "CLOSE ALL"),
        ("CLOSE c", "CLOSE c"),
    ],
)  # fmt: skip
def test_a_statement_is_read_and_its_canonical_text_reads_back_the_same(text: str, rendered: str) -> None:
    statement = one(text)
    assert render(statement) == rendered
    assert same(statement, one(rendered))


@pytest.mark.parametrize(
    ("clauses", "emit", "watermark", "every_us"),
    [
        ("", None, None, None),
        ("EMIT APPEND", EmitMode.APPEND, None, None),
        ("EMIT ON WINDOW CLOSE", EmitMode.APPEND, None, None),
        ("EMIT FINAL", EmitMode.APPEND, None, None),
        ("EMIT UPDATE", EmitMode.UPDATE, None, None),
        ("EMIT CHANGES", EmitMode.UPDATE, None, None),
        ("emit complete", EmitMode.COMPLETE, None, None),
        ("EMIT UPDATE EVERY '5s'", EmitMode.UPDATE, None, 5_000_000),
        ("EMIT UPDATE EVERY INTERVAL '5 seconds'", EmitMode.UPDATE, None, 5_000_000),
        ("EMIT UPDATE EVERY INTERVAL '5' SECOND", EmitMode.UPDATE, None, 5_000_000),
        ("WITH WATERMARK '10 minutes'", EmitMode.APPEND, Watermark(10 * MINUTE_US), None),
        ("WITH WATERMARK INTERVAL '10 minutes'", EmitMode.APPEND, Watermark(10 * MINUTE_US), None),
        ("WITH WATERMARK INTERVAL '10' MINUTES", EmitMode.APPEND, Watermark(10 * MINUTE_US), None),
        ("WITH WATERMARK '0'", EmitMode.APPEND, Watermark(0), None),
        (
            "WITH WATERMARK FOR ts AS ts - INTERVAL '1 hour' EMIT UPDATE",
            EmitMode.UPDATE,
            Watermark(60 * MINUTE_US, "ts"),
            None,
        ),
        ("WITH WATERMARK FOR ts AS ts", EmitMode.APPEND, Watermark(0, "ts"), None),
        ("WATERMARK ts DELAY OF INTERVAL '1 minute'", EmitMode.APPEND, Watermark(MINUTE_US, "ts"), None),
        ("WATERMARK ts DELAY OF '1m' AS x EMIT UPDATE", EmitMode.UPDATE, Watermark(MINUTE_US, "ts"), None),
    ],
)
def test_streaming_clauses_are_taken_out_of_a_query(
    clauses: str, emit: EmitMode | None, watermark: Watermark | None, every_us: int | None
) -> None:
    query = one(f"SELECT a FROM trades {clauses}")
    assert isinstance(query, Query)
    assert (query.emit, query.every_us) == (emit, every_us)
    found = query.watermark
    assert (found and (found.delay_us, found.column)) == (watermark and (watermark.delay_us, watermark.column))
    assert duckdb_sql(query.tree).startswith("SELECT a FROM trades")
    assert same(query, one(render(query)))


@pytest.mark.parametrize("text", ["EMIT APPEND LIMIT 10", "LIMIT 10 EMIT APPEND", "LIMIT 10 WITH WATERMARK '1s'"])
def test_a_limit_may_stand_on_either_side_of_the_clauses(text: str) -> None:
    query = one(f"SELECT a FROM t {text}")
    assert isinstance(query, Query)
    assert query.emit is EmitMode.APPEND
    assert duckdb_sql(query.tree) == "SELECT a FROM t LIMIT 10"


@pytest.mark.parametrize(
    "text",
    ["SELECT emit, watermark FROM t", "SELECT e.emit FROM emit AS e JOIN u ON emit.a = u.a",
     "WITH watermark AS (SELECT 1) SELECT * FROM watermark", "SELECT a AS emit FROM t WHERE watermark > 1"],
)  # fmt: skip
def test_emit_and_watermark_are_names_where_they_are_no_clauses(text: str) -> None:
    query = one(text)
    assert isinstance(query, Query)
    assert query.emit is None
    assert query.watermark is None


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("window(ts, '1h')", 2),
        ("WINDOW (ts, '1h', '5m')", 3),
        ("window(ts, '1h', timezone => 'Europe/Berlin', offset => '15m')", 4),
    ],
)
def test_a_window_call_comes_back_as_a_plain_call_and_survives_rendering(call: str, arguments: int) -> None:
    query = one(f"SELECT count(*) FROM t GROUP BY {call}")
    for again in (query, one(render(query))):
        assert isinstance(again, Query)
        (window,) = again.tree.find_all(exp.Anonymous)
        assert window.name.lower() == "window"
        assert len(window.expressions) == arguments


def test_create_stream_is_read_whole() -> None:
    text = """CREATE STREAM IF NOT EXISTS public.Trades (ts TIMESTAMP NOT NULL, symbol TEXT DEFAULT 'x' || 'y', price REAL,
        WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
        WITH (connector = 'kafka', format = json, properties.retries = 5, 'dotted.name' = true)"""
    stream = one(text)
    assert isinstance(stream, CreateStream)
    assert stream.name == "public.trades"
    assert stream.if_not_exists
    assert [(column.name, column.type, column.not_null) for column in stream.columns] == [
        ("ts", "TIMESTAMP", True),
        ("symbol", "VARCHAR", False),
        ("price", "FLOAT", False),
    ]
    assert isinstance(stream.columns[1].default, exp.DPipe)
    assert stream.watermark is not None
    assert (stream.watermark.column, stream.watermark.delay_us) == ("ts", 10_000_000)
    assert stream.options == {"connector": "kafka", "format": "json", "properties.retries": "5", "dotted.name": "true"}
    assert text[stream.option_positions["format"] - 1 :].startswith("format")
    assert same(stream, one(render(stream)))


@pytest.mark.parametrize(
    "text",
    ["CREATE TABLE t (a INT PRIMARY KEY, b TEXT)", "CREATE TABLE t (a INT, b TEXT, PRIMARY KEY (a))",
     "CREATE TABLE t (a INT NOT NULL, b TEXT NULL, CONSTRAINT k PRIMARY KEY (a))"],
)  # fmt: skip
def test_a_primary_key_reads_alike_wherever_it_is_written(text: str) -> None:
    table = one(text)
    assert isinstance(table, CreateTable)
    assert table.primary_key == ("a",)
    assert [(column.primary_key, column.not_null) for column in table.columns] == [(True, True), (False, False)]
    name = "k" if "CONSTRAINT" in text else "t_pkey"
    assert render(table) == f"CREATE TABLE t (a INTEGER, b TEXT, CONSTRAINT {name} PRIMARY KEY (a))"


@pytest.mark.parametrize(
    ("written", "duckdb"),
    [
        ("INT", "INTEGER"), ("int4", "INTEGER"), ("INT8", "BIGINT"), ("smallint", "SMALLINT"), ("tinyint", "TINYINT"),
        ("DOUBLE PRECISION", "DOUBLE"), ("float", "DOUBLE"), ("float8", "DOUBLE"), ("real", "FLOAT"), ("float4", "FLOAT"),
        ("TEXT", "VARCHAR"), ("varchar(10)", "VARCHAR"), ("character varying(3)", "VARCHAR"), ("char(3)", "VARCHAR"),
        ("timestamp", "TIMESTAMP"), ("timestamp(3)", "TIMESTAMP"), ("timestamp without time zone", "TIMESTAMP"),
        ("timestamptz", "TIMESTAMP WITH TIME ZONE"), ("timestamp with time zone", "TIMESTAMP WITH TIME ZONE"),
        ("numeric(10,2)", "DECIMAL(10,2)"), ("numeric(5)", "DECIMAL(5,0)"), ("numeric", "DECIMAL(38,10)"),
        ("decimal(10, 2)[]", "DECIMAL(10,2)[]"), ("jsonb", "JSON"), ("json", "JSON"), ("bytea", "BLOB"), ("uuid", "UUID"),
        ("date", "DATE"), ("time", "TIME"), ("interval", "INTERVAL"), ("bool", "BOOLEAN"), ("INT[]", "INTEGER[]"),
        ("text[][]", "VARCHAR[][]"), ("int[3]", "INTEGER[3]"), ("STRUCT(a INT, b TEXT)", "STRUCT(a INTEGER, b VARCHAR)"),
        ("MAP(text, int)", "MAP(VARCHAR, INTEGER)"), ("hugeint", "HUGEINT"), ("ubigint", "UBIGINT"),
        ("timestamp_ns", "TIMESTAMP_NS"), ("pg_catalog.int4", "INTEGER"),
    ],
)  # fmt: skip
def test_a_column_type_gets_the_name_that_duckdb_prints(written: str, duckdb: str) -> None:
    table = one(f"CREATE TABLE t (a {written} NOT NULL)")
    assert isinstance(table, CreateTable)
    assert (table.columns[0].type, table.columns[0].not_null) == (duckdb, True)
    assert same(table, one(render(table)))


@pytest.mark.parametrize(
    ("default", "rendered"),
    [("1", "1"), ("-1", "-1"), ("NULL", "NULL"), ("now()", "NOW()"),
     ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"), ("(1 + 2) * 3", "(1 + 2) * 3"),
     ("a IS NOT NULL", "a IS NOT NULL"), ("CASE WHEN TRUE THEN 1 END", "CASE WHEN TRUE THEN 1 END")],
)  # fmt: skip
def test_a_default_ends_where_the_next_constraint_begins(default: str, rendered: str) -> None:
    table = one(f"CREATE TABLE t (a INT DEFAULT {default} NOT NULL, b INT)")
    assert isinstance(table, CreateTable)
    assert table.columns[0].default is not None
    assert table.columns[0].default.sql("postgres") == rendered
    assert table.columns[0].not_null


def test_create_materialized_view_holds_its_query() -> None:
    view = one("CREATE MATERIALIZED VIEW IF NOT EXISTS Hourly AS SELECT a FROM t EMIT CHANGES")
    assert isinstance(view, CreateMaterializedView)
    assert (view.name, view.if_not_exists, view.query.emit) == ("hourly", True, EmitMode.UPDATE)
    assert view.query.text == "SELECT a FROM t EMIT CHANGES"
    assert same(view, one(render(view)))


@pytest.mark.parametrize(
    ("values", "columns", "count"),
    [
        ("($1, $2)", (1, 2), 2),
        ("($2, $1)", (2, 1), 2),
        ("($1, $1)", (1, 1), 1),
        ("($1::int, ($2))", (1, 2), 2),
        ("($1::int + 1, $2)", None, 2),
        ("($1, 5)", None, 1),
        ("($1, $2), ($3, $4)", None, 4),
        ("(1, 2)", None, 0),
    ],
)
def test_parameters_of_an_insert_are_counted_and_placed(
    values: str, columns: tuple[int, ...] | None, count: int
) -> None:
    insert = one(f"INSERT INTO t (a, b) VALUES {values}")
    assert isinstance(insert, Insert)
    assert (insert.parameter_columns, insert.parameter_count) == (columns, count)


def test_the_largest_parameter_of_a_query_counts() -> None:
    assert [
        s.parameter_count for s in parse("SELECT $3, $1; UPDATE t SET a = $2", LIMITS) if isinstance(s, Query | Update)
    ] == [3, 2]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" ;; -- nothing\n /* at ; all */ ;", []),
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' ; SELECT $$;$$; SELECT \";\"", ["SELECT ';'", "SELECT $$;$$", 'SELECT ";"']),
        ("BEGIN;SHOW x;/* ; /* ; */ */COMMIT;", ["BEGIN", "SHOW x", "COMMIT"]),
        ("SELECT E'\\';' ; SELECT 'a''b;'", ["SELECT E'\\';'", "SELECT 'a''b;'"]),
        ("SELECT $a$;$b$;$a$; FETCH_ME", None),
    ],
)
def test_a_text_is_split_where_a_semicolon_means_one(text: str, parts: list[str] | None) -> None:
    if parts is None:
        with pytest.raises(Exception, match="FETCH_ME"):
            parse(text, LIMITS)
        return
    statements = parse(text, LIMITS)
    assert [statement.text for statement in statements] == parts
    assert [text[s.position : s.position + len(s.text)] for s in statements] == parts


def test_the_position_of_a_node_is_that_in_the_whole_text() -> None:
    text = "SELECT 1; /* é☃ */ SELECT price + unknown FROM trades"
    query = parse(text, LIMITS)[1]
    assert isinstance(query, Query)
    places = {column.name: position_of(column, query) for column in query.tree.find_all(exp.Column)}
    assert places == {"price": text.index("price") + 1, "unknown": text.index("unknown") + 1}
    assert position_of(exp.column("made"), query) is None


@pytest.mark.parametrize(
    "text", ["SELECT allowed lateness FROM t", "SELECT allowed lateness, 1 FROM t", "SELECT allowed FROM t"]
)
def test_a_column_may_be_named_as_the_clause_is(text: str) -> None:
    query = one(text)
    assert isinstance(query, Query)
    assert query.lateness is None
    assert [column.name for column in query.tree.find_all(exp.Column)] == ["allowed"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))", "TUMBLE(t, ts, INTERVAL '1' HOUR)"),
        ("TABLE(HOP(TABLE t, DESCRIPTOR(ts), ('5m'), '1h')) AS x", "HOP(t, ts, ('5m'), '1h') AS x"),
        ("TABLE(SESSION(TABLE public.t, DESCRIPTOR(ts), '1h'))", "SESSION(public.t, ts, '1h')"),
    ],
)
def test_flinks_window_tables_are_the_plain_ones(text: str, plain: str) -> None:
    tail = "GROUP BY window_start EMIT UPDATE"
    flink, ours = one(f"SELECT count(*) FROM {text} {tail}"), one(f"SELECT count(*) FROM {plain} {tail}")
    assert render(flink) == render(ours)


@pytest.mark.parametrize(
    "text",
    [
        'INSERT INTO ")" VALUES (0) RETURNING *',
        "INSERT INTO t VALUES (')') RETURNING a",
        "INSERT INTO t VALUES ('(') ON CONFLICT (a) DO NOTHING RETURNING a",
        "CREATE TABLE t (a TEXT DEFAULT '(', b TEXT DEFAULT ')')",
        'COPY t ("(") TO STDOUT',
    ],
)
def test_a_bracket_in_quotes_is_no_bracket(text: str) -> None:
    statement = parse(text, Limits())[0]
    assert same(parse(render(statement), Limits())[0], statement)
