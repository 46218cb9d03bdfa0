"""Queries in append mode over views, subqueries, unions and joins: what single rows give, however they were cut into epochs.

The oracle goes through the rows one by one, from the definitions alone, to tell which are late and how far the watermark is;
the answer is DuckDB's own to the same SELECT over the rows that are left.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import note as noted
from hypothesis import strategies as st

from streamsql.engine.operators.asof_join import PRUNE_ROWS_MIN
from streamsql.engine.writes import Write
from tests.driver import Database
from tests.engine.streams import SECOND_US, cut_lists, examples

_NUMBERS = itertools.count()
_SCHEMA = pa.schema([("ts", pa.timestamp("us")), ("k", pa.string()), ("x", pa.int32())])


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one of two streams, ``a`` and ``b``. `ts` counts microseconds since 1970."""

    stream: str
    ts: int | None
    k: str | None
    x: int


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Draw rows of both streams in the order of arrival."""
    base, rows = draw(st.integers(-30, 30)), []
    for number in range(draw(st.integers(0, 24))):
        base += draw(st.integers(0, 5))
        beside = draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
        ts = draw(st.sampled_from([(base + draw(st.integers(-9, 4))) * SECOND_US + beside] * 12 + [None]))
        rows.append(Row(draw(st.sampled_from("ab")), ts, draw(st.sampled_from(["p", "q", "q", None])), number))
    return rows


class Pair:
    """Two streams with views over them, in one database for all examples; dropped when the example ends."""

    def __init__(self, database: Database, delays: tuple[int, int]) -> None:
        self.database = database
        self.names = {"a": f"a{next(_NUMBERS)}", "b": f"b{next(_NUMBERS)}"}
        for stream, delay in zip("ab", delays, strict=True):
            database.execute(
                f"CREATE STREAM {self.names[stream]} (ts TIMESTAMP, k TEXT, x INT, "
                f"WATERMARK FOR ts AS ts - INTERVAL '{delay} us') WITH (retention = 'forever')"
            )

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names.values():
            self.database.execute(f"DROP STREAM IF EXISTS {name} CASCADE")

    def named(self, sql: str) -> str:
        """Write the streams' names for ``{a}`` and ``{b}``."""
        return sql.format(**self.names)

    def view(self, sql: str) -> str:
        name = f"v{next(_NUMBERS)}"
        self.database.execute(f"CREATE MATERIALIZED VIEW {name} AS {self.named(sql)}")
        return name

    def push(self, rows: list[Row], cuts: list[int]) -> None:
        """Send rows in epochs of these sizes; the rows of an epoch are writes of runs of one stream."""
        start = 0
        for count in cuts:
            written = []
            for stream, run in itertools.groupby(rows[start : start + count], key=lambda row: row.stream):
                written.append((self.names[stream], _table(list(run))))
            self.database.engine.submit(Write(written)).result()
            start += count

    def rows(self, view: str) -> Counter[tuple[Any, ...]]:
        return Counter(self.database.values(f"SELECT * FROM public.{view}"))

    def proven(self, view: str) -> bool:
        """Tell whether VERIFY finds nothing."""
        return not self.database.query(f"VERIFY MATERIALIZED VIEW {view}")

    def late(self, view: str) -> Counter[int]:
        told = self.database.values(f"SELECT row->>'x' FROM streamsql.late_rows WHERE view = '{view}'")
        return Counter(int(x) for (x,) in told)


def _table(rows: list[Row]) -> pa.Table:
    return pa.table({name: [getattr(r, name) for r in rows] for name in _SCHEMA.names}, schema=_SCHEMA)


def asked(sql: str, rows: dict[str, list[Row]]) -> Counter[tuple[Any, ...]]:
    """Ask DuckDB."""
    with duckdb.connect() as connection:
        for name, given_rows in rows.items():
            connection.register(name, _table(given_rows))
        return Counter(connection.execute(sql).fetchall())


def judged(rows: list[Row], delays: tuple[int, int]) -> tuple[list[Row], list[Row], int | None]:
    """Go through rows of two streams: those not behind the lower of both watermarks, the others, and that watermark."""
    newest: dict[str, int] = {}
    mark: int | None = None
    admitted: list[Row] = []
    late: list[Row] = []
    delay = dict(zip("ab", delays, strict=True))
    for row in rows:
        behind = row.ts is None or (mark is not None and row.ts < mark)
        (late if behind else admitted).append(row)
        if row.ts is not None:
            newest[row.stream] = max(newest.get(row.stream, row.ts), row.ts)
            if len(newest) == 2:
                mark = min(newest[s] - delay[s] for s in "ab")
    return admitted, late, mark


def by_stream(rows: list[Row]) -> dict[str, list[Row]]:
    return {s: [r for r in rows if r.stream == s] for s in "ab"}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


_DELAYS = st.tuples(*[st.sampled_from([0, 1, SECOND_US, 5 * SECOND_US])] * 2)


@dataclass(frozen=True, slots=True)
class Join:
    """A join of both streams; ``low <= b.ts - a.ts <= high`` in microseconds."""

    kind: str
    low: int
    high: int
    extra: str

    @property
    def on(self) -> str:
        bounds = f"b.ts >= a.ts + INTERVAL '{self.low} us' AND b.ts <= a.ts + INTERVAL '{self.high} us'"
        if self.low == self.high == 0:
            bounds = "a.ts = b.ts"
        return f"{bounds}{self.extra}"

    @property
    def outputs(self) -> str:
        own = "a.ts, a.k, a.x"
        return own if self.kind in ("SEMI", "ANTI") else f"{own}, b.ts AS bts, b.x AS y"


@st.composite
def joins(draw: st.DrawFn) -> Join:
    low = draw(st.integers(-6, 6))
    high = low + draw(st.integers(0, 6))
    return Join(
        draw(st.sampled_from(["INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"])),
        low * SECOND_US,
        high * SECOND_US,
        draw(st.sampled_from([" AND a.k = b.k", " AND a.k = b.k AND a.x < b.x", ""])),
    )


def wanted_of_join(join: Join, rows: list[Row], mark: int | None) -> Counter[tuple[Any, ...]]:
    """Give a join's rows: pairs at once, rows without a pair once none can come."""
    sides = by_stream(rows)
    past = "false" if mark is None else f"epoch_us({{t}}) + {{reach}} < {mark}"
    left = past.format(t="a.ts", reach=join.high)
    right = past.format(t="b.ts", reach=-join.low)
    if join.kind == "ANTI":
        return asked(f"SELECT {join.outputs} FROM a ANTI JOIN b ON {join.on} WHERE {left}", sides)
    paired = "CASE WHEN a.x IS NULL THEN " + right + " WHEN b.x IS NULL THEN " + left + " ELSE true END"
    where = "" if join.kind == "SEMI" else f" WHERE {paired}"
    return asked(f"SELECT {join.outputs} FROM a {join.kind} JOIN b ON {join.on}{where}", sides)


@examples(7)
@given(st.data(), row_lists(), joins(), _DELAYS)
def test_a_join_shows_what_duckdb_joins(
    database: Database, data: st.DataObject, rows: list[Row], join: Join, delays: tuple[int, int]
):
    admitted, late, mark = judged(rows, delays)
    wanted = wanted_of_join(join, admitted, mark)
    sql = f"SELECT {join.outputs} FROM {{a}} AS a {join.kind} JOIN {{b}} AS b ON {join.on} EMIT APPEND"
    noted(sql)
    shown = []
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, delays) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            assert pair.rows(view) == wanted
            assert pair.late(view) == Counter(r.x for r in late)
            # the order in which rows come does not depend on the cuts either, nor on when the view was made
            shown.append(database.values(f"SELECT * FROM public.{view}"))
            again = pair.view(sql)
            shown.append(database.values(f"SELECT * FROM public.{again}"))
            assert pair.proven(view)
    assert all(s == shown[0] for s in shown)


@examples(5)
@given(st.data(), row_lists(), joins(), _DELAYS, st.integers(1, 12))
def test_windows_over_a_join_close_by_its_own_watermark(
    database: Database, data: st.DataObject, rows: list[Row], join: Join, delays: tuple[int, int], seconds: int
):
    size = seconds * SECOND_US
    side = "b" if join.kind == "RIGHT" else "a"
    admitted, _, mark = judged(rows, delays)
    joined = wanted_of_join(join, admitted, mark)
    slack = max(join.high, 0) if side == "a" else max(-join.low, 0)
    time = 3 if side == "b" else 0
    counted: Counter[int] = Counter()
    for row, times in joined.items():
        if row[time] is not None:
            at = duckdb.execute("SELECT epoch_us(?::TIMESTAMP)", [row[time]]).fetchall()[0][0]
            assert isinstance(at, int)
            counted[at // size * size] += times
    closed = {start: n for start, n in counted.items() if mark is not None and start + size <= mark - slack}
    sql = (
        f"SELECT window_start, count(*) AS n FROM {{a}} AS a {join.kind} JOIN {{b}} AS b ON {join.on} "
        f"GROUP BY window({side}.ts, '{size} us') EMIT APPEND"
    )
    noted(sql)
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, delays) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            told = database.values(f"SELECT epoch_us(window_start), n FROM public.{view}")
            assert dict(told) == closed
            assert pair.proven(view)


@examples(8)
@given(st.data(), row_lists(), _DELAYS, st.booleans(), st.booleans())
def test_an_asof_join_gives_the_last_version_at_a_rows_time(
    database: Database, data: st.DataObject, rows: list[Row], delays: tuple[int, int], outer: bool, strict: bool
):
    admitted, late, mark = judged(rows, delays)
    before = "<" if strict else "<="
    # rows are numbered as they arrive: of versions of one time the last counts
    version = f"(SELECT b.x FROM b WHERE b.k = a.k AND b.ts {before} a.ts ORDER BY b.ts DESC, b.x DESC LIMIT 1)"
    passed = "false" if mark is None else f"epoch_us(a.ts) < {mark}"
    kept = "" if outer else " WHERE y IS NOT NULL"
    wanted = asked(
        f"SELECT * FROM (SELECT a.ts, a.k, a.x, {version} AS y FROM a WHERE {passed}){kept}", by_stream(admitted)
    )
    sql = (
        f"SELECT a.ts, a.k, a.x, b.x AS y FROM {{a}} AS a ASOF {'LEFT ' * outer}JOIN {{b}} AS b "
        f"ON a.k = b.k AND a.ts {'>' if strict else '>='} b.ts EMIT APPEND"
    )
    shown = []
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, delays) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            assert pair.rows(view) == wanted
            assert pair.late(view) == Counter(r.x for r in late)
            assert pair.proven(view)
            shown.append(database.values(f"SELECT * FROM public.{view}"))
    assert all(s == shown[0] for s in shown)


@dataclass(frozen=True, slots=True)
class Level:
    """A window over the one below: its size in microseconds, and the column that it is over."""

    size: int
    over: str


def windowed(
    levels: list[Level], pairs: list[tuple[int, int]], mark: int | None
) -> tuple[list[tuple[int, int]], int | None]:
    """Sum (time, value) pairs over windows of windows; gives (start, sum) of the last level, and its watermark."""
    for number, level in enumerate(levels):
        sums: Counter[int] = Counter()
        for time, value in pairs:
            at = time + levels[number - 1].size if number and level.over == "window_end" else time
            sums[at // level.size * level.size] += value
        if number and mark is not None:
            below = levels[number - 1].size
            first = mark // below * below  # the first window that is still open
            mark = first + below if level.over == "window_end" else first
        pairs = [(s, v) for s, v in sorted(sums.items()) if mark is not None and s + level.size <= mark]
    return pairs, mark


@examples(5)
@given(
    st.data(),
    row_lists(),
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["window_start", "window_end"])), min_size=2, max_size=4),
    st.sampled_from([0, 1, SECOND_US, 5 * SECOND_US]),
)
def test_windows_of_windows_hold_what_single_rows_give(
    database: Database, data: st.DataObject, rows: list[Row], drawn: list[tuple[int, str]], delay: int
):
    rows = [r for r in rows if r.stream == "a"]
    levels = [Level(n * SECOND_US, over) for n, over in drawn]
    newest: int | None = None
    accepted = []
    for row in rows:
        if row.ts is None:
            continue
        end = row.ts // levels[0].size * levels[0].size + levels[0].size
        if newest is None or end > newest - delay:
            accepted.append((row.ts, row.x))
        newest = row.ts if newest is None else max(newest, row.ts)
    wanted, _ = windowed(levels, accepted, None if newest is None else newest - delay)
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, (delay, 0)) as pair:
            below = (
                f"SELECT window_start, window_end, sum(x) AS x FROM {{a}} GROUP BY window(ts, '{levels[0].size} us')"
            )
            nested, chain = below, [pair.view(below + " EMIT APPEND")]
            for level in levels[1:]:
                over = "SELECT window_start, window_end, sum(x) AS x FROM %s GROUP BY window({0}, '{1} us')"
                over = over.format(level.over, level.size)
                nested = over % f"({nested}) AS q"
                chain.append(pair.view(over % chain[-1] + " EMIT APPEND"))
            flat = pair.view(nested + " EMIT APPEND")
            pair.push(rows, cut)
            late = pair.view(over % chain[-2] + " EMIT APPEND")
            for view in (chain[-1], flat, late):
                told = database.values(f"SELECT epoch_us(window_start), x FROM public.{view} ORDER BY 1")
                assert told == wanted, view
                assert pair.proven(view), view


@examples(5)
@given(st.data(), row_lists(), _DELAYS, st.integers(1, 8))
def test_a_union_is_as_slow_as_its_slowest_branch(
    database: Database, data: st.DataObject, rows: list[Row], delays: tuple[int, int], seconds: int
):
    size = seconds * SECOND_US
    newest: dict[str, int] = {}
    mark: int | None = None
    counted: Counter[int] = Counter()
    for row in rows:
        if row.ts is None:
            continue
        start = row.ts // size * size
        if mark is None or start + size > mark:
            counted[start] += 1
        newest[row.stream] = max(newest.get(row.stream, row.ts), row.ts)
        if len(newest) == 2:
            mark = min(newest[s] - d for s, d in zip("ab", delays, strict=True))
    wanted = sorted((s, n) for s, n in counted.items() if mark is not None and s + size <= mark)
    sql = (
        "SELECT window_start, count(*) AS n FROM (SELECT ts, x FROM {a} UNION ALL SELECT ts, x::BIGINT FROM {b}) AS u "
        f"GROUP BY window(ts, '{size} us') EMIT APPEND"
    )
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, delays) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            again = pair.view(sql)
            for v in (view, again):
                assert database.values(f"SELECT epoch_us(window_start), n FROM public.{v} ORDER BY 1") == wanted
                assert pair.proven(v)


@examples(5)
@given(st.data(), row_lists(), joins(), _DELAYS)
def test_joins_and_chains_go_on_after_restarts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: list[Row], join: Join, delays: tuple[int, int]
):
    directory: Path = tmp_path_factory.mktemp("data")
    admitted, _, mark = judged(rows, delays)
    wanted = wanted_of_join(join, admitted, mark)
    with Database(directory / "d") as made:
        pair = Pair(made, delays)
        view = pair.view(f"SELECT {join.outputs} FROM {{a}} AS a {join.kind} JOIN {{b}} AS b ON {join.on} EMIT APPEND")
        counts = (
            pair.view(f"SELECT window_start, count(*) AS n FROM {view} GROUP BY window(ts, '5s') EMIT APPEND")
            if join.kind in ("INNER", "SEMI")
            else None
        )
        start = 0
        for count in data.draw(cut_lists(len(rows)), "cuts"):
            pair.push(rows[start : start + count], [count])
            start += count
            made.restart() if data.draw(st.booleans()) else made.crash()
        assert Counter(made.values(f"SELECT * FROM public.{view}")) == wanted
        assert pair.proven(view)
        if counts is not None:
            again = pair.view(f"SELECT window_start, count(*) AS n FROM {view} GROUP BY window(ts, '5s') EMIT APPEND")
            assert made.values(f"FROM public.{counts} ORDER BY ALL") == made.values(f"FROM public.{again} ORDER BY ALL")


def test_the_state_of_a_join_is_level_over_a_day_of_event_time():
    sizes = []
    with Database() as made:
        for name in "ab":
            made.execute(
                f"CREATE STREAM {name} (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts - INTERVAL '1 minute') "
                "WITH (retention = '0')"
            )
        made.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT window_start, count(*) AS n FROM a FULL JOIN b ON a.k = b.k "
            "AND b.ts BETWEEN a.ts - INTERVAL '5 minutes' AND a.ts + INTERVAL '5 minutes' "
            "GROUP BY window(a.ts, '10 minutes') EMIT APPEND"
        )
        for hour in range(24):
            times = [(hour * 3600 + second) * SECOND_US for second in range(0, 3600, 10)]
            for name in "ab":
                rows = [Row(name, ts, "pqr"[number % 3], number) for number, ts in enumerate(times)]
                made.push_arrow(name, _table(rows))
            tables = [f"SELECT count(*) FROM _state.{t}" for t in _state_tables(made)]
            sizes.append(sum(made.values(sql)[0][0] for sql in tables))
        # five minutes and the delay of one are 36 rows a side, which may all have matched
        assert max(sizes) <= 4 * 40, sizes
        assert sizes[-1] == sizes[5], sizes
        assert made.values("SELECT count(*) FROM public.v")[0][0] > 24 * 5


def test_versions_of_an_asof_join_do_not_pile_up_where_nobody_asks_for_them():
    with Database() as made:
        for name in "ab":
            made.execute(
                f"CREATE STREAM {name} (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts) WITH (retention = '0')"
            )
        made.execute(
            "CREATE MATERIALIZED VIEW v AS SELECT a.x, b.x AS y FROM a ASOF JOIN b ON a.k = b.k AND a.ts >= b.ts EMIT APPEND"
        )
        made.push_arrow("a", _table([Row("a", 10**15, "p", 0)]))  # the watermark is that of b from now on
        for epoch in range(20):
            rows = [Row("b", (epoch * 500 + n) * SECOND_US, "pqr"[n % 3], epoch * 500 + n) for n in range(500)]
            made.push_arrow("b", _table(rows))
            kept = sum(made.values(f"SELECT count(*) FROM _state.{t}")[0][0] for t in _state_tables(made))
            assert kept < 2 * PRUNE_ROWS_MIN
        for name in "ab":
            made.push_arrow(name, _table([Row(name, 10**15 + 1, "q", 0)]))
        assert made.values("SELECT x, y FROM public.v") == [(0, 9_998)]  # of the last epoch's rows the last of p


def _state_tables(database: Database) -> list[str]:
    found = database.values(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = '_state' AND table_name LIKE 'v#%'"
    )
    return [f'"{name}"' for (name,) in found]
