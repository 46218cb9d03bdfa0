"""ASOF joins in append mode: each row of the left with the version that was valid at its event time.

The condition is equality of keys, and one comparison of both event times: ``a.k = b.k AND a.ts >= b.ts``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported

# Of an expression: its side, its column, and the constant that is added to its event time; None for what is no event time.
Moment = Callable[[exp.Expr], tuple[str, str, int] | None]
# Of an expression: its side and its column; None for what is no column.
Named = Callable[[exp.Expr], tuple[str, str] | None]

_AT_OR_BEFORE = {exp.GTE: False, exp.GT: True}
_FLIPPED: dict[type[exp.Expr], type[exp.Expr]] = {exp.LTE: exp.GTE, exp.LT: exp.GT}


@dataclass(frozen=True, slots=True)
class AsofCondition:
    """What an ASOF join compares: the event times' columns, whether they must differ, and the right's key columns."""

    left_time: str
    right_time: str
    strict: bool
    keys: tuple[str, ...]


def asof_condition(conditions: list[exp.Expr], moment: Moment, named: Named, position: int | None) -> AsofCondition:
    """Read a condition. Raises FeatureNotSupported for another one."""
    times: tuple[str, str, bool] | None = None
    keys: list[str] = []
    for condition in conditions:
        kind: type[exp.Expr] = type(condition)
        operands = [condition.this, condition.expression] if isinstance(condition, exp.Binary) else []
        if kind in _FLIPPED:
            kind, operands = _FLIPPED[kind], operands[::-1]
        if kind in _AT_OR_BEFORE and times is None:
            found = [moment(o) for o in operands]
            if [f and (f[0], f[2]) for f in found] == [("left", 0), ("right", 0)]:
                (_, left_time, _), (_, right_time, _) = (f for f in found if f is not None)
                times = (left_time, right_time, _AT_OR_BEFORE[kind])
                continue
        sides = [named(o.unnest()) for o in operands]
        right = [s for s in sides if s is not None and s[0] == "right"]
        if kind is not exp.EQ or len(right) != 1 or len([s for s in sides if s is not None]) != 2:
            times = None
            break
        keys.append(right[0][1])
    if times is None:
        raise FeatureNotSupported(
            "an ASOF join in append mode compares keys with =, and both event times with >= or >",
            hint="FROM a ASOF [LEFT] JOIN b ON a.k = b.k AND a.ts >= b.ts, where a watermark is known of a.ts and of b.ts",
            position=position,
        )
    return AsofCondition(*times, tuple(keys))
