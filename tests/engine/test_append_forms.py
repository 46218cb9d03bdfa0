"""Rows computed from rows, and what is asked over them in append mode: as going through the rows one by one gives it.

A *base* makes rows of each row of a stream (unnest, LATERAL, TUMBLE, HOP); a *form* is a query over such rows: groups of a
window or of a time, DISTINCT, the first of each key, running counts, INTERSECT and EXCEPT. Which rows are late and final is
told by a loop from the definitions alone.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import note as noted
from hypothesis import strategies as st

from tests.driver import Database
from tests.engine.oracle import windows_of
from tests.engine.streams import SECOND_US, cut_lists, examples
from tests.engine.test_append_flows import Pair, Row, judged, row_lists

_NUMBERS = itertools.count()
_DELAYS = st.tuples(*[st.sampled_from([0, 1, SECOND_US, 5 * SECOND_US])] * 2)


@dataclass(frozen=True, slots=True)
class Made:
    """A row that a base has made: its event time, two values, and the watermark before it."""

    ts: int | None
    v: int | None
    w: int | None
    mark: int | None


@dataclass(frozen=True, slots=True)
class Base:
    """SQL over the stream ``{s}`` that gives ``ts``, ``v`` and ``w`` (a time), and what it makes of a row: pairs of v and w."""

    sql: str
    of: Callable[[Row], list[tuple[int | None, int | None]]]
    size: int = 0
    slide: int = 0

    def made(self, rows: list[Row], delay: int) -> tuple[list[Made], int | None]:
        """Give what it makes of all rows, and the last watermark."""
        found, mark = [], None
        for row in rows:
            found += [Made(row.ts, v, w, mark) for v, w in self.of(row)]
            if row.ts is not None and (mark is None or row.ts - delay > mark):
                mark = row.ts - delay
        return found, mark


def _in_from(item: str, values: Callable[[int], list[int | None]]) -> Base:
    return Base(f"SELECT {{s}}.ts, v, {{s}}.ts AS w FROM {{s}}{item}", lambda r: [(v, r.ts) for v in values(r.x)])


PLAIN = Base("SELECT ts, x % 3 AS v, ts AS w FROM {s}", lambda r: [(r.x % 3, r.ts)])
LATERALS = (
    PLAIN,
    _in_from(", unnest([x, NULL, 1 - x]) AS u(v)", lambda x: [x, None, 1 - x]),
    _in_from(", generate_series(1, x % 3) AS u(v)", lambda x: list(range(1, x % 3 + 1))),
    _in_from(
        " JOIN LATERAL (SELECT count(*) AS v FROM unnest([1, x, x + 1]) AS q(y) WHERE y > 2) AS u ON v < 2",
        lambda x: [n] if (n := (x > 2) + (x + 1 > 2)) < 2 else [],
    ),
    _in_from(
        " LEFT JOIN LATERAL (SELECT y % 5 AS v FROM unnest([x, 2]) AS q(y) WHERE y > 9) AS u ON true",
        lambda x: [x % 5] if x > 9 else [None],
    ),
    Base(
        "SELECT ts, unnest([x % 4, x % 4, 7]) AS v, ts AS w FROM {s}",
        lambda r: [(v, r.ts) for v in (r.x % 4, r.x % 4, 7)],
    ),
)


def windowed(size: int, slide: int) -> Base:
    """Rows with their windows."""
    call = f"TUMBLE({{s}}, ts, '{size} us')" if size == slide else f"HOP({{s}}, ts, '{slide} us', '{size} us')"

    def of(row: Row) -> list[tuple[int | None, int | None]]:
        return [] if row.ts is None else [(row.x % 2, start) for start in windows_of(row.ts, size, slide)]

    return Base(f"SELECT ts, x % 2 AS v, window_start AS w FROM {call}", of, size, slide)


@st.composite
def bases(draw: st.DrawFn) -> Base:
    if draw(st.booleans()):
        return draw(st.sampled_from(LATERALS))
    size = draw(st.integers(1, 8))
    return windowed(size * SECOND_US, draw(st.integers(1, size)) * SECOND_US)


@dataclass(frozen=True, slots=True)
class Form:
    """A query over ``{b}``, and its rows from those of the base and the last watermark. `columns` make them comparable."""

    sql: str
    columns: str
    rows: Callable[[Base, list[Made], int | None], Counter[tuple[Any, ...]]]


def _plain(base: Base, made: list[Made], mark: int | None) -> Counter[tuple[Any, ...]]:  # all at once
    return Counter((m.ts, m.v) for m in made)


def _grouped(size: int, unit: Callable[[Made], int | None], bound: Callable[[int], int]) -> Any:
    """Count groups by a time: late are rows of times below the bound, shown are groups below it."""

    def rows(base: Base, made: list[Made], mark: int | None) -> Counter[tuple[Any, ...]]:
        counted: Counter[tuple[int, int | None]] = Counter()
        for m in made:
            time = unit(m)
            if m.ts is not None and time is not None and (m.mark is None or time + size > bound(m.mark)):
                counted[time, m.v] += 1
        closed = {key: n for key, n in counted.items() if mark is not None and key[0] + size <= bound(mark)}
        return Counter((time, v, n) for (time, v), n in closed.items())

    return rows


def _by_start(base: Base, made: list[Made], mark: int | None) -> Counter[tuple[Any, ...]]:
    """Count by the start of the windows of rows; of laterals this is the row's own time."""

    def first_open(at: int) -> int:
        return (at - base.size) // base.slide * base.slide + base.slide if base.slide else at

    rows: Counter[tuple[Any, ...]] = _grouped(1, lambda m: m.w, first_open)(base, made, mark)
    return rows


def _in_time(made: list[Made]) -> list[Made]:
    return [m for m in made if m.ts is not None and (m.mark is None or m.ts >= m.mark)]


def _distinct(base: Base, made: list[Made], mark: int | None) -> Counter[tuple[Any, ...]]:
    return Counter({(m.ts, m.v) for m in _in_time(made)})


def _firsts(base: Base, made: list[Made], mark: int | None) -> Counter[tuple[Any, ...]]:
    final = [m for m in _in_time(made) if mark is not None and m.ts is not None and m.ts < mark]
    keys = {m.v for m in final}
    return Counter((min(m.ts for m in final if m.v == v and m.ts is not None), v) for v in keys)


def _running(base: Base, made: list[Made], mark: int | None) -> Counter[tuple[Any, ...]]:
    final = [m for m in _in_time(made) if mark is not None and m.ts is not None and m.ts < mark]
    return Counter(
        (m.ts, m.v, sum(o.v == m.v and o.ts is not None and m.ts is not None and o.ts <= m.ts for o in final))
        for m in final
    )


def _by_unit(unit: str, us: int) -> Form:
    return Form(
        f"SELECT date_trunc('{unit}', ts) AS t, v, count(*) AS n FROM {{b}} GROUP BY date_trunc('{unit}', ts), v",
        "epoch_us(t), v, n",
        _grouped(us, lambda m: None if m.ts is None else m.ts // us * us, lambda mark: mark // us * us),
    )


def _windows(us: int) -> Form:
    return Form(
        f"SELECT window_start AS t, v, count(*) AS n FROM {{b}} GROUP BY window(ts, '{us} us'), v",
        "epoch_us(t), v, n",
        _grouped(us, lambda m: None if m.ts is None else m.ts // us * us, lambda mark: mark),
    )


FORMS = (
    Form("SELECT ts, v FROM {b}", "epoch_us(ts), v", _plain),
    _by_unit("minute", 60 * SECOND_US),
    _by_unit("second", SECOND_US),
    _windows(7 * SECOND_US),
    Form("SELECT w, v, count(*) AS n FROM {b} GROUP BY w, v", "epoch_us(w), v, n", _by_start),
    Form("SELECT DISTINCT ts, v FROM {b}", "epoch_us(ts), v", _distinct),
    Form(
        "SELECT ts, v FROM (SELECT ts, v, row_number() OVER (PARTITION BY v ORDER BY ts) AS rn FROM {b}) WHERE rn = 1",
        "epoch_us(ts), v",
        _firsts,
    ),
    Form("SELECT ts, v, count(*) OVER (PARTITION BY v ORDER BY ts) AS n FROM {b}", "epoch_us(ts), v, n", _running),
)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database() as made:
        yield made


def _over(pair: Pair, base: str, form: str, how: str) -> str:
    """Create the form over a base that is a view, a subquery or a CTE; give its name."""
    if how == "view":
        return pair.view(form.format(b=pair.view(f"{base} EMIT APPEND")) + " EMIT APPEND")
    if how == "cte":
        return pair.view(f"WITH base AS ({base}) {form.format(b='base')} EMIT APPEND")
    return pair.view(form.format(b=f"({base}) AS base") + " EMIT APPEND")


@examples(6)
@given(
    st.data(),
    row_lists(),
    bases(),
    st.sampled_from(FORMS),
    _DELAYS,
    st.sampled_from(["view", "cte", "subquery"]),
)
def test_a_form_over_rows_made_of_rows_shows_what_single_rows_give(
    database: Database, data: st.DataObject, rows: list[Row], base: Base, form: Form, delays: tuple[int, int], how: str,
):  # fmt: skip
    rows = [Row("a", r.ts, r.k, r.x) for r in rows]
    made, mark = base.made(rows, delays[0])
    wanted = form.rows(base, made, mark)
    shown = []
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, delays) as pair:
            text = base.sql.replace("{s}", pair.names["a"])
            noted(f"{text} | {form.sql}")
            view = _over(pair, text, form.sql, how)
            pair.push(rows, cut)
            shown.append(database.values(f"SELECT {form.columns} FROM public.{view}"))
            assert Counter(shown[-1]) == wanted
            if (
                how != "view"
            ):  # rows of a view come in the order of time where a query over it begins: none is late then
                assert pair.proven(view)
                again = _over(pair, text, form.sql, how)
                assert database.values(f"SELECT {form.columns} FROM public.{again}") == shown[-1]
    assert all(s == shown[0] for s in shown)


@examples(4)
@given(
    st.data(), row_lists(), st.sampled_from(LATERALS), st.sampled_from(LATERALS), _DELAYS,
    st.sampled_from(["INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]),
)  # fmt: skip
def test_set_operations_show_what_multisets_of_rows_give(
    database: Database,
    data: st.DataObject,
    rows: list[Row],
    left: Base,
    right: Base,
    delays: tuple[int, int],
    operation: str,
):
    admitted, _, mark = judged(rows, delays)
    one = Counter((r.ts, v) for r in admitted if r.stream == "a" for v, _ in left.of(r))
    two = Counter((r.ts, v) for r in admitted if r.stream == "b" for v, _ in right.of(r))
    if operation in {"INTERSECT", "EXCEPT"}:
        one, two = Counter(set(one)), Counter(set(two))
    both = one & two if operation.startswith("INTERSECT") else one - two
    if operation == "EXCEPT":
        both = Counter({key: 1 for key in one if key not in two})
    if operation != "INTERSECT":  # which is certain as soon as a row has come on both sides
        both = Counter({key: n for key, n in both.items() if mark is not None and key[0] is not None and key[0] < mark})
    for cut in ([len(rows)] if rows else [], [1] * len(rows), data.draw(cut_lists(len(rows)), "cuts")):
        with Pair(database, delays) as pair:
            sides = [
                f"SELECT ts, v FROM ({base.sql.replace('{s}', pair.names[s])}) AS q"
                for s, base in (("a", left), ("b", right))
            ]
            noted(f" {operation} ".join(sides))
            view = pair.view(f" {operation} ".join(sides) + " EMIT APPEND")
            pair.push(rows, cut)
            assert Counter(database.values(f"SELECT epoch_us(ts), v FROM public.{view}")) == both
            assert pair.proven(view)


@examples(4)
@given(st.data(), row_lists(), st.sampled_from(["", "LEFT "]), st.lists(st.integers(0, 2), max_size=4))
def test_a_lookup_meets_the_table_as_it_is_when_a_row_arrives(
    database: Database, data: st.DataObject, rows: list[Row], outer: str, changed: list[int]
):
    """Between the epochs a row of the table goes, comes, or changes, whichever key was drawn."""
    table, held = f"d{next(_NUMBERS)}", {0: 0, 1: 1}
    database.execute(f"CREATE TABLE {table} (k INT PRIMARY KEY, y INT)")
    database.execute(f"INSERT INTO {table} VALUES (0, 0), (1, 1)")
    wanted: Counter[tuple[int, int | None]] = Counter()
    cuts, changes = data.draw(cut_lists(len(rows)), "cuts"), iter(changed)
    with Pair(database, (0, 0)) as pair:
        joined = f"{outer}JOIN {table} FOR SYSTEM_TIME AS OF PROCTIME() AS t ON s.x % 3 = t.k"
        view = pair.view(f"SELECT s.x, t.y FROM {{a}} AS s {joined} EMIT APPEND")
        start = 0
        for count in cuts:
            pair.push(rows[start : start + count], [count])
            for row in rows[start : start + count]:
                met = held.get(row.x % 3)
                if row.stream == "a" and (met is not None or outer):
                    wanted[row.x, met] += 1
            start += count
            key = next(changes, None)
            if key is not None and key in held and start % 2:
                database.execute(f"DELETE FROM {table} WHERE k = {key}")
                del held[key]
            elif key is not None:
                database.execute(
                    f"INSERT INTO {table} VALUES ({key}, {start}) ON CONFLICT (k) DO UPDATE SET y = excluded.y"
                )
                held[key] = start
        assert pair.rows(view) == wanted
    database.execute(f"DROP TABLE {table}")
