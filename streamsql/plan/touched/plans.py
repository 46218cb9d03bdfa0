"""What a query that is kept by running it again needs to do so for a part of its result: SQL with places for names.

All kinds are values, and say in SQL what an epoch changes, given the names of the sources that changed in it:

`Linear`    joins and filters: the result's change is the query over the changes of its sources, weights multiplied
`Touched`   anything with a key: the keys that the changes touch, and the query over the rows of these keys
`Tail`      window functions: of each key, from where on the changes touch it
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamsql.catalog.objects import PUBLIC_SCHEMA, quoted

# the table of the touched keys (``k0``..), and the rows that changed in an epoch, by the number of their source
TOUCHED = '"__touched"'
_SCAN = re.compile(r'"__scan (\d+)"')


def changes_name(source: int) -> str:
    """Name the changes of a source, by its place among the query's: its columns and ``__weight``."""
    return f'"__changes {source}"'


def scan_name(number: int) -> str:
    """Name a scan in SQL to which `rendered` gives what it reads."""
    return f"__scan {number}"


def rendered(sql: str, sources: dict[int, str]) -> str:
    """Put what each scan reads in the place of its name."""
    return _SCAN.sub(lambda m: sources[int(m[1])], sql)


@dataclass(frozen=True, slots=True)
class Source:
    """A scan: what it reads, its number among the query's sources, and its columns as SQL that reads them from changes."""

    relation: str
    number: int
    columns: tuple[str, ...]

    @property
    def current(self) -> str:
        return f"{PUBLIC_SCHEMA}.{quoted(self.relation)}"

    def changes(self, *, gone: bool = False) -> str:
        """SQL of the rows that changed; only of those that went with `gone`."""
        where = " WHERE __weight < 0" if gone else ""
        return f"SELECT {', '.join(self.columns)}, __weight FROM {changes_name(self.number)}{where}"


@dataclass(frozen=True, slots=True)
class Linear:
    """Joins, filters and projections, and UNION ALL of them: `sql` gives the outputs and ``__weight``.

    Δ(A ⋈ B) = ΔA ⋈ B as it was + A as it is ⋈ ΔB, and Δ(A + B) = ΔA + ΔB. Each scan in `scans` gives its columns and a
    weight; `apart` are, for each, those that are in another part of a UNION ALL.
    """

    sql: str
    scans: tuple[Source, ...]
    apart: tuple[frozenset[int], ...]

    @property
    def joins(self) -> bool:
        """Tell whether rows of several scans come together."""
        return any(len(apart) < len(self.scans) - 1 for apart in self.apart)

    def difference(self, changed: frozenset[str]) -> str:
        """SQL of what the result changes by: ``o0``.., ``__weight`` (not added up)."""
        terms = []
        for place, scan in enumerate(self.scans):
            if scan.relation in changed:
                sources = {place: f"({scan.changes()})"}
                for other, source in enumerate(self.scans):
                    if other != place:
                        nothing = f"(SELECT *, 1 AS __weight FROM {source.current} WHERE false)"
                        before = source.relation in changed and other > place
                        sources[other] = nothing if other in self.apart[place] else self._other(source, before)
                terms.append(rendered(self.sql, sources))
        return " UNION ALL ".join(terms)

    def _other(self, source: Source, before: bool) -> str:
        current = f"SELECT *, 1 AS __weight FROM {source.current}"
        if not before:
            return f"({current})"
        columns = ", ".join(source.columns)
        return f"({current} UNION ALL SELECT {columns}, -__weight FROM {changes_name(source.number)})"


@dataclass(frozen=True, slots=True)
class Touched:
    """A query with a key, in which an epoch touches some values.

    keys       the key's parts as expressions, for people
    places     the result's columns that hold them: outputs, or hidden ones (``h0``..)
    hidden     how many of the result's columns are hidden: they come after the outputs
    whole      SQL of all outputs and hidden columns
    again      the same for the keys in `TOUCHED`
    affected   (a source, SQL of the keys that its changes touch)
    joined     the sources whose changes find their keys through others
    crossing   SQL of the keys that time touches from one epoch (``$2``, microseconds) to another (``$1``)
    """

    keys: tuple[str, ...]
    places: tuple[str, ...]
    types: tuple[str, ...]
    hidden: int
    whole: str
    again: str
    scans: tuple[Source, ...]
    affected: tuple[tuple[str, str], ...]
    joined: tuple[str, ...] = ()
    crossing: tuple[str, ...] = ()

    @property
    def table_columns(self) -> list[tuple[str, str]]:
        """The columns of `TOUCHED`, with their types."""
        return [(f"k{i}", t) for i, t in enumerate(self.types)]

    def meets(self, result: str, touched: str) -> str:
        """SQL of the condition that a row of the result is one that an epoch may change."""
        return " AND ".join(f"{touched}.k{i} IS NOT DISTINCT FROM {result}.{p}" for i, p in enumerate(self.places))

    @property
    def near(self) -> str:
        """SQL of a cheap condition that all those rows of the result meet."""
        return ""

    @property
    def crossed(self) -> str:
        """SQL of the keys that time alone touches."""
        sources = {number: scan.current for number, scan in enumerate(self.scans)}
        return " UNION ALL ".join(rendered(sql, sources) for sql in self.crossing)

    def touched(self, changed: frozenset[str]) -> str:
        """SQL of the keys that an epoch touches, in which these sources changed: ``k0``.. ."""
        sources = {}
        for number, scan in enumerate(self.scans):
            # what went is still needed to find what it was joined with
            gone = f" UNION ALL SELECT * EXCLUDE (__weight) FROM ({scan.changes(gone=True)})"
            sources[number] = f"(SELECT * FROM {scan.current}{gone})" if scan.relation in changed else scan.current
        terms = [rendered(sql, sources) for relation, sql in self.affected if relation in changed]
        terms += [self.crossed] if self.crossing else []
        names = ", ".join(f"k{i}" for i in range(len(self.keys)))
        return f"SELECT DISTINCT {names} FROM ({' UNION ALL '.join(dict.fromkeys(terms))}) AS t({names})"


@dataclass(frozen=True, slots=True)
class Tail:
    """Window functions over ordered rows, of which an epoch changes those of a key from the first changed one on.

    The fields are those of `Touched`; the last of `places` holds the order's value. A row in `TOUCHED` has, after the key, the
    place from which on rows change (``cut``), and from which on they are read (``since``); NULL is the last place, and where
    the order is descending the first.

    changed    SQL of the rows of `TOUCHED`
    order      what the rows are ordered by first, for people
    """

    keys: tuple[str, ...]
    places: tuple[str, ...]
    types: tuple[str, ...]
    hidden: int
    whole: str
    again: str
    scans: tuple[Source, ...]
    changed: str
    order: str
    descending: bool = False
    crossing: tuple[str, ...] = ()

    @property
    def table_columns(self) -> list[tuple[str, str]]:
        """The columns of `TOUCHED`, with their types."""
        names = [*(f"k{i}" for i in range(len(self.keys))), "cut", "since"]
        return list(zip(names, self.types, strict=True))

    def meets(self, result: str, touched: str) -> str:
        """SQL of the condition that a row of the result is one that an epoch may change."""
        keys = [f"{touched}.k{i} IS NOT DISTINCT FROM {result}.{p}" for i, p in enumerate(self.places[:-1])]
        place = f"{result}.{self.places[-1]}"
        return " AND ".join([*keys, f"({from_on(place, f'{touched}.cut', descending=self.descending)})"])

    @property
    def near(self) -> str:
        """SQL of a cheap condition that all those rows of the result meet."""
        return after(self.places[-1], "cut", descending=self.descending)

    def touched(self, changed: frozenset[str]) -> str:  # noqa: ARG002  # there is one source
        """SQL of the rows of `TOUCHED` in an epoch."""
        return self.changed


def from_on(order: str, place: str, *, descending: bool) -> str:
    """SQL of the condition that a row is at a place or behind it. NULL is more than all values."""
    return f"{order} <= {place} OR {place} IS NULL" if descending else f"{order} >= {place} OR {order} IS NULL"


def after(order: str, place: str, *, descending: bool) -> str:
    """SQL of the condition that a row is not before all places in `TOUCHED`."""
    if not descending:
        return f"({order} >= (SELECT min({place}) FROM {TOUCHED}) OR {order} IS NULL)"
    any_first = f"(SELECT count(*) > count({place}) FROM {TOUCHED})"
    return f"({order} <= (SELECT max({place}) FROM {TOUCHED}) OR {any_first})"


Keyed = Touched | Tail
