"""What a statement needs beyond SELECT on what it reads: rights to change rows, and which rows of our relations are shown."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.catalog.access import READ_ALL_DATA, READ_ALL_STATS
from streamsql.catalog.objects import Catalog, Table, literal
from streamsql.catalog.rights import may_read, require, require_read
from streamsql.plan.catalog_functions import PROVIDED


def require_change(tree: exp.Expr, target: exp.Table, table: Table, catalog: Catalog, role: int) -> None:
    """Raise InsufficientPrivilege unless who asks may change the table's rows, and read them where the statement does."""
    verb = "UPDATE" if isinstance(tree, exp.Update) else "TRUNCATE" if tree.meta.get(TRUNCATES) else "DELETE"
    require(catalog, role, table, verb)
    assigned = {id(a.this) for a in tree.expressions} if isinstance(tree, exp.Update) else set()
    own = ("", target.alias_or_name)
    read = (c for c in tree.find_all(exp.Column) if id(c) not in assigned)
    if any(c.table in own for c in read) or tree.find(exp.Star) is not None:
        require_read(catalog, role, table)


def hide_rows(table: exp.Table, name: str, catalog: Catalog, role: int) -> None:
    """Let who asks see those rows of a relation of ours that speak of what he may read."""
    about = _ABOUT.get(name)
    access = catalog.access
    if about is None or access.has_rights_of(role, READ_ALL_DATA) or access.has_rights_of(role, READ_ALL_STATS):
        return
    readable = [literal(made.name) for made in catalog if may_read(catalog, role, made)]
    condition = f"{about} IN ({', '.join(readable)})" if readable else "FALSE"
    rows = exp.select("*").from_(exp.Table(this=table.this.copy(), db=table.args["db"].copy()))
    rows.where(sqlglot.parse_one(condition, read="duckdb"), copy=False)
    rows.find(exp.Table).meta[PROVIDED] = True  # type: ignore[union-attr]  # it is there
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name, quoted=True))
    made = exp.Subquery(this=rows, alias=alias.copy())
    for kept in ("joins", "sample"):
        made.set(kept, table.args.get(kept))
    table.replace(made)


# what a row of schema streamsql speaks of, as SQL; late_rows and rejected_rows hold rows of the stream itself
_ABOUT = {
    "late_rows": "stream",
    "rejected_rows": "stream",
    "backfills": "name",
    "lookups": "name",
    "sources": "name",
    "streams": "name",
    "views": "name",
    "watermarks": "CASE kind WHEN 'query' THEN source ELSE name END",
}
TRUNCATES = "truncates"  # in the meta of a DELETE that TRUNCATE is run as
TARGET = "target"  # in the meta of the table that a statement changes
