"""What a continuous query may look like, and the errors that say why not and what to write instead.

Two passes: `refuse_shapes` looks at the text's tree before anything is bound, `check` at the finished plan.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidTableDefinition
from streamsql.plan.functions import function_name
from streamsql.plan.nodes import ContinuousPlan
from streamsql.sql.parse import position_of
from streamsql.sql.statements import AllowedLateness, EmitMode, Query

_GROUPING_HINT = "write one continuous query for each grouping"
_VIEW_HINT = "keep a simpler query as a materialized view, and write this one ad hoc over the view"

# clause of a SELECT -> (what the error says, hint)
_REFUSED_CLAUSES: dict[str, tuple[str, str]] = {
    "with_": ("WITH queries (CTEs)", _VIEW_HINT),
    "distinct": ("SELECT DISTINCT", "GROUP BY the columns instead"),
    "joins": ("joins", _VIEW_HINT),
    "laterals": ("LATERAL", _VIEW_HINT),
    "order": ("ORDER BY", "results come window by window; order them when you SELECT from a view"),
    "offset": ("OFFSET", "leave it out"),
    "qualify": ("QUALIFY", _VIEW_HINT),
    "windows": ("the WINDOW clause", _VIEW_HINT),
    "sample": ("TABLESAMPLE", "filter with WHERE"),
    "locks": ("FOR UPDATE", "leave it out"),
}

_REFUSED_NODES: tuple[tuple[type[exp.Expr], str, str], ...] = (
    (exp.Subquery, "subqueries", _VIEW_HINT),
    (exp.Exists, "subqueries", _VIEW_HINT),
    (exp.SetOperation, "UNION, INTERSECT and EXCEPT", "write one continuous query for each part"),
    (exp.Window, "window functions (OVER)", _VIEW_HINT),
    (exp.Unnest, "unnest", _VIEW_HINT),
    (exp.Explode, "unnest", _VIEW_HINT),
    (exp.GroupingSets, "GROUPING SETS", _GROUPING_HINT),
    (exp.Rollup, "ROLLUP", _GROUPING_HINT),
    (exp.Cube, "CUBE", _GROUPING_HINT),
)

# Their value depends on when or how often they are evaluated, so the result would depend on batching.
_VOLATILE_NODES: tuple[type[exp.Expr], ...] = (
    exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime, exp.Localtime, exp.Localtimestamp, exp.Rand,
    exp.UtcDate, exp.UtcTime, exp.UtcTimestamp, exp.Uuid,
)  # fmt: skip
_VOLATILE_NAMES = frozenset({
    "clock_timestamp", "current_date", "current_localtime", "current_localtimestamp", "gen_random_uuid", "get_current_time",
    "get_current_timestamp", "now", "random", "statement_timestamp", "timeofday", "today", "transaction_timestamp", "uuid",
    "uuidv4", "uuidv7",
    # what they say is the session's, the server's, or DuckDB's own
    "current_catalog", "current_database", "current_role", "current_schema", "current_schemas", "current_user",
    "in_search_path", "pg_backend_pid", "session_user", "sleep_ms", "stats", "user", "vector_type", "version",
})  # fmt: skip


def refuse_shapes(tree: exp.Expr, query: Query) -> None:
    """Raise FeatureNotSupported for what a continuous query cannot be yet, at its place in the text."""
    if not isinstance(tree, exp.Select):
        kind = "UNION, INTERSECT and EXCEPT" if isinstance(tree, exp.SetOperation) else type(tree).__name__.upper()
        raise _refusal(kind, "write one continuous query for each part", tree, query)
    for clause, (what, hint) in _REFUSED_CLAUSES.items():
        found = tree.args.get(clause)
        if found:
            raise _refusal(what, hint, found[0] if isinstance(found, list) else found, query)
    group = tree.args.get("group")
    if group is not None and group.args.get("all"):
        raise _refusal("GROUP BY ALL", "name the keys", group, query)
    table = tree.args.get("from_")
    if table is None:
        raise FeatureNotSupported(
            "a continuous query reads a stream", hint="add FROM stream", position=query.position + 1
        )
    for node in tree.walk():
        for kind_of_node, what, hint in _REFUSED_NODES:
            if isinstance(node, kind_of_node):
                raise _refusal(what, hint, node, query)
        if _is_volatile(node, query):
            raise FeatureNotSupported(
                f"{node.sql('postgres').lower()} cannot be used in a continuous query",
                detail="its value would depend on when a row was processed, and the result with it",
                hint="put the time into the rows as a column",
                position=position_of(node, query),
            )
    if not isinstance(table.this, exp.Table) or not isinstance(table.this.this, exp.Identifier):
        raise _refusal("table functions", "read a stream or a table", table.this, query)


def _is_volatile(node: exp.Expr, query: Query) -> bool:
    name = function_name(node, query)
    if name == "age":  # of one argument: how long ago that is
        return len(list(node.iter_expressions())) == 1
    return isinstance(node, _VOLATILE_NODES) or name in _VOLATILE_NAMES


def _refusal(what: str, hint: str, node: object, query: Query) -> FeatureNotSupported:
    position = position_of(node, query) if isinstance(node, exp.Expr) else None
    return FeatureNotSupported(f"{what} cannot be used in a continuous query yet", hint=hint, position=position)


def _check_lateness(plan: ContinuousPlan, lateness: AllowedLateness) -> None:
    if plan.window is None or plan.watermark_delay_us is None:
        raise FeatureNotSupported(
            "ALLOWED LATENESS needs a window and a watermark",
            detail="otherwise no window closes, and no row is late",
            hint="add WITH WATERMARK, or leave ALLOWED LATENESS out",
            position=lateness.position + 1,
        )
    if plan.mode is EmitMode.APPEND:
        raise FeatureNotSupported(
            "ALLOWED LATENESS cannot be used with EMIT APPEND",
            detail="append mode shows each result once, when it is final; it cannot correct it",
            hint="use EMIT UPDATE to see corrections, or a longer watermark to wait longer",
            position=lateness.position + 1,
        )


def check(plan: ContinuousPlan, query: Query) -> None:
    """Raise where the plan's output mode cannot work."""
    position = query.position + 1
    if query.lateness is not None:
        _check_lateness(plan, query.lateness)
    if plan.grouping is None:
        if plan.mode is EmitMode.COMPLETE:
            raise FeatureNotSupported(
                "EMIT COMPLETE needs an aggregate",
                detail="the whole result would be every row ever sent, each time",
                hint="use EMIT APPEND to get each row once",
                position=position,
            )
        if query.watermark is not None:
            raise FeatureNotSupported(
                "WITH WATERMARK needs a window",
                detail="without a window nothing is late and nothing is finished",
                hint="GROUP BY window(time, size), or leave WITH WATERMARK out",
                position=query.watermark.position + 1,
            )
        return
    if plan.mode is not EmitMode.APPEND:
        return
    if plan.window is None:
        raise InvalidTableDefinition(
            "EMIT APPEND needs a window",
            detail="append mode shows each result once, when it is final; without a window a group can always change",
            hint="GROUP BY window(time, size), or use EMIT UPDATE to see a group's new value whenever it changes",
            position=position,
        )
    if plan.watermark_delay_us is None:
        raise InvalidTableDefinition(
            "EMIT APPEND needs a watermark",
            detail=f"no watermark is declared on {plan.window.time_sql}, so no window ever closes",
            hint="add WITH WATERMARK '10 minutes', or declare WATERMARK FOR the column in CREATE STREAM",
            position=position,
        )
