r"""Functions of jsonb that change what lies at a path, as DuckDB's, whose paths are texts.

    jsonb_set(x, '{a,0}', '2')     json_set(x, '$."a"[0]', '2')         if "a" is an array, else '$."a"."0"'
    x #- '{a,b}'                   json_remove(x, '$."a"."b"')

A step of digits means an element of an array and a key of an object, so which of them it is is asked for each value. A path
must be written out; its last step may lie beyond an array's end, those before it must be there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from streamsql.base import types as t
from streamsql.base.errors import StreamSQLError
from streamsql.base.types import WireType
from streamsql.plan.parameters import typed_literal

_INDEX = re.compile(r"-?\d{1,9}\Z")
_VALUE = "CAST($3 AS JSON)"


def steps_of(path: exp.Expr) -> list[str] | None:
    """Read a path: ``'{a,0}'`` or ``ARRAY['a', '0']``; None for any other expression."""
    node = path.unnest()
    node = node.this.unnest() if isinstance(node, exp.Cast) else node
    if isinstance(node, exp.Literal) and node.is_string:
        try:
            node = typed_literal(t.TEXT.array, node.name).this
        except StreamSQLError:
            return None
    if not isinstance(node, exp.Array):
        return None
    steps = [item.unnest() for item in node.expressions]
    names = [s.this if isinstance(s, exp.Cast) else s for s in steps]
    if not all(isinstance(n, exp.Literal) and '"' not in n.name and "\\" not in n.name for n in names):
        return None
    return [n.name for n in names]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _path(steps: Sequence[str], *, extends: bool = False) -> str:
    """Write a path as SQL; where it `extends` an array, a last step beyond its end means the place behind that."""
    sql = "'$'"
    for number, step in enumerate(steps):
        key = _quoted(f'."{step}"')
        if _INDEX.match(step):
            index = f"'[{step}]'"
            if extends and number == len(steps) - 1:
                count = f"json_array_length(CAST($1 AS JSON), {sql})"
                index = f"'[' || CASE WHEN {step} >= {count} THEN CAST({count} AS VARCHAR) ELSE '{step}' END || ']'"
                before = f"{step} < 0 AND -({step}) > {count}"
                index = f"CASE WHEN {before} THEN error('{{0A000}} a place before an array is not supported') ELSE {index} END"
            key = f"CASE WHEN json_type(CAST($1 AS JSON), {sql}) = 'ARRAY' THEN {index} ELSE {key} END"
        sql = f"{sql} || {key}" if key.startswith("'") else f"{sql} || ({key})"
    return f"({sql})"


def _no_path(name: str, path: exp.Expr) -> str:
    if isinstance(path.unnest(), exp.Null):
        return "CAST(NULL AS JSON)"
    return f"error('{{0A000}} {name} takes a path that is written out')"


def set_template(operands: list[exp.Expr], _types: Sequence[WireType | None]) -> str | None:
    """``jsonb_set(target, path, value [, create])``."""
    if len(operands) not in (3, 4):
        return None
    steps = steps_of(operands[1])
    if steps is None:
        return _no_path("jsonb_set", operands[1])
    if not steps:
        return "CAST($1 AS JSON)"
    there = f"json_exists(CAST($1 AS JSON), {_path(steps[:-1])})" if len(steps) > 1 else "TRUE"
    made = f"json_set(CAST($1 AS JSON), {_path(steps, extends=True)}, {_VALUE})"
    kept = f"json_replace(CAST($1 AS JSON), {_path(steps)}, {_VALUE})"
    if len(operands) == 4:
        made = f"CASE WHEN $4 THEN {made} ELSE {kept} END"
    return f"CASE WHEN $2 IS NOT NULL AND {there} THEN {made} ELSE CAST($1 AS JSON) END"


def insert_template(operands: list[exp.Expr], _types: Sequence[WireType | None]) -> str | None:
    """``jsonb_insert(target, path, value [, after])``."""
    if len(operands) not in (3, 4):
        return None
    steps = steps_of(operands[1])
    if steps is None:
        return _no_path("jsonb_insert", operands[1])
    if not steps:
        return "CAST($1 AS JSON)"
    parent, last = _path(steps[:-1]), steps[-1]
    key = f"json_extract(CAST($1 AS JSON), {_path(steps)})"
    into_object = (
        f"CASE WHEN {key} IS NOT NULL THEN error('{{22023}} cannot replace existing key') "
        f"ELSE json_insert(CAST($1 AS JSON), {parent} || {_quoted(f'.{chr(34)}{last}{chr(34)}')}, {_VALUE}) END"
    )
    into_array = "CAST($1 AS JSON)"
    if _INDEX.match(last):
        after = "CASE WHEN $4 THEN 1 ELSE 0 END" if len(operands) == 4 else "0"
        elements = f"CAST(json_extract(CAST($1 AS JSON), {parent}) AS JSON[])"
        index = f"({last} + {f'len({elements})' if last.startswith('-') else '0'} + {after})"
        count = f"len({elements})"
        place = f"greatest(least({index}, {count}), 0)"
        before, behind = f"list_slice({elements}, 1, {place})", f"list_slice({elements}, {place} + 1, {count})"
        whole = f"list_concat(list_append({before}, {_VALUE}), {behind})"
        into_array = f"json_set(CAST($1 AS JSON), {parent}, to_json({whole}))"
    return (
        f"CASE json_type(CAST($1 AS JSON), {parent}) WHEN 'OBJECT' THEN {into_object} WHEN 'ARRAY' THEN {into_array} "
        "ELSE CAST($1 AS JSON) END"
    )


def remove_template(path: exp.Expr) -> str:
    """``target #- path``."""
    steps = steps_of(path)
    if steps is None:
        return _no_path("#-", path)
    return f"json_remove(CAST($1 AS JSON), {_path(steps)})" if steps else "CAST($1 AS JSON)"
