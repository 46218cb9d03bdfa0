"""What is kept of an aggregate call between epochs, and how two keepings become one.

A *part* is a DuckDB aggregate. Most are kept as DuckDB's own exported state. Where DuckDB has none, or one that would grow
with every epoch, the part is one whose value is a LIST, the value itself is kept, and `merge` says how a longer list becomes
one again::

    list(DISTINCT x)    kept [1, 2], came [2, 3]    merge list_distinct([1, 2, 2, 3])    kept [1, 2, 3]
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """An aggregate over the source's rows, as DuckDB SQL.

    `merge` is None for what DuckDB exports; else SQL over ``{0}``, the joined lists of what is kept, which it gives back in
    the form in which it is kept. The order of the joined list says nothing.
    """

    sql: str
    merge: str | None = None

    @property
    def whole(self) -> str:
        """SQL of the aggregate over all rows of a group at once."""
        return self.sql

    @property
    def partial(self) -> str:
        """SQL of what is kept of some rows."""
        return self.sql if self.merge is not None else f"{self.sql} EXPORT_STATE"

    def merged(self, one: str, other: str) -> str:
        """SQL of two keepings made one; NULL, where there is none, changes nothing."""
        if self.merge is None:
            return f"combine({one}, {other})"
        joined = self.merge.format(f"list_concat({one}, {other})")
        return f"CASE WHEN {one} IS NULL THEN {other} WHEN {other} IS NULL THEN {one} ELSE {joined} END"

    def merged_all(self, kept: str) -> str:
        """SQL of the keepings of a group's rows made one: an aggregate over the column `kept`."""
        if self.merge is None:
            return f"combine_aggr({kept})"
        return self.merge.format(f"flatten(list({kept}) FILTER ({kept} IS NOT NULL))")

    def value(self, kept: str) -> str:
        """SQL of the aggregate's value."""
        return kept if self.merge is not None else f"finalize({kept})"


@dataclass(frozen=True, slots=True)
class Counted(Part):
    """A part that counts rows which are the first with their value: `at_once` is SQL of the same over all rows of a group."""

    at_once: str = ""

    @property
    def whole(self) -> str:
        return self.at_once


@dataclass(frozen=True, slots=True)
class Added(Part):
    """A part whose value is enough to go on from: a count, a sum, the least or the largest.

    `add` is SQL of two values made one, over ``{0}`` and ``{1}``, either of which may be NULL.
    """

    add: str = ""

    @property
    def partial(self) -> str:
        return self.sql

    def merged(self, one: str, other: str) -> str:
        return self.add.format(one, other)

    def value(self, kept: str) -> str:
        return kept
