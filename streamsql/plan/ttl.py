"""`state_ttl`: how long a query keeps what nothing else bounds, and what each kind of query forgets then.

In update and complete mode rows of streams are forgotten: the result is that of the query over the rows that the
watermark is not past by more than the ttl. Each stream in the query is read through a condition on its event time::

    SELECT k, count(*) FROM s GROUP BY k          WITH (state_ttl = '1 day')
    SELECT k, count(*) FROM (SELECT * FROM s WHERE ts >= <watermark> - INTERVAL '1 day') AS s GROUP BY k

The watermark is the lowest of the streams', at the end of the epoch. In append mode a join is bounded by it (`plan.joins`), and
keys that have been shown are forgotten (`plan.ranking`).
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidTableDefinition
from streamsql.catalog.objects import Catalog, Stream, quoted
from streamsql.plan.nodes import EPOCH_US, ContinuousPlan
from streamsql.plan.origins import IntervalJoin, Origin, Over, Rank
from streamsql.sql.parse import position_of
from streamsql.sql.statements import Query

Marks = tuple[tuple[str, int], ...]


def forgetting(tree: exp.Expr, query: Query, catalog: Catalog) -> tuple[exp.Expr, Marks]:
    """Let a query read only the rows of streams that are not forgotten; gives the streams with their watermarks' delays.

    Raises InvalidTableDefinition where a stream has no watermark, or none is read.
    """
    assert query.state_ttl is not None
    tree = tree.copy()
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    marks: dict[str, int] = {}
    for table in list(tree.find_all(exp.Table)):
        found = catalog.get(table.name) if table.db in {"", "public"} and table.name not in named else None
        if not isinstance(found, Stream):
            continue
        declared = found.watermark
        if declared is None or declared.column is None:
            raise InvalidTableDefinition(
                f'state_ttl needs a watermark on stream "{found.name}"',
                detail="rows are forgotten when the watermark is past their event time by that much",
                hint="declare WATERMARK FOR a column in CREATE STREAM",
                position=position_of(table.this, query),
            )
        marks[found.name] = declared.delay_us
        table.replace(_read(table, found, declared.column, query.state_ttl.ttl_us))
    if not marks:
        raise nothing_to_bound(query)
    return tree, tuple(marks.items())


def _read(table: exp.Table, stream: Stream, column: str, ttl_us: int) -> exp.Subquery:
    definition = stream.column(column)
    assert definition is not None
    since = f"make_timestamp({EPOCH_US} - {ttl_us})"
    if definition.type == "TIMESTAMP WITH TIME ZONE":
        since = f"timezone('UTC', {since})"
    condition = sqlglot.parse_one(f"{quoted(column)} >= {since}", read="duckdb")
    inner = exp.Table(this=table.this.copy(), db=table.args.get("db"))
    body = exp.Select(expressions=[exp.Star()], from_=exp.From(this=inner), where=exp.Where(this=condition))
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
    made = exp.Subquery(this=body, alias=alias.copy())
    for name in ("joins", "laterals", "pivots", "sample"):
        if table.args.get(name):
            made.set(name, [j.copy() for j in table.args[name]])
    return made


def refuse_with_time(query: Query) -> None:
    """Raise for a query that asks for the time: it says itself what it forgets."""
    assert query.state_ttl is not None
    raise FeatureNotSupported(
        "state_ttl cannot be used together with now()",
        hint="say in WHERE which rows count: WHERE ts > now() - INTERVAL '1 day'",
        position=query.state_ttl.position + 1,
    )


def check_used(plan: ContinuousPlan, query: Query) -> None:
    """Raise InvalidTableDefinition where a query's `state_ttl` bounds nothing."""
    if query.state_ttl is not None and not _bounded_by(plan):
        raise nothing_to_bound(query)


def _bounded_by(plan: ContinuousPlan) -> bool:
    if plan.recomputed is not None and plan.recomputed.marks:
        return True
    nodes = plan.origin.walk() if plan.origin is not None else ()
    found = list(nodes)
    return any(isinstance(n, (IntervalJoin, Rank)) and n.ttl_us is not None for n in found)


def nothing_to_bound(query: Query) -> InvalidTableDefinition:
    assert query.state_ttl is not None
    return InvalidTableDefinition(
        "there is nothing that state_ttl could bound",
        detail="the query keeps no state, or its windows and time bounds say already how long it is kept",
        hint="leave state_ttl out; EXPLAIN tells what a query keeps",
        position=query.state_ttl.position + 1,
    )


def kept_for_ever(plan: ContinuousPlan) -> list[str]:
    """Say what a query in append mode keeps for ever, in words."""
    found = []
    for node in plan.origin.walk() if plan.origin is not None else ():
        if isinstance(node, Rank) and node.unbounded:
            found.append(f"the keys that were shown ({node.text})")
        if isinstance(node, Over) and node.unbounded:
            found.append(f"what window functions need of each key ({node.text})")
        if isinstance(node, IntervalJoin) and node.kind.startswith("ASOF"):
            continue  # one version of each key: as large as the table of them
        if isinstance(node, IntervalJoin):
            found += [f"rows of {', '.join(side.names)}" for side in node.kept_for_ever]
    return list(dict.fromkeys(found))


def bound_missing(plan: ContinuousPlan) -> str:
    """Say what would bound it."""
    nodes = list(plan.origin.walk()) if plan.origin is not None else []
    if any(isinstance(n, Over) and n.unbounded for n in nodes):
        return "have a time among the keys, as in PARTITION BY k, date_trunc('day', ts)"
    return f"{_bound_missing(nodes)}; or say how long it is to be kept: WITH (state_ttl = '1 day')"


def _bound_missing(nodes: list[Origin]) -> str:
    ranks = [n for n in nodes if isinstance(n, Rank) and n.unbounded]
    if ranks:
        time = next((name for name, _ in ranks[0].input.times if not name.startswith("__")), "a time with a watermark")
        return f"have {time}, or a window, among the keys"
    join = next(n for n in nodes if isinstance(n, IntervalJoin) and n.kept_for_ever)
    sides = [", ".join(side.names) for side in (join.left, join.right)]
    times = [next((n for n, _ in s.times if not n.startswith("__")), "time") for s in (join.left, join.right)]
    a, b = (f"{side}.{time}" for side, time in zip(sides, times, strict=True))
    return f"bound the join in time on both sides, for example: AND {a} BETWEEN {b} - INTERVAL '5 minutes' AND {b}"
