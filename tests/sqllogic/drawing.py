"""Draws random SELECTs over the relations of the sqllogictest cases: each with its columns' letters, and how it is sorted.

What would differ between engines for no good reason is not drawn: overflow, division by zero, orders that are not total,
sums of floating-point numbers that round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

TABLES = """
CREATE TABLE t1 (a INTEGER, b INTEGER, c INTEGER, d TEXT, e BOOLEAN)
CREATE TABLE t2 (a INTEGER, f BIGINT, g DOUBLE PRECISION, d TEXT)
CREATE TABLE t3 (h INTEGER PRIMARY KEY, a INTEGER, p NUMERIC(8,2), w DATE)
"""
TEXTS = ("''", "'a'", "'b'", "'ab'", "'Ab'", "'a%b'", "'a_c'", "' x'", "'zebra'", "'日本'")
DATES = ("DATE '2024-02-28'", "DATE '2024-02-29'", "DATE '1969-12-31'", "DATE '2023-12-31'", "DATE '2024-01-01'")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A SELECT; `types` has a letter a column, and `ordered` tells that its order is total."""

    sql: str
    types: str
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """What an expression may name: columns by kind, with their prefixes."""

    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    booleans: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()

    def __add__(self, other: Columns) -> Columns:
        return Columns(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))


def columns(table: str, alias: str) -> Columns:
    """Give the columns of t1, t2 or t3 under an alias."""
    if table == "t1":
        return Columns((f"{alias}.a", f"{alias}.b", f"{alias}.c"), (f"{alias}.d",), (f"{alias}.e",))
    if table == "t2":
        return Columns((f"{alias}.a", f"{alias}.f"), (f"{alias}.d",), floats=(f"{alias}.g",))
    return Columns((f"{alias}.h", f"{alias}.a"), exact=(f"{alias}.p",), dates=(f"{alias}.w",))


@dataclass(slots=True)
class Draw:
    """Draws expressions and queries from one source of chance."""

    random: Random
    names: int = field(default=0)

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def new(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    def literal(self) -> str:
        return self.one("0", "1", "2", "3", "5", "7", "-1", "-4", "10", "NULL")

    # ---- expressions ----

    def number(self, of: Columns, depth: int = 2) -> str:
        """Draw an integer expression."""
        if depth == 0 or self.random.random() < 0.25:
            return self.random.choice(of.numbers) if of.numbers and self.random.random() < 0.8 else self.literal()
        inner: Callable[[], str] = lambda: self.number(of, depth - 1)  # noqa: E731  # drawn anew at each call
        kind = self.random.randrange(11)
        if kind <= 3:
            return f"({inner()} {self.one('+', '-', '*')} {inner()})"
        if kind == 4:
            return f"({inner()} {self.one('/', '%')} nullif({inner()}, 0))"
        if kind == 5:
            return f"CASE WHEN {self.condition(of, depth - 1)} THEN {inner()} ELSE {inner()} END"
        if kind == 6:
            return f"CASE {inner()} WHEN {self.literal()} THEN {inner()} WHEN {self.literal()} THEN {inner()} END"
        if kind == 7:
            return f"coalesce({inner()}, {inner()}, {self.literal()})"
        if kind == 8:
            return f"nullif({inner()}, {inner()})"
        if kind == 9:
            return f"{self.one('abs', 'sign', '-')}({inner()})" if of.numbers else inner()
        return f"length({self.text(of, depth - 1)})"

    def text(self, of: Columns, depth: int = 2) -> str:
        """Draw a text expression."""
        if depth == 0 or self.random.random() < 0.3:
            return self.random.choice(of.texts) if of.texts and self.random.random() < 0.8 else self.one(*TEXTS, "'q'")
        inner: Callable[[], str] = lambda: self.text(of, depth - 1)  # noqa: E731  # drawn anew at each call
        kind = self.random.randrange(9)
        if kind == 0:
            return f"{self.one('upper', 'lower', 'trim', 'reverse')}({inner()})"
        if kind == 1:
            return f"({inner()} || {inner()})"
        if kind == 2:
            return f"CASE WHEN {self.condition(of, depth - 1)} THEN {inner()} ELSE {inner()} END"
        if kind == 3:
            return f"coalesce({inner()}, {inner()})"
        if kind == 4:
            return f"substr({inner()}, {self.random.randint(1, 3)}, {self.random.randint(0, 3)})"
        if kind == 5:
            return f"replace({inner()}, 'a', {self.one(*TEXTS)})"
        if kind == 6:
            return f"nullif({inner()}, {inner()})"
        if kind == 7 and of.numbers:
            return f"CAST({self.number(of, depth - 1)} AS TEXT)"
        return f"concat({inner()}, {inner()})"

    def condition(self, of: Columns, depth: int = 2) -> str:
        """Draw a condition."""
        number: Callable[[], str] = lambda: self.number(of, max(depth - 1, 0))  # noqa: E731  # drawn anew at each call
        kind = self.random.randrange(14)
        if depth and kind <= 2:
            word = self.one("AND", "OR")
            return f"({self.condition(of, depth - 1)} {word} {self.condition(of, depth - 1)})"
        if depth and kind == 3:
            return f"NOT {self.condition(of, depth - 1)}"
        if kind <= 5:
            return f"{number()} {self.one('=', '<>', '<', '<=', '>', '>=')} {number()}"
        if kind == 6:
            return f"{number()} {self.one('', 'NOT ')}BETWEEN {number()} AND {number()}"
        if kind == 7:
            listed = ", ".join(self.literal() for _ in range(self.random.randint(1, 4)))
            return f"{number()} {self.one('', 'NOT ')}IN ({listed})"
        if kind == 8:
            return f"{number()} IS {self.one('', 'NOT ')}NULL"
        if kind == 9:
            return f"{number()} IS {self.one('', 'NOT ')}DISTINCT FROM {number()}"
        if kind == 10 and of.booleans:
            return f"{self.random.choice(of.booleans)} {self.one('IS TRUE', 'IS NOT TRUE', 'IS FALSE', 'IS NULL', '= true')}"
        if kind == 11 and of.dates:
            return f"{self.random.choice(of.dates)} {self.one('<', '>=', '=')} {self.one(*DATES)}"
        if kind == 12 and of.texts:
            pattern = self.one("'a%'", "'%b'", "'_'", "'%'", "'A_'", "'%!%%' ESCAPE '!'")
            return f"{self.text(of, 0)} {self.one('', 'NOT ')}{self.one('LIKE', 'ILIKE')} {pattern}"
        return f"{self.text(of, 1)} {self.one('=', '<>', '<', '>=')} {self.text(of, 0)}"

    def item(self, of: Columns) -> tuple[str, str]:
        """Draw a column of a SELECT list: its expression and its letter."""
        kind = self.random.randrange(8)
        if kind <= 3:
            return self.number(of), "I"
        if kind <= 5:
            return self.text(of), "T"
        if kind == 6 and of.floats:
            return self.one(*of.floats, *(f"{f} * 2" for f in of.floats)), "R"
        if kind == 6 and of.exact:
            return self.one(*of.exact, *(f"{x} + 1" for x in of.exact)), "R"
        if kind == 6 and of.dates:
            return self.random.choice(of.dates), "T"
        return self.condition(of), "I"

    def items(self, of: Columns, count: int) -> tuple[str, str]:
        """Draw a SELECT list; its columns are named x0, x1, ..."""
        drawn = [self.item(of) for _ in range(count)]
        return ", ".join(f"{sql} AS x{i}" for i, (sql, _) in enumerate(drawn)), "".join(t for _, t in drawn)

    def aggregate(self, of: Columns) -> tuple[str, str]:
        """Draw an aggregate."""
        number = self.number(of, 1)
        condition = f" FILTER (WHERE {self.condition(of, 1)})" if self.random.random() < 0.25 else ""
        kind = self.random.randrange(10)
        if kind == 0:
            return f"count(*){condition}", "I"
        if kind == 1:
            return f"count({self.one('', 'DISTINCT ')}{number}){condition}", "I"
        if kind <= 4:
            return f"{self.one('sum', 'sum', 'min', 'max')}({self.one('', '', 'DISTINCT ')}{number}){condition}", "I"
        if kind == 5:
            return f"avg({number}){condition}", "R"
        if kind == 6 and of.texts:
            return f"{self.one('min', 'max')}({self.text(of, 1)}){condition}", "T"
        if kind == 7:
            return f"{self.one('bool_and', 'bool_or')}({self.condition(of, 1)}){condition}", "I"
        if kind == 8 and (of.floats or of.exact):
            return f"{self.one('sum', 'min', 'max')}({self.one(*of.floats, *of.exact)}){condition}", "R"
        if kind == 9 and of.texts:
            text = self.random.choice(of.texts)
            return f"string_agg({self.one('', 'DISTINCT ')}{text}, ',' ORDER BY {text}){condition}", "T"
        return f"coalesce(sum({number}){condition}, 0) + count(*)", "I"

    # ---- FROM ----

    def table(self) -> tuple[str, str, Columns]:
        """Draw a table: gives FROM's text, the alias, its columns."""
        name, alias = self.one("t1", "t2", "t3"), self.new("r")
        return f"{name} AS {alias}", alias, columns(name, alias)

    def joined(self, tables: int) -> tuple[str, Columns]:
        """Draw a join of so many tables, each on what the one before has."""
        text, alias, of = self.table()
        for _ in range(tables - 1):
            other, other_alias, more = self.table()
            kind = self.one("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "JOIN", "LEFT JOIN")
            on = self.one(f"{alias}.a = {other_alias}.a", f"{alias}.a = {other_alias}.a",
                f"{alias}.a = {other_alias}.a AND {self.condition(more, 0)}",
                f"coalesce({alias}.a, 0) = {other_alias}.a")  # fmt: skip
            if kind in {"JOIN", "LEFT JOIN"} and self.random.random() < 0.3:
                on = f"{alias}.a {self.one('<', '>=')} {other_alias}.a AND {self.condition(of + more, 1)}"
            text, of, alias = f"{text} {kind} {other} ON {on}", of + more, other_alias
        return text, of
