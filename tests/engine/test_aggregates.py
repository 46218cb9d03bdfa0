"""Every aggregate that the planner says it can keep, held against DuckDB's own over the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from streamsql.plan import aggregates
from streamsql.plan.macros import MACROS
from tests.driver import Database
from tests.engine.oracle import alike
from tests.engine.streams import COLUMNS, SECOND_US, Event, table_of

# how a call of the aggregate is written, where it is not name(x)
_CALLS = {
    "approx_quantile": "approx_quantile(x, 0.3)",
    "approx_top_k": "approx_top_k(x, 2)",
    "bitstring_agg": "bitstring_agg(x, -10, 10)",
    "bool_and": "bool_and(b)",
    "bool_or": "bool_or(b)",
    "count_if": "count_if(b)",
    "count_star": "count(*)",
    "countif": "countif(b)",
    "decimal_average": "decimal_average(x::DECIMAL(10, 2))",
    "every": "every(b)",
    "geomean": "geomean(abs(x) + 1)",
    "geometric_mean": "geometric_mean(abs(x) + 1)",
    "group_concat": "group_concat(k, '+')",
    "histogram_exact": "histogram_exact(x, [1, 2, 5])",
    "listagg": "listagg(k, '+')",
    "percentile_cont": "percentile_cont(0.3) WITHIN GROUP (ORDER BY x)",
    "percentile_disc": "percentile_disc(0.3) WITHIN GROUP (ORDER BY x)",
    "quantile": "quantile(x, 0.3)",
    "quantile_cont": "quantile_cont(x, 0.3)",
    "quantile_disc": "quantile_disc(x, 0.3)",
    "reservoir_quantile": "reservoir_quantile(x, 0.3)",
    "string_agg": "string_agg(k, '+')",
    "wavg": "wavg(x, length(k) + 1)",
    "weighted_avg": "weighted_avg(x, length(k) + 1)",
    "lttb": "lttb(x, length(k), 3 ORDER BY x)",
    **{name: f"{name}(coalesce(k, '-'), x)" for name in MACROS if "object" in name},
}
_OF_TWO = ("corr", "covar", "regr", "arg_", "arg", "max_by", "min_by")
# what DuckDB calls otherwise
_JSON_ARRAY, _JSON_OBJECT = "to_json(list(x ORDER BY seq))", "json_group_object(coalesce(k, '-'), x)"
# what DuckDB says where the order of rows counts, by the order of arrival
_ORDERED = {
    "group_concat": "string_agg(k, '+' ORDER BY seq)",
    "listagg": "string_agg(k, '+' ORDER BY seq)",
    "string_agg": "string_agg(k, '+' ORDER BY seq)",
    "avg_exact": "avg(x)",
    "every": "bool_and(b)",
    "json_agg": _JSON_ARRAY,
    "json_arrayagg": _JSON_ARRAY,
    "json_object_agg": _JSON_OBJECT,
    "jsonb_agg": _JSON_ARRAY,
    "jsonb_object_agg": _JSON_OBJECT,
    "lttb": "lttb(x, length(k), 3 ORDER BY x, seq)",
    "mode": "mode(x ORDER BY seq)",
    **{name: f"{name}(x ORDER BY seq)" for name in ("any_value", "arbitrary", "array_agg", "first", "last", "list")},
}
# of intervals, which DuckDB does not add up; held against PostgreSQL's (tests/server/answers)
_OF_INTERVALS = {name for name in MACROS if name.endswith("_interval")}
_KEPT = sorted(aggregates.AGGREGATES - set(aggregates.REFUSED) - _OF_INTERVALS)


def _call(name: str) -> str:
    of_two = name.startswith(_OF_TWO) and name != "array_agg"
    return _CALLS.get(name) or (f"{name}(x, length(k))" if of_two else f"{name}(x)")


def _events() -> list[Event]:
    """Rows of three groups: one of numbers and NULLs, one of NULLs only, one of a single row."""
    numbers = [None, 3, -2, 7, 7, None, 0, 5, -4, 1, 2, 2, 8, None, 6]
    texts = ["b", None, "ccc", "", "dd"]
    made = [
        Event(i * SECOND_US, texts[i % 5], x, 0.0, None if i % 4 == 3 else i % 2 == 0) for i, x in enumerate(numbers)
    ]
    made += [Event(i * SECOND_US, None, None, 1.0, None) for i in range(3)]
    return [*made, Event(0, "one", 5, 2.0, True)]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@pytest.fixture(scope="module", params=["whole", "row by row", "in threes"])
def found(request: pytest.FixtureRequest, database: Database) -> dict[str, list[Any]]:
    """The values of every aggregate, by group."""
    events = _events()
    stream = f"s_{request.param.replace(' ', '_')}"
    columns = ", ".join(f"{_call(name)} AS c{i}" for i, name in enumerate(_KEPT))
    database.execute(
        f"CREATE STREAM {stream} ({COLUMNS}) WITH (retention = 'forever');"
        f"CREATE MATERIALIZED VIEW {stream}_v AS SELECT y, {columns} FROM {stream} GROUP BY y EMIT UPDATE"
    )
    step = {"whole": len(events), "row by row": 1, "in threes": 3}[request.param]
    cuts = [step] * (len(events) // step)
    database.push_arrow(stream, table_of(events), [*cuts, len(events) - sum(cuts)])
    rows = database.values(f"SELECT * EXCLUDE (y) FROM public.{stream}_v ORDER BY y")
    return dict(zip(_KEPT, map(list, zip(*rows, strict=True)), strict=True))


@pytest.fixture(scope="module")
def duckdbs_own() -> Iterator[duckdb.DuckDBPyConnection]:
    events = _events()
    with duckdb.connect() as connection:
        connection.register("events", table_of(events).append_column("seq", pa.array(range(len(events)))))
        yield connection


@pytest.mark.parametrize("name", _KEPT)
def test_a_kept_aggregate_says_what_duckdb_says(
    duckdbs_own: duckdb.DuckDBPyConnection, found: dict[str, list[Any]], name: str
):
    oracle = _ORDERED.get(name, _call(name))
    wanted = [v for (v,) in duckdbs_own.execute(f"SELECT {oracle} FROM events GROUP BY y ORDER BY y").fetchall()]
    assert len(found[name]) == len(wanted) == 3
    assert all(alike(a, b, exact=False) for a, b in zip(found[name], wanted, strict=True)), (found[name], wanted)


def test_every_aggregate_of_duckdb_is_kept_or_refused_by_name():
    found = duckdb.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'")
    ours = {name for (name,) in found.fetchall()} - {"combine_aggr"}  # of states, which no client has
    assert ours <= aggregates.AGGREGATES
