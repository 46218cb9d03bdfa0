"""Chooses how the part of a result that an epoch changes is found: `Linear`, `Touched`, or neither (NotKeyed says why).

A key that reaches every scan is best: the changed rows themselves say which keys they touch. Where a join has other columns,
as a fact has with its second dimension, the dimension's changes find the keys of the facts by joining (`_Path`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from streamsql.base.errors import StreamSQLError
from streamsql.catalog.objects import Catalog, OutputColumn, quoted
from streamsql.plan.touched.blocks import Block, Item, Node, NotKeyed, Operation, Reader, Scan, scans, tokens
from streamsql.plan.touched.keys import (
    Traced,
    candidates,
    correlations,
    equal,
    is_key,
    own_keys,
    trace_output,
    trace_rows,
)
from streamsql.plan.touched.plans import TOUCHED, Linear, Source, Touched, rendered, scan_name
from streamsql.sql.render import duckdb_sql

# parts of a key: more make it finer and wider
KEYS_MAX = 6
# places where a query reads something, after common table expressions are written in
SCANS_MAX = 64

# read back from Arrow as they are
_PLAIN_TYPES = frozenset({"BIGINT", "BOOLEAN", "DATE", "DOUBLE", "FLOAT", "INTEGER", "SMALLINT", "TIMESTAMP", "TINYINT", "VARCHAR"})  # fmt: skip
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")

Describe = Callable[[str], list[OutputColumn]]


def choose(
    sql: str, shown: str, sources: Sequence[str], catalog: Catalog, describe: Describe, now: str | None = None
) -> Linear | Touched:
    """Choose for a query; `shown` is its select list in terms of ``o0``.., `now` what stands for the time, if it is asked.

    Raises NotKeyed.
    """
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except SqlglotError as error:
        raise NotKeyed("its text is not read again") from error
    if duckdb_sql(tree) != sql:
        raise NotKeyed("its text is not read again as it is")
    if not tree.args.get("limit") and not (isinstance(tree, exp.Select) and tree.args.get("distinct")):
        tree.set("order", None)  # a view has no order
    query = Reader(lambda name: _columns_of(name, catalog)).read(tree)
    found = sorted(scans(query), key=lambda s: s.number)
    if len(found) > SCANS_MAX:
        raise NotKeyed("it reads too many relations")
    for scan in found:
        scan.node.set("alias", exp.TableAlias(this=exp.to_identifier(scan.alias, quoted=True)))
        scan.node.set("this", exp.to_identifier(scan_name(scan.number), quoted=True))
        scan.node.set("db", None)
    read = tuple(_source(s, sources, catalog) for s in found)
    if now is None:
        return _Choice(query, tree, read, found, shown, describe).made()
    made = _Choice(query, tree, read, found, shown, lambda text: describe(text.replace(now, "0")))
    return made.made_in_time(now)


def _columns_of(name: str, catalog: Catalog) -> tuple[str, ...] | None:
    found = catalog.get(name)
    return None if found is None else tuple(c.name.lower() for c in found.columns)


def _source(scan: Scan, sources: Sequence[str], catalog: Catalog) -> Source:
    columns = []
    for column in catalog.objects[scan.relation].columns:
        name = quoted(column.name)
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
        if _is_linear(self.query):
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
        if sum(1 for _ in self.tree.find_all(exp.Placeholder)) != sum(1 for _, c in timed for _ in c.find_all(exp.Placeholder)):
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
        test = _at(scan, condition)
        values = ", ".join(_at(scan, p) for p in parts if p is not None)
        before = test.replace(now, now.replace("$1", "$2"))
        source = f'"{scan_name(scan.number)}" AS {quoted(scan.alias)}'
        return f"SELECT {values} FROM {source} WHERE ({test}) IS DISTINCT FROM ({before})"

    # ---- linear ----

    def _linear(self) -> Linear:
        _weigh(self.query)
        names = ", ".join(f"o{i}" for i in range(self.count))
        sql = f"SELECT {self.shown}, __weight FROM ({duckdb_sql(self.tree)}) AS q({names}, __weight)"
        apart: list[set[int]] = [set() for _ in self.sources]
        _part(self.query, apart)
        made = Linear(sql, self.sources, tuple(map(frozenset, apart)))
        try:
            self.describe(rendered(sql, {i: f"(SELECT *, 1 AS __weight FROM {s.current})" for i, s in enumerate(self.sources)}))
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
                    if _is_kept(query, key) and not any(key in equal(query, k) for k in kept if isinstance(k, exp.Expr)):
                        kept.append(key)
                options.insert(0, kept[:KEYS_MAX])
            else:
                options.insert(0, [k for k in given if isinstance(k, exp.Expr) and _is_kept(query, k)][:KEYS_MAX])
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
                affected.append((scan.relation, _Path(self, self.query, keys, scan, light=light).sql()))
                joined.append(scan.relation)
        places, hidden = self._places(keys)
        names = [f"o{i}" for i in range(self.count)] + [f"h{i}" for i in range(hidden)]
        shown = ", ".join([self.shown, *names[self.count :]])
        tree = self.tree.copy()
        if isinstance(self.query, Block):
            for key, place in zip(keys, places, strict=True):
                if place.startswith("h"):
                    assert isinstance(key, exp.Expr)
                    tree.append("expressions", exp.alias_(self._named(self.query, key), f"__{place}", quoted=True))
        inside = duckdb_sql(tree)
        whole = f"SELECT {shown} FROM ({rendered(inside, self.current)}) AS q({', '.join(names)})"
        if not everywhere:
            assert isinstance(tree, exp.Select)
            tree = tree.where(self._exactly(keys), copy=False)
            inside = duckdb_sql(tree)
        restricted = {s.number: self._restricted(s, [t.get(s) for t in by_key]) for s in self.scans}
        again = f"SELECT {shown} FROM ({rendered(inside, restricted)}) AS q({', '.join(names)})"
        types = self._types(whole, places, by_key)
        people = tuple(self._for_people(k) for k in keys)
        return Touched(
            people, places, types, hidden, whole, again, self.sources, tuple(affected), tuple(dict.fromkeys(joined))
        )

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

    def _named(self, block: Block, key: exp.Expr) -> exp.Expr:
        """Write a canonical expression with the names of FROM."""
        return named(key, {i.token: i.alias for i in block.items})

    def _for_people(self, key: exp.Expr | int) -> str:
        if isinstance(key, int):
            return self.query.names[key] or f"column {key + 1}"
        assert isinstance(self.query, Block)
        return duckdb_sql(_unquoted(self._named(self.query, key)))

    def _exactly(self, keys: list[exp.Expr | int]) -> exp.Expr:
        assert isinstance(self.query, Block)
        on = " AND ".join(
            f"{TOUCHED}.k{i} IS NOT DISTINCT FROM {duckdb_sql(self._named(self.query, k))}"
            for i, k in enumerate(keys)
            if isinstance(k, exp.Expr)
        )
        return sqlglot.parse_one(f"EXISTS (SELECT 1 FROM {TOUCHED} WHERE {on})", read="duckdb")

    def _direct(self, scan: Scan, parts: list[exp.Expr | None]) -> str:
        source = self.sources[scan.number]
        values = ", ".join(_at(scan, p) for p in parts if p is not None)
        return f"SELECT {values} FROM ({source.changes()}) AS {quoted(scan.alias)}"

    def _restricted(self, scan: Scan, parts: list[exp.Expr | None]) -> str:
        current = self.sources[scan.number].current
        on = [f"{TOUCHED}.k{i} IS NOT DISTINCT FROM {_at(scan, p)}" for i, p in enumerate(parts) if p is not None]
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
                values = ", ".join(f"{_at(scan, e)} AS k{i}" for i, e in parts)
                made = self.describe(f"SELECT {values} FROM {self.sources[scan.number].current} AS {quoted(scan.alias)}")
                for (i, _), column in zip(parts, made, strict=True):
                    found[i].append(column.type)
        return tuple(_common(types) for types in found)


def _common(types: list[str]) -> str:
    if len(set(types)) == 1 and types[0] != "BIT":
        return types[0]
    if set(types) <= set(_INTEGERS):
        return max(types, key=_INTEGERS.index)
    raise NotKeyed(f"values of different types are compared: {', '.join(sorted(set(types)))}")


def named(key: exp.Expr, names: dict[str, str]) -> exp.Expr:
    """Write a canonical expression with names in place of tokens. Raises NotKeyed where one has none."""
    root = exp.Paren(this=key.copy())
    for column in root.find_all(exp.Column):
        if not names.get(column.table):
            raise NotKeyed("a key is over something without a name")
        column.set("table", exp.to_identifier(names[column.table], quoted=True))
    return root.this


def _unquoted(node: exp.Expr) -> exp.Expr:
    for identifier in node.find_all(exp.Identifier):
        if str(identifier.this).isidentifier() and str(identifier.this).islower():
            identifier.set("quoted", False)
    return node


def _at(scan: Scan, key: exp.Expr) -> str:
    return duckdb_sql(named(key, {scan.token: scan.alias}))


def _is_kept(block: Block, key: exp.Expr) -> bool:
    """Tell whether a key is over rows that no join fills with NULLs."""
    return is_key(block, key) and not tokens(key) & block.null_supplied()


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


# ---- linear queries ----


def _is_linear(query: Node) -> bool:
    """Tell whether rows of the result are rows of the sources, joined, each by itself."""
    if isinstance(query, Operation):
        # a side that reads nothing has rows that are there from the start, and no weight
        return query.adds and all(_is_linear(q) and any(scans(q)) for q in (query.left, query.right))
    if not query.plain or query.nested or None in [e for _, e in query.outputs]:
        return False
    if any(i.kind != "inner" or (i.lateral and i.child is not None) for i in query.items):
        return False
    return all(i.child is None or _is_linear(i.child) for i in query.items)


def _part(query: Node, apart: list[set[int]]) -> None:
    """Tell which scans are in another part of a UNION ALL."""
    if isinstance(query, Operation):
        left, right = ({s.number for s in scans(q)} for q in (query.left, query.right))
        for number in left | right:
            apart[number] |= right if number in left else left
        _part(query.left, apart)
        _part(query.right, apart)
        return
    for item in query.items:
        if item.child is not None:
            _part(item.child, apart)


def _weigh(query: Node) -> None:
    """Add a column to a linear query: the product of the weights of the rows that are joined."""
    if isinstance(query, Operation):
        _weigh(query.left)
        _weigh(query.right)
        return
    names = {i.token: i.alias for i in query.items}
    if any(n.find(exp.Star) is not None for n in query.tree.expressions if isinstance(n, (exp.Star, exp.Column))):
        expressions = [exp.alias_(named(e, names), n or f"o{i}", quoted=True) for i, (n, e) in enumerate(query.outputs) if e]
        query.tree.set("expressions", expressions)
    weights = []
    for item in query.items:
        if item.child is not None:
            _weigh(item.child)
        if item.child is not None or item.scan is not None:
            if not item.alias:
                raise NotKeyed("a subquery has no name")
            weights.append(f'{quoted(item.alias)}."__weight"')
    product = sqlglot.parse_one(" * ".join(weights) or "1", read="duckdb")
    query.tree.append("expressions", exp.alias_(product, "__weight", quoted=True))


# ---- keys that are found by joining ----


class _Path:
    """How the changes of one scan find the keys that they touch, through what it is joined with."""

    def __init__(
        self, choice: _Choice, block: Block, keys: list[exp.Expr | int], scan: Scan, *, light: bool
    ) -> None:
        self.choice = choice
        self.block = block
        self.keys = [k for k in keys if isinstance(k, exp.Expr)]
        self.scan = scan
        self.light = light
        self.names = {i.token: i.alias for i in block.items}
        self.filled = block.null_supplied()
        if any(i.kind in {"right", "full"} for i in block.items):
            raise NotKeyed("of its RIGHT or FULL JOIN")
        if not all(_is_kept(block, k) for k in self.keys):
            raise NotKeyed("a key may be left out by an outer join")

    def sql(self) -> str:
        for item in self.block.items:
            if item.scan is self.scan:
                source = self.choice.sources[self.scan.number]
                return self._joined(f"({source.changes()}) AS {quoted(item.alias)}", item, None, [])
            if item.child is not None and self.scan in scans(item.child):
                return self._from_query(item)
        return self._from_nested()

    def _values(self, parts: list[tuple[str, exp.Expr]]) -> str:
        values = ", ".join(f"{_at(self.scan, e)} AS {quoted(n)}" for n, e in parts)
        source = self.choice.sources[self.scan.number]
        return f"(SELECT {values} FROM ({source.changes()}) AS {quoted(self.scan.alias)})"

    def _from_query(self, item: Item) -> str:
        """A query in FROM: the values of its own keys that the changes touch."""
        if item.lateral:
            raise NotKeyed("a LATERAL subquery is joined by something else")
        parts = [(name, traced[self.scan]) for name, traced in own_keys(item).items() if name is not None]
        if not parts:
            raise NotKeyed(f'"{item.alias}" has no key')
        return self._joined(f"{self._values(parts)} AS {quoted(item.alias)}", item, {n for n, _ in parts}, [])

    def _from_nested(self) -> str:
        """A subquery in an expression: the rows around it that an equality ties to the changes."""
        for nested in self.block.nested:
            if self.scan not in scans(nested.query):
                continue
            options = [] if nested.outer is None else [(nested.outer, None)]
            options += [(outer, inner) for outer, inner in correlations(nested.query)]  # type: ignore[misc]  # a wider list
            for outer, inner in options:
                try:
                    if inner is None:
                        traced = trace_output(nested.query, 0)
                    else:
                        assert isinstance(nested.query, Block)
                        traced = trace_rows(nested.query, inner)
                except NotKeyed:
                    continue
                start = self.block.item_of(next(iter(tokens(outer))))
                if start is None or len(tokens(outer)) > 1 or outer in self._lost(outer):
                    continue
                tie = f'{duckdb_sql(named(outer, self.names))} = "__nested".k'
                given = f'{self._values([("k", traced[self.scan])])} AS "__nested"'
                return self._joined(given, start, None, [tie])
        raise NotKeyed("a subquery reads all rows")

    def _lost(self, outer: exp.Expr) -> list[exp.Expr]:
        return [outer] if tokens(outer) & self.filled else []

    def _joined(self, given: str, start: Item, columns: set[str] | None, ties: list[str]) -> str:
        """Join what is given, in the place of `start` or beside it, with what leads to the keys' items."""
        owners = {t for k in self.keys for t in tokens(k)}
        usable = [(c, t) for c, t in self._conditions() if columns is None or self._has(c, start, columns)]
        if columns is not None and not all(self._has(k, start, columns) for k in self.keys):
            raise NotKeyed(f'a key is no key of "{start.alias}"')
        kept = self._kept(start.token, owners, [c for c, _ in usable])
        tables = [given]
        for item in self.block.items:
            if item.token in kept and (item is not start or ties):
                tables.append(self._table(item))
        given_by = [c for c, token in usable if tokens(c) <= kept and (not token or token in kept)]
        where = [*(duckdb_sql(named(c, self.names)) for c in given_by), *ties]
        condition = f" WHERE {' AND '.join(f'({w})' for w in where)}" if where else ""
        values = ", ".join(duckdb_sql(named(k, self.names)) for k in self.keys)
        return f"SELECT {values} FROM {', '.join(tables)}{condition}"

    def _has(self, node: exp.Expr, start: Item, columns: set[str]) -> bool:
        return all(c.table != start.token or c.name in columns for c in node.find_all(exp.Column))

    def _conditions(self) -> list[tuple[exp.Expr, str]]:
        """List the conditions that rows of the joins meet, each with the item of whose ON it is, or none."""
        inside = {i.token for i in self.block.items}
        found = [(c, i.token) for i in self.block.items for c in i.conditions]
        # what WHERE says of rows that a join may leave out holds for the row without them, too
        found += [(c, "") for c in self.block.where if not tokens(c) & self.filled]
        return [(c, t) for c, t in found if tokens(c) and tokens(c) <= inside]

    def _table(self, item: Item) -> str:
        if item.scan is not None:
            return f'"{scan_name(item.scan.number)}" AS {quoted(item.alias)}'
        if item.child is None or item.lateral:
            raise NotKeyed(f'"{item.alias}" depends on what it is joined with')
        if self.light:
            raise NotKeyed(f'"{item.alias}" is a query')
        tree = item.child.tree
        return f"({duckdb_sql(tree)}) AS {quoted(item.alias)}({', '.join(quoted(c or '_') for c in item.columns or ())})"

    def _kept(self, start: str, owners: set[str], usable: list[exp.Expr]) -> set[str]:
        """Find the items on the way from one to those of the keys."""
        came_from: dict[str, str] = {start: start}
        waiting = [start]
        for token in waiting:
            for condition in usable:
                over = tokens(condition)
                if token in over and len(over) == 2:
                    (other,) = over - {token}
                    if other not in came_from:
                        came_from[other] = token
                        waiting.append(other)
        kept = {start}
        for owner in owners:
            if owner not in came_from:
                raise NotKeyed("a join has no condition")
            while owner != start:
                kept.add(owner)
                owner = came_from[owner]
        return kept
