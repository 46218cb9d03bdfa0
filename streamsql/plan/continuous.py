"""How a continuous query is kept: by operators that take changes in, where there are any for it; else by recomputing.

The operators' way (`plan.bind`) reads one stream. Whatever else DuckDB can answer is kept by running the query again in each
epoch that changed what it reads, and showing the difference: joins, set operations, subqueries, window functions, top-N, and
everything over tables and views, whose rows can go away.

    in    a: (1, x)   b: (1, y)         SELECT a.v, b.w FROM a JOIN b USING (k) EMIT UPDATE
    out   +(x, y)
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import sqlglot
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidTableDefinition, StreamSQLError
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog, CatalogObject, Stream, View
from streamsql.catalog.relation import CatalogRelation, Snapshot
from streamsql.catalog.rights import require_read
from streamsql.plan import enums
from streamsql.plan.adhoc import Scope, adhoc_query
from streamsql.plan.bind import bind
from streamsql.plan.dialects import as_our_own
from streamsql.plan.functions import Asker, refuse_session_functions
from streamsql.plan.nodes import EPOCH_US, ContinuousPlan, Describe, Output, Recomputed, as_told
from streamsql.plan.output_names import with_values_names
from streamsql.plan.places import located
from streamsql.plan.properties import refuse_sampling, refuse_versions, refuse_volatile
from streamsql.plan.result_types import Columns, ResultTypes, is_named, relation_columns
from streamsql.plan.touched.blocks import NotKeyed
from streamsql.plan.touched.choose import choose
from streamsql.plan.touched.nested import nested_of
from streamsql.plan.touched.plans import Keyed, Linear
from streamsql.plan.touched.tail import tail_of
from streamsql.plan.touched.top import Top, top_of
from streamsql.plan.ttl import Marks, check_used, forgetting, refuse_with_time
from streamsql.sql.parse import position_of
from streamsql.sql.statements import EmitMode, Query

# The time of the epoch, in place of now().
_EPOCH_TIME = f"make_timestamp({EPOCH_US})"
_TIMES: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    ((exp.CurrentTimestamp,), f"timezone('UTC', {_EPOCH_TIME})"),
    ((exp.CurrentDate,), f"CAST({_EPOCH_TIME} AS DATE)"),
    ((exp.Localtimestamp, exp.CurrentDatetime), _EPOCH_TIME),
)


def plan_query(
    query: Query, catalog: Catalog, describe: Describe, limits: Limits, *, as_lists: bool = False
) -> ContinuousPlan:
    """Plan a continuous query; without EMIT, as a materialized view may be, it is kept in update mode. `as_lists` as in `bind`.

    Raises StreamSQLError, with a position where the fault has one in the query's text.
    """
    query, made = _by_rank(query, catalog)
    # several forms of a query are tried, which ask for the same
    plan = _planned(query, catalog, cache(describe), limits, as_lists=as_lists)
    if any(made) and len(made) == len(plan.outputs):
        plan = replace(plan, outputs=tuple(replace(o, made=m) for o, m in zip(plan.outputs, made, strict=True)))
    check_used(plan, query)
    return plan if query.state_ttl is None else replace(plan, state_ttl_us=query.state_ttl.ttl_us)


def _by_rank(query: Query, catalog: Catalog) -> tuple[Query, list[WireType | None]]:
    """Let a query go by the order of the enums that it reads; give the types of its columns that users have made."""
    if not catalog.types:
        return query, []

    def columns(table: exp.Table) -> Columns | None:
        made = catalog.get(table.name)
        return None if made is None else relation_columns(made)

    tree = query.tree.copy()
    as_our_own(tree, query)
    enums.rewrite(tree, query, columns)
    told = ResultTypes(query, columns).told(tree) or []
    return replace(query, tree=tree), [w if w is not None and is_named(w) else None for w in told]


def _planned(query: Query, catalog: Catalog, describe: Describe, limits: Limits, *, as_lists: bool) -> ContinuousPlan:
    mode, once = query.emit or EmitMode.UPDATE, query.emit is None
    query = replace(query, emit=mode, tree=query.tree.copy())
    as_our_own(query.tree, query)
    bound_by_time = query.watermark is not None or query.lateness is not None
    sources = _sources(query, catalog)
    reads_streams = all(_appends(catalog.get(n)) for n in sources)
    forgets = query.state_ttl is not None and mode is not EmitMode.APPEND and not bound_by_time
    if forgets and not _by_windows(query, catalog, describe, limits):
        reason = "rows are forgotten (state_ttl)"
    elif once and not sources:
        reason = "it reads nothing that changes"
    elif reads_streams or mode is EmitMode.APPEND or bound_by_time:
        try:
            return bind(query, catalog, describe, limits, as_lists=as_lists)
        except FeatureNotSupported as refusal:
            if mode is EmitMode.APPEND or bound_by_time:
                raise
            reason = refusal.message
    else:
        reason = "what it reads can lose rows"
    if not sources and not once:
        raise FeatureNotSupported(
            "a continuous query reads a stream", hint="add FROM stream", position=query.position + 1
        )
    return _recomputed(query, mode, reason, catalog, describe, limits)


def _by_windows(query: Query, catalog: Catalog, describe: Describe, limits: Limits) -> bool:
    """Tell whether operators keep a query by windows: they say how long its state is kept."""
    try:
        return bind(query, catalog, describe, limits).window is not None
    except StreamSQLError:
        return False


def _appends(found: CatalogObject | None) -> bool:
    """Tell whether rows of it never go."""
    return isinstance(found, Stream) or (isinstance(found, View) and found.append_only)


def _recomputed(
    query: Query, mode: EmitMode, reason: str, catalog: Catalog, describe: Describe, limits: Limits
) -> ContinuousPlan:
    refuse_session_functions(query.tree, query, "a continuous query")
    refuse_versions(query.tree, query)
    tree, limit = _without_row_limit(query.tree)
    temporal, tree = _at_epoch_time(tree)
    marks: Marks = ()
    sources = _kept_sources(query, catalog)
    if query.state_ttl is not None:
        if temporal:
            refuse_with_time(query)
        tree, marks = forgetting(tree, query, catalog)
        temporal = True
    refuse_volatile(tree, query)
    refuse_sampling(tree, query)
    asked = describe
    if temporal:
        asked = lambda sql: describe(sql.replace(EPOCH_US, "0"))  # noqa: E731  # what it is asked of has no parameters
    scope = Scope(catalog, asked, limits, Asker(""), frozenset(), Snapshot(catalog, "", ""), _no_catalog)
    try:
        made = adhoc_query(tree, query, scope)
        sql = made.sql
        columns = with_values_names(query.tree, describe(Recomputed(sql, sources, temporal, reason).at(0)))
    except StreamSQLError as error:
        raise located(error, query.tree, query) from error
    found = [Output(c.name, f"o{i}", c.type) for i, c in enumerate(columns)]

    def planned(outputs: tuple[Output, ...]) -> Recomputed:
        names = ", ".join(f"o{i}" for i in range(len(outputs)))
        shown = ", ".join(f"{o.sql} AS o{i}" for i, o in enumerate(outputs))
        recomputed = Recomputed(f"SELECT {shown} FROM ({sql}) AS q({names})", sources, temporal, reason, marks=marks)
        if not temporal:
            try:
                tail = tail_of(sql, shown, sources, catalog, describe, limits, query)
                return replace(recomputed, sql=f"SELECT {names} FROM ({tail.whole})", part=tail)
            except NotKeyed:
                pass
        return _in_part(recomputed, sql, shown, len(outputs), catalog, describe)

    outputs = as_told(found, None)
    recomputed = planned(outputs)
    # a key is compared with the sources' values, and keeps their type
    keys = recomputed.part.places if isinstance(recomputed.part, Keyed) else ()
    types = made.types if made.types is not None and len(made.types) == len(found) else [None] * len(found)
    told = [None if o.sql in keys else w for o, w in zip(found, types, strict=True)]
    if as_told(found, told) != outputs:
        outputs = as_told(found, told)
        recomputed = planned(outputs)
    return ContinuousPlan(
        ", ".join(sources), "", None, None, outputs, mode, None, query.every_us, limit, recomputed=recomputed
    )


def _in_part(made: Recomputed, sql: str, shown: str, outputs: int, catalog: Catalog, describe: Describe) -> Recomputed:
    """Find how to run a query for the part of its result that an epoch changes; `shown` is its select list over ``o0``.. ."""
    now = EPOCH_US if made.temporal else None
    try:
        return replace(made, part=choose(sql, shown, made.sources, catalog, describe, now))
    except NotKeyed as why:
        whole = replace(made, whole_because=str(why))
    if now is not None:
        return whole
    for top in (top_of(sql, shown, outputs), nested_of(sql, shown, outputs)):
        made = whole if top is None else _over_table(whole, top, outputs, catalog, describe)
        if made is not whole:
            return made
    return whole


def _over_table(whole: Recomputed, top: Top, outputs: int, catalog: Catalog, describe: Describe) -> Recomputed:
    """Keep a part of a query in a table of its own, if it has a key; else give the query as it is."""
    names = [f"o{i}" for i in range(top.columns)]
    try:
        inner_sql = f"SELECT {', '.join(names)} FROM ({top.inner}) AS q({', '.join(names)})"
        columns = describe(inner_sql)
        part = choose(top.inner, ", ".join(f"{n} AS {n}" for n in names), whole.sources, catalog, describe)
        if isinstance(part, Linear) and not part.joins:
            return whole  # there is nothing to group or join: the sources can be read as fast
        inner = Recomputed(
            f"SELECT {', '.join(names)} FROM ({top.inner}) AS q({', '.join(names)})", whole.sources, False, "", part
        )
        kept = tuple(Output(n, n, c.type) for n, c in zip(names, columns, strict=True))
        plan = ContinuousPlan(", ".join(whole.sources), "", None, None, kept, EmitMode.UPDATE, recomputed=inner)
        described = describe(top.whole(inner.sql))
    except (NotKeyed, StreamSQLError):
        return whole
    assert len(described) == outputs
    return replace(whole, sql=top.whole(inner.sql), inner=plan, over_inner=top.outer, nested=top.nested)


def _no_catalog(relation: CatalogRelation | None) -> None:
    """Refuse to read pg_catalog: it is no stream, and says who asks."""
    raise FeatureNotSupported(
        "a continuous query cannot read the catalog",
        detail=None if relation is None else f"it reads {relation.name}",
        hint="ask ad hoc",
    )


def named_relations(query: Query) -> list[str]:
    """List the names that a query reads from, in the order of its text: also of its CTEs."""
    tree = query.tree.copy()
    as_our_own(tree, query)
    return list(dict.fromkeys(t.name for t in tree.find_all(exp.Table) if t.db in {"", "public"}))


def require_sources(catalog: Catalog, role: int, query: Query) -> None:
    """Raise InsufficientPrivilege unless the role may read all that a query reads."""
    for name in named_relations(query):
        made = catalog.get(name)
        if made is not None:
            require_read(catalog, role, made)


def _sources(query: Query, catalog: Catalog) -> tuple[str, ...]:
    """List the streams, tables and views that a query reads, in the order of its text."""
    return tuple(n for n in named_relations(query) if catalog.get(n) is not None)


def _kept_sources(query: Query, catalog: Catalog) -> tuple[str, ...]:
    """Give the same; raises where a stream keeps no rows to read again."""
    sources = _sources(query, catalog)
    for name in sources:
        found = catalog.get(name)
        if isinstance(found, Stream) and found.retention_us == 0:
            table = next(t for t in query.tree.find_all(exp.Table) if t.name == name)
            raise InvalidTableDefinition(
                f'stream "{name}" keeps no rows, and this query is kept by reading them again',
                hint="create the stream with a retention, or GROUP BY keys of this stream alone",
                position=position_of(table.this, query),
            )
    return sources


def _without_row_limit(tree: exp.Expr) -> tuple[exp.Expr, int | None]:
    """Tell LIMIT of a result without an order, which ends a live query, from that of a top-N."""
    limit = tree.args.get("limit")
    value = limit.expression if isinstance(limit, exp.Limit) else None
    ends = isinstance(value, exp.Literal) and value.is_int and not (tree.args.get("order") or tree.args.get("offset"))
    if not ends:
        return tree, None
    tree = tree.copy()
    tree.set("limit", None)
    assert isinstance(value, exp.Literal)
    return tree, int(value.this)


def _at_epoch_time(tree: exp.Expr) -> tuple[bool, exp.Expr]:
    """Put the epoch's time in for now() and its kin; tells whether there were any."""
    tree = tree.copy()
    found = False
    for node in list(tree.walk()):
        name = str(node.this).lower() if isinstance(node, exp.Anonymous) else ""
        sql = next((s for kinds, s in _TIMES if isinstance(node, kinds)), None)
        if name in {"now", "transaction_timestamp", "statement_timestamp"}:
            sql = _TIMES[0][1]
        if sql is not None:
            node.replace(sqlglot.parse_one(sql, read="duckdb"))
            found = True
    return found, tree
