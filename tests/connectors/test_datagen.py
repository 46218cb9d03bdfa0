"""Rows of random values: the same however they are read, and distributed as asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.connectors import given_of, resolved
from streamsql.connectors.datagen import Datagen
from streamsql.connectors.source import Surroundings
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateStream
from tests.connectors.test_readers import reading
from tests.driver import Database
from tests.running import until


def create(columns: str, options: str) -> CreateStream:
    statement = parse(f"CREATE STREAM s {columns} WITH (connector = 'datagen', {options})", Limits())[0]
    assert isinstance(statement, CreateStream)
    return resolved(statement)


def rows(columns: str, options: str, position: int = 0, rows_max: int = 1 << 20) -> pa.Table:
    statement = create(columns, options)
    given = given_of(statement.options, {})
    source = Datagen().open(given, statement.columns, {"0": position} if position else {}, 0, Surroundings())
    batches = []
    while (batch := source.read(rows_max, 0)) is not None:
        batches.append(batch.rows)
    return pa.concat_tables(batches)


def column(kind: str, options: str = "") -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = (
        rows(f"(x {kind})", f"rows = 100000{', ' if options else ''}{options}").column("x").to_numpy()
    )
    return found


EVERY = (
    "(i INT, b BIGINT, f REAL, d DOUBLE PRECISION, n NUMERIC(10, 2), t TEXT, o BOOLEAN, day DATE, at TIMESTAMP, "
    "z TIMESTAMPTZ)"
)


def test_rows_are_the_same_however_they_are_read():
    options = "rows = 150000, seed = 4, fields.t.null_rate = 0.1, fields.at.out_of_orderness = '3 s'"
    whole = rows(EVERY, options)
    assert whole.num_rows == 150_000
    assert rows(EVERY, options, rows_max=999).equals(whole)
    assert rows(EVERY, options, position=70_001).equals(whole.slice(70_001))
    assert not rows(EVERY, options.replace("4", "5")).column("i").equals(whole.column("i"))
    only = rows("(t TEXT, i INT)", options.partition(", fields.at")[0])
    assert only.column("i").equals(whole.column("i")), "a column is the same beside whatever others"


def test_values_are_distributed_as_asked_for():
    numbers = column("INT", "fields.x.min = 5, fields.x.max = 7")
    assert {int(v): round((numbers == v).mean(), 2) for v in np.unique(numbers)} == {5: 0.33, 6: 0.33, 7: 0.33}
    floats = column("DOUBLE PRECISION", "fields.x.min = -2, fields.x.max = 2")
    assert -2 <= floats.min() < -1.99 < 1.99 < floats.max() <= 2
    normal = column("DOUBLE PRECISION", "fields.x.kind = 'normal', fields.x.mean = 21, fields.x.stddev = 4")
    assert abs(normal.mean() - 21) < 0.1
    assert abs(normal.std() - 4) < 0.1
    ranks = column("INT", "fields.x.kind = 'zipf', fields.x.distinct = 100, fields.x.exponent = 1")
    shares = np.bincount(ranks, minlength=100) / len(ranks)
    assert len(shares) == 100
    assert abs(shares[0] / shares[9] - 10) < 1
    assert list(column("BIGINT", "fields.x.kind = 'sequence', fields.x.start = 10, fields.x.step = -5")[:3]) == [
        10,
        5,
        0,
    ]
    assert list(column("TEXT", "fields.x.kind = 'sequence', fields.x.prefix = 'user-'")[:2]) == ["user-0", "user-1"]
    words = column("TEXT", "fields.x.kind = 'choice', fields.x.values = 'red, blue', fields.x.weights = '3, 1'")
    assert round((words == "red").mean(), 2) == 0.75
    assert set(map(len, column("TEXT", "fields.x.length = 4"))) == {4}
    assert round(column("BOOLEAN", "fields.x.true_rate = 0.2").mean(), 2) == 0.2
    missing = rows("(x INT)", "rows = 100000, fields.x.null_rate = 0.25").column("x").null_count
    assert abs(missing - 25_000) < 500


def test_event_time_goes_on_by_a_step_and_rows_come_late():
    text = "rows = 1000, fields.x.start = '2026-01-01', fields.x.step = '2 s', fields.x.out_of_orderness = '1 minute'"
    times = pc.cast(rows("(x TIMESTAMP)", text).column("x"), pa.int64()).to_numpy()
    due = 1_767_225_600_000_000 + 2_000_000 * np.arange(1_000)
    assert ((due - times) >= 0).all()
    assert 55_000_000 < (due - times).max() <= 60_000_000
    days = rows("(x DATE)", "rows = 3, fields.x.kind = 'time', fields.x.start = '1969-12-31', fields.x.step = '1 day'")
    assert list(map(str, days.column("x").to_pylist())) == ["1969-12-31", "1970-01-01", "1970-01-02"]


WRONG = {
    ("(x UUID)", "rows = 1"): 'the connector "datagen" makes no values of type UUID',
    ("", "rows = 1"): 'the connector "datagen" needs columns',
    ("(x INT)", "fields.y.min = 1"): 'unrecognized option "fields.y.min" of the connector "datagen"',
    ("(x INT)", "fields.x.length = 1"): 'unrecognized option "fields.x.length" of the connector "datagen"',
    ("(x TEXT)", "fields.x.kind = 'normal'"):
        'invalid value for option "fields.x.kind": "normal" is none of choice, random, sequence, zipf',
    ("(x INT)", "fields.x.min = 7, fields.x.max = 5"):
        'invalid value for option "fields.x.max": the smallest value is above the largest',
    ("(x SMALLINT)", "fields.x.max = 40000"):
        'invalid value for option "fields.x.max": 40000 is not between -32768 and 32767',
    ("(x TEXT)", "fields.x.kind = 'choice'"): 'invalid value for option "fields.x.kind": needs the option "fields.x.values"',
    ("(x TEXT)", "fields.x.kind = 'choice', fields.x.values = 'a,,b'"):
        'invalid value for option "fields.x.values": a value is missing',
    ("(x TEXT)", "fields.x.kind = 'choice', fields.x.values = 'a,b', fields.x.weights = '1'"):
        'invalid value for option "fields.x.weights": must have a weight for each value',
    ("(x INT, x2 INT)", "fields.x.null_rate = 2"): 'invalid value for option "fields.x.null_rate": 2 is not between 0 and 1',
}  # fmt: skip


@pytest.mark.parametrize(("columns", "options"), WRONG)
def test_a_wrong_option_is_told(columns: str, options: str):
    with pytest.raises(StreamSQLError) as raised:
        create(columns, options)
    assert raised.value.message == WRONG[columns, options]
    assert raised.value.position is not None


def test_a_stream_of_every_type_is_filled():
    with Database() as database, reading(database):
        database.execute(f"CREATE STREAM s {EVERY} WITH (connector = 'datagen', rows = 1000, fields.n.max = 99.5)")
        until(lambda: database.engine.streams.get("s") and database.engine.streams["s"].positions.get("0") == 1_000)
        checks = "count(*), count(DISTINCT i) > 900, max(n) < 99.5, max(length(t)), count(DISTINCT o), min(at), max(z)"
        assert database.query(f"SELECT {checks} FROM s") == [
            ("1000", "t", "t", "10", "2", "2024-01-01 00:00:00", "2024-01-01 00:00:00.999+00")
        ]


def test_values_that_do_not_fit_stop_the_source_and_are_told():
    with Database() as database, reading(database):
        database.execute(
            "CREATE STREAM s (n NUMERIC(3, 1)) WITH (connector = 'datagen', rows = 100, fields.n.max = 1000)"
        )
        until(lambda: database.engine.streams.get("s") and database.engine.streams["s"].error)
        database.on_engine(lambda: None)
        status = database.query("SELECT status FROM streamsql.sources")[0][0]
        assert status is not None
        assert status.startswith("stopped: ")
        assert database.query("SELECT count(*) FROM s") == [("0",)]
