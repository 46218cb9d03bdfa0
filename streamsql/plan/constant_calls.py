"""Calls whose pattern, flags or text are constants: regular expressions as RE2 knows them, and hashes.

Each function gives the template of a call with these operands, or None where DuckDB reads it as PostgreSQL does.
"""

from __future__ import annotations

import re

from sqlglot import exp

from streamsql.catalog.objects import literal
from streamsql.plan.function_table import Types
from streamsql.plan.hashing import hash_text, hash_text_extended


def groups_of(pattern: str) -> int:
    """Count the groups of a regular expression that catch text."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]", "", pattern, flags=re.DOTALL)
    return len(re.findall(r"\((?!\?)", plain))


def _match_parts(operands: list[exp.Expr], _types: Types) -> tuple[list[str], bool, str] | None:
    """Give the templates of a match's parts, whether all matches are wanted, and DuckDB's flags."""
    pattern = operands[1] if len(operands) > 1 else None
    flags = operands[2].name if len(operands) > 2 and isinstance(operands[2], exp.Literal) else ""
    if not isinstance(pattern, exp.Literal) or not pattern.is_string or set(flags) - set("gi"):
        return None
    options = ", 'i'" if "i" in flags else ""
    count = groups_of(pattern.name)
    return [str(g) for g in (range(1, count + 1) if count else (0,))], "g" in flags, options


def regexp_match(operands: list[exp.Expr], types: Types) -> str | None:
    found = _match_parts(operands, types)
    if found is None:
        return "error('{0A000} regexp_match takes a pattern that is written out')"
    groups, _, options = found
    parts = ", ".join(f"regexp_extract($1, $2, {g}{options})" for g in groups)
    return f"CASE WHEN regexp_matches($1, $2{options}) THEN [{parts}] END"


def regexp_matches(operands: list[exp.Expr], types: Types) -> str | None:
    found = _match_parts(operands, types)
    if found is None:
        return "error('{0A000} regexp_matches takes a pattern that is written out')"
    groups, every, options = found
    if not every:
        return f"unnest(CASE WHEN regexp_matches($1, $2{options}) THEN [{regexp_match(operands, types)}] ELSE [] END)"
    lists = [f"regexp_extract_all($1, $2, {g}{options})" for g in groups]
    if len(lists) == 1:
        return f"unnest(list_transform({lists[0]}, lambda e: [e]))"
    numbers = ", ".join(f"z[{i + 1}]" for i in range(len(lists)))
    return f"unnest(list_transform(list_zip({', '.join(lists)}), lambda z: [{numbers}]))"


def regexp_replace(operands: list[exp.Expr], _types: Types) -> str | None:
    """PostgreSQL's ``\\&`` is the whole match, ``\\0`` to DuckDB."""
    replacement = operands[2] if len(operands) > 2 else None
    if len(operands) > 3 and not (isinstance(operands[3].unnest(), exp.Literal) and operands[3].unnest().is_string):
        return (
            _REPLACE_FROM
            if len(operands) == 4
            else "error('{0A000} regexp_replace of the n-th match is not supported')"
        )
    if isinstance(replacement, exp.Literal) and r"\&" in replacement.name:
        flags = f", {literal(operands[3].name)}" if len(operands) > 3 else ""
        return f"regexp_replace($1, $2, {literal(replacement.name.replace(chr(92) + '&', chr(92) + '0'))}{flags})"
    return None


# with a place to start from, and the first match alone
_REPLACE_FROM = "left($1, CAST($4 - 1 AS BIGINT)) || regexp_replace(substr($1, CAST($4 AS BIGINT)), $2, $3)"


def hashed(operands: list[exp.Expr], _types: Types) -> str | None:
    """``hashtext(text)`` and ``hashtextextended(text, seed)`` of constants."""
    constants = []
    for operand in operands:
        node = operand.unnest()
        while isinstance(node, exp.Cast):
            node = node.this.unnest()
        sign = -1 if isinstance(node, exp.Neg) else 1
        constants.append((node.this.unnest() if isinstance(node, exp.Neg) else node, sign))
    if not constants or not all(isinstance(node, exp.Literal) for node, _ in constants):
        return "error('{0A000} a hash of other than constants is not supported')"
    text = constants[0][0].name
    if len(constants) == 1:
        return f"CAST({hash_text(text)} AS INTEGER)"
    return f"CAST({hash_text_extended(text, constants[1][1] * int(constants[1][0].name))} AS BIGINT)"


def regexp_substr(operands: list[exp.Expr], _types: Types) -> str | None:
    """``regexp_substr(text, pattern [, start [, n [, flags [, group]]]])``."""
    flags = operands[4].unnest() if len(operands) > 4 else None
    options = ""
    if flags is not None:
        if not isinstance(flags, exp.Literal) or set(flags.name) - set("ic"):
            return "error('{0A000} regexp_substr takes no other flags than i and c, written out')"
        options = ", 'i'" if "i" in flags.name else ""
    text = "substr($1, CAST($3 AS BIGINT))" if len(operands) > 2 else "$1"
    number, group = "$4" if len(operands) > 3 else "1", "CAST($6 AS INTEGER)" if len(operands) > 5 else "0"
    return f"list_extract(regexp_extract_all({text}, $2, {group}{options}), {number})"
