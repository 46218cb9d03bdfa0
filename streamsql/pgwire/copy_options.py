"""The options of a COPY, checked as PostgreSQL checks them (`ProcessCopyOptions` in its source).

See https://www.postgresql.org/docs/15/sql-copy.html. What later versions have (DEFAULT, ON_ERROR) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidColumnReference,
    InvalidParameterValue,
    SQLSyntaxError,
)

ALL_COLUMNS = "*"
CopyFormat = Literal["text", "csv", "binary"]
# an option's value as it is written: text, or the names of columns
OptionValue = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The options of one COPY, checked: `copy_options` makes them. The characters are single ASCII ones.

    `force_quote` may hold `ALL_COLUMNS`; the three lists name columns otherwise.
    """

    format: CopyFormat = "text"
    delimiter: str = "\t"
    null: str = "\\N"
    header: Literal["none", "skip", "match"] = "none"
    quote: str = '"'
    escape: str = '"'
    force_quote: tuple[str, ...] = ()
    force_null: tuple[str, ...] = ()
    force_not_null: tuple[str, ...] = ()


_HEADERS = {
    "": "skip", "true": "skip", "on": "skip", "1": "skip", "match": "match", "false": "none", "off": "none", "0": "none",
}  # fmt: skip
_NOT_BUILT = ("default", "freeze", "log_verbosity", "on_error", "reject_limit")
_LISTS = {"force_quote": "quote", "force_null": "null", "force_not_null": "not null"}
_RECOGNIZED = ("delimiter", "encoding", "escape", "format", "header", "null", "quote", *_LISTS, *_NOT_BUILT)
_TEXT_DELIMITERS_REFUSED = "\\.abcdefghijklmnopqrstuvwxyz0123456789"


def copy_options(given: Mapping[str, OptionValue], *, to_client: bool = False) -> CopyOptions:
    """Check the options of a COPY, by their lower-case names; a HEADER without a value comes as "".

    Raises SQLSyntaxError for what is not an option, InvalidParameterValue for what is not its value, and
    FeatureNotSupported for what PostgreSQL has and we do not, or has not in this direction or format.
    """
    for name in given:
        if name not in _RECOGNIZED:
            raise SQLSyntaxError(f'option "{name}" not recognized')
        if name in _NOT_BUILT:
            raise FeatureNotSupported(f"COPY option {name.upper()} is not supported")
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    if texts.get("encoding", "utf8").lower().replace("-", "") not in ("utf8", "unicode"):
        raise FeatureNotSupported("COPY reads and writes UTF-8 only")
    found_format = _format(texts.get("format", "text"))
    header = _HEADERS.get(texts.get("header", "false").lower())
    if header is None:
        raise SQLSyntaxError('header requires a Boolean value or "match"')
    is_csv = found_format == "csv"
    if found_format == "binary":
        _check_binary(texts, header)
    for name in ("quote", "escape"):
        if name in texts and not is_csv:
            raise FeatureNotSupported(f"COPY {name} available only in CSV mode")
    for name, words in _LISTS.items():
        if name not in given:
            continue
        if not is_csv:
            raise FeatureNotSupported(f"COPY force {words} available only in CSV mode")
        if (name == "force_quote") is not to_client:
            raise FeatureNotSupported(f"COPY force {words} only available using COPY {'FROM' if to_client else 'TO'}")
    if header == "match" and to_client:
        raise FeatureNotSupported('cannot use "match" with HEADER in COPY TO')
    quote = texts.get("quote", '"')
    options = CopyOptions(
        format=found_format,
        delimiter=texts.get("delimiter", "," if is_csv else "\t"),
        null=texts.get("null", "" if is_csv else "\\N"),
        header=header,  # type: ignore[arg-type]  # the values of _HEADERS
        quote=quote,
        escape=texts.get("escape", quote),
        **{name: _names(given.get(name, ())) for name in _LISTS},
    )
    _check(options, is_csv)
    return options


def _format(name: str) -> CopyFormat:
    match name.lower():
        case "text":
            return "text"
        case "csv":
            return "csv"
        case "binary":
            return "binary"
        case _:
            raise InvalidParameterValue(f'COPY format "{name}" not recognized')


def _names(value: OptionValue) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _check_binary(texts: Mapping[str, str], header: str) -> None:
    for name in ("delimiter", "null"):
        if name in texts:
            raise SQLSyntaxError(f"cannot specify {name.upper()} in BINARY mode")
    if header != "none":
        raise FeatureNotSupported("cannot specify HEADER in BINARY mode")


def _check(options: CopyOptions, is_csv: bool) -> None:
    for name, value in (("delimiter", options.delimiter), ("quote", options.quote), ("escape", options.escape)):
        if len(value.encode()) != 1:
            raise FeatureNotSupported(f"COPY {name} must be a single one-byte character")
        if value in "\r\n":
            raise InvalidParameterValue(f"COPY {name} cannot be newline or carriage return")
    if "\n" in options.null or "\r" in options.null:
        raise InvalidParameterValue("COPY null representation cannot use newline or carriage return")
    if options.delimiter in options.null:
        raise InvalidParameterValue("COPY delimiter must not appear in the NULL specification")
    if not is_csv:
        if options.delimiter in _TEXT_DELIMITERS_REFUSED:
            raise InvalidParameterValue(f'COPY delimiter cannot be "{options.delimiter}"')
        return
    if options.delimiter == options.quote:
        raise InvalidParameterValue("COPY delimiter and quote must be different")
    if options.quote in options.null:
        raise InvalidParameterValue("CSV quote character must not appear in the NULL specification")


def check_listed(options: CopyOptions, columns: Sequence[str]) -> None:
    """Raise InvalidColumnReference where an option names a column that the COPY does not have."""
    for option in _LISTS:
        for name in getattr(options, option):
            if name != ALL_COLUMNS and name not in columns:
                raise InvalidColumnReference(f'{option.upper()} column "{name}" not referenced by COPY')
