"""Keys of a query: expressions by which its rows fall into parts that have nothing to do with each other.

A key of a query is traced down to what it reads: for each scan an expression, such that the result's rows of one key are what
the query gives over the scans' rows of that key alone. ``GROUP BY k`` has the key k; so has a join on ``a.k = b.k``, a window
function over ``PARTITION BY k``, DISTINCT over k, ``k IN (SELECT y ...)`` with y of the other side, and so on inwards.
Keys are compared with IS NOT DISTINCT FROM: where an equality joins nothing to NULL, the part of NULL is one like others.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from streamsql.plan.aggregates import is_aggregate
from streamsql.plan.touched.blocks import (
    Block,
    Item,
    Nested,
    Node,
    NotKeyed,
    Operation,
    Scan,
    pairs_of,
    scans,
    stays_null,
    tokens,
    traced,
)

# for each scan, the expression over its columns that is the key
Traced = dict[Scan, exp.Expr]


def trace_output(query: Node, index: int) -> Traced:
    """Trace the key that is an output of a query down to its scans. Raises NotKeyed."""
    if isinstance(query, Operation):
        return _joined(trace_output(query.left, index), trace_output(query.right, index))
    if query.limited:
        raise NotKeyed("of LIMIT")
    key = query.outputs[index][1]
    if key is None or not is_key(query, key):
        raise NotKeyed("an output is no key")
    return trace_rows(query, key)


def is_key(block: Block, key: exp.Expr) -> bool:
    """Tell whether the result rows of a block come from those rows of its joins alone that have the same key."""
    if not tokens(key) or any(
        is_aggregate(n) or isinstance(n, (exp.Window, exp.Explode, exp.Unnest)) for n in key.walk()
    ):
        return False
    if block.group_keys is not None and key not in block.group_keys:
        return False
    if any(key not in partition for partition in block.partitions):
        return False
    if block.distinct_on is not None:
        return key in block.distinct_on
    return not block.distinct or any(expression == key for _, expression in block.outputs)


def trace_rows(block: Block, key: exp.Expr, *, partly: bool = False) -> Traced:
    """Trace a key of the rows that a block joins. `partly`: as far as it goes, for those rows that have given keys.

    Raises NotKeyed.
    """
    found = _through_joins(block, key, len(block.items) - 1, partly)
    for nested in block.nested:
        try:
            found = _joined(found, _into_nested(block, nested, key))
        except NotKeyed:
            if not partly:
                raise
    return found


def _joined(one: Traced, other: Traced) -> Traced:
    assert not one.keys() & other.keys()
    return {**one, **other}


def equal(block: Block, key: exp.Expr, place: int | None = None) -> list[exp.Expr]:
    """List what equals a key or is NULL, in the rows of the joins up to a place in FROM."""
    within = None if place is None else {i.token for i in block.items[: place + 1]}
    found = [key]
    for known in found:
        for one, other in block.edges:
            if one == known and other not in found and (within is None or tokens(other) <= within):
                found.append(other)
    return found


def _through_joins(block: Block, key: exp.Expr, place: int, partly: bool) -> Traced:
    if place < 0:
        raise NotKeyed("a key belongs to nothing in FROM")
    item, over = block.items[place], tokens(key)
    if not over <= {i.token for i in block.items[: place + 1]}:
        raise NotKeyed("a key belongs to another query")
    if place == 0:
        return _into_item(item, key, partly)
    pairs = list(item.pairs)
    if item.kind == "inner":
        pairs += [p for condition in block.where for p in pairs_of(condition, item.token)]
    if item.kind == "full":
        return _through_full(block, item, key, place, partly)
    if item.token not in over:
        return _to_the_right(block, item, key, place, partly, pairs)
    if over != {item.token} or item.kind not in {"inner", "right"}:
        raise NotKeyed(f'a key is over "{item.alias}", which an outer join may leave out')
    same = equal(block, key, place)
    before = {i.token for i in block.items[:place]}
    left = next((one for one, other, _ in pairs if other in same and tokens(one) <= before), None)
    found = _into_item(item, key, partly)
    if left is not None:
        return _joined(found, _through_joins(block, left, place - 1, partly))
    if not partly and any(i.scan or list(scans(i.child)) for i in block.items[:place]):
        raise NotKeyed(f'"{item.alias}" is joined by something else')
    return found


def _to_the_right(
    block: Block, item: Item, key: exp.Expr, place: int, partly: bool, pairs: list[tuple[exp.Expr, exp.Expr, bool]]
) -> Traced:
    """Trace a key of the items before this one."""
    found = _through_joins(block, key, place - 1, partly)
    if item.kind == "right":
        raise NotKeyed(f'a key is not over "{item.alias}", whose rows a RIGHT JOIN keeps')
    if item.scan is None and not list(scans(item.child)):
        return found
    try:
        if item.lateral:
            assert item.child is not None
            return _joined(found, _into_correlated(block, item.child, key))
        same = equal(block, key, place - 1)
        right = next((other for one, other, nulls in pairs if one == key or (one in same and not nulls)), None)
        if right is None:
            raise NotKeyed(f'"{item.alias}" is joined by something else')
        return _joined(found, _into_item(item, right, partly))
    except NotKeyed:
        if partly:
            return found
        raise


def _through_full(block: Block, item: Item, key: exp.Expr, place: int, partly: bool) -> Traced:
    for left, right, _ in item.pairs:
        if key == exp.Coalesce(this=left, expressions=[right]) and stays_null(left) and stays_null(right):
            found = _through_joins(block, left, place - 1, partly)
            return _joined(found, _into_item(item, right, partly))
    raise NotKeyed("a FULL JOIN's key is none of its equalities")


def _into_item(item: Item, key: exp.Expr, partly: bool) -> Traced:
    if item.scan is not None:
        return {item.scan: key}
    if item.child is None:
        return {}
    try:
        if isinstance(key, exp.Column) and item.columns is not None:
            return trace_output(item.child, item.columns.index(key.name))
        if isinstance(item.child, Block) and item.child.plain:
            return trace_rows(item.child, _written_in(item, item.child, key), partly=partly)
        raise NotKeyed(f'a key is an expression over "{item.alias}"')
    except NotKeyed:
        if partly:
            return {}
        raise


def _written_in(item: Item, child: Block, key: exp.Expr) -> exp.Expr:
    """Put what a query's outputs are in the place of their names."""
    root = exp.Paren(this=key.copy())
    for column in list(root.find_all(exp.Column)):
        made = child.outputs[(item.columns or ()).index(column.name)][1]
        if made is None or not is_key(child, made):
            raise NotKeyed("an output is no key")
        column.replace(exp.Paren(this=made.copy()))
    inside: exp.Expr = root.this
    while isinstance(inside, exp.Paren):
        inside = inside.this
    return inside


def _into_nested(block: Block, nested: Nested, key: exp.Expr) -> Traced:
    if not list(scans(nested.query)):
        return {}
    same = equal(block, key)
    if nested.outer is not None and nested.outer in same:
        return trace_output(nested.query, 0)
    return _into_correlated(block, nested.query, key)


def _into_correlated(block: Block, query: Node, key: exp.Expr) -> Traced:
    """Trace a key into a subquery that an equality in its WHERE ties to the rows around it."""
    same = equal(block, key)
    for outer, inner in correlations(query):
        if outer in same:
            assert isinstance(query, Block)
            return trace_rows(query, inner)
    raise NotKeyed("a subquery reads all rows")


def correlations(query: Node) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """Give the equalities that tie a subquery to the rows around it: (outer expression, inner one)."""
    if not isinstance(query, Block):
        return
    inside = {i.token for i in query.items}
    for condition in query.where:
        if isinstance(condition, exp.EQ):
            for outer, inner in ((condition.this, condition.expression), (condition.expression, condition.this)):
                if tokens(inner) and tokens(inner) <= inside and tokens(outer) and not tokens(outer) & inside:
                    yield outer, inner


def own_keys(item: Item) -> dict[str | None, Traced]:
    """Give the columns of a query in FROM that are keys of it, traced."""
    found: dict[str | None, Traced] = {}
    assert item.child is not None
    for index, name in enumerate(item.columns or ()):
        try:
            found[name] = trace_output(item.child, index)
        except NotKeyed:
            continue
    return found


def candidates(query: Node) -> list[exp.Expr | int]:
    """List what may be keys of a query: expressions over the rows that it joins, or, of a set operation, outputs."""
    if isinstance(query, Operation):
        return list(range(len(query.names)))
    given: list[exp.Expr] = []
    if query.group_keys is not None:
        given = query.group_keys
    elif query.partitions:
        given = query.partitions[0]
    elif query.distinct_on is not None:
        given = query.distinct_on
    elif query.distinct:
        given = [e for _, e in query.outputs if e is not None]
    else:
        for item in query.items:
            for left, right, _ in item.pairs:
                given += [exp.Coalesce(this=left, expressions=[right])] if item.kind == "full" else []
                given += [right] if item.kind == "right" else [left]
        for nested in query.nested:
            given += [nested.outer] if nested.outer is not None else []
            given += [outer for outer, _ in correlations(nested.query)]
        for item in query.items:
            given += [outer for outer, _ in correlations(item.child)] if item.lateral and item.child is not None else []
        given += [one for one, _ in query.edges]
        for item in query.items:
            if item.child is not None and not item.hidden:
                given += [traced(item.token, name) for name in own_keys(item) if name is not None]
    return [k for i, k in enumerate(given) if k not in given[:i] and is_key(query, k)]
