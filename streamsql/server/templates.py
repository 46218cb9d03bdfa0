"""Texts that differ in their constants alone, as clients send them that write values into their statements.

    SELECT total FROM balances WHERE account = 17      ->      SELECT total FROM balances WHERE account = ?, and 17

A template is known once one of its texts has been parsed and was a lookup by exactly the constants that stand in it, in their
order; then the next text of it need not be parsed to be looked up.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

from streamsql.plan.point_lookup import PointLookup
from streamsql.sql.statements import Query

TEMPLATES_MAX = 1_024
TEXT_CHARACTERS_MAX = 2_000
# a name, plain or quoted, is taken whole, so that nothing inside of it is seen; so is a number with its point and exponent
_TOKEN = re.compile(r"\"[^\"]*\"|[^\W\d][\w]*|'(?:[^']|'')*'|[0-9.][\w.]*")
# what makes a text mean something else than its tokens say: comments, dollar quotes and parameters, escapes, more statements
_UNSURE = re.compile(r"--|/\*|[$\\;&]")


@dataclass(frozen=True, slots=True)
class Template:
    """A text without its constants, and these."""

    text: str
    constants: tuple[str, ...]


def template_of(text: str) -> Template | None:
    """Part a text from its constants: strings and whole numbers. None where it is not that simple."""
    if len(text) > TEXT_CHARACTERS_MAX or text[:6].lower() != "select":
        return None
    text = text.rstrip("; \n")
    if _UNSURE.search(text):
        return None
    constants: list[str] = []
    prefixed = False

    def taken(token: re.Match[str]) -> str:
        nonlocal prefixed
        word = token[0]
        if word[0] == "'":
            constants.append(word[1:-1].replace("''", "'"))
            return "'?'"
        if word.isdecimal() and word.isascii():
            constants.append(word)
            return "?"
        prefixed = prefixed or text[token.end() : token.end() + 1] == "'"  # which says how the string is read
        return word

    template = _TOKEN.sub(taken, text)
    return None if prefixed else Template(template, tuple(constants))


class Templates:
    """The templates of lookups that were seen, and the statement of each that was parsed."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Query] = OrderedDict()

    def learn(self, query: Query, lookup: PointLookup) -> None:
        """Note the template of a text that was a lookup."""
        template = template_of(query.text)
        if template is None or any(constant.number for constant in lookup.constants):
            return
        if template.constants != tuple(lookup.constants[place].text for place in lookup.in_order):
            return
        self._known[template.text] = query
        if len(self._known) > TEMPLATES_MAX:
            self._known.popitem(last=False)

    def find(self, template: Template) -> Query | None:
        """Give a query whose text has this template."""
        return self._known.get(template.text)
