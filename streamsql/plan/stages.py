"""From a plan to the SQL statements that DuckDB runs in an epoch.

Relations that the statements read and write:

    the delta        the rows that arrived, with ``__seq``, in a windowed query ``__pane`` (the start of the row's pane in
                     int64 microseconds), and in a hopping window ``__from`` (see below);
                     in a session window these are the row's time and the watermark before it
    the state        one row a (pane, keys): columns ``w`` (pane start, int64 microseconds), ``f``, ``k0``.., ``s0``..;
                     of session windows one row a session, with ``w`` and ``e`` for its start and end
    groups           one row a (window, keys) with the parts' values: columns ``w``, ``k0``.., ``p0``..

``f`` stands in hopping windows only: the end of the first window for which a partial state counts. A row that arrives when
some of its windows are closed counts in the open ones alone, so its partial state must not be mixed with one that counts
in all (`EVERY_WINDOW`).
"""

from __future__ import annotations

from collections.abc import Iterable

from streamsql.plan.aggregates import split_columns
from streamsql.plan.grouping_sets import SET_COLUMN
from streamsql.plan.nodes import ContinuousPlan, Distinct, Grouping, Window
from streamsql.plan.windows import bounds_of_window, windows_of_place

FROM_COLUMN = "__from"
PANE_COLUMN = "__pane"
EVERY_WINDOW = -(1 << 62)


def time_us(window: Window) -> str:
    """SQL of the event time in int64 microseconds."""
    if window.time_type == "DATE":
        return f"epoch_us(CAST({window.time_sql} AS TIMESTAMP))"
    return f"epoch_us({window.time_sql})"


def window_bounds(window: Window, start_sql: str, end_sql: str | None = None) -> tuple[str, str]:
    """SQL of ``window_start`` and ``window_end`` from a start on the ruler, in the event time's type.

    `end_sql` gives the end where the start alone does not tell it.
    """
    places = bounds_of_window(window, start_sql) if end_sql is None else (start_sql, end_sql)
    start, end = (f"make_timestamp({window.ruler.instant_sql(place)})" for place in places)
    if window.time_type == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {start})", f"timezone('UTC', {end})"
    return start, end


def source(plan: ContinuousPlan, relation: str) -> str:
    return f"{relation} AS {plan.alias}"


def event_time_query(plan: ContinuousPlan, delta: str) -> str:
    """The event time of each row of the delta in arrival order, where it is an expression; NULL where that fails.

    A row that the query's WHERE keeps out has a time as well, so the condition cannot guard the expression.
    """
    assert plan.window is not None
    return f"SELECT TRY({time_us(plan.window)}) AS t FROM {source(plan, delta)} ORDER BY __seq"


def _where(plan: ContinuousPlan, *others: str) -> str:
    conditions = [c for c in (plan.condition, *others) if c]
    return f" WHERE {' AND '.join(f'({c})' for c in conditions)}" if conditions else ""


def key_columns(grouping: Grouping) -> list[str]:
    """Names of the groups' keys; with grouping sets the number of the set is the last."""
    return [*(f"k{i}" for i in range(len(grouping.keys))), *([set_key(grouping)] if grouping.sets else [])]


def set_key(grouping: Grouping) -> str:
    """Name of the key that is the grouping set's number; where sets are of several queries, more keys may come."""
    return "ks" if grouping.arms else f"k{len(grouping.keys)}"


def group_columns(grouping: Grouping) -> list[str]:
    """Names of the columns that tell the state's rows apart."""
    names = key_columns(grouping)
    if grouping.window is None:
        return names
    if grouping.window.session:
        return ["w", "e", *names]
    return ["w", *([] if grouping.window.tumbling else ["f"]), *names]


def result_keys(grouping: Grouping) -> list[str]:
    """Names of the columns that tell the groups of the result apart, in the order in which groups are shown."""
    if grouping.window is not None and grouping.window.session:
        return ["e", "w", *group_columns(grouping)[2:]]
    return [c for c in group_columns(grouping) if c != "f"]


def partials(plan: ContinuousPlan, delta: str, extra: str = "", *, apart: bool = False) -> str:
    """Partial states of the delta's rows, in the state's columns.

    `apart` groups by each set of several queries' by itself, with the parts that it needs: for many rows that is faster than to
    multiply them by the sets, for few it is slower.
    """
    grouping = _grouping(plan)
    if apart and grouping.arms:
        return _partials_of_arms(plan, delta)
    states = [f"{part.partial} AS s{i}" for i, part in enumerate(grouping.parts)]
    selected = []
    if not grouping.sets or len(grouping.from_start) < len(grouping.sets):
        keyed = f"{SET_COLUMN} NOT IN {_numbers(grouping.from_start)}" if grouping.sets and grouping.from_start else ""
        items = ", ".join([*_group_items(grouping), *states])
        selected.append(f"SELECT {items} FROM {_admitted(plan, delta, extra, keyed)}{_group_by(grouping)}")
    for number in grouping.from_start if grouping.sets else ():
        items = ", ".join([*_keys_of_no_set(grouping, number), *states])
        selected.append(f"SELECT {items} FROM {_admitted(plan, delta, extra, with_sets=False)}")
    return " UNION ALL ".join(selected)


def _partials_of_arms(plan: ContinuousPlan, delta: str) -> str:
    grouping = _grouping(plan)
    rows = _admitted(plan, delta, with_sets=False)
    selected = []
    for number, arm in enumerate(grouping.arms):
        keys = [f"{key} AS k{place}" for place, key in enumerate(arm.keys) if key is not None]
        states = [f"{grouping.parts[i].partial} AS s{i}" for i in arm.parts]
        items = ", ".join([*keys, f"{number}::BIGINT AS {set_key(grouping)}", *states])
        group_by = ", ".join(str(place + 1) for place in range(len(keys)))
        selected.append(f"SELECT {items} FROM {rows} GROUP BY {group_by}")
    columns = ", ".join([*group_columns(grouping), *(f"s{i}" for i in range(len(grouping.parts)))])
    return f"SELECT {columns} FROM ({' UNION ALL BY NAME '.join(selected)})"


def seen_name(state: str, number: int) -> str:
    """Name the table of the values that groups have had, beside the state's: those of the distinct values of this number."""
    return f"{state}#seen{number}"


def seen_shape(plan: ContinuousPlan, delta: str, item: Distinct) -> str:
    """Values that groups have had, in the columns of their table: those that tell the groups apart, ``v``, and ``q``, the
    arrival number of the first row that had it."""
    columns = ", ".join([*group_columns(_grouping(plan)), "v", "min(q) AS q"])
    return f"SELECT {columns} FROM ({_valued(plan, delta, item)}) GROUP BY ALL"


def seen(plan: ContinuousPlan, delta: str, item: Distinct, table: str) -> str:
    """Add to the table of what groups have had the values of the delta's rows that are new; gives the rows that brought them.

    What is known of the delta's values is looked up first, so that of the large table no more is built than these.
    """
    columns = group_columns(_grouping(plan))
    on = " AND ".join(f"s.{c} IS NOT DISTINCT FROM c.{c}" for c in (*columns, "v"))
    names = ", ".join(f"s.{c} AS {c}" for c in (*columns, "v"))
    known = f"SELECT {names} FROM {table} AS s SEMI JOIN came AS c ON {on}"
    return (
        f"INSERT INTO {table} WITH came AS MATERIALIZED ({seen_shape(plan, delta, item)}) "
        f"SELECT c.* FROM came AS c ANTI JOIN ({known}) AS s ON {on} RETURNING q"
    )


def _valued(plan: ContinuousPlan, delta: str, item: Distinct) -> str:
    """The delta's rows that have a value: the keys of their groups, the value ``v``, the arrival number ``q``."""
    columns = [*_group_items(_grouping(plan)), f"{item.value} AS v", "__seq AS q"]
    conditions = [f"({item.condition})"] if item.condition else []
    return f"SELECT {', '.join(columns)} FROM {source(plan, delta)}{_where(plan, *conditions, f'({item.value}) IS NOT NULL')}"


def timed_rows(plan: ContinuousPlan, delta: str) -> str:
    """The delta's rows in a session window: ``seq``, ``t`` (the time), ``b`` (the watermark before the row), ``k0``.. ."""
    keys = "".join(f", {key} AS k{i}" for i, key in enumerate(_grouping(plan).keys))
    return f"SELECT __seq AS seq, {PANE_COLUMN} AS t, {FROM_COLUMN} AS b{keys} FROM {source(plan, delta)}{_where(plan)}"


def in_sessions(delta: str, sessions: str) -> str:
    """The delta's rows with their session's bounds for pane and watermark; `sessions` has ``seq``, ``s``, ``e``."""
    return (
        f"(SELECT d.* REPLACE (a.s AS {PANE_COLUMN}, a.e AS {FROM_COLUMN}) "
        f"FROM {delta} AS d JOIN {sessions} AS a ON a.seq = d.__seq)"
    )


def whole_windows(plan: ContinuousPlan, delta: str, extra: str = "") -> str:
    """Groups of tumbling windows that lie in the delta from first to last row: no state is needed for them."""
    grouping = _grouping(plan)
    items = [*_group_items(grouping), *(f"{part.whole} AS p{i}" for i, part in enumerate(grouping.parts))]
    return f"SELECT {', '.join(items)} FROM {_admitted(plan, delta, extra)}{_group_by(grouping)}"


def _admitted(plan: ContinuousPlan, delta: str, *conditions: str, with_sets: bool = True) -> str:
    """The delta's rows that the conditions let through, each for every grouping set, with the splits of what is summed."""
    grouping = _grouping(plan)
    sets = with_sets and bool(grouping.sets)
    rows = f"{_source_of_sets(plan, delta) if sets else source(plan, delta)}{_where(plan, *conditions)}"
    if not grouping.splits:
        return rows
    columns = [
        f"{plan.alias}.*",
        *([SET_COLUMN] if sets else []),
        *(f"{x} AS __x{i}" for i, x in enumerate(grouping.splits)),
    ]
    selected = f"SELECT {', '.join(columns)} FROM {rows}"
    return f"({split_columns(selected, grouping.splits)}) AS {plan.alias}"


def _keys_of_no_set(grouping: Grouping, number: int) -> list[str]:
    """The keys of the one group of a grouping set without keys."""
    values = [*("NULL" for _ in grouping.keys), f"{number}::BIGINT"]
    return [f"{value} AS {name}" for value, name in zip(values, key_columns(grouping), strict=True)]


def _grouping(plan: ContinuousPlan) -> Grouping:
    assert plan.grouping is not None
    return plan.grouping


def _group_items(grouping: Grouping) -> list[str]:
    items = []
    if grouping.window is not None:
        items.append(f"{PANE_COLUMN} AS w")
        if not grouping.window.tumbling:
            items.append(f"{FROM_COLUMN} AS {'e' if grouping.window.session else 'f'}")
    items += [f"{_key(grouping, i)} AS k{i}" for i in range(len(grouping.keys))]
    return items + ([f"{SET_COLUMN} AS {set_key(grouping)}"] if grouping.sets else [])


def _key(grouping: Grouping, index: int) -> str:
    """A key as it stands in a row's grouping set: NULL where it is not in the set."""
    inside = tuple(number for number, keys in enumerate(grouping.sets) if index in keys)
    if len(inside) == len(grouping.sets):
        return grouping.keys[index]
    return f"CASE WHEN {SET_COLUMN} IN {_numbers(inside)} THEN {grouping.keys[index]} END"


def _numbers(numbers: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, numbers))})"


def _source_of_sets(plan: ContinuousPlan, relation: str) -> str:
    """The source's rows, each once for every grouping set."""
    count = len(_grouping(plan).sets)
    times = f" CROSS JOIN (SELECT unnest(range({count})) AS {SET_COLUMN}) AS __sets" if count else ""
    return source(plan, relation) + times


def _group_by(grouping: Grouping) -> str:
    count = len(group_columns(grouping))
    return f" GROUP BY {', '.join(str(i + 1) for i in range(count))}" if count else ""


def combined(grouping: Grouping, states: str, condition: str = "") -> str:
    """Merge states of equal (pane, keys): gives the state's columns."""
    columns = group_columns(grouping)
    items = [*columns, *(f"{part.merged_all(f's{i}')} AS s{i}" for i, part in enumerate(grouping.parts))]
    group_by = f" GROUP BY {', '.join(columns)}" if columns else ""
    return f"SELECT {', '.join(items)} FROM {states}{f' WHERE {condition}' if condition else ''}{group_by}"


def groups_of_states(grouping: Grouping, states: str, condition: str = "") -> str:
    """Groups from states whose panes are windows themselves (tumbling), or that have no window.

    `condition` is over the columns ``w``, ``k0``.. .
    """
    columns = result_keys(grouping)
    values = [f"{part.value(part.merged_all(f's{i}'))} AS p{i}" for i, part in enumerate(grouping.parts)]
    group_by = f" GROUP BY {', '.join(columns)}" if columns else ""
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT {', '.join([*columns, *values])} FROM {states}{where}{group_by}"


def kept_groups(plan: ContinuousPlan, partial_states: str) -> str:
    """Groups as update mode keeps them: keys, states, output columns, and whether HAVING shows the group."""
    grouping = _grouping(plan)
    return f"SELECT {', '.join(kept_columns(plan, compute=True))} FROM ({_with_values(grouping, partial_states)})"


def kept_columns(plan: ContinuousPlan, *, compute: bool = False) -> list[str]:
    """The columns of `kept_groups`; `compute` gives the outputs as expressions over the parts' values."""
    grouping = _grouping(plan)
    names = [*group_columns(grouping), *(f"s{i}" for i in range(len(grouping.parts)))]
    if not compute:
        return [*names, *output_columns(plan), "__shown"]
    shown = f"coalesce({grouping.having}, false)" if grouping.having else "true"
    return [*names, *(f"{o.sql} AS {_name(i)}" for i, o in enumerate(plan.outputs)), f"{shown} AS __shown"]


def output_columns(plan: ContinuousPlan) -> list[str]:
    return [_name(i) for i in range(len(plan.outputs))]


def _with_values(grouping: Grouping, states: str) -> str:
    values = "".join(f", {part.value(f's{i}')} AS p{i}" for i, part in enumerate(grouping.parts))
    return f"SELECT *{values} FROM ({states})"


def touched_groups(plan: ContinuousPlan, delta: str, kept: str, *, apart: bool = False) -> str:
    """What is kept of the groups that the delta's rows belong to, with ``__row``, the kept row's number."""
    grouping = _grouping(plan)
    columns = group_columns(grouping)
    if not columns:
        return f"SELECT *, rowid AS __row FROM {kept}"
    touched = f"SELECT {', '.join(_group_items(grouping))} FROM {_source_of_sets(plan, delta)}{_where(plan)}"
    if apart and grouping.arms:
        touched = _keys_of_arms(plan, delta)
    for number in grouping.from_start:
        touched += f" UNION ALL SELECT {', '.join(_keys_of_no_set(grouping, number))}"
    on = " AND ".join(f"g.{c} IS NOT DISTINCT FROM d.{c}" for c in columns)
    return f"SELECT g.*, g.rowid AS __row FROM {kept} AS g SEMI JOIN ({touched}) AS d ON {on}"


def _keys_of_arms(plan: ContinuousPlan, delta: str) -> str:
    grouping = _grouping(plan)
    selected = []
    for number, arm in enumerate(grouping.arms):
        keys = ", ".join(f"{key or 'NULL'} AS k{place}" for place, key in enumerate(arm.keys))
        selected.append(
            f"SELECT DISTINCT {keys}, {number}::BIGINT AS {set_key(grouping)} FROM {source(plan, delta)}{_where(plan)}"
        )
    return " UNION ALL ".join(selected)


def merged_groups(
    plan: ContinuousPlan, delta: str, state: str, touched: str | None, *, ordered: bool, apart: bool = False
) -> str:
    """The groups of the delta, merged with what was kept of them: read from the state, or from `touched_groups`.

    Gives the columns of `kept_groups`, then ``__row`` (the kept row, or NULL), its outputs as ``old_o0``.., ``__was_shown``,
    and ``__changed``: whether the group is shown otherwise than before.
    """
    grouping = _grouping(plan)
    columns, outputs = group_columns(grouping), output_columns(plan)
    kept = f"SELECT *, rowid AS __row FROM {state}"
    if touched is not None:
        # states come back from Arrow as the plain values that they are made of: the empty SELECT says which states they are
        names = ", ".join([*kept_columns(plan), "__row"])
        empty = kept_groups(plan, partials(plan, delta))
        kept = f"SELECT *, 0::BIGINT AS __row FROM ({empty}) WHERE false UNION ALL SELECT {names} FROM {touched}"
    on = " AND ".join(f"g.{c} IS NOT DISTINCT FROM d.{c}" for c in columns) or "true"
    items = [
        *(f"d.{c} AS {c}" for c in columns),
        *(f"{part.merged(f'g.s{i}', f'd.s{i}')} AS s{i}" for i, part in enumerate(grouping.parts)),
        "g.__row AS __row",
        *(f"g.{o} AS old_{o}" for o in outputs),
        "coalesce(g.__shown, false) AS __was_shown",
    ]
    came = partials(plan, delta, apart=apart)
    merged = f"SELECT {', '.join(items)} FROM ({came}) AS d LEFT JOIN ({kept}) AS g ON {on}"
    old = ["__row", *(f"old_{o}" for o in outputs), "__was_shown"]
    columns_out = [*kept_columns(plan, compute=True), *old]
    groups = f"SELECT {', '.join(columns_out)} FROM ({_with_values(grouping, merged)})"
    order = f" ORDER BY {', '.join(result_keys(grouping))}" if ordered and columns else ""
    return f"{with_changed(plan, groups)}{order}"


def with_changed(plan: ContinuousPlan, groups: str) -> str:
    """Add ``__changed`` to merged groups, and ``__changed0``.. for the faces of a plan that several queries share."""
    changed = [f"{_differs(range(len(plan.outputs)), '__shown', '__was_shown')} AS __changed"]
    for number, face in enumerate(plan.faces):
        shown = (
            ("__shown", "__was_shown")
            if face.shown is None
            else (f"o{face.shown}", f"coalesce(old_o{face.shown}, false)")
        )
        changed.append(f"{_differs(face.outputs, *shown)} AS __changed{number}")
    return f"SELECT *, {', '.join(changed)} FROM ({groups})"


def _differs(outputs: Iterable[int], shown: str, was_shown: str) -> str:
    same = " AND ".join(f"o{i} IS NOT DISTINCT FROM old_o{i}" for i in sorted(set(outputs)))
    return f"({shown} IS DISTINCT FROM {was_shown} OR NOT ({same}))"


def groups_of_panes(grouping: Grouping, states: str, condition: str) -> str:
    """Groups of hopping windows from their panes' states.

    `condition` is over ``v.w`` (window start, microseconds) and the pane's columns.
    """
    window = grouping.window
    assert window is not None
    first, last = windows_of_place(window, "s.w")
    keys = key_columns(grouping)
    values = [f"{part.value(part.merged_all(f's.s{i}'))} AS p{i}" for i, part in enumerate(grouping.parts)]
    items = ["v.w AS w", *(f"s.{k}" for k in keys), *values]
    return (
        f"SELECT {', '.join(items)} FROM {states} AS s, "
        f"LATERAL (SELECT unnest(generate_series({first}, {last}, {window.slide_us})) AS w) AS v "
        f"WHERE v.w + {window.size_us} >= s.f AND ({condition}) GROUP BY v.w{''.join(f', s.{k}' for k in keys)}"
    )


def open_groups(plan: ContinuousPlan, state: str, closed_to: int) -> str:
    """The groups of the windows that are open and have state: ``w``, ``e`` (the end), ``k0``.. ."""
    grouping = _grouping(plan)
    window = grouping.window
    assert window is not None
    keys = "".join(f", k{i}" for i in range(len(grouping.keys)))
    if window.session:
        return f"SELECT w, e{keys} FROM {state}"
    first, last = windows_of_place(window, "s.w")
    counted = "" if window.tumbling else f"v.w + {window.size_us} >= s.f AND "
    return (
        f"SELECT DISTINCT v.w AS w, v.w + {window.size_us} AS e{keys} FROM {state} AS s, "
        f"LATERAL (SELECT unnest(generate_series({first}, {last}, {window.slide_us})) AS w) AS v "
        f"WHERE {counted}v.w + {window.size_us} > {closed_to}"
    )


def bounds_of_groups(window: Window) -> tuple[str, str]:
    """SQL of the instants of the bounds of `open_groups`."""
    start = bounds_of_window(window, "w")[0]
    return window.ruler.instant_sql(start), window.ruler.instant_sql("e")


def result(
    plan: ContinuousPlan,
    groups: str,
    *,
    with_keys: bool = False,
    keys_last: bool = False,
    ordered: bool = True,
    with_end: bool = False,
) -> str:
    """The query's output rows from groups: HAVING, then the SELECT list.

    `with_keys` puts the group's columns before the output's and replaces HAVING by a column ``__shown``; `keys_last` puts
    them after, and leaves the rows unordered; `with_end` adds ``__end``, the place of the window's end.
    """
    grouping = _grouping(plan)
    columns = result_keys(grouping)
    outputs = [f"{o.sql} AS {_name(i)}" for i, o in enumerate(plan.outputs)]
    if with_keys:
        shown = f"coalesce({grouping.having}, false)" if grouping.having else "true"
        return f"SELECT {', '.join([*columns, *outputs, f'{shown} AS __shown'])} FROM ({groups})"
    having = f" WHERE {grouping.having}" if grouping.having else ""
    if keys_last:
        unseen = [c for c in order_columns(plan) if c in columns]
        return f"SELECT {', '.join([*outputs, *unseen])} FROM ({groups}){having}"
    if with_end:
        assert grouping.window is not None
        outputs.append(f"{'e' if grouping.window.session else f'w + {grouping.window.size_us}'} AS __end")
    order = f" ORDER BY {', '.join(columns)}" if ordered and columns else ""
    return f"SELECT {', '.join(outputs)} FROM ({groups}){having}{order}"


def order_columns(plan: ContinuousPlan) -> list[str]:
    """The columns that give the order of `result` with `keys_last`: each key, or the output that is the key itself."""
    grouping = _grouping(plan)
    shown = {o.sql.lower(): _name(i) for i, o in reversed(list(enumerate(plan.outputs)))}
    if grouping.window is not None and not grouping.window.session:
        start = window_bounds(grouping.window, "w")[0].lower()
        if start in shown:
            shown["w"] = shown[start]
    return [shown.get(c, c) for c in result_keys(grouping)]


def weighed(columns: list[str], one: str, other: str) -> str:
    """Where two relations differ, as SELECT ... GROUP BY ... HAVING: `columns` and ``__weight``, above 0 for rows of `one`."""
    names = ", ".join(columns)
    both = f"SELECT {names}, 1 AS w FROM {one} UNION ALL SELECT {names}, -1 FROM {other} AS other"
    return f"SELECT {names}, sum(w)::BIGINT AS __weight FROM ({both}) GROUP BY {names} HAVING sum(w) <> 0"


def linear_result(plan: ContinuousPlan, delta: str, *, numbered: bool = False) -> str:
    """The output rows of a linear query, in the order of arrival; `numbered` keeps ``__seq``."""
    outputs = [f"{o.sql} AS {_name(i)}" for i, o in enumerate(plan.outputs)] + (["__seq"] if numbered else [])
    order = ", ".join(["__seq", *plan.lateral_order])
    return f"SELECT {', '.join(outputs)} FROM {source(plan, delta)}{plan.laterals}{_where(plan)} ORDER BY {order}"


def _name(index: int) -> str:
    # Output names may repeat in a live result and are the user's; inside the engine they are numbered.
    return f"o{index}"


def late_rows_of_query(plan: ContinuousPlan, relation: str) -> str:
    """The rows of `relation` that the query's WHERE would have let through."""
    return f"SELECT {plan.alias}.* FROM {source(plan, relation)}{_where(plan)}"
