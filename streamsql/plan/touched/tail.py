"""Window functions of which an epoch changes the rows from a place on: those of each key from the first that changed.

::

    SELECT ts, k, sum(x) OVER (PARTITION BY k ORDER BY ts)        came (00:07, a, 1)
    cut     of a: 00:07        rows of a from 00:07 on: compared       before it: one state, sum(x)

Where no frame goes on to the end of its key, a row's values follow from it and the rows before it. So the rows before the first
change keep what they have; those from there on are computed over a state of all that was before (`plan.over`), and over the
rows that frames of a bounded width reach. Nothing is kept for it: the state is made of the kept rows by one GROUP BY, which
takes a fraction of what the window functions over them do. It does not matter which rows come and go, nor in which order.

A descending order is the same the other way round: NULL, more than all values, is then its first place and not its last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.catalog.objects import Catalog, OutputColumn, Relation, quoted
from streamsql.plan.aggregate_calls import SEQUENCE_COLUMN
from streamsql.plan.nodes import Describe
from streamsql.plan.origins import Origin, Over, When
from streamsql.plan.over import stages
from streamsql.plan.over.calls import WHOLE_ONLY, Call, Calls
from streamsql.plan.over.frames import CURRENT, Edge, Frame, frame_of
from streamsql.plan.over.taking import Taking, core
from streamsql.plan.touched.blocks import Block, NotKeyed, Scan
from streamsql.plan.touched.choose import people, read_query, source_of
from streamsql.plan.touched.plans import TOUCHED, Source, Tail, after, changes_name, from_on
from streamsql.plan.touched.text import at_scan
from streamsql.sql.render_trees import duckdb_sql
from streamsql.sql.statements import Query

_WINDOWED = "__windowed"
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT"})
_TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
# types of the order whose values compare as they sort
_ORDERED = _INTEGERS | _TIMES | {"HUGEINT", "FLOAT", "DOUBLE", "VARCHAR"}
# aggregates whose states are of one size, so that a state for each row costs no more than a value
_SMALL = re.compile(
    r"(arg_max|arg_min|any_value|avg|bit_|bool_|corr|count|covar_|first|kurtosis|last|max|min|regr_|sem|skewness|stddev|sum|var)",
    re.I,
)


def tail_of(
    sql: str, shown: str, sources: Sequence[str], catalog: Catalog, describe: Describe, limits: Limits, query: Query
) -> Tail:
    """Plan for a query with window functions over the rows of one stream or table; `shown` is its select list over ``o0``.. .

    Raises NotKeyed where it is no such query, or its functions need the rows after a row.
    """
    tree, block = read_query(sql, catalog)
    outer: list[Block] = []
    while isinstance(block, Block) and block.plain and len(block.items) == 1 and not block.nested:
        if block.items[0].child is None:
            break
        outer.append(block)
        block = block.items[0].child
    if not isinstance(block, Block):
        raise NotKeyed("it is a set operation")
    scan = block.items[0].scan if len(block.items) == 1 else None
    over_rows = block.group_keys is None and not (block.distinct or block.limited or block.nested)
    if scan is None or not (over_rows and block.partitions):
        raise NotKeyed("it is no window function over the rows of one relation")
    relation = catalog.objects[scan.relation]
    if not isinstance(relation, Relation):
        raise NotKeyed("the rows of a view have no order of their own")
    source = source_of(scan, sources, catalog)
    try:
        return _Tail(tree, outer, block, scan, relation, source, shown, describe, limits, query).planned()
    except StreamSQLError as error:
        raise NotKeyed(error.message) from error


@dataclass(frozen=True, slots=True)
class _Distances:
    """How far a change reaches on (`ahead`), and how far back what it changes looks: rows, values, and SQL of a range."""

    rows: int
    values: int
    ranges: tuple[str, ...]


class _Tail:
    """One query on its way to a plan."""

    def __init__(
        self, tree: exp.Expr, outer: list[Block], block: Block, scan: Scan, relation: Relation, source: Source, shown: str,
        describe: Describe, limits: Limits, query: Query,
    ) -> None:  # fmt: skip
        self.sql = duckdb_sql(tree)
        self.tree = tree
        self.outer = outer
        self.block = block
        self.scan = scan
        self.relation = relation
        self.source = source
        self.shown = shown
        self.describe = describe
        self.limits = limits
        self.query = query
        self.taking = Taking(query, block.tree)
        where = block.tree.args.get("where")
        self.where = duckdb_sql(where.this) if where is not None else ""
        self.alias = quoted(scan.alias)
        self.descending = False

    def planned(self) -> Tail:
        taking, count = self.taking, len((self.outer[0] if self.outer else self.block).names)
        items = [taking.item(item) for node in self.block.tree.expressions for item in self._written_out(node)]
        qualify = self.block.tree.args.get("qualify")
        condition = None if qualify is None else taking.above(taking.named(qualify.this))
        keys, order, self.descending = self._keys_and_order()
        frames = self._frames(order)
        over = self._over(keys, frames)
        back, ahead = self._distances(frames, over)
        hidden = [*keys, order]
        names = [f"o{i}" for i in range(count)] + [f"h{i}" for i in range(len(hidden))]
        canonical = [self.block.canonical(taking.hidden[c]) for c in hidden]
        by = [at_scan(self.scan, c) for c in canonical]
        self._hand_up([f"{quoted(c)} AS __h{i}" for i, c in enumerate(hidden)], items, condition)
        whole = self._select(names, over, self._input(""), self._input("", "false"))
        rows, before = (
            self._input(self._from_on(by), near=after(by[-1], "since", descending=self.descending)),
            self._input(self._before(by)),
        )
        again = self._select(names, over, rows, before)
        tail = Tail(
            tuple(people(self.block, c) for c in canonical[:-1]), tuple(names[count:]), (), len(hidden), whole, "",
            (self.source,), self._changed(by, back, ahead), people(self.block, canonical[-1]), self.descending,
        )  # fmt: skip
        again = f"SELECT r.* FROM ({again}) AS r SEMI JOIN {TOUCHED} ON {tail.meets('r', TOUCHED)}"
        tail = replace(tail, types=self._types(tail.changed), again=again)
        self._check(tail, count)
        return tail

    # ---- the query's tree ----

    def _written_out(self, node: exp.Expr) -> list[exp.Expr]:
        """Write the columns of a ``*`` out."""
        if not isinstance(node.this if isinstance(node, exp.Column) else node, exp.Star):
            return [node]
        return [exp.alias_(exp.column(n, self.scan.alias, quoted=True), n, quoted=True) for n in self.scan.columns]

    def _keys_and_order(self) -> tuple[tuple[str, ...], str, bool]:
        """Give the columns that all windows are over: their keys, and the first that they are ordered by, and whether down."""
        first, *others = self.taking.windows
        keys = first.keys
        if any(set(w.keys) != set(keys) for w in others):
            raise NotKeyed("its window functions have several keys")
        orders = {
            (w.terms[0].column, w.terms[0].descending, w.terms[0].nulls_first) for w in self.taking.windows if w.terms
        }
        column, descending, nulls_first = next(iter(orders), ("", True, True))
        if len(orders) != 1 or any(not w.terms or w.arrival for w in self.taking.windows):
            raise NotKeyed("its window functions have no order that is that of all")
        if descending is not nulls_first:
            raise NotKeyed("the order of its window functions does not take NULL for more than all values")
        return keys, column, descending

    def _frames(self, order: str) -> list[Frame]:
        timed = self._type(order) in _TIMES
        frames = [frame_of(w.spec, self.query, ordered=True, timed=timed) for w in self.taking.windows]
        for window, frame in zip(self.taking.windows, frames, strict=True):
            if frame.to_end or isinstance(core(window), WHOLE_ONLY):
                raise NotKeyed("a window function needs all rows of its key")
        return frames

    def _type(self, column: str) -> str:
        found = self.describe(
            f"SELECT {self.taking.hidden[column].sql('duckdb')} FROM {self.source.current} AS {self.alias}"
        )
        if found[0].type not in _ORDERED:
            raise NotKeyed(f"its order is of type {found[0].type.lower()}")
        return found[0].type

    def _over(self, keys: tuple[str, ...], frames: list[Frame]) -> Over:
        """Plan the window functions, with the types that they have in the query."""
        shape = self._input("", "false")
        columns = tuple(self.describe(f"SELECT * FROM {shape} AS o"))[: len(self.taking.hidden)]

        def type_of(node: exp.Expr) -> str:
            return self.describe(f"SELECT {node.sql('duckdb')} FROM {shape} AS o")[0].type

        calls = Calls(keys, self.query, self.limits, type_of, False)
        windows = self.taking.windows
        values = [calls.value(Call(w.function, w.order, f, w.node)) for w, f in zip(windows, frames, strict=True)]
        if any(p.merge is not None for p in calls.parts) or any(
            not _SMALL.match(calls.parts[i].sql) for i in calls.in_rows
        ):
            raise NotKeyed("an aggregate keeps the values of its rows")
        native = self._native()
        values = [f"CAST({v} AS {c.type})" for v, c in zip(values, native, strict=True)]
        return Over(
            (), (), Origin(columns, ()), keys, tuple(calls.orders), tuple(calls.windows), tuple(values), tuple(calls.parts),
            tuple(calls.in_rows), tuple(calls.splits), tuple(calls.peers), calls.counted, calls.back, calls.ahead, When.CLOSE,
            None, None, (), "", "", "", (),
        )  # fmt: skip

    def _native(self) -> list[OutputColumn]:
        """Describe the window functions as DuckDB has them."""
        tree = self.block.tree.copy()
        for clause in ("qualify", "where", "order"):
            tree.set(clause, None)
        tree.set("expressions", [exp.alias_(w.node.copy(), f"w{w.number}") for w in self.taking.windows])
        return self.describe(duckdb_sql(tree))

    def _distances(self, frames: list[Frame], over: Over) -> tuple[_Distances, _Distances]:
        found: list[_Distances] = []
        order = self._type(self.taking.windows[0].terms[0].column)
        for preceding, reach in ((True, over.back), (False, over.ahead)):
            edges = [e for f in frames if f.kind == "RANGE" for e in (f.start, f.end) if e.preceding is preceding]
            edges = [e for e in edges if e.distance is not None and e.sql != CURRENT]
            if order in _TIMES:
                ranges = [f"to_microseconds({reach.us})"] if reach.us else []
            elif edges and order not in _INTEGERS:
                raise NotKeyed(f"a frame is a range of {order.lower()}")
            else:
                ranges = [_whole_number(e) for e in edges]
            found.append(_Distances(reach.rows or 0, reach.times or 0, tuple(ranges)))
        return found[0], found[1]

    def _hand_up(self, hidden: list[str], items: list[exp.Expr], condition: exp.Expr | None) -> None:
        """Put what the rows give in the place of the innermost SELECT, and hand its keys and its order up to the outermost."""
        inner = self.block.tree
        for clause in ("where", "qualify", "windows", "order"):
            inner.set(clause, None)
        more = [sqlglot.parse_one(h, read="duckdb") for h in hidden]
        inner.set("expressions", [*items, *more])
        inner.set("from_", exp.From(this=exp.Table(this=exp.to_identifier(_WINDOWED, quoted=True))))
        if condition is not None:
            inner.set("where", exp.Where(this=condition))
        for block in reversed(self.outer):
            item = block.items[0]
            expressions: list[exp.Expr] = []
            for node in block.tree.expressions:
                if isinstance(node.this if isinstance(node, exp.Column) else node, exp.Star):
                    if item.columns is None or None in item.columns:
                        raise NotKeyed("columns of a subquery have no names")
                    expressions += [exp.column(n, item.alias, quoted=True) for n in item.columns if n is not None]
                else:
                    expressions.append(node)
            above = [exp.column(f"__h{i}", item.alias, quoted=True) for i in range(len(hidden))]
            block.tree.set("expressions", [*expressions, *above])

    # ---- SQL ----

    def _input(self, join: str, condition: str = "", near: str = "") -> str:
        """SQL of the rows that the functions are over, with their columns and numbers; ``__t``, ``__at`` are not used.

        `near` is a cheap condition that all rows meet which the join finds.
        """
        rows = self.relation.rows_table
        rows = f"(SELECT * FROM {rows} AS {self.alias} WHERE {near})" if near else rows
        rows = f"(SELECT * FROM {rows} AS {self.alias} {join})" if join else rows
        columns = "".join(f"{node.sql('duckdb')} AS {quoted(n)}, " for n, node in self.taking.hidden.items())
        conditions = " AND ".join(f"({c})" for c in (self.where, condition) if c)
        return (
            f"(SELECT {columns}{self.alias}.{SEQUENCE_COLUMN}, 0::BIGINT AS __t, 0::BIGINT AS __at "
            f"FROM {rows} AS {self.alias}{f' WHERE {conditions}' if conditions else ''})"
        )

    def _touched(self, by: list[str], condition: str) -> str:
        on = [f"{TOUCHED}.k{i} IS NOT DISTINCT FROM {k}" for i, k in enumerate(by[:-1])]
        return f"SEMI JOIN {TOUCHED} ON {' AND '.join([*on, f'({condition})'])}"

    def _from_on(self, by: list[str]) -> str:
        """Rows that are read."""
        return self._touched(by, from_on(by[-1], f"{TOUCHED}.since", descending=self.descending))

    def _before(self, by: list[str]) -> str:
        """Rows of which a state is made."""
        return self._touched(by, self._is_before(by[-1], f"{TOUCHED}.since"))

    def _select(self, names: list[str], over: Over, rows: str, gone: str) -> str:
        state = f"({stages.fresh(over, gone)})" if over.counted else None
        given = "".join(f", __y{i} AS __w{w.number}" for i, w in enumerate(self.taking.windows))
        values = f"(SELECT *{given} FROM ({stages.values(over, rows, state)}))"
        text = duckdb_sql(self.tree).replace(f'FROM "{_WINDOWED}"', f'FROM {values} AS "{_WINDOWED}"')
        hidden = ", ".join(n for n in names if n.startswith("h"))
        return f"SELECT {self.shown}, {hidden} FROM ({text}) AS q({', '.join(names)})"

    def _changed(self, by: list[str], back: _Distances, ahead: _Distances) -> str:
        """SQL of the keys that changed: ``k0``.., from which place on (``cut``), and from where rows are read (``since``)."""
        names = [f"k{i}" for i in range(len(by) - 1)]
        places = ", ".join(f"{k} AS {n}" for k, n in zip(by, [*names, "cut"], strict=True))
        group = f" GROUP BY {', '.join(names)}" if names else " HAVING count(*) > 0"
        earliest = f"{self._first('cut')} AS cut"
        first = (
            f"SELECT {', '.join([*names, earliest])} "
            f"FROM (SELECT {places} FROM ({self.source.changes()}) AS {self.alias}){group}"
        )
        cut = ", ".join([*(f"t0.{n}" for n in names), f"{self._earlier('t0.cut', ahead)} AS cut"])
        since = ", ".join([*(f"t1.{n}" for n in names), "t1.cut", f"{self._earlier('t1.cut', back)} AS since"])
        return (
            f"WITH t0 AS ({first}), t1 AS (SELECT {cut} FROM t0{self._reached(by, 't0', ahead)}) "
            f"SELECT {since} FROM t1{self._reached(by, 't1', back)}"
        )

    def _reached(self, by: list[str], given: str, reach: _Distances) -> str:
        """SQL that joins what lies so many rows, and values, before a place: ``v`` and ``u``, or the first row."""
        found = [(reach.rows, "", "v"), (reach.values, "DISTINCT ", "u")]
        return "".join(
            self._joined_before(by, given, count, different, name) for count, different, name in found if count
        )

    def _joined_before(self, by: list[str], given: str, count: int, different: str, name: str) -> str:
        keys = [f"k{i}" for i in range(len(by) - 1)]
        rows = f"{self.relation.rows_table} AS {self.alias}{f' WHERE {self.where}' if self.where else ''}"
        places = ", ".join(f"{sql} AS {n}" for sql, n in zip(by, [*keys, "place"], strict=True))
        on = [*(f"t.{k} IS NOT DISTINCT FROM p.{k}" for k in keys), f"({self._is_before('p.place', 't.cut')})"]
        group = f" GROUP BY {', '.join(f't.{k}' for k in keys)}" if keys else ""
        # of a descending order the first place, NULL, is not counted: with fewer rows than that all are meant
        last = f"CASE WHEN count(place) >= {count} THEN min(place, {count})[-1] END"
        last = last if self.descending else f"max(place, {count})[-1]"
        found = (
            f"SELECT {''.join(f't.{k}, ' for k in keys)}{last} AS v "
            f"FROM (SELECT {different}{places} FROM {rows}) AS p JOIN {given} AS t ON {' AND '.join(on)}{group}"
        )
        same = " AND ".join(f"{name}.{k} IS NOT DISTINCT FROM {given}.{k}" for k in keys) or "true"
        return f" LEFT JOIN ({found}) AS {name} ON {same}"

    def _is_before(self, order: str, place: str) -> str:
        """SQL of the condition that a row comes before a place."""
        if self.descending:
            return f"{order} > {place} OR ({order} IS NULL AND {place} IS NOT NULL)"
        return f"{order} < {place} OR ({place} IS NULL AND {order} IS NOT NULL)"

    def _first(self, places: str) -> str:
        """SQL of the first of some places, as an aggregate."""
        return f"CASE WHEN count(*) = count({places}) THEN max({places}) END" if self.descending else f"min({places})"

    def _earlier(self, cut: str, reach: _Distances) -> str:
        """SQL of the place that lies so far before another."""
        rows = [*(["v.v"] if reach.rows else []), *(["u.v"] if reach.values else [])]
        if self.descending:
            found = [cut, *(f"{cut} + {r}" for r in reach.ranges), *rows]
            known = " AND ".join(f"{place} IS NOT NULL" for place in [cut, *rows])
            return f"CASE WHEN {known} THEN greatest({', '.join(found)}) END" if len(found) > 1 else cut
        # NULL, the last place of all, counts for nothing
        found = [cut, *(f"{cut} - {r}" for r in reach.ranges), *rows]
        return f"least({', '.join(found)})" if len(found) > 1 else cut

    def _types(self, changed: str) -> tuple[str, ...]:
        return tuple(c.type for c in self.describe(self._described(changed)))

    def _described(self, sql: str) -> str:
        """Give SQL in a form that can be described before there are changes."""
        return sql.replace(changes_name(self.source.number), f"(SELECT *, 1 AS __weight FROM {self.source.current})")

    def _check(self, tail: Tail, count: int) -> None:
        """Raise NotKeyed unless the columns have the types that the query's have."""
        native = f"SELECT {self.shown} FROM ({self.sql}) AS q({', '.join(f'o{i}' for i in range(count))})"
        found, wanted = self.describe(tail.whole)[:count], self.describe(native)
        if [c.type for c in found] != [c.type for c in wanted]:
            raise NotKeyed("its columns would have other types")
        columns = ", ".join(f"NULL::{t} AS {n}" for n, t in tail.table_columns)
        self.describe(f"WITH {TOUCHED} AS (SELECT {columns}) {tail.again}")


def _whole_number(edge: Edge) -> str:
    if not edge.sql.isdigit():
        raise NotKeyed("a frame's width is not written out")
    return f"{edge.sql}::HUGEINT"
