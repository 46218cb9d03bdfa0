"""Results in the form of sqllogictest: values as text by the column's letter, put in order, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal

_BOOLEANS = {"t": "1", "f": "0", "true": "1", "false": "0"}


def shown(value: str | None, kind: str) -> str:
    """Write a value, given as PostgreSQL writes it, for a column of this letter: I, R or T."""
    if value is None:
        return "NULL"
    if kind == "I":
        return _BOOLEANS.get(value) or str(int(Decimal(value)))
    if kind == "R":
        return f"{float(value):.3f}"
    if not value.strip(" "):  # a line of spaces would end the record
        return "@" * len(value) or "(empty)"
    return "".join(c if " " <= c <= "~" else "@" for c in value)


def flat(rows: Iterable[Sequence[str | None]], types: str, sort: str) -> list[str]:
    """Give a result's values, one after the other, in the order that the record asks for."""
    made = [[shown(v, k) for v, k in zip(row, types, strict=True)] for row in rows]
    if sort == "rowsort":
        made.sort()
    values = [value for row in made for value in row]
    return sorted(values) if sort == "valuesort" else values


def digest(values: Iterable[str]) -> str:
    """Hash values as sqllogictest does."""
    return hashlib.md5("".join(f"{v}\n" for v in values).encode(), usedforsecurity=False).hexdigest()
