"""The SQL of window functions over rows that come in order of time, and what is kept of those that are gone.

What is gone of a key is one row: the key's columns ``k0``.., the number of rows ``__n``, of peers ``d0``.., the states of the
parts ``s0``... The rows that there are go on from there::

    gone    k0 a   __n 3   s0 (sum 10)
    rows    a 00:05 1,  a 00:06 2           __base 3   __n0 4, 5   sum(x) OVER (...)    10 + 1, 10 + 3

Rows have the input's columns and ``__seq``, their time ``__t`` and ``__at``. Values stand in columns ``__y0``.. .
"""

from __future__ import annotations

from streamsql.catalog.objects import quoted
from streamsql.plan.aggregates import split_columns
from streamsql.plan.origins import Over


def keys_of(over: Over, alias: str = "") -> list[str]:
    """SQL of the keys of rows."""
    return [f"{alias}{quoted(k)}" for k in over.keys]


def _partition(over: Over) -> str:
    return f"PARTITION BY {', '.join(keys_of(over))} " if over.keys else ""


def same_key(over: Over, rows: str, gone: str) -> str:
    """SQL of the condition that a row's key is that of what is gone."""
    return (
        " AND ".join(f"{gone}.k{i} IS NOT DISTINCT FROM {k}" for i, k in enumerate(keys_of(over, f"{rows}."))) or "true"
    )


def _numbers(over: Over, base: str) -> str:
    return "".join(
        f", {base}row_number() OVER ({_partition(over)}ORDER BY {f'{order}, ' if order else ''}__seq) AS __n{i}"
        for i, order in enumerate(over.orders)
    )


def _split(over: Over, source: str) -> str:
    columns = "".join(f", {sql} AS __x{i}" for i, sql in enumerate(over.splits))
    return split_columns(f"SELECT *{columns} FROM ({source})", over.splits) if over.splits else source


def numbered(over: Over, rows: str, gone: str | None) -> str:
    """Rows with their numbers in each order, and with what is gone of their keys, if anything ever is."""
    if not over.counted or gone is None:
        return _split(over, f"SELECT *{_numbers(over, '')} FROM {rows}")
    states = "".join(f", s.s{i} AS __s{i}" for i in range(len(over.parts)))
    peers = "".join(f", coalesce(s.d{i}, 0) AS __peers{i}" for i in over.peers)
    base = "coalesce(s.__n, 0)"
    found = (
        f"SELECT b.*{_numbers(over, f'{base} + ')}, {base} AS __base{peers}{states} FROM {rows} AS b "
        f"LEFT JOIN {gone} AS s ON {same_key(over, 'b', 's')}"
    )
    return _split(over, found)


def values(over: Over, rows: str, gone: str | None) -> str:
    """Rows with the functions' values, and ``__ready``, the time that the watermark must pass for them to be shown."""
    given, source = "", f"({numbered(over, rows, gone)})"
    if over.in_rows:
        given = f"WITH n AS {source} "
        states = "".join(f", {over.parts[i].partial} AS __r{i}" for i in over.in_rows)
        source = f"(SELECT * FROM n JOIN (SELECT __seq AS __q{states} FROM n GROUP BY __seq) ON __seq = __q)"
    windows = "".join(f", {sql} AS __v{i}" for i, sql in enumerate(over.windows))
    columns = "".join(f"{quoted(c.name)}, " for c in over.input.columns)
    shown = "".join(f"{sql} AS __y{i}, " for i, sql in enumerate(over.values))
    return (
        f"{given}SELECT {columns}{shown}__seq, __t, __at, __ready "
        f"FROM (SELECT *, {_ready(over)} AS __ready{windows} FROM {source})"
    )


def _ready(over: Over) -> str:
    """SQL of the time that the watermark must pass for a row's frames to be full: NULL where that is not known yet."""
    ahead, waits = over.ahead, ["__t"]
    if ahead.us:
        waits = [f"__t + {ahead.us}"]
    if ahead.rows:
        waits.append(f"lead(__t, {ahead.rows}) OVER ({_partition(over)}ORDER BY __t, __seq)")
    if ahead.times:
        after = f"GROUPS BETWEEN {ahead.times} FOLLOWING AND {ahead.times} FOLLOWING"
        waits.append(f"max(__t) OVER ({_partition(over)}ORDER BY __t {after})")
    if len(waits) == 1:
        return waits[0]
    known = " AND ".join(f"{w} IS NOT NULL" for w in waits[1:])
    return f"CASE WHEN {known} THEN greatest({', '.join(waits)}) END"


def fresh(over: Over, rows: str) -> str:
    """What is gone of each key when these rows are, and nothing was before."""
    return _by_key(over, numbered(over, rows, None))


def _by_key(over: Over, rows: str) -> str:
    keys = "".join(f"{k} AS k{i}, " for i, k in enumerate(keys_of(over)))
    peers = "".join(f", count(DISTINCT ({_terms(over.orders[i])})) AS d{i}" for i in over.peers)
    states = "".join(f", {p.partial} AS s{i}" for i, p in enumerate(over.parts))
    until = f"max({_until(over)})" if over.forget is not None else "NULL"
    group = f" GROUP BY {', '.join(keys_of(over))}" if over.keys else " HAVING count(*) > 0"
    return f"SELECT {keys}count(*) AS __n{peers}{states}, CAST({until} AS BIGINT) AS __u FROM ({rows}){group}"


def _terms(order: str) -> str:
    return f"struct_pack({', '.join(f't{i} := {_bare(t)}' for i, t in enumerate(order.split(', ')))})"


def _bare(term: str) -> str:
    return term.rpartition('"')[0] + '"'


def _until(over: Over) -> str:
    assert over.forget is not None
    return f"epoch_us(CAST({quoted(over.forget)} AS TIMESTAMP))"


def folded(over: Over, rows: str, gone: str) -> str:
    """What is gone of the keys of these rows when they are, too; ``__row`` is the row in `gone` that this is instead of."""
    came = _by_key(over, numbered(over, rows, gone))
    keys = "".join(f"d.k{i}, " for i in range(len(over.keys)))
    same = " AND ".join(f"s.k{i} IS NOT DISTINCT FROM d.k{i}" for i in range(len(over.keys))) or "true"
    peers = "".join(f", coalesce(s.d{i}, 0) + d.d{i} AS d{i}" for i in over.peers)
    states = "".join(f", {p.merged(f's.s{i}', f'd.s{i}')} AS s{i}" for i, p in enumerate(over.parts))
    return (
        f"SELECT {keys}coalesce(s.__n, 0) + d.__n AS __n{peers}{states}, d.__u, s.__row FROM ({came}) AS d "
        f"LEFT JOIN {gone} AS s ON {same}"
    )


def gone_columns(over: Over) -> str:
    """The columns of what is gone, in order."""
    keys = [f"k{i}" for i in range(len(over.keys))]
    return ", ".join([*keys, "__n", *(f"d{i}" for i in over.peers), *(f"s{i}" for i in range(len(over.parts))), "__u"])


def cuts(over: Over, kept: str, mark: str) -> str:
    """Of each key (as in the rows) the time ``__cut``: rows before it are reached by no row to come or to be shown."""
    partition = _partition(over)
    count = (
        f"row_number() OVER ({partition}ORDER BY __t, __seq) AS __i, dense_rank() OVER ({partition}ORDER BY __t) AS __d"
    )
    placed = f"SELECT *, {count}, {_ready(over)} AS __ready FROM {kept}"
    waits = f"FILTER (WHERE __ready IS NULL OR __ready >= {mark})"
    by_key = f"PARTITION BY {', '.join(keys_of(over))}" if over.keys else ""
    low = (
        f"SELECT *, coalesce(min(__t) {waits} OVER ({by_key}), {mark}) AS __lt, "
        f"coalesce(min(__i) {waits} OVER ({by_key}), max(__i) OVER ({by_key}) + 1) AS __li, "
        f"coalesce(min(__d) {waits} OVER ({by_key}), max(__d) OVER ({by_key}) + 1) AS __ld FROM ({placed})"
    )
    back, limits = over.back, ["min(__lt)"]
    if back.us is not None:
        limits.append(f"min(__lt) - {back.us}")
    if back.rows is not None:
        limits.append(f"min(__t) FILTER (WHERE __i >= __li - {back.rows})")
    if back.times is not None:
        limits.append(f"min(__t) FILTER (WHERE __d >= __ld - {back.times})")
    keys = "".join(f"{k}, " for k in keys_of(over))
    group = f" GROUP BY {keys[:-2]}" if keys else ""
    return f"SELECT {keys}least({', '.join(limits)}) AS __cut FROM ({low}){group}"
