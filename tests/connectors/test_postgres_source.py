"""A table of another PostgreSQL is the same here, whatever happens to either side: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from streamsql.base.errors import (
    DuplicateObject,
    FeatureNotSupported,
    InvalidTableDefinition,
    NotInPrerequisiteState,
    ProgramLimitExceeded,
    StreamSQLError,
    Unavailable,
    UndefinedColumn,
    UndefinedTable,
)
from streamsql.sql.statements import ColumnDefinition
from tests.connectors.captured import CapturedTable
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

KEY = ColumnDefinition("id", "INTEGER", not_null=True, primary_key=True)
TEXT = ColumnDefinition("note", "VARCHAR")
TABLE = "CREATE TABLE t (id int PRIMARY KEY, note text)"


@pytest.fixture
def opened() -> Iterator[list[CapturedTable]]:
    """Tables to be closed at the end."""
    tables: list[CapturedTable] = []
    yield tables
    for table in tables:
        table.close()


def capture(
    database: OtherDatabase, opened: list[CapturedTable], columns: Sequence[ColumnDefinition] = (KEY, TEXT), **more: Any
) -> CapturedTable:
    options = {**database.options, **more.pop("options", {})}
    table = CapturedTable(options, columns, **more)
    opened.append(table)
    return table


def same(database: OtherDatabase, table: CapturedTable) -> None:
    """Read all that there is, and compare."""
    database.execute("CREATE TABLE IF NOT EXISTS unrelated (x int); INSERT INTO unrelated VALUES (1)")
    names = ", ".join(c.name for c in table.columns)
    wanted = sorted(database.rows(f"SELECT {names} FROM {table.options.get('table', table.name)}"))
    table.read_until(lambda: table.has_begun and sorted(table.rows.values()) == wanted)


def test_rows_of_all_types_come_by_the_snapshot_and_by_changes_alike(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, b bool, i2 smallint, i8 bigint, "
        "f4 real, f8 float8, n numeric(20, 6), s text, v varchar(9), c char(4), y bytea, d date, ti time, ts timestamp, "
        "tz timestamptz, iv interval, u uuid, j json, jb jsonb, a int[], sa text[], m mood)"
    )
    values = (
        "true, -32768, 9223372036854775807, 1.5, 0.1, 12345678901234.567891, E'a\"b,\\n\\\\c\\té', 'v', 'ab', "
        "'\\x00ff5c', '1999-12-31', '23:59:59.999999', '2024-02-29 12:00:00.000001', '2024-02-29 12:00:00+02', "
        "'1 year 2 mons -3 days 04:05:06', 'f47ac10b-58cc-4372-a567-0e02b2c3d479', '{\"k\": [1, null]}', '{\"k\": 2}', "
        "'{1,NULL,3}', '{\"a,b\",\"\"}', 'ok'"
    )
    other_database.execute(f"INSERT INTO t VALUES (1, {values}); INSERT INTO t (id) VALUES (2)")
    types = [
        ("b", "BOOLEAN"), ("i2", "SMALLINT"), ("i8", "BIGINT"), ("f4", "FLOAT"), ("f8", "DOUBLE"), ("n", "DECIMAL(20,6)"),
        ("s", "VARCHAR"), ("v", "VARCHAR"), ("c", "VARCHAR"), ("y", "BLOB"), ("d", "DATE"), ("ti", "TIME"),
        ("ts", "TIMESTAMP"), ("tz", "TIMESTAMP WITH TIME ZONE"), ("iv", "INTERVAL"), ("u", "UUID"), ("j", "JSON"),
        ("jb", "JSON"), ("a", "INTEGER[]"), ("sa", "VARCHAR[]"), ("m", "VARCHAR"),
    ]  # fmt: skip
    table = capture(other_database, opened, [KEY, *(ColumnDefinition(n, t) for n, t in types)])
    table.read_until(lambda: len(table.rows) == 2)
    other_database.execute(f"INSERT INTO t VALUES (3, {values}); INSERT INTO t (id) VALUES (4)")
    table.read_until(lambda: len(table.rows) == 4)
    assert table.rows[(1,)][1:] == table.rows[(3,)][1:]
    assert table.rows[(2,)][1:] == table.rows[(4,)][1:] == (None,) * len(types)
    held = dict(zip([n for n, _ in types], table.rows[(3,)][1:], strict=True))
    (wanted,) = other_database.rows("SELECT b, i2, i8, f4, f8, n, s, v, c, y, d, ti, ts, tz FROM t WHERE id = 3")
    assert tuple(held.values())[: len(wanted)] == wanted
    assert held["n"] == Decimal("12345678901234.567891")
    assert (held["iv"].months, held["iv"].days, held["iv"].nanoseconds) == (14, -3, 14_706_000_000_000)
    assert held["u"] == "f47ac10b-58cc-4372-a567-0e02b2c3d479"
    assert (held["j"], held["jb"]) == ('{"k": [1, null]}', '{"k": 2}')
    assert (held["a"], held["sa"], held["m"]) == ([1, None, 3], ["a,b", ""], "ok")


def test_updates_deletes_moved_keys_and_truncates_are_followed(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(f"{TABLE}; INSERT INTO t SELECT i, i FROM generate_series(1, 9) i")
    table = capture(other_database, opened)
    same(other_database, table)
    for sql in (
        "UPDATE t SET note = 'u' WHERE id < 4",
        "UPDATE t SET id = id + 100 WHERE id IN (2, 5)",
        "DELETE FROM t WHERE id IN (1, 102)",
        "BEGIN; INSERT INTO t VALUES (1, 'again'); UPDATE t SET id = 2 WHERE id = 1; DELETE FROM t WHERE id = 9; COMMIT",
        "BEGIN; INSERT INTO t VALUES (77, 'rolled back'); ROLLBACK",
        "BEGIN; INSERT INTO t VALUES (78, 'x'); TRUNCATE t; INSERT INTO t VALUES (79, 'y'); COMMIT",
        "TRUNCATE t",
        "INSERT INTO t VALUES (1, 'after')",
    ):
        other_database.execute(sql)
        same(other_database, table)


@pytest.mark.parametrize("identity", ["FULL", "DEFAULT"])
def test_an_update_that_leaves_a_long_value_keeps_it(
    other_database: OtherDatabase, opened: list[CapturedTable], identity: str
):
    other_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text, n int); ALTER TABLE t ALTER note SET STORAGE EXTERNAL; "
        f"ALTER TABLE t REPLICA IDENTITY {identity}; INSERT INTO t VALUES (1, repeat('long', 10000), 1), (2, 'short', 1)"
    )
    table = capture(other_database, opened, [KEY, TEXT, ColumnDefinition("n", "INTEGER")])
    same(other_database, table)
    other_database.execute("UPDATE t SET n = 2; UPDATE t SET id = id + 10; UPDATE t SET note = NULL WHERE id = 12")
    same(other_database, table)
    assert table.rows[(11,)] == (11, "long" * 10_000, 2)


def test_tables_have_their_own_slots_and_a_transaction_over_both_is_seen_in_each(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(
        'CREATE SCHEMA s; CREATE TABLE a (id int PRIMARY KEY, note text); CREATE TABLE s."B.b" (id int PRIMARY KEY, note text)'
    )
    tables = [
        capture(other_database, opened, name="a"),
        capture(other_database, opened, name="b", options={"table": 's."B.b"'}),
    ]
    for table in tables:
        same(other_database, table)
    other_database.execute(
        "BEGIN; INSERT INTO a VALUES (1, 'x'); INSERT INTO s.\"B.b\" VALUES (2, 'y'); TRUNCATE a; "
        "UPDATE s.\"B.b\" SET note = 'z'; INSERT INTO a VALUES (3, 'w'); COMMIT"
    )
    for table in tables:
        same(other_database, table)
    assert len(other_database.rows(f"SELECT 1 FROM pg_replication_slots WHERE database = '{other_database.name}'")) == 2


def test_columns_that_come_at_the_origin_are_left_and_one_that_goes_stops_the_table(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(TABLE)
    table = capture(other_database, opened)
    same(other_database, table)
    other_database.execute(
        "INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (2, 'b', 5); "
        "ALTER TABLE t ALTER note TYPE varchar(30); INSERT INTO t VALUES (3, 'c', 5)"
    )
    same(other_database, table)
    other_database.execute("ALTER TABLE t RENAME note TO comment; INSERT INTO t VALUES (4, 'd', 5)")
    error = table.failure()
    assert isinstance(error, UndefinedColumn)
    assert error.message == 'column "note" of "public.t" is gone at the origin'
    assert len(table.rows) == 3


def test_a_value_that_does_not_fit_is_set_aside_and_the_rest_goes_on(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, '5'), (2, 'x'), (3, '7')"
    )
    table = capture(other_database, opened, [KEY, ColumnDefinition("note", "INTEGER")])
    table.read_until(lambda: len(table.rows) == 2)
    other_database.execute("INSERT INTO t VALUES (4, 'y'), (5, '9')")
    table.read_until(lambda: len(table.rows) == 3)
    assert set(table.rows.values()) == {(1, 5), (3, 7), (5, 9)}
    rejected = [r for b in table.batches for r in b.rejected.to_pylist()]
    assert [(r["reason"], r["bytes"]) for r in rejected] == [
        ('column "note": invalid input syntax for type integer: "x"', b"2\tx"),
        ('column "note": invalid input syntax for type integer: "y"', b"4\ty"),
    ]


def test_a_stream_takes_the_rows_and_the_inserts_once_each(other_database: OtherDatabase, opened: list[CapturedTable]):
    other_database.execute(f"{TABLE}; INSERT INTO t SELECT i, 'old' FROM generate_series(1, 500) i")
    columns = [ColumnDefinition("id", "INTEGER"), TEXT]
    table, chance = capture(other_database, opened, columns, rows_max=100), random.Random(4)
    table.read_until(lambda: len(table.stream) == 500, chance)
    other_database.execute(
        "BEGIN; INSERT INTO t SELECT i, 'new' FROM generate_series(501, 900) i; UPDATE t SET note = 'u'; COMMIT; "
        "DELETE FROM t WHERE id < 700; TRUNCATE t; INSERT INTO t VALUES (901, 'last')"
    )
    table.read_until(lambda: (901, "last") in table.stream, chance)
    assert [i for i, _ in table.stream] == list(range(1, 902))


def test_a_large_transaction_is_cut_and_goes_on_where_it_was_cut(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute("CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (0, 'first')")
    table, chance = capture(other_database, opened, rows_max=100), random.Random(5)
    same(other_database, table)
    other_database.execute(
        "BEGIN; INSERT INTO t SELECT i, 'n' FROM generate_series(1, 3000) i; UPDATE t SET id = -id WHERE id % 3 = 1; "
        "DELETE FROM t WHERE id % 5 = 1; COMMIT; INSERT INTO t VALUES (5000, 'x')"
    )
    table.read_until(lambda: (5000,) in table.rows, chance)
    same(other_database, table)
    assert all(batch.rows.num_rows <= 101 for batch in table.batches)
    assert any(":" in str(batch.position) for batch in table.batches)


def test_small_transactions_come_whole(other_database: OtherDatabase, opened: list[CapturedTable]):
    other_database.execute(TABLE)
    table = capture(other_database, opened, rows_max=50)
    same(other_database, table)
    with other_database.connect() as connection:
        for number in range(40):
            connection.execute("INSERT INTO t SELECT %s * 10 + i, 'n' FROM generate_series(0, 6) i", [number])
    same(other_database, table)
    assert [b.rows.num_rows for b in table.batches if b.rows.num_rows % 7] == []


def test_random_transactions_give_the_same_table_whatever_is_lost_and_cut(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(TABLE)
    chance = random.Random(6)
    table = capture(other_database, opened, rows_max=7)
    with other_database.connect() as connection:
        for round_number in range(25):
            for _ in range(chance.randrange(1, 6)):
                write_randomly(connection, chance)
            if chance.random() < 0.4:
                reading_through_cuts(table, lose=chance.random() < 0.5)
            if round_number % 5 == 0:
                settled(other_database, table, chance)
            if chance.random() < 0.2:
                other_database.end_connections("walsender")
                reading_through_cuts(table)
    settled(other_database, table, chance)


def write_randomly(connection: psycopg.Connection[Any], chance: random.Random) -> None:
    """Commit a transaction of random statements, or roll it back."""
    statements = {
        "INSERT INTO t SELECT i, %s FROM generate_series(%s::int, %s::int) i "
        "ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note": 6,
        "UPDATE t SET note = %s WHERE id BETWEEN %s::int AND %s::int": 4,
        "DELETE FROM t WHERE note <> %s AND id BETWEEN %s::int AND %s::int": 3,
        "UPDATE t SET id = id + 1000, note = %s WHERE id BETWEEN %s::int AND %s::int "
        "AND NOT EXISTS (SELECT 1 FROM t o WHERE o.id = t.id + 1000)": 2,
    }
    try:
        with connection.transaction():
            for _ in range(chance.randrange(1, 5)):
                low = chance.randrange(60)
                if chance.random() < 0.06:
                    connection.execute("TRUNCATE t")
                (sql,) = chance.choices(list(statements), list(statements.values()))
                connection.execute(sql.encode(), [str(chance.random()), low, low + chance.randrange(12)])
            if chance.random() < 0.15:
                raise psycopg.Rollback
    except psycopg.Rollback:
        pass


def reading_through_cuts(table: CapturedTable, *, lose: bool = False) -> None:
    """Read once more; a connection that was cut is opened again, as the reader does."""
    try:
        table.step(lose=lose)
    except Unavailable:
        table.close()


def settled(database: OtherDatabase, table: CapturedTable, chance: random.Random) -> None:
    wanted = sorted(database.rows("SELECT id, note FROM t"))
    deadline = time.monotonic() + 20
    while not (table.has_begun and sorted(table.rows.values()) == wanted):
        assert time.monotonic() < deadline
        try:
            if not table.step(lose=chance.random() < 0.2):
                time.sleep(0.002)
        except Unavailable:
            table.close()


def test_a_record_that_was_rejected_comes_once_though_its_transaction_is_cut(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute("CREATE TABLE t (id bigint PRIMARY KEY, note text)")
    table = capture(other_database, opened, rows_max=3)
    same(other_database, table)
    with other_database.connect() as connection, connection.transaction():
        for first in (0, 10, 20):
            connection.execute(
                "INSERT INTO t SELECT i, 'n' FROM generate_series(%s::int, %s::int) i", [first, first + 6]
            )
            connection.execute("INSERT INTO t VALUES (%s, 'n')", [5_000_000_000 + first])
    while len(table.rows) < 21:
        if table.step():
            table.close()  # and is opened again at what is committed
    rejected = [text for b in table.batches for text in b.rejected.column("bytes").to_pylist()]
    assert sorted(rejected) == [b"%d\tn" % (5_000_000_000 + first) for first in (0, 10, 20)]


def test_a_snapshot_that_is_lost_in_the_middle_begins_anew(other_database: OtherDatabase, opened: list[CapturedTable]):
    other_database.execute(f"{TABLE}; INSERT INTO t SELECT i, 'n' FROM generate_series(1, 5000) i")
    table = capture(other_database, opened, rows_max=1_000)
    table.read_until(lambda: len(table.rows) >= 2_000)
    assert table.positions == {"0": "snapshot"}
    table.close()
    other_database.execute("DELETE FROM t WHERE id <= 1500; UPDATE t SET id = -id WHERE id > 4900")
    same(other_database, table)


def test_a_server_that_is_restarted_in_the_middle_loses_nothing(postgres_cluster: Any, opened: list[CapturedTable]):
    database = OtherDatabase(postgres_cluster, "postgres")
    database.execute("CREATE TABLE restarted (id int PRIMARY KEY, note text)")
    table = capture(database, opened, name="restarted")
    try:
        for number, mode in enumerate(["immediate", "fast", "immediate"]):
            database.execute(f"INSERT INTO restarted SELECT i + {number * 1000}, 'n' FROM generate_series(1, 700) i")
            table.read_until(lambda: bool(table.rows))
            postgres_cluster.stop(mode)
            assert isinstance(table.failure(), Unavailable)
            assert isinstance(table.failure(), Unavailable)  # as long as it is down
            postgres_cluster.start()
        same(database, table)
    finally:
        table.close()
        database.execute("SELECT pg_drop_replication_slot('streamsql_restarted_7'); DROP TABLE restarted")


def test_a_source_that_is_paused_for_long_keeps_its_connection(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(TABLE)
    table = capture(other_database, opened)
    same(other_database, table)
    walsenders = (
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{other_database.name}' AND backend_type = 'walsender'"
    )
    before = other_database.rows(walsenders)
    other_database.execute("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i")
    ((at,),) = other_database.rows("SELECT now()")
    # the server cuts off who is silent for 3 s: it has to have heard of us after twice as long
    heard = f"SELECT reply_time - '{at}' > interval '7 s' FROM pg_stat_replication WHERE pid = {before[0][0]}"
    until(lambda: other_database.rows(heard) in ([(True,)], []))
    assert other_database.rows(walsenders) == before
    same(other_database, table)


def test_the_server_may_let_go_of_its_log_only_up_to_what_is_committed(
    other_database: OtherDatabase, opened: list[CapturedTable]
):
    other_database.execute(TABLE)
    table = capture(other_database, opened)
    same(other_database, table)
    confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'streamsql_t_7'"
    (before,) = other_database.rows(confirmed)
    other_database.execute("INSERT INTO t VALUES (1, 'x')")
    batch = None
    while batch is None or not batch.rows.num_rows:
        batch = table.open().read(100, 0)
    time.sleep(0.2)
    assert other_database.rows(confirmed) == [before]
    table.take(batch)
    table.positions = {"0": batch.position}
    table.open().committed(table.positions)
    table.read_until(lambda: other_database.rows(confirmed) > [before])
    # what others write in the same database moves the position along, so that the log does not pile up
    other_database.execute("CREATE TABLE o AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    (goal,) = other_database.rows("SELECT pg_current_wal_lsn() - 1000000::numeric")
    table.read_until(lambda: other_database.rows(confirmed) > [goal])


@pytest.mark.parametrize(
    ("setup", "columns", "options", "kind", "message"),
    [
        ("", [KEY], {}, UndefinedTable, 'the origin has no table "public.t"'),
        ("CREATE TABLE t (id int PRIMARY KEY)", [KEY, TEXT], {}, UndefinedColumn,
         'the table "public.t" of the origin has no column "note"'),
        ("CREATE TABLE t (id int, note text)", [KEY], {}, InvalidTableDefinition,
         '("id") is not unique in the table "public.t" of the origin'),
        ("CREATE VIEW t AS SELECT 1 AS id", [KEY], {}, FeatureNotSupported,
         '"public.t" is not a table: its changes cannot be read'),
        ("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p", [KEY], {"publication": "p"}, NotInPrerequisiteState,
         'the publication "p" of the origin does not have the table "public.t"'),
        ("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert')", [KEY],
         {"publication": "p"}, NotInPrerequisiteState, 'the publication "p" of the origin leaves out updates or deletes'),
        ("CREATE TABLE t (id int PRIMARY KEY); SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')", [KEY],
         {"slot": "theirs"}, DuplicateObject, 'the origin has a replication slot "theirs" already'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(
    other_database: OtherDatabase, opened: list[CapturedTable], setup: str, columns: list[ColumnDefinition],
    options: dict[str, str], kind: type[StreamSQLError], message: str,
):  # fmt: skip
    for statement in setup.split("; "):
        if statement:
            other_database.execute(statement)
    error = capture(other_database, opened, columns, options=options).failure()
    assert (type(error), error.message) == (kind, message)


def test_rows_of_a_stream_that_are_too_many_are_refused(other_database: OtherDatabase, opened: list[CapturedTable]):
    other_database.execute("CREATE TABLE t AS SELECT i AS id, 'n' AS note FROM generate_series(1, 11) i")
    error = capture(other_database, opened, [ColumnDefinition("id", "INTEGER")], snapshot_rows_max=10).failure()
    assert isinstance(error, ProgramLimitExceeded)


def test_a_slot_that_is_gone_or_went_on_is_found_out(other_database: OtherDatabase, opened: list[CapturedTable]):
    other_database.execute(TABLE)
    table = capture(other_database, opened)
    same(other_database, table)
    other_database.execute("INSERT INTO t VALUES (1, 'x')")
    same(other_database, table)
    table.close()
    other_database.execute("INSERT INTO t VALUES (2, 'y')")
    with other_database.connect() as connection:
        deadline = time.monotonic() + 10
        while connection.execute(
            "SELECT active FROM pg_replication_slots WHERE slot_name = 'streamsql_t_7'"
        ).fetchall() != [(False,)]:
            assert time.monotonic() < deadline
        connection.execute("SELECT pg_replication_slot_advance('streamsql_t_7', pg_current_wal_lsn())")
        error = table.failure()
        assert isinstance(error, NotInPrerequisiteState)
        assert "has gone on without us" in error.message
        connection.execute("SELECT pg_drop_replication_slot('streamsql_t_7')")
    error = table.failure()
    assert isinstance(error, NotInPrerequisiteState)
    assert error.message == 'the replication slot "streamsql_t_7" of the origin is gone'
