"""What each role may do with each object, by every way that a statement can come: a table of statements and who may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow

from tests.running import RunningServer, until
from tests.security.who_may import CASES, OWNS, READS, ROLES, SEES_VIEW, WRITES
from tests.server.raw import RawClient

Connection = psycopg.Connection[TupleRow]


SCHEMA = (
    "CREATE STREAM s (ts TIMESTAMP, x INT, WATERMARK FOR ts AS ts)",
    "CREATE TABLE t (id INT DEFAULT 7, name TEXT, PRIMARY KEY (id))",
    "INSERT INTO s VALUES ('2026-01-01', 1)",
    "INSERT INTO t VALUES (1, 'a')",
    "CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM s GROUP BY x EMIT UPDATE",
    "CREATE MATERIALIZED VIEW w AS SELECT v.n, t.name FROM v, t",
    "CREATE TABLE spare (a INT)",
    "CREATE STREAM spare_stream (a INT)",
    "CREATE MATERIALIZED VIEW spare_view AS SELECT count(*) AS n FROM s EMIT UPDATE",
)


def set_up(server: RunningServer) -> None:
    with server.connect() as owner:
        for role in ROLES:
            owner.execute(f"CREATE ROLE {role} LOGIN {'SUPERUSER' if role == 'super' else ''}")
        owner.execute("CREATE ROLE other")
        owner.execute("GRANT CREATE ON SCHEMA public TO holder")
        owner.execute("SET ROLE holder")
        for statement in SCHEMA:
            owner.execute(statement)
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, editor")
        owner.execute("GRANT INSERT, UPDATE, DELETE ON s, t TO writer, editor")
        owner.execute("GRANT SELECT ON v, w TO sees_view")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--in-memory"]) as running:
        set_up(running)
        yield running


def as_role(server: RunningServer, role: str) -> Connection:
    return psycopg.connect(server.dsn, user=role, autocommit=True)


def permitted(connection: Connection, statement: str, **options: Any) -> bool:
    """Say whether a statement got through; what is live is ended by its timeout."""
    if "SUBSCRIBE" in statement:
        connection.execute("SET statement_timeout = '1s'")
    try:
        if statement.startswith("COPY"):
            with connection.cursor().copy(statement) as copy:
                for _ in copy:
                    pass
        else:
            connection.execute(statement, **options)
    except errors.InsufficientPrivilege:
        return False
    except (errors.QueryCanceled, errors.UniqueViolation, errors.NotNullViolation):
        return True
    finally:
        connection.execute("RESET statement_timeout")
    return True


@pytest.mark.parametrize("statement", [s for s, who in CASES.items() if who != frozenset(ROLES)])
def test_who_may_not_is_told_so(server: RunningServer, statement: str):
    for role in sorted(set(ROLES) - CASES[statement]):
        with as_role(server, role) as connection:
            assert not permitted(connection, statement), (role, statement)
            assert not permitted(connection, statement, prepare=True, binary=True), (role, statement)
            assert connection.execute("SELECT 1").fetchone() == (1,)


_CHANGES_MUCH = ("COMMENT", "CREATE", "DROP", "ALTER", "GRANT", "REVOKE", "REASSIGN")


@pytest.mark.parametrize("statement", [s for s in CASES if not s.startswith(_CHANGES_MUCH)])
def test_who_may_gets_through(server: RunningServer, statement: str):
    for role in sorted(CASES[statement]):
        with as_role(server, role) as connection:
            assert permitted(connection, statement), (role, statement)


def test_who_may_change_definitions_gets_through(tmp_path_factory: pytest.TempPathFactory):
    """One after the other on one server: what an earlier one took away is another error, and no lack of rights."""
    with RunningServer(tmp_path_factory.mktemp("server"), ["--in-memory"]) as server:
        set_up(server)
        for statement, who in CASES.items():
            if statement.startswith(_CHANGES_MUCH):
                for role in sorted(who & OWNS):
                    with as_role(server, role) as connection:
                        try:
                            assert permitted(connection, statement), (role, statement)
                        except (errors.DuplicateTable, errors.UndefinedTable, errors.UndefinedObject):
                            pass


@pytest.mark.parametrize(
    ("mode", "who"),
    [("ACCESS SHARE", READS), ("ROW SHARE", WRITES), ("ROW EXCLUSIVE", WRITES)],
)
def test_who_may_lock_a_table(server: RunningServer, mode: str, who: frozenset[str]):
    for role in ROLES:
        with as_role(server, role) as connection, connection.transaction():
            may = role in who
            try:
                connection.execute(f"LOCK TABLE t IN {mode} MODE")
            except errors.InsufficientPrivilege:
                assert not may, (role, mode)
                raise psycopg.Rollback from None
            assert may, (role, mode)


def test_who_may_not_read_a_view_any_more_does_not_hear_of_it(server: RunningServer):
    with as_role(server, "sees_view") as client, as_role(server, "holder") as holder:
        holder.execute("GRANT SELECT ON spare_view TO sees_view")
        client.execute("LISTEN spare_view")
        holder.execute("INSERT INTO s VALUES ('2026-01-01', 5)")
        (told,) = client.notifies(timeout=20, stop_after=1)
        assert told.channel == "spare_view"
        holder.execute("REVOKE SELECT ON spare_view FROM sees_view")
        holder.execute("INSERT INTO s VALUES ('2026-01-01', 6)")
        holder.execute("NOTIFY spare_view, 'the last'")  # said by somebody, and not by the view
        (told,) = client.notifies(timeout=20, stop_after=1)
        assert told.payload == "the last"


def test_who_cannot_give_a_privilege_gives_nothing(server: RunningServer):
    """As in PostgreSQL: who has some privilege on an object is warned, and who has none is refused."""
    asked = "SELECT has_table_privilege('other', 't', 'SELECT'), has_schema_privilege('other', 'public', 'CREATE')"
    for role in ("reader", "editor"):
        with as_role(server, role) as connection:
            told: list[str | None] = []
            connection.add_notice_handler(lambda notice, told=told: told.append(notice.message_primary))  # type: ignore[misc]
            connection.execute("GRANT SELECT ON t TO other")
            connection.execute("GRANT CREATE ON SCHEMA public TO other")
            connection.execute("REVOKE SELECT ON t FROM reader")
            assert told == [
                'no privileges were granted for "t"', 'no privileges were granted for "public"',
                'no privileges could be revoked for "t"',
            ]  # fmt: skip
            assert connection.execute(asked).fetchone() == (False, False)
    with as_role(server, "reader") as reader:
        assert permitted(reader, "SELECT * FROM t")


def test_what_was_given_with_the_grant_option_is_given_on(server: RunningServer):
    with as_role(server, "holder") as holder, as_role(server, "writer") as writer, as_role(server, "nobody") as nobody:
        holder.execute("GRANT SELECT ON t TO writer WITH GRANT OPTION")
        writer.execute("GRANT SELECT ON t TO nobody")
        assert permitted(nobody, "SELECT * FROM t")
        with pytest.raises(errors.DependentObjectsStillExist, match="dependent privileges exist"):
            holder.execute("REVOKE SELECT ON t FROM writer")
        with pytest.raises(errors.DependentObjectsStillExist):
            holder.execute("REVOKE GRANT OPTION FOR SELECT ON t FROM writer")
        holder.execute("REVOKE GRANT OPTION FOR SELECT ON t FROM writer CASCADE")
        assert permitted(writer, "SELECT * FROM t")
        assert not permitted(nobody, "SELECT * FROM t")
        holder.execute("REVOKE SELECT ON t FROM writer")
        assert not permitted(writer, "SELECT * FROM t")


def test_everybody_has_temporary_tables_of_his_own_and_through_them_nothing_else(server: RunningServer):
    with as_role(server, "nobody") as nobody:
        nobody.execute(
            "CREATE TEMP TABLE t (id INT PRIMARY KEY, name TEXT)"
        )  # stands before the one that he may not read
        nobody.execute("INSERT INTO t VALUES (1, 'mine')")
        nobody.execute("UPDATE t SET name = name || '!' WHERE id = 1")
        assert nobody.execute("SELECT * FROM t").fetchall() == [(1, "mine!")]
        for statement in ("SELECT * FROM public.t", "CREATE TEMP TABLE u AS SELECT * FROM s", "SELECT * FROM t, s"):
            try:
                rows = nobody.execute(statement).fetchall()
            except (errors.InsufficientPrivilege, errors.FeatureNotSupported):
                continue
            assert rows == [(1, "mine!")], statement
        nobody.execute("BEGIN")
        nobody.execute("INSERT INTO t VALUES (4711, 'gone')")
        nobody.execute("DROP TABLE t")
        nobody.execute("COMMIT")
        assert not permitted(nobody, "SELECT * FROM t")
    assert server.execute("SELECT * FROM t WHERE id = 4711 OR name = 'mine!'") == []


@pytest.mark.parametrize("role", ROLES)
def test_copy_asks_for_the_right_to_insert(server: RunningServer, role: str):
    with as_role(server, role) as connection:
        try:
            with connection.cursor().copy("COPY s FROM STDIN WHERE x > 3") as copy:
                copy.write("2026-01-01\t5\n")
            assert role in WRITES
        except errors.InsufficientPrivilege:
            assert role not in WRITES


@pytest.mark.parametrize("role", ROLES)
def test_rows_bound_to_a_prepared_insert_ask_for_it_too(server: RunningServer, role: str):
    with as_role(server, role) as connection:
        try:
            connection.cursor().executemany("INSERT INTO s (x) VALUES (%s)", [(i,) for i in range(5)])
            assert role in WRITES
        except errors.InsufficientPrivilege:
            assert role not in WRITES


# ------------------------------------------------------------------------------------------------------ rights that change


def test_a_right_that_is_revoked_is_gone_from_prepared_statements_and_portals(server: RunningServer):
    async def scenario() -> None:
        owner = await asyncpg.connect(server.dsn, user="holder")
        other = await asyncpg.connect(server.dsn, user="nobody")
        await owner.execute("GRANT SELECT, INSERT ON t TO nobody")
        read = await other.prepare("SELECT count(*) FROM t WHERE id < $1")
        write = await other.prepare("INSERT INTO t VALUES ($1, $2)")
        assert await read.fetchval(5) >= 0
        await write.fetch(2000, "x")
        await owner.execute("REVOKE INSERT ON t FROM nobody")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await write.fetch(2001, "x")
        assert await read.fetchval(5) >= 0
        await owner.execute("REVOKE SELECT ON t FROM nobody")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await read.fetchval(5)
        await owner.close()
        await other.close()

    asyncio.run(scenario())


def test_a_right_revoked_between_bind_and_execute_or_while_copying_is_gone(server: RunningServer):
    with server.connect() as owner, RawClient(server.port, {"user": "nobody"}) as client:
        owner.execute("GRANT SELECT, INSERT ON t TO nobody")
        client.send("Parse", {"text": "SELECT id FROM t"}, "Bind", {}, "Flush")
        assert client.lines(2) == ["ParseComplete", "BindComplete"]
        owner.execute("REVOKE SELECT ON t FROM nobody")
        client.send("Execute", {}, "Sync")
        denied = '"code": "42501", "message": "permission denied for table t"'
        assert denied in client.lines(2)[0]
        client.send("Query", {"text": "COPY t FROM STDIN"}, "CopyData", {"data": "3000\tx\n"})
        assert client.lines(1)[0].startswith("CopyInResponse")
        owner.execute("REVOKE INSERT ON t FROM nobody")
        client.send("CopyDone")
        assert denied in client.lines(2)[0]
        assert owner.execute("SELECT count(*) FROM t WHERE id = 3000").fetchone() == (0,)


@pytest.mark.parametrize(
    ("statement", "object_name"),
    [("SUBSCRIBE v", "materialized view v"), ("SELECT x, count(*) FROM s GROUP BY x EMIT UPDATE", "stream s")],
)
def test_who_follows_what_he_may_not_read_any_more_is_told(server: RunningServer, statement: str, object_name: str):
    name = object_name.rpartition(" ")[2]
    with server.connect() as owner, RawClient(server.port, {"user": "nobody"}) as client:
        owner.execute(f"GRANT SELECT ON {name} TO nobody")
        with RawClient(server.port, {"user": "reader"}) as reader:
            for follower in (client, reader):
                follower.send("Query", {"text": statement})
                assert follower.lines(2)[1].startswith("DataRow")
            owner.execute(f"REVOKE SELECT ON {name} FROM nobody")
            line = next(line for line in iter(lambda: client.lines(1)[0], "") if line.startswith("Error"))
            assert f'"code": "42501", "message": "permission denied for {object_name}"' in line
            owner.execute("INSERT INTO s VALUES ('2026-02-01', 99)")  # the other one goes on
            until(lambda: any("99" in line for line in reader.lines(1)))
        assert client.lines(1) == ['ReadyForQuery {"status": "I"}']
    server.wait_for_live_queries(0)


def test_a_role_that_is_left_or_loses_its_power_takes_its_rights_along(server: RunningServer):
    with server.connect() as owner, as_role(server, "nobody") as nobody:
        owner.execute("GRANT reader TO nobody")
        assert permitted(nobody, "SELECT * FROM t")
        owner.execute("ALTER ROLE nobody NOINHERIT")
        assert not permitted(nobody, "SELECT * FROM t")
        nobody.execute("SET ROLE reader")
        assert permitted(nobody, "SELECT * FROM t")
        nobody.execute("RESET ROLE")
        owner.execute("ALTER ROLE nobody INHERIT")
        assert permitted(nobody, "SELECT * FROM t")
        owner.execute("REVOKE reader FROM nobody")
        assert not permitted(nobody, "SELECT * FROM t")
        for grant, gone in (("ALTER ROLE nobody SUPERUSER", "ALTER ROLE nobody NOSUPERUSER"),
                            ("GRANT pg_read_all_data TO nobody", "REVOKE pg_read_all_data FROM nobody"),
                            ("GRANT SELECT ON t TO PUBLIC", "REVOKE SELECT ON t FROM PUBLIC")):  # fmt: skip
            owner.execute(grant)
            assert permitted(nobody, "SELECT * FROM t")
            owner.execute(gone)
            assert not permitted(nobody, "SELECT * FROM t")


def test_nobody_sees_through_a_view_what_its_owner_may_not_see(server: RunningServer):
    with server.connect() as owner, as_role(server, "sees_view") as sees:
        owner.execute("CREATE ROLE maker")
        owner.execute("GRANT CREATE ON SCHEMA public TO maker")
        owner.execute("GRANT SELECT ON t TO maker")
        owner.execute("SET ROLE maker")
        owner.execute("CREATE MATERIALIZED VIEW of_maker AS SELECT count(*) AS n FROM t")
        owner.execute("GRANT SELECT ON of_maker TO sees_view")
        owner.execute("RESET ROLE")
        assert permitted(sees, "SELECT * FROM of_maker")
        owner.execute("REVOKE SELECT ON t FROM maker")
        for asker in (sees, owner):
            with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table t"):
                asker.execute("SELECT * FROM of_maker")
        owner.execute("ALTER MATERIALIZED VIEW of_maker OWNER TO holder")
        assert permitted(owner, "SELECT * FROM of_maker")
        owner.execute("DROP MATERIALIZED VIEW of_maker")
        owner.execute("DROP OWNED BY maker")
        owner.execute("DROP ROLE maker")


# --------------------------------------------------------------------------------------------------- what the server tells


def test_late_rows_and_queries_of_others_are_not_shown(server: RunningServer):
    with server.connect() as owner:
        owner.execute(
            "CREATE MATERIALIZED VIEW closing AS SELECT count(*) AS n FROM s GROUP BY window(ts, '1 minute') EMIT APPEND"
        )
        owner.execute("INSERT INTO s VALUES ('2026-06-01', 1)")
        owner.execute("INSERT INTO s VALUES ('2025-01-01', 4711)")
    late = "SELECT row->>'x' FROM streamsql.late_rows AS l WHERE l.view = 'closing' AND stream = 's'"
    for role in ROLES:
        with as_role(server, role) as connection:
            assert (("4711",) in connection.execute(late).fetchall()) is (role in READS)
            assert (
                connection.execute("SELECT count(*) FROM streamsql.late_rows").fetchone() != (0,) or role not in READS
            )
            names = {row[0] for row in connection.execute("SELECT name FROM streamsql.views").fetchall()}
            assert ("closing" in names) is (role == "super")
            assert ("v" in names) is (role in SEES_VIEW)
            streams = {row[0] for row in connection.execute("SELECT name FROM streamsql.streams").fetchall()}
            assert ("s" in streams) is (role in READS)
            queries = {row[0] for row in connection.execute("SHOW QUERIES").fetchall()}
            assert ("v" in queries) is (role in SEES_VIEW)
            joined = "SELECT v.name FROM streamsql.views v LEFT JOIN streamsql.late_rows r ON r.view = v.name WHERE name = 'v'"
            assert bool(connection.execute(joined).fetchall()) is (role in SEES_VIEW)


def test_what_others_run_is_hidden_in_pg_stat_activity(server: RunningServer):
    shown = "SELECT query FROM pg_stat_activity WHERE usename = 'holder'"
    with as_role(server, "holder") as holder:
        holder.execute("SELECT 'confidential'")
        for role, seen in (("nobody", False), ("writer", False), ("holder", True), ("super", True)):
            with as_role(server, role) as asker:
                texts = {row[0] for row in asker.execute(shown).fetchall()}
                assert any("confidential" in text for text in texts) is seen
                assert ("<insufficient privilege>" in texts) is not seen


def test_privilege_functions_and_the_catalog_tell_the_truth(server: RunningServer):
    for role in ROLES:
        with as_role(server, role) as connection:
            row = connection.execute(
                "SELECT has_table_privilege('t', 'SELECT'), has_table_privilege('public.t'::regclass, 'insert, trigger'), "
                "has_table_privilege(current_user, 'v', 'select'), has_schema_privilege('public', 'CREATE'), "
                "pg_has_role('holder', 'USAGE'), has_any_column_privilege('t', 'UPDATE'), "
                "has_table_privilege('writer', 't', 'SELECT'), has_table_privilege('writer', 't', 'DELETE')"
            ).fetchone()
            assert row == (
                role in READS, role in WRITES, role in SEES_VIEW, role in OWNS, role in OWNS, role in WRITES, False, True,
            )  # fmt: skip
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_name IN ('s', 't')"
            ).fetchall()
            assert len(tables) == (0 if role in {"nobody", "sees_view"} else 2)
            by_row = connection.execute(
                "SELECT relname FROM pg_class WHERE relname IN ('s', 't') AND has_table_privilege(oid, 'SELECT') ORDER BY 1"
            ).fetchall()
            assert by_row == ([("s",), ("t",)] if role in READS else [])
