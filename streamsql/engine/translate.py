"""DuckDB's errors as the errors that a client sees: a SQLSTATE by a table, the message in Postgres' words.

DuckDB tells its errors apart by the words before "Error:" and by the wording of the message; both are looked up in the
tables below. What they do not know keeps DuckDB's first line, under the SQLSTATE of its kind, without internal names and
without advice to change settings that a client cannot change. Errors of DuckDB's own making say nothing of their inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import duckdb

from streamsql.base import errors
from streamsql.base.errors import StreamSQLError

Match = re.Match[str]
Rule = tuple[re.Pattern[str], Callable[[Match], StreamSQLError]]

# the words before " Error: " -> the error of what no rule knows
_KINDS: dict[str, type[StreamSQLError]] = {
    "Binder": errors.SQLSyntaxError,
    "Catalog": errors.UndefinedObject,
    "Constraint": errors.IntegrityError,
    "Conversion": errors.DataError,
    "Invalid Input": errors.InvalidParameterValue,
    "Invalid type": errors.DatatypeMismatch,
    "Mismatch Type": errors.DatatypeMismatch,
    "Not implemented": errors.FeatureNotSupported,
    "Out of Memory": errors.OutOfMemory,
    "Out of Range": errors.NumericOutOfRange,
    "Parser": errors.SQLSyntaxError,
    "Permission": errors.InsufficientPrivilege,
    "Syntax": errors.SQLSyntaxError,
}

# which column that was, in names that may be the engine's own
_SOURCE = r"(?: when casting from source column \S+)?"

_TYPE_NAMES = {
    "BIGINT": "bigint",
    "BLOB": "bytea",
    "BOOL": "boolean",
    "DECIMAL": "numeric",
    "DOUBLE": "double precision",
    "FLOAT": "real",
    "HUGEINT": "numeric",
    "INT128": "numeric",
    "INT16": "smallint",
    "INT32": "integer",
    "INT64": "bigint",
    "INT8": "smallint",
    "INTEGER_LITERAL": "integer",
    "STRING_LITERAL": "unknown",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMPTZ": "timestamp with time zone",
    "TINYINT": "smallint",
    "VARCHAR": "text",
}
_INTERNAL_NAMES = re.compile(
    r'"?\b(?:memory|state|temp)"?\."?(?:main|public|_\w+)"?\.|\b_(?:rows|state|results|engine)\.|\bpublic\.'
)
_HIDDEN = re.compile(r"\b__\w+|\b[kop]\d+\b")


def type_name(duckdb_type: str) -> str:
    """Give Postgres' name of a DuckDB type, as it is shown to people."""
    base, bracket, rest = duckdb_type.strip().partition("[")
    name, parenthesis, arguments = base.partition("(")
    shown = _TYPE_NAMES.get(name.strip().upper(), name.strip().lower())
    return f"{shown}{parenthesis}{arguments}{bracket}{rest}"


def _suggestion(name: str | None) -> str | None:
    """Make a hint of DuckDB's guess, if it is about something of the user's."""
    hidden = name is None or name.startswith(("pg_", "duckdb", "_", "information_schema", "sqlite", "pragma"))
    return None if hidden else f'did you mean "{name}"?'


def _no_function(m: Match) -> StreamSQLError:
    name, types = m[1], [type_name(t) for t in re.split(r",\s*(?![^(]*\))", m[2])] if m[2] else []
    hint = "no {} of that name takes these types; add a cast"
    if name.isidentifier():
        return errors.UndefinedFunction(
            f"function {name.lower()}({', '.join(types)}) does not exist", hint=hint.format("function")
        )
    shown = f"{types[0]} {name} {types[1]}" if len(types) == 2 else f"{name} {', '.join(types)}"
    return errors.UndefinedFunction(f"operator does not exist: {shown}", hint=hint.format("operator"))


def _unreadable(m: Match) -> StreamSQLError:
    text, name = m[1], type_name(m[2])
    if name in {"smallint", "integer", "bigint", "numeric"} and re.fullmatch(r"[+-]?\d+", text.strip()):
        return errors.NumericOutOfRange(f'value "{text}" is out of range for type {name}')
    if name.startswith("numeric(") and re.fullmatch(r"[+-]?(?:inf|[\d.]+(?:[eE][+-]?\d+)?)", text.strip()):
        return errors.NumericOutOfRange("numeric field overflow", detail=f"{text} does not fit {name}")
    return errors.InvalidTextRepresentation(f'invalid input syntax for type {name}: "{text}"')


def _raised(m: Match) -> StreamSQLError:
    """Make the error that an expression of ours raised, which says its SQLSTATE itself."""
    return _BY_SQLSTATE[m[1]](m[2])


_BY_SQLSTATE: dict[str, type[StreamSQLError]] = {
    kind.sqlstate: kind
    for kind in (
        errors.DatetimeFieldOverflow, errors.FeatureNotSupported, errors.InvalidBucketCount, errors.InvalidLogarithmArgument,
        errors.InvalidParameterValue, errors.InvalidPowerArgument, errors.NumericOutOfRange, errors.ProgramLimitExceeded,
        errors.SubstringError, errors.InvalidTextRepresentation, errors.DivisionByZero, errors.CheckViolation,
        errors.StringDataRightTruncation,
    )
}  # fmt: skip
_REGEX_FAULTS = (
    r"missing [\])}]|no argument for repetition operator|invalid (?:perl operator|escape sequence|character class|named "
    r"capture|repetition|UTF-8)|bad repetition operator|unexpected \)|trailing \\|invalid regexp"
)


# RE2's words and PostgreSQL's
_REGEX_WORDS = {
    "missing )": "parentheses () not balanced",
    "unexpected )": "parentheses () not balanced",
    "missing ]": "brackets [] not balanced",
    "missing }": "braces {} not balanced",
    "no argument for repetition operator": "quantifier operand invalid",
    "bad repetition operator": "quantifier operand invalid",
    "invalid repetition": "invalid repetition count(s)",
    "trailing \\": "invalid escape \\ sequence",
    "invalid escape sequence": "invalid escape \\ sequence",
    "invalid character class": "invalid character class",
}


def _regex_fault(words: str) -> str:
    return next((told for known, told in _REGEX_WORDS.items() if words.startswith(known)), words)


_RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern, re.DOTALL), make)
    for pattern, make in (
        (r"Error: \{(\w{5})\} ([^\n]*)", _raised),
        (
            rf"Invalid Input Error: ((?:{_REGEX_FAULTS})[^\n]*)",
            lambda m: errors.InvalidRegularExpression(f"invalid regular expression: {_regex_fault(m[1])}"),
        ),
        # names
        (
            r"Table with name \"?([^\s\"]+)\"? does not exist(?:!\s*Did you mean \"([^\"]+)\")?",
            lambda m: errors.UndefinedTable(f'relation "{m[1]}" does not exist', hint=_suggestion(m[2])),
        ),
        (
            r'Referenced table "([^"]+)" not found',
            lambda m: errors.UndefinedTable(f'missing FROM-clause entry for table "{m[1]}"'),
        ),
        (
            r'Referenced column "([^"]+)" (?:not found in FROM clause|was not found because the FROM clause is missing)',
            lambda m: errors.UndefinedColumn(f'column "{m[1]}" does not exist'),
        ),
        (
            r'(?:Table|Values list) "([^"]+)" does not have a column named "([^"]+)"',
            lambda m: errors.UndefinedColumn(f"column {m[1]}.{m[2]} does not exist"),
        ),
        (
            r'Ambiguous reference to column name "([^"]+)"',
            lambda m: errors.AmbiguousColumn(f'column reference "{m[1]}" is ambiguous'),
        ),
        (
            r'Ambiguous reference to table "(?:[^"]*\.)?([^".]+)"',
            lambda m: errors.DuplicateAlias(f'table name "{m[1]}" specified more than once'),
        ),
        (
            r"[Ff]unction with name \"?(\w+)\"? does not exist(?:!\s*Did you mean \"([^\"]+)\")?",
            lambda m: errors.UndefinedFunction(f"function {m[1]} does not exist", hint=_suggestion(m[2])),
        ),
        (
            r'Function "(\w+)" is a table function but it was used as a scalar',
            lambda m: errors.UndefinedFunction(f"function {m[1]} does not exist"),
        ),
        (r"No function matches the given name and argument types '([^(]+)\((.*?)\)'\.", _no_function),
        (
            r"Type with name (\S+) does not exist",
            lambda m: errors.UndefinedObject(f'type "{m[1].rstrip("!")}" does not exist'),
        ),
        (
            r"Collation with name (\S+) does not exist",
            lambda m: errors.UndefinedObject(f'collation "{m[1].rstrip("!")}" does not exist'),
        ),
        # shapes
        (
            r'column "([^"]+)" must appear in the GROUP BY clause',
            lambda m: errors.GroupingError(
                f'column "{m[1]}" must appear in the GROUP BY clause or be used in an aggregate function'
            ),
        ),
        (
            r"[Uu]nimplemented type for cast \((.+?) -> (.+?)\)",
            lambda m: errors.CannotCoerce(f"cannot cast type {type_name(m[1])} to {type_name(m[2])}"),
        ),
        (
            r"(GROUP BY|\w+) clause cannot contain aggregates",
            lambda m: errors.GroupingError(f"aggregate functions are not allowed in {m[1]}"),
        ),
        (
            r"aggregate function calls cannot be nested",
            lambda _: errors.GroupingError("aggregate function calls cannot be nested"),
        ),
        (
            r"(GROUP BY|ORDER)(?: BY)? term out of range",
            lambda m: errors.InvalidColumnReference(f"{m[1].removesuffix(' BY')} BY position is not in select list"),
        ),
        (
            r"Set operations can only apply to expressions with the same number of result columns",
            lambda _: errors.SQLSyntaxError(
                "each UNION, INTERSECT or EXCEPT query must have the same number of columns"
            ),
        ),
        (
            r"Subquery returns \d+ columns - expected 1",
            lambda _: errors.SQLSyntaxError("subquery must return only one column"),
        ),
        (
            r"More than one row returned by a subquery",
            lambda _: errors.CardinalityViolation("more than one row returned by a subquery used as an expression"),
        ),
        (
            r"\* expression without FROM clause",
            lambda _: errors.SQLSyntaxError("SELECT * with no tables specified is not valid"),
        ),
        (
            r"LIMIT/OFFSET cannot be negative",
            lambda _: errors.InvalidRowCount("LIMIT must not be negative"),
        ),
        (
            r"Cannot compare values of type (.+?) and type (.+?) - an explicit cast is required",
            lambda m: errors.DatatypeMismatch(
                f"{type_name(m[1])} and {type_name(m[2])} cannot be compared", hint="add a cast"
            ),
        ),
        (
            r"[Cc]annot compare values of type (.+?) and (.+?) in IN/ANY/ALL clause",
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {type_name(m[1])} = {type_name(m[2])}",
                hint="no operator of that name takes these types; add a cast",
            ),
        ),
        # values
        (rf"Could not convert string ['\"](.*?)['\"] to (.+?){_SOURCE}(?:\n|$)", _unreadable),
        (
            rf"Type VARCHAR with value '(.*?)' can't be cast to the destination type (.+?){_SOURCE}(?:\n|$)",
            lambda m: errors.InvalidTextRepresentation(f'invalid input syntax for type {type_name(m[2])}: "{m[1]}"'),
        ),
        (
            r"invalid (date|timestamp|time) (?:field|format|value).*?\"(.*?)\"",
            lambda m: errors.InvalidDatetime(f'invalid input syntax for type {m[1]}: "{m[2]}"'),
        ),
        (
            r"(?:date|timestamp|time) field value out of range: \"(.*?)\"",
            lambda m: errors.DatetimeFieldOverflow(f'date/time field value out of range: "{m[1]}"'),
        ),
        (
            r"(?:Timestamp|Date|Time)\w* .*out of range",
            lambda _: errors.DatetimeFieldOverflow("date/time value out of range"),
        ),
        (
            r"Type \w+ with value (\S+) can't be cast.*destination type (\w+)",
            lambda m: errors.NumericOutOfRange(f"{type_name(m[2])} out of range", detail=f"the value is {m[1]}"),
        ),
        (
            r'Casting value "(\S+)" to type (DECIMAL\(\d+,\d+\)) failed: value is out of range',
            lambda m: errors.NumericOutOfRange(
                "numeric field overflow", detail=f"{m[1]} does not fit {type_name(m[2])}"
            ),
        ),
        (
            r"Could not cast value (\S+) to (DECIMAL\(\d+,\d+\))",
            lambda m: errors.NumericOutOfRange(
                "numeric field overflow", detail=f"{m[1]} does not fit {type_name(m[2])}"
            ),
        ),
        (
            r'Could not parse string "(.*?)" according to format specifier',
            lambda m: errors.InvalidDatetime(f'invalid value "{m[1]}" for the pattern'),
        ),
        (
            r"(?:Cannot mix|cannot compare) values of type (\S+) and (\S+) in (\w+)",
            lambda m: errors.DatatypeMismatch(
                f"{m[3]} types {type_name(m[1])} and {type_name(m[2])} cannot be matched", hint="add a cast"
            ),
        ),
        (
            r"Cannot concatenate types (\S+) and (\S+)",
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {type_name(m[1])} || {type_name(m[2])}", hint="add a cast"
            ),
        ),
        (
            r"[Ii]nterval cannot be 0",
            lambda _: errors.InvalidParameterValue("step size cannot equal zero"),
        ),
        (r"Malformed JSON", lambda _: errors.InvalidTextRepresentation("invalid input syntax for type json")),
        (
            r'extract specifier "(.*?)" not recognized',
            lambda m: errors.InvalidParameterValue(f'unit "{m[1]}" not recognized'),
        ),
        (r"[Dd]ivision by zero", lambda _: errors.DivisionByZero("division by zero")),
        (
            r"Overflow in \w+ of (\w+)",
            lambda m: errors.NumericOutOfRange(f"{type_name(m[1])} out of range"),
        ),
        (r"[Oo]verflow", lambda _: errors.NumericOutOfRange("numeric value out of range")),
        # constraints
        (
            r'Duplicate key "(.*?)" violates (primary key|unique) constraint',
            lambda m: errors.UniqueViolation(
                f"duplicate key value violates {m[2]} constraint", detail=f"Key ({m[1]}) already exists."
            ),
        ),
        (r"[Dd]uplicate key", lambda _: errors.UniqueViolation("duplicate key value violates unique constraint")),
        (
            r"NOT NULL constraint failed: (?:\S+\.)?(\w+)",
            lambda m: errors.NotNullViolation(f'null value in column "{m[1]}" violates not-null constraint'),
        ),
        # what a function or clause takes
        (
            r"UNNEST\(\) can only be applied to lists, structs and NULL, not (\S+)",
            lambda m: errors.UndefinedFunction(f"function unnest({type_name(m[1])}) does not exist"),
        ),
        (
            r'Could not choose a best candidate function for the function call "(\W+)\((\S+), (\S+)\)"',
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {type_name(m[2])} {m[1]} {type_name(m[3])}", hint="add a cast"
            ),
        ),
        (
            r"json_object\(\) requires an even number of arguments",
            lambda _: errors.InvalidParameterValue("argument list must have even number of elements"),
        ),
        (
            r"Expected ARRAY, but got (\w+)",
            lambda m: errors.InvalidParameterValue(
                f"cannot extract elements from {'an object' if m[1] == 'OBJECT' else 'a scalar'}"
            ),
        ),
        (
            r'[Ff]unction "(\w+)" is a Scalar Function',
            lambda m: errors.WrongObjectType(
                f"DISTINCT, FILTER or ORDER BY specified, but {m[1]} is not an aggregate function"
            ),
        ),
        (
            r"(?:Error: )\"?(\w+)\"? is not an aggregate function",
            lambda m: errors.WrongObjectType(
                f"OVER specified, but {m[1]} is not a window function nor an aggregate function"
            ),
        ),
        (
            r'unrecognized value "(\w+)" for enum "SampleMethod"',
            lambda m: errors.UndefinedObject(f"tablesample method {m[1].lower()} does not exist"),
        ),
        (
            r"PERCENTILEs can only take parameters in the range",
            lambda _: errors.NumericOutOfRange("percentile value is not between 0 and 1"),
        ),
        (
            r"Cannot cast STRUCTs of different size",
            lambda _: errors.SQLSyntaxError("unequal number of entries in row expressions"),
        ),
        (
            r"Cannot concatenate lists of types (\S+) and (\S+)",
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {type_name(m[1])} || {type_name(m[2])}", hint="add a cast"
            ),
        ),
        (
            r"Unknown TimeZone '(.*?)'",
            lambda m: errors.InvalidParameterValue(f'time zone "{m[1]}" not recognized'),
        ),
        (
            r"Macro (\w+)\(\) does not support the supplied arguments",
            lambda m: errors.UndefinedFunction(f"function {m[1]} does not exist"),
        ),
        (
            r"Invalid input for hex digit: (.)",
            lambda m: errors.InvalidParameterValue(f'invalid hexadecimal digit: "{m[1]}"'),
        ),
        (
            r"Invalid UTF8 Codepoint",
            lambda _: errors.ProgramLimitExceeded("requested character not valid for encoding"),
        ),
        # the machine
        (
            r"file system operations are disabled|external (?:extensions|access)|configuration has been locked",
            lambda _: errors.InsufficientPrivilege("permission denied: SQL cannot reach files, networks or extensions"),
        ),
        (r"No space left|Could not write|disk (?:is )?full", lambda _: errors.DiskFull("the disk is full")),
    )
)


def translate(error: duckdb.Error) -> StreamSQLError:
    """Give the client's error for one of DuckDB's."""
    return translate_text(str(error))


def translate_text(text: str) -> StreamSQLError:
    """Give the client's error for the text of one of DuckDB's, which is all that comes through Arrow."""
    kind, separator, rest = text.partition(" Error: ")
    if kind == "INTERRUPT" or "Interrupted!" in rest[:20]:
        return errors.QueryCanceled("canceling statement due to user request")
    for pattern, make in _RULES:
        found = pattern.search(text)
        if found:
            return make(found)
    made = _KINDS.get(kind.rpartition(": ")[2] if separator else "")
    if made is None:
        return errors.InternalError("internal error", hint="see the server's log")
    line = _INTERNAL_NAMES.sub("", rest.partition("\n")[0]).strip()
    if _HIDDEN.search(line):
        line = "the statement cannot be executed"
    return made(_lower_first(line.rstrip(".!")))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
