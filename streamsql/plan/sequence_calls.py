"""Calls of nextval and its kin: where they may stand, and which sequence they name."""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.sql.sequence_names import folded
from streamsql.sql.statements import Statement
from streamsql.sql.trees import position_of

SEQUENCE_FUNCTIONS = frozenset({"currval", "lastval", "nextval", "pg_get_serial_sequence", "setval"})
_WORDS = ("val(", "val (", "serial_sequence")


def may_call(statement: Statement) -> bool:
    """Tell, by its text, whether a statement may call one of the functions."""
    text = statement.text.lower()
    return any(word in text for word in _WORDS)


def named_sequence(argument: exp.Expr, statement: Statement) -> str:
    """Give the name that an argument is: ``'s'``, ``'schema.s'::regclass``. Raises FeatureNotSupported for others."""
    node = argument.unnest()
    while isinstance(node, exp.Cast):
        node = node.this.unnest()
    if not isinstance(node, exp.Literal) or not node.is_string:
        raise FeatureNotSupported(
            "the name of a sequence must be a constant", position=position_of(argument, statement)
        )
    return folded(node.name)
