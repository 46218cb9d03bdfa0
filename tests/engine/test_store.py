"""How the store hands rows over."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from streamsql.engine.store import arrow_of

VALUES = (
    "SELECT i::INT AS a, i::DOUBLE AS b, i::VARCHAR AS c, i::DECIMAL(12, 3) AS d, [i, NULL] AS e, {'x': i} AS f, "
    "make_timestamptz(i) AS g, make_timestamp(i) AS h, DATE '2026-01-01' + i::INT AS i, i % 2 = 0 AS j, "
    "i::VARCHAR::BLOB AS k, INTERVAL (i) SECOND AS l, CASE WHEN i > 1 THEN i END AS m, i::HUGEINT AS n FROM range({}) AS t(i)"
)


class Documented:
    """A connection that has nothing but what DuckDB documents."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.execute = connection.execute


@pytest.mark.parametrize("rows", [0, 3, 5_000])
def test_rows_come_as_arrow_as_duckdb_s_documented_way_gives_them(rows: int):
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        sql = VALUES.replace("{}", str(rows))
        wanted: pa.Table = connection.execute(sql).to_arrow_table()
        connection.execute(f"PREPARE prepared AS {sql}").fetchall()
        assert not isinstance(connection, Documented)
        for statement in (sql, "EXECUTE prepared"):
            found = arrow_of(connection, statement)
            assert found.schema == wanted.schema
            assert found.combine_chunks() == wanted.combine_chunks()
        assert arrow_of(Documented(connection), sql) == wanted  # type: ignore[arg-type]  # as a later release may be


def test_what_is_wrong_with_a_statement_is_told_either_way_and_its_transaction_goes_on():
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (x INT)").fetchall()
        connection.execute("BEGIN").fetchall()
        assert arrow_of(connection, "INSERT INTO t VALUES (1) RETURNING x") == pa.table(
            {"x": pa.array([1], pa.int32())}
        )
        with pytest.raises(duckdb.BinderException):
            arrow_of(connection, "SELECT y FROM t")
        connection.execute("ROLLBACK").fetchall()
        with pytest.raises(duckdb.ConversionException):
            arrow_of(connection, "SELECT CAST(c AS INT) FROM (VALUES ('no')) AS v(c)")
        assert arrow_of(connection, "SELECT count(*) AS n FROM t").to_pylist() == [{"n": 0}]
