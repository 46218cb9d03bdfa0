"""Statements about whole tables: CREATE TABLE AS, TRUNCATE."""

from __future__ import annotations

from streamsql.sql.query import parse_query
from streamsql.sql.statements import CreateTableAs, Truncate
from streamsql.sql.tokens import Cursor
from streamsql.sql.trees import count_parameters
from streamsql.sql.unsupported import refuse


def accept_table_as(cursor: Cursor, name: str, *, if_not_exists: bool) -> CreateTableAs | None:
    """Read what follows the name of CREATE TABLE where it is a query: ``[(columns)] AS query [WITH [NO] DATA]``."""
    place = cursor.index
    columns: tuple[str, ...] = ()
    if cursor.sees("(") and _is_name_list(cursor):
        columns = cursor.expect_names()
    if not cursor.accept("as"):
        cursor.index = place
        return None
    data = True
    tokens = [token.text for token in cursor.tokens[-3:]]
    if tokens[-2:] == ["with", "data"]:
        cursor.tokens = cursor.tokens[:-2]
    elif tokens == ["with", "no", "data"]:
        cursor.tokens = cursor.tokens[:-3]
        data = False
    if count_parameters(cursor.rest, cursor.limits):
        refuse("a parameter in CREATE TABLE AS", "create the table, then INSERT INTO ... SELECT", cursor)
    source = cursor.source
    query = parse_query(cursor)
    if query.emit is not None:
        refuse("a continuous query in CREATE TABLE AS", "use CREATE MATERIALIZED VIEW: it is kept up to date", cursor)
    return CreateTableAs(
        *source, name=name, query=query, columns=columns, if_not_exists=if_not_exists, with_data=data
    )


def _is_name_list(cursor: Cursor) -> bool:
    """Tell whether names alone stand between the parentheses ahead, and AS behind them."""
    words = [token.text for token in cursor.rest]
    end = words.index(")") if ")" in words else -1
    return end > 0 and words[end + 1 : end + 2] == ["as"] and all(word == "," for word in words[2:end:2])


def parse_truncate(cursor: Cursor) -> Truncate:
    """Read TRUNCATE [TABLE] [ONLY] names [RESTART | CONTINUE IDENTITY] [CASCADE | RESTRICT]."""
    cursor.expect("truncate")
    cursor.accept("table")
    names: list[str] = []
    positions: list[int] = []
    while True:
        cursor.accept("only")
        positions.append(cursor.position)
        names.append(cursor.expect_object_name())
        if not cursor.accept(","):
            break
    if cursor.accept_any("restart", "continue"):  # there is no identity to restart
        cursor.expect("identity")
    cursor.accept_any("cascade", "restrict")
    cursor.expect_end()
    return Truncate(*cursor.source, names=tuple(names), name_positions=tuple(positions))
