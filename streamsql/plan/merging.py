"""MERGE as a query: which rows of the table it is about, what each clause does to them, and with which values.

::

    MERGE INTO t USING s ON t.id = s.id                  SELECT t.__row,
    WHEN MATCHED AND s.gone THEN DELETE           ->       CASE WHEN t.__row IS NOT NULL AND s.gone THEN 1 ... END AS __kind,
    WHEN NOT MATCHED THEN INSERT VALUES (s.id)             CASE WHEN __kind = 2 THEN s.id END AS "__2_id"
                                                         FROM s LEFT JOIN t ON t.id = s.id

The target is read as a relation that has `ROW` besides its columns: what tells its rows apart. A clause is known by its number,
from 1; a row that none applies to has NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError, UndefinedColumn, UndefinedTable
from streamsql.catalog.objects import Table, nearest, quoted
from streamsql.plan.adhoc import Scope, adhoc_sql, known_types
from streamsql.plan.assignment import mismatch
from streamsql.plan.fitting import fitted_sql
from streamsql.plan.insertion import default_of, in_types
from streamsql.plan.result_types import is_named
from streamsql.sql.statements import ColumnDefinition, Merge
from streamsql.sql.trees import position_of

ROW, KIND = "__row", "__kind"
# tells whether a sequence numbers a column where nothing is said of it
IsNumbered = Callable[[ColumnDefinition], bool]


@dataclass(frozen=True, slots=True)
class Clause:
    """A WHEN clause: `verb` is UPDATE, DELETE, INSERT or DO NOTHING, `values` are by column.

    `numbered` are the columns of an INSERT that sequences number: they have no value here.
    """

    number: int
    verb: str
    matched: bool
    condition: exp.Expr | None
    values: Mapping[str, exp.Expr]
    numbered: tuple[str, ...] = ()


def clauses_of(statement: Merge, tree: exp.Expr, table: Table, numbered: IsNumbered) -> list[Clause]:
    """Read the WHEN clauses of a MERGE (`tree` is its, with values for parameters). Raises StreamSQLError."""
    source = tree.args["using"].alias_or_name
    target = tree.this.alias_or_name
    made = []
    for number, when in enumerate(tree.args["whens"].expressions, 1):
        when = when.copy()
        matched, then = bool(when.args.get("matched")), when.args["then"]
        if not matched:
            _of_source(when, source, target, statement)
        verb = (
            then.name.upper() if isinstance(then, exp.Var) else "INSERT" if isinstance(then, exp.Insert) else "UPDATE"
        )
        values: dict[str, exp.Expr] = {}
        without: tuple[str, ...] = ()
        if verb == "UPDATE":
            values = _assigned(then, statement, table, numbered)
        elif verb == "INSERT":
            values, without = _inserted(then, statement, table, numbered)
        made.append(Clause(number, verb, matched, when.args.get("condition"), values, without))
    return made


def _of_source(when: exp.Expr, source: str, target: str, statement: Merge) -> None:
    """Let the columns of a clause for what is not matched be the source's. Raises UndefinedTable for the target's."""
    then = when.args["then"]
    listed = then.this if isinstance(then, exp.Insert) else None
    for column in list(when.find_all(exp.Column)):
        if column.find_ancestor(exp.Query) is not None or (listed is not None and column.parent is listed):
            continue
        if column.table == target:
            raise UndefinedTable(
                f'invalid reference to FROM-clause entry for table "{target}"',
                hint=f'There is an entry for table "{target}", but it cannot be referenced from this part of the query.',
                position=position_of(column, statement),
            )
        if not column.table and source and not _is_default(column):
            column.set("table", exp.to_identifier(source, quoted=True))


def _is_default(value: exp.Expr) -> bool:
    return isinstance(value, (exp.Var, exp.Column)) and value.name.upper() == "DEFAULT" and not value.args.get("table")


def _column(node: exp.Expr, statement: Merge, table: Table) -> ColumnDefinition:
    found = table.column(node.name)
    if found is None:
        raise UndefinedColumn(
            f'column "{node.name}" of relation "{table.bare}" does not exist',
            hint=nearest(node.name, [c.name for c in table.columns]),
            position=position_of(node, statement),
        )
    return found


def _assigned(then: exp.Expr, statement: Merge, table: Table, numbered: IsNumbered) -> dict[str, exp.Expr]:
    pairs: list[tuple[exp.Expr, exp.Expr]] = []
    for item in then.expressions:
        target, value = item.this, item.expression
        if isinstance(target, exp.Tuple) and isinstance(value, exp.Tuple):
            if len(target.expressions) != len(value.expressions):
                raise SQLSyntaxError(
                    "number of columns does not match number of values", position=position_of(item, statement)
                )
            pairs += zip(target.expressions, value.expressions, strict=True)
        elif isinstance(target, exp.Tuple):
            raise FeatureNotSupported(
                "assignments of a subquery to several columns are not supported", hint="assign one by one",
                position=position_of(item, statement),
            )  # fmt: skip
        else:
            pairs.append((target, value))
    values: dict[str, exp.Expr] = {}
    for target, value in pairs:
        column = _column(target, statement, table)
        if column.name in values:
            raise SQLSyntaxError(
                f'multiple assignments to same column "{column.name}"', position=position_of(target, statement)
            )
        default = _is_default(value)
        if default and numbered(column):
            raise FeatureNotSupported(
                f'DEFAULT of the numbered column "{column.name}" in UPDATE is not supported',
                position=position_of(target, statement),
            )
        values[column.name] = default_of(column) if default else value
    return values


def _inserted(
    then: exp.Insert, statement: Merge, table: Table, numbered: IsNumbered
) -> tuple[dict[str, exp.Expr], tuple[str, ...]]:
    cells = list(then.expression.expressions) if isinstance(then.expression, exp.Tuple) else []
    listed = list(then.this.expressions) if isinstance(then.this, exp.Tuple) and then.expression is not None else []
    if isinstance(then.expression, exp.Paren):
        cells = [then.expression.this]
    columns = [_column(node, statement, table) for node in listed] or list(table.columns)[: len(cells) or None]
    if then.expression is None:
        columns = []  # DEFAULT VALUES
    elif len(cells) != len(columns):
        more = len(cells) > len(columns)
        what = "expressions than target columns" if more else "target columns than expressions"
        raise SQLSyntaxError(
            f"INSERT has more {what}", position=position_of(cells[-1] if more else listed[-1], statement)
        )
    given = dict(zip((c.name for c in columns), cells, strict=False))
    values: dict[str, exp.Expr] = {}
    without = []
    for column in table.columns:
        value = given.get(column.name)
        if value is not None and not _is_default(value):
            values[column.name] = value
        elif numbered(column):
            without.append(column.name)
        else:
            values[column.name] = default_of(column)
    return values, tuple(without)


def actions_query(tree: exp.Expr, clauses: list[Clause], table: Table) -> exp.Select:
    """Give the query of what is to be done, its values bare: to be checked and described (`guarded` makes it safe to run)."""
    target = tree.this.copy()
    name = target.alias_or_name
    join = exp.Join(this=target, on=tree.args["on"].copy())
    if any(not clause.matched for clause in clauses):
        join.set("side", "LEFT")
    else:
        join.set("kind", "INNER")
    row = exp.column(ROW, table=name, quoted=True)
    kind = exp.Case()
    for clause in clauses:
        there = exp.Is(this=row.copy(), expression=exp.null())
        met: exp.Expr = exp.Not(this=there) if clause.matched else there
        if clause.condition is not None:
            met = exp.and_(met, exp.paren(clause.condition.copy()), copy=False)
        kind = kind.when(met, exp.Literal.number(clause.number), copy=False)
    items: list[exp.Expr] = [exp.alias_(row.copy(), ROW, quoted=True), exp.alias_(kind, KIND, quoted=True)]
    if any(clause.verb == "UPDATE" for clause in clauses):
        before = (exp.column(c.name, table=name, quoted=True) for c in table.columns)
        items += [exp.alias_(value, f"__0_{value.name}", quoted=True) for value in before]
    for clause in clauses:
        for column_name, value in clause.values.items():
            told = table.column(column_name)
            assert told is not None
            items.append(exp.alias_(_typed(value, told), f"__{clause.number}_{column_name}", quoted=True))
    query = exp.select(*items).from_(tree.args["using"].copy())
    query.append("joins", join)
    return query


def _typed(value: exp.Expr, column: ColumnDefinition) -> exp.Expr:
    """Give a value as its column reads it: a literal as one of its type, a parameter as of that type."""
    if isinstance(value.unnest(), exp.Parameter):
        return exp.cast(value.copy(), exp.DataType.build(column.type, dialect="duckdb"))
    made = in_types(exp.select(value.copy()), [column]).expressions[0]
    assert isinstance(made, exp.Expr)
    return made


def check_values(query: exp.Select, clauses: list[Clause], table: Table, statement: Merge, scope: Scope) -> None:
    """Raise DatatypeMismatch where a clause gives a column what is of another type."""
    given = known_types(statement, scope).outputs(query)
    types = {item.alias: told[1] for item, told in zip(query.expressions, given or (), strict=False)}
    for clause in clauses:
        for name, value in clause.values.items():
            column = table.column(name)
            assert column is not None
            if is_named(column.wire.type) and isinstance(value.unnest(), exp.Literal):
                continue  # a label is looked at when it is fitted
            error = mismatch(column, types.get(f"__{clause.number}_{name}"), value, statement)
            if error is not None:
                raise error


def guarded(query: exp.Select) -> exp.Select:
    """Give the query whose values are computed for the rows alone that their clause is for."""
    made = query.copy()
    kind = made.expressions[1].this
    for item in made.expressions[2:]:
        number = item.alias.removeprefix("__").partition("_")[0]
        if number != "0":
            met = exp.EQ(this=kind.copy(), expression=exp.Literal.number(int(number)))
            item.set("this", exp.Case(ifs=[exp.If(this=met, true=item.this.copy())]))
    return made


def actions_sql(query: exp.Select, clauses: list[Clause], table: Table, statement: Merge, scope: Scope) -> str:
    """Give the DuckDB SQL of what is to be done: `ROW`, `KIND`, and the row's columns as they shall be."""
    sql = adhoc_sql(query, statement, scope)
    columns = ", ".join(f"{_column_sql(column, clauses)} AS {quoted(column.name)}" for column in table.columns)
    done = ", ".join(str(clause.number) for clause in clauses if clause.verb != "DO NOTHING")
    return f"SELECT {ROW}, {KIND}, {columns} FROM ({sql}) WHERE {KIND} IN ({done or 'NULL'})"


def _column_sql(column: ColumnDefinition, clauses: list[Clause]) -> str:
    parts = []
    for clause in clauses:
        if column.name in clause.values:
            value = f"CAST({quoted(f'__{clause.number}_{column.name}')} AS {column.type})"
            parts.append(f"WHEN {clause.number} THEN {fitted_sql(value, column)}")
        elif clause.verb == "UPDATE":
            parts.append(f"WHEN {clause.number} THEN {quoted(f'__0_{column.name}')}")
    return f"CAST(CASE {KIND} {' '.join(parts)} END AS {column.type})" if parts else f"CAST(NULL AS {column.type})"


def verbs(clauses: list[Clause]) -> list[str]:
    """Name the privileges on the table that a MERGE needs besides SELECT."""
    return sorted({clause.verb for clause in clauses} - {"DO NOTHING"})
