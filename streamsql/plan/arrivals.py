"""Windows of processing time: over the instant at which a row arrived, which is taken once and kept with the row.

::

    SELECT window_start, count(*) FROM s GROUP BY window(PROCTIME(), '10 s') EMIT APPEND

The query reads the stream with one column more, `ARRIVAL_COLUMN`, which is also its event time: arrivals are in order, so no
row is late, and the result follows from the rows and their arrivals alone.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.objects import OutputColumn, Stream
from streamsql.plan.bounds import Bounds
from streamsql.plan.origins import StreamScan
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

ARRIVAL_COLUMN = "__arrival"


def is_arrival(node: exp.Expr) -> bool:
    """Tell whether this is a call of PROCTIME()."""
    return isinstance(node, exp.Anonymous) and str(node.this).lower() == "proctime" and not node.expressions


def by_arrival(tree: exp.Select, stream: Stream, query: Query) -> StreamScan | None:
    """Give the stream with its arrivals, where a query groups by windows of them; PROCTIME() is replaced in place.

    Raises FeatureNotSupported for a watermark: there is nothing to wait for.
    """
    group = tree.args.get("group")
    if group is None or not any(is_arrival(node) for node in group.walk()):
        return None
    if query.watermark is not None:
        raise FeatureNotSupported(
            "WITH WATERMARK cannot be used with windows of PROCTIME()",
            detail="rows arrive in the order of their arrival, so there is nothing to wait for",
            hint="leave WITH WATERMARK out",
            position=query.watermark.position + 1,
        )
    for node in [n for n in tree.walk() if is_arrival(n)]:
        made = exp.column(ARRIVAL_COLUMN, quoted=True)
        made.this.meta.update(node.meta)
        node.replace(made)
    columns = (*(OutputColumn(c.name, c.type) for c in stream.columns), OutputColumn(ARRIVAL_COLUMN, "TIMESTAMP"))
    return StreamScan(columns, ((ARRIVAL_COLUMN, Bounds()),), stream.name, ARRIVAL_COLUMN, 0)


def refuse_in_joins(tree: exp.Select, query: Query) -> None:
    """Raise where windows of arrivals are over something else than one stream."""
    group = tree.args.get("group")
    found = None if group is None else next((n for n in group.walk() if is_arrival(n)), None)
    if found is not None:
        raise FeatureNotSupported(
            "windows of PROCTIME() are over one stream",
            detail="what comes from a join, a subquery or a view has no arrival of its own",
            hint="GROUP BY window(PROCTIME(), size) over the stream itself",
            position=position_of(found, query),
        )
