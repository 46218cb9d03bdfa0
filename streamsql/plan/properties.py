"""What operators can keep, and the errors that say why not and what to write instead.

Two passes: `refuse_shapes` looks at the text's tree before anything is bound, `check` at the finished plan.
"""

from __future__ import annotations

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InvalidTableDefinition
from streamsql.plan.functions import function_name
from streamsql.plan.nodes import ContinuousPlan
from streamsql.sql.parse import position_of
from streamsql.sql.statements import AllowedLateness, EmitMode, Query, Statement

_HINT = "use EMIT UPDATE: the query is then run again when what it reads has changed"

# clause of a SELECT -> what the error says
_REFUSED_CLAUSES: dict[str, str] = {
    "with_": "WITH queries (CTEs)",
    "joins": "joins",
    "laterals": "LATERAL",
    "order": "ORDER BY",
    "offset": "OFFSET",
    "qualify": "QUALIFY",
    "windows": "the WINDOW clause",
    "sample": "TABLESAMPLE",
    "locks": "FOR UPDATE",
}

_REFUSED_NODES: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.Subquery, "subqueries"),
    (exp.Exists, "subqueries"),
    (exp.SetOperation, "UNION, INTERSECT and EXCEPT"),
    (exp.Window, "window functions (OVER)"),
    (exp.Unnest, "unnest"),
    (exp.Explode, "unnest"),
)

# Their value depends on when or how often they are evaluated, so the result would depend on batching.
_VOLATILE_NODES: tuple[type[exp.Expr], ...] = (
    exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime, exp.Localtime, exp.Localtimestamp, exp.Rand,
    exp.UtcDate, exp.UtcTime, exp.UtcTimestamp, exp.Uuid,
)  # fmt: skip
_VOLATILE_NAMES = frozenset({
    "clock_timestamp", "current_date", "current_localtime", "current_localtimestamp", "gen_random_uuid", "get_current_time",
    "get_current_timestamp", "now", "random", "statement_timestamp", "timeofday", "today", "transaction_timestamp", "uuid",
    "uuid_generate_v4", "uuidv4", "uuidv7",
    # what they say is the session's, the server's, or DuckDB's own
    "current_catalog", "current_database", "current_role", "current_schema", "current_schemas", "current_user",
    "in_search_path", "pg_backend_pid", "proctime", "session_user", "sleep_ms", "stats", "user", "vector_type", "version",
})  # fmt: skip


def refuse_shapes(tree: exp.Expr, query: Query) -> None:
    """Raise FeatureNotSupported for what no operator keeps yet, at its place in the text."""
    if not isinstance(tree, exp.Select):
        kind = "UNION, INTERSECT and EXCEPT" if isinstance(tree, exp.SetOperation) else type(tree).__name__.upper()
        raise _refusal(kind, tree, query)
    for clause, what in _REFUSED_CLAUSES.items():
        found = tree.args.get(clause)
        if found:
            raise _refusal(what, found[0] if isinstance(found, list) else found, query)
    group = tree.args.get("group")
    if group is not None and group.args.get("all"):
        raise _refusal("GROUP BY ALL", group, query)
    table = tree.args.get("from_")
    if table is None:
        raise FeatureNotSupported(
            "a continuous query reads a stream", hint="add FROM stream", position=query.position + 1
        )
    for node in tree.walk():
        for kind_of_node, what in _REFUSED_NODES:
            if isinstance(node, kind_of_node):
                raise _refusal(what, node, query)
        if isinstance(node, exp.Select) and node is not tree:  # = ALL (SELECT ...) has no node of a subquery
            raise _refusal("subqueries", node, query)
    refuse_volatile(tree, query)
    if not isinstance(table.this, exp.Table) or not isinstance(table.this.this, exp.Identifier):
        raise _refusal("table functions", table.this, query)


def refuse_volatile(tree: exp.Expr, query: Query) -> None:
    """Raise FeatureNotSupported for a function whose value depends on when or how often it is called."""
    for node in tree.walk():
        if _is_volatile(node, query):
            raise FeatureNotSupported(
                f"{node.sql('postgres').lower()} cannot be used in a continuous query",
                detail="its value would depend on when a row was processed, and the result with it",
                hint="put the time into the rows as a column"
                if function_name(node, query) != "proctime"
                else "use it in a window, in append mode: GROUP BY window(PROCTIME(), '10 s') EMIT APPEND",
                position=position_of(node, query),
            )


def refuse_versions(tree: exp.Expr, query: Statement) -> None:
    """Raise FeatureNotSupported for FOR SYSTEM_TIME AS OF where a query is not in append mode."""
    for table in tree.find_all(exp.Table):
        if table.args.get("version") is not None:
            raise FeatureNotSupported(
                "FOR SYSTEM_TIME AS OF needs EMIT APPEND",
                detail="any other query reads a table as it is when it is asked, and follows its changes",
                hint="leave FOR SYSTEM_TIME out; for the version at a row's event time use an ASOF JOIN",
                position=position_of(table, query),
            )


def refuse_sampling(tree: exp.Expr, query: Query) -> None:
    """Raise FeatureNotSupported for what gives another answer each time that it is asked."""
    for node in tree.walk():
        if isinstance(node, exp.TableSample) or function_name(node, query) == "reservoir_quantile":
            raise FeatureNotSupported(
                "a random sample cannot be used in a continuous query",
                detail="the result would change with each epoch although nothing else has",
                position=position_of(node, query),
            )


def refuse_distinct(tree: exp.Select, query: Query) -> None:
    """Raise FeatureNotSupported for a SELECT DISTINCT that rows can be equal in."""
    raise _refusal("SELECT DISTINCT", tree.args["distinct"], query)


def _is_volatile(node: exp.Expr, query: Query) -> bool:
    name = function_name(node, query)
    if name == "age":  # of one argument: how long ago that is
        return len(list(node.iter_expressions())) == 1
    return isinstance(node, _VOLATILE_NODES) or name in _VOLATILE_NAMES


def _refusal(what: str, node: object, query: Query) -> FeatureNotSupported:
    position = position_of(node, query) if isinstance(node, exp.Expr) else None
    return FeatureNotSupported(f"there is no incremental form of {what} yet", hint=_HINT, position=position)


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


def check(plan: ContinuousPlan, query: Query, *, inner: bool = False) -> None:
    """Raise where the plan's output mode cannot work. A watermark on a subquery (`inner`) is what it hands on."""
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
        kept = plan.origin is not None and plan.origin.keeps_rows
        if query.watermark is not None and not inner and not kept and len(plan.sources) < 2:
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
        times = plan.origin.times if plan.origin is not None else ()
        column = next((name for name, _ in times if not name.startswith("__")), "time")
        raise InvalidTableDefinition(
            "EMIT APPEND needs a window",
            detail="append mode shows each result once, when it is final; without a window, or a time with a watermark among "
            "its keys, a group can always change",
            hint=f"GROUP BY window({column}, size), or use EMIT UPDATE to see a group's new value whenever it changes",
            position=position,
        )
    if plan.watermark_delay_us is None and plan.origin is not None:
        known = ", ".join(f'"{name}"' for name, _ in plan.origin.times)
        raise InvalidTableDefinition(
            "EMIT APPEND needs a watermark",
            detail=f"the watermark of {plan.source} says nothing of {plan.window.time_sql}, so no window ever closes",
            hint=f"it is known of {known}" if known else "declare WATERMARK FOR a column in CREATE STREAM",
            position=position,
        )
    if plan.watermark_delay_us is None:
        raise InvalidTableDefinition(
            "EMIT APPEND needs a watermark",
            detail=f"no watermark is declared on {plan.window.time_sql}, so no window ever closes",
            hint="add WITH WATERMARK '10 minutes', or declare WATERMARK FOR the column in CREATE STREAM",
            position=position,
        )
