"""A source whose records grow: what has no column is left out, until ALTER STREAM ... ADD COLUMN, and then it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamsql.base.errors import InvalidParameterValue, StreamSQLError
from streamsql.connectors.readers import SourceReaders
from tests.driver import Database
from tests.running import until


def test_a_field_that_comes_later_is_read_once_the_stream_has_its_column(tmp_path: Path):
    file = tmp_path / "a.json"
    file.write_text('{"n": 1}\n{"n": 2, "note": "not read"}\n')
    with Database() as database:
        database.execute(
            f"CREATE STREAM s (n INT) INCLUDE FILE AS f WITH (connector = 'file', path = '{tmp_path}/*.json')"
        )
        database.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, sum(n) AS n FROM s")
        readers = SourceReaders(database.engine, (tmp_path.resolve(),))
        readers.start()
        until(lambda: database.query("SELECT * FROM v") == [("2", "3")])
        database.execute("ALTER STREAM s ADD COLUMN note TEXT; ALTER STREAM s ADD COLUMN size INT DEFAULT 9")
        with file.open("a") as more:
            more.write('{"n": 3, "note": "read"}\n{"n": 4, "size": 1}\n')
        until(lambda: database.query("SELECT * FROM v") == [("4", "10")])
        assert database.query("SELECT n, note, size FROM s ORDER BY n") == [
            ("1", None, "9"), ("2", None, "9"), ("3", "read", "9"), ("4", None, "1"),
        ]  # fmt: skip
        readers.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("(line TEXT) WITH (connector = 'file', path = '/x', format = 'raw')", "need one column"),
        ("WITH (connector = 'nexmark', table = 'bid')", 'gives no column "x"'),
    ],
)
def test_a_column_that_a_connector_does_not_give_is_refused(options: str, said: str):
    with Database() as database:
        database.execute(f"CREATE STREAM s {options}")
        with pytest.raises(StreamSQLError, match=said) as caught:
            database.execute("ALTER STREAM s ADD COLUMN x INT")
        assert not isinstance(caught.value, InvalidParameterValue) or caught.value.position
