"""Reads a query's tree as blocks (`plan.touched.blocks`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from streamsql.catalog.objects import PUBLIC_SCHEMA
from streamsql.plan.aggregates import is_aggregate
from streamsql.plan.touched.blocks import (
    Block,
    Item,
    Nested,
    Node,
    NotKeyed,
    Operation,
    Scan,
    bare,
    pairs_of,
    parts,
    scans,
    stays_null,
    tokens,
    traced,
)

# SELECT's clauses that are looked at; any other makes the query one that is run again whole
_CLAUSES = frozenset({
    "distinct", "expressions", "from_", "group", "having", "joins", "limit", "offset", "order", "qualify", "where", "windows",
    "with_",
})  # fmt: skip
_KINDS = {("", ""): "inner", ("", "INNER"): "inner", ("", "CROSS"): "inner", ("LEFT", ""): "left", ("LEFT", "OUTER"): "left",
    ("RIGHT", ""): "right", ("RIGHT", "OUTER"): "right", ("FULL", ""): "full", ("FULL", "OUTER"): "full",
    ("", "SEMI"): "semi", ("", "ANTI"): "anti"}  # fmt: skip


class Reader:
    """Reads one tree, which it changes: common table expressions are written in. `columns_of` looks a relation up."""

    def __init__(self, columns_of: Callable[[str], tuple[str, ...] | None]) -> None:
        self._columns_of = columns_of
        self._scans = 0
        self._tokens = 0

    def read(self, tree: exp.Expr) -> Node:
        """Read a query. Raises NotKeyed."""
        return self._query(tree, None, {})

    def _query(self, tree: exp.Expr, outer: Block | None, ctes: dict[str, exp.CTE]) -> Node:
        while isinstance(tree, exp.Subquery):
            if any(tree.args.get(c) for c in ("limit", "offset", "joins", "pivots", "sample", "order")):
                raise NotKeyed("a subquery is cut off")
            tree = tree.this
        ctes = self._with(tree, ctes)
        if isinstance(tree, exp.SetOperation):
            return self._operation(tree, outer, ctes)
        if not isinstance(tree, exp.Select):
            raise NotKeyed("it is no SELECT")
        return self._select(tree, outer, ctes)

    def _with(self, tree: exp.Expr, ctes: dict[str, exp.CTE]) -> dict[str, exp.CTE]:
        clause = tree.args.get("with_")
        if clause is None:
            return ctes
        if clause.args.get("recursive"):
            raise NotKeyed("it is recursive")
        ctes = dict(ctes)
        for cte in clause.expressions:
            # those before it are what it can name: write them in now, so that each use is a copy that stands alone
            self._write_in(cte, ctes)
            ctes[cte.alias.lower()] = cte
        tree.set("with_", None)
        return ctes

    def _write_in(self, node: exp.Expr, ctes: dict[str, exp.CTE]) -> None:
        if node.find(exp.With) is not None and ctes:
            raise NotKeyed("common table expressions are nested")
        for table in list(node.find_all(exp.Table)):
            self._replaced(table, ctes)

    def _replaced(self, table: exp.Table, ctes: dict[str, exp.CTE]) -> exp.Expr:
        """Put the query in the place of a common table expression's name."""
        cte = ctes.get(table.name.lower()) if not table.db and isinstance(table.this, exp.Identifier) else None
        if cte is None:
            return table
        columns = cte.args["alias"].args.get("columns") or []
        alias = table.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            columns = alias.args["columns"]
        made = exp.Subquery(
            this=cte.this.copy(),
            alias=exp.TableAlias(
                this=exp.to_identifier(table.alias_or_name, quoted=True), columns=[c.copy() for c in columns]
            ),
        )
        if any(table.args.get(c) for c in ("joins", "pivots", "sample")):
            raise NotKeyed("a relation is pivoted or sampled")
        table.replace(made)
        return made

    def _operation(self, tree: exp.SetOperation, outer: Block | None, ctes: dict[str, exp.CTE]) -> Operation:
        if any(tree.args.get(c) for c in ("limit", "offset", "by_name", "side", "kind", "on", "match")):
            raise NotKeyed("a set operation is cut off" if tree.args.get("limit") else "a set operation goes by name")
        left, right = self._query(tree.left, outer, ctes), self._query(tree.right, outer, ctes)
        if not (any(scans(left)) and any(scans(right))):
            # what is written out has no key: it would be there again with every key that is touched
            raise NotKeyed("a part of a set operation reads nothing")
        return Operation(tree, left, right, left.names)

    def _select(self, tree: exp.Select, outer: Block | None, ctes: dict[str, exp.CTE]) -> Block:
        strange = [name for name, value in tree.args.items() if value and name not in _CLAUSES]
        if strange:
            raise NotKeyed(f"of its {strange[0].upper()} clause")
        block = Block(tree, outer)
        source = tree.args.get("from_")
        if source is not None:
            self._item(block, source.this, "inner", ctes)
        for join in tree.args.get("joins") or []:
            self._join(block, join, ctes)
        self._outputs(block)
        self._nested(block, ctes)
        _read_clauses(block)
        return block

    def _join(self, block: Block, join: exp.Join, ctes: dict[str, exp.CTE]) -> None:
        method, side, kind = (str(join.args.get(a) or "").upper() for a in ("method", "side", "kind"))
        named = _KINDS.get((side, kind))
        if named is None or method not in {"", "ASOF"}:
            raise NotKeyed(f"of its {' '.join(filter(None, (method, side, kind)))} JOIN")
        if method == "ASOF" and named not in {"inner", "left"}:
            raise NotKeyed(f"of its ASOF {side} JOIN")
        item = self._item(block, join.this, named, ctes)
        for column in join.args.get("using") or []:
            name = column.name.lower()
            block.items.pop()
            left = block.item_column(name, "")
            block.items.append(item)
            if left is None:
                raise NotKeyed(f'column "{name}" is not traced')
            item.using = (*item.using, name)
            item.pairs.append((left, traced(item.token, name), False))
            item.conditions.append(exp.EQ(this=left, expression=traced(item.token, name)))
        if method == "ASOF":  # one row is found for each: the others of its key decide which
            item.kind = "left"

    def _item(self, block: Block, node: exp.Expr, kind: str, ctes: dict[str, exp.CTE]) -> Item:
        self._tokens += 1
        token, alias = f"i{self._tokens}", node.alias_or_name
        if isinstance(node, exp.Table):
            node = self._replaced(node, ctes)
        item = Item(token, alias, None, kind)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            item.scan = self._scan(node, token)
            item.columns = item.scan.columns
        elif isinstance(node, exp.Subquery):
            item.child = self._query(node, block.outer, ctes)
            item.columns = _renamed(item.child.names, node)
        elif isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
            item.lateral = True
            item.child = self._query(node.this, block, ctes)
            item.columns = _renamed(item.child.names, node)
        elif node.find(exp.Query) is not None or node.args.get("joins"):
            raise NotKeyed("of what stands in FROM")
        else:
            item.columns = _renamed(None, node)
        if any(i.alias.lower() == alias.lower() for i in block.items if alias):
            raise NotKeyed(f'"{alias}" names two relations')
        block.items.append(item)
        return item

    def _scan(self, node: exp.Table, token: str) -> Scan:
        columns = self._columns_of(node.name) if node.db == PUBLIC_SCHEMA else None
        alias = node.args.get("alias")
        strange = any(value for name, value in node.args.items() if name not in {"this", "db", "alias"})
        if columns is None or strange or (alias is not None and alias.args.get("columns")):
            raise NotKeyed(f'of how it reads "{node.name}"')
        self._scans += 1
        return Scan(self._scans - 1, node.name, columns, node, token)

    def _outputs(self, block: Block) -> None:
        for node in block.tree.expressions:
            star = node.this if isinstance(node, exp.Column) else node
            if isinstance(star, exp.Star):
                if any(star.args.values()):
                    raise NotKeyed("of its * with exceptions")
                block.outputs += _all_columns(block, node.table if isinstance(node, exp.Column) else "")
                continue
            try:
                expression: exp.Expr | None = block.canonical(node)
            except NotKeyed:
                expression = None
            block.outputs.append((node.alias_or_name.lower() or None, expression))

    def _nested(self, block: Block, ctes: dict[str, exp.CTE]) -> None:
        """Read the subqueries in the block's expressions."""
        tree = block.tree
        around = [*tree.expressions, *(j.args["on"] for j in tree.args.get("joins") or [] if j.args.get("on"))]
        around += [tree.args[c] for c in ("where", "group", "having", "qualify", "order") if tree.args.get(c)]
        for clause in around:
            for query in list(_outermost_queries(clause)):
                holder = query.parent if not isinstance(query, exp.Subquery) else query
                compared = _compared(holder, tree)
                outer = None
                if compared is not None and compared.find(exp.Query) is None:
                    outer = block.canonical(compared)
                block.nested.append(Nested(self._query(query, block, ctes), outer))


def _outermost_queries(node: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(node, exp.Query):
        yield node
        return
    for child in node.iter_expressions():
        yield from _outermost_queries(child)


def _compared(holder: exp.Expr | None, select: exp.Select) -> exp.Expr | None:
    """Give what ``x IN (query)`` compares, where it is a condition of WHERE by itself."""
    while holder is not None and not isinstance(holder, (exp.In, exp.Select)):
        holder = holder.parent
    if not isinstance(holder, exp.In) or holder.args.get("query") is None:
        return None
    above: exp.Expr | None = holder.parent
    while isinstance(above, (exp.And, exp.Paren)):
        above = above.parent
    return holder.this if isinstance(above, exp.Where) and above.parent is select else None


def _renamed(names: tuple[str | None, ...] | None, node: exp.Expr) -> tuple[str | None, ...] | None:
    alias = node.args.get("alias")
    given = tuple(c.name.lower() for c in alias.args.get("columns") or []) if isinstance(alias, exp.TableAlias) else ()
    if names is None:
        return given or None
    return given + names[len(given) :]


def _all_columns(block: Block, table: str) -> list[tuple[str | None, exp.Expr | None]]:
    found: list[tuple[str | None, exp.Expr | None]] = []
    for item in block.items:
        if item.hidden or (table and item.alias.lower() != table.lower()):
            continue
        if item.columns is None or None in item.columns:
            raise NotKeyed(f'the columns of "{item.alias}" have no names')
        for name in item.columns:
            assert name is not None
            if not table and name in item.using:
                continue
            merged = not table and any(name in i.using for i in block.items)
            expression = block.item_column(name, "") if merged else traced(item.token, name)
            found.append((name, expression))
    return found


def _read_clauses(block: Block) -> None:
    tree = block.tree
    for item, join in zip(block.items[1:], tree.args.get("joins") or [], strict=True):
        _read_on(block, item, join)
    where = tree.args.get("where")
    for part in parts(where.this if where is not None else None):
        if part.find(exp.Query) is None:
            block.where.append(block.canonical(part))
    _read_groups(block)
    _read_windows(block)
    distinct = tree.args.get("distinct")
    on = distinct.args.get("on") if distinct is not None else None
    if on is not None:
        block.distinct_on = [_named(block, e) for e in (on.expressions if isinstance(on, exp.Tuple) else [on])]
    block.edges = list(_edges(block))


def _read_on(block: Block, item: Item, join: exp.Join) -> None:
    for part in parts(join.args.get("on")):
        if part.find(exp.Query) is not None:
            continue
        condition = block.canonical(part)
        item.conditions.append(condition)
        pairs = list(pairs_of(condition, item.token))
        plain = all(isinstance(e, exp.Column) for left, right, _ in pairs for e in (left, right))
        if item.kind in {"left", "right", "full"} and not plain:
            # over the NULLs that an outer join fills in, an expression such as coalesce() has another value than over a row
            raise NotKeyed("an outer join goes by an expression")
        item.pairs += pairs


def _named(block: Block, node: exp.Expr) -> exp.Expr:
    """Trace a key of GROUP BY or DISTINCT ON: an expression, or the number of an output."""
    if isinstance(node, exp.Literal) and node.is_int:
        found = block.outputs[int(node.this) - 1][1]
        if found is None:
            raise NotKeyed("a key is not traced")
        return found
    return block.canonical(node)


def _read_groups(block: Block) -> None:
    group = block.tree.args.get("group")
    inside = [*block.tree.expressions, *(block.tree.args[c] for c in ("having", "qualify") if block.tree.args.get(c))]
    aggregated = [any(_is_grouped(n) for n in _own_nodes(e)) for e in inside]
    if group is None:
        block.group_keys = [] if any(aggregated) or block.tree.args.get("having") else None
        return
    if group.args.get("all"):
        outputs = zip(block.tree.expressions, aggregated, strict=False)
        block.group_keys = [block.canonical(e) for e, over_rows in outputs if not over_rows]
        return
    block.group_keys = [_named(block, e) for e in group.expressions]


def _own_nodes(node: exp.Expr) -> Iterator[exp.Expr]:
    """Give an expression's nodes, but for those of subqueries."""
    if isinstance(node, exp.Query):
        return
    yield node
    for child in node.iter_expressions():
        yield from _own_nodes(child)


def _is_grouped(node: exp.Expr) -> bool:
    """Tell whether a node is an aggregate over a group, and not over a window."""
    if not is_aggregate(node):
        return False
    above = node.parent
    while above is not None and not isinstance(above, (exp.Window, exp.Select)) and not is_aggregate(above):
        above = above.parent
    return not isinstance(above, exp.Window) or node.arg_key in {"partition_by", "order"}


def _read_windows(block: Block) -> None:
    windows = block.tree.args.get("windows") or []
    for clause in ("expressions", "qualify", "order"):
        value = block.tree.args.get(clause)
        for node in value if isinstance(value, list) else filter(None, [value]):
            for window in (n for n in _own_nodes(node) if isinstance(n, exp.Window)):
                name, given = str(window.args.get("alias") or "").lower(), window.args.get("partition_by")
                if name:
                    given = next((w.args.get("partition_by") for w in windows if str(w.this).lower() == name), None)
                keys = [e for e in given or [] if e.find(exp.Query, exp.Window) is None]
                block.partitions.append([block.canonical(e) for e in keys])


def _edges(block: Block) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """Give (x, y): where x is a key of the block's rows, y equals it or is NULL."""
    for item in block.items:
        for left, right, _ in item.pairs:
            if item.kind == "full" and stays_null(left) and stays_null(right):
                both = exp.Coalesce(this=left, expressions=[right])
                yield both, left
                yield both, right
            if item.kind in {"inner", "semi", "anti"} or (item.kind == "left" and stays_null(right)):
                yield left, right
            if item.kind == "inner" or (item.kind == "right" and stays_null(left)):
                yield right, left
    filled = block.null_supplied()
    for condition in block.where:
        if isinstance(condition, exp.EQ) and not tokens(condition) & filled:
            one, other = bare(condition.this), bare(condition.expression)
            yield one, other
            yield other, one
