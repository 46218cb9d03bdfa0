"""LATERAL subqueries that look a row's match up in a table as of now, in append mode: written as the joins that they are.

::

    FROM s, LATERAL (SELECT t.name AS label FROM t FOR SYSTEM_TIME AS OF PROCTIME() WHERE t.k = s.k) AS l     l.label
    FROM s JOIN t FOR SYSTEM_TIME AS OF PROCTIME() AS l ON l.k = s.k                                          l.name

A subquery that groups, orders or cuts off what it finds is none, nor one without a condition, nor, under LEFT JOIN, one that
shows anything but columns: what is computed of a row that is not there is NULL.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.catalog.objects import Catalog, PlainView

_CLAUSES = (
    "group",
    "having",
    "distinct",
    "limit",
    "offset",
    "order",
    "qualify",
    "joins",
    "laterals",
    "with_",
    "windows",
)


def lookups_as_joins(tree: exp.Select, catalog: Catalog) -> None:
    """Write a query's lateral lookups as joins, in place; what is none stays as it is."""
    for join in tree.args.get("joins") or []:
        body = join.this.this if isinstance(join.this, exp.Lateral) else None
        select = body.this if isinstance(body, exp.Subquery) else None
        alias = join.this.alias
        if isinstance(select, exp.Select) and alias and join.side in ("", "LEFT"):
            columns = _looked_up(select, catalog)
            given = join.this.args["alias"].columns
            if columns is not None and (items := _items(select, [c.name for c in given])) is not None:
                _rewrite(tree, join, select, alias, columns, items)


def _looked_up(select: exp.Select, catalog: Catalog) -> set[str] | None:
    """Give the columns of the relation that a subquery reads as of now; None where it does anything else."""
    from_ = select.args.get("from_")
    table = from_.this if from_ is not None else None
    if not isinstance(table, exp.Table) or table.args.get("version") is None or select.args.get("where") is None:
        return None
    if any(select.args.get(clause) for clause in _CLAUSES) or any(select.find_all(exp.AggFunc, exp.Window)):
        return None
    if select.args["where"].this.find(exp.Query) is not None or table.args.get("joins"):
        return None
    found = catalog.get(table.name)
    return None if found is None or isinstance(found, PlainView) else {c.name for c in found.columns}


def _items(select: exp.Select, names: list[str]) -> dict[str, exp.Expr] | None:
    """Give what a subquery shows by name, nothing where it shows the columns as they are; None where that cannot be told."""
    if len(select.expressions) == 1 and isinstance(select.expressions[0], exp.Star):
        return None if names else {}
    shown: dict[str, exp.Expr] = {}
    for place, item in enumerate(select.expressions):
        name = names[place] if place < len(names) else item.alias_or_name
        star = isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))
        if star or not name or name in shown:
            return None
        shown[name] = item.unalias()
    return shown


def _rewrite(
    tree: exp.Select, join: exp.Join, select: exp.Select, alias: str, columns: set[str], items: dict[str, exp.Expr]
) -> None:
    table: exp.Table = select.args["from_"].this
    stars = [
        n for n in tree.expressions
        if isinstance(n, exp.Star) or (isinstance(n, exp.Column) and isinstance(n.this, exp.Star) and n.table == alias)
    ]  # fmt: skip
    if items and stars:
        return  # it would show the table's other columns
    own = {table.alias_or_name}

    def of_table(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and (node.table in own or (not node.table and node.name in columns)):
            node.set("table", exp.to_identifier(alias, quoted=True))
        return node

    condition = select.args["where"].this.copy().transform(of_table, copy=False)
    shown = {name: item.copy().transform(of_table, copy=False) for name, item in items.items()}
    read = table.copy()
    read.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    if join.side and not all(isinstance(made, exp.Column) and made.table == alias for made in shown.values()):
        return  # where nothing is found it would not be NULL
    others = [tree.args["from_"].this, *(j.this for j in tree.args["joins"] if j is not join)]
    around = join.args.get("on")
    join.set("this", exp.null())
    for column in [c for c in tree.find_all(exp.Column) if c.find_ancestor(exp.Select) is tree]:
        made = shown.get(column.name) if column.table in ("", alias) else None
        if made is None:
            if items and not column.table and column.name in columns and len(others) == 1:
                column.set("table", exp.to_identifier(others[0].alias_or_name, quoted=True))
            continue
        made = made.copy() if isinstance(made, exp.Column) else exp.paren(made.copy())
        listed = column.parent is tree and column.arg_key == "expressions"
        column.replace(exp.alias_(made, column.name, quoted=True) if listed else made)
    if around is not None and around != exp.true():
        condition = exp.and_(condition, join.args["on"].copy())
    join.set("this", read)
    join.set("kind", None)
    join.set("on", condition)
