"""Chooses how the part of a result that an epoch changes is found: `Linear`, `Touched`, or neither (NotKeyed says why).

A key that reaches every scan is best: the changed rows themselves say which keys they touch. Where a join has other columns,
as a fact has with its second dimension, the dimension's changes find the keys of the facts by joining (`Path`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from streamsql.base.errors import StreamSQLError
from streamsql.catalog.objects import Catalog, OutputColumn, quoted
from streamsql.plan.touched.blocks import Block, Node, NotKeyed, Operation, Scan, scans, tokens
from streamsql.plan.touched.keys import (
    Traced,
    candidates,
    equal,
    trace_output,
    trace_rows,
)
from streamsql.plan.touched.linear import is_linear, part, weigh
from streamsql.plan.touched.path import Path, is_kept
from streamsql.plan.touched.plans import TOUCHED, Linear, Source, Touched, changes_name, rendered, scan_name
from streamsql.plan.touched.reader import Reader
from streamsql.plan.touched.text import at_scan, named, safe
from streamsql.sql.render_trees import duckdb_sql

# parts of a key: more make it finer and wider
KEYS_MAX = 6
# places where a query reads something, after common table expressions are written in
SCANS_MAX = 64

# read back from Arrow as they are
_PLAIN_TYPES = frozenset({
    "BIGINT", "BOOLEAN", "DATE", "DOUBLE", "FLOAT", "INTEGER", "SMALLINT", "TIMESTAMP", "TINYINT", "VARCHAR",
})  # fmt: skip
# do not come back from Arrow as they were
_NOT_FROM_ARROW = ("BIT", "TIME WITH TIME ZONE", "TIMETZ", "UHUGEINT")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")

Describe = Callable[[str], list[OutputColumn]]


def choose(
    sql: str, shown: str, sources: Sequence[str], catalog: Catalog, describe: Describe, now: str | None = None
) -> Linear | Touched:
    """Choose for a query; `shown` is its select list in terms of ``o0``.., `now` what stands for the time, if it is asked.

    Raises NotKeyed.
    """
    tree, query = read_query(sql, catalog)
    found = sorted(scans(query), key=lambda s: s.number)
    if len(found) > SCANS_MAX:
        raise NotKeyed("it reads too many relations")
    for scan in found:
        scan.node.set("alias", exp.TableAlias(this=exp.to_identifier(scan.alias, quoted=True)))
        scan.node.set("this", exp.to_identifier(scan_name(scan.number), quoted=True))
        scan.node.set("db", None)
    read = tuple(source_of(s, sources, catalog) for s in found)
    if now is None:
        return _Choice(query, tree, read, found, shown, describe).made()
    made = _Choice(query, tree, read, found, shown, lambda text: describe(text.replace(now, "0")))
    return made.made_in_time(now)


def read_query(sql: str, catalog: Catalog) -> tuple[exp.Expr, Node]:
    """Read a query's text as a tree, without an order that does not matter, and as blocks. Raises NotKeyed."""
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except SqlglotError as error:
        raise NotKeyed("its text is not read again") from error
    if duckdb_sql(tree) != sql:
        raise NotKeyed("its text is not read again as it is")
    if not tree.args.get("limit") and not (isinstance(tree, exp.Select) and tree.args.get("distinct")):
        tree.set("order", None)  # a view has no order
    return tree, Reader(lambda name: _columns_of(name, catalog)).read(tree)


def _columns_of(name: str, catalog: Catalog) -> tuple[str, ...] | None:
    found = catalog.get(name)
    return None if found is None else tuple(c.name.lower() for c in found.columns)


def source_of(scan: Scan, sources: Sequence[str], catalog: Catalog) -> Source:
    """Give what a scan reads, and how its columns are read from changes. Raises NotKeyed."""
    columns = []
    for column in catalog.objects[scan.relation].columns:
        name = quoted(column.name)
        if any(word in column.type.upper() for word in _NOT_FROM_ARROW):
            raise NotKeyed(f'"{scan.relation}" has a column of type {column.type.lower()}')
        plain = column.type in _PLAIN_TYPES
        columns.append(name if plain else f"CAST({name} AS {column.type}) AS {name}")
    return Source(scan.relation, list(sources).index(scan.relation), tuple(columns))


class _Choice:
    """One query on its way to a plan."""

    def __init__(
        self,
        query: Node,
        tree: exp.Expr,
        sources: tuple[Source, ...],
        found: list[Scan],
        shown: str,
        describe: Describe,
    ) -> None:
        self.query = query
        self.tree = tree
        self.sources = sources
        self.scans = found
        self.shown = shown
        self.describe = describe
        self.count = len(query.names)
        self.current = {number: source.current for number, source in enumerate(sources)}

    def made(self) -> Linear | Touched:
        if is_linear(self.query):
            return self._linear()
        if isinstance(self.query, Block) and self.query.limited:
            raise NotKeyed("LIMIT cuts off a result of many groups")
        failure = NotKeyed("it has no key that all its rows have")
        options = self._options()
        for keys, light in [*((k, True) for k in options), *((k, False) for k in options)]:
            try:
                return self._touched(keys, light=light)
            except NotKeyed as reason:
                failure = reason
            except StreamSQLError as error:
                failure = NotKeyed(error.message)
        raise failure

    def made_in_time(self, now: str) -> Touched:
        """Plan for a query that asks the time: only in conditions of WHERE, each over one relation. Raises NotKeyed."""
        timed = list(_timed(self.query))
        if sum(1 for _ in self.tree.find_all(exp.Placeholder)) != sum(
            1 for _, c in timed for _ in c.find_all(exp.Placeholder)
        ):
            raise NotKeyed("it asks the time outside of a condition of WHERE on one relation")
        failure = NotKeyed("it has no key that all its rows have")
        for keys in self._options():
            try:
                made = self._touched(keys, light=True)
                crossing = [self._crossing(scan, condition, keys, now) for scan, condition in timed]
                return replace(made, crossing=tuple(crossing))
            except NotKeyed as reason:
                failure = reason
            except StreamSQLError as error:
                failure = NotKeyed(error.message)
        raise failure

    def _crossing(self, scan: Scan, condition: exp.Expr, keys: list[exp.Expr | int], now: str) -> str:
        """SQL of the keys of those rows of a scan for which the time makes a difference."""
        traced = [
            self._trace(k) if isinstance(k, int) or isinstance(self.query, Operation)
            else trace_rows(self.query, k, partly=True) for k in keys
        ]  # fmt: skip
        parts = [t.get(scan) for t in traced]
        if None in parts:
            raise NotKeyed("time touches keys that it does not tell")
        test = at_scan(scan, condition)
        values = ", ".join(at_scan(scan, p) for p in parts if p is not None)
        before = test.replace(now, now.replace("$1", "$2"))
        source = f'"{scan_name(scan.number)}" AS {quoted(scan.alias)}'
        return f"SELECT {values} FROM {source} WHERE ({test}) IS DISTINCT FROM ({before})"

    # ---- linear ----

    def _linear(self) -> Linear:
        weigh(self.query)
        names = ", ".join(f"o{i}" for i in range(self.count))
        sql = f"SELECT {self.shown}, __weight FROM ({duckdb_sql(self.tree)}) AS q({names}, __weight)"
        apart: list[set[int]] = [set() for _ in self.sources]
        part(self.query, apart)
        made = Linear(sql, self.sources, tuple(map(frozenset, apart)))
        try:
            self.describe(
                rendered(sql, {i: f"(SELECT *, 1 AS __weight FROM {s.current})" for i, s in enumerate(self.sources)})
            )
        except StreamSQLError as error:
            raise NotKeyed(error.message) from error
        return made

    # ---- keys ----

    def _options(self) -> list[list[exp.Expr | int]]:
        """List what may be the key, the best first."""
        query = self.query
        full: list[exp.Expr | int] = []
        given = candidates(query)
        for key in given:
            if isinstance(query, Block) and any(key in equal(query, f) for f in full if isinstance(f, exp.Expr)):
                continue
            try:
                self._trace(key)
            except NotKeyed:
                continue
            full.append(key)
        options = [full[:KEYS_MAX]] if full else []
        if isinstance(query, Block):
            if query.plain:
                # finer: the rows that are kept whatever they are joined with, by what tells them apart
                own = [k for k in [*full, *given, *_own_outputs(query)] if isinstance(k, exp.Expr)]
                kept: list[exp.Expr | int] = []
                for key in own:
                    if is_kept(query, key) and not any(key in equal(query, k) for k in kept if isinstance(k, exp.Expr)):
                        kept.append(key)
                options.insert(0, kept[:KEYS_MAX])
            else:
                options.insert(0, [k for k in given if is_kept(query, k)][:KEYS_MAX])
        return [o for o in options if o]

    def _trace(self, key: exp.Expr | int) -> Traced:
        if isinstance(key, int):
            return trace_output(self.query, key)
        assert isinstance(self.query, Block)
        return trace_rows(self.query, key)

    def _touched(self, keys: list[exp.Expr | int], *, light: bool) -> Touched:
        """Plan for a key; `light`: only where changes find their keys without evaluating subqueries. Raises NotKeyed."""
        by_key = []
        for key in keys:
            if isinstance(key, int):
                by_key.append(self._trace(key))
            else:
                assert isinstance(self.query, Block)
                by_key.append(trace_rows(self.query, key, partly=True))
        everywhere = all(scan in traced for traced in by_key for scan in self.scans)
        affected = []
        joined = []
        for scan in self.scans:
            parts = [traced.get(scan) for traced in by_key]
            if all(p is not None for p in parts):
                affected.append((scan.relation, self._direct(scan, parts)))
            else:
                assert isinstance(self.query, Block)
                affected.append((scan.relation, Path(self.sources, self.query, keys, scan, light=light).sql()))
                joined.append(scan.relation)
        places, hidden = self._places(keys)
        names = [f"o{i}" for i in range(self.count)] + [f"h{i}" for i in range(hidden)]
        shown = ", ".join([self.shown, *names[self.count :]])
        tree = self.tree.copy()
        if isinstance(self.query, Block):
            for key, place in zip(keys, places, strict=True):
                if place.startswith("h"):
                    assert isinstance(key, exp.Expr)
                    tree.append("expressions", exp.alias_(in_names(self.query, key), f"__{place}", quoted=True))
        inside = duckdb_sql(tree)
        whole = f"SELECT {shown} FROM ({rendered(inside, self.current)}) AS q({', '.join(names)})"
        if not everywhere:
            assert isinstance(tree, exp.Select)
            tree = tree.where(self._exactly(keys), copy=False)
            inside = duckdb_sql(tree)
        restricted = {s.number: self._restricted(s, [t.get(s) for t in by_key]) for s in self.scans}
        again = f"SELECT {shown} FROM ({rendered(inside, restricted)}) AS q({', '.join(names)})"
        # rows that are made of no scan, as VALUES are, come for every key
        types = self._types(whole, places, by_key)
        made = Touched(
            tuple(self._for_people(k) for k in keys), places, types, hidden, whole, "", self.sources, tuple(affected),
            tuple(dict.fromkeys(joined)),
        )  # fmt: skip
        made = replace(made, again=f"SELECT r.* FROM ({again}) AS r SEMI JOIN {TOUCHED} ON {made.meets('r', TOUCHED)}")
        for sql in (made.again, *(sql for _, sql in affected)):
            self.describe(self._for_describing(sql, types))
        return made

    def _for_describing(self, sql: str, types: tuple[str, ...]) -> str:
        """Give SQL of keys or of their rows in a form that can be described before its tables are there."""
        for source in self.sources:
            sql = sql.replace(changes_name(source.number), f"(SELECT *, 1 AS __weight FROM {source.current})")
        columns = ", ".join(f"NULL::{t} AS k{i}" for i, t in enumerate(types))
        return f"WITH {TOUCHED} AS (SELECT {columns}) {rendered(sql, self.current)}"

    def _places(self, keys: list[exp.Expr | int]) -> tuple[tuple[str, ...], int]:
        """Find the keys among the outputs; those that are not get hidden columns."""
        places: list[str] = []
        hidden = 0
        for key in keys:
            if isinstance(key, int):
                places.append(f"o{key}")
                continue
            assert isinstance(self.query, Block)
            index = next((i for i, (_, e) in enumerate(self.query.outputs) if e == key), None)
            if index is None:
                if self.query.distinct and self.query.distinct_on is None:
                    raise NotKeyed("a key of DISTINCT is no output")
                places.append(f"h{hidden}")
                hidden += 1
            else:
                places.append(f"o{index}")
        return tuple(places), hidden

    def _for_people(self, key: exp.Expr | int) -> str:
        if isinstance(key, int):
            return self.query.names[key] or f"column {key + 1}"
        assert isinstance(self.query, Block)
        return people(self.query, key)

    def _exactly(self, keys: list[exp.Expr | int]) -> exp.Expr:
        assert isinstance(self.query, Block)
        on = " AND ".join(
            f"{TOUCHED}.k{i} IS NOT DISTINCT FROM {safe(in_names(self.query, k))}"
            for i, k in enumerate(keys)
            if isinstance(k, exp.Expr)
        )
        return sqlglot.parse_one(f"EXISTS (SELECT 1 FROM {TOUCHED} WHERE {on})", read="duckdb")

    def _direct(self, scan: Scan, parts: list[exp.Expr | None]) -> str:
        source = self.sources[scan.number]
        values = ", ".join(at_scan(scan, p) for p in parts if p is not None)
        return f"SELECT {values} FROM ({source.changes()}) AS {quoted(scan.alias)}"

    def _restricted(self, scan: Scan, parts: list[exp.Expr | None]) -> str:
        current = self.sources[scan.number].current
        on = [f"{TOUCHED}.k{i} IS NOT DISTINCT FROM {at_scan(scan, p)}" for i, p in enumerate(parts) if p is not None]
        if not on:
            return current
        return f"(SELECT * FROM {current} AS {quoted(scan.alias)} SEMI JOIN {TOUCHED} ON {' AND '.join(on)})"

    def _types(self, whole: str, places: tuple[str, ...], by_key: list[Traced]) -> tuple[str, ...]:
        """Give the keys' types. Raises NotKeyed where a scan has another type, since its values may compare otherwise."""
        columns = {f"o{i}": c for i, c in enumerate(self.describe(whole)[: self.count])}
        columns |= {f"h{i}": c for i, c in enumerate(self.describe(whole)[self.count :])}
        found = [[columns[p].type] for p in places]
        for scan in self.scans:
            parts = [(i, t[scan]) for i, t in enumerate(by_key) if scan in t]
            if parts:
                values = ", ".join(f"{at_scan(scan, e)} AS k{i}" for i, e in parts)
                made = self.describe(
                    f"SELECT {values} FROM {self.sources[scan.number].current} AS {quoted(scan.alias)}"
                )
                for (i, _), column in zip(parts, made, strict=True):
                    found[i].append(column.type)
        return tuple(_common(types) for types in found)


def _common(types: list[str]) -> str:
    if len(set(types)) == 1 and types[0] != "BIT":
        return types[0]
    if set(types) <= set(_INTEGERS):
        return max(types, key=_INTEGERS.index)
    raise NotKeyed(f"values of different types are compared: {', '.join(sorted(set(types)))}")


def in_names(block: Block, key: exp.Expr) -> exp.Expr:
    """Write a canonical expression with the names of FROM."""
    return named(key, {i.token: i.alias for i in block.items})


def people(block: Block, key: exp.Expr) -> str:
    """Write a canonical expression for a person."""
    return duckdb_sql(_unquoted(in_names(block, key)))


def _unquoted(node: exp.Expr) -> exp.Expr:
    for identifier in node.find_all(exp.Identifier):
        if str(identifier.this).isidentifier() and str(identifier.this).islower():
            identifier.set("quoted", False)
    return node


def _own_outputs(block: Block) -> list[exp.Expr]:
    scanned = {i.token for i in block.items if i.scan is not None}
    return [e for _, e in block.outputs if isinstance(e, exp.Column) and e.table in scanned]


def _timed(query: Node) -> Iterator[tuple[Scan, exp.Expr]]:
    """Give the conditions that ask the time, each with the one scan that it is over."""
    if isinstance(query, Operation):
        yield from _timed(query.left)
        yield from _timed(query.right)
        return
    for condition in query.where:
        if condition.find(exp.Placeholder) is not None:
            over = [query.item_of(t) for t in tokens(condition)]
            item = over[0] if len(over) == 1 else None
            if item is None or item.scan is None:
                raise NotKeyed("it asks the time in a condition that is not on one relation")
            yield item.scan, condition
    for child in (*(i.child for i in query.items if i.child is not None), *(n.query for n in query.nested)):
        yield from _timed(child)
