"""Names of sequences as SQL writes them in texts: ``nextval('shop."Tickets"')``."""

from __future__ import annotations

from sqlglot import exp

from streamsql.sql.names import joined
from streamsql.sql.statements import ColumnDefinition


def folded(written: str) -> str:
    """Give a name as it is kept, of one that is written as in SQL: ``"A".b``."""
    parts: list[str] = []
    rest = written.strip()
    while rest:
        if rest.startswith('"'):
            end = rest.find('"', 1)
            part, rest = rest[1:end], rest[end + 1 :].lstrip(".")
        else:
            part, _, rest = rest.partition(".")
            part = part.lower()
        parts.append(part)
    return joined(parts[-2] if len(parts) > 1 else None, parts[-1] if parts else "")


def sequence_of_default(column: ColumnDefinition) -> str | None:
    """Name the sequence whose next number is a column's default; None where it is something else."""
    default = column.default
    if (
        not isinstance(default, exp.Anonymous)
        or str(default.this).lower() != "nextval"
        or len(default.expressions) != 1
    ):
        return None
    node = default.expressions[0].unnest()
    while isinstance(node, exp.Cast):
        node = node.this.unnest()
    return folded(node.name) if isinstance(node, exp.Literal) and node.is_string else None
