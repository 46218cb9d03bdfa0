"""The families of drawn queries: one file of cases each."""

from __future__ import annotations

from collections.abc import Callable

from tests.sqllogic.drawing import Columns, Draw, Drawn, columns


def _where(draw: Draw, of: Columns, share: float = 0.7) -> str:
    return f" WHERE {draw.condition(of)}" if draw.random.random() < share else ""


def simple(draw: Draw) -> Drawn:
    """Draw expressions over one table: CASE, NULL logic, IN, BETWEEN, LIKE, DISTINCT."""
    text, _, of = draw.table()
    items, types = draw.items(of, draw.random.randint(1, 4))
    return Drawn(f"SELECT {draw.one('', '', 'DISTINCT ')}{items} FROM {text}{_where(draw, of)}", types)


def joins(draw: Draw) -> Drawn:
    """Draw joins of two and three tables, natural and lateral ones, and aggregates over them."""
    kind = draw.random.randrange(8)
    if kind == 0:
        how = draw.one("NATURAL JOIN t2", "NATURAL LEFT JOIN t2", "JOIN t2 USING (a)", "FULL JOIN t2 USING (a, d)")
        return Drawn(f"SELECT a, b, g FROM t1 {how}", "IIR")
    if kind == 1:
        condition, count = f"t2.a {draw.one('=', '<', '<>')} r.a", draw.random.randint(1, 2)
        inner = f"SELECT f, d FROM t2 WHERE {condition} ORDER BY f, d, g LIMIT {count}"
        join = draw.one("CROSS JOIN LATERAL", "LEFT JOIN LATERAL")
        on = " ON true" if join.startswith("LEFT") else ""
        return Drawn(f"SELECT r.a, r.b, q.f, q.d FROM t1 AS r {join} ({inner}) AS q{on}", "IIIT")
    if kind == 2:
        other = draw.one("t2", "t3")
        return Drawn(
            f"SELECT x.a, y.a AS ya FROM t1 AS x CROSS JOIN {other} AS y WHERE x.a + y.a > {draw.literal()}", "II"
        )
    text, of = draw.joined(draw.random.choice([2, 2, 3]))
    if kind <= 5:
        items, types = draw.items(of, draw.random.randint(1, 4))
        return Drawn(f"SELECT {items} FROM {text}{_where(draw, of, 0.4)}", types)
    call, letter = draw.aggregate(of)
    key = draw.random.choice(of.numbers)
    return Drawn(f"SELECT {key} AS k, {call} AS v FROM {text}{_where(draw, of, 0.4)} GROUP BY {key}", f"I{letter}")


def aggregates(draw: Draw) -> Drawn:
    """Draw GROUP BY with HAVING, FILTER, DISTINCT, grouping sets, and aggregates of no rows."""
    text, _, of = draw.table()
    calls = [draw.aggregate(of) for _ in range(draw.random.randint(1, 3))]
    listed, letters = ", ".join(f"{c} AS v{i}" for i, (c, _) in enumerate(calls)), "".join(t for _, t in calls)
    kind = draw.random.randrange(6)
    if kind == 0:
        return Drawn(f"SELECT {listed} FROM {text}{_where(draw, of)}", letters)
    keys = draw.random.sample(list(of.numbers), draw.random.randint(1, 2))
    named = ", ".join(keys)
    if kind == 1:
        sets = draw.one(f"ROLLUP ({named})", f"CUBE ({named})", f"GROUPING SETS (({named}), ({keys[0]}), ())")
        shown = ", ".join(f"{k} AS k{i}" for i, k in enumerate(keys))
        return Drawn(
            f"SELECT {shown}, grouping({named}) AS g, {listed} FROM {text}{_where(draw, of, 0.4)} GROUP BY {sets}",
            "I" * len(keys) + "I" + letters,
        )
    if kind == 2:
        key = draw.number(of)
        return Drawn(f"SELECT {key} AS k, {listed} FROM {text} GROUP BY 1", f"I{letters}")
    having = ""
    if kind <= 4:
        having = (
            f" HAVING {draw.one('count(*) > 1', f'sum({of.numbers[0]}) > 0', f'max({of.numbers[-1]}) IS NOT NULL')}"
        )
    shown = ", ".join(f"{k} AS k{i}" for i, k in enumerate(keys))
    sql = f"SELECT {shown}, {listed} FROM {text}{_where(draw, of, 0.4)} GROUP BY {named}{having}"
    return Drawn(sql, "I" * len(keys) + letters)


def _nested(draw: Draw, outer: Columns) -> tuple[str, Columns, str]:
    """Draw an inner FROM and WHERE, correlated with an outer query now and then."""
    text, alias, of = draw.table()
    condition = draw.condition(of, 1)
    if draw.random.random() < 0.6:
        link = draw.one("=", "=", "<", "<>")
        condition = f"{draw.random.choice(of.numbers)} {link} {draw.random.choice(outer.numbers)}" + draw.one(
            "", f" AND {condition}"
        )
    return f"FROM {text} WHERE {condition}", of, alias


def subqueries(draw: Draw) -> Drawn:
    """Draw scalar subqueries, IN, EXISTS, ANY and ALL, correlated or not; derived tables and CTEs."""
    text, _, of = draw.table()
    inner, inner_of, _ = _nested(draw, of)
    kind = draw.random.randrange(9)
    number = draw.number(of, 1)
    if kind <= 2:
        value = draw.random.choice(inner_of.numbers)
        test = draw.one(f"{number} IN (SELECT {value} {inner})", f"{number} NOT IN (SELECT {value} {inner})",
            f"EXISTS (SELECT 1 {inner})", f"NOT EXISTS (SELECT 1 {inner})",
            f"{number} {draw.one('>', '=', '<=')} {draw.one('ANY', 'ALL')} (SELECT {value} {inner})",
            f"{number} < (SELECT {draw.one('max', 'min', 'count')}({value}) {inner})")  # fmt: skip
        items, types = draw.items(of, 2)
        return Drawn(f"SELECT {items} FROM {text} WHERE {draw.one('', 'NOT ')}({test})", types)
    if kind <= 4:
        call, letter = draw.aggregate(inner_of)
        return Drawn(f"SELECT {number} AS x, (SELECT {call} {inner}) AS y FROM {text}{_where(draw, of)}", f"I{letter}")
    if kind == 5:
        plain, _, plain_of = draw.table()
        sums = f"SELECT {plain_of.numbers[0]} AS k, count(*) AS v FROM {plain} GROUP BY 1"
        return Drawn(
            f"WITH q AS ({sums}) SELECT q.k, q.v, {number} AS x FROM q JOIN {text} ON q.k = {of.numbers[0]}", "III"
        )
    if kind == 6:
        items, types = draw.items(of, 2)
        return Drawn(f"SELECT x0, count(*) AS n FROM (SELECT {items} FROM {text}) AS q GROUP BY x0", f"{types[0]}I")
    if kind == 7:
        key, value = of.numbers[0], inner_of.numbers[-1]
        having = f"count(*) >= (SELECT count({value}) / 3 {inner.partition(' WHERE ')[0]})"
        return Drawn(f"SELECT {key} AS k, count(*) AS n FROM {text} GROUP BY {key} HAVING {having}", "II")
    exists = f"CASE WHEN EXISTS (SELECT 1 {inner}) THEN {number} ELSE -99 END"
    return Drawn(f"SELECT {of.numbers[0]} AS x, {exists} AS y FROM {text}", "II")


def _operand(draw: Draw) -> str:
    text, _, of = draw.table()
    return f"SELECT {draw.number(of, 1)} AS x, {draw.text(of, 1)} AS y FROM {text}{_where(draw, of, 0.5)}"


def set_operations(draw: Draw) -> Drawn:
    """Draw UNION, INTERSECT and EXCEPT, with ALL and without, nested, and over aggregates."""
    words = ("UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL")
    kind = draw.random.randrange(5)
    if kind == 0:
        sql = f"({_operand(draw)} {draw.one(*words)} {_operand(draw)}) {draw.one(*words)} {_operand(draw)}"
        return Drawn(sql, "IT")
    if kind == 1:
        both = f"{_operand(draw)} {draw.one(*words)} {_operand(draw)}"
        return Drawn(f"SELECT x, count(*) AS n, min(y) AS least FROM ({both}) AS q GROUP BY x", "IIT")
    if kind == 2:
        values = ", ".join(f"({draw.literal()}, {draw.one('NULL', '0', '3')})" for _ in range(3))
        one, _, of = draw.table()
        listed = f"SELECT * FROM (VALUES {values}) AS q(x, y)"
        return Drawn(f"SELECT {of.numbers[0]}, {of.numbers[-1]} FROM {one} {draw.one(*words)} {listed}", "II")
    return Drawn(f"{_operand(draw)} {draw.one(*words)} {_operand(draw)}", "IT")


def top(draw: Draw) -> Drawn:
    """Draw ORDER BY with LIMIT and OFFSET, DISTINCT ON; all columns are ordered by, so the order is total."""
    name = draw.one("t1", "t2", "t3")
    of = columns(name, "r")
    items, types = draw.items(of, draw.random.randint(1, 3))
    places = list(range(1, len(types) + 1))
    draw.random.shuffle(places)
    keys = ", ".join(f"{p}{draw.one('', '', ' DESC')}{draw.one('', '', ' NULLS FIRST', ' NULLS LAST')}" for p in places)
    if draw.random.random() < 0.2:
        key = draw.random.choice(of.numbers)
        rest = ", ".join(f"x{i}" for i in range(len(types)))
        inner = f"SELECT {key} AS k, {items} FROM {name} AS r"
        return Drawn(
            f"SELECT DISTINCT ON (k) k, {rest} FROM ({inner}) AS q ORDER BY k, {rest}", f"I{types}", ordered=True
        )
    count = draw.random.randint(0, 6)
    limit = draw.one(
        f" LIMIT {count}", f" LIMIT {count} OFFSET 2", f" OFFSET {count}", f" FETCH FIRST {count + 1} ROWS ONLY"
    )
    sql = f"SELECT {items} FROM {name} AS r{_where(draw, of, 0.5)} ORDER BY {keys}{limit}"
    return Drawn(sql, types, ordered=True)


def windows(draw: Draw) -> Drawn:
    """Draw window functions over orders that are total but for rows that are alike."""
    name = draw.one("t1", "t2", "t3")
    of = columns(name, "r")
    inner = ", ".join(f"{c} AS n{i}" for i, c in enumerate(of.numbers[:2]))
    value = draw.one("n0", "n1", "n0 + n1")
    parts = draw.one("", "PARTITION BY n0 ", "PARTITION BY n0 % 2 ", "PARTITION BY n1 ")
    order = draw.one("ORDER BY n0, n1", "ORDER BY n1 DESC, n0", "ORDER BY n0 DESC NULLS LAST, n1 NULLS FIRST")
    frame = draw.one("", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
        " ROWS 2 PRECEDING", " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
        " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING", " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING")  # fmt: skip
    over = f"({parts}{order}"
    kind = draw.random.randrange(6)
    if kind == 0:
        call = f"{draw.one('row_number', 'rank', 'dense_rank')}() OVER {over})"
    elif kind == 1:
        call = f"{draw.one('lag', 'lead')}({value}{draw.one('', ', 2', ', 1, -7')}) OVER {over})"
    elif kind == 2:
        call = f"{draw.one('first_value', 'last_value')}({value}) OVER {over}{frame})"
    elif kind == 3:
        call = f"ntile({draw.random.randint(2, 4)}) OVER {over})"
    elif kind == 4:
        call = f"{draw.one('sum', 'count', 'min', 'max')}({value}) FILTER (WHERE {draw.one('n0 > 1', 'n1 IS NOT NULL')}) OVER "
        call += f"{over}{frame})"
    else:
        call = f"{draw.one('sum', 'count', 'min', 'max')}({value}) OVER ({parts}{draw.one('', order + frame)})"
    rows = f"(SELECT DISTINCT {inner} FROM {name} AS r) AS q"
    if draw.random.random() < 0.3:
        inner = f"SELECT n0, n1, {call} AS v FROM {rows}"
        return Drawn(f"SELECT n0, n1, v FROM ({inner}) AS w WHERE v > {draw.random.randint(0, 2)}", "III")
    return Drawn(f"SELECT n0, n1, {call} AS v FROM {rows}", "III")


def mixed(draw: Draw) -> Drawn:
    """Draw queries of the other families inside each other."""
    inner = draw.random.choice((simple, joins, aggregates, subqueries, set_operations, windows))(draw)
    names = ", ".join(f"m{i}" for i in range(len(inner.types)))
    kind = draw.random.randrange(4)
    if kind == 0:
        return Drawn(f"SELECT m0, count(*) AS n FROM ({inner.sql}) AS q({names}) GROUP BY m0", f"{inner.types[0]}I")
    if kind == 1:
        return Drawn(f"WITH q({names}) AS ({inner.sql}) SELECT count(*) AS n, count(DISTINCT m0) AS k FROM q", "II")
    if kind == 2 and inner.types[0] == "I" and "IN" not in inner.types:
        test = draw.one("b IN", "a NOT IN", "c = ANY")
        numbers = f"SELECT CAST(m0 AS INTEGER) FROM ({inner.sql}) AS q({names})"
        return Drawn(f"SELECT a, b, c FROM t1 WHERE {test} ({numbers})", "III")
    other = draw.random.choice((simple, aggregates, windows))(draw)
    more = ", ".join(f"o{i}" for i in range(len(other.types)))
    sql = f"SELECT (SELECT count(*) FROM ({inner.sql}) AS q({names})) AS n, p.* FROM ({other.sql}) AS p({more})"
    return Drawn(sql, f"I{other.types}")


def functions(draw: Draw) -> Drawn:
    """Draw PostgreSQL's functions over dates, numbers and texts."""
    name = draw.one("t1", "t2", "t3", "t3")
    of = columns(name, "r")
    items = [_call(draw, of) for _ in range(draw.random.randint(1, 3))]
    listed = ", ".join(f"{sql} AS x{i}" for i, (sql, _) in enumerate(items))
    return Drawn(f"SELECT {listed} FROM {name} AS r{_where(draw, of, 0.3)}", "".join(t for _, t in items))


def _call(draw: Draw, of: Columns) -> tuple[str, str]:
    """Draw a call of one function, and its letter."""
    number, text = draw.number(of, 1), draw.text(of, 1)
    count, place = draw.one("0", "1", "2", "-1", "5"), draw.one("1", "2", "3")
    kinds: list[tuple[str, str]] = [
        (f"greatest({number}, {draw.literal()}, {draw.number(of, 0)})", "I"),
        (f"least({number}, {draw.number(of, 0)})", "I"),
        (f"mod({number}, 3)", "I"),
        (f"left({text}, {count})", "T"),
        (f"right({text}, {count})", "T"),
        (f"lpad({text}, 5, '{draw.one('-', 'ab')}')", "T"),
        (f"rpad({text}, 3, '*')", "T"),
        (f"strpos({text}, 'a')", "I"),
        (f"position('b' IN {text})", "I"),
        (f"split_part({text}, 'b', {place})", "T"),
        (f"translate({text}, 'ab', 'x')", "T"),
        (f"repeat({text}, 2)", "T"),
        (f"ascii({text})", "I"),
        (f"md5({text})", "T"),
        (f"initcap({text})", "T"),
        (f"btrim({text}, 'a ')", "T"),
        (f"ltrim({text})", "T"),
        (f"overlay({text} PLACING 'zz' FROM {place})", "T"),
        (f"substring({text} FROM {place} FOR 2)", "T"),
        (f"concat_ws('-', {text}, {draw.text(of, 0)}, 'x')", "T"),
        (f"starts_with({text}, 'a')", "I"),
        (f"{text} ~ '{draw.one('^a', 'b$', '[A-Z]', 'a.*b')}'", "I"),
        (f"regexp_replace({text}, '[ab]', '+', 'g')", "T"),
        (f"octet_length({text})", "I"),
        (f"to_hex(abs({draw.number(of, 0)}))", "T"),
        (f"CAST({number} AS TEXT)", "T"),
        (f"CAST({draw.condition(of, 0)} AS INTEGER)", "I"),
        (f"({number})::numeric(10, 1)", "R"),
    ]
    for value in (*of.floats, *of.exact):
        function = draw.one("round", "ceil", "floor", "trunc", "abs", "sign")
        kinds += [(f"{function}({value})", "R"), (f"{value} / 4", "R"), (f"CAST({value} AS INTEGER)", "I")]
    for value in of.exact:
        kinds += [
            (f"round({value}, {draw.one('0', '1', '-1')})", "R"),
            (f"trunc({value}, 1)", "R"),
            (f"{value} % 2", "R"),
        ]
    for date in of.dates:
        part = draw.one(
            "year", "month", "day", "dow", "doy", "week", "quarter", "isodow", "epoch", "century", "decade", "isoyear"
        )
        unit = draw.one("month", "year", "week", "quarter", "day", "decade")
        pattern = draw.one("YYYY-MM-DD", "DD Mon YYYY", "Day", 'YYYY"y" Q', "D DDD", "FMMonth", "IW", "HH24:MI")
        kinds += [
            (f"extract({part} FROM {date})", "R"),
            (f"date_part('{part}', {date})", "R"),
            (f"date_trunc('{unit}', {date})::date", "T"),
            (f"to_char({date}, '{pattern}')", "T"),
            (f"{date} + {place}", "T"),
            (f"{date} - DATE '2024-01-31'", "I"),
            (f"({date} + INTERVAL '1 month')::date", "T"),
            (f"{date} - INTERVAL '36 hours'", "T"),
            (f"make_date(2024, {place}, 28) - {date}", "I"),
            (f"({date} BETWEEN DATE '2024-01-01' AND DATE '2024-02-28')", "I"),
            (f"to_date(to_char({date}, 'YYYYMMDD'), 'YYYYMMDD')", "T"),
        ] * 2
    return draw.random.choice(kinds)


FAMILIES: dict[str, Callable[[Draw], Drawn]] = {
    "aggregates": aggregates,
    "functions": functions,
    "joins": joins,
    "mixed": mixed,
    "set_operations": set_operations,
    "simple": simple,
    "subqueries": subqueries,
    "top": top,
    "windows": windows,
}
