"""The first rows of each key, joins without a bound, and `state_ttl`: what single rows give, however they were cut into epochs.

The oracle goes through the rows one by one, from the definitions alone; where a query forgets nothing it is DuckDB's answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import note as noted
from hypothesis import strategies as st

from streamsql.engine.operators.generations import FOREVER, ranked
from tests.driver import Database
from tests.engine.streams import SECOND_US, cut_lists, examples
from tests.engine.test_append_flows import Pair, Row, asked, by_stream, judged, row_lists

_DELAYS = st.sampled_from([0, 1, SECOND_US, 5 * SECOND_US])
_TTLS = st.one_of(st.none(), st.integers(1, 15).map(lambda s: s * SECOND_US))


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of one stream as it came: the watermark before it, and whether it is late."""

    row: Row
    before: int | None

    @property
    def late(self) -> bool:
        return self.row.ts is None or (self.before is not None and self.row.ts < self.before)


def seen(rows: list[Row], delay: int) -> tuple[list[Seen], int | None]:
    """Go through the rows of a stream; gives the last watermark as well."""
    mark: int | None = None
    found = []
    for row in rows:
        found.append(Seen(row, mark))
        if row.ts is not None:
            mark = row.ts - delay if mark is None else max(mark, row.ts - delay)
    return found, mark


def first_of_keys(
    rows: list[Row], count: int, ttl: int | None, now: Callable[[Row], int | None], start: Callable[[Row], int]
) -> list[tuple[Row, int]]:
    """Give the first rows of each key, in the order given, and their ranks; a key is forgotten `ttl` after its first row."""
    under_way: dict[str | None, tuple[int, int]] = {}
    found = []
    for row in rows:
        number, end = under_way.get(row.k, (0, 0))
        at = now(row)
        if not number or (ttl is not None and at is not None and at > end):
            number, end = 0, start(row) + (ttl or 0)
        under_way[row.k] = (number + 1, end)
        if number < count:
            found.append((row, number + 1))
    return found


def with_ttl(ttl: int | None) -> str:
    return "" if ttl is None else f" WITH (state_ttl = '{ttl // SECOND_US} s')"


def cuts_of(data: st.DataObject, count: int) -> list[list[int]]:
    return [[count] if count else [], [1] * count, data.draw(cut_lists(count), "cuts")]


@examples(8)
@given(st.data(), row_lists(), _DELAYS, st.integers(1, 3), _TTLS, st.sampled_from(["", ", x DESC"]))
def test_the_first_rows_by_time_are_shown_once_the_watermark_is_past_them(
    database: Database, data: st.DataObject, drawn: list[Row], delay: int, count: int, ttl: int | None, more: str
):
    rows = [r for r in drawn if r.stream == "a"]
    came, mark = seen(rows, delay)
    passed = [s.row for s in came if not s.late and mark is not None and s.row.ts is not None and s.row.ts < mark]
    passed.sort(key=lambda r: (r.ts, -r.x if more else r.x))
    ranks = first_of_keys(passed, count, ttl, lambda r: r.ts, lambda r: r.ts or 0)
    wanted = Counter((row.k, row.x, rank) for row, rank in ranks)
    sql = (
        f"SELECT k, x, rn FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY ts{more}) AS rn FROM {{a}}) AS q "
        f"WHERE rn <= {count} EMIT APPEND{with_ttl(ttl)}"
    )
    noted(sql)
    shown = []
    for cut in cuts_of(data, len(rows)):
        with Pair(database, (delay, 0)) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            assert pair.rows(view) == wanted
            assert pair.late(view) == Counter(s.row.x for s in came if s.late)
            shown.append(database.values(f"SELECT * FROM public.{view}"))
            again = pair.view(sql)
            shown.append(database.values(f"SELECT * FROM public.{again}"))
    assert all(s == shown[0] for s in shown)


@examples(8)
@given(st.data(), row_lists(), _DELAYS, _TTLS, st.sampled_from(["DISTINCT k", "DISTINCT ON (k) k", "DISTINCT ts, k"]))
def test_distinct_rows_are_shown_as_they_come(
    database: Database, data: st.DataObject, drawn: list[Row], delay: int, ttl: int | None, what: str
):
    rows = [r for r in drawn if r.stream == "a"]
    came, _ = seen(rows, delay)
    wanted: Counter[tuple[Any, ...]]
    if what == "DISTINCT ts, k":
        ttl = None
        kept = [s.row for s in came if not s.late]
        wanted = Counter({(r.ts, r.k) for r in kept})
        late = sum(s.late for s in came)
    else:
        before = {id(s.row): s.before for s in came}
        never = -(1 << 62)

        def start(row: Row) -> int:
            return max(v if v is not None else never for v in (row.ts, before[id(row)]))

        ranks = first_of_keys(rows, 1, ttl, lambda r: before[id(r)], start)
        wanted, late = Counter((row.k,) for row, _ in ranks), 0
    sql = f"SELECT {what} FROM {{a}} EMIT APPEND{with_ttl(ttl)}"
    noted(sql)
    shown = []
    for cut in cuts_of(data, len(rows)):
        with Pair(database, (delay, 0)) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            names = "epoch_us(ts), k" if what == "DISTINCT ts, k" else "k"
            assert Counter(database.values(f"SELECT {names} FROM public.{view}")) == wanted
            told = database.values(f"SELECT count(*) FROM streamsql.late_rows WHERE view = '{view}'")[0][0]
            assert told == late
            shown.append(database.values(f"SELECT * FROM public.{view}"))
            again = pair.view(sql)
            shown.append(database.values(f"SELECT * FROM public.{again}"))
    assert all(s == shown[0] for s in shown)


@examples(8)
@given(
    st.data(), row_lists(), _DELAYS, st.integers(1, 8), st.integers(1, 3),
    st.sampled_from(["row_number", "rank", "dense_rank"]), st.sampled_from(["count(*) DESC", "max(x)", "k NULLS FIRST"]),
)  # fmt: skip
def test_the_first_groups_of_a_window_are_shown_when_it_closes(
    database: Database,
    data: st.DataObject,
    drawn: list[Row],
    delay: int,
    seconds: int,
    count: int,
    function: str,
    by: str,
):
    rows, size = [r for r in drawn if r.stream == "a"], seconds * SECOND_US
    came, mark = seen(rows, delay)
    accepted = [
        s.row for s in came
        if s.row.ts is not None and (s.before is None or s.row.ts // size * size + size > s.before)
    ]  # fmt: skip
    by = f"{by}, k" if function == "row_number" else by
    ranking = f"{function}() OVER (PARTITION BY {{w}} ORDER BY {by})"
    start = f"CAST(floor(epoch_us(ts) / {size}) AS BIGINT) * {size}"
    closed = "false" if mark is None else f"w + {size} <= {mark}"
    groups = f"SELECT {start} AS w, k, count(*) AS n, max(x) AS m FROM a GROUP BY {start}, k"
    place = ranking.format(w="w").replace("count(*)", "n").replace("max(x)", "m")
    wanted = asked(
        f"SELECT w, k, n, place FROM (SELECT *, {place} AS place FROM ({groups}) WHERE {closed}) WHERE place <= {count}",
        {"a": accepted},
    )
    ranked_groups = (
        f"SELECT window_start, k, count(*) AS n, {ranking.format(w='window_start')} AS place FROM {{a}} "
        f"GROUP BY window(ts, '{size} us'), k"
    )
    sql = f"SELECT * FROM ({ranked_groups}) AS q WHERE place <= {count} EMIT APPEND"
    noted(sql)
    for cut in cuts_of(data, len(rows)):
        with Pair(database, (delay, 0)) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            again = pair.view(sql)
            for name in (view, again):
                told = Counter(database.values(f"SELECT epoch_us(window_start), k, n, place FROM public.{name}"))
                assert told == wanted


@examples(6)
@given(st.data(), row_lists(), st.tuples(_DELAYS, _DELAYS), st.sampled_from(["INNER", "SEMI"]))
def test_a_join_without_a_bound_shows_what_duckdb_joins(
    database: Database, data: st.DataObject, rows: list[Row], delays: tuple[int, int], kind: str
):
    outputs = "a.k, a.x" if kind == "SEMI" else "a.k, a.x, b.x AS y"
    query = f"SELECT {outputs} FROM {{}} AS a {kind} JOIN {{}} AS b ON a.k = b.k AND a.x <> b.x + 1"
    wanted = asked(query.format("a", "b"), by_stream(rows))
    for cut in cuts_of(data, len(rows)):
        with Pair(database, delays) as pair:
            view = pair.view(query.format("{a}", "{b}") + " EMIT APPEND")
            pair.push(rows, cut)
            assert pair.rows(view) == wanted
            assert not pair.late(view)


@examples(6)
@given(
    st.data(), row_lists(), st.tuples(_DELAYS, _DELAYS), st.integers(1, 6), st.sampled_from(["INNER", "LEFT", "FULL"])
)
def test_a_join_with_a_ttl_is_bounded_by_it(
    database: Database, data: st.DataObject, rows: list[Row], delays: tuple[int, int], seconds: int, kind: str
):
    admitted, late, mark = judged(rows, delays)
    ttl = seconds * SECOND_US
    on = f"a.k = b.k AND abs(epoch_us(a.ts) - epoch_us(b.ts)) <= {ttl}"
    past = {s: "false" if mark is None else f"epoch_us({s}.ts) + {ttl} < {mark}" for s in "ab"}
    shown = f"CASE WHEN a.x IS NULL THEN {past['b']} WHEN b.x IS NULL THEN {past['a']} ELSE true END"
    outputs = "a.k, a.x, b.x AS y"
    wanted = asked(f"SELECT {outputs} FROM a {kind} JOIN b ON {on} WHERE {shown}", by_stream(admitted))
    sql = f"SELECT {outputs} FROM {{a}} AS a {kind} JOIN {{b}} AS b ON a.k = b.k EMIT APPEND{with_ttl(ttl)}"
    for cut in cuts_of(data, len(rows)):
        with Pair(database, delays) as pair:
            view = pair.view(sql)
            pair.push(rows, cut)
            assert pair.rows(view) == wanted
            assert pair.late(view) == Counter(r.x for r in late)


_QUERIES = (
    "SELECT k, sum(x) AS x, count(*) AS n FROM {a} AS a GROUP BY k",
    "SELECT count(*) AS n, max(x) AS x FROM {a} AS a",
    "SELECT a.k, a.x, b.x AS y FROM {a} AS a JOIN {b} AS b ON a.k = b.k",
    "SELECT a.k, a.x, b.x AS y FROM {a} AS a LEFT JOIN {b} AS b ON a.k = b.k",
    "SELECT DISTINCT k FROM (SELECT k FROM {a} AS a UNION ALL SELECT k FROM {b} AS b) AS u",
    "SELECT k, x FROM (SELECT k, x, row_number() OVER (PARTITION BY k ORDER BY x DESC) AS rn FROM {a} AS a) AS q WHERE rn <= 2",
    "SELECT x FROM {a} AS a WHERE NOT EXISTS (SELECT 1 FROM {b} AS b WHERE b.k = a.k)",
)


@examples(8)
@given(st.data(), row_lists(), st.tuples(_DELAYS, _DELAYS), st.integers(1, 12), st.sampled_from(_QUERIES))
def test_in_update_mode_rows_count_until_the_watermark_is_past_them_by_the_ttl(
    database: Database, data: st.DataObject, rows: list[Row], delays: tuple[int, int], seconds: int, query: str
):
    ttl, read = seconds * SECOND_US, [s for s in "ab" if f"{{{s}}}" in query]
    newest = {s: max((r.ts for r in rows if r.stream == s and r.ts is not None), default=None) for s in "ab"}
    marks = [n - d for s, d in zip("ab", delays, strict=True) if s in read and (n := newest[s]) is not None]
    since = min(marks) - ttl if len(marks) == len(read) else None
    kept = [r for r in rows if r.ts is not None and (since is None or r.ts >= since)]
    wanted = asked(query.format(a="a", b="b"), by_stream(kept))
    noted(query)
    for cut in cuts_of(data, len(rows)):
        with Pair(database, delays) as pair:
            view = pair.view(f"{query} EMIT UPDATE{with_ttl(ttl)}")
            pair.push(rows, cut)
            assert pair.rows(view) == wanted
            assert not database.values(f"SELECT 1 FROM streamsql.views WHERE name = '{view}' AND status <> 'running'")
            again = pair.view(f"{query} EMIT UPDATE{with_ttl(ttl)}")
            assert pair.rows(again) == wanted


@examples(30)
@given(st.data(), st.integers(0, 5))
def test_generations_are_those_of_going_through_the_rows_one_by_one(data: st.DataObject, ttl: int):
    keys, now, starts, counts, lasts, wanted = [], [], [], [], [], []
    for key in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(-3, 3))
        count = data.draw(st.integers(0, 2))
        last = data.draw(st.integers(-3, 6))
        number, end = count, last
        for _ in range(data.draw(st.integers(0, 8))):
            at += data.draw(st.integers(0, 4))
            start = at + data.draw(st.integers(0, 2))
            if not number or at > end:
                number, end = 0, start + ttl
            number += 1
            keys.append(key)
            now.append(at)
            starts.append(start)
            counts.append(count)
            lasts.append(last)
            wanted.append((number, end))
    columns = [np.array(c, dtype=np.int64) for c in (keys, now, starts, counts, lasts)]
    ranks, ends = ranked(*columns, ttl)  # type: ignore[call-arg, arg-type]  # five columns
    assert list(zip(ranks.tolist(), ends.tolist(), strict=True)) == wanted
    assert ranked(*columns, FOREVER)[0].size == len(keys)  # type: ignore[call-arg, arg-type]


def test_state_that_is_bounded_is_level(database: Database):
    """An hour of event time after the other: the keys that a window, a time or a ttl lets go are gone."""
    views = {
        "once": "SELECT DISTINCT ts, k FROM long EMIT APPEND",
        "daily": "SELECT DISTINCT ON (k) k, ts FROM long ORDER BY k, ts EMIT APPEND WITH (state_ttl = '10 minutes')",
        "top": "SELECT * FROM (SELECT window_start, k, sum(x) AS x, row_number() OVER (PARTITION BY window_start ORDER BY "
        "sum(x) DESC) AS rn FROM long GROUP BY window(ts, '10 minutes'), k) q WHERE rn <= 2 EMIT APPEND",
        "sums": "SELECT k, sum(x) AS x FROM long GROUP BY k EMIT UPDATE WITH (state_ttl = '10 minutes')",
    }
    sizes: dict[str, list[Any]] = {name: [] for name in views}
    database.execute(
        "CREATE STREAM long (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts - INTERVAL '1 minute') "
        "WITH (retention = '1 second')"
    )
    for name, sql in views.items():
        database.execute(f"CREATE MATERIALIZED VIEW {name} AS {sql}")
    for hour in range(12):
        database.execute(
            f"INSERT INTO long SELECT make_timestamp({hour * 3_600 * SECOND_US} + i * {10 * SECOND_US}), "
            f"'k' || ({hour} * 1000 + i % 50), i FROM range(360) AS r(i)"
        )
        database.advance(2 * SECOND_US)
        for name, rows in database.values("SELECT name, state_rows FROM streamsql.views"):
            if name in sizes:
                sizes[name].append(rows)
        kept = database.values("SELECT count(*) FROM long")[0][0]
    database.execute("DROP STREAM long CASCADE")
    assert all(len(set(s[3:])) == 1 for s in sizes.values()), sizes
    assert kept <= 2 * 360, kept
