"""psycopg 3, sync and async: parameters, transactions, pipelines, COPY, streams of live results, cancelling."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import TupleRow, dict_row
from psycopg.types.json import Json, Jsonb

from tests.running import RunningServer, until

Connection = psycopg.Connection[TupleRow]


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


# ---------------------------------------------------------------------------------------------------------------- values

VALUES: list[tuple[str, Any]] = [
    ("boolean", True),
    ("smallint", -32768),
    ("integer", 2**31 - 1),
    ("bigint", -(2**63)),
    ("real", 0.5),
    ("double precision", 1e-300),
    ("double precision", float("-inf")),
    ("numeric(20,5)", Decimal("-123456789012345.67891")),
    ("numeric(38,20)", Decimal("123456789012345678.12345678901234567890")),
    ("text", "Käse 'n' \\ \"x\"\n\t☃"),
    ("text", ""),
    ("varchar(10)", "short"),
    ("bytea", bytes(range(256))),
    ("date", dt.date(1969, 12, 31)),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(2024, 2, 29, 12, 30, 15, 123456)),
    ("timestamp", dt.datetime(1, 1, 1)),
    ("timestamptz", dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=dt.UTC)),
    ("interval", dt.timedelta(days=-3, seconds=7, microseconds=5)),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("integer[]", [1, None, -3]),
    ("text[]", ["a b", 'q"u\\o', "", None, "NULL", "{,}"]),
    ("double precision[]", [0.1, 2.0]),
    ("boolean[]", [True, False]),
    ("date[]", [dt.date(2024, 1, 1)]),
    ("integer[]", []),
]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("type_name", "value"), VALUES)
def test_a_value_comes_back_as_it_was_sent(connection: Connection, type_name: str, value: object, binary: bool):
    form = "%b" if binary and not isinstance(value, str) else "%s"
    cursor = connection.cursor(binary=binary)
    assert cursor.execute(f"SELECT {form}::{type_name}", [value]).fetchone() == (value,)
    assert cursor.execute(f"SELECT {form}::{type_name}", [None]).fetchone() == (None,)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_a_row_of_all_types_is_kept_as_it_was_sent(connection: Connection, binary: bool):
    columns = ", ".join(f"c{i} {name}" for i, (name, _) in enumerate(VALUES))
    connection.execute("DROP TABLE IF EXISTS kept")
    connection.execute(f"CREATE TABLE kept ({columns})")
    values = [value for _, value in VALUES]
    forms = ", ".join("%b" if binary and not isinstance(value, str) else "%s" for value in values)
    connection.execute(f"INSERT INTO kept VALUES ({forms})", values)
    connection.execute(f"INSERT INTO kept VALUES ({', '.join(['%s'] * len(values))})", [None] * len(values))
    rows = connection.cursor(binary=binary).execute("SELECT * FROM kept").fetchall()
    assert rows == [tuple(values), (None,) * len(values)]


def test_json_is_checked_and_comes_back_as_a_value(connection: Connection):
    connection.execute("CREATE TABLE documents (a JSON, b JSONB)")
    connection.execute("INSERT INTO documents VALUES (%s, %s)", [Json({"x": [1, None]}), Jsonb("ß")])
    assert connection.execute("SELECT * FROM documents").fetchone() == ({"x": [1, None]}, "ß")
    assert connection.execute("SELECT a->>'x' FROM documents").fetchone() == ("[1,null]",)
    with pytest.raises(errors.InvalidTextRepresentation, match="type json"):
        connection.execute("INSERT INTO documents (a) VALUES (%s)", ["{"])


def test_infinite_times_and_not_a_number_survive(connection: Connection):
    shown = connection.execute(
        "SELECT 'infinity'::timestamp::text, '-infinity'::date::text, 'NaN'::float8, 'Infinity'::float4"
    ).fetchone()
    assert shown is not None
    assert shown[:2] == ("infinity", "-infinity")
    assert shown[2] != shown[2]
    assert shown[3] == float("inf")


def test_numbers_of_any_python_type_fit_any_number_column(connection: Connection):
    connection.execute("CREATE TABLE numbers (a SMALLINT, b BIGINT, c REAL, d DOUBLE PRECISION, e NUMERIC(10,2))")
    connection.execute("INSERT INTO numbers VALUES (%s, %s, %s, %s, %s)", [1, 1, 1, 1, 1])
    connection.execute("INSERT INTO numbers VALUES (%s, %s, %s, %s, %s)", [2, 2**40, 2.5, Decimal("2.5"), 2.555])
    assert connection.execute("SELECT * FROM numbers ORDER BY a").fetchall() == [
        (1, 1, 1.0, 1.0, Decimal("1.00")), (2, 2**40, 2.5, 2.5, Decimal("2.56")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "values", "error", "message"),
    [
        ("SELECT %s::int", ["x"], errors.InvalidTextRepresentation, 'invalid input syntax for type integer: "x"'),
        ("SELECT %s::int", ["99999999999"], errors.NumericValueOutOfRange, "out of range for type integer"),
        ("SELECT %s::date", ["2024-02-30"], errors.DatetimeFieldOverflow, "out of range"),
        ("SELECT %s::uuid", ["x"], errors.InvalidTextRepresentation, "type uuid"),
        ("SELECT %s::int[]", ["{1,x}"], errors.InvalidTextRepresentation, "type integer"),
        ("SELECT 1 WHERE 1 = %s", ["x"], errors.InvalidTextRepresentation, "type integer"),
        ("SELECT 1 %% %s", [0], errors.DivisionByZero, "division by zero"),
        ("SELECT 9223372036854775807 + %s", [1], errors.NumericValueOutOfRange, "out of range"),
    ],
)
def test_a_bad_value_gives_postgres_error_and_the_session_goes_on(
    connection: Connection, query: str, values: list[object], error: type[psycopg.Error], message: str
):
    with pytest.raises(error, match=message):
        connection.execute(query, values)
    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("query", "values", "expected"),
    [
        ("SELECT n FROM places WHERE p > %s ORDER BY n", ["1.5"], [2, 3]),
        ("SELECT n FROM places WHERE %s < p ORDER BY n", ["1.5"], [2, 3]),
        ("SELECT n FROM places WHERE k = ANY(%s) ORDER BY n", [["a", "c"]], [1, 3]),
        ("SELECT n FROM places WHERE n IN (%s, %s) ORDER BY n", ["1", "2"], [1, 2]),
        ("SELECT n FROM places WHERE ts BETWEEN %s AND %s ORDER BY n", ["2024-01-02", "2024-01-09"], [2, 3]),
        ("SELECT n FROM places WHERE k LIKE %s", ["%b%"], [2]),
        ("SELECT n FROM places WHERE ts > TIMESTAMP '2024-01-04' - %s::interval ORDER BY n", ["2 days"], [3]),
        ("SELECT n FROM places WHERE ts + %s > '2024-01-04' ORDER BY n", ["1 day 1 second"], [3]),
        ("SELECT n FROM places ORDER BY n LIMIT %s OFFSET %s", ["1", "1"], [2]),
        ("SELECT CASE WHEN n = %s THEN %s ELSE 0 END FROM places ORDER BY n", ["2", "9"], [0, 9, 0]),
        ("SELECT coalesce(NULLIF(n, %s), -1) FROM places ORDER BY n", ["2"], [1, -1, 3]),
        ("WITH w AS (SELECT n FROM places) SELECT n FROM w WHERE n = %s", ["3"], [3]),
        ("SELECT count(*) FROM places a JOIN places b ON a.n = b.n AND b.k <> %s", ["a"], [2]),
        ("SELECT i FROM generate_series(1, %s) AS g(i)", ["3"], [1, 2, 3]),
        ("SELECT substr(k || %s, %s) FROM places WHERE n = 1", ["xyz", "2"], ["xyz"]),
        ("SELECT length(%s)", ["four"], [4]),
    ],
)
def test_a_parameter_has_the_type_of_what_stands_beside_it(
    connection: Connection, query: str, values: list[Any], expected: list[Any]
):
    connection.execute("CREATE TABLE IF NOT EXISTS places (n INT, k TEXT, p DOUBLE PRECISION, ts TIMESTAMP)")
    if not connection.execute("SELECT 1 FROM places").fetchall():
        connection.execute(
            "INSERT INTO places VALUES (1, 'a', 1, '2024-01-01'), (2, 'b', 2, '2024-01-02'), (3, 'c', 3, '2024-01-03')"
        )
    assert [row[0] for row in connection.execute(query, values)] == expected


# ---------------------------------------------------------------------------------------------------------- transactions


def test_a_transaction_reads_its_own_rows_and_nobody_else_does_before_its_commit(
    server: RunningServer, connection: Connection
):
    connection.execute("CREATE TABLE own (a INT)")
    connection.execute("INSERT INTO own VALUES (0)")
    with server.session(autocommit=False) as other:
        other.execute("INSERT INTO own VALUES (1), (2)")
        other.execute("INSERT INTO own SELECT a + 10 FROM own")
        assert other.execute("SELECT a FROM own ORDER BY a").fetchall() == [(0,), (1,), (2,), (10,), (11,), (12,)]
        assert other.execute("WITH w AS (SELECT * FROM own) SELECT count(*) FROM w a, own b").fetchone() == (36,)
        assert connection.execute("SELECT count(*) FROM own").fetchone() == (1,)
        other.commit()
    assert connection.execute("SELECT count(*) FROM own").fetchone() == (6,)


def test_a_rollback_discards_and_an_error_fails_the_whole_transaction(server: RunningServer, connection: Connection):
    connection.execute("CREATE TABLE undone (a INT NOT NULL)")
    with server.session(autocommit=False) as other:
        other.execute("INSERT INTO undone VALUES (1)")
        other.rollback()
        other.execute("INSERT INTO undone VALUES (2)")
        with pytest.raises(errors.NotNullViolation):
            other.execute("INSERT INTO undone VALUES (NULL)")
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(errors.InFailedSqlTransaction):
            other.execute("SELECT 1")
        with pytest.raises(errors.InFailedSqlTransaction):
            other.execute("SELECT %s::int", [1])
        other.rollback()
        assert other.execute("SELECT count(*) FROM undone").fetchone() == (0,)


def test_what_a_transaction_made_goes_with_it(server: RunningServer):
    with server.session(autocommit=False) as other:
        other.execute("CREATE TABLE goes (a INT)")
        other.execute("INSERT INTO goes VALUES (1)")
        other.rollback()
        with pytest.raises(errors.UndefinedTable):
            other.execute("SELECT count(*) FROM goes")


def test_begin_in_a_transaction_and_commit_outside_one_only_warn(connection: Connection):
    notices: list[str] = []
    connection.add_notice_handler(lambda notice: notices.append(f"{notice.severity} {notice.sqlstate}"))
    for statement in ("COMMIT", "BEGIN", "BEGIN", "ROLLBACK", "ROLLBACK"):
        connection.execute(statement)
    assert notices == ["WARNING 25P01", "WARNING 25001", "WARNING 25P01"]


# --------------------------------------------------------------------------------------- many rows, pipelines, statements


def test_executemany_inserts_every_row_in_its_own_order_and_counts_them(connection: Connection):
    connection.execute("CREATE STREAM many (n INT, k TEXT)")
    cursor = connection.cursor()
    cursor.executemany("INSERT INTO many VALUES (%s, %s)", [(i, None if i % 3 else f"k{i}") for i in range(5_000)])
    assert cursor.rowcount == 5_000
    assert connection.execute("SELECT count(*), count(k), sum(n), first(n), last(n) FROM many").fetchone() == (
        5_000, 1_667, 12_497_500, 0, 4_999,
    )  # fmt: skip


def test_executemany_with_a_bad_row_inserts_none(connection: Connection):
    connection.execute("CREATE TABLE all_or_none (n INT)")
    with pytest.raises(errors.InvalidTextRepresentation, match='"x"'):
        connection.cursor().executemany("INSERT INTO all_or_none VALUES (%s)", [("1",), ("x",), ("3",)])
    assert connection.execute("SELECT count(*) FROM all_or_none").fetchone() == (0,)


def test_a_pipeline_gives_each_statement_its_own_result(connection: Connection):
    connection.execute("CREATE TABLE piped (n INT, t TEXT)")
    with connection.pipeline():
        cursors = [connection.execute("INSERT INTO piped VALUES (%s, %s)", [i, str(i)]) for i in range(10)]
        counted = connection.execute("SELECT count(*) FROM piped WHERE n > %s", [4])
        shown = connection.execute("SHOW TimeZone")
    assert [cursor.rowcount for cursor in cursors] == [1] * 10
    assert (counted.fetchone(), shown.fetchone()) == ((5,), ("UTC",))


def test_an_error_in_a_pipeline_skips_the_rest_up_to_the_sync(connection: Connection):
    connection.execute("CREATE TABLE piped_wrong (n INT)")

    def talk() -> None:
        with connection.pipeline() as pipeline:
            connection.execute("INSERT INTO piped_wrong VALUES (%s)", [1])
            pipeline.sync()
            connection.execute("INSERT INTO piped_wrong VALUES (%s)", [2])
            connection.execute("SELECT * FROM nowhere")
            connection.execute("INSERT INTO piped_wrong VALUES (%s)", [3])

    with pytest.raises(errors.UndefinedTable):
        talk()
    assert connection.execute("SELECT n FROM piped_wrong").fetchall() == [(1,)]


def test_statements_are_prepared_after_a_while_and_survive_definitions(connection: Connection):
    connection.prepare_threshold = 2
    connection.execute("CREATE TABLE prepared (n INT)")
    for number in range(6):
        connection.execute("INSERT INTO prepared VALUES (%s)", [number])
        assert connection.execute("SELECT count(*), max(n) FROM prepared WHERE n < %s", [9]).fetchone() == (
            number + 1, number,
        )  # fmt: skip
    connection.execute("DROP TABLE prepared")
    connection.execute("CREATE TABLE prepared (n BIGINT, more TEXT)")
    connection.execute("INSERT INTO prepared (n) VALUES (%s)", [2**40])
    assert connection.execute("SELECT count(*), max(n) FROM prepared WHERE n < %s", [9]).fetchone() == (0, None)


def test_a_prepared_star_shows_the_columns_of_now(connection: Connection):
    connection.execute("CREATE TABLE changing (a INT)")
    assert connection.execute("SELECT * FROM changing", prepare=True).fetchall() == []
    connection.execute("DROP TABLE changing")
    connection.execute("CREATE TABLE changing (a TEXT, b INT)")
    connection.execute("INSERT INTO changing VALUES ('x', 2)")
    assert connection.execute("SELECT * FROM changing", prepare=True).fetchall() == [("x", 2)]


@pytest.mark.parametrize("statement", ["DEALLOCATE mine", "DEALLOCATE ALL", "DISCARD ALL"])
def test_deallocate_and_discard_forget_prepared_statements(connection: Connection, statement: str):
    connection.pgconn.prepare(b"mine", b"SELECT 1")
    assert connection.pgconn.exec_prepared(b"mine", []).get_value(0, 0) == b"1"
    connection.execute(statement)
    failed = connection.pgconn.exec_prepared(b"mine", [])
    assert failed.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"26000"
    with pytest.raises(errors.InvalidSqlStatementName):
        connection.execute("DEALLOCATE mine")


def test_columns_are_described_before_any_row(connection: Connection):
    cursor = connection.execute("SELECT 1::smallint AS a, 'x' AS b, 1.50::numeric(5,2) AS c, now() AS d, ARRAY[1] AS e")
    assert cursor.description is not None
    assert [(c.name, c.type_code, c.precision, c.scale) for c in cursor.description] == [
        ("a", 21, None, None), ("b", 25, None, None), ("c", 1700, 5, 2), ("d", 1184, None, None), ("e", 1007, None, None),
    ]  # fmt: skip


def test_rows_can_be_dictionaries_and_are_counted(connection: Connection):
    cursor = connection.cursor(row_factory=dict_row)
    assert cursor.execute("SELECT i AS number FROM generate_series(1, 3) AS g(i)").fetchall() == [
        {"number": 1}, {"number": 2}, {"number": 3},
    ]  # fmt: skip
    assert cursor.rowcount == 3
    assert cursor.statusmessage == "SELECT 3"


def test_a_large_result_comes_whole_in_text_and_binary(connection: Connection):
    query = "SELECT i, 'row ' || i, i / 4.0::float8 FROM generate_series(1, 100000) AS g(i)"
    for binary in (False, True):
        rows = connection.cursor(binary=binary).execute(query).fetchall()
        assert len(rows) == 100_000
        assert rows[0] == (1, "row 1", 0.25)
        assert rows[-1] == (100_000, "row 100000", 25_000.0)
        assert sum(row[0] for row in rows) == 5_000_050_000


# ---------------------------------------------------------------------------------------------------------- live results


def test_a_live_query_streams_rows_as_they_come(server: RunningServer, connection: Connection):
    connection.execute("CREATE STREAM streamed (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts)")
    seen: list[TupleRow] = []

    def follow() -> None:
        with server.session() as follower:
            query = "SELECT window_end, k, sum(x) FROM streamed WHERE x > %s GROUP BY window(ts, '1m'), k EMIT APPEND LIMIT 3"
            seen.extend(follower.cursor().stream(query, [0]))

    thread = threading.Thread(target=follow)
    thread.start()
    server.wait_for_live_queries(1)
    for minute in range(5):
        connection.execute("INSERT INTO streamed VALUES (%s, 'a', %s), (%s, 'a', -1)",
                           [dt.datetime(2024, 1, 1, 0, minute), minute + 1, dt.datetime(2024, 1, 1, 0, minute)])  # fmt: skip
    thread.join(30)
    assert seen == [(dt.datetime(2024, 1, 1, 0, minute + 1), "a", minute + 1) for minute in range(3)]
    server.wait_for_live_queries(0)


def test_a_subscription_streams_the_snapshot_and_then_changes_with_weights(
    server: RunningServer, connection: Connection
):
    connection.execute("CREATE STREAM votes (who TEXT)")
    connection.execute(
        "CREATE MATERIALIZED VIEW tally AS SELECT who, count(*) AS n FROM votes GROUP BY who EMIT UPDATE"
    )
    connection.execute("INSERT INTO votes VALUES ('ann'), ('bob'), ('ann')")
    follower = server.connect()
    changes = follower.cursor().stream("SUBSCRIBE tally")
    snapshot = sorted(next(changes)[1:] for _ in range(2))
    assert snapshot == [(1, "ann", 2), (1, "bob", 1)]
    connection.execute("INSERT INTO votes VALUES ('ann')")
    assert sorted(next(changes)[1:] for _ in range(2)) == [(-1, "ann", 2), (1, "ann", 3)]
    follower.cancel()
    with pytest.raises(errors.QueryCanceled):
        next(changes)
    assert follower.execute("SELECT 'usable'").fetchone() == ("usable",)
    follower.close()


def test_closing_the_connection_in_the_middle_of_a_live_query_ends_it(server: RunningServer, connection: Connection):
    connection.execute("CREATE STREAM abandoned (x INT)")
    connection.execute("INSERT INTO abandoned VALUES (1)")
    follower = server.connect()
    rows = follower.cursor().stream("SELECT x FROM abandoned EMIT APPEND")
    assert next(rows) == (1,)
    server.wait_for_live_queries(1)
    follower.pgconn.finish()
    server.wait_for_live_queries(0)


def test_cancel_ends_an_ad_hoc_query_too(server: RunningServer):
    with server.session() as busy:

        def cancel() -> None:
            until(lambda: "range(300000000)" in server.log())
            busy.cancel_safe()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(errors.QueryCanceled):
            busy.execute("SELECT count(*) FROM range(300000000) a(x), range(100000) b(y) WHERE (x * y) % 7 = 3")
        thread.join()
        assert busy.execute("SELECT 1").fetchone() == (1,)


# ----------------------------------------------------------------------------------------------------------------- async


def test_the_async_client_does_the_same(server: RunningServer):
    async def talk() -> list[TupleRow]:
        async with await psycopg.AsyncConnection.connect(server.dsn, user="tester", autocommit=True) as connection:
            await connection.execute("CREATE STREAM asynchronous (n INT)")
            async with connection.cursor() as cursor:
                await cursor.executemany("INSERT INTO asynchronous VALUES (%s)", [(i,) for i in range(100)])
                async with cursor.copy("COPY asynchronous FROM STDIN") as copy:
                    await copy.write_row((100,))
            async with connection.pipeline():
                await connection.execute("INSERT INTO asynchronous VALUES (%s)", [101])
                counted = await connection.execute("SELECT count(*), sum(n) FROM asynchronous")
            first = await counted.fetchall()
            live = connection.cursor().stream("SELECT n FROM asynchronous WHERE n >= %s EMIT APPEND LIMIT 2", [100])
            return first + [row async for row in live]

    assert asyncio.run(talk()) == [(102, 5151), (100,), (101,)]


def test_an_async_task_that_is_cancelled_cancels_its_live_query(server: RunningServer):
    async def talk() -> None:
        async with await psycopg.AsyncConnection.connect(server.dsn, user="tester", autocommit=True) as connection:
            await connection.execute("CREATE STREAM cancelled_async (n INT)")
            task = asyncio.create_task(connection.execute("SELECT n FROM cancelled_async EMIT APPEND"))
            await asyncio.to_thread(server.wait_for_live_queries, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)

    asyncio.run(talk())
    server.wait_for_live_queries(0)


def test_subscribers_in_text_and_binary_with_and_without_progress_see_the_same(
    server: RunningServer, connection: Connection
):
    connection.execute("CREATE STREAM crowd (n INT)")
    connection.execute("CREATE MATERIALIZED VIEW crowded AS SELECT count(*) AS n, sum(n) AS s FROM crowd EMIT UPDATE")
    connection.execute("INSERT INTO crowd VALUES (1)")
    followers = [server.connect() for _ in range(4)]
    streams = [
        follower.cursor(binary=binary).stream(f"SUBSCRIBE crowded WITH (PROGRESS = {progress})")
        for follower, binary, progress in zip(
            followers, (False, True) * 2, ("false", "false", "true", "true"), strict=True
        )
    ]
    seen: list[list[tuple[Any, ...]]] = [[next(stream)[1:]] for stream in streams]
    for number in (2, 3):
        connection.execute("INSERT INTO crowd VALUES (%s)", [number])
    for stream, rows in zip(streams, seen, strict=True):
        while len([row for row in rows if row[-1] is not None]) < 5:
            rows.append(next(stream)[1:])
    wanted = [(1, 1, 1), (-1, 1, 1), (1, 2, 3), (-1, 2, 3), (1, 3, 6)]
    for rows in seen:
        changes = [(row[0], *row[-2:]) for row in rows if row[-1] is not None]
        assert changes[0] == wanted[0]
        assert sorted(changes[1:3]) == wanted[1:3]
        assert sorted(changes[3:]) == wanted[3:]
    for follower in followers:
        follower.pgconn.finish()
    server.wait_for_live_queries(0)
