"""The types of columns: Postgres' names, and DuckDB's own, to the name that DuckDB's ``typeof`` prints.

The stock parser reads the type; the tables below say what it is called here. A type that stands in no table does not
exist. ``numeric`` without a precision is DECIMAL(38,10). DuckDB knows no length of varchar(n) and char(n), and no precision of
a timestamp: `declared_types` does.
"""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, StreamSQLError, UndefinedObject
from streamsql.base.types import Declared, WireType
from streamsql.sql.declared_types import declared
from streamsql.sql.names import is_word, joined, quote_name
from streamsql.sql.tokens import Cursor, syntax_error, tokenize

# sqlglot's type -> DuckDB's name
DUCKDB_TYPES: dict[exp.DType, str] = {
    exp.DType.BOOLEAN: "BOOLEAN",
    exp.DType.TINYINT: "TINYINT",
    exp.DType.SMALLINT: "SMALLINT",
    exp.DType.INT: "INTEGER",
    exp.DType.BIGINT: "BIGINT",
    exp.DType.INT128: "HUGEINT",
    exp.DType.FLOAT: "FLOAT",
    exp.DType.DOUBLE: "DOUBLE",
    exp.DType.TEXT: "VARCHAR",
    exp.DType.VARCHAR: "VARCHAR",
    exp.DType.NVARCHAR: "VARCHAR",
    exp.DType.CHAR: "VARCHAR",
    exp.DType.NCHAR: "VARCHAR",
    exp.DType.BPCHAR: "VARCHAR",
    exp.DType.NAME: "VARCHAR",
    exp.DType.JSON: "JSON",
    exp.DType.JSONB: "JSON",
    exp.DType.UUID: "UUID",
    exp.DType.BINARY: "BLOB",
    exp.DType.VARBINARY: "BLOB",
    exp.DType.BIT: "BIT",
    exp.DType.DATE: "DATE",
    exp.DType.TIME: "TIME",
    exp.DType.TIMETZ: "TIME WITH TIME ZONE",
    exp.DType.TIMESTAMP: "TIMESTAMP",
    exp.DType.DATETIME: "TIMESTAMP",
    exp.DType.TIMESTAMPTZ: "TIMESTAMP WITH TIME ZONE",
    exp.DType.INTERVAL: "INTERVAL",
}
# types that the Postgres dialect does not know, by the word that names them
DUCKDB_WORDS: dict[str, str] = {
    "hugeint": "HUGEINT",
    "uhugeint": "UHUGEINT",
    "ubigint": "UBIGINT",
    "uinteger": "UINTEGER",
    "usmallint": "USMALLINT",
    "utinyint": "UTINYINT",
    "timestamp_s": "TIMESTAMP_S",
    "timestamp_ms": "TIMESTAMP_MS",
    "timestamp_ns": "TIMESTAMP_NS",
}
# types that stand for an integer that a sequence numbers
_SERIAL = {
    "serial": "INTEGER", "serial4": "INTEGER", "bigserial": "BIGINT", "serial8": "BIGINT", "smallserial": "SMALLINT",
    "serial2": "SMALLINT",
}  # fmt: skip
_DECIMAL_DIGITS_MAX = 38
_COLUMN_ENDS = frozenset(
    {
        *("not", "null", "primary", "primary key", "default", "constraint", "unique", "check", "references"),
        *("collate", "generated", "using", "deferrable", "storage", "compression"),
    }
)


def is_column_end(token: Token) -> bool:
    """Say whether this token begins a column constraint, and so ends a type."""
    return token.token_type is not TokenType.IDENTIFIER and token.text in _COLUMN_ENDS


def accept_serial(cursor: Cursor) -> str | None:
    """Read serial or its kin, if that comes next; give DuckDB's name of the integer that it is."""
    word = cursor.peek
    if word is None or word.token_type is TokenType.IDENTIFIER or word.text not in _SERIAL:
        return None
    return _SERIAL[cursor.advance().text]


def expect_type(cursor: Cursor) -> str:
    """Read a type that users have not made, and give DuckDB's name for it; as `expect_column_type` does."""
    found, told = expect_column_type(cursor)
    if told is not None and told.named:
        raise UndefinedObject(
            f'type "{told.named}" does not exist', hint="only a built-in type can stand here", position=told.position
        )
    return found


def expect_column_type(cursor: Cursor) -> tuple[str, Declared | None]:
    """Read a type, up to the next constraint, comma, closing parenthesis or ``WITH (``; give DuckDB's name for it, and what
    that does not tell. A name that is none of a built-in type is looked up later (`plan.type_names`).

    Raises SQLSyntaxError, UndefinedObject (42704), FeatureNotSupported for serial.
    """
    first = cursor.peek
    if first is None or first.text in (",", ")"):
        raise cursor.error()
    tokens: list[Token] = []
    depth = 0
    while (token := cursor.peek) is not None:
        if depth == 0 and (token.text in (",", ")") or is_column_end(token) or cursor.sees("with", "(")):
            break
        depth += (token.text in ("(", "[", "<")) - (token.text in (")", "]", ">"))
        tokens.append(cursor.advance())
    if not tokens:
        raise cursor.error()
    if len(tokens) > 1 and tokens[-1].text == "array" and tokens[-1].token_type is not TokenType.IDENTIFIER:
        tokens = [*tokens[:-1], *tokenize("[]", cursor.limits)]  # the standard's way to write it
    return _named(cursor, tokens)


def _named(cursor: Cursor, tokens: list[Token]) -> tuple[str, Declared | None]:
    first = tokens[0]
    if first.text in ("pg_catalog", "public") and len(tokens) > 2 and tokens[1].text == ".":
        made = _made_by_user(tokens)
        if made is not None and first.text == "public" and not _is_built_in(cursor, tokens[2:]):
            return "VARCHAR", made
        tokens = tokens[2:]
        first = tokens[0]
    if first.text in _SERIAL:
        raise FeatureNotSupported(
            f"type {first.text} is for columns of tables", hint="use BIGINT", position=first.start + 1
        )
    if first.text in DUCKDB_WORDS:
        suffix = "".join(token.text for token in tokens[1:])
        if suffix.replace("[]", ""):
            raise syntax_error(cursor.text, tokens[1])
        return DUCKDB_WORDS[first.text] + suffix, None
    try:
        tree = Postgres().parser().parse_into(exp.DataType, tokens, cursor.text)[0]
    except (SqlglotError, StreamSQLError, ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        made = _made_by_user(tokens)
        if made is not None:
            return "VARCHAR", made
        if first.token_type in (TokenType.VAR, TokenType.IDENTIFIER) and (len(tokens) == 1 or tokens[1].text in "([."):
            raise _missing(cursor, tokens) from error
        raise syntax_error(cursor.text, tokens[1] if len(tokens) > 1 else first) from error
    if not isinstance(tree, exp.DataType) or not _is_known(tree):
        made = _made_by_user(tokens)
        if made is not None:
            return "VARCHAR", made
        raise _missing(cursor, tokens)
    return _duckdb_name(tree, cursor, tokens), declared(tree, first.start + 1)


def _is_known(tree: exp.DataType) -> bool:
    """Tell whether a type is a built-in one, or is made of such by itself."""
    kind, inner = tree.this, tree.expressions
    if kind is exp.DType.ARRAY and len(inner) == 1 and isinstance(inner[0], exp.DataType):
        return _is_known(inner[0])
    known = kind in DUCKDB_TYPES or kind in (exp.DType.DECIMAL, exp.DType.STRUCT, exp.DType.MAP)
    return known or isinstance(kind, exp.Interval)


def _is_built_in(cursor: Cursor, tokens: list[Token]) -> bool:
    try:
        _, told = _named(cursor, tokens)
    except StreamSQLError:
        return False
    return told is None or not told.named


def _made_by_user(tokens: list[Token]) -> Declared | None:
    """Read the name of a type that a user may have made: ``mood``, ``s.mood``, ``mood[]``; None for anything else."""
    texts = [token.text for token in tokens]
    words = 3 if len(texts) > 2 and texts[1] == "." else 1
    if not all(is_word(text) or token.token_type is TokenType.IDENTIFIER for text, token in
               zip(texts[:words:2], tokens[:words:2], strict=True)):  # fmt: skip
        return None
    rest = "".join(texts[words:])
    if not re.fullmatch(r"(\[\d*\])*|array(\[\d+\])?", rest):
        return None
    name = joined(texts[0], texts[2]) if words == 3 else joined(None, texts[0])
    made = WireType(texts[words - 1], 0, 0, -1)
    if rest:
        made = WireType("_" + made.name, 0, 0, -1, element=made)
    return Declared(made, named=name, position=tokens[0].start + 1)


def _missing(cursor: Cursor, tokens: list[Token]) -> UndefinedObject:
    first = tokens[0]
    name = cursor.text[first.start : first.end + 1].strip('"')
    return UndefinedObject(f'type "{name}" does not exist', position=first.start + 1)


def _duckdb_name(tree: exp.DataType, cursor: Cursor, tokens: list[Token]) -> str:
    kind = tree.this
    inner = tree.expressions
    if kind is exp.DType.ARRAY and len(inner) == 1 and isinstance(inner[0], exp.DataType):
        size = tree.args.get("values")
        suffix = f"[{size[0].name}]" if size else "[]"
        return _duckdb_name(inner[0], cursor, tokens) + suffix
    if kind is exp.DType.DECIMAL:
        return _decimal(tree, tokens[0].start + 1)
    if kind is exp.DType.STRUCT and inner:
        return f"STRUCT({', '.join(_field(field, cursor, tokens) for field in inner)})"
    if kind is exp.DType.MAP and len(inner) == 2:
        return f"MAP({', '.join(_duckdb_name(part, cursor, tokens) for part in inner)})"
    if isinstance(kind, exp.DType) and kind in DUCKDB_TYPES and not tree.args.get("nullable"):
        return DUCKDB_TYPES[kind]
    if isinstance(kind, exp.Interval):
        return "INTERVAL"
    raise _missing(cursor, tokens)


def _field(field: exp.Expression, cursor: Cursor, tokens: list[Token]) -> str:
    if not isinstance(field, exp.ColumnDef) or not isinstance(field.kind, exp.DataType):
        raise syntax_error(cursor.text, tokens[0])
    return f"{quote_name(field.name)} {_duckdb_name(field.kind, cursor, tokens)}"


def _decimal(tree: exp.DataType, position: int) -> str:
    digits = [part.name for part in tree.expressions]
    if not digits:
        return "DECIMAL(38,10)"
    if len(digits) > 2 or not all(part.isdecimal() for part in digits):
        raise InvalidParameterValue("invalid NUMERIC type modifier", position=position)
    precision, scale = int(digits[0][:9]), int(digits[1][:9]) if len(digits) == 2 else 0
    if not 1 <= precision <= _DECIMAL_DIGITS_MAX:
        raise InvalidParameterValue(
            f"NUMERIC precision {precision} must be between 1 and {_DECIMAL_DIGITS_MAX}", position=position
        )
    if scale > precision:
        raise InvalidParameterValue(
            f"NUMERIC scale {scale} must be between 0 and the precision {precision}", position=position
        )
    return f"DECIMAL({precision},{scale})"
