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
from streamsql.engine.type_names import listed_types, told_type, with_types_told
from streamsql.engine.value_errors import VALUE_RULES

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

_INTERNAL_NAMES = re.compile(
    r'"?\b(?:memory|state|temp)"?\."?(?:main|public|_\w+)"?\.|\b_(?:rows|state|results|engine)\.|\bpublic\.'
)
_HIDDEN = re.compile(r"\b__\w+|\b[kop]\d+\b")


def _suggestion(name: str | None) -> str | None:
    """Make a hint of DuckDB's guess, if it is about something of the user's."""
    hidden = name is None or name.startswith(("pg_", "duckdb", "_", "information_schema", "sqlite", "pragma"))
    return None if hidden or name is None else f'did you mean "{name.removeprefix("main.")}"?'


def _no_function(m: Match) -> StreamSQLError:
    name, types = m[1], listed_types(m[2])
    hint = "no {} of that name takes these types; add a cast"
    if name.isidentifier():
        return errors.UndefinedFunction(
            f"function {name.lower()}({', '.join(types)}) does not exist", hint=hint.format("function")
        )
    shown = f"{types[0]} {name} {types[1]}" if len(types) == 2 else f"{name} {', '.join(types)}"
    return errors.UndefinedFunction(f"operator does not exist: {shown}", hint=hint.format("operator"))


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
            r"Cannot compare values of type tuple\(([^()]*)\) and type tuple\(([^()]*)\) - an explicit cast",
            lambda m: (
                errors.SQLSyntaxError("unequal number of entries in row expressions")
                if m[1].count(",") != m[2].count(",")
                else errors.DatatypeMismatch("record and record cannot be compared", hint="add a cast")
            ),
        ),
        (
            r"Subquery returns (\d+) columns - expected (\d+)",
            lambda m: errors.SQLSyntaxError(
                "subquery must return only one column"
                if m[2] == "1"
                else f"subquery has too {'few' if int(m[1]) < int(m[2]) else 'many'} columns"
            ),
        ),
        (
            r"Could not choose a best candidate function for the function call \"(\w+)\((.*?)\)\"",
            lambda m: errors.AmbiguousFunction(
                f"function {m[1].lower()}({', '.join(listed_types(m[2]))}) is not unique", hint="add a cast"
            ),
        ),
        (
            r"STAR expression is only allowed as the root element",
            lambda _: errors.SQLSyntaxError('syntax error at or near "*"'),
        ),
        (r"DISTINCT requires at least one argument", lambda _: errors.SQLSyntaxError('syntax error at or near ")"')),
        (
            r"SELECT clause without selection list",
            lambda _: errors.FeatureNotSupported("SELECT without columns is not supported", hint="select a constant"),
        ),
        (
            r"[Ii]n a DISTINCT aggregate, ORDER BY expressions must appear",
            lambda _: errors.InvalidColumnReference(
                "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list"
            ),
        ),
        (
            r"(ORDER|GROUP) BY non-integer literal",
            lambda m: errors.SQLSyntaxError(f"non-integer constant in {m[1]} BY"),
        ),
        (
            r"GROUPING (?:statement cannot be used without groups|child .* must be a grouping column)",
            lambda _: errors.GroupingError(
                "arguments to GROUPING must be grouping expressions of the associated query level"
            ),
        ),
        (
            r"[Ff]rame (starting from following row cannot have preceding rows"
            r"|starting from current row cannot have preceding rows"
            r"|start cannot be UNBOUNDED FOLLOWING|end cannot be UNBOUNDED PRECEDING)",
            lambda m: errors.WindowingError(f"frame {m[1]}"),
        ),
        (
            r"RANGE frames must have only one ORDER BY expression",
            lambda _: errors.WindowingError(
                "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column"
            ),
        ),
        (
            r"window function calls cannot be nested",
            lambda _: errors.WindowingError("window function calls cannot be nested"),
        ),
        (
            r"(GROUP BY|\w+) clause cannot contain window functions",
            lambda m: errors.WindowingError(f"window functions are not allowed in {m[1]}"),
        ),
        (
            r"window functions are not allowed in (\w+)",
            lambda m: errors.WindowingError(f"window functions are not allowed in {m[1]}"),
        ),
        (
            r"(cannot override .*? clause of window \".*?\")",
            lambda m: errors.WindowingError(m[1]),
        ),
        (
            r"INSERT statement cannot contain aggregates",
            lambda _: errors.GroupingError("aggregate functions are not allowed in VALUES"),
        ),
        (
            r"aggregate functions are not allowed in (\w+)",
            lambda m: errors.GroupingError(f"aggregate functions are not allowed in {m[1]}"),
        ),
        (
            r"[Aa]ggregate functions are not supported here",
            lambda _: errors.GroupingError("aggregate functions are not allowed here"),
        ),
        (
            r"[Cc]olumn \"(.*?)\" does not exist on (left|right) side of join",
            lambda m: errors.UndefinedColumn(
                f'column "{m[1]}" specified in USING clause does not exist in {m[2]} table'
            ),
        ),
        (
            r"(table \".*?\" has \d+ columns available but \d+ columns specified)",
            lambda m: errors.InvalidColumnReference(m[1]),
        ),
        (
            r"Column \"?(.*?)\"? referenced that exists in the SELECT clause",
            lambda m: errors.UndefinedColumn(f'column "{m[1]}" does not exist'),
        ),
        (
            r"[Rr]eferenced column \"?(\w+)\"? not found in FROM clause",
            lambda m: errors.UndefinedColumn(f'column "{m[1]}" does not exist'),
        ),
        (
            r"Column \"(.*?)\" in (?:EXCLUDE|REPLACE|RENAME) list not found",
            lambda m: errors.UndefinedColumn(f'column "{m[1]}" does not exist'),
        ),
        (
            r"No matching columns found that match regex \"(.*?)\"",
            lambda m: errors.UndefinedColumn(f'no column matches "{m[1]}"'),
        ),
        (
            r"Failed to compile regex \".*?\": ([^\n]*)",
            lambda m: errors.InvalidRegularExpression(f"invalid regular expression: {_regex_fault(m[1])}"),
        ),
        (
            r"[Cc]ircular reference to CTE \"(.*?)\"",
            lambda m: errors.InvalidRecursion(
                f'recursive query "{m[1]}" does not have the form non-recursive-term UNION [ALL] recursive-term'
            ),
        ),
        (
            r"Cannot extract field '(.*?)' from expression",
            lambda m: errors.WrongObjectType(
                f"column notation .{m[1]} applied to a value that is not of a composite type"
            ),
        ),
        (
            r"UNNEST - unsupported extra argument|UNNEST requires a single list or array as input",
            lambda _: errors.UndefinedFunction("function unnest takes one array", hint="add a cast"),
        ),
        (
            r"UNNEST not supported here",
            lambda _: errors.FeatureNotSupported("set-returning functions are not allowed here"),
        ),
        (
            r"[Cc]ould not find key \"(.*?)\" in struct",
            lambda m: errors.UndefinedColumn(f'could not identify column "{m[1]}" in record data type'),
        ),
        (
            r"ORDER BY in a recursive query is not allowed",
            lambda _: errors.FeatureNotSupported("ORDER BY in a recursive query is not implemented"),
        ),
        (
            r"Missing ASOF JOIN inequality",
            lambda _: errors.SQLSyntaxError("the condition of an ASOF JOIN must have an inequality"),
        ),
        (
            r'column "([^"]+)" must appear in the GROUP BY clause',
            lambda m: errors.GroupingError(
                f'column "{m[1]}" must appear in the GROUP BY clause or be used in an aggregate function'
            ),
        ),
        (
            r"[Uu]nimplemented type for cast \((.+?) -> ([^\n]+)\)",
            lambda m: errors.CannotCoerce(f"cannot cast type {told_type(m[1])} to {told_type(m[2])}"),
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
                f"{told_type(m[1])} and {told_type(m[2])} cannot be compared", hint="add a cast"
            ),
        ),
        (
            r"[Cc]annot compare values of type (.+?) and (.+?) in IN/ANY/ALL clause",
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {told_type(m[1])} = {told_type(m[2])}",
                hint="no operator of that name takes these types; add a cast",
            ),
        ),
        *VALUE_RULES,
        # constraints
        (
            r'Duplicate key "(.*?)" violates (primary key|unique) constraint',
            lambda m: errors.UniqueViolation(
                f"duplicate key value violates {m[2]} constraint", detail=f"Key ({m[1]}) already exists."
            ),
        ),
        (r"[Dd]uplicate key", lambda _: errors.UniqueViolation("duplicate key value violates unique constraint")),
        (
            r'NOT NULL constraint failed: (?:[^\n]*\.)?"?([^".\n]+)"?(?:\n|$)',
            lambda m: errors.NotNullViolation(f'null value in column "{m[1]}" violates not-null constraint'),
        ),
        # what a function or clause takes
        (
            r"UNNEST\(\) can only be applied to lists, structs and NULL, not (\S+)",
            lambda m: errors.UndefinedFunction(f"function unnest({told_type(m[1])}) does not exist"),
        ),
        (
            r'Could not choose a best candidate function for the function call "(\W+)\((\S+), (\S+)\)"',
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {told_type(m[2])} {m[1]} {told_type(m[3])}", hint="add a cast"
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
            r"Cannot cast STRUCTs of different size",
            lambda _: errors.SQLSyntaxError("unequal number of entries in row expressions"),
        ),
        (
            r"Cannot concatenate lists of types (\S+) and (\S+)",
            lambda m: errors.UndefinedFunction(
                f"operator does not exist: {told_type(m[1])} || {told_type(m[2])}", hint="add a cast"
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
    return made(_cleaned(rest.partition("\n")[0]))


# advice of DuckDB's about its own SQL and settings, up to the end of the line
_ADVICE = re.compile(
    r"\s*[-.;,!:]\s+(?:an explicit cast is required|(?:please )?add(?:ing)? (?:an )?explicit"
    r"|in order to (?:select|use|enable)|use (?!of\b)|please\b|try (?:using|to)\b|consider\b|did you mean|candidate"
    r"|you (?:can|may|might|need)\b|set \w+\s*=|SET\b|PRAGMA\b|LINE \d).*$",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<!\w)/\w+/|\w\.(?:duckdb|cpp|hpp|db)\b|https?://")


def _cleaned(line: str) -> str:
    """Give a line of DuckDB's without its advice, its names of types, and names and places that are the server's own."""
    line = _ADVICE.sub("", _INTERNAL_NAMES.sub("", line)).strip()
    if not line or _HIDDEN.search(line) or _PATH.search(line):
        return "the statement cannot be executed"
    return with_types_told(_lower_first(line.rstrip(".!")))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
