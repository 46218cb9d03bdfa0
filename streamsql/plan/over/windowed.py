"""A query's window functions taken out of it: it then reads an origin that has their values as columns.

::

    SELECT ts, x - lag(x) OVER (PARTITION BY k ORDER BY ts) AS step FROM s WHERE x > 0
    SELECT __c0 AS ts, __c1 - __w0 AS step FROM <over>        over: SELECT ts AS __c0, x AS __c1, k AS __c2 FROM s WHERE x > 0

Functions over one key become one node; those of other keys one above it. A row can be shown once it is final: when the
watermark is past it where the order is that of event time; when its key's window is closed in any other order; at once in that
of arrival.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, StreamSQLError
from streamsql.catalog.objects import OutputColumn, TimeBound
from streamsql.plan.bounds import Bounds, Shifted
from streamsql.plan.nodes import Output
from streamsql.plan.origins import Inner, Origin, Over, Times, When
from streamsql.plan.over import stages
from streamsql.plan.over.calls import WHOLE_ONLY, Call, Calls
from streamsql.plan.over.frames import Frame, frame_of
from streamsql.plan.over.taking import Taking, Window, core
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of

if TYPE_CHECKING:
    from streamsql.plan.sources import Sources

NAME = "windowed"
_BELOW = ("group", "having", "where", "joins", "laterals", "with_", "windows", "qualify", "sample")


def windows_in(tree: exp.Expr) -> list[exp.Window]:
    """List the window functions in a SELECT list, or in QUALIFY."""
    if not isinstance(tree, exp.Select):
        return []
    places = [*tree.expressions, *([tree.args["qualify"]] if tree.args.get("qualify") else [])]
    return [w for p in places for w in p.find_all(exp.Window) if w.find_ancestor(exp.Select) is tree]


def windowed(sources: Sources, tree: exp.Select) -> Origin:
    """Take the window functions out of a query, in place; it reads the origin given, under `NAME`.

    Raises FeatureNotSupported where no row would ever be final.
    """
    return _Windowed(sources, tree).taken()


class _Windowed(Taking):
    def __init__(self, sources: Sources, tree: exp.Select) -> None:
        super().__init__(sources.query, tree)
        self.sources = sources

    def taken(self) -> Origin:
        tree = self.tree
        for clause in ("order", "distinct"):
            if tree.args.get(clause):
                raise FeatureNotSupported(
                    f"{'ORDER BY' if clause == 'order' else 'DISTINCT'} together with a window function cannot be kept in "
                    "append mode",
                    hint="leave it out, or use EMIT UPDATE",
                    position=position_of(tree.args[clause], self.query),
                )
        below = tree.copy()
        stars = [item for item in tree.expressions if _is_star(item)]
        items = [item if _is_star(item) else self.item(item) for item in tree.expressions]
        qualify = tree.args.get("qualify")
        condition = None if qualify is None else self.above(self.named(qualify.this))
        self._resolve_keys(below)
        for clause in ("distinct", "qualify", "windows", "limit"):
            below.set(clause, None)
        names = [exp.alias_(node.copy(), name, quoted=True) for name, node in self.hidden.items()]
        below.set(
            "expressions",
            [*(s.copy() for s in stars), *names] or [exp.alias_(exp.Literal.number(1), "__c", quoted=True)],
        )
        origin: Origin = self.sources.inner(below)
        assert isinstance(origin, Inner)
        starred = [c.name for c in origin.columns if c.name not in self.hidden]
        origin = self._over(origin)
        for clause in _BELOW:
            tree.set(clause, None)
        shown: list[exp.Expr] = []
        for item in items:
            shown += [exp.column(n, quoted=True) for n in starred] if _is_star(item) else [item]
        tree.set("expressions", shown)
        tree.set("from_", exp.From(this=exp.Table(this=exp.to_identifier(NAME, quoted=True))))
        if condition is not None:
            tree.set("where", exp.Where(this=condition))
        return origin

    def _resolve_keys(self, below: exp.Select) -> None:
        """Look up what ordinals and outputs' names stand for in GROUP BY: the outputs are others below."""
        group = below.args.get("group")
        named = {i.alias: i for i in self.tree.expressions if isinstance(i, exp.Alias)}
        for key in list(group.expressions) if group is not None else ():
            if isinstance(key, exp.Literal) and key.is_int and 1 <= int(key.this) <= len(self.tree.expressions):
                key.replace(self.tree.expressions[int(key.this) - 1].unalias().copy())
            elif isinstance(key, exp.Column) and not key.table and key.name in named:
                self.hidden[key.name] = named[key.name].unalias().copy()

    # ---- the nodes ----

    def _over(self, origin: Inner) -> Origin:
        """Put the calls into nodes, one for each key, in the order in which each still knows how far time is."""
        nodes: dict[tuple[tuple[str, ...], When, str | None], list[tuple[Window, Frame]]] = {}
        for window in self.windows:
            when, time, frame = self._when(window, origin)
            nodes.setdefault((window.keys, when, time), []).append((window, frame))

        def rank(
            entry: tuple[tuple[tuple[str, ...], When, str | None], list[tuple[Window, Frame]]],
        ) -> tuple[int, int]:
            (_, when, _), calls = entry
            waits = [f.ahead.us is not None for _, f in calls]
            rows = [bool(f.ahead.rows or f.ahead.times) or isinstance(core(w), exp.Lead) for w, f in calls]
            return (2 if any(rows) else 1 if when is When.CLOSE else 0, any(waits))

        made: Origin = origin
        single = _one_time(origin)
        for (keys, when, time), calls in sorted(nodes.items(), key=rank):
            made = self._node(made, keys, when, time, calls, single)
        return made

    def _when(self, window: Window, origin: Origin) -> tuple[When, str | None, Frame]:
        """Find when a row is final, and by which column's bound."""
        times = dict(origin.times)
        closing = [k for k in window.keys if k in times]
        closing.sort(key=lambda k: _source(self.hidden[k]) != "window_end")
        first = window.terms[0] if window.terms else None
        by_time = first is not None and first.column in times and not first.descending
        ordered = bool(window.terms) or window.arrival
        try:
            frame = frame_of(window.spec, self.query, ordered=ordered, timed=by_time)
        except StreamSQLError as error:
            error.position = error.position or position_of(window.node, self.query)
            raise
        whole = frame.to_end or isinstance(window.function, WHOLE_ONLY) or not ordered
        waits = bool(frame.ahead.rows or frame.ahead.times) or isinstance(core(window), exp.Lead)
        if window.arrival and not whole:
            return When.ARRIVAL, None, frame
        if by_time and not whole and not (waits and closing):
            assert first is not None
            return When.TIME, first.column, frame
        if closing:
            return When.CLOSE, closing[0], frame
        raise self._never_final(window, whole, times)

    def _never_final(self, window: Window, whole: bool, times: Iterable[str]) -> FeatureNotSupported:
        known = list(dict.fromkeys(_source(self.hidden[n]) if n in self.hidden else n for n in times))
        known = [n for n in known if n]
        shown = _shown(window.node.this)
        what = "all rows of a key" if whole else "rows in this order"
        hint = "have a window or a day among the keys: PARTITION BY k, date_trunc('day', ts); or use EMIT UPDATE"
        if known:
            hint = f"ORDER BY {known[0]} without a frame to the end; {hint}"
        return FeatureNotSupported(
            f"{shown} over {what} is never final in append mode",
            detail="a row that is still to come can change it; "
            + (f"a watermark is known of {', '.join(known)}" if known else "no watermark is known of any column"),
            hint=hint,
            position=position_of(window.node, self.query),
        )

    def _node(
        self, origin: Origin, keys: tuple[str, ...], when: When, time: str | None,
        windows: list[tuple[Window, Frame]], single: tuple[bool, bool],
    ) -> Over:  # fmt: skip
        times = dict(origin.times)
        if time is not None and time not in times:
            raise FeatureNotSupported(
                "window functions that wait for rows to come cannot be kept together with others of another key",
                hint="write one of them in a view, or in a subquery, of its own; or use EMIT UPDATE",
                position=position_of(windows[0][0].node, self.query),
            )
        shape = origin.shape
        describe = self.sources.describe
        types = {c.name: c.type for c in origin.columns}

        def type_of(node: exp.Expr) -> str:
            if isinstance(node, exp.Column):
                return types[node.name]
            return describe(f"SELECT {node.sql('duckdb')} FROM {shape} AS o")[0].type

        calls = Calls(keys, self.query, self.sources.limits, type_of, when is When.CLOSE)
        values = [calls.value(Call(w.function, w.order, f, w.node)) for w, f in windows]
        forget = next((k for k in keys if k in times), None) if when is When.TIME else None
        named = {k: _source(self.hidden[k]) or _shown(self.hidden[k]) for k in (*keys, time) if k is not None}
        over = Over(
            origin.columns, (), origin, keys, tuple(calls.orders), tuple(calls.windows), tuple(values), tuple(calls.parts),
            tuple(calls.in_rows), tuple(calls.splits), tuple(calls.peers), calls.counted, calls.back, calls.ahead, when, time,
            forget, tuple(dict.fromkeys(_shown(w.node) for w, _ in windows)),
            ", ".join(named[k] for k in keys) or "none: all rows are of one", named.get(time or "", ""),
            named.get(forget or "", ""), self._labels(origin),
        )  # fmt: skip
        if self.query.state_ttl is not None and over.unbounded:
            raise FeatureNotSupported(
                "state_ttl cannot bound the state of window functions",
                hint="have a time among the keys: PARTITION BY k, date_trunc('day', ts)",
                position=self.query.state_ttl.position + 1,
            )
        numbers = [w.number for w, _ in windows]
        return self._typed(over, shape, numbers, self._times(over, times, single))

    def _typed(self, over: Over, shape: str, numbers: list[int], times: Times) -> Over:
        """Let DuckDB check the functions, and give their columns types."""
        rows = f"(SELECT *, 0::BIGINT AS __seq, 0::BIGINT AS __t, 0::BIGINT AS __at FROM {shape} AS o)"
        gone = f"({stages.fresh(over, rows)})" if over.counted else None
        described = self.sources.describe(stages.values(over, rows, gone))
        first = len(over.columns)
        outputs = [
            Output(f"__w{n}", sql, described[first + i].type).shown
            for i, (n, sql) in enumerate(zip(numbers, over.values, strict=True))
        ]
        columns = (*over.columns, *(OutputColumn(o.name, o.type) for o in outputs))
        return replace(over, columns=columns, times=times, values=tuple(o.sql for o in outputs))

    def _labels(self, origin: Origin) -> tuple[str, ...]:
        """Give the names by which the ledger of late rows calls the input's columns."""
        return tuple(_source(self.hidden[c.name]) if c.name in self.hidden else c.name for c in origin.columns)

    def _times(self, over: Over, times: dict[str, TimeBound], single: tuple[bool, bool]) -> Times:
        """Give what is known of the columns of rows that are still to be shown."""
        one, of_stream = single
        if over.ahead.rows or over.ahead.times:
            return ()
        if over.when is When.ARRIVAL:
            return tuple(times.items())
        assert over.time is not None
        same = {over.time, _source(self.hidden[over.time])}
        if same & set(WINDOW_COLUMNS):
            same |= {n for n in times if n in WINDOW_COLUMNS or _source(self.hidden.get(n)) in WINDOW_COLUMNS}
        if over.when is When.CLOSE:
            return tuple((n, b) for n, b in times.items() if n in same)
        wait = over.ahead.us
        if not wait:
            return tuple((n, b) for n, b in times.items() if one or n in same)
        if of_stream:  # bounds of columns made of one event time: it is as if the watermark were so much behind
            return tuple((n, Bounds((Shifted(-wait), b))) for n, b in times.items())
        return tuple((n, Bounds((b, Shifted(-wait)))) for n, b in times.items() if n == over.time)


def _one_time(origin: Inner) -> tuple[bool, bool]:
    """Tell whether all times of a query's columns are made of one, and whether that is a stream's own."""
    plan = origin.plan
    of_stream = plan.origin is None and plan.window is None
    return of_stream or plan.window is not None or (plan.origin is not None and len(plan.origin.times) <= 1), of_stream


def _shown(node: exp.Expr) -> str:
    """Write a call for a person."""
    text = node.sql("duckdb", normalize_functions="lower")
    return re.sub(r"\b(rows|range|groups|preceding|following)\b(?=[ )])", lambda word: word[0].upper(), text)


def _is_star(item: exp.Expr) -> bool:
    return isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))


def _source(node: exp.Expr | None) -> str:
    return node.name if isinstance(node, exp.Column) else ""
