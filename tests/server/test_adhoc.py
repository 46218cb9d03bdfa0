"""Ad-hoc SELECTs: columns are called as PostgreSQL calls them, and rows are what PostgreSQL gives to the same text."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer

Connection = psycopg.Connection[TupleRow]

TABLES = (
    "CREATE TABLE trades (id INT, ts TIMESTAMP, symbol TEXT, price DOUBLE PRECISION, qty INT, paid NUMERIC(12,2), ok BOOLEAN)",
    "CREATE TABLE names (symbol TEXT, name TEXT)",
    "INSERT INTO trades VALUES (1, '2024-01-01 00:00:10', 'A', 10.5, 3, 31.50, true),"
    " (2, '2024-01-01 00:00:50', 'B', 20, 1, 20, false), (3, '2024-01-01 00:01:05', 'A', 11, NULL, NULL, NULL),"
    " (4, '2024-01-01 00:07:00', 'C', 5.25, 10, 52.50, true), (5, '2024-01-02 12:00:00', 'B', 21, 2, 42, true)",
    "INSERT INTO names VALUES ('A', 'Alpha'), ('B', 'Beta'), ('D', 'Delta')",
)

# Both servers must agree on names, types and rows.
QUERIES = [
    # names
    "SELECT count(*), sum(qty), avg(price), min(ts), max(symbol) FROM trades",
    "SELECT 1, 'x', NULL, 1 + 1, -qty, qty + 1 AS more, NOT ok, ok IS NULL FROM trades ORDER BY id LIMIT 1",
    "SELECT price::int, qty::text, '1'::int, CAST('2' AS bigint), '2024-01-01'::date, TIMESTAMP '2024-01-01', true, false"
    " FROM trades ORDER BY id LIMIT 1",
    "SELECT 1::numeric(10,2), '1'::smallint, 1::real, 1::double precision, 'a'::varchar(10), '{1,2}'::int[]",
    "SELECT CASE WHEN ok THEN symbol ELSE 'none' END, CASE WHEN ok THEN 1 ELSE qty END, CASE WHEN ok THEN 1 END FROM trades"
    " ORDER BY id",
    "SELECT coalesce(qty, 0), nullif(qty, 3), greatest(qty, 2), least(qty, 2) FROM trades ORDER BY id",
    "SELECT lower(symbol), upper(symbol), length(name), substr(name, 2), substring(name FROM 2 FOR 2), trim(name),"
    " position('a' IN name), left(name, 2), right(name, 2), replace(name, 'a', 'o') FROM names ORDER BY symbol",
    "SELECT extract(year FROM ts)::int, date_trunc('minute', ts), EXTRACT(minute FROM ts)::int AS m FROM trades ORDER BY id",
    "SELECT (SELECT max(price) FROM trades), EXISTS (SELECT 1 FROM names), ARRAY[1, 2], 1 IN (1, 2)",
    "SELECT count(DISTINCT symbol), count(*) FILTER (WHERE ok), string_agg(symbol, ',' ORDER BY id), bool_and(ok),"
    " array_agg(id ORDER BY id DESC) FROM trades",
    "SELECT t.id, t.symbol, n.* FROM trades t JOIN names n ON t.symbol = n.symbol ORDER BY t.id",
    "SELECT *, id * 2 FROM names, trades WHERE names.symbol = trades.symbol ORDER BY id LIMIT 1",
    "SELECT count FROM (SELECT count(*) FROM trades) AS s",
    'SELECT "?column?" FROM (SELECT 1 + 1) AS s',
    "WITH s AS (SELECT max(price), symbol FROM trades GROUP BY symbol) SELECT max FROM s ORDER BY symbol",
    "SELECT column1, column2 FROM (VALUES (1, 'a'), (2, 'b')) AS v ORDER BY 1",
    "VALUES (1, 'a'), (2, NULL)",
    "SELECT * FROM generate_series(1, 3)",
    "SELECT * FROM generate_series(1, 3) AS g",
    "SELECT i * 2 FROM generate_series(1, 5, 2) AS g(i)",
    "SELECT * FROM unnest(ARRAY[3, 1, 2]) AS u ORDER BY 1",
    "SELECT unnest(ARRAY[1, 2]), generate_series(1, 2)",
    # joins and sets
    "SELECT t.id, n.name FROM trades t LEFT JOIN names n USING (symbol) ORDER BY t.id",
    "SELECT n.name, t.id FROM trades t RIGHT JOIN names n ON n.symbol = t.symbol ORDER BY n.name, t.id",
    "SELECT coalesce(t.symbol, n.symbol) AS s FROM trades t FULL JOIN names n ON n.symbol = t.symbol GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM trades CROSS JOIN names",
    "SELECT symbol FROM trades UNION SELECT symbol FROM names ORDER BY symbol",
    "SELECT symbol FROM trades EXCEPT SELECT symbol FROM names",
    "SELECT symbol FROM trades INTERSECT SELECT symbol FROM names ORDER BY 1",
    "SELECT symbol FROM trades UNION ALL SELECT name FROM names ORDER BY 1",
    "SELECT DISTINCT symbol FROM trades ORDER BY symbol DESC",
    "SELECT DISTINCT ON (symbol) symbol, id FROM trades ORDER BY symbol, id DESC",
    "SELECT n.name, l.top FROM names n CROSS JOIN LATERAL (SELECT max(price) AS top FROM trades t WHERE t.symbol = n.symbol) l"
    " ORDER BY 1",
    # subqueries and CTEs
    "SELECT id FROM trades t WHERE price > (SELECT avg(price) FROM trades u WHERE u.symbol = t.symbol) ORDER BY id",
    "SELECT id FROM trades WHERE symbol IN (SELECT symbol FROM names) AND id NOT IN (1) ORDER BY id",
    "SELECT id FROM trades t WHERE EXISTS (SELECT 1 FROM names n WHERE n.symbol = t.symbol) ORDER BY id",
    "SELECT id FROM trades WHERE qty > ALL (SELECT 1) ORDER BY id",
    "SELECT id FROM trades WHERE symbol = ANY (ARRAY['A', 'C']) ORDER BY id",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r",
    "WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT x, y FROM a, b",
    # grouping, windows, order
    "SELECT symbol, count(*) AS n FROM trades GROUP BY symbol HAVING count(*) > 1 ORDER BY n DESC, symbol",
    "SELECT symbol, ok, count(*) FROM trades GROUP BY GROUPING SETS ((symbol), (ok), ()) ORDER BY 1 NULLS LAST,"
    " 2 NULLS LAST, 3",
    "SELECT symbol, sum(qty) FROM trades GROUP BY ROLLUP (symbol) ORDER BY symbol NULLS LAST",
    "SELECT id, row_number() OVER (PARTITION BY symbol ORDER BY id), rank() OVER (ORDER BY price DESC),"
    " sum(qty) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW),"
    " lag(price) OVER w FROM trades WINDOW w AS (ORDER BY id)"
    " ORDER BY id",
    "SELECT id FROM trades ORDER BY qty NULLS FIRST, id DESC LIMIT 3 OFFSET 1",
    "SELECT id FROM trades ORDER BY qty DESC, id",
    "SELECT id FROM trades ORDER BY qty, id",
    "SELECT id FROM trades ORDER BY 1 DESC FETCH FIRST 2 ROWS ONLY",
    "SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY price) FROM trades GROUP BY symbol ORDER BY symbol",
    "SELECT corr(price, qty) IS NULL, round(stddev(price)::numeric, 4), round(var_pop(price)::numeric, 4) FROM trades",
    # expressions
    "SELECT id FROM trades WHERE ts BETWEEN '2024-01-01 00:00:30' AND '2024-01-01 00:10:00' ORDER BY id",
    "SELECT id FROM trades WHERE symbol LIKE 'A%' OR symbol ILIKE 'b' OR symbol ~ '^C' ORDER BY id",
    "SELECT ts + INTERVAL '1 day 2 hours', ts - INTERVAL '30 minutes', ts::date, ts::time,"
    " date '2024-03-01' - date '2024-02-01'"
    " FROM trades ORDER BY id",
    "SELECT ts - TIMESTAMP '2024-01-01' FROM trades ORDER BY id",
    "SELECT round(price + 0.01), floor(price), ceil(price), abs(-price), sqrt(price * price), power(2, 3), mod(7, 3) AS mod,"
    " 7 % 3, sign(-2.5)"
    " FROM trades ORDER BY id",
    "SELECT round(2.5), round(3.5), round(-2.5), round(1.005::numeric, 2), trunc(1.99), 2 ^ 3, 1e3, .5, 1.10 + 2.205",
    "SELECT qty IS DISTINCT FROM 3, qty IS NOT DISTINCT FROM NULL, ok IS TRUE, ok IS NOT FALSE FROM trades ORDER BY id",
    "SELECT 'a' || 1 || NULL, 'x' || 'y', concat('a', NULL, 1), E'a\\tb', 'it''s', $$dollar$$, U&'\\0041'",
    "SELECT split_part('a,b,c', ',', 2), strpos('abc', 'c'), reverse('abc'), repeat('ab', 2), lpad('7', 3, '0'),"
    " ascii('A'), chr(66)",
    "SELECT paid * 2, paid / 2, sum(paid) OVER (), paid::int FROM trades ORDER BY id",
    "SELECT sum(paid), avg(paid), max(paid), sum(price), sum(id) FROM trades",
    "SELECT ARRAY[1, 2] || ARRAY[3], (ARRAY[5, 6])[2], array_length(ARRAY[1, 2, 3], 1), cardinality(ARRAY[1])",
    "SELECT count(*) FROM trades WHERE false",
    "SELECT sum(qty), max(qty) FROM trades WHERE false",
    "SELECT symbol, count(*) FROM trades WHERE false GROUP BY symbol",
    "SELECT 1 WHERE NULL",
    "SELECT current_database() IS NOT NULL, current_user, session_user, now() IS NOT NULL, current_date > '2020-01-01'",
    "SELECT to_timestamp(0), make_date(2024, 2, 29), age(TIMESTAMP '2024-03-01', TIMESTAMP '2024-02-01')",
    "SELECT '1 year 2 months 3 days 04:05:06.5'::interval, INTERVAL '90 minutes', '-1 day'::interval",
    "SELECT 'infinity'::timestamp::text, 'NaN'::float8, '-Infinity'::float8, 1e-10::float8,"
    " 123456789012345680::float8, 0.1::float4",
    "SELECT '\\xdeadbeef'::bytea, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '[1, 2]'::json->0,"
    " '{\"a\": {\"b\": 1}}'::json->'a'->>'b'",
]  # fmt: skip


def loaded(connection: Connection) -> None:
    for statement in TABLES:
        connection.execute(statement)


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        loaded(opened)
        yield opened


@pytest.fixture(scope="module")
def postgres(postgres_port: int) -> Iterator[Connection]:
    dsn = f"postgresql://tester@127.0.0.1:{postgres_port}/postgres"
    with psycopg.connect(dsn, autocommit=True) as opened:
        loaded(opened)
        yield opened


def shown(connection: Connection, query: str) -> tuple[list[str], list[Any]]:
    cursor = connection.execute(query)
    assert cursor.description is not None
    return [column.name for column in cursor.description], [tuple(map(comparable, row)) for row in cursor]


def comparable(value: object) -> object:
    """Numbers are compared by value: a sum of integers is a bigint there and a numeric here."""
    if isinstance(value, Decimal | float | int) and not isinstance(value, bool):
        return "NaN" if math.isnan(value) else float(f"{value:.12g}")
    return value


@pytest.mark.postgres
@pytest.mark.parametrize("query", QUERIES)
def test_names_and_rows_are_what_postgres_gives(connection: Connection, postgres: Connection, query: str):
    assert shown(connection, query) == shown(postgres, query)


def test_columns_without_a_name_get_one(connection: Connection):
    query = "SELECT count(*), 1, price::text, '1'::int, CASE WHEN ok THEN 1 END, lag(id) OVER w FROM trades"
    cursor = connection.execute(query + " GROUP BY id, price, ok WINDOW w AS (ORDER BY id)")
    assert [column.name for column in cursor.description or ()] == ["count", "?column?", "price", "int4", "case", "lag"]


# ------------------------------------------------------------------------------------- what PostgreSQL does not have


@pytest.fixture(scope="module")
def stream(connection: Connection) -> Connection:
    """The session, with a stream of one row each 20 seconds for 3 minutes, and a view over it."""
    connection.execute("CREATE STREAM ticks (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts)")
    connection.execute(
        "INSERT INTO ticks SELECT TIMESTAMP '2024-01-01' + i * INTERVAL '20 seconds',"
        " CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, i FROM range(9) AS r(i)"
    )
    connection.execute(
        "CREATE MATERIALIZED VIEW per_minute AS SELECT window_start, k, sum(x) AS total FROM ticks"
        " GROUP BY window(ts, '1 minute'), k EMIT UPDATE"
    )
    return connection


def test_a_tumbling_window_groups_an_ad_hoc_query(stream: Connection):
    rows = stream.execute(
        "SELECT window_start::time::text, window_end - window_start, sum(x) FROM ticks"
        " WHERE k = %s GROUP BY window(ts, '1 minute') HAVING count(*) > 1 ORDER BY window_start DESC",
        ["a"],
    ).fetchall()
    assert rows == [("00:02:00", dt.timedelta(minutes=1), 14), ("00:00:00", dt.timedelta(minutes=1), 2)]


def test_a_hopping_window_counts_a_row_in_each_of_its_windows(stream: Connection):
    rows = stream.execute(
        "WITH t AS (SELECT * FROM ticks WHERE x < 4) SELECT window_start::time::text AS s, count(*) FROM t"
        " GROUP BY window(ts, '1 minute', '30 seconds'), window_end ORDER BY 1"
    ).fetchall()
    assert rows == [("00:00:00", 3), ("00:00:30", 2), ("00:01:00", 1), ("23:59:30", 2)]


def test_a_view_and_a_stream_are_joined_like_tables(stream: Connection):
    rows = stream.execute(
        "SELECT v.k, max(v.total), count(*) FROM per_minute v JOIN ticks t ON t.k = v.k GROUP BY v.k ORDER BY v.k"
    ).fetchall()
    assert rows == [("a", 14, 15), ("b", 8, 12)]


def test_the_servers_own_relations_are_read_like_tables(stream: Connection):
    assert stream.execute("SELECT name, rows_in FROM streamsql.streams WHERE name = 'ticks'").fetchall() == [
        ("ticks", 9)
    ]
    assert stream.execute("SELECT name, rows_in, status FROM streamsql.views").fetchall() == [
        ("per_minute", 9, "running")
    ]
    assert stream.execute("SELECT count(*) FROM streamsql.late_rows").fetchone() == (0,)
    marks = "SELECT watermark FROM streamsql.watermarks WHERE name = 'ticks'"
    assert stream.execute(marks).fetchone() == (dt.datetime(2024, 1, 1, 0, 2, 40),)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT window(ts, '1h') FROM ticks", "window() stands in GROUP BY only"),
        ("SELECT count(*) FROM ticks GROUP BY window(k, '1h')", "takes a timestamp"),
        ("SELECT count(*) FROM ticks GROUP BY window(ts)", "window() takes 2 or 3 arguments"),
        ("SELECT count(*) FROM ticks GROUP BY window(ts, '1 month', '1 day')", "cannot be mixed"),
        ("SELECT count(*) FROM ticks GROUP BY window(ts, '1h', '2h')", "slide is larger than its size"),
        ("SELECT count(*) FROM ticks GROUP BY window(ts, '1h'), window(ts, '2h')", "one window"),
    ],
)
def test_a_wrong_window_is_refused_with_a_reason(stream: Connection, query: str, error: str):
    with pytest.raises(psycopg.Error) as refused:
        stream.execute(query)
    assert error in str(refused.value)


def test_show_describe_and_explain_tell_what_there_is(stream: Connection):
    assert [row[0] for row in stream.execute("SHOW STREAMS")] == ["ticks"]
    assert [row[0] for row in stream.execute("SHOW TABLES")] == ["names", "trades"]
    assert [row[:3] for row in stream.execute("SHOW VIEWS")] == [("per_minute", "ticks", "update")]
    assert [row[:4] for row in stream.execute("SHOW QUERIES")] == [
        ("per_minute", "materialized view", "ticks", "update")
    ]
    described = stream.execute("DESCRIBE trades").fetchall()
    assert [row[:3] for row in described[1:4]] == [
        ("ts", "timestamp without time zone", "yes"), ("symbol", "text", "yes"), ("price", "double precision", "yes"),
    ]  # fmt: skip
    assert [row[:2] for row in stream.execute("DESCRIBE per_minute")][1] == ("k", "text")
    live = "\n".join(row[0] for row in stream.execute("EXPLAIN SELECT k, count(*) FROM ticks GROUP BY k EMIT UPDATE"))
    assert "Scan ticks" in live
    ad_hoc = "\n".join(row[0] for row in stream.execute("EXPLAIN SELECT * FROM ticks WHERE x > 1"))
    assert ad_hoc.startswith("ad hoc: answered once by DuckDB from the current epoch")
    assert "_rows" not in ad_hoc


def test_the_boxes_of_a_plan_are_straight_and_have_the_names_that_people_gave(connection: Connection):
    connection.execute("CREATE TABLE short (a INT PRIMARY KEY, b TEXT)")
    connection.execute("INSERT INTO short VALUES (1, 'x'), (2, 'y')")
    connection.execute("CREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS n FROM short GROUP BY b EMIT UPDATE")
    connection.execute("ALTER TABLE short RENAME TO the_longest_name_of_all")
    connection.execute('ALTER MATERIALIZED VIEW v RENAME TO "Longer View Name"')
    query = 'SELECT t.* FROM the_longest_name_of_all AS t JOIN "Longer View Name" AS v USING (b)'
    for explain in ("EXPLAIN", "EXPLAIN ANALYZE"):
        lines = [row[0] for row in connection.execute(f"{explain} {query}".encode())][1:]
        text = "\n".join(lines)
        assert {"Table: the_longest_name_of_all", "Table: Longer View Name"} <= {
            c.strip() for c in re.split("[│\n]", text)
        }, text
        assert not re.search("_rows|_results|short", text), text
        for above, line in itertools.pairwise(lines):  # what begins or goes on above a line goes on or ends in it
            for place, mark in enumerate(above):
                assert mark not in "╭╮│" or line[place : place + 1] in set("│╰╯┴├"), text
    (row,) = connection.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchall()
    assert "the_longest_name_of_all" in str(row)
    assert not re.search("_rows|_results", str(row))


def test_defaults_fill_what_an_insert_leaves_out(connection: Connection):
    connection.execute(
        "CREATE TABLE filled (a INT DEFAULT 7, b TEXT DEFAULT 'x' || 'y', c TIMESTAMPTZ DEFAULT now(), d INT,"
        " e INT[] DEFAULT '{1,2}')"
    )
    connection.execute("INSERT INTO filled DEFAULT VALUES")
    connection.execute("INSERT INTO filled (d) VALUES (1), (2)")
    connection.execute("INSERT INTO filled (d, a) SELECT 3, 8")
    connection.execute("INSERT INTO filled (d) VALUES (%s)", [4])
    connection.execute("INSERT INTO filled VALUES (NULL, NULL), (DEFAULT, 'z')")
    rows = connection.execute(
        "SELECT a, b, c IS NOT NULL, d, e FROM filled ORDER BY d NULLS FIRST, a NULLS LAST, b"
    ).fetchall()
    assert rows == [
        (7, "xy", True, None, [1, 2]), (7, "z", True, None, [1, 2]), (None, None, True, None, [1, 2]),
        (7, "xy", True, 1, [1, 2]),
        (7, "xy", True, 2, [1, 2]), (8, "xy", True, 3, [1, 2]), (7, "xy", True, 4, [1, 2]),
    ]  # fmt: skip


def test_literals_are_read_by_the_type_of_their_column(connection: Connection):
    connection.execute(
        "CREATE TABLE literals (a INT, b INT[], c BYTEA, d INTERVAL, e BOOLEAN, f NUMERIC(10,2), g TEXT, h DATE)"
    )
    connection.execute(
        "INSERT INTO literals VALUES (1.5, '{3,NULL}', '\\x00ff', '1 day 02:00', 'yes', '1e2', 12, '20240203'),"
        " (-1e2, NULL, '\\\\', 'P1M', true, 2.345, 'x', '2024-02-03')"
    )
    assert connection.execute("SELECT a, b, c, d, e, f, g, h FROM literals ORDER BY a").fetchall() == [
        (-100, None, b"\\", dt.timedelta(days=30), True, Decimal("2.35"), "x", dt.date(2024, 2, 3)),
        (2, [3, None], b"\x00\xff", dt.timedelta(days=1, hours=2), True, Decimal("100.00"), "12", dt.date(2024, 2, 3)),
    ]
    for values, error in (
        ("('x')", psycopg.errors.InvalidTextRepresentation), ("(99999999999)", psycopg.errors.NumericValueOutOfRange),
        ("(true)", psycopg.errors.DatatypeMismatch), ("(1, '{x}')", psycopg.errors.InvalidTextRepresentation),
        ("(1, NULL, NULL, NULL, 1)", psycopg.errors.DatatypeMismatch),
        ("(1, NULL, NULL, NULL, NULL, 123456789.5)", psycopg.errors.NumericValueOutOfRange),
    ):  # fmt: skip
        with pytest.raises(error):
            connection.execute(f"INSERT INTO literals VALUES {values}")


def test_update_and_delete_change_a_table_and_refuse_a_stream(stream: Connection):
    stream.execute("CREATE TABLE changed (k TEXT PRIMARY KEY, n INT NOT NULL)")
    stream.execute("INSERT INTO changed VALUES ('a', 1), ('b', 2), ('c', 3)")
    assert stream.execute("UPDATE changed SET n = n * %s WHERE k <> %s", [10, "a"]).rowcount == 2
    assert stream.execute("UPDATE changed AS c SET n = t.qty FROM trades t WHERE t.id = c.n").rowcount == 1
    assert stream.execute("DELETE FROM changed WHERE n IN (SELECT 20)").rowcount == 1
    assert stream.execute("SELECT * FROM changed ORDER BY k").fetchall() == [("a", 3), ("c", 30)]
    for statement, error in (
        ("UPDATE ticks SET x = 1", psycopg.errors.WrongObjectType),
        ("DELETE FROM per_minute", psycopg.errors.WrongObjectType),
        ("UPDATE changed SET n = NULL", psycopg.errors.NotNullViolation),
        ("INSERT INTO changed VALUES ('a', 1)", psycopg.errors.UniqueViolation),
        ("UPDATE changed SET n = 'x'", psycopg.errors.InvalidTextRepresentation),
        ("INSERT INTO per_minute VALUES (1)", psycopg.errors.WrongObjectType),
    ):
        with pytest.raises(error):
            stream.execute(statement)
        stream.execute("ROLLBACK")
    assert stream.execute("SELECT * FROM changed ORDER BY k").fetchall() == [("a", 3), ("c", 30)]


def test_an_object_with_dependents_is_dropped_with_cascade_only(connection: Connection):
    connection.execute("CREATE STREAM base (x INT)")
    connection.execute("CREATE MATERIALIZED VIEW above AS SELECT count(*) FROM base EMIT UPDATE")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as refused:
        connection.execute("DROP STREAM base")
    assert refused.value.diag.message_detail == "materialized view above depends on stream base"
    with pytest.raises(psycopg.errors.WrongObjectType):
        connection.execute("DROP TABLE base")
    connection.execute("DROP STREAM base CASCADE")
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM above")
