"""The text of a value as PostgreSQL writes it, in DuckDB's SQL: what ``x::text``, ``||`` and ``concat`` make of it.

1.0::float8::text      1           true || ''             true        concat(true)      t
ARRAY['a b']::text     {"a b"}     '\\x00'::bytea::text    \\x00        1::numeric::text  1
"""

from __future__ import annotations

from streamsql.base import types as t
from streamsql.base.types import WireType

_FLOAT = (
    "CASE WHEN isnan({x}) THEN 'NaN' WHEN isinf({x}) THEN CASE WHEN {x} > 0 THEN 'Infinity' ELSE '-Infinity' END "
    r"ELSE regexp_replace(CAST({x} AS VARCHAR), '\.0$', '') END"
)
# a numeric without a scale of its own is kept with 10 places, of which the zeros are not shown; a quotient is a DOUBLE
_NUMERIC = (
    "CASE typeof({x}) WHEN 'DECIMAL(38,10)' THEN regexp_replace(CAST({x} AS VARCHAR), '\\.?0+$', '') "
    "WHEN 'DOUBLE' THEN CAST(CAST({x} AS DECIMAL(38,16)) AS VARCHAR) ELSE CAST({x} AS VARCHAR) END"
)
_INTERVAL = r"regexp_replace(replace(CAST({x} AS VARCHAR), 'month', 'mon'), '(-\d+ (?:year|mon|day)s?) (\d)', '\1 +\2')"
_OUTPUTS: dict[WireType, str] = {
    t.BYTEA: r"'\x' || lower(hex({x}))",
    t.FLOAT4: _FLOAT,
    t.FLOAT8: _FLOAT,
    t.INTERVAL: _INTERVAL,
    t.NUMERIC: _NUMERIC,
}
_BIT = "CASE WHEN {x} THEN 't' WHEN NOT {x} THEN 'f' END"
_MUST_BE_QUOTED = r"""'^$|[{{}}",\\\s]|^(?i:null)$'"""
_ELEMENT = (
    "CASE WHEN {text} IS NULL THEN 'NULL' "
    f"WHEN regexp_matches({{text}}, {_MUST_BE_QUOTED}) "
    r"""THEN '"' || regexp_replace({text}, '(["\\])', '\\\1', 'g') || '"' ELSE {text} END"""
)
_PLAIN_ELEMENTS = frozenset({t.INT2, t.INT4, t.INT8, t.OID, t.UUID, t.DATE})


def text_sql(value: str, wire_type: WireType | None, *, bare: bool = False) -> str:
    """Give the SQL of a value's text; `value` is SQL, and `bare` says that truth is ``t``, not ``true``."""
    if wire_type is not None and wire_type.element is not None:
        return _array_sql(value, wire_type.element)
    if wire_type is t.BOOL and bare:
        return _BIT.format(x=value)
    template = _OUTPUTS.get(wire_type) if wire_type is not None else None
    return f"CAST({value} AS VARCHAR)" if template is None else template.format(x=value)


def is_plain(wire_type: WireType | None) -> bool:
    """Tell whether DuckDB's own cast to text writes what PostgreSQL does."""
    return wire_type is None or (wire_type.element is None and wire_type not in _OUTPUTS)


def _array_sql(value: str, element: WireType) -> str:
    """Write an array of one dimension."""
    text = text_sql("__e", element, bare=True)
    if element in _PLAIN_ELEMENTS:
        shown = f"coalesce({text}, 'NULL')"
    else:
        # the text is made once, and looked at as __t
        shown = f"list_transform([{text}], lambda __t: {_ELEMENT.format(text='__t')})[1]"
    joined = f"array_to_string(list_transform({value}, lambda __e: {shown}), ',')"
    return f"CASE WHEN {value} IS NOT NULL THEN '{{' || {joined} || '}}' END"
