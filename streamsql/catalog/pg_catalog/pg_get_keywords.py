"""pg_get_keywords(): the words that PostgreSQL's SQL gives a meaning to; also what ``quote_ident`` must quote."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources

from streamsql.catalog.relation import Row, Snapshot, view

_CATEGORIES = {
    "U": "unreserved", "C": "unreserved (cannot be function or type name)",
    "T": "reserved (can be function or type name)", "R": "reserved",
}  # fmt: skip


@cache
def _keywords() -> tuple[tuple[str, str, bool], ...]:
    lines = resources.files(__package__).joinpath("keywords.txt").read_text("utf-8").splitlines()
    fields = (line.split() for line in lines if not line.startswith("#"))
    return tuple((word, category, bare == "t") for word, category, bare in fields)


def must_be_quoted() -> list[str]:
    """List the words that are no names unless quoted."""
    return [word for word, category, _ in _keywords() if category != "U"]


def _rows(_: Snapshot) -> Iterator[Row]:
    for word, category, bare in _keywords():
        yield {
            "word": word, "catcode": category, "barelabel": bare, "catdesc": _CATEGORIES[category],
            "baredesc": "can be bare label" if bare else "requires AS",
        }  # fmt: skip


# a function, which is read like a view
PG_GET_KEYWORDS = view(
    1686,
    "pg_get_keywords",
    """word text, catcode char, barelabel bool, catdesc text, baredesc text""",
    _rows,
)
