"""SQL as BI tools write it, ad hoc: columns' names, their types and rows are those of PostgreSQL 15, and so are the errors."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer
from tests.server.test_adhoc import TABLES

Connection = psycopg.Connection[TupleRow]

# fmt: off
QUERIES = [
    "SELECT to_char(ts, 'YYYY-MM-DD HH24:MI:SS') FROM trades ORDER BY id",
    "SELECT to_char(ts, 'Mon DD, YYYY'), to_char(ts, 'Day'), to_char(ts, 'FMDay'), to_char(ts, "
    "'YYYY-\"W\"IW') FROM trades ORDER BY id LIMIT 1",
    "SELECT to_char(ts, 'YYYY-MM'), to_char(ts, 'Q'), to_char(ts, 'HH12:MI AM'), to_char(ts, 'DDD'), "
    "to_char(ts,'D'), to_char(ts,'YY') FROM trades ORDER BY id LIMIT 2",
    "SELECT date_part('year', ts), date_part('dow', ts), date_part('epoch', ts), date_part('week', ts), "
    "date_part('doy', ts), date_part('quarter', ts), date_part('isodow', ts) FROM trades ORDER BY id LIMIT 1",
    "SELECT extract(year from ts), extract(month from ts), extract(epoch from ts), extract(dow from ts), "
    "extract(hour from ts), extract(second from ts) FROM trades ORDER BY id LIMIT 1",
    "SELECT extract(epoch from (ts - TIMESTAMP '2024-01-01')) FROM trades ORDER BY id LIMIT 2",
    "SELECT extract(day from (TIMESTAMP '2024-03-01' - TIMESTAMP '2024-01-01'))",
    "SELECT date_trunc('day', ts), date_trunc('week', ts), date_trunc('month', ts), date_trunc('quarter', ts), "
    "date_trunc('year', ts), date_trunc('hour', ts) FROM trades ORDER BY id LIMIT 1",
    "SELECT * FROM generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-03', INTERVAL '1 day')",
    "SELECT d::date FROM generate_series('2024-01-01'::date, '2024-01-03'::date, '1 day'::interval) AS d",
    "SELECT generate_series(DATE '2024-01-01', DATE '2024-01-02', '12 hours')::timestamp",
    "SELECT g, count(t.id) FROM generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-02', '1 day') AS g LEFT "
    "JOIN trades t ON date_trunc('day', t.ts) = g GROUP BY g ORDER BY g",
    "SELECT array_agg(symbol ORDER BY id), array_agg(DISTINCT symbol ORDER BY symbol) FROM trades",
    "SELECT string_agg(symbol, ', ' ORDER BY id), string_agg(DISTINCT symbol, ',' ORDER BY symbol) FROM trades",
    "SELECT string_agg(id::text, '|' ORDER BY id DESC) FROM trades",
    "SELECT id FROM trades WHERE id = ANY(ARRAY[1,3]) ORDER BY id",
    "SELECT id FROM trades WHERE id = ANY('{1,3}') ORDER BY id",
    "SELECT id FROM trades WHERE id = ANY('{1,3}'::int[]) ORDER BY id",
    "SELECT id FROM trades WHERE symbol = ANY('{A,C}'::text[]) ORDER BY id",
    "SELECT id FROM trades WHERE id <> ALL(ARRAY[1,3]) ORDER BY id",
    "SELECT id FROM trades WHERE NOT (id = ANY(ARRAY[1,3])) ORDER BY id",
    "SELECT DISTINCT ON (symbol) symbol, price FROM trades ORDER BY symbol, price DESC",
    "SELECT ts + INTERVAL '1' DAY, ts - INTERVAL '2' HOUR, ts + INTERVAL '90 minutes', ts + 2 * INTERVAL '1 hour' "
    "FROM trades ORDER BY id LIMIT 1",
    "SELECT ts + '1 day'::interval, ts + (qty || ' days')::interval FROM trades ORDER BY id LIMIT 1",
    "SELECT ts AT TIME ZONE 'UTC', (ts AT TIME ZONE 'UTC') AT TIME ZONE 'America/New_York', ts AT TIME ZONE "
    "'Europe/Rome' FROM trades ORDER BY id LIMIT 1",
    "SELECT timezone('UTC', ts) FROM trades ORDER BY id LIMIT 1",
    "SELECT 1/2, 7/2, -7/2, 7 % -3, 7.0/2, 1/2.0, 5::bigint/2",
    "SELECT qty/2, id/2, id % 2, price/2, paid/3 FROM trades ORDER BY id",
    "SELECT id/0 FROM trades",
    "SELECT 1/0",
    "SELECT 1.0/0",
    "SELECT price/0 FROM trades",
    "SELECT 10 % 0",
    "SELECT id / nullif(qty - qty, 0) FROM trades ORDER BY id",
    "SELECT 'a' || NULL, 'a' || 1, concat('a', NULL, 1), concat_ws('-', 'a', NULL, 'b'), symbol || qty FROM trades "
    "ORDER BY id LIMIT 3",
    "SELECT qty FROM trades ORDER BY qty",
    "SELECT qty FROM trades ORDER BY qty DESC",
    "SELECT qty FROM trades ORDER BY qty DESC NULLS LAST",
    "SELECT row_number() OVER (ORDER BY qty DESC), qty FROM trades ORDER BY 1",
    "SELECT sum(id), sum(qty), avg(id), avg(qty), sum(price), avg(price), sum(paid), avg(paid), count(*) FROM "
    "trades",
    "SELECT avg(id) FROM trades GROUP BY symbol ORDER BY symbol",
    "SELECT round(avg(id), 2), avg(id)::float8, avg(id)::int FROM trades",
    "SELECT round(avg(price)::numeric, 2), round(price::numeric, 1), ceil(price), floor(paid), round(price) FROM "
    "trades GROUP BY price, paid ORDER BY 2",
    "SELECT sum(id) FILTER (WHERE ok), sum(CASE WHEN ok THEN 1 ELSE 0 END), count(*) FILTER (WHERE NOT ok), "
    "avg(CASE WHEN ok THEN 1.0 ELSE 0 END) FROM trades",
    "SELECT stddev(id), variance(id), stddev_pop(id), var_samp(price) FROM trades",
    "SELECT sum(sum(id)) OVER (), rank() OVER (ORDER BY sum(id) DESC), symbol FROM trades GROUP BY symbol ORDER BY "
    "symbol",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id), percentile_disc(0.5) WITHIN GROUP (ORDER BY id), "
    "mode() WITHIN GROUP (ORDER BY symbol) FROM trades",
    "SELECT length('abc'), char_length('abc'), octet_length('abc'), position('b' in 'abc'), strpos('abc','c'), "
    "ascii('a')",
    "SELECT now()::date = current_date, current_timestamp IS NOT NULL, localtimestamp IS NOT NULL, current_time IS "
    "NOT NULL",
    "SELECT CAST('2024-01-01' AS timestamp), '2024-01-01 10:00'::timestamp::date, '10:00'::time, DATE '2024-01-01' "
    "+ 1, DATE '2024-01-31' - DATE '2024-01-01'",
    "SELECT DATE '2024-01-01' + INTERVAL '1 month', DATE '2024-01-31' + INTERVAL '1 month', TIMESTAMP '2024-01-31' "
    "- INTERVAL '1 month'",
    "SELECT age(TIMESTAMP '2024-03-15', TIMESTAMP '2024-01-01'), justify_days(INTERVAL '35 days'), "
    "make_interval(days => 10)",
    "SELECT initcap('hello world'), translate('abc', 'ab', 'xy'), left('abc', -1), right('abc', 2), btrim(' x '), "
    "ltrim('xxa', 'x'), rtrim('axx', 'x'), overlay('abcdef' placing 'xx' from 2 for 3)",
    "SELECT 'abc' LIKE 'A%', 'abc' ILIKE 'A%', 'abc' SIMILAR TO '(a|b)%', 'a_c' LIKE 'a\\_c', 'abc' NOT LIKE '%z'",
    "SELECT coalesce(qty, 0), nullif(qty, 3), greatest(qty, 2, id), least(qty, 5) FROM trades ORDER BY id",
    "SELECT CASE qty WHEN 3 THEN 'three' WHEN 1 THEN 'one' ELSE 'other' END AS c, CASE WHEN qty > 1 THEN 1 END FROM "
    "trades ORDER BY id",
    "SELECT row_to_json(n) FROM names n ORDER BY symbol LIMIT 1",
    "SELECT json_agg(symbol ORDER BY symbol) FROM names",
    "SELECT md5('a'), encode('abc'::bytea, 'hex'), encode('abc'::bytea, 'base64'), decode('616263', 'hex')",
    "SELECT symbol, lag(price, 1, 0.0::float8) OVER (PARTITION BY symbol ORDER BY ts), lead(price) OVER (PARTITION "
    "BY symbol ORDER BY ts), first_value(price) OVER (PARTITION BY symbol ORDER BY ts), ntile(2) OVER (ORDER BY "
    "id), percent_rank() OVER (ORDER BY id), cume_dist() OVER (ORDER BY id), dense_rank() OVER (ORDER BY symbol) "
    "FROM trades ORDER BY id",
    "SELECT symbol, sum(qty) OVER (PARTITION BY symbol ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT "
    "ROW), avg(price) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW), count(*) OVER "
    "() FROM trades ORDER BY id",
    "SELECT CAST(date_trunc('month', ts) AS date) AS ts, SUM(paid) AS total FROM trades WHERE ts >= TIMESTAMP "
    "'2024-01-01 00:00:00.000000' AND ts < TIMESTAMP '2024-02-01' GROUP BY CAST(date_trunc('month', ts) AS date) "
    "ORDER BY CAST(date_trunc('month', ts) AS date) ASC",
    "SELECT \"public\".\"trades\".\"symbol\" AS \"symbol\", count(*) AS \"count\" FROM \"public\".\"trades\" GROUP BY "
    "\"public\".\"trades\".\"symbol\" ORDER BY \"public\".\"trades\".\"symbol\" ASC LIMIT 2000",
    "SELECT \"source\".\"symbol\" FROM (SELECT \"public\".\"trades\".\"symbol\" FROM \"public\".\"trades\") AS \"source\" "
    "WHERE (\"source\".\"symbol\" IS NOT NULL AND (\"source\".\"symbol\" <> '' OR \"source\".\"symbol\" IS NULL)) LIMIT 1",
    "SELECT floor(extract(epoch from ts)/60)*60 AS \"time\", count(*) FROM trades GROUP BY 1 ORDER BY 1",
    "SELECT ts AS \"time\", price AS value FROM trades WHERE ts BETWEEN '2024-01-01T00:00:00Z' AND "
    "'2024-01-01T01:00:00Z' ORDER BY 1",
    "SELECT (CAST(date_trunc('week', CAST((CAST(ts AS timestamp) + INTERVAL '1 day') AS timestamp)) AS timestamp) + "
    "INTERVAL '-1 day') AS w, count(*) FROM trades GROUP BY 1 ORDER BY 1",
    "SELECT TRUE AS \"_\" FROM \"public\".\"trades\" WHERE 1 <> 1 LIMIT 0",
    "SELECT count(DISTINCT (symbol, ok)) FROM trades",
    "SELECT symbol, ok, grouping(symbol, ok), count(*) FROM trades GROUP BY CUBE (symbol, ok) ORDER BY 1 NULLS "
    "LAST, 2 NULLS LAST, 3, 4",
    "SELECT * FROM trades t WHERE (t.symbol, t.id) IN (SELECT symbol, max(id) FROM trades GROUP BY symbol) ORDER BY "
    "id",
    "SELECT * FROM (VALUES (1,'a'),(2,'b')) AS t(x, y) WHERE x > 1",
    "WITH x AS MATERIALIZED (SELECT 1 AS a) SELECT * FROM x",
    "SELECT 1 UNION ALL SELECT 2 UNION SELECT 2 ORDER BY 1",
    "SELECT t.* FROM trades t, LATERAL (SELECT t.id * 2 AS d) l WHERE l.d > 4 ORDER BY id",
    "SELECT count(*) FROM trades TABLESAMPLE SYSTEM (100)",
    "SELECT id FROM trades OFFSET 1 LIMIT 1",
    "SELECT id FROM trades ORDER BY id OFFSET 2 ROWS FETCH NEXT 1 ROWS ONLY",
    "SELECT 5 BETWEEN 1 AND 10, 5 NOT BETWEEN SYMMETRIC 10 AND 1, 1 IN (1, NULL), NULL IS NULL, TRUE AND NULL, NOT "
    "NULL::boolean",
    "SELECT '1'::int + 1, '1.5'::numeric * 2, 1::text, 't'::boolean, 'yes'::bool, 1::boolean, true::int, 1.7::int, "
    "2.5::int, '  12 '::int",
    "SELECT 0.1 + 0.2, 0.1::float8 + 0.2::float8, 1e10, 123456789012::bigint * 10, 2147483647 + 1::bigint",
    "SELECT 2147483647 + 1",
    "SELECT bool_or(ok), every(ok), bit_or(id), bit_and(id) FROM trades",
    "SELECT max(ts), min(ts), max(ts) - min(ts), max(symbol) FROM trades",
    "SELECT count(qty), count(*), count(DISTINCT symbol) FROM trades",
    "SELECT EXISTS(SELECT 1 FROM trades), (SELECT count(*) FROM trades), ARRAY(SELECT id FROM trades ORDER BY id)",
    "SELECT gen_random_uuid() IS NOT NULL, random() < 1, clock_timestamp() IS NOT NULL, statement_timestamp() IS "
    "NOT NULL",
    "SELECT date_bin('15 minutes', ts, TIMESTAMP '2024-01-01') FROM trades ORDER BY id",
    "SELECT isfinite(ts), make_timestamp(2024,1,2,3,4,5.5), make_time(1,2,3), make_date(2024,1,2) FROM trades LIMIT "
    "1",
    "SELECT overlay('abc' placing 'z' from 1), format('%s-%s', 'a', 1), quote_literal('a''b'), repeat('a', 3), "
    "split_part('a-b', '-', 2), starts_with('abc', 'a'), string_to_array('a,b', ','), to_hex(255), reverse('ab'), "
    "chr(65)",
    "SELECT ts::date, count(*) FROM trades GROUP BY ts::date HAVING count(*) > 0 ORDER BY 1",
    "SELECT symbol AS s, count(*) FROM trades GROUP BY s ORDER BY s",
    "SELECT symbol FROM trades GROUP BY 1 HAVING sum(qty) IS NULL ORDER BY 1",
    "SELECT sum(id) AS total FROM trades ORDER BY total DESC NULLS LAST LIMIT 10",
    "SELECT interval '1 day' * 2, interval '1 hour' / 2, interval '1 day' > interval '23 hours', extract(epoch from "
    "interval '1 day'), -interval '1 day'",
    "SELECT current_date - 7 < current_date, (current_date - interval '7 days')::date = current_date - 7",
    "SELECT upper(symbol) || lower(symbol), trim(both 'x' from 'xax'), trim(leading from '  a'), substring('abc' "
    "from 2), substring('abcdef', 2, 3), substring('foobar' from 'o.b')",
    "SELECT to_char(ts, 'Mon DD, YYYY') AS m FROM trades WHERE to_char(ts, 'YYYY') = '2024' GROUP BY 1 ORDER BY 1",
    "SELECT sum(id)/count(*), sum(qty)/count(qty), (sum(id)::float8)/count(*) FROM trades",
    "SELECT symbol, 100 * count(*) / (SELECT count(*) FROM trades) FROM trades GROUP BY symbol ORDER BY 1",
    "SELECT x / 2 FROM (SELECT id + 1 AS x FROM trades) s ORDER BY 1",
    "WITH s AS (SELECT count(*) AS n FROM trades) SELECT n / 2, n % 2 FROM s",
    "SELECT 7 / CASE WHEN id = 2 THEN 0 ELSE id END FROM trades WHERE id <> 2 ORDER BY id",
    "SELECT CASE WHEN id = 0 THEN 0 ELSE 10 / id END FROM trades ORDER BY id",
    "SELECT every(ok) FILTER (WHERE id < 2), json_agg(id ORDER BY id) FILTER (WHERE id < 3) FROM trades",
    "SELECT symbol FROM names WHERE symbol LIKE 'A' OR name LIKE '%\\_%' OR name LIKE 'Al%' ORDER BY 1",
    "SELECT sum(id), sum(qty), avg(price), max(ts) FROM trades WHERE symbol IN ('A', 'B') AND ts >= '2024-01-01' "
    "AND ts < '2024-01-02'::timestamp + interval '1' day",
    "SELECT regexp_replace('abc123', '[0-9]+', ''), regexp_replace('a1b2', '[0-9]', '', 'g'), 'abc' ~ 'B', 'abc' ~* "
    "'B', 'abc' !~ 'x', 'abc' !~* 'X', regexp_split_to_array('a,b', ',')",
    "SELECT array_length(ARRAY[1,2,3], 1), cardinality(ARRAY[1,2]), array_append(ARRAY[1], 2), "
    "array_to_string(ARRAY[1,2,NULL], ','), ARRAY[1,2] @> ARRAY[1], 2 = ANY(ARRAY[1,2])",
    "SELECT array_upper(ARRAY[1,2], 1), array_lower(ARRAY[1,2], 1), array_length(ARRAY[]::int[], 1), "
    "array_length(ARRAY[1], 2)",
    "SELECT to_char(date '2024-01-05', 'DD/MM/YYYY'), to_char(ts, 'FMMonth'), to_char(ts, 'MONTH'), to_char(ts, "
    "'yyyy-mm-dd'), to_char(ts, 'HH24\"h\"MI\"m\"') FROM trades ORDER BY id LIMIT 1",
    "SELECT json_build_object('a', 1, 'b', 'x'), '{\"a\": {\"b\": [1,2]}}'::json->'a'->'b'->>0, "
    "json_array_length('[1,2]'::json), '{\"a\":{\"b\":1}}'::json #>> '{a,b}'",
    "SELECT sum(id::smallint), sum(id::bigint), avg(id::bigint), max(id), min(id::smallint) FROM trades",
    "SELECT to_date('2024-01-15', 'YYYY-MM-DD'), to_timestamp(1700000000)",
    "SELECT json_array_length('[1,2]'::json), to_json(ARRAY[1,2])",
]
# fmt: on
# What is not built, and says so: the query, the error's SQLSTATE, words of its message or hint.
REFUSED = [
    ("SELECT to_char(1234.5, '9B9')", "0A000", 'pattern "B"'),
    ("SELECT to_char(interval '90 minutes', 'Day')", "0A000", 'no part "Day"'),
    ("SELECT B'101'", "0A000", "bit strings"),
    ("SELECT to_char(ts, symbol) FROM trades", "0A000", "a pattern that is written out"),
    ("SELECT symbol SIMILAR TO symbol FROM trades", "0A000", "a pattern that is written out"),
    ("SELECT jsonb_nosuch('{}', '{a}', '1')", "42883", "jsonb_nosuch"),
]


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        for statement in TABLES:
            opened.execute(statement)
        yield opened


@pytest.fixture(scope="module")
def postgres(postgres_port: int) -> Iterator[Connection]:
    dsn = f"postgresql://tester@127.0.0.1:{postgres_port}/postgres"
    with psycopg.connect(dsn, autocommit=True) as opened:
        opened.execute("CREATE DATABASE bi")
    with psycopg.connect(dsn.replace("/postgres", "/bi"), autocommit=True) as opened:
        for statement in TABLES:
            opened.execute(statement)
        yield opened


def answer(connection: Connection, query: str) -> Any:
    try:
        cursor = connection.execute(query.encode())
    except psycopg.Error as error:
        return error.sqlstate
    described = [(column.name, column.type_code) for column in cursor.description or ()]
    return described, [tuple(map(comparable, row)) for row in cursor]


def comparable(value: object) -> object:
    """A numeric has more digits there than here: ten of them are compared."""
    return f"{float(value):.10g}" if isinstance(value, Decimal | float) else value


@pytest.mark.postgres
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_answers_as_on_postgres(connection: Connection, postgres: Connection, query: str):
    assert answer(connection, query) == answer(postgres, query)


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("SELECT 7 / %s, %s / 2, id / %s FROM trades ORDER BY id", [2, 7, 2]),
        ("SELECT id / %s FROM trades", [0]),
        ("SELECT price / %s, id / %s::float8 FROM trades ORDER BY id", [2, 2]),
        ("SELECT id FROM trades WHERE symbol LIKE %s AND id = ANY(%s) ORDER BY id", ["A%", [1, 3]]),
        ("SELECT relname, %s::regclass FROM pg_class WHERE oid = %s::regclass", ["trades", "names"]),
    ],
)
def test_a_query_with_parameters_answers_as_on_postgres(
    connection: Connection, postgres: Connection, query: str, values: list[object]
):
    def told(asked: Connection) -> Any:
        try:
            cursor = asked.execute(query.encode(), values)
        except psycopg.Error as error:
            return error.sqlstate
        return [c.type_code for c in cursor.description or ()], [tuple(map(comparable, row)) for row in cursor]

    assert told(connection) == told(postgres)


@pytest.mark.parametrize(("query", "sqlstate", "words"), REFUSED)
def test_what_is_not_built_is_refused_with_a_reason(connection: Connection, query: str, sqlstate: str, words: str):
    with pytest.raises(psycopg.Error) as refused:
        connection.execute(query.encode())
    assert refused.value.sqlstate == sqlstate
    assert words in f"{refused.value.diag.message_primary} {refused.value.diag.message_hint}"
