"""A session in another time zone than UTC: texts are shown and read in it, calculations follow its clock, as on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.running import RunningServer
from tests.server.answers import ask

Connection = psycopg.Connection[TupleRow]

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "australia/lord_howe", "Etc/GMT+5"]
WRITTEN = (
    "CREATE TABLE moments (id INT, at TIMESTAMPTZ, local TIMESTAMP)",
    "INSERT INTO moments VALUES (1, '2024-07-01 10:00', '2024-07-01 10:00'), (2, '2024-01-01 10:00+00', NULL),"
    " (5, 'infinity', '-infinity')",
    "INSERT INTO moments SELECT 3, '2024-07-01 12:00', '2024-07-01 12:00'",
    "INSERT INTO moments SELECT 4, timestamp '2024-10-27 12:30', '2024-10-27 12:30'",
    "UPDATE moments SET at = '2024-03-05 08:00' WHERE id = 3",
)
QUERIES = [
    "SELECT * FROM moments ORDER BY id",
    "SELECT date_trunc('day', at), extract(hour FROM at), at::date, at::timestamp, at AT TIME ZONE 'UTC', local::timestamptz,"
    " at::text, to_char(at, 'YYYY-MM-DD HH24:MI OF') FROM moments WHERE id < 5 ORDER BY id",
    "SELECT timestamptz '2024-07-01 10:00', '2024-07-01'::timestamptz, '2024-07-01 10:00+00'::timestamptz,"
    " 'infinity'::timestamptz, date '2024-07-01'::timestamptz, array['2024-07-01 10:00'::timestamptz]",
    "SELECT * FROM generate_series(timestamptz '2024-03-30', timestamptz '2024-04-01', '1 day')",
    "SELECT current_date = now()::date, localtimestamp::date = now()::date, now()::time = localtime",
    "SELECT id FROM moments WHERE at >= '2024-07-01 09:59' AND at < '2024-07-01 10:01'",
    "SELECT date_trunc('day', timestamptz '2024-07-01 10:00+00', 'America/New_York'), date_trunc('month', date '2024-07-04')",
    "SELECT date_bin('1 day', timestamptz '2024-07-01 10:00', timestamptz '2001-01-01')",
    "SELECT make_timestamptz(2013, 7, 15, 8, 15, 23.5), to_timestamp(0), to_timestamp('2024-07-01', 'YYYY-MM-DD')",
    "SELECT extract(epoch FROM timestamptz '2024-07-01 10:00'), extract(timezone FROM timestamptz '2024-07-01 10:00')",
    "SELECT timestamptz '2024-03-31 00:00' + interval '1 day', timestamptz '2024-03-31 00:00' + interval '24 hours'",
]


@pytest.fixture(scope="module")
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        yield opened


@pytest.mark.postgres
@pytest.mark.parametrize("zone", ZONES)
def test_a_session_in_a_zone_answers_as_on_postgres(connection: Connection, postgres_port: int, zone: str):
    with psycopg.connect(f"postgresql://tester@127.0.0.1:{postgres_port}/postgres", autocommit=True) as postgres:
        for each in (connection, postgres):
            each.execute("DROP TABLE IF EXISTS moments")
            each.execute(f"SET timezone = '{zone}'".encode())
            for statement in WRITTEN:
                each.execute(statement.encode())
        try:
            for query in QUERIES:
                assert ask(connection, query) == ask(postgres, query), query
        finally:
            connection.execute("RESET timezone")
            postgres.execute("DROP TABLE moments")


def test_binary_values_are_moments_in_any_zone(connection: Connection):
    sent: list[Any] = []
    for zone in ("UTC", "Europe/Berlin"):
        connection.execute(f"SET timezone = '{zone}'".encode())
        result = connection.cursor(binary=True).execute("SELECT timestamptz '2024-07-01 10:00+00'").pgresult
        assert result is not None
        sent.append(result.get_value(0, 0))
    connection.execute("RESET timezone")
    assert sent[0] == sent[1]


def test_copy_and_bound_texts_are_read_in_the_session_s_zone(connection: Connection):
    connection.execute("SET timezone = 'Europe/Berlin'")
    connection.execute("CREATE TABLE copied (id INT, at TIMESTAMPTZ)")
    with connection.cursor().copy("COPY copied FROM STDIN") as copy:
        copy.write("1\t2024-07-01 10:00\n2\t2024-07-01 10:00+00\n")
    connection.execute("INSERT INTO copied VALUES (3, %s), (4, %s)", ["2024-07-01 10:00", "2024-07-01 10:00Z"])
    connection.execute("RESET timezone")
    rows = connection.execute("SELECT id, at::text FROM copied ORDER BY id").fetchall()
    early, late = "2024-07-01 08:00:00+00", "2024-07-01 10:00:00+00"
    assert rows == [(1, early), (2, late), (3, early), (4, late)]


def test_a_zone_is_set_at_the_start_and_its_name_is_checked(server: RunningServer):
    with server.session(options="-c timezone=asia/tokyo") as session:
        assert session.execute("SHOW timezone").fetchone() == ("Asia/Tokyo",)
        assert session.info.parameter_status("TimeZone") == "Asia/Tokyo"
        with pytest.raises(psycopg.errors.InvalidParameterValue, match='"nowhere"'):
            session.execute("SET timezone = 'nowhere'")
        session.execute("SET TIME ZONE -8")
        assert session.execute("SELECT to_timestamp(0)::text").fetchone() == ("1969-12-31 16:00:00-08",)
        session.execute("BEGIN; SET LOCAL timezone = 'UTC'; ROLLBACK")
        assert session.execute("SELECT to_timestamp(0)::text").fetchone() == ("1969-12-31 16:00:00-08",)


def test_a_continuous_query_works_in_utc_whatever_zone_it_was_made_in(connection: Connection):
    connection.execute("SET timezone = 'America/New_York'")
    connection.execute("CREATE STREAM clicks (at TIMESTAMPTZ)")
    connection.execute(
        "CREATE MATERIALIZED VIEW by_day AS SELECT date_trunc('day', at) AS day, count(*) AS n FROM clicks"
        " GROUP BY 1 EMIT UPDATE"
    )
    connection.execute("INSERT INTO clicks VALUES ('2024-07-01 22:00')")
    connection.execute("RESET timezone")
    assert connection.execute("SELECT day::text, n FROM by_day").fetchall() == [("2024-07-02 00:00:00+00", 1)]
