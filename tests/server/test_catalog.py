"""The catalog itself: the same relations and columns as PostgreSQL's, OIDs that last, sessions, names and definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from streamsql.catalog.standard import STANDARD
from streamsql.plan.catalog_templates import TEMPLATES
from tests.running import RunningServer
from tests.server.test_catalog_queries import OBJECTS, OURS

Connection = psycopg.Connection[TupleRow]


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        for statement in (*OBJECTS, *OURS):
            opened.execute(statement)
        yield opened


@pytest.fixture(scope="module")
def postgres(postgres_port: int) -> Iterator[Connection]:
    with psycopg.connect(f"postgresql://tester@127.0.0.1:{postgres_port}/postgres", autocommit=True) as opened:
        yield opened


@pytest.mark.postgres
def test_every_relation_has_the_columns_that_it_has_on_postgres(connection: Connection, postgres: Connection):
    different = []
    for schema, name in STANDARD:
        query = f"SELECT * FROM {schema}.{name} LIMIT 0".encode()
        ours = [(c.name, c.type_code) for c in connection.execute(query).description or ()]
        theirs = [(c.name, c.type_code) for c in postgres.execute(query).description or ()]
        if ours != theirs:
            different.append((name, set(ours) ^ set(theirs)))
    # the one column whose type is the row of another relation
    assert [name for name, _ in different] == ["pg_statistic_ext_data"]


@pytest.mark.postgres
def test_every_relation_of_postgres_is_there(connection: Connection, postgres: Connection):
    query = (
        b"SELECT n.nspname, c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        b" WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'v')"
        b" AND c.relname NOT LIKE '\\_pg%'"
    )
    assert set(connection.execute(query)) == set(postgres.execute(query))


@pytest.mark.postgres
def test_types_and_functions_are_listed_as_on_postgres(connection: Connection, postgres: Connection):
    for query in (
        "SELECT oid, typname, typlen, typbyval, typtype, typcategory, typelem, typarray, typinput, typsend, typalign,"
        " typstorage, typcollation FROM pg_type WHERE typnamespace = 11 AND oid < 10000",
        "SELECT oid, proname, prokind, proretset, prorettype, proargtypes, provolatile FROM pg_proc"
        " WHERE pronamespace = 11 AND oid < 10000",
        "SELECT oid, format_type(oid, NULL), format_type(oid, -1), oid::regtype::text FROM pg_type"
        " WHERE typnamespace = 11 AND oid < 10000",
    ):
        ours, theirs = set(connection.execute(query.encode())), set(postgres.execute(query.encode()))
        assert ours
        assert ours <= theirs


def test_oids_are_the_same_after_a_restart(tmp_path: Path):
    query = "SELECT relname, oid, reltype FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"
    with RunningServer(tmp_path) as server:
        server.execute("CREATE TABLE dropped (a INT)", *OBJECTS, "DROP TABLE dropped", *OURS)
        before = server.execute(query)
        server.stop()
        server.start()
        assert server.execute(query) == before
        assert len({oid for row in before for oid in row[1:] if oid}) == 2 * len(before) - 2  # indexes have no row type


def test_a_session_sees_itself_and_others(server: RunningServer, connection: Connection):
    with server.session(application_name="other") as other:
        other.execute("BEGIN")
        rows = connection.execute(
            "SELECT pid, usename, datname, state, query FROM pg_stat_activity WHERE application_name = 'other'"
        ).fetchall()
        assert rows == [(other.info.backend_pid, "tester", "streamsql", "idle in transaction", "BEGIN")]
        own = connection.execute("SELECT state FROM pg_stat_activity WHERE pid = pg_backend_pid()").fetchall()
        assert own == [("active",)]
    assert connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'other'").fetchone() == (
        0,
    )


def test_the_database_has_two_names_and_no_other(server: RunningServer):
    for name in ("streamsql", "postgres"):
        with psycopg.connect(host="127.0.0.1", port=server.port, user="tester", dbname=name) as opened:
            query = "SELECT current_database(), current_catalog, datname FROM pg_database WHERE datname = current_database()"
            assert opened.execute(query).fetchall() == [(name, name, name)]
            assert opened.execute(f"SELECT count(*) FROM {name}.public.games").fetchone() == (0,)
            rows = opened.execute("SELECT DISTINCT table_catalog FROM information_schema.tables").fetchall()
            assert rows == [(name,)]
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(host="127.0.0.1", port=server.port, user="tester", dbname="nosuch")
    assert 'database "nosuch" does not exist' in str(refused.value)


def test_a_change_of_the_catalog_is_seen_at_once(server: RunningServer):
    with server.session() as opened:
        query = "SELECT relname, relkind FROM pg_class WHERE relname LIKE 'seen%' ORDER BY 1"
        assert opened.execute(query).fetchall() == []
        opened.execute("CREATE TABLE seen (a INT PRIMARY KEY)")
        assert opened.execute(query).fetchall() == [("seen", "r"), ("seen_pkey", "i")]
        opened.execute("DROP TABLE seen")
        assert opened.execute(query).fetchall() == []


def test_definitions_and_names_are_told(connection: Connection):
    assert connection.execute("SELECT pg_get_viewdef('per_key'::regclass), definition FROM pg_matviews").fetchall() == [
        ("SELECT k, count(*) AS n FROM events GROUP BY k EMIT UPDATE;",) * 2
    ]
    assert connection.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), pg_get_indexdef(i.indexrelid, 2, true),"
        " indkey[0], indkey[1] FROM pg_index i WHERE i.indrelid = 'clubs'::regclass"
    ).fetchall() == [
        ("clubs_pkey", "CREATE UNIQUE INDEX clubs_pkey ON public.clubs USING btree (country, city)", "city", 1, 2)
    ]
    assert connection.execute(
        "SELECT 'public.games'::regclass::text, '\"games\"'::regclass = 'games'::regclass, to_regclass('nope'),"
        " to_regtype('double precision')::text, 'int4'::regtype::text, 'public'::regnamespace::text, 0::regclass::text,"
        " quote_ident('Select'), parse_ident('public.\"A b\"')"
    ).fetchall() == [("games", True, None, "double precision", "integer", "public", "-", '"Select"', ["public", "A b"])]
    for cast, error in (
        ("regclass", "UndefinedTable"),
        ("regtype", "UndefinedObject"),
        ("regproc", "UndefinedFunction"),
    ):
        with pytest.raises(getattr(psycopg.errors, error)):
            connection.execute(f"SELECT 'nope'::{cast}".encode())


def test_keys_are_found_as_jdbc_asks_for_them(connection: Connection):
    rows = connection.execute(
        "SELECT result.column_name, result.key_seq, result.pk_name FROM (SELECT a.attname AS column_name,"
        " (information_schema._pg_expandarray(i.indkey)).n AS key_seq, ci.relname AS pk_name,"
        " information_schema._pg_expandarray(i.indkey) AS keys, a.attnum AS a_attnum"
        " FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)"
        " JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid)"
        " JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid)"
        " WHERE true AND n.nspname = 'public' AND ct.relname = 'clubs' AND i.indisprimary) result"
        " WHERE result.a_attnum = (result.keys).x ORDER BY result.pk_name, result.key_seq"
    ).fetchall()
    assert rows == [("country", 1, "clubs_pkey"), ("city", 2, "clubs_pkey")]


def test_the_system_s_relations_are_read_only_and_hidden_names_stay_hidden(connection: Connection):
    for statement, error in (
        ("SELECT * FROM __catalog_names", psycopg.errors.UndefinedTable),
        ('SELECT * FROM "__catalog_pg_catalog_pg_class"', psycopg.errors.UndefinedTable),
        ("SELECT __name FROM pg_class", psycopg.errors.UndefinedColumn),
        ("SELECT * FROM pg_catalog.nosuch", psycopg.errors.UndefinedTable),
        ("INSERT INTO pg_class VALUES (1)", psycopg.errors.UndefinedTable),
        ("DELETE FROM tt WHERE a IN (SELECT oid FROM pg_class)", psycopg.errors.FeatureNotSupported),
    ):
        with pytest.raises(error):
            connection.execute(statement.encode())


def test_sizes_are_those_of_the_blocks_on_disk(connection: Connection):
    connection.execute("CREATE TABLE sized (n INT, t TEXT)")
    connection.execute("INSERT INTO sized SELECT g, 'text ' || g FROM generate_series(1, 100000) AS g")
    connection.execute("CHECKPOINT")
    (sizes,) = connection.execute(
        "SELECT pg_relation_size('sized'), pg_total_relation_size('sized'::regclass), pg_table_size(oid), "
        "pg_indexes_size(oid), pg_database_size('streamsql'), pg_size_pretty(pg_database_size('streamsql')) LIKE '%B' "
        "FROM pg_class WHERE relname = 'sized'"
    ).fetchall()
    relation, total, table, indexes, database, told = sizes
    assert relation == total == table > 0
    assert relation % (1 << 18) == 0
    assert database >= relation
    assert (indexes, told) == (0, True)
    connection.execute("DROP TABLE sized")


def test_every_function_of_the_catalog_runs(connection: Connection):
    for name in sorted(TEMPLATES):
        arguments = next(
            (
                given
                for given in ("1, 1", "ARRAY[1], 1", "'a', 'b'", "INTERVAL '1 day'", "true")
                if _runs(connection, name, given)
            ),
            None,
        )
        assert arguments is not None, name


def _runs(connection: Connection, name: str, arguments: str) -> bool:
    try:
        connection.execute(f"SELECT pg_catalog.{name}({arguments})".encode()).fetchall()
    except psycopg.Error:
        return False
    return True


def test_names_are_compared_with_parameters_that_have_no_type(connection: Connection):
    # pg_matviews is none of DuckDB's own relations
    connection.execute("PREPARE named AS SELECT DISTINCT schemaname FROM pg_matviews WHERE schemaname = ANY($1)")
    assert connection.execute("EXECUTE named ('{public,x}')").fetchall() == [("public",)]
    connection.execute("DEALLOCATE named")


def test_explain_analyze_runs_the_query_and_says_what_it_did(connection: Connection):
    query = "SELECT count(*) FROM games AS a, games AS b, generate_series(1, 3) WHERE a.id <= b.id"
    (row,) = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode()).fetchall()
    (told,) = row[0]
    assert told["Plan"]["Actual Rows"] == 1
    assert 0 < told["Plan"]["Actual Total Time"] <= told["Execution Time"]
    text = [line for (line,) in connection.execute(f"EXPLAIN ANALYZE {query}".encode())]
    assert any("Total Time" in line for line in text)
    assert any("1 row" in line for line in text)
    assert not any("_rows." in line for line in text)
    # what is answered by what is known of the table has nothing to say, and is shown as it was planned
    assert len(connection.execute("EXPLAIN ANALYZE SELECT count(*) FROM games").fetchall()) > 4
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="EXPLAIN ANALYZE of a continuous query"):
        connection.execute("EXPLAIN ANALYZE SELECT k, count(*) FROM events GROUP BY k EMIT UPDATE")


def test_explain_gives_plans_as_json(connection: Connection):
    for query in ("SELECT count(*) FROM games WHERE id > 1", "SELECT k, count(*) FROM events GROUP BY k EMIT UPDATE"):
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
        assert row is not None
        plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
        assert plan[0]["Plan"]["Node Type"]


@pytest.mark.parametrize(
    "written", ["kept_1", '"kept_1"', '"public"."kept_1"', '"public" . "kept_1"', "PUBLIC.Kept_1", '"Kept 2"']
)
def test_a_relation_is_found_however_its_name_is_written(server: RunningServer, written: str):
    server.execute("CREATE TABLE IF NOT EXISTS kept_1 (a INT)", 'CREATE TABLE IF NOT EXISTS "Kept 2" (a INT)')
    with server.session() as connection:
        names = [
            connection.execute("SELECT relname FROM pg_class WHERE oid = %s::regclass::oid", [written]).fetchall(),
            connection.execute(f"SELECT relname FROM pg_class WHERE oid = '{written}'::regclass").fetchall(),
        ]
    assert names in ([[("kept_1",)]] * 2, [[("Kept 2",)]] * 2)
