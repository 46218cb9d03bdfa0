"""What the property tests draw: rows of a stream in the order of arrival, queries over them, and cuts into epochs.

Times are small numbers of seconds around 1970, often a microsecond beside one, so that windows' edges, closed windows and
the time before the epoch come up all the time. Rows drift forward and scatter, so that some are late and most are not.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.errors import StopTest, UnsatisfiedAssumption

SECOND_US = 1_000_000
NIGHTLY_EXAMPLES = 10_000
COLUMNS = "ts TIMESTAMP, k TEXT, x INT, y DOUBLE PRECISION, b BOOLEAN"
SCHEMA = pa.schema(
    [("ts", pa.timestamp("us")), ("k", pa.string()), ("x", pa.int32()), ("y", pa.float64()), ("b", pa.bool_())]
)


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say how many examples a test draws: the same ones each time.

    In the profile STREAMSQL_PROFILE=nightly, 10,000 new ones however long they take, or as many as STREAMSQL_EXAMPLES says;
    after STREAMSQL_MINUTES of a test no more are run. How many were run is told at the end.
    """
    profile = os.environ.get("STREAMSQL_PROFILE", "")
    assert profile in {"", "nightly"}, f"there is no profile {profile!r}"
    given = int(os.environ.get("STREAMSQL_EXAMPLES", NIGHTLY_EXAMPLES if profile else 0))
    drawn = settings(
        max_examples=given or count,
        derandomize=not given,
        deadline=None,
        print_blob=bool(given),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        made: Callable[..., None] = drawn(test)
        if not given:
            return made
        _count_cases(made)
        untimed: Callable[..., None] = pytest.mark.timeout(0)(made)
        return untimed

    return decorate


# How many cases were run in this process, by the test's name.
CASES: Counter[str] = Counter()


class TimeIsOver(KeyboardInterrupt):  # Hypothesis ends at once only for this: any other it takes for the case's own end
    """A test has run for as long as it may."""


def _count_cases(test: Any) -> None:
    """Count the cases of a test, and end it when its time is over; a case that has failed is shrunk and told first."""
    run = test.hypothesis.inner_test
    seconds = 60 * float(os.environ.get("STREAMSQL_MINUTES", "inf"))
    began: list[float] = []
    failed = False

    @functools.wraps(run)
    def counted(*args: Any, **kwargs: Any) -> None:
        nonlocal failed
        began.append(time.monotonic())
        if began[-1] - began[0] > seconds and not failed:
            raise TimeIsOver
        try:
            run(*args, **kwargs)
        except (UnsatisfiedAssumption, StopTest):
            raise
        except Exception:
            failed = True
            raise
        CASES[test.__name__] += 1

    test.hypothesis.inner_test = counted


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the stream. `ts` counts microseconds since 1970."""

    ts: int | None
    k: str | None
    x: int | None
    y: float | None
    b: bool | None


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate as a query says it, and as DuckDB must say it over the numbered rows of a group.

    `exact`: both are the same to the last bit. `repeatable`: the query's own value is, however its rows were cut.
    """

    sql: str
    oracle: str
    exact: bool = True
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Select:
    """A continuous query. `size`, `slide` and `delay` are microseconds; `size` None: no window, `delay` None: no watermark.

    `sets` is the GROUP BY of the keys, where it is not the plain one.
    """

    size: int | None
    slide: int | None
    delay: int | None
    keys: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    where: str | None
    having: str | None
    mode: str
    sets: str | None = None

    @property
    def outputs(self) -> list[str]:
        """The SELECT list but for the aggregates."""
        return [*(["window_start", "window_end"] if self.size else []), *self.outputs_of_keys]

    @property
    def outputs_of_keys(self) -> list[str]:
        """The SELECT list but for the window and the aggregates."""
        return [*self.keys, *([f"grouping({', '.join(self.keys)})"] if self.sets else [])]

    @property
    def grouped(self) -> list[str]:
        """What is grouped by but for the window."""
        return [self.sets] if self.sets else list(self.keys)

    def sql(self, stream: str) -> str:
        """Write the query over `stream`."""
        items = [f"{item} AS c{i}" for i, item in enumerate([*self.outputs, *(a.sql for a in self.aggregates)])]
        slide = "" if self.slide == self.size else f", '{self.slide} us'"
        window = [f"window(ts, '{self.size} us'{slide})"] if self.size else []
        where = f" WHERE {self.where}" if self.where else ""
        group_by = f" GROUP BY {', '.join([*window, *self.grouped])}" if window or self.keys else ""
        having = f" HAVING {self.having}" if self.having else ""
        watermark = f" WITH WATERMARK '{self.delay} us'" if self.delay is not None else ""
        return f"SELECT {', '.join(items)} FROM {stream}{where}{group_by}{having}{watermark} EMIT {self.mode}"


def _same(sql: str) -> Aggregate:
    return Aggregate(sql, sql)


def _rounded(sql: str) -> Aggregate:
    """A statistic that DuckDB itself rounds differently when it combines states."""
    return Aggregate(sql, sql, exact=False, repeatable=False)


def _first_of(value: str, order: str, count: int, condition: str) -> str:
    return f"list_slice(list({value} ORDER BY {order}, seq) FILTER (WHERE {condition}), 1, {count})"


AGGREGATES = (
    _same("count(*)"),
    _same("count(x)"),
    _same("sum(x)"),
    Aggregate("avg(x)", "avg(x)", exact=False),  # exact here, and DuckDB's a double
    _same("min(x)"),
    _same("max(x)"),
    _same("min(k)"),
    _same("bool_and(b)"),
    _same("bool_or(x > 0)"),
    _same("bit_xor(x)"),
    _same("count_if(b)"),
    _same("median(x)"),
    _same("quantile_cont(x, 0.25)"),
    _same("quantile_disc(x, [0.1, 0.5])"),
    _same("mad(x)"),
    _same("approx_count_distinct(x)"),
    _same("product(x)"),
    _same("count(*) FILTER (WHERE b)"),
    _same("sum(x) FILTER (WHERE k = 'a')"),
    _same("max(x) - min(x) + count(*)"),
    _same("min(y)"),
    _same("max(y)"),
    # a sum of floating-point numbers depends on their order in DuckDB; here it may not
    Aggregate("sum(y)", "sum(y)", exact=False),
    Aggregate("avg(y)", "avg(y)", exact=False),
    Aggregate("sum(y) FILTER (WHERE b)", "sum(y) FILTER (WHERE b)", exact=False),
    # of integers these are exact; DuckDB rounds on the way
    Aggregate("stddev(x)", "stddev(x)", exact=False),
    Aggregate("var_pop(x)", "var_pop(x)", exact=False),
    Aggregate("sem(x) FILTER (WHERE b)", "sem(x) FILTER (WHERE b)", exact=False),
    Aggregate("covar_samp(x, length(k))", "covar_samp(x, length(k))", exact=False),
    _rounded("skewness(x)"),
    _rounded("kurtosis(x)"),
    _rounded("stddev_samp(y)"),
    _rounded("regr_slope(x, length(k))"),
    _rounded("corr(x, length(k))"),
    # what depends on the order of rows goes by the order of arrival
    Aggregate("first(x)", "first(x ORDER BY seq)"),
    Aggregate("last(k)", "last(k ORDER BY seq)"),
    Aggregate("any_value(x)", "any_value(x ORDER BY seq)"),
    Aggregate("list(x)", "list(x ORDER BY seq)"),
    Aggregate("list(x) FILTER (WHERE b)", "list(x ORDER BY seq) FILTER (WHERE b)"),
    Aggregate("string_agg(k, '-')", "string_agg(k, '-' ORDER BY seq)"),
    Aggregate("array_agg(k ORDER BY x DESC)", "array_agg(k ORDER BY x DESC NULLS FIRST, seq)"),
    Aggregate("string_agg(k, '' ORDER BY y)", "string_agg(k, '' ORDER BY y NULLS LAST, seq)"),
    Aggregate("arg_max(k, x)", "first(k ORDER BY x DESC, seq) FILTER (WHERE x IS NOT NULL AND k IS NOT NULL)"),
    Aggregate("arg_min(x, k)", "first(x ORDER BY k, seq) FILTER (WHERE x IS NOT NULL AND k IS NOT NULL)"),
    Aggregate("arg_max(x, y)", "first(x ORDER BY y DESC, seq) FILTER (WHERE x IS NOT NULL AND y IS NOT NULL)"),
    Aggregate("arg_min_null(k, x)", "first(k ORDER BY x, seq) FILTER (WHERE x IS NOT NULL)"),
    # what is kept as a list of values
    Aggregate("mode(x)", "mode(x ORDER BY seq)"),
    Aggregate("mode(y) FILTER (WHERE b)", "mode(y ORDER BY seq) FILTER (WHERE b)"),
    Aggregate("mode() WITHIN GROUP (ORDER BY k DESC)", "mode(k ORDER BY k DESC, seq)"),
    _same("histogram(x)"),
    _same("histogram(k) FILTER (WHERE x > 0)"),
    _same("histogram(y)"),
    _same("histogram(x, [-1, 0, 3])"),
    Aggregate("entropy(x)", "entropy(x)", exact=False),
    Aggregate("product(y) FILTER (WHERE abs(y) < 1000)", "product(y) FILTER (WHERE abs(y) < 1000)", exact=False),
    Aggregate("geomean(abs(x) + 1)", "geomean(abs(x) + 1)", exact=False),
    Aggregate("weighted_avg(x, length(k) + 1)", "weighted_avg(x, length(k) + 1)", exact=False),
    Aggregate("wavg(y, x * x + 1)", "wavg(y, x * x + 1)", exact=False),
    _same("bitstring_agg(x, -10, 10)"),
    _same("max(x, 2)"),
    _same("min(k, 3)"),
    _same("max(y, 2) FILTER (WHERE b)"),
    Aggregate("arg_max(k, x, 2)", _first_of("k", "x DESC", 2, "x IS NOT NULL AND k IS NOT NULL")),
    Aggregate("arg_min(x, y, 3)", _first_of("x", "y", 3, "x IS NOT NULL AND y IS NOT NULL")),
    Aggregate("arg_max_nulls_last(k, x, 3)", _first_of("k", "x DESC NULLS LAST", 3, "true")),
    Aggregate("arg_min_nulls_last(k, x)", "first(k ORDER BY x NULLS LAST, seq)"),
    Aggregate("arg_max(k, x ORDER BY y)",
              "first(k ORDER BY x DESC, y NULLS LAST, seq) FILTER (WHERE x IS NOT NULL AND k IS NOT NULL)"),
    Aggregate("json_agg(x)", "to_json(list(x ORDER BY seq))"),
    Aggregate("json_agg(k ORDER BY x) FILTER (WHERE b)", "to_json(list(k ORDER BY x NULLS LAST, seq) FILTER (WHERE b))"),
    Aggregate("json_object_agg(coalesce(k, '-'), x)",
              "CAST('{' || string_agg(to_json(coalesce(k, '-')) || ':' || coalesce(to_json(x), 'null'), ',' ORDER BY seq) "
              "|| '}' AS JSON)"),
    # DISTINCT; without ORDER BY in the order of the values, as in Postgres
    _same("count(DISTINCT x)"),
    _same("count(DISTINCT y) FILTER (WHERE b)"),
    _same("sum(DISTINCT x)"),
    Aggregate("avg(DISTINCT y)", "avg(DISTINCT y)", exact=False),
    Aggregate("stddev(DISTINCT x)", "stddev(DISTINCT x)", exact=False),
    _same("median(DISTINCT x)"),
    _same("histogram(DISTINCT x)"),
    _same("max(DISTINCT k)"),
    Aggregate("list(DISTINCT x)", "list(DISTINCT x ORDER BY x NULLS LAST)"),
    Aggregate("array_agg(DISTINCT y)", "list(DISTINCT y + 0 ORDER BY y + 0 NULLS LAST)"),
    Aggregate("string_agg(DISTINCT k, '-') FILTER (WHERE x > 0)",
              "string_agg(DISTINCT k, '-' ORDER BY k) FILTER (WHERE x > 0)"),
    Aggregate("string_agg(DISTINCT k, '-' ORDER BY k DESC)", "string_agg(DISTINCT k, '-' ORDER BY k DESC)"),
    Aggregate("list(DISTINCT x ORDER BY abs(x) DESC)",
              "list_sort(list(DISTINCT struct_pack(k := create_sort_key(abs(x), 'DESC NULLS FIRST'), v := x))).list_transform("
              "lambda e: e.v)"),
    Aggregate("array_agg(DISTINCT k ORDER BY k DESC NULLS LAST)", "list(DISTINCT k ORDER BY k DESC NULLS LAST)"),
    Aggregate("json_agg(DISTINCT x)", "to_json(list(DISTINCT x ORDER BY x NULLS LAST))"),
    # ORDER BY
    Aggregate("first(k ORDER BY x DESC)", "first(k ORDER BY x DESC NULLS FIRST, seq)"),
    Aggregate("first(x ORDER BY y NULLS FIRST, k DESC)", "first(x ORDER BY y NULLS FIRST, k DESC NULLS FIRST, seq)"),
    Aggregate("last(k ORDER BY x DESC NULLS LAST)", "last(k ORDER BY x DESC NULLS LAST, seq)"),
    Aggregate("any_value(k ORDER BY x)", "any_value(k ORDER BY x NULLS LAST, seq)"),
    Aggregate("list(y ORDER BY k DESC NULLS LAST, x)", "list(y ORDER BY k DESC NULLS LAST, x NULLS LAST, seq)"),
    Aggregate("string_agg(k, ',' ORDER BY x + 1 DESC) FILTER (WHERE b)",
              "string_agg(k, ',' ORDER BY x + 1 DESC NULLS FIRST, seq) FILTER (WHERE b)"),
    _same("quantile_cont(x, [0.25, 0.75])"),
    _same("quantile_cont(x, 0.3 ORDER BY x DESC)"),
    _same("quantile_disc(DISTINCT x, 0.3)"),
    _same("max(x ORDER BY y)"),
    _same("percentile_cont(0.3) WITHIN GROUP (ORDER BY x DESC)"),
    _same("percentile_disc(0.6) WITHIN GROUP (ORDER BY k)"),
    _same("sum(x ORDER BY k)"),
    # expressions over them
    Aggregate("coalesce(mode(x), 0) * count(DISTINCT k) + len(max(x, 2))",
              "coalesce(mode(x ORDER BY seq), 0) * count(DISTINCT k) + len(max(x, 2))"),
)  # fmt: skip

_KEYS = ("k", "b", "x % 3", "upper(k)", "y")
_WHERE = ("x > 0", "k <> 'a'", "b", "x IS NOT NULL AND y < 100", "false")
_HAVING = (
    "count(*) > 1",
    "sum(x) > 0",
    "max(k) = 'b'",
    "count(x) % 2 = 0",
    "count(DISTINCT k) > 1",
    "list_contains(max(x, 2), 3)",
    "entropy(k) > 0.5",
)

# Multiples of powers of ten, so that sums round; of a size for which the engine promises sums that do not depend on batches.
_FLOATS = st.one_of(
    st.floats(-1000, 1000, allow_nan=False).filter(lambda y: y == 0 or abs(y) > 1e-6),
    st.sampled_from([0.1, 0.2, 0.3, -0.0, 0.0, 1e-5, 3e-5, 7e-5, 999.99, float("inf"), float("-inf"), float("nan")]),
)


@st.composite
def event_lists(draw: st.DrawFn, *, most: int = 24) -> list[Event]:
    """Draw rows in the order of arrival."""
    base = draw(st.integers(-60, 60))
    events = []
    for _ in range(draw(st.integers(0, most))):
        base += draw(st.integers(0, 6))
        offset = draw(st.integers(-12, 6))
        beside = draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
        ts = draw(st.sampled_from([(base + offset) * SECOND_US + beside] * 12 + [None]))
        events.append(
            Event(
                ts,
                draw(st.sampled_from(["a", "b", "c", "", None])),
                draw(st.one_of(st.integers(-5, 5), st.none())),
                draw(st.one_of(_FLOATS, st.none())),
                draw(st.sampled_from([True, False, None])),
            )
        )
    return events


@st.composite
def _sets(draw: st.DrawFn, keys: tuple[str, ...]) -> str | None:
    """Draw the GROUP BY of these keys: mostly the plain one."""
    if not keys or draw(st.integers(0, 2)):
        return None
    named, first = ", ".join(keys), keys[0]
    forms = [
        f"ROLLUP ({named})",
        f"CUBE ({named})",
        f"{first}, ROLLUP ({named})",
        f"GROUPING SETS (({named}), ({first}), ())",
        f"GROUPING SETS (({named}), (), ROLLUP ({first}))",
        f"ROLLUP (({named})), CUBE ({first})",
    ]
    return draw(st.sampled_from(forms))


@st.composite
def selects(draw: st.DrawFn, modes: tuple[str, ...] = ("APPEND", "UPDATE", "UPDATE", "COMPLETE")) -> Select:
    """Draw a query."""
    mode = draw(st.sampled_from(modes))
    windowed = mode == "APPEND" or draw(st.integers(0, 3)) > 0
    size = slide = delay = None
    if windowed:
        size = draw(st.integers(1, 15)) * SECOND_US
        slide = draw(st.one_of(st.just(size), st.integers(1, size // SECOND_US).map(lambda s: s * SECOND_US)))
        delays = st.sampled_from([0, 1, SECOND_US, 4 * SECOND_US, 10 * SECOND_US])
        delay = draw(delays if mode == "APPEND" else st.one_of(delays, st.none()))
    keys = tuple(draw(st.lists(st.sampled_from(_KEYS), max_size=2, unique=True)))
    return Select(
        size,
        slide,
        delay,
        keys,
        tuple(draw(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=4, unique=True))),
        draw(st.one_of(st.none(), st.none(), st.sampled_from(_WHERE))),
        draw(st.one_of(st.none(), st.none(), st.sampled_from(_HAVING))),
        mode,
        draw(_sets(keys)),
    )


@st.composite
def cut_lists(draw: st.DrawFn, total: int) -> list[int]:
    """Draw how many rows each epoch has."""
    edges = draw(st.sets(st.integers(1, total - 1))) if total > 1 else set()
    bounds = [0, *sorted(edges), total]
    return [high - low for low, high in itertools.pairwise(bounds) if high > low]


def table_of(events: list[Event]) -> pa.Table:
    """Make the stream's rows."""
    columns: dict[str, list[Any]] = {name: [getattr(e, name) for e in events] for name in SCHEMA.names}
    return pa.table(columns, schema=SCHEMA)
