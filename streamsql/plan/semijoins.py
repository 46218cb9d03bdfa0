"""``WHERE EXISTS``, ``NOT EXISTS`` and ``IN`` as the semi and anti joins that they are.

::

    SELECT a.x FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5 min')
    SELECT a.x FROM a SEMI JOIN b ON b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5 min'

NOT IN is no anti join: a NULL among the values makes it unknown for all rows.
"""

from __future__ import annotations

from sqlglot import exp

SIDE = "side"  # in the meta of a column


def conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """Give the conditions that AND joins."""
    condition = condition.unnest()
    if not isinstance(condition, exp.And):
        return [condition]
    return [*conjuncts(condition.this), *conjuncts(condition.expression)]


def join_conditions(tree: exp.Select) -> None:
    """Rewrite what can be of a query's WHERE, in place; all else stays, for whoever refuses it."""
    where = tree.args.get("where")
    if where is None:
        return
    conditions = conjuncts(where.this)
    joins = [_join(c) for c in conditions]
    if not any(joins):
        return
    rest = [c.copy() for c, join in zip(conditions, joins, strict=True) if join is None]
    tree.set("where", exp.Where(this=exp.and_(*rest, copy=False)) if rest else None)
    tree.set("joins", [*(tree.args.get("joins") or []), *(j for j in joins if j is not None)])


def _join(condition: exp.Expr) -> exp.Join | None:
    kind = "SEMI"
    if isinstance(condition, exp.Not):
        kind, condition = "ANTI", condition.this.unnest()
    if isinstance(condition, exp.Exists):
        return _of(condition.this, kind, None)
    if isinstance(condition, exp.In) and kind == "SEMI" and isinstance(condition.args.get("query"), exp.Subquery):
        return _of(condition.args["query"].this, kind, condition.this)
    return None


def _prefer(expressions: list[exp.Expr], side: str) -> None:
    """Say on which side of the join a bare name is looked for first: inside the subquery, or outside."""
    for expression in expressions:
        for column in expression.find_all(exp.Column):
            column.meta[SIDE] = side


def _of(query: exp.Expr, kind: str, value: exp.Expr | None) -> exp.Join | None:
    """Give the join with a subquery of one relation; `value` is what IN compares with its one column."""
    if not isinstance(query, exp.Select) or query.args.get("from_") is None:
        return None
    plain = {"expressions", "from_", "where", "kind"}
    if any(found for name, found in query.args.items() if name not in plain):
        return None
    where = query.args.get("where")
    conditions = [where.this.copy()] if where is not None else []
    _prefer(conditions, "right")
    if value is not None:
        columns = query.expressions
        if len(columns) != 1 or not isinstance(columns[0].unalias(), exp.Column) or columns[0].is_star:
            return None
        compared = exp.EQ(this=value.copy(), expression=columns[0].unalias().copy())
        _prefer([compared.this], "left")
        _prefer([compared.expression], "right")
        conditions.insert(0, compared)
    if not conditions:
        return None
    return exp.Join(this=query.args["from_"].this.copy(), kind=kind, on=exp.and_(*conditions, copy=False))
