"""Which common table expressions a name in FROM can mean."""

from __future__ import annotations

from sqlglot import exp


def is_cte(table: exp.Table) -> bool:
    """Tell whether a name in FROM is that of a common table expression."""
    return any(cte.alias == table.name for cte in visible_ctes(table, recursive=True))


def visible_ctes(node: exp.Expr, *, recursive: bool) -> list[exp.Expr]:
    """List the common table expressions that a name at this place can mean: of each WITH around it, those before it.

    With `recursive`, all of a WITH RECURSIVE.
    """
    found: list[exp.Expr] = []
    while node.parent is not None:
        parent = node.parent
        if isinstance(parent, exp.With):
            place = next(i for i, cte in enumerate(parent.expressions) if cte is node)
            found += parent.expressions if recursive and parent.args.get("recursive") else parent.expressions[:place]
            if parent.parent is None:
                break
            node = parent.parent  # whose WITH has been looked at
            continue
        around = parent.args.get("with_")
        if around is not None and around is not node:
            found += around.expressions
        node = parent
    return found
