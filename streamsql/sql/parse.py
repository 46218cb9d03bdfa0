"""A query string to statements: the one way in.

A statement's family is found in `FAMILIES` by its first words. What only Postgres or DuckDB has is refused by the table
in `unsupported.py`; everything else is a syntax error. Queries, expressions and types are read by sqlglot's stock
parser (see `trees.py`), the rest by hand with a `Cursor`.

Rules: all statements of a text are parsed before any is executed, so one error refuses them all, as in PostgreSQL. No
exception leaves here but StreamSQLError.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot.tokens import Token, TokenType

from streamsql.base.limits import Limits, exceeded
from streamsql.sql.blocks import parse_do
from streamsql.sql.changes import parse_delete, parse_insert, parse_subscribe, parse_truncate, parse_update
from streamsql.sql.channels import parse_listen, parse_notify, parse_unlisten
from streamsql.sql.comments import parse_comment
from streamsql.sql.copying import parse_copy
from streamsql.sql.cursors import parse_close, parse_declare, parse_fetch
from streamsql.sql.definitions import (
    parse_create_plain_view,
    parse_create_stream,
    parse_create_table,
    parse_create_view,
    parse_drop,
    parse_select_statement,
)
from streamsql.sql.extensions import parse_create_extension, parse_drop_extension
from streamsql.sql.flows import parse_alter, parse_create_sink
from streamsql.sql.indexes import parse_alter_index, parse_create_index, parse_drop_index
from streamsql.sql.locks import parse_lock, parse_set_constraints
from streamsql.sql.merging import parse_merge
from streamsql.sql.nesting import check_nesting
from streamsql.sql.prepared import parse_deallocate, parse_execute, parse_prepare
from streamsql.sql.query import QUERY_WORDS, parse_explain
from streamsql.sql.roles import (
    ROLE_WORDS,
    parse_alter_object,
    parse_alter_role,
    parse_create_role,
    parse_drop_owned,
    parse_drop_role,
    parse_grant,
    parse_reassign,
    parse_revoke,
)
from streamsql.sql.schemas import parse_alter_schema, parse_create_schema, parse_drop_schema
from streamsql.sql.sequences import parse_alter_sequence, parse_create_sequence, parse_drop_sequence
from streamsql.sql.session import (
    TRANSACTION_VERBS,
    parse_describe,
    parse_discard,
    parse_refresh,
    parse_reset,
    parse_set,
    parse_show,
    parse_transaction,
    parse_verify,
)
from streamsql.sql.statements import Statement
from streamsql.sql.tokens import Cursor, tokenize
from streamsql.sql.trees import position_of
from streamsql.sql.types import parse_alter_type, parse_create_type, parse_drop_type
from streamsql.sql.unsupported import refuse_known
from streamsql.sql.upkeep import parse_analyze, parse_checkpoint, parse_cluster, parse_reindex, parse_vacuum
from streamsql.sql.values import literal_insert

__all__ = ["FAMILIES", "parse", "position_of"]

FAMILIES: dict[tuple[str, ...], Callable[[Cursor], Statement]] = {
    **{(word,): parse_select_statement for word in sorted(QUERY_WORDS)},
    **{(word,): parse_transaction for word in TRANSACTION_VERBS},
    **{("alter", word): parse_alter_role for word in ROLE_WORDS},
    **{("create", word): parse_create_role for word in ROLE_WORDS},
    **{("drop", word): parse_drop_role for word in ROLE_WORDS},
    ("alter", "index"): parse_alter_index,
    ("alter", "materialized"): parse_alter_object,
    ("alter", "schema"): parse_alter_schema,
    ("alter", "sequence"): parse_alter_sequence,
    ("alter", "sink"): parse_alter,
    ("alter", "source"): parse_alter,
    ("alter", "stream"): parse_alter,
    ("alter", "table"): parse_alter,
    ("alter", "type"): parse_alter_type,
    ("alter", "view"): parse_alter_object,
    ("analyse",): parse_analyze,
    ("analyze",): parse_analyze,
    ("checkpoint",): parse_checkpoint,
    ("close",): parse_close,
    ("cluster",): parse_cluster,
    ("comment",): parse_comment,
    ("copy",): parse_copy,
    ("create", "extension"): parse_create_extension,
    ("create", "index"): parse_create_index,
    ("create", "unique", "index"): parse_create_index,
    ("create", "materialized"): parse_create_view,
    ("create", "or", "replace", "materialized"): parse_create_view,
    ("create", "or", "replace", "view"): parse_create_plain_view,
    ("create", "view"): parse_create_plain_view,
    ("create", "schema"): parse_create_schema,
    ("create", "sequence"): parse_create_sequence,
    ("create", "sink"): parse_create_sink,
    ("create", "source"): parse_create_stream,
    ("create", "stream"): parse_create_stream,
    ("create", "table"): parse_create_table,
    ("create", "type"): parse_create_type,
    ("create", "unlogged"): parse_create_table,
    ("create", "temp"): parse_create_table,
    ("create", "temporary"): parse_create_table,
    ("create", "local"): parse_create_table,
    ("create", "global"): parse_create_table,
    ("declare",): parse_declare,
    ("deallocate",): parse_deallocate,
    ("delete",): parse_delete,
    ("desc",): parse_describe,
    ("describe",): parse_describe,
    ("discard",): parse_discard,
    ("do",): parse_do,
    ("drop",): parse_drop,
    ("drop", "extension"): parse_drop_extension,
    ("drop", "index"): parse_drop_index,
    ("drop", "owned"): parse_drop_owned,
    ("drop", "schema"): parse_drop_schema,
    ("drop", "sequence"): parse_drop_sequence,
    ("drop", "type"): parse_drop_type,
    ("execute",): parse_execute,
    ("explain",): parse_explain,
    ("fetch",): parse_fetch,
    ("grant",): parse_grant,
    ("insert",): parse_insert,
    ("listen",): parse_listen,
    ("lock",): parse_lock,
    ("merge",): parse_merge,
    ("move",): parse_fetch,
    ("notify",): parse_notify,
    ("prepare",): parse_prepare,
    ("reassign",): parse_reassign,
    ("refresh",): parse_refresh,
    ("reindex",): parse_reindex,
    ("reset",): parse_reset,
    ("revoke",): parse_revoke,
    ("set",): parse_set,
    ("set", "constraints"): parse_set_constraints,
    ("show",): parse_show,
    ("subscribe",): parse_subscribe,
    ("truncate",): parse_truncate,
    ("unlisten",): parse_unlisten,
    ("update",): parse_update,
    ("vacuum",): parse_vacuum,
    ("verify",): parse_verify,
}
_FAMILY_WORDS_MAX = max(map(len, FAMILIES))


def parse(text: str, limits: Limits) -> list[Statement]:
    """Give the statements of a query string, in order; none for a text of blanks, comments and semicolons.

    Raises StreamSQLError only: SQLSyntaxError (42601) with the place in `text`, FeatureNotSupported (0A000) for SQL
    that is known and not supported, ProgramLimitExceeded (54000), and errors about names and values that the text alone
    shows.
    """
    insert = literal_insert(text, limits)
    if insert is not None:
        return [insert]
    try:
        return [_parse_statement(Cursor(text, tokens, limits)) for tokens in _split(tokenize(text, limits))]
    except RecursionError as error:
        raise exceeded(limits, "expression_depth_max", "the nesting of a statement") from error


def _split(tokens: list[Token]) -> list[list[Token]]:
    statements: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            statements.append([])
        else:
            statements[-1].append(token)
    return [statement for statement in statements if statement]


def _parse_statement(cursor: Cursor) -> Statement:
    for length in range(_FAMILY_WORDS_MAX, -1, -1):
        words = tuple(token.text for token in cursor.tokens[:length])
        family = FAMILIES.get(words)
        if length == 0 or (family is not None and cursor.sees(*words)):
            refuse_known(cursor, length)
        if family is not None and cursor.sees(*words):
            check_nesting(cursor.tokens, cursor.limits)
            return family(cursor)
    any(cursor.accept(words[0]) for words in FAMILIES)  # CREATE: what stands behind it is wrong
    raise cursor.error()
