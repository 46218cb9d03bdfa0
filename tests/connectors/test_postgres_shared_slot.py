"""Several tables over one replication slot: what the origin commits together is seen together here."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from streamsql.connectors.postgres.source import PostgresConnector
from streamsql.connectors.source import Given, Member, Surroundings
from streamsql.sql.statements import ColumnDefinition
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.connectors.sharing import (
    ACCOUNTS,
    COLUMNS,
    NAMES,
    TOGETHER,
    TOTAL,
    VIEW,
    Session,
    assert_whole,
    captured,
    caught_up,
    made,
    published,
    same,
    slots,
    status,
    transfers,
)
from tests.running import RunningServer, until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres


def test_transactions_over_two_tables_are_seen_whole(tmp_path: Path, other_database: OtherDatabase):
    made(other_database)
    whole = 2 * ACCOUNTS * 100
    with RunningServer(tmp_path) as server, psycopg.connect(server.dsn, autocommit=True) as session:
        for name in NAMES:
            captured(session, other_database, name)
        until(lambda: session.execute(TOTAL).fetchone() == (whole,))
        session.execute(f"CREATE MATERIALIZED VIEW total AS {VIEW} EMIT UPDATE".encode())
        caught_up(session, other_database)
        session.execute("DECLARE totals CURSOR WITH HOLD FOR SUBSCRIBE total")
        before = other_database.rows("SELECT sum(amount) FROM left_side")
        with psycopg.connect(server.dsn, autocommit=True) as watching, transfers(other_database, 1):
            assert_whole(watching, whole, 20, "SELECT amount FROM total")
        until(lambda: all(same(session, other_database, name) for name in NAMES))
        assert other_database.rows("SELECT sum(amount) FROM left_side") != before
        assert {amount for _, _, amount in session.execute("FETCH ALL FROM totals").fetchall()} == {whole}
        session.execute("CLOSE totals")
        assert slots(other_database) == ["shop"]
        assert published(other_database) == sorted(NAMES)
        assert len(other_database.rows("SELECT 1 FROM pg_stat_replication WHERE application_name = 'streamsql'")) == 1
        session.execute("DROP MATERIALIZED VIEW total")
        session.execute("DROP TABLE left_side")
        until(lambda: published(other_database) == ["right_side"])
        other_database.execute("UPDATE right_side SET amount = 7 WHERE id = 1")
        until(lambda: same(session, other_database, "right_side"))
        session.execute("DROP TABLE right_side")
        until(lambda: not slots(other_database) and not other_database.rows("SELECT 1 FROM pg_publication"))


@contextlib.contextmanager
def sharing(
    folder: Path, database: OtherDatabase, names: Sequence[str] = NAMES, arguments: Sequence[str] = ()
) -> Iterator[tuple[RunningServer, Session]]:
    """Serve, with tables that are read together."""
    made(database, names)
    with RunningServer(folder, arguments) as server, psycopg.connect(server.dsn, autocommit=True) as session:
        for name in names:
            captured(session, database, name)
        caught_up(session, database, names)
        yield server, session


def test_a_table_joins_later_under_load(tmp_path: Path, other_database: OtherDatabase):
    made(other_database, ["third"])
    with sharing(tmp_path, other_database) as (_, session):
        with transfers(other_database, 2, [*NAMES, "third"]):
            captured(session, other_database, "third")
            until(lambda: status(session, "third") == "reading" and is_filled(session, "third"))
        until(lambda: all(same(session, other_database, name) for name in (*NAMES, "third")))
        assert published(other_database) == [*NAMES, "third"]
        # a transaction that was begun before, and goes on while the fourth one joins, is in its snapshot
        other_database.execute(f"CREATE TABLE fourth {COLUMNS}")
        with other_database.connect() as connection:
            with connection.transaction():
                connection.execute("INSERT INTO fourth VALUES (1, 1)")
                captured(session, other_database, "fourth")
                connection.execute("INSERT INTO fourth VALUES (2, 2); UPDATE third SET amount = 5 WHERE id = 5")
            connection.execute("INSERT INTO fourth VALUES (3, 3)")
        until(lambda: same(session, other_database, "fourth") and same(session, other_database, "third"))
        caught_up(session, other_database, ["fourth"])
        assert slots(other_database) == ["shop"]


def is_filled(session: Session, name: str) -> bool:
    """Tell whether the rows that are always at the origin are here."""
    (here,) = session.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() or (0,)
    return bool(here >= ACCOUNTS)


def test_a_table_is_dropped_and_made_anew_under_load(tmp_path: Path, other_database: OtherDatabase):
    with sharing(tmp_path, other_database, (*NAMES, "third")) as (_, session):
        with transfers(other_database, 3, [*NAMES, "third"]):
            session.execute("DROP TABLE third")
            until(lambda: published(other_database) == list(NAMES))
            session.execute("DROP TABLE left_side")
            captured(session, other_database, "left_side")
            until(lambda: is_filled(session, "left_side"))
        until(lambda: all(same(session, other_database, name) for name in NAMES))
        caught_up(session, other_database)
        assert published(other_database) == list(NAMES)
        # what nobody needs any more is let go of: nothing is left behind that would hold the log
        held = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'shop'"
        ((before,),) = other_database.rows(held)
        message = "SELECT pg_logical_emit_message(true, '', repeat('x', 20000000))"
        until(
            lambda: (
                other_database.rows(message) and other_database.rows(f"{held} AND confirmed_flush_lsn > '{before}'")
            ),
            60,
        )
        for name in NAMES:
            session.execute(f"DROP TABLE {name}".encode())
        until(lambda: not slots(other_database) and not other_database.rows("SELECT 1 FROM pg_publication"))


def test_a_paused_table_holds_the_log_and_catches_up(tmp_path: Path, other_database: OtherDatabase):
    held = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'shop'"
    with sharing(tmp_path, other_database) as (server, session):
        session.execute("ALTER TABLE left_side PAUSE")
        until(lambda: status(session, "left_side") == "paused")
        with transfers(other_database, 4):
            before = session.execute("SELECT sum(amount) FROM left_side").fetchone()
            until(lambda: session.execute(f"SELECT count(*) > {ACCOUNTS + 5} FROM right_side").fetchone() == (True,))
        until(lambda: same(session, other_database, "right_side"))
        assert session.execute("SELECT sum(amount) FROM left_side").fetchone() == before
        at = dict(session.execute("SELECT name, positions->>'0' FROM streamsql.sources").fetchall())
        assert other_database.rows(f"SELECT '{at['left_side']}'::pg_lsn < '{at['right_side']}'::pg_lsn") == [(True,)]
        assert other_database.rows(f"SELECT ({held}) <= '{at['left_side']}'::pg_lsn") == [(True,)]
        server.stop()
        server.start()
        with psycopg.connect(server.dsn, autocommit=True) as session:
            other_database.execute("UPDATE right_side SET amount = 3 WHERE id = 3")
            until(lambda: same(session, other_database, "right_side"))
            session.execute("ALTER TABLE left_side RESUME")
            until(lambda: same(session, other_database, "left_side"))
            caught_up(session, other_database)
            assert session.execute("SELECT rows_rejected FROM streamsql.sources").fetchall() == [(0,), (0,)]


def test_truncate_of_several_tables_is_one_change(tmp_path: Path, other_database: OtherDatabase):
    with sharing(tmp_path, other_database) as (server, session):
        stop = threading.Event()
        broken: list[Any] = []

        def watch() -> None:
            with psycopg.connect(server.dsn, autocommit=True) as watching:
                while not stop.is_set():
                    counts = watching.execute(TOGETHER).fetchone() or ()
                    if (counts[2] == 0) != (counts[3] == 0):
                        broken.append(counts)

        watcher = threading.Thread(target=watch)
        watcher.start()
        for number in range(10):
            other_database.execute("TRUNCATE left_side, right_side")
            until(lambda: all(same(session, other_database, name) for name in NAMES))
            other_database.execute(
                f"BEGIN; INSERT INTO left_side SELECT i, {number} FROM generate_series(1, 3) i; "
                "INSERT INTO right_side SELECT * FROM left_side; TRUNCATE left_side, right_side; "
                f"INSERT INTO right_side VALUES (1, {number}); INSERT INTO left_side VALUES (2, {number}); COMMIT"
            )
            until(lambda: all(same(session, other_database, name) for name in NAMES))
        stop.set()
        watcher.join()
        assert not broken


def test_a_table_that_fails_does_not_stop_the_others(tmp_path: Path, other_database: OtherDatabase):
    made(other_database, ["fourth"])
    other_database.execute("ALTER TABLE fourth ADD more text; UPDATE fourth SET more = 0")
    with sharing(tmp_path, other_database) as (_, session):
        columns = "(id INT PRIMARY KEY, amount BIGINT NOT NULL, more INT NOT NULL)"
        captured(session, other_database, "fourth", columns, ", on_error = 'fail'")
        caught_up(session, other_database, ["fourth"])
        # a record that cannot be read
        other_database.execute(
            "BEGIN; UPDATE left_side SET amount = 1 WHERE id = 1; INSERT INTO fourth VALUES (91, 1, 'many'); COMMIT; "
            "INSERT INTO fourth VALUES (92, 2, '2')"
        )
        until(lambda: "a record cannot be read" in status(session, "fourth"))
        until(lambda: same(session, other_database, "left_side"))
        assert session.execute("SELECT count(*) FROM fourth WHERE id > 90").fetchone() == (0,)
        session.execute("ALTER TABLE fourth RESUME SKIP")
        until(lambda: session.execute("SELECT id, more FROM fourth WHERE id > 90").fetchall() == [(92, 2)])
        # a row that does not fit here: the transactions of the others stay whole
        whole = (session.execute(TOTAL).fetchone() or (0,))[0]
        session.execute(f"CREATE MATERIALIZED VIEW total AS {VIEW} EMIT UPDATE".encode())
        session.execute("DECLARE totals CURSOR WITH HOLD FOR SUBSCRIBE total")
        with transfers(other_database, 9):
            other_database.execute(
                "BEGIN; UPDATE left_side SET amount = amount - 7 WHERE id = 3; INSERT INTO fourth VALUES (93, 3); "
                "UPDATE right_side SET amount = amount + 7 WHERE id = 3; COMMIT"
            )
            while "violates not-null constraint" not in status(session, "fourth"):
                assert_whole(session, whole, 1)
            assert_whole(session, whole, 10)
        until(lambda: all(same(session, other_database, name) for name in NAMES))
        assert {amount for _, _, amount in session.execute("FETCH ALL FROM totals").fetchall()} == {whole}
        assert session.execute("SELECT id, more FROM fourth WHERE id > 90").fetchall() == [(92, 2)]
        session.execute("DROP TABLE fourth")
        other_database.execute("DELETE FROM fourth WHERE more IS NULL OR id = 91")
        captured(session, other_database, "fourth", columns)
        caught_up(session, other_database, ["fourth"])
        # a write that is refused for one of its tables
        session.execute("CREATE MATERIALIZED VIEW added AS SELECT id FROM fourth EMIT APPEND")
        other_database.execute(
            "BEGIN; UPDATE left_side SET amount = amount - 5 WHERE id = 3; UPDATE fourth SET amount = 5 WHERE id = 5; "
            "UPDATE right_side SET amount = amount + 5 WHERE id = 3; COMMIT"
        )
        until(lambda: "cannot be changed while a query in append mode reads it" in status(session, "fourth"))
        until(lambda: all(same(session, other_database, name) for name in NAMES))
        assert {amount for _, _, amount in session.execute("FETCH ALL FROM totals").fetchall()} <= {whole}
        session.execute("DROP MATERIALIZED VIEW added")
        session.execute("ALTER TABLE fourth RESUME")
        until(lambda: same(session, other_database, "fourth"))
        # a column that is gone
        other_database.execute("ALTER TABLE fourth DROP more; INSERT INTO fourth VALUES (94, 4)")
        until(lambda: 'column "more" of "public.fourth" is gone' in status(session, "fourth"))
        other_database.execute("DELETE FROM left_side WHERE id < 5; DELETE FROM right_side WHERE id > 5")
        until(lambda: all(same(session, other_database, name) for name in NAMES))
        assert [status(session, name) for name in NAMES] == ["reading", "reading"]


def test_a_table_that_never_began_holds_nothing_and_others_slots_are_not_taken(
    tmp_path: Path, other_database: OtherDatabase
):
    other_database.execute("SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')")
    with sharing(tmp_path, other_database) as (_, session):
        captured(session, other_database, "wrong", more=", table = 'nowhere'")
        until(lambda: 'the origin has no table "public.nowhere"' in status(session, "wrong"))
        captured(session, other_database, "given", more=", table = 'left_side', publication = 'missing'")
        until(lambda: is_filled(session, "left_side") and status(session, "given") == "reading")
        missing = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'missing'"
        until(lambda: other_database.rows(missing) == [("left_side",)])
        session.execute(
            f"CREATE TABLE t {COLUMNS} WITH (connector = 'postgres', slot = 'theirs', {other_database.written_options}, "
            "table = 'left_side')".encode()
        )
        until(lambda: 'the origin has a replication slot "theirs" already' in status(session, "t"))
        caught_up(session, other_database)
        session.execute("DROP TABLE t")
        session.execute("DROP TABLE wrong")
        session.execute("DROP TABLE given")
        other_database.execute("UPDATE left_side SET amount = 3 WHERE id = 3")
        until(lambda: same(session, other_database, "left_side"))
        assert slots(other_database) == ["shop", "theirs"]


def test_what_cannot_be_added_to_a_given_publication_is_told(tmp_path: Path, other_database: OtherDatabase):
    made(other_database)
    other_database.execute("CREATE PUBLICATION ours FOR TABLE left_side")
    with RunningServer(tmp_path) as server, psycopg.connect(server.dsn, autocommit=True) as session:
        for name in NAMES:
            captured(session, other_database, name, more=", publication = 'ours'")
        until(lambda: 'does not have the table "public.right_side"' in status(session, "right_side"))
        caught_up(session, other_database, ["left_side"])
        other_database.execute("ALTER PUBLICATION ours ADD TABLE right_side")
        session.execute("ALTER TABLE right_side RESUME")
        caught_up(session, other_database)
        for name in NAMES:
            session.execute(f"DROP TABLE {name}".encode())
        until(lambda: not slots(other_database))
        assert other_database.rows("SELECT pubname FROM pg_publication") == [("ours",)]


def test_an_origin_that_is_restarted_breaks_no_transaction(
    postgres_cluster: Any, tmp_path: Path, other_database: OtherDatabase
):
    whole = 2 * ACCOUNTS * 100
    with sharing(tmp_path, other_database) as (_, session):
        for number, mode in enumerate(["immediate", "fast"]):
            seed = number + 5
            with transfers(other_database, seed):
                assert_whole(session, whole, 5)
            postgres_cluster.stop(mode)
            until(lambda: all(status(session, name).startswith("retrying") for name in NAMES), 30)
            assert_whole(session, whole, 1)
            postgres_cluster.start()
            with transfers(other_database, seed + 10):
                assert_whole(session, whole, 5)
        until(lambda: all(same(session, other_database, name) for name in NAMES))
        assert [status(session, name) for name in NAMES] == ["reading", "reading"]


def test_a_table_goes_on_from_before_another_one_was_what_it_is(tmp_path: Path, other_database: OtherDatabase):
    with sharing(tmp_path, other_database) as (_, session):
        session.execute("ALTER TABLE left_side PAUSE")
        # the log from there on has changes of tables that are not the same any more, or had other columns
        other_database.execute(
            f"DROP TABLE IF EXISTS third; CREATE TABLE third {COLUMNS}; ALTER PUBLICATION shop ADD TABLE third; "
            "INSERT INTO third VALUES (1, 1)"
        )
        other_database.execute(f"DROP TABLE third; CREATE TABLE third {COLUMNS}; INSERT INTO third VALUES (3, 3)")
        other_database.execute("CREATE TABLE fourth (id INT PRIMARY KEY); ALTER PUBLICATION shop ADD TABLE fourth")
        other_database.execute("INSERT INTO fourth VALUES (1)")
        other_database.execute("ALTER TABLE fourth ADD amount BIGINT; UPDATE fourth SET amount = 1")
        other_database.execute("UPDATE left_side SET amount = 2; UPDATE right_side SET amount = 2")
        for name in ("third", "fourth"):
            captured(session, other_database, name)
        caught_up(session, other_database, ["right_side", "third", "fourth"])
        session.execute("ALTER TABLE left_side RESUME")
        caught_up(session, other_database, [*NAMES, "third", "fourth"])
        assert session.execute("SELECT DISTINCT status FROM streamsql.sources").fetchall() == [("reading",)]


def test_the_log_is_held_while_a_table_begins(tmp_path: Path, other_database: OtherDatabase):
    made(other_database, ["third"])
    held = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'shop'"
    with sharing(tmp_path, other_database) as (_, session), other_database.connect() as connection:
        with connection.transaction():
            connection.execute("SELECT pg_current_xact_id()")  # the third one's slot waits for its end
            captured(session, other_database, "third")
            until(lambda: len(slots(other_database)) == 2)
            before = other_database.rows(held)
            for number in range(5):
                other_database.execute(f"UPDATE left_side SET amount = {number}")
                until(lambda: same(session, other_database, "left_side"))
            assert other_database.rows(held) == before
        caught_up(session, other_database, [*NAMES, "third"])
        until(lambda: other_database.rows(held) > before)


def test_a_transaction_of_more_rows_than_may_be_read_at_a_time(tmp_path: Path, other_database: OtherDatabase):
    with sharing(tmp_path, other_database, arguments=["--limit", "source_batch_rows_max=5000"]) as (_, session):
        rows = "SELECT i, i FROM generate_series(1000, 60999) i"
        other_database.execute(
            f"BEGIN; INSERT INTO left_side {rows}; INSERT INTO right_side {rows}; UPDATE left_side SET amount = 0; "
            "DELETE FROM right_side WHERE id < 30000; COMMIT"
        )
        for count in (10_000, 40_000):  # cut off in the middle
            more = f"SELECT count(*) > {count} FROM left_side"
            until(lambda more=more: session.execute(more.encode()).fetchone() == (True,))  # type: ignore[misc]
            other_database.end_connections("walsender")
        until(lambda: all(same(session, other_database, name) for name in NAMES), 60)
        caught_up(session, other_database)


def test_tables_that_are_not_read_for_long_keep_their_connection(other_database: OtherDatabase):
    for name in NAMES:
        other_database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, note TEXT)")
    columns = (
        ColumnDefinition("id", "INTEGER", not_null=True, primary_key=True),
        ColumnDefinition("note", "VARCHAR"),
    )
    options = {**other_database.options, "slot": "shop"}
    other_database.execute("CREATE PUBLICATION shop FOR TABLE left_side, right_side")
    other_database.execute("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    ((place,),) = other_database.rows("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'shop'")
    members = {
        number: Member(
            Given(options, {}, table=True), columns, {"0": place}, Surroundings(name=name, identity=f"7-{number}")
        )
        for number, name in enumerate(NAMES)
    }
    source = PostgresConnector().open_shared(members, lambda: None)
    walsenders = (
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{other_database.name}' AND backend_type = 'walsender'"
    )
    before = until(lambda: other_database.rows(walsenders))
    for name in NAMES:
        other_database.execute(f"INSERT INTO {name} SELECT i, repeat('x', 1000) FROM generate_series(1, 40000) i")
    ((at,),) = other_database.rows("SELECT now()")
    # the server cuts off who is silent for 3 s: it has to have heard of us after twice as long
    heard = f"SELECT reply_time - '{at}' > interval '7 s' FROM pg_stat_replication WHERE pid = {before[0][0]}"
    until(lambda: other_database.rows(heard) in ([(True,)], []))
    assert other_database.rows(walsenders) == before
    read = 0
    while read < 80_000:
        found = source.read(65_536, 0)
        read += sum(batch.rows.num_rows for batch in found.batches.values()) if found else 0
    source.close()


def test_a_table_that_is_far_behind_reads_all_of_the_log(tmp_path: Path, other_database: OtherDatabase):
    with sharing(tmp_path, other_database) as (_, session):
        session.execute("ALTER TABLE left_side PAUSE")
        # much log of what the other one has already, before and after each change of this one
        for number in (1, 2, 3):
            other_database.execute(f"UPDATE left_side SET amount = 1{number} WHERE id = {number}")
            other_database.execute(
                f"INSERT INTO right_side SELECT i, 1 FROM generate_series({number}00000, {number}99999) i"
            )
        until(lambda: session.execute("SELECT count(*) > 300000 FROM right_side").fetchone() == (True,), 60)
        session.execute("ALTER TABLE left_side RESUME")
        until(lambda: same(session, other_database, "left_side"), 60)
        caught_up(session, other_database)


def test_a_slot_that_is_gone_stops_all_until_they_begin_anew(tmp_path: Path, other_database: OtherDatabase):
    made(other_database, ["third"])
    with sharing(tmp_path, other_database) as (_, session):
        session.execute("ALTER TABLE left_side PAUSE")
        session.execute("ALTER TABLE right_side PAUSE")
        walsenders = "SELECT 1 FROM pg_replication_slots WHERE active AND slot_name = 'shop'"
        until(lambda: not other_database.rows(walsenders))
        other_database.execute("SELECT pg_drop_replication_slot('shop'); UPDATE left_side SET amount = 1")
        for name in NAMES:
            session.execute(f"ALTER TABLE {name} RESUME".encode())
        gone = 'stopped: the replication slot "shop" of the origin is gone'
        until(lambda: [status(session, name) for name in NAMES] == [gone, gone])
        captured(session, other_database, "third")  # it would hide that the others have a gap
        until(lambda: status(session, "third") == gone)
        for name in (*NAMES, "third"):
            session.execute(f"DROP TABLE {name}".encode())
        until(lambda: not other_database.rows("SELECT 1 FROM pg_publication"))
        for name in NAMES:
            captured(session, other_database, name)
        caught_up(session, other_database)


def more_comes_in(session: Session, name: str) -> None:
    """Wait until rows of a table come in."""
    rows = f"SELECT rows_in FROM streamsql.sources WHERE name = '{name}'".encode()
    before = session.execute(rows).fetchone()
    until(lambda: session.execute(rows).fetchone() != before, 30)


def test_tables_come_go_pause_and_are_cut_off_in_any_order(tmp_path: Path, other_database: OtherDatabase):
    names = (*NAMES, "third", "fourth")
    made(other_database, names[2:])
    chance, there, paused = random.Random(31), set(NAMES), set[str]()
    with sharing(tmp_path, other_database, arguments=["--limit", "source_batch_rows_max=50"]) as (server, session):
        with transfers(other_database, 32, names):
            for number in range(40):
                name, kind = chance.choice(names), chance.choice(["member", "member", "pace", "pace", "cut"])
                if number % 15 == 14:
                    session.close()
                    server.stop()
                    server.start()
                    session = psycopg.connect(server.dsn, autocommit=True)
                elif kind == "cut":
                    other_database.end_connections("walsender")
                elif kind == "member" and name not in there:
                    captured(session, other_database, name)
                    there.add(name)
                elif kind == "member":
                    session.execute(f"DROP TABLE {name}".encode())
                    there.discard(name)
                    paused.discard(name)
                elif name in there:
                    session.execute(f"ALTER TABLE {name} {'RESUME' if name in paused else 'PAUSE'}".encode())
                    paused ^= {name}
                if there - paused:
                    more_comes_in(session, chance.choice(sorted(there - paused)))
        for name in paused:
            session.execute(f"ALTER TABLE {name} RESUME".encode())
        for name in set(names) - there:
            captured(session, other_database, name)
        until(lambda: all(same(session, other_database, name) for name in names), 60)
        caught_up(session, other_database, names)
        for name in names:
            session.execute(f"DROP TABLE {name}".encode())
        until(lambda: not slots(other_database) and not other_database.rows("SELECT 1 FROM pg_publication"), 30)
        session.close()
