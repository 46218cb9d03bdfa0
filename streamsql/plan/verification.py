"""VERIFY MATERIALIZED VIEW: a view's answer from the rows that are kept, in one SELECT, and how it differs from the view."""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported
from streamsql.catalog.objects import ENGINE_SCHEMA, literal
from streamsql.plan import stages
from streamsql.plan.nodes import ContinuousPlan
from streamsql.plan.windows.hopping import floor_to
from streamsql.sql.statements import EmitMode


def difference_sql(answer: str, result: str, columns: list[str]) -> str:
    """Rows of the answer that are not in the result (weight 1, or how often) and the reverse (-1): `columns`, ``__weight``."""
    names = ", ".join(columns)
    return f"SELECT __weight, {names} FROM ({stages.weighed(columns, f'({answer})', result)}) ORDER BY {names}"


def answer_sql(plan: ContinuousPlan, name: str, rows_table: str, now_us: int, closed_to: int) -> str:
    """What a view ought to hold: its query over the rows that it accepted, of closed windows only in append mode.

    `now_us` is the time of the epoch, `closed_to` the place up to which windows are closed. Raises FeatureNotSupported.
    """
    if plan.recomputed is not None:
        return plan.recomputed.at(now_us)
    refused = f"SELECT seq FROM {ENGINE_SCHEMA}.late_rows WHERE view = {literal(name)}"
    accepted = f"(SELECT * EXCLUDE (__arrived_at) FROM {rows_table} WHERE __seq NOT IN ({refused}))"
    if plan.grouping is None:
        return stages.linear_result(plan, accepted)
    window = plan.window
    if window is None:
        return stages.result(plan, stages.whole_windows(plan, accepted), ordered=False)
    if window.session or not window.tumbling:
        raise FeatureNotSupported(
            "a view of hopping, cumulating or session windows cannot be verified yet",
            hint="compare it with an ad-hoc SELECT; views of tumbling windows and of none can be verified",
        )
    place = floor_to(f"({window.ruler.place_sql(stages.time_us(window))})", window.pane_us)
    paned = f"(SELECT {plan.alias}.*, {place} AS {stages.PANE_COLUMN} FROM {stages.source(plan, accepted)})"
    closed = ""
    if plan.mode is EmitMode.APPEND:
        closed = f"{stages.PANE_COLUMN} + {window.size_us} <= {closed_to}"
    return stages.result(plan, stages.whole_windows(plan, paned, closed), ordered=False)
