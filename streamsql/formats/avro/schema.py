"""Avro's schemas: JSON to a tree of types, and what each becomes in DuckDB.

Names are resolved here, so that a tree holds no references. A type that holds itself has no columns to become, and is
refused; so is an array whose items take no bytes, of which a few bytes could claim any number.

    null               only as a branch of a union: NULL
    int, long          INTEGER, BIGINT; float, double: FLOAT, DOUBLE; boolean: BOOLEAN; string: VARCHAR; bytes, fixed: BLOB
    enum               VARCHAR
    record             STRUCT; array: a list; map: MAP(VARCHAR, ...)
    [null, T]          T, which may be NULL
    [A, B, ...]        STRUCT with a member for each branch, of which one is not NULL
    date, time-*       DATE, TIME; timestamp-*: TIMESTAMP WITH TIME ZONE; local-timestamp-*: TIMESTAMP; *-nanos: TIMESTAMP_NS
    decimal            DECIMAL; of more than 38 digits, and a scale that is not in them: BLOB
    uuid, duration     UUID, INTERVAL

A logical type that is not known, or does not fit its type, is left out, as the specification says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.formats.casts import quote

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
DECIMAL_DIGITS_MAX = 38
_DEPTH_MAX = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `kind` is Avro's word for it; the other members are there where the kind has them."""

    kind: str
    logical: str = ""
    name: str = ""  # of a record, enum or fixed, in full
    fields: tuple[tuple[str, Type], ...] = ()  # of a record
    branches: tuple[Type, ...] = ()  # of a union
    item: Type | None = None  # of an array or a map
    symbols: tuple[str, ...] = ()  # of an enum
    size: int = 0  # of a fixed
    precision: int = 0  # of a decimal
    scale: int = 0

    @property
    def optional(self) -> Type | None:
        """The type beside null, of a union of the two."""
        others = self.values
        return others[0] if self.kind == "union" and len(others) == 1 else None

    @property
    def values(self) -> tuple[Type, ...]:
        """The branches of a union that are not null."""
        return tuple(b for b in self.branches if b.kind != "null")

    @property
    def members(self) -> tuple[tuple[str, Type], ...]:
        """What a struct of the type has: the fields of a record, or the branches of a union that are not null, by name."""
        if self.kind == "record":
            return self.fields
        short = [b.name.rpartition(".")[2] or b.kind for b in self.values]
        alike = len({name.lower() for name in short}) < len(short)
        return tuple((b.name or b.kind if alike else name, b) for name, b in zip(short, self.values, strict=True))

    @property
    def takes_bytes(self) -> bool:
        """Whether every value of the type takes a byte at least."""
        match self.kind:
            case "null":
                return False
            case "record":
                return any(field.takes_bytes for _, field in self.fields)
            case "fixed":
                return self.size > 0
        return True


def parse(text: str, references: Mapping[str, str] | None = None) -> Type:
    """Read a schema; `references` are the texts of schemas that define the names it uses. Raises StreamSQLError."""
    reader = _Reader()
    for other in (references or {}).values():
        reader.read(_json(other), "", 0)
    return reader.read(_json(text), "", 0)


def _json(text: str) -> Any:
    if text.strip() in PRIMITIVES:
        return text.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidParameterValue(f"the Avro schema is not JSON: {error}") from None


class _Reader:
    """Reads one schema and those that it refers to."""

    def __init__(self) -> None:
        self._named: dict[str, Type] = {}
        self._open: set[str] = set()

    def read(self, given: Any, namespace: str, depth: int) -> Type:
        if depth > _DEPTH_MAX:
            raise FeatureNotSupported(f"an Avro schema with more than {_DEPTH_MAX} types in each other")
        if isinstance(given, str):
            return Type(given) if given in PRIMITIVES else self._known(given, namespace)
        if isinstance(given, list):
            return self._union([self.read(branch, namespace, depth + 1) for branch in given])
        if not isinstance(given, dict) or "type" not in given:
            raise _invalid(f"{json.dumps(given)[:100]} is no type")
        kind = given["type"]
        if isinstance(kind, (dict, list)):
            return self.read(kind, namespace, depth + 1)
        if kind in {"array", "map"}:
            item = self.read(given.get("items" if kind == "array" else "values"), namespace, depth + 1)
            if kind == "array" and not item.takes_bytes:
                raise FeatureNotSupported("an Avro array whose items take no bytes")
            return Type(kind, item=item)
        if kind in {"record", "error", "enum", "fixed"}:
            return self._define(given, "record" if kind == "error" else kind, namespace, depth)
        if kind in PRIMITIVES:
            return _logical(Type(kind), given)
        return self._known(str(kind), namespace)

    def _known(self, name: str, namespace: str) -> Type:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        for wanted in (full, name):
            if wanted in self._open:
                raise FeatureNotSupported(f'the Avro type "{wanted}" holds itself, so that it has no columns to become')
            if wanted in self._named:
                return self._named[wanted]
        raise _invalid(f'it does not define "{name}"')

    def _union(self, branches: list[Type]) -> Type:
        names = [b.name or b.kind for b in branches]
        if not branches or len(set(names)) < len(names) or "union" in names:
            raise _invalid("a union needs branches of different types")
        if all(b.kind == "null" for b in branches):
            return Type("null")
        return Type("union", branches=tuple(branches))

    def _define(self, given: Mapping[str, Any], kind: str, namespace: str, depth: int) -> Type:
        name = given.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _invalid(f"{json.dumps(name)} is no name of a {kind}")
        own = name.rpartition(".")[0] if "." in name else given.get("namespace", namespace)
        full = name if "." in name or not own else f"{own}.{name}"
        if full in self._named or full in self._open:
            raise _invalid(f'"{full}" is defined twice')
        self._open.add(full)
        made = self._members(given, kind, full, own, depth)
        self._open.discard(full)
        self._named[full] = made
        return made

    def _members(self, given: Mapping[str, Any], kind: str, full: str, namespace: str, depth: int) -> Type:
        if kind == "enum":
            symbols = given.get("symbols")
            if not isinstance(symbols, list) or not symbols or not all(isinstance(s, str) for s in symbols):
                raise _invalid(f'the enum "{full}" needs symbols')
            return Type("enum", name=full, symbols=tuple(symbols))
        if kind == "fixed":
            size = given.get("size")
            if type(size) is not int or size < 0:
                raise _invalid(f'the fixed "{full}" needs a size')
            return _logical(Type("fixed", name=full, size=size), given)
        fields = given.get("fields")
        if not isinstance(fields, list) or not all(
            isinstance(f, dict) and isinstance(f.get("name"), str) for f in fields
        ):
            raise _invalid(f'the record "{full}" needs fields with names')
        names = [f["name"] for f in fields]
        if len(set(names)) < len(names):
            raise _invalid(f'the record "{full}" has two fields of one name')
        if len({name.lower() for name in names}) < len(names) or not names:
            what = "no fields" if not names else "fields whose names differ in case only"
            raise FeatureNotSupported(f'the Avro record "{full}" has {what}')
        read = tuple((f["name"], self.read(f.get("type"), namespace, depth + 1)) for f in fields)
        return Type("record", name=full, fields=read)


def _invalid(what: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"the Avro schema is not valid: {what}")


_LOGICAL = {
    "date": ("int",), "time-millis": ("int",), "time-micros": ("long",), "timestamp-millis": ("long",),
    "timestamp-micros": ("long",), "timestamp-nanos": ("long",), "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",), "local-timestamp-nanos": ("long",), "uuid": ("string", "fixed"),
    "decimal": ("bytes", "fixed"), "duration": ("fixed",),
}  # fmt: skip


def _logical(made: Type, given: Mapping[str, Any]) -> Type:
    """Add the logical type, where it is known and fits."""
    logical = given.get("logicalType")
    if not isinstance(logical, str) or made.kind not in _LOGICAL.get(logical, ()):
        return made
    if made.kind == "fixed" and made.size != {"uuid": 16, "duration": 12}.get(logical, made.size):
        return made
    precision, scale = given.get("precision", 0), given.get("scale", 0)
    if logical == "decimal":
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision <= DECIMAL_DIGITS_MAX:
            return made
        if not precision:
            return made
    return Type(made.kind, logical, made.name, size=made.size, precision=precision, scale=scale)


_SQL_LOGICAL = {
    "date": "DATE", "time-millis": "TIME", "time-micros": "TIME", "uuid": "UUID", "duration": "INTERVAL",
    "timestamp-millis": "TIMESTAMP WITH TIME ZONE", "timestamp-micros": "TIMESTAMP WITH TIME ZONE",
    "local-timestamp-millis": "TIMESTAMP", "local-timestamp-micros": "TIMESTAMP", "timestamp-nanos": "TIMESTAMP_NS",
    "local-timestamp-nanos": "TIMESTAMP_NS",
}  # fmt: skip
_SQL = {
    "boolean": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bytes": "BLOB",
    "fixed": "BLOB", "string": "VARCHAR", "enum": "VARCHAR", "null": "VARCHAR",
}  # fmt: skip


def sql_type(given: Type) -> str:
    """Name the DuckDB type that values of a type become."""
    if given.logical == "decimal":
        return f"DECIMAL({given.precision},{given.scale})"
    if given.logical:
        return _SQL_LOGICAL[given.logical]
    match given.kind:
        case "array":
            assert given.item is not None
            return f"{sql_type(given.item)}[]"
        case "map":
            assert given.item is not None
            return f"MAP(VARCHAR, {sql_type(given.item)})"
        case "record" | "union":
            other = given.optional
            return sql_type(other) if other else _struct([(name, sql_type(member)) for name, member in given.members])
    return _SQL[given.kind]


def _struct(members: list[tuple[str, str]]) -> str:
    return f"STRUCT({', '.join(f'{quote(name)} {kind}' for name, kind in members)})"
