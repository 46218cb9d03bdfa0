"""DuckDB's errors about values as PostgreSQL's: what cannot be read, computed or compared. `translate` asks for them.

A rule is a pattern in DuckDB's text and what makes the client's error of it; the first that fits counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from streamsql.base import errors
from streamsql.base.errors import StreamSQLError
from streamsql.engine.type_names import told_type, type_name

Match = re.Match[str]

# which column that was, in names that may be the engine's own
_SOURCE = r"(?: when casting from source column \S+)?"


def _unreadable(m: Match) -> StreamSQLError:
    text, name = m[1], type_name(m[2])
    told = told_type(m[2])
    if name == "interval":
        return errors.InvalidDatetime(f'invalid input syntax for type interval: "{text}"')
    if name in {"smallint", "integer", "bigint", "numeric"} and re.fullmatch(r"[+-]?\d+", text.strip()):
        return errors.NumericOutOfRange(f'value "{text}" is out of range for type {told}')
    if name.startswith("numeric(") and re.fullmatch(r"[+-]?(?:inf|[\d.]+(?:[eE][+-]?\d+)?)", text.strip()):
        return errors.NumericOutOfRange("numeric field overflow", detail=f"{text} does not fit {name}")
    return errors.InvalidTextRepresentation(f'invalid input syntax for type {told}: "{text}"')


def _of_json(value: str) -> str:
    """Name the kind of a JSON value."""
    kinds = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}
    return kinds.get(value.strip()[:1], "value")


VALUE_RULES: tuple[tuple[str, Callable[[Match], StreamSQLError]], ...] = (
    (
        r"with value -\d+ can't be cast.*destination type UINT64",
        lambda _: errors.InvalidRowCount("LIMIT must not be negative"),
    ),
    (
        r"Failed to cast decimal value \S+ to type (\w+)",
        lambda m: errors.NumericOutOfRange(f"{told_type(m[1])} out of range"),
    ),
    (
        r"DECIMAL type width must be between|Type \"DECIMAL\" does not accept type parameters",
        lambda _: errors.InvalidParameterValue("NUMERIC precision must be between 1 and 38"),
    ),
    (
        r"DECIMAL type scale cannot be greater than width",
        lambda _: errors.InvalidParameterValue("NUMERIC scale must be between 0 and its precision"),
    ),
    (
        r"[Ii]nvalid escape string",
        lambda _: errors.InvalidEscapeSequence("invalid escape string", hint="write one character, or none"),
    ),
    (
        r"[Ll]ike pattern must not end with escape character",
        lambda _: errors.InvalidEscapeSequence("LIKE pattern must not end with escape character"),
    ),
    (
        r"[Cc]annot combine types (?:of )?(.+?) and (.+?) - an explicit",
        lambda m: errors.DatatypeMismatch(
            f"types {told_type(m[1])} and {told_type(m[2])} cannot be matched", hint="add a cast"
        ),
    ),
    (
        r"[Cc]annot unpivot columns of types (.+?) and (.+?) - an explicit",
        lambda m: errors.DatatypeMismatch(
            f"UNPIVOT types {told_type(m[1])} and {told_type(m[2])} cannot be matched", hint="add a cast"
        ),
    ),
    (
        r"Cannot deduce template type '\w+' in function: 'list_value\(",
        lambda _: errors.DatatypeMismatch("ARRAY types cannot be matched", hint="add a cast"),
    ),
    (
        r"Cannot deduce template type '\w+' in function: '(\w+)\(",
        lambda m: errors.UndefinedFunction(f"function {m[1]} does not take values of these types", hint="add a cast"),
    ),
    (
        r"Cannot deduce template type '\w+' in function: '(\W+)\(",
        lambda m: errors.UndefinedFunction(
            f"operator does not exist: {m[1]} of arrays of these types", hint="add a cast"
        ),
    ),
    (
        r"(\w+)\(\) argument type must be STRUCT",
        lambda m: errors.UndefinedFunction(f"function {m[1]} takes a record"),
    ),
    (
        r"[Ii]nvalid LIST argument",
        lambda _: errors.DatatypeMismatch("an array is needed here", hint="add a cast"),
    ),
    (
        r"Invalid type specifier \"d\" for formatting a value of type string",
        lambda _: errors.InvalidTextRepresentation("invalid input syntax for type integer"),
    ),
    (
        r'"(\w+)" units "(\w+)" not recognized',
        lambda m: errors.FeatureNotSupported(f'unit "{m[2].lower()}" not supported for type {told_type(m[1])}'),
    ),
    (
        r"Can't bucket using (?:zero|negative)",
        lambda _: errors.DatetimeFieldOverflow("stride must be greater than zero"),
    ),
    (
        r"Date and time not in timestamp range",
        lambda _: errors.DatetimeFieldOverflow("timestamp out of range"),
    ),
    (
        r"Expected OBJECT, but got (\w+)",
        lambda m: errors.InvalidParameterValue(
            f"cannot deconstruct {'an array' if m[1] == 'ARRAY' else 'a scalar'} as an object"
        ),
    ),
    (
        r"json_object\(\) keys must be VARCHAR",
        lambda _: errors.InvalidParameterValue("the keys of an object must be texts", hint="add a cast"),
    ),
    (r"JSON key cannot be NULL", lambda _: errors.InvalidParameterValue("key must not be null")),
    (
        r"json_group_object key cannot be NULL",
        lambda _: errors.InvalidParameterValue("field name must not be null"),
    ),
    (
        r"Failed to cast value to numerical: ([^\n]*)",
        lambda m: errors.InvalidParameterValue(f"cannot cast jsonb {_of_json(m[1])} to a numeric type"),
    ),
    (
        r"Could not decode string \".*?\" as base64",
        lambda _: errors.InvalidParameterValue("invalid base64 data"),
    ),
    (
        r"Argument for ntile must be greater than zero",
        lambda _: errors.InvalidNtileArgument("argument of ntile must be greater than zero"),
    ),
    (
        r"Window \w+ (PRECEDING|FOLLOWING) expression cannot be negative",
        lambda m: errors.InvalidFrameOffset(
            f"frame {'starting' if m[1] == 'PRECEDING' else 'ending'} offset must not be negative"
        ),
    ),
    (
        r"[Ss]ample.* out of range, must be between 0 and 100",
        lambda _: errors.InvalidSampleArgument("sample percentage must be between 0 and 100"),
    ),
    (
        r"(?:PERCENTILEs?|QUANTILEs?) can only take parameters in the range",
        lambda _: errors.NumericOutOfRange("percentile value is not between 0 and 1"),
    ),
    (
        r"[Dd]uplicate named argument \"(.*?)\" in function call",
        lambda m: errors.InvalidParameterValue(f'the key "{m[1]}" is given twice'),
    ),
    (rf"Could not convert string ['\"](.*?)['\"] to (.+?){_SOURCE}(?:\n|$)", _unreadable),
    (
        rf"Type VARCHAR with value '(.*?)' can't be cast to the destination type (.+?){_SOURCE}(?:\n|$)",
        lambda m: errors.InvalidTextRepresentation(f'invalid input syntax for type {told_type(m[2])}: "{m[1]}"'),
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
        lambda m: errors.NumericOutOfRange(f"{told_type(m[2])} out of range", detail=f"the value is {m[1]}"),
    ),
    (
        r'Casting value "(\S+)" to type (DECIMAL\(\d+,\d+\)) failed: value is out of range',
        lambda m: errors.NumericOutOfRange("numeric field overflow", detail=f"{m[1]} does not fit {type_name(m[2])}"),
    ),
    (
        r"Could not cast value (\S+) to (DECIMAL\(\d+,\d+\))",
        lambda m: errors.NumericOutOfRange("numeric field overflow", detail=f"{m[1]} does not fit {type_name(m[2])}"),
    ),
    (
        r'Could not parse string "(.*?)" according to format specifier',
        lambda m: errors.InvalidDatetime(f'invalid value "{m[1]}" for the pattern'),
    ),
    (
        r"(?:Cannot mix|cannot compare) values of type (\S+) and (\S+) in (\w+)",
        lambda m: errors.DatatypeMismatch(
            f"{m[3]} types {told_type(m[1])} and {told_type(m[2])} cannot be matched", hint="add a cast"
        ),
    ),
    (
        r"Cannot concatenate types (\S+) and (\S+)",
        lambda m: errors.UndefinedFunction(
            f"operator does not exist: {told_type(m[1])} || {told_type(m[2])}", hint="add a cast"
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
        lambda m: errors.NumericOutOfRange(f"{told_type(m[1])} out of range"),
    ),
    (r"[Oo]verflow", lambda _: errors.NumericOutOfRange("numeric value out of range")),
)
