"""Queries: SELECT, WITH, VALUES, TABLE, set operations, parenthesised or not, with their streaming clauses."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError
from streamsql.sql.clauses import expect_query_options, take_clauses
from streamsql.sql.statements import EmitMode, Explain, ExplainWhy, Query, RowLock, StateTtl
from streamsql.sql.tokens import Cursor, syntax_error
from streamsql.sql.trees import REFUSED, check_tree, count_parameters, parse_tree
from streamsql.sql.unsupported import refuse_here, unsupported

QUERY_WORDS = frozenset({"select", "with", "values", "table", "("})
_PLAIN = "use EXPLAIN query"
EXPLAIN_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    (word,): (f"EXPLAIN of {word.upper()}", _PLAIN) for word in ("insert", "update", "delete", "merge", "execute")
}
# beside FORMAT; what the last ones would add is not kept, or is always told
_EXPLAIN_OPTIONS = (
    "analyze",
    "verbose",
    "costs",
    "settings",
    "generic_plan",
    "buffers",
    "wal",
    "timing",
    "summary",
    "memory",
)
_NO = {"false", "off", "0", "no"}


def parse_select(cursor: Cursor) -> Query:
    """Read a query that is a statement of its own, and so may lock rows."""
    return parse_query(cursor, may_lock=True)


def parse_query(cursor: Cursor, *, of_view: bool = False, may_lock: bool = False) -> Query:
    """Read a query from the cursor to the end of the statement; one `of_view` is continuous also without EMIT."""
    first = cursor.peek
    if first is None or first.text not in QUERY_WORDS:
        raise cursor.error()
    start = first.start
    clauses = take_clauses(cursor)
    tree = parse_tree(cursor.text, clauses.tokens, cursor.limits)
    if type(tree) in REFUSED:  # WITH ... INSERT, UPDATE, DELETE
        check_tree(exp.Paren(this=tree), cursor.text, clauses.tokens)
    if not isinstance(tree, (exp.Query, exp.Values)) or (type(tree) is exp.Values and tree.args.get("alias")):
        raise syntax_error(cursor.text, first)
    check_values(tree)
    locks = take_locks(tree, start)
    if locks and (not may_lock or clauses.emit is not None):
        raise FeatureNotSupported(
            f"{locks[0].strength} is not supported here", hint="it stands at the end of a SELECT of its own",
            position=start + 1,
        )  # fmt: skip
    if clauses.state_ttl is not None and clauses.emit is None and not of_view:
        raise SQLSyntaxError(
            "state_ttl is of a continuous query", hint="add EMIT UPDATE", position=clauses.state_ttl.position + 1
        )
    return Query(
        cursor.text[start : cursor.end],
        start,
        tree=tree,
        emit=clauses.emit,
        watermark=clauses.watermark,
        every_us=clauses.every_us,
        parameter_count=count_parameters(clauses.tokens, cursor.limits),
        lateness=clauses.lateness,
        state_ttl=clauses.state_ttl,
        locks=locks,
    )


def take_locks(tree: exp.Expression, position: int) -> tuple[RowLock, ...]:
    """Take FOR UPDATE and its kin out of a tree. Raises FeatureNotSupported for SKIP LOCKED."""
    found = tree.args.get("locks") or []
    made = []
    for lock in found:
        if lock.args.get("wait") is False:
            raise FeatureNotSupported(
                "SKIP LOCKED is not supported",
                detail="transactions do not wait for each other: of two that take the same row, the second fails at COMMIT",
                hint="leave it away, and send again what fails with 40001", position=position + 1,
            )  # fmt: skip
        strength = "UPDATE" if lock.args.get("update") else "SHARE"
        if lock.args.get("key"):
            strength = f"{'NO KEY' if strength == 'UPDATE' else 'KEY'} {strength}"
        names = tuple(table.name for table in lock.expressions)
        made.append(RowLock(f"FOR {strength}", names, nowait=lock.args.get("wait") is True))
    tree.set("locks", None)
    return tuple(made)


def check_values(tree: exp.Expression) -> None:
    """Raise SQLSyntaxError where the rows of a VALUES list differ in length."""
    for values in tree.find_all(exp.Values):
        widths = {len(row.expressions) if isinstance(row, exp.Tuple) else 1 for row in values.expressions}
        if len(widths) > 1:
            first = values.expressions[0]
            width = len(first.expressions) if isinstance(first, exp.Tuple) else 1
            odd = next(
                row
                for row in values.expressions
                if (len(row.expressions) if isinstance(row, exp.Tuple) else 1) != width
            )
            starts = [part.meta["start"] for part in odd.walk() if part.meta.get("start") is not None]
            raise SQLSyntaxError(
                "VALUES lists must all be the same length", position=min(starts) + 1 if starts else None
            )


def parse_explain(cursor: Cursor) -> Explain | ExplainWhy:
    """Read EXPLAIN [ANALYZE] [VERBOSE] [(options)] of a query or CREATE MATERIALIZED VIEW ... AS query; or EXPLAIN WHY."""
    start = cursor.start
    cursor.expect("explain")
    if cursor.accept("why"):
        position = cursor.position
        name = cursor.expect_object_name()
        cursor.expect_end()
        return ExplainWhy(cursor.text[start : cursor.end], start, name=name, name_position=position)
    analyze, as_json = _accept_explain_options(cursor)
    refuse_here(cursor, EXPLAIN_UNSUPPORTED)
    of_view = cursor.accept("create", "materialized", "view")
    options: StateTtl | None = None
    if of_view:
        _ = cursor.accept("if", "not", "exists")
        cursor.expect_object_name()
        options = expect_query_options(cursor) if cursor.sees("with") else None
        cursor.expect("as")
    query = with_options(parse_query(cursor, of_view=of_view), options)
    if of_view and query.emit is None:
        query = replace(query, emit=EmitMode.UPDATE)
    return Explain(cursor.text[start : cursor.end], start, query=query, as_json=as_json, analyze=analyze)


def _accept_explain_options(cursor: Cursor) -> tuple[bool, bool]:
    """Read ``[ANALYZE] [VERBOSE]`` or ``(option [value], ...)``; tell whether it is ANALYZE, and whether FORMAT JSON."""
    analyze = as_json = False
    if not cursor.accept("("):
        analyze = cursor.accept_any("analyze", "analyse") is not None
        cursor.accept("verbose")
        return analyze, as_json
    while True:
        position, option = cursor.position, cursor.accept_word()
        if option is None:
            raise cursor.error()
        value_at, value = cursor.position, cursor.accept_word() or cursor.accept_number() or cursor.accept_string()
        if option == "format":
            if value not in ("json", "text"):
                raise unsupported(f"EXPLAIN (FORMAT {(value or '').upper()})", "use TEXT or JSON", value_at)
            as_json = value == "json"
        elif option in ("analyze", "analyse"):
            analyze = value not in _NO
        elif option not in _EXPLAIN_OPTIONS:
            raise SQLSyntaxError(f'unrecognized EXPLAIN option "{option}"', position=position + 1)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return analyze, as_json


def with_options(query: Query, state_ttl: StateTtl | None) -> Query:
    """Add the options that stand before AS in CREATE MATERIALIZED VIEW. Raises SQLSyntaxError where they are given twice."""
    if state_ttl is None:
        return query
    if query.state_ttl is not None:
        raise SQLSyntaxError("state_ttl is given twice", position=query.state_ttl.position + 1)
    return replace(query, state_ttl=state_ttl)
