"""EXPLAIN: a plan in words, one line a stage, from the source to what is shown."""

from __future__ import annotations

from collections.abc import Sequence

from streamsql.plan.explain_origins import origin_lines
from streamsql.plan.nodes import ContinuousPlan, Recomputed, Strategy, Window, WindowKind
from streamsql.plan.stages import group_columns, result_keys
from streamsql.plan.touched.plans import Linear, Tail, Touched
from streamsql.sql.durations import render_duration
from streamsql.sql.statements import EmitMode

_SHOWN = {
    EmitMode.APPEND: "each result once, when it is final",
    EmitMode.UPDATE: "a group's new value whenever an epoch changed it",
    EmitMode.COMPLETE: "the whole result whenever it changed",
}


def explain(plan: ContinuousPlan, alike: Sequence[str] = ()) -> list[str]:
    """Describe a plan; the lines are indented as the stages feed each other, the source last.

    `alike` are the views that keep the same groups, with which a view of the plan can share its state.
    """
    every = f", at most every {render_duration(plan.every_us)}" if plan.every_us else ""
    lines = [f"Emit {plan.mode.value.lower()}: {_SHOWN[plan.mode]}{every}"]
    lines += _lines(plan, 0)
    lines.append(f"Watermark: {_watermark(plan)}")
    lines += [f"State table: {line}" for line in _state(plan)]
    if alike:
        lines.append(
            f"Shared state: a view shares its groups with {', '.join(alike)}, once both have taken in the same rows"
        )
    lines.append(f"Output: {'retracts' if plan.retracts else 'append-only'}")
    return lines


def _lines(plan: ContinuousPlan, depth: int) -> list[str]:
    """Describe the stages from a depth on, and what the last of them reads."""
    lines: list[str] = []
    stages = _stages(plan)
    for stage in stages if plan.origin is None else stages[:-1]:
        indent = "  " * depth
        lines += [f"{indent}-> {stage[0]}", *(f"{indent}     {detail}" for detail in stage[1:])]
        depth += 1
    return lines if plan.origin is None else [*lines, *origin_lines(plan.origin, depth, _lines)]


def _stages(plan: ContinuousPlan) -> list[list[str]]:
    outputs = ", ".join(o.name for o in plan.outputs if not o.name.startswith("__"))  # others order what is above
    scan = [f"Scan {plan.source}" if plan.source else "Nothing: it reads no stream, table or view"]
    linear = [f"Filter, Project  (strategy: {Strategy.LINEAR.value})"]
    if plan.condition:
        linear.append(f"filter: {plan.condition}")
    grouping = plan.grouping
    if plan.recomputed is not None:
        return [_recomputed(plan.recomputed, outputs), scan]
    if grouping is None:
        if plan.laterals:
            linear[0] = f"Expand  (strategy: {Strategy.LINEAR.value})"
            linear.append(f"each row gives the rows of: {plan.lateral_text}")
        shown = [f"output: {outputs}"] if outputs else []
        return [[linear[0], *shown, *linear[1:]], scan]
    project = [f"Project  (strategy: {Strategy.LINEAR.value})", f"output: {outputs}"]
    if grouping.having:
        project.append(f"having: {grouping.having_text}")
    window = grouping.window
    name = "GroupAggregate"
    details = [f"keys: {', '.join(grouping.keys) or 'none'}"]
    if grouping.sets:
        sets = (f"({', '.join(grouping.keys[i] for i in members)})" for members in grouping.sets)
        details.append(f"grouping sets: {', '.join(sets)}")
    details.append(f"aggregates: {', '.join(grouping.calls) or 'none'}")
    if window is not None and window.instant:
        details.insert(0, f"a group is closed once the watermark is past its {window.time_sql}")
    elif window is not None:
        name, shape = _window(window)
        details.insert(0, f"window: {window.time_sql}, {shape}")
    stages = [project, [f"{name}  (strategy: {Strategy.COMBINE.value})", *details]]
    if plan.condition:
        stages.append(linear)
    return [*stages, scan]


def _recomputed(recomputed: Recomputed, outputs: str) -> list[str]:
    part = recomputed.part
    output = f"output: {outputs}"
    if isinstance(part, Linear):
        if part.joins:
            return [f"Join, Project  (strategy: {Strategy.BILINEAR.value})", output]
        return [f"Filter, Project  (strategy: {Strategy.LINEAR.value})", output]
    why = f"because: {recomputed.reason}"
    if isinstance(part, Touched):
        name = f"Recompute touched keys and compare  (strategy: {Strategy.RECOMPUTE.value})"
        found = [f"changes of {', '.join(part.joined)} find their keys by joining"] if part.joined else []
        found += _with_time(recomputed)
        return [name, output, f"keys: {', '.join(part.keys)}", *found, why]
    if isinstance(part, Tail):
        name = f"Recompute touched keys from their first changed row on and compare  (strategy: {Strategy.RECOMPUTE.value})"
        return [
            name,
            output,
            f"keys: {', '.join(part.keys) or 'none'}",
            f"order: {part.order}{', descending' if part.descending else ''}",
        ]
    if recomputed.inner is not None:
        assert recomputed.inner.recomputed is not None
        inside = _recomputed(recomputed.inner.recomputed, "")
        over = "Query over a table of its subquery" if recomputed.nested else "Top-N over a table"
        return [
            f"{over}  (strategy: {Strategy.RECOMPUTE.value})",
            output,
            f"the table: {inside[0]}",
            *inside[2:-1],
            why,
        ]
    name = f"Recompute and compare  (strategy: {Strategy.RECOMPUTE.value})"
    whole = [f"run again whole: {recomputed.whole_because}"]
    return [name, output, why, *_with_time(recomputed), *whole]


def _with_time(recomputed: Recomputed) -> list[str]:
    if recomputed.marks:
        return [f"changes with time: the watermark of {', '.join(name for name, _ in recomputed.marks)}"]
    return ["changes with time: now()"] if recomputed.temporal else []


def _window(window: Window) -> tuple[str, str]:
    """Give the name of a window's stage, and its shape in words."""
    size, slide, pane = (window.ruler.render(length) for length in (window.size_us, window.slide_us, window.pane_us))
    if window.session:
        return "SessionWindow", f"gap {size}"
    kept = f", offset {render_duration(window.ruler.offset_us)}" if window.ruler.offset_us else ""
    kept += f", time zone {window.ruler.zone}" if window.ruler.zone else ""
    if window.tumbling:
        return "TumblingWindow", f"size {size}{kept}"
    if window.kind is WindowKind.CUMULATE:
        return "CumulatingWindow", f"size {size}, step {slide}, panes of {pane}{kept}"
    return "HoppingWindow", f"size {size}, slide {slide}, panes of {pane}{kept}"


def _watermark(plan: ContinuousPlan) -> str:
    if plan.window is None and (plan.origin is not None or plan.time is not None) and plan.times:
        return f"handed on, as a bound of {', '.join(name for name, _ in plan.times)}"
    if plan.window is None:
        return "none: nothing is late, and no result is final"
    if plan.watermark_delay_us is None:
        return f"none on {plan.window.time_sql}: no window closes"
    if plan.bound is not None:
        delay = f", less {render_duration(plan.watermark_delay_us)}" if plan.watermark_delay_us else ""
        return (
            f"as {plan.source} hand{'s' * (len(plan.sources) < 2)} it on, as a bound of {plan.window.time_sql}{delay}"
        )
    allowed = f"; allowed lateness {render_duration(plan.allowed_lateness_us)}" if plan.allowed_lateness_us else ""
    return f"{plan.window.time_sql} - {render_duration(plan.watermark_delay_us)}{allowed}"


def _state(plan: ContinuousPlan) -> list[str]:
    """Name the tables that the query keeps, by what tells their rows apart, and when their rows go."""
    grouping = plan.grouping
    if plan.recomputed is not None and plan.recomputed.marks:
        assert plan.state_ttl_us is not None
        names = ", ".join(name for name, _ in plan.recomputed.marks)
        others = [n for n in plan.sources if n not in dict(plan.recomputed.marks)]
        kept = f"; those of {', '.join(others)} as long as they are there" if others else ""
        ttl = render_duration(plan.state_ttl_us)
        return [
            "the result, a row for each row of it",
            f"the rows of {names} until the watermark is past their time + {ttl} (state_ttl){kept}",
        ]
    if plan.recomputed is not None:
        kept = f"; the rows of {plan.source} are kept for ever" if plan.source else ""
        return [f"the result, a row for each row of it{kept}"]
    if grouping is None:
        return ["none"]
    session = grouping.window is not None and grouping.window.session
    instant = grouping.window is not None and grouping.window.instant
    named = {f"k{i}": key for i, key in enumerate([*grouping.keys, "grouping set"])}
    named |= {"w": "session start" if session else "pane start", "f": "first window", "e": "session end"}
    keys = ", ".join(named[c] for c in group_columns(grouping) if not (instant and c == "w"))
    bound = (
        f"dropped when the {'group' if instant else 'window'} closes"
        if plan.state_bounded
        else "unbounded: kept for ever"
    )
    tables = [f"{len(grouping.parts)} partial states for each ({keys}); {bound}"]
    if plan.mode is not EmitMode.APPEND:
        shown = ", ".join((named | {"w": "window start", "e": "window end"})[c] for c in result_keys(grouping))
        tables.append(f"the result, a row for each ({shown})")
    for what in dict.fromkeys(by for _, by in grouping.growing):
        calls = ", ".join(call for call, by in grouping.growing if by == what)
        tables.append(f"grows with a group's {what}: {calls}")
    return tables
