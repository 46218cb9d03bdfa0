"""What is known of tables whose rows are not here: the answers to lookups, as far as they are cached or were asked for.

An answer says of keys which rows there are; of those without a row that there is none. It is good until a time, and while it
is held for those who have waited for it. What an epoch needs and does not know is noted, and ends it before it commits
(`Missing`): whoever ran it asks, and runs it again with the answers held (`engine.waiting`). For the engine's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNTIL = "__until"
_FOR_EVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a table's origin has said: the `keys` that it was asked for, the `rows` that it has of them, good until `until_us`.

    At most `rows_max` keys of the table are cached. `table_id` tells a table from another that had its name before.
    """

    table: str
    table_id: int
    keys: pa.Table
    rows: pa.Table
    until_us: int
    rows_max: int


class Missing(Exception):  # noqa: N818  # it is no fault of anybody's
    """Keys by table that an epoch needs, and that are not known; and the streams and tables that brought what needs them."""

    def __init__(self, wanted: Mapping[str, pa.Table], roots: frozenset[str]) -> None:
        super().__init__(f"answers of {', '.join(wanted)}")
        self.wanted = wanted
        self.roots = roots


@dataclass(slots=True)
class _Known:
    """Of one table: its keys, each with the time until which it is known; and the rows that there are of them."""

    keys: pa.Table
    rows: pa.Table

    def with_answer(self, answer: Answer, until_us: int) -> _Known:
        names = answer.keys.column_names
        until = pa.array(np.full(answer.keys.num_rows, until_us, np.int64))
        keys, rows = [answer.keys.append_column(UNTIL, until)], [answer.rows]
        if self.keys.num_rows:
            keys.append(_part(self.keys, answer.keys, names, "left anti"))
            rows.append(_part(self.rows, answer.keys, names, "left anti"))
        return _Known(pa.concat_tables(keys), pa.concat_tables(rows))

    def at(self, now_us: int, rows_max: int) -> _Known:
        """Leave out what is not known any more, and the oldest of what is too much."""
        keys = self.keys.filter(pc.greater(self.keys.column(UNTIL), now_us))
        if keys.num_rows > rows_max:
            keys = keys.sort_by([(UNTIL, "descending")]).slice(0, rows_max)
        if keys.num_rows == self.keys.num_rows:
            return self
        return _Known(keys, _part(self.rows, keys, [n for n in keys.column_names if n != UNTIL], "left semi"))


@dataclass(slots=True)
class Answers:
    """The answers of all tables. `now_us` is the time of what runs."""

    now_us: int = 0
    _tables: Mapping[str, int] = field(default_factory=dict)
    _cached: dict[str, _Known] = field(default_factory=dict)
    _held: dict[str, _Known] = field(default_factory=dict)
    _missing: dict[str, list[pa.Table]] = field(default_factory=dict)
    _roots: set[str] = field(default_factory=set)

    def begin(self, now_us: int) -> None:
        """Begin an epoch, or whatever else takes rows in: nothing is missing yet."""
        self.now_us = now_us
        self._missing, self._roots = {}, set()

    def tell(self, tables: Mapping[str, int]) -> None:
        """Tell which tables there are, with their ids: what is known of others is forgotten."""
        gone = [name for name in self._cached if tables.get(name) != self._tables.get(name)]
        for name in gone:
            del self._cached[name]
        self._tables = tables

    def known(self, table: str) -> tuple[pa.Table, pa.Table] | None:
        """Give the keys of a table that something is known of, each with the time until which it is (UNTIL), and the rows."""
        found = self._held.get(table) or self._cached.get(table)
        return None if found is None else (found.keys, found.rows)

    def miss(self, table: str, keys: pa.Table, roots: Iterable[str]) -> None:
        """Note keys that must be asked for; the roots are what brought the rows that need them."""
        self._missing.setdefault(table, []).append(keys)
        self._roots.update(roots)

    def check(self) -> None:
        """Raise Missing where anything was missed since `begin`."""
        if self._missing:
            wanted = {
                name: pa.concat_tables(keys).group_by(keys[0].column_names).aggregate([])
                for name, keys in self._missing.items()
            }
            roots = frozenset(self._roots)
            self.begin(self.now_us)
            raise Missing(wanted, roots)

    @contextlib.contextmanager
    def holding(self, answers: Iterable[Answer]) -> Iterator[None]:
        """Know these answers for a while, however long they are good for."""
        for answer in answers:
            if self._tables.get(answer.table) != answer.table_id:
                continue
            before = self._held.get(answer.table) or self._cached.get(answer.table) or _empty(answer)
            self._held[answer.table] = before.with_answer(answer, _FOR_EVER)
        try:
            yield
        finally:
            self._held = {}

    def cache(self, answers: Iterable[Answer], now_us: int) -> None:
        """Know these answers until they are too old, or too many."""
        for answer in answers:
            if self._tables.get(answer.table) != answer.table_id:
                continue
            before = self._cached.get(answer.table) or _empty(answer)
            self._cached[answer.table] = before.with_answer(answer, answer.until_us).at(now_us, answer.rows_max)

    def cached_keys(self, table: str) -> int:
        """Tell how many keys of a table are cached."""
        found = self._cached.get(table)
        return 0 if found is None else found.keys.num_rows


def _part(rows: pa.Table, keys: pa.Table, names: list[str], kind: str) -> pa.Table:
    """Give the rows whose key is among others, or is not. Arrow joins no columns of lists, so these do not come near it."""
    numbered = rows.select(names).append_column("__row", pa.array(np.arange(rows.num_rows)))
    found = numbered.join(keys.select(names), names, join_type=kind)
    return rows.take(found.column("__row"))


def _empty(answer: Answer) -> _Known:
    until = pa.array(np.empty(0, np.int64))
    return _Known(answer.keys.slice(0, 0).append_column(UNTIL, until), answer.rows.slice(0, 0))
