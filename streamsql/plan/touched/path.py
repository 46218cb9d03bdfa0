"""Keys that the changes of a scan find by joining: what leads from a source to the rows that have the key."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from streamsql.catalog.objects import quoted
from streamsql.plan.touched.blocks import Block, Item, NotKeyed, Scan, scans, tokens
from streamsql.plan.touched.keys import correlations, is_key, own_keys, trace_output, trace_rows
from streamsql.plan.touched.plans import Source, scan_name
from streamsql.plan.touched.text import at_scan, named, safe
from streamsql.sql.render_trees import duckdb_sql


def is_kept(block: Block, key: exp.Expr | int) -> bool:
    """Tell whether a key is over rows that no join fills with NULLs."""
    return isinstance(key, exp.Expr) and is_key(block, key) and not tokens(key) & block.null_supplied()


class Path:
    """How the changes of one scan find the keys that they touch, through what it is joined with."""

    def __init__(
        self, sources: Sequence[Source], block: Block, keys: list[exp.Expr | int], scan: Scan, *, light: bool
    ) -> None:
        self.source = sources[scan.number]
        self.block = block
        self.keys = [k for k in keys if isinstance(k, exp.Expr)]
        self.scan = scan
        self.light = light
        self.names = {i.token: i.alias for i in block.items}
        self.filled = block.null_supplied()
        if any(i.kind in {"right", "full"} for i in block.items):
            raise NotKeyed("of its RIGHT or FULL JOIN")
        if not all(is_kept(block, k) for k in self.keys):
            raise NotKeyed("a key may be left out by an outer join")

    def sql(self) -> str:
        for item in self.block.items:
            if item.scan is self.scan:
                return self._joined(f"({self.source.changes()}) AS {quoted(item.alias)}", item, None, [])
            if item.child is not None and self.scan in scans(item.child):
                return self._from_query(item)
        return self._from_nested()

    def _values(self, parts: list[tuple[str, exp.Expr]]) -> str:
        values = ", ".join(f"{at_scan(self.scan, e)} AS {quoted(n)}" for n, e in parts)
        return f"(SELECT {values} FROM ({self.source.changes()}) AS {quoted(self.scan.alias)})"

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
                tie = f'{safe(named(outer, self.names))} = "__nested".k'
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
        others = (i for i in self.block.items if i.token in kept and (i is not start or ties))
        tables = [given, *(self._table(i) for i in others)]
        given_by = [c for c, token in usable if tokens(c) <= kept and (not token or token in kept)]
        where = [*(safe(named(c, self.names)) for c in given_by), *ties]
        condition = f" WHERE {' AND '.join(f'({w})' for w in where)}" if where else ""
        values = ", ".join(safe(named(k, self.names)) for k in self.keys)
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
        return (
            f"({duckdb_sql(tree)}) AS {quoted(item.alias)}({', '.join(quoted(c or '_') for c in item.columns or ())})"
        )

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
