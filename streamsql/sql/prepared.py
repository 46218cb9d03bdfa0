"""Prepared statements of SQL: PREPARE, EXECUTE, DEALLOCATE. They share their names with those of the extended protocol."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from streamsql.base.errors import UndefinedParameter
from streamsql.sql.changes import parse_delete, parse_insert, parse_update
from streamsql.sql.column_types import expect_type
from streamsql.sql.merging import parse_merge
from streamsql.sql.query import QUERY_WORDS, parse_select
from streamsql.sql.statements import Deallocate, Delete, ExecutePrepared, Insert, Merge, Prepare, Query, Update
from streamsql.sql.tokens import Cursor, tokenize
from streamsql.sql.trees import count_parameters, parse_tree

CATALOG_TYPES = frozenset({"name", "oid", "regclass", "regnamespace", "regrole", "regtype", "xid"})
_PREPARABLE: dict[str, Callable[[Cursor], Insert | Merge | Update | Delete]] = {
    "delete": parse_delete,
    "insert": parse_insert,
    "merge": parse_merge,
    "update": parse_update,
}


def parse_prepare(cursor: Cursor) -> Prepare:
    """Read PREPARE name [(types)] AS query | INSERT | UPDATE | DELETE."""
    cursor.expect("prepare")
    name = cursor.expect_name()
    types: tuple[str, ...] = ()
    if cursor.accept("("):
        types = cursor.expect_listed(lambda: _expect_type(cursor))
        cursor.expect(")")
    cursor.expect("as")
    inner = Cursor(cursor.text, cursor.rest, cursor.limits)
    first = cursor.peek
    if first is None:
        raise cursor.error()
    prepared: Query | Insert | Merge | Update | Delete
    if first.text in QUERY_WORDS:
        prepared = parse_select(inner)
    elif first.text in _PREPARABLE:
        prepared = _PREPARABLE[first.text](inner)
    else:
        raise cursor.error()
    return Prepare(*cursor.source, name=name, types=tuple(types), statement=prepared)


def _expect_type(cursor: Cursor) -> str:
    """Read a parameter's type: DuckDB's name of it, or PostgreSQL's where it is one of the catalog's."""
    qualified = cursor.sees("pg_catalog", ".")
    word = cursor.rest[2] if qualified and len(cursor.rest) > 2 else cursor.peek
    if word is None or word.text not in CATALOG_TYPES:
        return expect_type(cursor)
    cursor.index += 3 if qualified else 1
    return word.text


def parse_execute(cursor: Cursor) -> ExecutePrepared:
    """Read EXECUTE name [(values)]."""
    cursor.expect("execute")
    name = cursor.expect_name()
    values: tuple[exp.Expr, ...] = ()
    if cursor.sees("("):
        tokens = cursor.rest
        if count_parameters(tokens, cursor.limits):
            place = cursor.position + 1
            raise UndefinedParameter("there are no parameters in EXECUTE", hint="write the values", position=place)
        last = tokens[-1]
        if last.text != ")" or len(tokens) < 3:
            raise cursor.error(last)
        tree = parse_tree(cursor.text, [*tokenize("select", cursor.limits), *tokens[1:-1]], cursor.limits)
        if not isinstance(tree, exp.Select) or any(v for k, v in tree.args.items() if k not in ("expressions", "kind")):
            raise cursor.error()
        values = tuple(tree.expressions)
        cursor.index = len(cursor.tokens)
    cursor.expect_end()
    return ExecutePrepared(*cursor.source, name=name, values=values)


def parse_deallocate(cursor: Cursor) -> Deallocate:
    """Read DEALLOCATE [PREPARE] name | ALL."""
    cursor.expect("deallocate")
    if cursor.sees("prepare") and len(cursor.rest) > 1:
        cursor.expect("prepare")
    name = None if cursor.accept("all") else cursor.expect_name()
    cursor.expect_end()
    return Deallocate(*cursor.source, name=name)
