"""Passwords in SQL: texts that hold one are cut where it begins, before anybody but the parser sees them.

Connectors get theirs by reference, ``password = secret 'env:KAFKA_PASSWORD'``, so that none stands in a definition.
"""

from __future__ import annotations

import re

# CREATE ROLE, ALTER USER, ... up to the word behind which a password stands; no other spelling of these words exists
_HIDING = re.compile(r"\b(?:role|user|group)\b.*?\bpassword\b", re.IGNORECASE | re.DOTALL)
HIDDEN = " <redacted>"


class SecretReference(str):
    """Where a secret is found: ``env:NAME`` or ``file:PATH``."""

    __slots__ = ()


def redacted(text: str) -> str:
    """Give a text as it may be shown: all that follows the word before a password is cut off."""
    found = _HIDING.search(text)
    return text if found is None else text[: found.end()] + HIDDEN


def holds_secret(text: str) -> bool:
    """Tell whether a text may hold a password."""
    return redacted(text) is not text
