"""Roles as PostgreSQL 15 has them: the same statements, sent to both, end in the same way and are told in the same words."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from streamsql.engine.recovery import FORMAT
from tests.running import RunningServer
from tests.server.conftest import postgres_port  # noqa: F401  # a fixture

Connection = psycopg.Connection[TupleRow]

# role that asks, and statement; what is made stays for those after it
STORY = [
    ("tester", "CREATE ROLE ann LOGIN"), ("tester", "CREATE ROLE ann"), ("tester", "CREATE USER bob"),
    ("tester", "CREATE ROLE crew"), ("tester", "CREATE GROUP pg_crew"), ("tester", 'CREATE ROLE "public"'),
    ("tester", "CREATE ROLE none"), ("tester", "CREATE ROLE boss CREATEROLE LOGIN"),
    ("tester", "CREATE ROLE x LOGIN NOLOGIN"), ("tester", "CREATE ROLE x LOGIN LOGIN"),
    ("tester", "CREATE ROLE x CONNECTION LIMIT -2"), ("tester", "CREATE ROLE x VALID UNTIL 'yesterdayish'"),
    ("tester", "CREATE ROLE x IN ROLE nosuch"), ("tester", "CREATE ROLE x NOSUCH"),
    ("tester", "CREATE ROLE x PASSWORD 'a' PASSWORD 'b'"), ("ann", "CREATE ROLE x"), ("ann", "ALTER ROLE bob LOGIN"),
    ("ann", "ALTER ROLE bob PASSWORD 'x'"), ("ann", "ALTER ROLE ann PASSWORD 'x'"), ("ann", "ALTER ROLE ann LOGIN"),
    ("ann", "ALTER ROLE ann SUPERUSER"), ("ann", "DROP ROLE bob"), ("ann", "ALTER ROLE bob RENAME TO bobby"),
    ("ann", "GRANT crew TO ann"), ("ann", "ALTER ROLE ann SET application_name TO 'mine'"),
    ("ann", "ALTER ROLE bob SET application_name TO 'mine'"), ("boss", "CREATE ROLE made LOGIN"),
    ("boss", "CREATE ROLE made_too SUPERUSER"), ("boss", "CREATE ROLE made_too REPLICATION"),
    ("boss", "ALTER ROLE made SUPERUSER"), ("boss", "ALTER ROLE tester PASSWORD 'x'"), ("boss", "DROP ROLE tester"),
    ("boss", "ALTER ROLE made CONNECTION LIMIT 3"), ("boss", "DROP ROLE made, made"), ("boss", "DROP ROLE boss"),
    ("boss", "ALTER ROLE boss RENAME TO big_boss"), ("boss", "GRANT crew TO ann"), ("boss", "GRANT tester TO boss"),
    ("boss", "REVOKE crew FROM ann"), ("boss", "GRANT pg_read_all_data TO boss"),
    ("tester", "GRANT crew TO ann WITH ADMIN OPTION"), ("ann", "GRANT crew TO bob"), ("bob", "GRANT crew TO boss"),
    ("tester", "GRANT crew TO crew"), ("tester", "GRANT ann TO crew"), ("tester", "GRANT nosuch TO ann"),
    ("tester", "GRANT crew TO nosuch"), ("tester", "REVOKE ADMIN OPTION FOR crew FROM ann"), ("ann", "GRANT crew TO boss"),
    ("tester", "REVOKE crew FROM boss"), ("tester", "GRANT crew TO PUBLIC"),
    ("tester", "CREATE TABLE t (id INT PRIMARY KEY, name TEXT)"), ("ann", "SELECT * FROM t"),
    ("ann", "INSERT INTO t VALUES (1)"), ("ann", "UPDATE t SET name = 'x'"), ("ann", "DELETE FROM t"),
    ("ann", "DROP TABLE t"), ("ann", "CREATE TABLE u (a INT)"), ("ann", "CREATE MATERIALIZED VIEW u AS SELECT 1"),
    ("ann", "ALTER TABLE t OWNER TO ann"), ("ann", "GRANT SELECT ON t TO ann"), ("tester", "GRANT SELECT ON nosuch TO ann"),
    ("tester", "GRANT SELECT ON t TO nosuch"), ("tester", "GRANT USAGE ON t TO ann"),
    ("tester", "GRANT SELECT ON SCHEMA public TO ann"), ("tester", "GRANT SELECT ON ALL TABLES IN SCHEMA nosuch TO ann"),
    ("tester", "GRANT NOSUCH ON t TO ann"), ("tester", "GRANT SELECT ON t TO PUBLIC WITH GRANT OPTION"),
    ("tester", "GRANT SELECT, INSERT ON t TO crew"), ("bob", "SELECT count(*) FROM t"), ("ann", "SELECT count(*) FROM t"),
    ("ann", "INSERT INTO t VALUES (1, 'a')"), ("ann", "UPDATE t SET name = 'x'"),
    ("ann", "INSERT INTO t VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET name = 'c'"),
    ("ann", "INSERT INTO t VALUES (1, 'b') ON CONFLICT (id) DO NOTHING"), ("ann", "GRANT SELECT ON t TO boss"),
    ("tester", "GRANT UPDATE ON TABLE t TO ann WITH GRANT OPTION"), ("ann", "UPDATE t SET name = 'z' WHERE id = 1"),
    ("ann", "GRANT UPDATE ON t TO bob"), ("tester", "REVOKE UPDATE ON t FROM ann"),
    ("tester", "REVOKE UPDATE ON t FROM ann CASCADE"), ("bob", "UPDATE t SET name = 'y'"), ("tester", "DROP ROLE crew"),
    ("tester", "REVOKE ALL ON t FROM crew"), ("tester", "DROP ROLE crew"), ("ann", "SELECT 1 FROM t"),
    ("tester", "GRANT CREATE ON SCHEMA public TO ann"), ("ann", "CREATE TABLE own (a INT)"), ("bob", "SELECT * FROM own"),
    ("tester", "SELECT count(*) FROM own"), ("ann", "GRANT SELECT ON own TO bob"), ("bob", "SELECT count(*) FROM own"),
    ("bob", "DROP TABLE own"), ("ann", "ALTER TABLE own OWNER TO bob"), ("tester", "DROP ROLE ann"),
    ("tester", "ALTER TABLE own OWNER TO bob"), ("ann", "SELECT * FROM own"), ("ann", "REASSIGN OWNED BY bob TO ann"),
    ("bob", "REASSIGN OWNED BY bob TO ann"), ("tester", "REASSIGN OWNED BY bob TO ann"),
    ("bob", "SELECT count(*) FROM own"), ("ann", "REVOKE SELECT ON own FROM bob"), ("bob", "SELECT * FROM own"),
    ("ann", "REVOKE ALL ON own FROM ann"), ("ann", "SELECT * FROM own"), ("ann", "GRANT ALL ON own TO ann"),
    ("ann", "SELECT count(*) FROM own"), ("tester", "DROP OWNED BY ann"), ("tester", "SELECT * FROM own"),
    ("tester", "DROP ROLE ann"), ("tester", "DROP ROLE IF EXISTS ann, nosuch"), ("tester", "DROP ROLE nosuch"),
    ("tester", "DROP ROLE tester"), ("tester", "DROP ROLE pg_read_all_data"), ("tester", "ALTER ROLE nosuch LOGIN"),
    ("tester", "SET ROLE nosuch"), ("bob", "SET ROLE boss"), ("bob", "SET SESSION AUTHORIZATION boss"),
    ("bob", "SET ROLE bob"), ("tester", "ALTER ROLE bob RENAME TO boss"), ("tester", "ALTER ROLE bob RENAME TO pg_bob"),
    ("tester", "ALTER ROLE bob RENAME TO robert"), ("tester", "SELECT has_table_privilege('robert', 't', 'SELECT')"),
    ("tester", "SELECT has_table_privilege('robert', 'nosuch', 'SELECT')"),
    ("tester", "SELECT pg_has_role('nosuch', 'USAGE')"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--in-memory"]) as running:
        yield running


def told(dsn: str, role: str, statement: str) -> tuple[str, ...]:
    """Send a statement as a role; give the tag, or the SQLSTATE and the message."""
    with psycopg.connect(dsn, user=role, autocommit=True) as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        try:
            cursor = connection.execute(statement)
        except psycopg.Error as error:
            return (error.sqlstate or "", str(error.diag.message_primary))
        rows = [str(row) for row in cursor.fetchall()] if cursor.description is not None else []
        return (cursor.statusmessage or "", *notices, *rows)


# PostgreSQL 15 lets whoever may create roles give these away, which PostgreSQL 16 does not do either
DIFFERENT = {"GRANT pg_read_all_data TO boss"}


@pytest.mark.postgres
def test_the_same_statements_end_in_the_same_way_as_in_postgres(server: RunningServer, postgres_port: int):  # noqa: F811
    theirs = f"postgresql://127.0.0.1:{postgres_port}/postgres"
    ours = server.dsn
    different = []
    for role, statement in STORY:
        # who is called tester there, is the first owner under that name here
        shown = statement if role == "tester" else statement.replace("tester", "streamsql")
        expected, answered = told(theirs, role, statement), told(ours, role, shown)
        if expected != answered and statement not in DIFFERENT:
            different.append((role, statement, expected, answered))
    assert not different, "\n".join(map(str, different))


def test_the_first_owner_may_have_any_name_on_this_machine(server: RunningServer):
    with server.connect() as connection:
        shown = connection.execute(
            "SELECT current_user, session_user, pg_get_userbyid(relowner), has_table_privilege('streamsql', 't', 'SELECT') "
            "FROM pg_class WHERE relname = 't'"
        ).fetchone()
        assert shown == ("tester", "tester", "tester", True)
        assert connection.execute("SELECT rolname FROM pg_roles WHERE rolsuper").fetchall() == [("tester",)]
        with pytest.raises(errors.FeatureNotSupported):
            connection.execute("ALTER ROLE streamsql NOSUPERUSER")
        with pytest.raises(errors.FeatureNotSupported):
            connection.execute("ALTER ROLE current_user NOLOGIN")
        connection.execute("CREATE ROLE known LOGIN")
    with psycopg.connect(server.dsn, user="known") as known:  # a role is a role
        assert known.execute("SELECT current_user, current_setting('is_superuser')").fetchone() == ("known", "off")
    with server.connect() as connection:
        connection.execute("ALTER ROLE known NOLOGIN")
    with pytest.raises(psycopg.OperationalError, match='role "known" is not permitted to log in'):
        psycopg.connect(server.dsn, user="known")


def test_acting_as_another_ends_with_the_transaction_that_is_rolled_back(server: RunningServer):
    with server.connect() as connection:
        connection.execute("CREATE ROLE actor")
        asked = "SELECT current_user, session_user, current_setting('is_superuser')"
        connection.execute("BEGIN")
        connection.execute("SET LOCAL ROLE actor")
        assert connection.execute(asked).fetchone() == ("actor", "tester", "off")
        assert connection.info.parameter_status("is_superuser") == "off"
        connection.execute("COMMIT")
        assert connection.execute(asked).fetchone() == ("tester", "tester", "on")
        connection.execute("BEGIN")
        connection.execute("SET SESSION AUTHORIZATION actor")
        assert connection.execute(asked).fetchone() == ("actor", "actor", "off")
        connection.execute("ROLLBACK")
        assert connection.execute(asked).fetchone() == ("tester", "tester", "on")
        connection.execute("SET ROLE 'actor'")
        connection.execute("RESET ALL")
        assert connection.execute(asked).fetchone() == ("actor", "tester", "off")
        connection.execute("DISCARD ALL")
        assert connection.execute(asked).fetchone() == ("tester", "tester", "on")
        connection.execute('CREATE ROLE "Odd Name"')
        connection.execute('SET ROLE "Odd Name"')
        assert connection.execute(asked).fetchone() == ("Odd Name", "tester", "off")


def test_the_settings_of_a_role_hold_when_it_logs_in(server: RunningServer):
    with server.connect() as connection:
        connection.execute("CREATE USER tuned")
        connection.execute("ALTER ROLE tuned SET application_name = 'theirs'")
        connection.execute("ALTER ROLE tuned SET default_transaction_read_only TO on")
        with pytest.raises(errors.UndefinedObject):
            connection.execute("ALTER ROLE tuned SET nosuch = 1")
        rows = connection.execute("SELECT rolconfig FROM pg_roles WHERE rolname = 'tuned'").fetchone()
        assert rows == (["application_name=theirs", "default_transaction_read_only=on"],)
    with psycopg.connect(server.dsn, user="tuned") as tuned:
        assert tuned.execute("SHOW application_name").fetchone() == ("theirs",)
        assert tuned.execute("SHOW transaction_read_only").fetchone() == ("on",)
    with server.connect() as connection:
        connection.execute("ALTER ROLE tuned RESET ALL")
    with psycopg.connect(server.dsn, user="tuned") as tuned:
        assert tuned.execute("SHOW transaction_read_only").fetchone() == ("off",)


# ---------------------------------------------------------------------------------------------------------------- durable


EVERYTHING = """
    SELECT a.rolname, a.rolsuper, a.rolcanlogin, a.rolconnlimit, a.rolvaliduntil::text, a.rolpassword, r.rolconfig
    FROM pg_authid a JOIN pg_roles r ON r.oid = a.oid ORDER BY a.oid
"""
PRIVILEGES = (
    "SELECT relname, pg_get_userbyid(relowner), relacl::text[] FROM pg_class WHERE relnamespace = 2200 ORDER BY 1"
)
MEMBERS = "SELECT roleid, member, grantor, admin_option FROM pg_auth_members ORDER BY 1, 2"


def test_roles_and_privileges_survive_a_kill(tmp_path: Path):
    server = RunningServer(tmp_path)
    server.start()
    with server.connect() as owner:
        for statement in (
            "CREATE ROLE ann LOGIN PASSWORD 'geheim' VALID UNTIL '2999-01-01' CONNECTION LIMIT 5",
            "CREATE ROLE crew", "GRANT crew TO ann WITH ADMIN OPTION", "GRANT pg_read_all_data TO crew",
            "ALTER ROLE ann SET application_name TO 'x'", "GRANT CREATE ON SCHEMA public TO ann",
            "ALTER ROLE streamsql PASSWORD 'mine'",
            "CREATE STREAM s (x INT)", "CREATE TABLE t (a INT)", "GRANT SELECT, INSERT ON s TO crew WITH GRANT OPTION",
            "SET ROLE ann", "CREATE MATERIALIZED VIEW v AS SELECT x, count(*) FROM s GROUP BY x EMIT UPDATE",
            "GRANT SELECT ON v TO PUBLIC", "CREATE TABLE emptied (a INT)", "REVOKE ALL ON emptied FROM ann", "RESET ROLE",
            "CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT x, count(*), sum(x) FROM s GROUP BY x EMIT UPDATE",
            "GRANT SELECT ON t TO crew", "DROP TABLE t",
        ):  # fmt: skip
            owner.execute(statement)
        before = [owner.execute(query).fetchall() for query in (EVERYTHING, PRIVILEGES, MEMBERS)]
    assert ("v", "ann", ["ann=arwdDxt/ann", "=r/ann"]) in before[1]
    assert ("emptied", "ann", []) in before[1]
    server.stop(signal.SIGKILL)
    with RunningServer(tmp_path) as again:
        with again.connect() as owner:
            assert [owner.execute(query).fetchall() for query in (EVERYTHING, PRIVILEGES, MEMBERS)] == before
            owner.execute("CREATE ROLE later")  # an OID that nobody has
            with psycopg.connect(again.dsn, user="ann") as as_ann, pytest.raises(errors.InsufficientPrivilege):
                as_ann.execute("INSERT INTO emptied VALUES (1)")
        again.check_log()


def test_a_database_from_before_there_were_roles_is_opened(tmp_path: Path):
    with RunningServer(tmp_path) as server:
        server.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)")
    import duckdb

    with duckdb.connect(str(tmp_path / "data" / "state.duckdb")) as database:
        for table in ("roles", "members", "owners", "privileges", "secrets"):
            database.execute(f"DROP TABLE _engine.{table}")
        database.execute(f"UPDATE _engine.layout SET digest = '{FORMAT}:of before'").fetchall()
    with RunningServer(tmp_path) as server:
        assert server.execute("SELECT * FROM t") == [(1,)]
        server.execute("CREATE ROLE ann", "GRANT SELECT ON t TO ann")


# ---------------------------------------------------------------------------------------------------------------- secrets


SECRETS = [
    "CREATE ROLE s1 PASSWORD 'hunter2'", "create/**/user s2 with encrypted password 'hunter2' login",
    "ALTER ROLE s1 PASSWORD 'hunter2'",
    "SELECT 1; ALTER USER s1 WITH PASSWORD 'hunter2'; SELECT 2", "CREATE ROLE s3 PASSWORD hunter2",
    "CREATE ROLE s3 PASSWORD 'hunter2",
    "CREATE ROLE s3 PASSWORD 'x' hunter2", "CREATE ROLE s3 PASSWORD $hunter2", "CREATE ROLE s3 PASSWORD $$hunter2$$ nonsense",
    "CREATE ROLE s1 PASSWORD 'hunter2'", "ALTER ROLE nosuch PASSWORD 'hunter2'",
    "CREATE GROUP s4 PASSWORD E'hunter2' VALID UNTIL 'x'",
    "ALTER ROLE s1 PASSWORD 'hunter2', hunter2", "BEGIN; CREATE ROLE s5 PASSWORD 'hunter2'; ROLLBACK",
]  # fmt: skip


def test_no_password_is_in_a_log_an_error_or_a_list_of_what_runs(tmp_path: Path):
    with RunningServer(tmp_path, ["--log-level", "debug"], {"STREAMSQL_PASSWORD": "hunter2"}) as server:
        with server.connect() as asker:
            asker.execute("SET client_min_messages = debug")
            redacted = 0
            for statement in SECRETS:
                for prepare in (False, True):
                    with server.connect() as connection:
                        try:
                            connection.execute(statement, prepare=prepare)
                        except psycopg.Error as error:
                            told = error.diag
                            fields = (told.message_primary, told.message_detail, told.message_hint, told.context)
                            assert "hunter2" not in " ".join(filter(None, fields)), statement
                        seen = asker.execute("SELECT string_agg(query, ' ') FROM pg_stat_activity").fetchone()
                        assert "hunter2" not in str(seen)
                        redacted += "<redacted>" in str(seen)
            assert redacted  # psycopg sends DEALLOCATE ALL behind some of them
            assert "hunter2" not in str(asker.execute("SELECT * FROM pg_authid").fetchall())
            asker.execute("SELECT 'a password of a role is not what this is about'")
        assert "hunter2" not in server.log()
        assert "hunter2" not in Path(tmp_path / "data" / "state.duckdb").read_bytes().decode("latin-1")
