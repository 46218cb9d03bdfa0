"""psql's backslash commands show of our objects what they show of the same objects in PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess

import psycopg
import pytest

from tests.running import RunningServer
from tests.server.test_catalog_queries import OBJECTS, OURS

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed"),
]

ENVIRONMENT = {**os.environ, "PAGER": "", "LC_ALL": "C.UTF-8"}

# Both must show the same, to the letter.
SAME = [
    r"\d", r"\dt", r"\dm", r"\dv", r"\di", r"\ds", r"\dE", r"\dn", r"\dn+", r"\df", r"\dT", r"\dD", r"\dp", r"\z",
    r"\ddp", r"\des", r"\dew", r"\det", r"\deu", r"\dy", r"\dRp", r"\dRs", r"\dX", r"\dP", r"\dO", r"\dc", r"\drds",
    r"\d games", r"\d clubs", r"\d events", r"\d customer", r"\d games_pkey", r"\d public.*", r"\dt g*", r"\dt public.clubs",
    r"\d+ games", r"\d+ clubs", r"\du", r"\dg", r"\dD+", r"\df+",
    r"\dT+", r"\dC nope", r"\do nope", r"\db", r"\sf nope", r"\d+ games_pkey", r"\dS nope",
    r"\dt *.clubs", r"\d nope", r"\dt nope", r"\dm per*", r"\d per_key", r"\df nope", r"\dn public", r"\du nope",
]  # fmt: skip
# What tab completion asks, as psql 15 writes it.
COMPLETIONS = [
    "SELECT pg_catalog.quote_ident(c.relname), NULL::pg_catalog.text FROM pg_catalog.pg_class c"
    " WHERE c.relkind IN ('r', 'p') AND (pg_catalog.quote_ident(c.relname)) LIKE 'c%'"
    " AND pg_catalog.pg_table_is_visible(c.oid)"
    " AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog') ORDER BY 1",
    "SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c"
    " WHERE c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname LIKE 'n%' AND c.relname = 'games'"
    " AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1",
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' FROM pg_catalog.pg_namespace n"
    " WHERE pg_catalog.quote_ident(n.nspname) || '.' LIKE 'pub%'"
    " AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace"
    " WHERE pg_catalog.substring(pg_catalog.quote_ident(nspname) || '.',1,3) ="
    " pg_catalog.substring('pub',1,pg_catalog.length(pg_catalog.quote_ident(nspname))+1)) > 1",
    "SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles WHERE rolname LIKE 'test%'",
    "SELECT pg_catalog.format_type(t.oid, NULL) FROM pg_catalog.pg_type t WHERE (t.typrelid = 0"
    " OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)) AND t.typname !~ '^_'"
    " AND t.typname LIKE 'int%' AND pg_catalog.pg_type_is_visible(t.oid) AND t.typname IN ('int2', 'int4', 'interval')"
    " ORDER BY 1",
    "SELECT conname FROM pg_catalog.pg_constraint c, pg_catalog.pg_class t WHERE c.conrelid = t.oid"
    " AND t.relnamespace = 2200 ORDER BY 1",
]


COMMENTS = [
    "COMMENT ON TABLE games IS 'all that was played'", "COMMENT ON COLUMN games.id IS 'the game''s number'",
    "COMMENT ON COLUMN public.clubs.city IS 'x'", "COMMENT ON COLUMN clubs.country IS NULL",
    "COMMENT ON MATERIALIZED VIEW per_key IS 'kept'", "COMMENT ON COLUMN per_key.n IS 'how many'",
]  # fmt: skip
COMMENTED = [
    r"\dt+ nope",
    "SELECT obj_description('games'::regclass, 'pg_class'), obj_description('clubs'::regclass)",
    "SELECT col_description('games'::regclass, 1), col_description('clubs'::regclass, 2)",
    "SELECT col_description('per_key'::regclass, 9)",
    "SELECT objoid::regclass, objsubid, description FROM pg_description WHERE classoid = 'pg_class'::regclass"
    " AND objoid >= 16384 ORDER BY 3",
]


def psql(port: int, database: str, text: str) -> str:
    done = subprocess.run(
        ["psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "-c", text, database],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def ours(server: RunningServer) -> int:
    with server.session() as opened:
        for statement in (*OBJECTS, *OURS, *COMMENTS):
            opened.execute(statement)
    return server.port


@pytest.fixture(scope="module")
def theirs(postgres_port: int) -> int:
    dsn = f"postgresql://tester@127.0.0.1:{postgres_port}/postgres"
    with psycopg.connect(dsn, autocommit=True) as opened:
        opened.execute("DROP DATABASE IF EXISTS backslash")
        opened.execute("CREATE DATABASE backslash")
    with psycopg.connect(dsn.replace("/postgres", "/backslash"), autocommit=True) as opened:
        for statement in (
            *OBJECTS, *(s.replace("STREAM", "TABLE").replace(" EMIT UPDATE", "") for s in OURS), *COMMENTS,
        ):  # fmt: skip
            opened.execute(statement)
    return postgres_port


@pytest.mark.parametrize("command", [*SAME, *COMMENTED, *COMPLETIONS])
def test_a_command_shows_what_it_shows_on_postgres(ours: int, theirs: int, command: str):
    assert psql(ours, "streamsql", command) == psql(theirs, "backslash", command)
