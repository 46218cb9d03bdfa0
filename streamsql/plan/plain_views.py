"""Views that keep nothing: where one is read, its query stands in its place.

::

    CREATE VIEW large AS SELECT * FROM trades WHERE qty > 100
    SELECT symbol FROM large          ->   SELECT symbol FROM (SELECT "ts", ... FROM (SELECT * FROM trades WHERE qty > 100))

As in PostgreSQL, whoever reads needs SELECT on the view alone, and the view's owner on what the view reads; and ``*`` stands
for the columns that there were when the view was made.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import DuplicateColumn, SQLSyntaxError
from streamsql.catalog.objects import Catalog, OutputColumn, PlainView
from streamsql.catalog.rights import require
from streamsql.plan.ctes import is_cte
from streamsql.plan.output_names import values_names, with_values_names

# in the meta of a relation that a view reads: the role whose rights count
READ_AS = "read as"
LOOKED_UP = "looked up"  # in the meta of a relation whose name is a key: the schema in which it stands


def opened(view: PlainView, catalog: Catalog, role: int | None) -> exp.Expr:
    """Give the query of a view, with those of the views that it reads in it.

    Raises InsufficientPrivilege where the role may not read the view, or the view's owner not one that it reads.
    """
    if role is not None:
        require(catalog, role, view, "SELECT")
        role = catalog.access.owner_of(view.id)
    return opened_in(view.tree, catalog, role)


def opened_in(tree: exp.Expr, catalog: Catalog, role: int | None) -> exp.Expr:
    """Give a tree whose names are keys with the queries of the views that it reads in it, for a role to read."""
    tree = tree.copy()
    for table in list(tree.find_all(exp.Table)):
        made = None if table.db or is_cte(table) else catalog.get(table.name)
        if isinstance(made, PlainView):
            put(table, made, catalog, role)
        elif made is not None:
            table.meta[LOOKED_UP] = made.schema
            if role is not None:
                table.meta[READ_AS] = role
    return tree


def put(table: exp.Table, view: PlainView, catalog: Catalog, role: int | None) -> exp.Subquery:
    """Put a view's query where it is read."""
    alias = table.args.get("alias")
    made = exp.Subquery(this=opened(view, catalog, role), alias=exp.TableAlias() if alias is None else alias.copy())
    if made.args["alias"].args.get("this") is None:
        made.args["alias"].set("this", _quoted(table.name))
    for kept in ("joins", "sample", "pivots"):
        made.set(kept, table.args.get(kept))
    table.replace(made)
    return made


def with_columns(
    tree: exp.Expr, given: tuple[str, ...], columns: list[OutputColumn]
) -> tuple[exp.Expr, tuple[OutputColumn, ...]]:
    """Give a view's query with the columns that it has now, and under the names that were given. Raises StreamSQLError."""
    if len(given) > len(columns):
        raise SQLSyntaxError("CREATE VIEW specifies more column names than columns")
    inner = [c.name for c in with_values_names(tree, columns)]
    names = [*given, *inner[len(given) :]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DuplicateColumn(f'column "{twice}" specified more than once', hint="name the columns with AS")
    made = tuple(
        OutputColumn(name, "VARCHAR" if c.type == '"NULL"' else c.type, c.made)
        for name, c in zip(names, columns, strict=True)
    )
    of_values = values_names(tree) is not None
    stars = (s for s in tree.find_all(exp.Star) if isinstance(s.parent, (exp.Select, exp.Column)))
    if not given and not of_values and next(stars, None) is None:
        return tree, made
    alias = exp.TableAlias(this=_quoted("q"))
    if of_values or len({*inner}) < len(inner):  # which have no names of their own, or not each another
        alias.set("columns", [_quoted(name) for name in names])
        inner = names
    shown = [
        exp.column(_quoted(own)) if own == name else exp.alias_(exp.column(_quoted(own)), name, quoted=True)
        for own, name in zip(inner, names, strict=True)
    ]
    return exp.select(*shown).from_(exp.Subquery(this=tree.copy(), alias=alias)), made


def _quoted(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=True)


def without_places(tree: exp.Expr) -> exp.Expr:
    """Forget where the nodes of a tree stood in the text that it came from, which is not the one that errors are about."""
    made = tree.copy()
    for node in made.walk():
        for place in ("start", "end", "line", "col"):
            node.meta.pop(place, None)
    return made
