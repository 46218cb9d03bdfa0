"""A view's changes arrive in a table of another PostgreSQL, each once, whatever breaks on the way."""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streamsql.base.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidPassword,
    InvalidTextRepresentation,
    NotInPrerequisiteState,
    StreamSQLError,
    Unavailable,
    UndefinedColumn,
    UndefinedTable,
)
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors.postgres.sink import PostgresSink, PostgresSinkConnector
from streamsql.connectors.sink import Delivery, Guarantee, Shape
from streamsql.connectors.source import Given, Surroundings
from streamsql.formats import casts
from streamsql.sql.secrets import SecretReference
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster
from tests.running import until

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

COLUMNS = (OutputColumn("k", "VARCHAR"), OutputColumn("n", "BIGINT"))
APPENDED, KEYED = Shape(COLUMNS, True, ()), Shape(COLUMNS, False, ("k",))


def opened(database: OtherDatabase, shape: Shape = KEYED, name: str = "t", **options: str) -> PostgresSink:
    given = Given({**database.options, **options}, {})
    return PostgresSinkConnector().open(given, shape, Surroundings(name=name, identity="3"))


def delivery(first: int, last: int, changes: Sequence[tuple[int, str | None, int | None]]) -> Delivery:
    """Changes (weight, k, n), all of the last epoch."""
    rows = pa.table(
        {"k": pa.array([k for _, k, _ in changes], pa.string()), "n": pa.array([n for *_, n in changes], pa.int64())}
    )
    count = len(changes)
    weights = np.array([w for w, *_ in changes], np.int8)
    return Delivery(rows, weights, np.full(count, last), np.arange(count), first, last)


def rows(database: OtherDatabase, table: str = "t") -> list[tuple[Any, ...]]:
    return database.rows(f"SELECT k, n FROM {table} ORDER BY 1, 2")


def test_rows_that_only_come_are_copied(other_database: OtherDatabase):
    other_database.execute("CREATE TABLE t (id serial, n bigint, k varchar(20))")
    sink = opened(other_database, APPENDED)
    assert sink.delivered() == 0
    sink.deliver(delivery(1, 1, [(1, "a", 1), (1, 'te"x\\t\t\n', None)]))
    sink.deliver(delivery(2, 5, [(1, "a", 1), (1, None, 2)]))
    assert sink.delivered() == 5
    sink.close()
    assert rows(other_database) == [("a", 1), ("a", 1), ('te"x\\t\t\n', None), (None, 2)]


@pytest.mark.parametrize("made", ["", "k text PRIMARY KEY, n int", "k text, n bigint", "k text UNIQUE, n bigint"])
def test_rows_take_the_place_of_those_with_their_key(other_database: OtherDatabase, made: str):
    if made:
        other_database.execute(f"CREATE TABLE t ({made}, more text DEFAULT 'x')")
    sink = opened(other_database, create_table="true")
    sink.deliver(delivery(1, 1, [(1, "a", 1), (1, "b", 1), (1, "c", 1)]))
    sink.deliver(delivery(2, 4, [(-1, "a", 1), (1, "a", 2), (-1, "b", 1), (-1, "a", 2), (1, "a", 3), (1, "d", 1)]))
    sink.deliver(delivery(5, 5, [(-1, "c", 1), (1, "c", 9), (-1, "c", 9)]))
    assert rows(other_database) == [("a", 3), ("d", 1)]
    sink.close()


@pytest.mark.parametrize("made", ["", "k text, n bigint", "k text UNIQUE, n bigint"])
def test_a_key_may_be_null(other_database: OtherDatabase, made: str):
    if made:
        other_database.execute(f"CREATE TABLE t ({made})")
    sink = opened(other_database, create_table="true")
    sink.deliver(delivery(1, 1, [(1, None, 1), (1, "b", 1)]))
    sink.deliver(delivery(2, 2, [(-1, None, 1), (1, None, 2)]))
    assert rows(other_database) == [("b", 1), (None, 2)]
    sink.deliver(delivery(3, 3, [(-1, None, 2)]))
    assert rows(other_database) == [("b", 1)]
    sink.close()


def test_a_table_is_made_with_the_types_of_the_view(other_database: OtherDatabase):
    types = {
        "VARCHAR": "'a'", "BIGINT": "1", "HUGEINT": "170141183460469231731687303715884105727", "DECIMAL(10,2)": "1.5",
        "DOUBLE": "1.5", "BOOLEAN": "true", "BLOB": r"'\x00\x5Cx'", "TIMESTAMP": "'2024-01-01 00:00:00.5'",
        "TIMESTAMP WITH TIME ZONE": "'2024-01-01 00:00:00+02'", "DATE": "'2024-01-01'",
        "UUID": "'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "JSON": r"""'{"a": "\n"}'""", "INTEGER[]": "[1, NULL]",
        "VARCHAR[]": """['a,b', '"']""",
    }  # fmt: skip
    shape = Shape(tuple(OutputColumn(f"c{i}", t) for i, t in enumerate(types)), True, ())
    sink = opened(other_database, shape, create_table="true")
    items = ", ".join(f"CAST({v} AS {t}) AS c{i}" for i, (t, v) in enumerate(types.items()))
    table = casts.query(f"SELECT {items}", {})
    sink.deliver(Delivery(table, np.ones(1, np.int8), np.ones(1, np.int64), np.zeros(1, np.int64), 1, 1))
    sink.close()
    (row,) = other_database.rows("SELECT * FROM t")
    assert row == (
        "a", 1, 2**127 - 1, Decimal("1.50"), 1.5, True, b"\0\\x", datetime(2024, 1, 1, 0, 0, 0, 500_000),
        datetime(2023, 12, 31, 22, tzinfo=UTC), date(2024, 1, 1), uuid.UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        {"a": "\n"}, [1, None], ["a,b", '"'],
    )  # fmt: skip
    types_made = (
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0"
    )
    made = other_database.rows(types_made)
    assert [name for (name,) in made] == [
        "text", "bigint", "numeric", "numeric(10,2)", "double precision", "boolean", "bytea", "timestamp without time zone",
        "timestamp with time zone", "date", "uuid", "jsonb", "integer[]", "text[]",
    ]  # fmt: skip


@pytest.mark.parametrize("table", ["t", "streamsql_deliveries"])
def test_a_table_that_another_sink_makes_meanwhile_is_used(other_database: OtherDatabase, table: str):
    columns = "k text, n bigint" if table == "t" else "sink text PRIMARY KEY, epoch bigint, delivered_at timestamptz"
    made: list[PostgresSink] = []
    with other_database.connect() as another, another.transaction():
        another.execute(f"CREATE TABLE {table} ({columns})")
        opening = threading.Thread(target=lambda: made.append(opened(other_database, APPENDED, create_table="true")))
        opening.start()
        waits = f"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{table}%'"
        until(lambda: other_database.rows(waits))
        assert made == []
    opening.join()
    made[0].deliver(delivery(1, 1, [(1, "a", 1)]))
    assert rows(other_database) == [("a", 1)]
    made[0].close()


def test_a_delivery_that_failed_leaves_nothing_and_comes_again(other_database: OtherDatabase):
    other_database.execute("CREATE TABLE t (k text PRIMARY KEY, n int CHECK (n < 100))")
    sink = opened(other_database)
    sink.deliver(delivery(1, 1, [(1, "a", 1)]))
    with pytest.raises(StreamSQLError, match="violates check constraint"):
        sink.deliver(delivery(2, 2, [(1, "b", 2), (1, "c", 100)]))
    assert (rows(other_database), sink.delivered()) == ([("a", 1)], 1)
    sink.deliver(delivery(2, 3, [(1, "b", 2), (1, "c", 99)]))
    assert (rows(other_database), sink.delivered()) == ([("a", 1), ("b", 2), ("c", 99)], 3)
    sink.close()


def test_what_has_been_delivered_is_not_taken_again(other_database: OtherDatabase):
    sink = opened(other_database, APPENDED, create_table="true")
    sink.deliver(delivery(1, 4, [(1, "a", 1)]))
    with pytest.raises(NotInPrerequisiteState, match="has been delivered"):
        sink.deliver(delivery(3, 5, [(1, "a", 1)]))
    assert rows(other_database) == [("a", 1)]
    sink.close()


def test_a_delivery_that_is_still_under_way_is_waited_for(other_database: OtherDatabase):
    """A connection is given up, and its server process commits all the same."""
    sink = opened(other_database, APPENDED, create_table="true")
    told: list[int | None] = []
    with other_database.connect() as forgotten, forgotten.transaction():
        forgotten.execute("UPDATE streamsql_deliveries SET epoch = 7 WHERE sink = '3'")

        def ask() -> None:
            with contextlib.closing(opened(other_database, APPENDED)) as again:
                told.append(again.delivered())

        asking = threading.Thread(target=ask)
        asking.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%streamsql_deliveries%'"
        until(lambda: other_database.rows(waits))
        assert told == []
    asking.join()
    assert told == [7]
    sink.close()


def test_each_row_arrives_once_though_the_connection_is_cut_again_and_again(other_database: OtherDatabase):
    chance, stop = random.Random(8), threading.Event()
    other_database.execute("CREATE TABLE t (k text, n bigint)")

    def cut() -> None:
        while not stop.wait(chance.random() * 0.03):
            other_database.end_connections()

    cutting = threading.Thread(target=cut)
    cutting.start()
    sink: PostgresSink | None = None
    epoch, cuts = 0, 0
    try:
        while epoch < 120:
            try:
                if sink is None:
                    sink = opened(other_database, APPENDED)
                    held = sink.delivered()
                    assert held is not None
                    assert held in {epoch, epoch + 1}
                    epoch = held
                    continue
                sink.deliver(delivery(epoch + 1, epoch + 1, [(1, str(epoch + 1), i) for i in range(50)]))
                epoch += 1
            except Unavailable:
                cuts += 1
                if sink is not None:
                    sink.close()
                sink = None
    finally:
        stop.set()
        cutting.join()
        if sink is not None:
            sink.close()
    assert cuts > 3
    assert other_database.rows("SELECT count(*), count(DISTINCT (k, n)), max(k::int) FROM t") == [(6_000, 6_000, 120)]


def test_a_server_that_is_down_is_unavailable(postgres_cluster: Any):
    database = OtherDatabase(postgres_cluster, "postgres")
    sink = opened(database, APPENDED, create_table="true")
    postgres_cluster.stop()
    try:
        with pytest.raises(Unavailable, match="broke"):
            sink.deliver(delivery(1, 1, [(1, "a", 1)]))
        with pytest.raises(Unavailable, match="cannot reach PostgreSQL at 127"):
            opened(database, APPENDED)
    finally:
        postgres_cluster.start()
        database.execute("DROP TABLE t, streamsql_deliveries")


def test_what_cannot_be_delivered_is_refused_with_the_reason(other_database: OtherDatabase):
    connector, given = PostgresSinkConnector(), Given(other_database.options, {"connector": 17})
    assert connector.check(given, KEYED) is Guarantee.EXACTLY_ONCE
    with pytest.raises(FeatureNotSupported) as refused:
        connector.check(given, Shape(COLUMNS, False, ()))
    assert refused.value.hint == "add key = 'a, b' with the columns that are unique in the view"
    assert refused.value.position == 17
    with pytest.raises(UndefinedTable, match="PostgreSQL has no table"):
        opened(other_database)
    other_database.execute("CREATE TABLE t (k text, nn bigint)")
    with pytest.raises(UndefinedColumn, match='of PostgreSQL has no column "n"') as missing:
        opened(other_database)
    assert missing.value.hint is not None
    assert "nn" in missing.value.hint
    other_database.execute("ALTER TABLE t RENAME nn TO n; ALTER TABLE t ALTER k TYPE int USING 0")
    sink = opened(other_database)
    with pytest.raises(InvalidTextRepresentation, match='invalid input syntax for type integer: "a"'):
        sink.deliver(delivery(1, 1, [(1, "a", 1)]))
    sink.close()


def test_a_password_is_proved_by_each_method(other_database: OtherDatabase, monkeypatch: pytest.MonkeyPatch):
    cluster = other_database.cluster
    for method in ("scram-sha-256", "md5", "password"):
        encryption = "md5" if method == "md5" else "scram-sha-256"
        role = f"r_{method.replace('-', '_')}"
        other_database.execute(
            f"SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD 'pässword'"
        )
    hba = cluster.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    try:
        lines = [f"host all r_{m.replace('-', '_')} all {m}\n" for m in ("scram-sha-256", "md5", "password")]
        hba.write_text("".join(lines) + before)
        other_database.execute("SELECT pg_reload_conf(); CREATE TABLE t (k text, n bigint)")
        for role in ("r_scram_sha_256", "r_md5", "r_password"):
            other_database.execute(f"CREATE SCHEMA AUTHORIZATION {role}")
            given = {"user": role, "table": f"{role}.t", "create_table": "true"}
            options = {**given, "password": SecretReference("env:OTHER_PASSWORD")}
            monkeypatch.setenv("OTHER_PASSWORD", "pässword")
            with contextlib.closing(opened(other_database, APPENDED, **options)) as sink:
                sink.deliver(delivery(1, 1, [(1, "a", 1)]))
            with pytest.raises(InsufficientPrivilege, match="permission denied"):
                opened(other_database, APPENDED, **{**options, "table": "public.t"})
            monkeypatch.setenv("OTHER_PASSWORD", "wrong")
            with pytest.raises(InvalidPassword, match="password authentication failed"):
                opened(other_database, APPENDED, **options)
            with pytest.raises(InvalidPassword, match="asks for a password"):
                opened(other_database, APPENDED, **given)
    finally:
        hba.write_text(before)
        other_database.execute("SELECT pg_reload_conf()")
        for role in ("r_scram_sha_256", "r_md5", "r_password"):
            other_database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
