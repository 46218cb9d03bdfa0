"""What PostgreSQL calls a column's type where DuckDB has one name for several: ``varchar(10)``, ``char(3)``, ``timestamp(0)``.

Specification: https://www.postgresql.org/docs/15/datatype-character.html and -datetime.html.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import InvalidParameterValue
from streamsql.base.types import Declared, WireType

_LENGTH_MAX = 10_485_760
_DIGITS_MAX = 6
_TEXTS: dict[object, WireType] = {
    exp.DType.VARCHAR: t.VARCHAR, exp.DType.NVARCHAR: t.VARCHAR, exp.DType.CHAR: t.BPCHAR, exp.DType.NCHAR: t.BPCHAR,
    exp.DType.BPCHAR: t.BPCHAR,
}  # fmt: skip
_TIMES: dict[object, WireType] = {
    exp.DType.TIME: t.TIME, exp.DType.TIMESTAMP: t.TIMESTAMP, exp.DType.TIMESTAMPTZ: t.TIMESTAMPTZ,
}  # fmt: skip
_NAMES = {t.VARCHAR: "varchar", t.BPCHAR: "char"}


def declared(tree: exp.DataType, position: int) -> Declared | None:
    """Give what a type declares; None where DuckDB's name says it all. Raises InvalidParameterValue."""
    kind = tree.this
    if kind is exp.DType.ARRAY and len(tree.expressions) == 1 and isinstance(tree.expressions[0], exp.DataType):
        found = declared(tree.expressions[0], position)
        return None if found is None else Declared(found.type.array, found.modifier)
    size = next((p.name for p in tree.expressions if isinstance(p, exp.DataTypeParam)), None)
    if kind is exp.DType.JSONB:
        return Declared(t.JSONB)
    if kind in _TEXTS:
        return _text(_TEXTS[kind], kind, size, position)
    if kind in _TIMES and size is not None:
        if not size.isdecimal():
            raise InvalidParameterValue("invalid type modifier", position=position)
        return Declared(_TIMES[kind], min(int(size[:9]), _DIGITS_MAX))
    return None


def _text(wire_type: WireType, kind: object, size: str | None, position: int) -> Declared:
    if size is None:
        bare = kind in (exp.DType.CHAR, exp.DType.NCHAR)
        return Declared(wire_type, 1 + 4 if bare else -1)
    name = _NAMES[wire_type]
    if not size.isdecimal():
        raise InvalidParameterValue("invalid type modifier", position=position)
    length = int(size[:9])
    if length < 1:
        raise InvalidParameterValue(f"length for type {name} must be at least 1", position=position)
    if length > _LENGTH_MAX:
        raise InvalidParameterValue(f"length for type {name} cannot exceed {_LENGTH_MAX}", position=position)
    return Declared(wire_type, length + 4)
