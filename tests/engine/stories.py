"""A drawn case as a golden file, so that what Hypothesis has shrunk can be kept: it notes the text, a person saves it.

pytest tests/engine                              prints the file when a case fails
(save it as tests/golden/NAME.test, and fill in what must come out with --update, once it does)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.engine.streams import COLUMNS, SCHEMA, Event, Select
from tests.golden.datadriven import shown

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if name == "ts":
        assert isinstance(value, int)
        return str((_EPOCH + timedelta(microseconds=value)).replace(tzinfo=None))
    return str(value)


def story(events: Sequence[Event], cuts: Sequence[int], queries: Sequence[Select]) -> str:
    """Write a case: the views, an epoch for each cut, what each view holds, and that it is proven."""
    views = [f"CREATE MATERIALIZED VIEW v{i} AS {query.sql('s')};" for i, query in enumerate(queries)]
    blocks = ["\n".join(["exec", f"CREATE STREAM s ({COLUMNS}) WITH (retention = 'forever');", *views])]
    start = 0
    for cut in cuts:
        rows = [tuple(_text(n, getattr(event, n)) for n in SCHEMA.names) for event in events[start : start + cut]]
        blocks.append(f"push s\n{shown(list(SCHEMA.names), rows)}")
        start += cut
    blocks += [
        f"select\n{ask} v{i}" for i in range(len(queries)) for ask in ("SELECT * FROM", "VERIFY MATERIALIZED VIEW")
    ]
    return "\n\n".join(f"{block}\n----" for block in blocks) + "\n"
