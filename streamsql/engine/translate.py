"""DuckDB's errors as the errors that a client sees: a SQLSTATE by a table, the message in Postgres' words.

DuckDB tells its errors apart by class and by the wording of the message; both are looked up in the tables below, and
what they do not know keeps DuckDB's first line under the class's SQLSTATE. Internal names (``__delta``, ``_rows.``) are
taken out of messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb

from streamsql.base import errors
from streamsql.base.errors import StreamSQLError

_BY_CLASS: dict[str, type[StreamSQLError]] = {
    "ParserException": errors.SQLSyntaxError,
    "SyntaxException": errors.SQLSyntaxError,
    "CatalogException": errors.UndefinedTable,
    "BinderException": errors.DatatypeMismatch,
    "ConversionException": errors.InvalidTextRepresentation,
    "OutOfRangeException": errors.NumericOutOfRange,
    "ConstraintException": errors.IntegrityError,
    "NotImplementedException": errors.FeatureNotSupported,
    "PermissionException": errors.InsufficientPrivilege,
    "InvalidInputException": errors.InvalidParameterValue,
    "InterruptException": errors.QueryCanceled,
    "OutOfMemoryException": errors.OutOfMemory,
    "TypeMismatchException": errors.DatatypeMismatch,
    "InvalidTypeException": errors.DatatypeMismatch,
}

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], StreamSQLError]]


def _rule(pattern: str, make: Callable[[re.Match[str]], StreamSQLError]) -> Rule:
    return re.compile(pattern, re.DOTALL), make


_BY_MESSAGE: tuple[Rule, ...] = (
    _rule(
        r"Table with name (\S+) does not exist!(?:\s*Did you mean \"([^\"]+)\")?",
        lambda m: errors.UndefinedTable(
            f'relation "{m[1]}" does not exist',
            hint=f'did you mean "{m[2]}"?' if m[2] and not m[2].startswith(("pg_", "duckdb", "_")) else None,
        ),
    ),
    _rule(
        r'Referenced table "([^"]+)" not found',
        lambda m: errors.UndefinedTable(f'missing FROM-clause entry for table "{m[1]}"'),
    ),
    _rule(
        r'Referenced column "([^"]+)" not found in FROM clause!(?:\s*Candidate bindings: (.*?)(?:\n|$))?',
        lambda m: errors.UndefinedColumn(
            f'column "{m[1]}" does not exist', hint=f"columns that there are: {m[2]}" if m[2] else None
        ),
    ),
    _rule(
        r'(?:Table|Values list) "([^"]+)" does not have a column named "([^"]+)"',
        lambda m: errors.UndefinedColumn(f"column {m[1]}.{m[2]} does not exist"),
    ),
    _rule(
        r'Ambiguous reference to column name "([^"]+)"',
        lambda m: errors.AmbiguousColumn(f'column reference "{m[1]}" is ambiguous'),
    ),
    _rule(
        r'column "([^"]+)" must appear in the GROUP BY clause',
        lambda m: errors.GroupingError(
            f'column "{m[1]}" must appear in the GROUP BY clause or be used in an aggregate function'
        ),
    ),
    _rule(
        r"(?:Scalar|Aggregate|Table) Function with name \"?(\w+)\"? does not exist!(?:\s*Did you mean \"([^\"]+)\")?",
        lambda m: errors.UndefinedFunction(
            f"function {m[1]} does not exist", hint=f'did you mean "{m[2]}"?' if m[2] else None
        ),
    ),
    _rule(
        r"No function matches the given name and argument types '([^']+)'",
        lambda m: errors.UndefinedFunction(
            f"function {m[1].lower()} does not exist", hint="no function of that name takes these types; add a cast"
        ),
    ),
    _rule(
        r"Could not convert string '(.*?)' to (\w+)",
        lambda m: errors.InvalidTextRepresentation(f'invalid input syntax for type {_type(m[2])}: "{m[1]}"'),
    ),
    _rule(
        r"(?:invalid|Invalid) (?:date|timestamp|time) (?:field|format|value).*?\"(.*?)\"",
        lambda m: errors.InvalidDatetime(f'invalid input syntax for type timestamp: "{m[1]}"'),
    ),
    _rule(
        r"(?:date|timestamp|time) field value out of range: \"(.*?)\"",
        lambda m: errors.InvalidDatetime(f'date/time field value out of range: "{m[1]}"'),
    ),
    _rule(
        r"Type (\w+) with value (\S+) can't be cast.*destination type (\w+)",
        lambda m: errors.NumericOutOfRange(f'value "{m[2]}" is out of range for type {_type(m[3])}'),
    ),
    _rule(r"Type with name (\S+) does not exist", lambda m: errors.UndefinedObject(f'type "{m[1]}" does not exist')),
    _rule(r"[Dd]uplicate key", lambda m: errors.UniqueViolation("duplicate key value violates unique constraint")),
    _rule(
        r"NOT NULL constraint failed: (?:\S+\.)?(\w+)",
        lambda m: errors.NotNullViolation(f'null value in column "{m[1]}" violates not-null constraint'),
    ),
    _rule(
        r"[Oo]verflow",
        lambda m: errors.NumericOutOfRange("numeric value out of range"),
    ),
    _rule(
        r"file system operations are disabled|external (?:extensions|access)",
        lambda m: errors.InsufficientPrivilege("permission denied: SQL cannot reach files, networks or extensions"),
    ),
    _rule(r"(?:No space left|Could not write|disk (?:is )?full)", lambda m: errors.DiskFull("the disk is full")),
)

_TYPE_NAMES = {
    "INT8": "smallint", "INT16": "smallint", "INT32": "integer", "INT64": "bigint", "INT128": "numeric",
    "TINYINT": "smallint", "SMALLINT": "smallint", "INTEGER": "integer", "BIGINT": "bigint", "HUGEINT": "numeric",
    "DOUBLE": "double precision", "FLOAT": "real", "BOOLEAN": "boolean", "BOOL": "boolean", "VARCHAR": "text",
    "TIMESTAMP": "timestamp", "DATE": "date", "UUID": "uuid", "DECIMAL": "numeric", "INTERVAL": "interval",
}  # fmt: skip

_INTERNAL = re.compile(r"(?:_rows|_state|_results|_engine|public)\.|__delta\.?|\n*LINE \d+:.*", re.DOTALL)


def _type(name: str) -> str:
    return _TYPE_NAMES.get(name.upper(), name.lower())


def translate(error: duckdb.Error) -> StreamSQLError:
    """Give the client's error for one of DuckDB's."""
    text = str(error)
    name = type(error).__name__
    if name == "InterruptException":
        return errors.QueryCanceled("canceling statement due to user request")
    for pattern, make in _BY_MESSAGE:
        found = pattern.search(text)
        if found:
            return make(found)
    message = _INTERNAL.sub("", text).strip()
    _, colon, rest = message.partition(" Error: ")
    first_line, _, others = (rest if colon else message).partition("\n")
    made = _BY_CLASS.get(name, errors.InternalError)
    return made(_lower_first(first_line.rstrip(".!")), detail=others.strip() or None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
