"""SCHEMA INFERRED: the columns of a sample, shown and kept as the definition."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.files import Files
from streamsql.connectors.source import Given, Surroundings
from tests.connectors.file_reading import WRITERS
from tests.connectors.servers.mosquitto import Mosquitto
from tests.running import RunningServer, until


@pytest.mark.parametrize("ending", WRITERS)
def test_columns_are_found_in_files_of_each_kind(tmp_path: Path, ending: str):
    (tmp_path / f"empty.{ending}").touch()
    WRITERS[ending](tmp_path / f"some.{ending}", range(10))
    given = Given({"path": f"{tmp_path}/*.{ending}"}, {})
    found = Files().infer(given, Surroundings((tmp_path.resolve(),)))
    assert {(c.name, c.type) for c in found} == {("n", "BIGINT"), ("word", "VARCHAR")}


def test_where_there_is_nothing_nothing_is_inferred(tmp_path: Path):
    surroundings = Surroundings((tmp_path.resolve(),))
    with pytest.raises(InvalidParameterValue, match="no files to infer columns from"):
        Files().infer(Given({"path": f"{tmp_path}/*.json"}, {}), surroundings)
    (tmp_path / "a.parquet").write_bytes(b"no such file")
    with pytest.raises(InvalidParameterValue, match="cannot be read"):
        Files().infer(Given({"path": f"{tmp_path}/*.parquet"}, {}), surroundings)


def test_columns_of_files_without_a_header_are_numbered(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"1,x\n2,y\n")
    (tmp_path / "b.csv").write_bytes(b"2.5,z\n")
    given = Given({"path": f"{tmp_path}/*.csv", "header": "false"}, {})
    found = Files().infer(given, Surroundings((tmp_path.resolve(),)))
    assert [(c.name, c.type) for c in found] == [("column1", "DOUBLE"), ("column2", "VARCHAR")]


@pytest.mark.mqtt
def test_columns_of_csv_messages_are_numbered(tmp_path: Path, mosquitto: Mosquitto):
    mosquitto.publish(("rooms/a", b"5,2026-01-01 10:00:00,warm"), ("rooms/b", b"7,2026-01-01 10:00:05,\n"), retain=True)
    mosquitto.publish(("rooms/c", b"no"), retain=True)
    create = (
        "CREATE STREAM rooms SCHEMA INFERRED (column1 INT, WATERMARK FOR column2 AS column2) INCLUDE TOPIC AS t "
        f"WITH (connector = 'mqtt', url = '{mosquitto.url}', topic = 'rooms/+', format = 'csv')"
    )
    with RunningServer(tmp_path) as server:
        told: list[str | None] = []
        with server.connect() as connection:
            connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
            connection.execute(create)
        assert told[0] is not None
        assert told[0].startswith(
            "the columns are as in: CREATE STREAM rooms (column1 INTEGER, column2 TIMESTAMP, column3 TEXT, "
            "WATERMARK FOR column2 AS column2) INCLUDE TOPIC AS t TEXT WITH ("
        )
        until(lambda: server.execute("SELECT rows_in, rows_rejected FROM streamsql.sources") == [(2, 1)])
        assert server.execute("SELECT column1, column3, t FROM rooms ORDER BY 1") == [
            (5, "warm", "rooms/a"), (7, None, "rooms/b"),
        ]  # fmt: skip


def test_a_stream_is_made_with_what_was_inferred(tmp_path: Path):
    files = tmp_path / "in"
    files.mkdir()
    (files / "a.json").write_text('{"At": "2026-01-01 10:00:00", "n": 5}\n{"At": "2026-01-01 10:00:05", "n": 6.5}\n')
    create = (
        'CREATE STREAM v SCHEMA INFERRED (n INT, WATERMARK FOR "At" AS "At" - INTERVAL \'5 seconds\') '
        f"INCLUDE FILE AS f WITH (connector = 'file', path = '{files}/*.json')"
    )
    wanted = (
        'the columns are as in: CREATE STREAM v ("At" TIMESTAMP, n INTEGER, WATERMARK FOR "At" AS "At" - INTERVAL '
        f"'5 seconds') INCLUDE FILE AS f TEXT WITH (connector = 'file', path = '{files}/*.json')"
    )
    with RunningServer(tmp_path, ["--allow-path", str(files)]) as server:
        told: list[str | None] = []
        with server.connect() as connection:
            connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
            connection.execute(create)
            assert told == [wanted]
            connection.execute(create.replace("STREAM v", "STREAM IF NOT EXISTS v"))
            assert told[1:] == ['relation "v" already exists, skipping']
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="infers no columns"):
                connection.execute("CREATE STREAM w SCHEMA INFERRED WITH (connector = 'nexmark', table = 'bid')")
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="needs a connector"):
                connection.execute("CREATE STREAM w SCHEMA INFERRED WITH (retention = '1 day')")
            with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
                connection.execute("CREATE STREAM w SCHEMA INFERRED")
            assert refused.value.diag.message_hint is not None
            assert "where clients send the rows, write the columns out" in refused.value.diag.message_hint
        until(lambda: server.execute("SELECT rows_rejected FROM streamsql.sources") == [(1,)])
        assert server.execute("SELECT n, f FROM v") == [(5, f"{files}/a.json")]
        server.stop()
        server.start()
        assert server.execute("SELECT count(*) FROM v") == [(1,)]


def test_a_stream_is_not_reset_to_what_its_files_cannot_be_read_from(tmp_path: Path):
    files = tmp_path / "in"
    files.mkdir()
    (files / "a.json").write_text('{"n": 1}\n{"n": 2}\n')
    with RunningServer(tmp_path, ["--allow-path", str(files)]) as server:
        server.execute(f"CREATE STREAM s (n INT) WITH (connector = 'file', path = '{files}/*.json')")
        until(lambda: server.execute("SELECT count(*) FROM s") == [(2,)])
        for wrong in (
            '{"0": 1}',
            '{"files": 3}',
            '{"files": "x"}',
            '{"files": "[1]"}',
            '{"files": "{\\"a.json\\": \\"1\\"}"}',
        ):
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                server.execute(f"ALTER STREAM s RESET TO POSITIONS '{wrong}'")
        assert server.execute("SELECT count(*) FROM s") == [(2,)]
        ((now,),) = server.execute("SELECT positions::TEXT FROM streamsql.sources")
        server.execute(f"ALTER STREAM s RESET TO POSITIONS '{now}'")
        assert server.execute("SELECT count(*) FROM s") == [(0,)]
        assert server.execute("SELECT status FROM streamsql.sources") == [("reading",)]
