"""GROUP BY taken apart: the sets of keys that ROLLUP, CUBE and GROUPING SETS stand for.

    a, ROLLUP (b, c)                  ->  (a, b, c), (a, b), (a)
    GROUPING SETS ((a), CUBE (b))     ->  (a), (b), ()

A row counts once in each set: it is multiplied by the sets before it is grouped, a key that is not in a set is NULL there,
and the number of the set is one more key (`plan.stages`), so that operators know nothing of sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError
from streamsql.base.limits import Limits, exceeded

# the column that numbers a row's set, before it is grouped
SET_COLUMN = "__set"


@dataclass(frozen=True, slots=True)
class Groups:
    """What a query groups by: its keys, its window, and for each grouping set the indexes of its keys (none: all keys)."""

    keys: tuple[exp.Expr, ...]
    window: exp.Expr | None
    sets: tuple[tuple[int, ...], ...]


def groups_of(
    group: exp.Group,
    resolved: Callable[[exp.Expr], exp.Expr],
    is_window: Callable[[exp.Expr], bool],
    window_columns: tuple[str, ...],
    limits: Limits,
) -> Groups:
    """Take a GROUP BY apart; `resolved` gives what an ordinal or an output's name stands for.

    Raises FeatureNotSupported, ProgramLimitExceeded, and what `resolved` raises.
    """
    if any(group.args.get(clause) for clause in ("rollup", "cube", "totals")):
        raise SQLSyntaxError("GROUP BY has no WITH ROLLUP", hint="write GROUP BY ROLLUP (...) or CUBE (...)")
    keys: list[exp.Expr] = []
    windows: list[exp.Expr] = []
    sets: list[tuple[int, ...]] = []
    windowed: list[bool] = []
    for entries in _product([_alternatives(e, limits) for e in group.expressions], limits):
        members: set[int] = set()
        has_window = False
        for key in map(resolved, entries):
            if is_window(key):
                has_window = True
                if key not in windows:
                    windows.append(key)
            elif isinstance(key, exp.Column) and not key.table and key.name in window_columns:
                has_window = True  # GROUP BY window(...), window_start says the same twice
            else:
                if key not in keys:
                    keys.append(key)
                members.add(keys.index(key))
        sets.append(tuple(sorted(members)))
        windowed.append(has_window)
    if windows and not all(windowed):
        raise FeatureNotSupported(
            "a grouping set without the query's window cannot be kept",
            hint="put window(...) before the sets, as in GROUP BY window(ts, '1h'), ROLLUP (a, b)",
        )
    if len(windows) > 1:
        raise FeatureNotSupported("a query has one window", hint="write one query a window")
    if group.args.get("all") is False:  # GROUP BY DISTINCT
        sets = list(dict.fromkeys(sets))
    return Groups(tuple(keys), windows[0] if windows else None, tuple(sets) if len(sets) > 1 else ())


def _alternatives(entry: exp.Expr, limits: Limits) -> list[list[exp.Expr]]:
    """List the sets that one entry of GROUP BY stands for."""
    if isinstance(entry, exp.GroupingSets):
        return [keys for item in entry.expressions for keys in _alternatives(item, limits)]
    if isinstance(entry, exp.Rollup):
        items = [_row(e) for e in entry.expressions]
        return [_joined(items[:count]) for count in range(len(items), -1, -1)]
    if isinstance(entry, exp.Cube):
        items = [_row(e) for e in entry.expressions]
        if 1 << len(items) > limits.grouping_sets_max:
            raise exceeded(limits, "grouping_sets_max", "the number of grouping sets")
        return [_joined(list(taken)) for count in range(len(items), -1, -1) for taken in combinations(items, count)]
    return [_row(entry)]


def _row(entry: exp.Expr) -> list[exp.Expr]:
    """List the keys of ``a``, ``(a)``, ``(a, b)`` or ``()``."""
    if isinstance(entry, exp.Tuple):
        return list(entry.expressions)
    return [entry.unnest()]


def _joined(items: list[list[exp.Expr]]) -> list[exp.Expr]:
    return [key for item in items for key in item]


def _product(alternatives: list[list[list[exp.Expr]]], limits: Limits) -> list[list[exp.Expr]]:
    """Combine the sets of several entries, each with each."""
    made: list[list[exp.Expr]] = [[]]
    for sets in alternatives:
        if len(made) * len(sets) > limits.grouping_sets_max:
            raise exceeded(limits, "grouping_sets_max", "the number of grouping sets")
        made = [[*keys, *more] for keys in made for more in sets]
    return made


def grouping_sql(indexes: list[int], keys: int, sets: tuple[tuple[int, ...], ...]) -> str:
    """SQL, over the groups, of ``grouping()`` of the keys of these indexes: a bit for each that is not in the group's set."""
    if not sets:
        return "0::BIGINT"
    masks = [sum((index not in members) << place for place, index in enumerate(reversed(indexes))) for members in sets]
    return f"CAST([{', '.join(map(str, masks))}][k{keys} + 1] AS BIGINT)"
