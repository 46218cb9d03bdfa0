"""SCHEMA INFERRED: the columns of a sample, shown and kept as the definition."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.files import Files
from streamsql.connectors.source import Given, Surroundings
from tests.connectors.file_reading import WRITERS
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
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    with pytest.raises(InvalidParameterValue, match="columns without names"):
        Files().infer(Given({"path": f"{tmp_path}/*.csv", "header": "false"}, {}), surroundings)


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
