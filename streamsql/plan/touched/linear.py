"""Linear queries: joins, filters, projections and UNION ALL, whose changes follow from their sources' by weight."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.catalog.objects import quoted
from streamsql.plan.touched.blocks import Node, NotKeyed, Operation, scans
from streamsql.plan.touched.text import named


def is_linear(query: Node) -> bool:
    """Tell whether rows of the result are rows of the sources, joined, each by itself."""
    if isinstance(query, Operation):
        # a side that reads nothing has rows that are there from the start, and no weight
        return query.adds and all(is_linear(q) and any(scans(q)) for q in (query.left, query.right))
    if not query.plain or query.nested or None in [e for _, e in query.outputs]:
        return False
    if any(i.kind != "inner" or (i.lateral and i.child is not None) for i in query.items):
        return False
    return all(i.child is None or is_linear(i.child) for i in query.items)


def part(query: Node, apart: list[set[int]]) -> None:
    """Tell which scans are in another part of a UNION ALL."""
    if isinstance(query, Operation):
        left, right = ({s.number for s in scans(q)} for q in (query.left, query.right))
        for number in left | right:
            apart[number] |= right if number in left else left
        part(query.left, apart)
        part(query.right, apart)
        return
    for item in query.items:
        if item.child is not None:
            part(item.child, apart)


def weigh(query: Node) -> None:
    """Add a column to a linear query: the product of the weights of the rows that are joined."""
    if isinstance(query, Operation):
        weigh(query.left)
        weigh(query.right)
        return
    names = {i.token: i.alias for i in query.items}
    if any(n.find(exp.Star) is not None for n in query.tree.expressions if isinstance(n, (exp.Star, exp.Column))):
        expressions = [
            exp.alias_(named(e, names), n or f"o{i}", quoted=True) for i, (n, e) in enumerate(query.outputs) if e
        ]
        query.tree.set("expressions", expressions)
    weights = []
    for item in query.items:
        if item.child is not None:
            weigh(item.child)
        if item.child is not None or item.scan is not None:
            if not item.alias:
                raise NotKeyed("a subquery has no name")
            weights.append(f'{quoted(item.alias)}."__weight"')
    product = sqlglot.parse_one(" * ".join(weights) or "1", read="duckdb")
    query.tree.append("expressions", exp.alias_(product, "__weight", quoted=True))
