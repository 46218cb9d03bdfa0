"""SASLprep (RFC 4013): the form in which passwords are compared, so that it does not matter how they were typed."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # not assigned in Unicode 3.2: a stored string must not have them
)


def saslprep(text: str) -> str:
    """Give the prepared form; a text that has none is given back as it is, as PostgreSQL does."""
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(prohibited(c) for c in prepared for prohibited in _PROHIBITED):
        return text
    right_to_left = [stringprep.in_table_d1(c) for c in prepared]
    if any(right_to_left):
        mixed = any(stringprep.in_table_d2(c) for c in prepared)
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            return text
    return prepared
