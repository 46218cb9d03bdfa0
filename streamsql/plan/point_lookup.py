"""Which ad-hoc queries look rows of a view up by its key: those that an index in memory answers without DuckDB.

    SELECT owner, total FROM balances WHERE account = $1 AND day = '2026-03-01'      ->      keys (account: $1, day: a literal)

Only plain columns of one materialized view, compared with constants of the columns' own types, are such a query; all else is
None, and DuckDB's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.types import DATE, INT2, INT4, INT8, TEXT, TIMESTAMP, UNKNOWN, VARCHAR, WireType
from streamsql.catalog.objects import PUBLIC_SCHEMA, Catalog, View
from streamsql.plan.result_types import named_type

INTEGERS = (INT2, INT4, INT8)
# the types of keys, and those of the constants that are compared with them value by value
KEY_TYPES: dict[WireType, tuple[WireType, ...]] = {
    INT2: INTEGERS,
    INT4: INTEGERS,
    INT8: INTEGERS,
    TEXT: (TEXT, VARCHAR),
    DATE: (DATE,),
    TIMESTAMP: (TIMESTAMP,),
}
# what such a SELECT may consist of
_CLAUSES = frozenset({"expressions", "from_", "where", "limit"})


@dataclass(frozen=True, slots=True)
class Constant:
    """What a key is compared with: a parameter by its `number`, or else a literal's `text`."""

    number: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class PointLookup:
    """A lookup: the places of the view's columns that are the key and that are shown, and the key's types and constants.

    The key's columns are in ascending order. `in_order` has the constants as they stand in the text.
    """

    view: str
    key: tuple[int, ...]
    types: tuple[WireType, ...]
    constants: tuple[Constant, ...]
    outputs: tuple[int, ...]
    in_order: tuple[int, ...]


def point_lookup(tree: exp.Expr, catalog: Catalog, parameters: tuple[WireType, ...]) -> PointLookup | None:
    """Tell whether a query is a lookup; `parameters` are its parameters' types."""
    if not isinstance(tree, exp.Select) or any(value and name not in _CLAUSES for name, value in tree.args.items()):
        return None
    found = tree.args.get("from_")
    table, where = found.this if found is not None else None, tree.args.get("where")
    if where is None or not isinstance(table, exp.Table) or not _plain(table) or not _all_rows(tree.args.get("limit")):
        return None
    view = catalog.get(table.name)
    if not isinstance(view, View):
        return None
    alias = table.alias or table.name
    outputs = _outputs(tree, view, alias)
    compared = [_compared(term, view, alias, parameters) for term in _terms(where.this)]
    if outputs is None or None in compared:
        return None
    known = [item for item in compared if item is not None]
    places = [place for place, _ in known]
    if len(set(places)) < len(places):
        return None
    order = sorted(range(len(places)), key=places.__getitem__)
    types = tuple(view.columns[places[i]].wire.type for i in order)
    constants = tuple(known[i][1] for i in order)
    return PointLookup(
        view.name,
        tuple(places[i] for i in order),
        types,
        constants,
        tuple(outputs),
        tuple(map(order.index, range(len(order)))),
    )


def _plain(table: exp.Table) -> bool:
    """Tell whether a relation is a name alone, in the users' schema."""
    others = any(value and name not in ("this", "alias", "db") for name, value in table.args.items())
    alias = table.args.get("alias")
    renamed = alias is not None and bool(alias.args.get("columns"))
    return isinstance(table.this, exp.Identifier) and not others and not renamed and table.db in ("", PUBLIC_SCHEMA)


def _all_rows(limit: exp.Expr | None) -> bool:
    """Tell whether a LIMIT takes nothing from a query that gives one row at the most."""
    if limit is None:
        return True
    count = limit.expression if isinstance(limit, exp.Limit) else None
    return isinstance(count, exp.Literal) and not count.is_string and count.name.isdecimal() and int(count.name) > 0


def _terms(node: exp.Expr) -> Iterator[exp.Expr]:
    node = node.unnest()
    if isinstance(node, exp.And):
        yield from _terms(node.this)
        yield from _terms(node.expression)
    else:
        yield node


def _place(node: exp.Expr, view: View, alias: str) -> int | None:
    """Give the place of a column of the view."""
    if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star) or node.args.get("db"):
        return None
    if node.table not in ("", alias):
        return None
    return next((place for place, column in enumerate(view.columns) if column.name == node.name), None)


def _outputs(tree: exp.Select, view: View, alias: str) -> list[int] | None:
    if len(tree.expressions) == 1:
        only = tree.expressions[0]
        named = isinstance(only, exp.Column) and isinstance(only.this, exp.Star) and only.table == alias
        star = only.this if named else only
        if isinstance(star, exp.Star):
            return None if any(star.args.values()) else list(range(len(view.columns)))
    places = [_place(item.unalias(), view, alias) for item in tree.expressions]
    return None if None in places else [place for place in places if place is not None]


def _compared(term: exp.Expr, view: View, alias: str, parameters: tuple[WireType, ...]) -> tuple[int, Constant] | None:
    if not isinstance(term, exp.EQ):
        return None
    for column, value in ((term.this, term.expression), (term.expression, term.this)):
        place = _place(column.unnest(), view, alias)
        if place is None:
            continue
        constant = _constant(value.unnest(), view.columns[place].wire.type, parameters)
        return None if constant is None else (place, constant)
    return None


def _constant(value: exp.Expr, wanted: WireType, parameters: tuple[WireType, ...]) -> Constant | None:
    allowed = KEY_TYPES.get(wanted)
    if allowed is None:
        return None
    if isinstance(value, exp.Cast) and type(value) is exp.Cast:
        if named_type(value.to) is not wanted or value.to.expressions:
            return None
        value = value.this.unnest()
    if isinstance(value, exp.Parameter):
        number = int(value.name)
        known = 0 < number <= len(parameters) and parameters[number - 1] in (*allowed, UNKNOWN)
        return Constant(number=number) if known else None
    negative = isinstance(value, exp.Neg)
    literal = value.this if negative else value
    if not isinstance(literal, exp.Literal) or (literal.is_string and negative):
        return None
    if not literal.is_string and (wanted not in INTEGERS or not literal.name.isdecimal()):
        return None
    return Constant(text=f"-{literal.name}" if negative else literal.name)
