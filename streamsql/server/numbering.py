"""What sequences give a session: nextval, currval, lastval and setval, and the columns that are numbered.

The calls are answered before their statement runs, so that DuckDB never sees them: each call is one number. In a query over
rows of a table they would be many, and are refused there.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence as SequenceOf
from functools import partial
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from streamsql.base.errors import (
    FeatureNotSupported,
    GeneratedAlways,
    InsufficientPrivilege,
    NotInPrerequisiteState,
    ObjectInUse,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.catalog.objects import PUBLIC_SCHEMA, Sequence, Stream, Table
from streamsql.catalog.rights import may_use
from streamsql.engine.epoch import Engine
from streamsql.engine.sequences import Numbers
from streamsql.engine.store import translated
from streamsql.plan.adhoc import Scope, adhoc_sql
from streamsql.plan.functions import function_name
from streamsql.plan.sequence_calls import SEQUENCE_FUNCTIONS, may_call, named_sequence
from streamsql.server.context import Context
from streamsql.sql.names import parted, quote_name
from streamsql.sql.sequence_names import folded, sequence_of_default
from streamsql.sql.statements import ColumnDefinition, Insert, Query, Statement
from streamsql.sql.trees import position_of

S = TypeVar("S", Insert, Query)


async def take(context: Context, sequence: Sequence, count: int) -> Numbers:
    """Give so many of a sequence's next numbers. Raises SequenceLimitExceeded."""
    if context.transaction.restarts(sequence):
        raise ObjectInUse(
            f'sequence "{sequence.bare}" begins anew when the transaction is committed',
            detail="TRUNCATE ... RESTART IDENTITY has set it back",
            hint="COMMIT first",
        )
    places = context.engine.sequences
    found = places.take(sequence, count)
    if found is None:
        found = await context.on_engine(lambda: places.take_durably(sequence, count))
    if count:
        context.numbers.note(sequence, int(found[-1]))
    return found


# ---- columns ----


async def with_numbers(
    context: Context, relation: Stream | Table, columns: SequenceOf[ColumnDefinition], rows: pa.Table
) -> tuple[list[ColumnDefinition], pa.Table]:
    """Give rows, one column for each of `columns`, with the columns besides that sequences number."""
    given = list(columns)
    for column in relation.columns:
        if column in given:
            continue
        sequence = numbering(context, relation, column)
        if sequence is not None:
            numbers = await take(context, sequence, rows.num_rows)
            rows = rows.append_column(f"__numbered_{len(given)}", pa.array(numbers, pa.int64()))
            given.append(column)
    return given, rows


def numbering(context: Context, relation: Stream | Table, column: ColumnDefinition) -> Sequence | None:
    """Give the sequence that numbers a column where nothing is said of it."""
    if column.numbered is not None:
        return context.catalog.sequence_of(relation, column.name)
    name = sequence_of_default(column)
    return None if name is None else found(context, name, None)


def is_numbered(relation: Stream | Table) -> bool:
    """Tell whether some column of a relation is numbered by a sequence."""
    return any(c.numbered is not None or sequence_of_default(c) is not None for c in relation.columns)


def check_always(columns: SequenceOf[ColumnDefinition]) -> None:
    """Raise GeneratedAlways where an INSERT gives a value for a column that only its sequence may number."""
    for column in columns:
        if column.numbered is not None and column.numbered.always:
            raise GeneratedAlways(
                f'cannot insert a non-DEFAULT value into column "{column.name}"',
                detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
                hint="Use OVERRIDING SYSTEM VALUE to override.",
            )


async def numbered_nulls(engine: Engine, relation: Stream | Table, rows: pa.Table) -> pa.Table:
    """Give rows with numbers for the NULLs of numbered columns, which of a format's record are what is not there."""
    for column in relation.columns:
        name = sequence_of_default(column)
        sequence = engine.catalog.sequence_of(relation, column.name)
        if name is not None:
            schema, label = parted(name)
            sequence = engine.catalog.sequence_called(schema or PUBLIC_SCHEMA, label)
        place = rows.schema.get_field_index(column.name)
        if sequence is None or place < 0 or not rows.column(place).null_count:
            continue
        values = rows.column(place).combine_chunks()
        take = partial(engine.sequences.take_durably, sequence, values.null_count)
        numbers = await asyncio.wrap_future(engine.call(take))
        made = pc.replace_with_mask(values.cast(pa.int64()), values.is_null(), pa.array(numbers, pa.int64()))
        rows = rows.set_column(place, column.name, made)
    return rows


# ---- calls ----


def found(context: Context, written: str, position: int | None) -> Sequence:
    """Look a sequence up by its name, as SQL writes it. Raises UndefinedTable, WrongObjectType."""
    schema, name = parted(written)
    schemas = (schema,) if schema is not None else context.asker.path
    catalog = context.catalog
    for each in schemas:
        sequence = catalog.sequence_called(each, name)
        if sequence is not None:
            return sequence
        if catalog.lookup(each, name) is not None:
            raise WrongObjectType(f'"{name}" is not a sequence', position=position)
    raise UndefinedTable(f'relation "{written}" does not exist', position=position)


def require_use(context: Context, sequence: Sequence, function: str = "nextval") -> None:
    """Raise unless who asks may call a function of a sequence: by a privilege, or as one who may write to its table."""
    access, role = context.catalog.access, context.asker.role
    if any(may_use(access, role, sequence.id, privilege) for privilege in _NEEDED[function]):
        return
    if sequence.owned_by is not None and access.has(role, sequence.owned_by[0], "INSERT"):
        return
    raise InsufficientPrivilege(f"permission denied for sequence {sequence.bare}")


# each needs one of them
_NEEDED = {"nextval": ("USAGE", "UPDATE"), "currval": ("USAGE", "SELECT"), "setval": ("UPDATE",)}


async def answered(context: Context, statement: S, tree: exp.Expr, *, describing: bool = False) -> exp.Expr:
    """Give a statement's tree with the calls answered; typed NULLs where it is only described. Raises StreamSQLError."""
    if not may_call(statement):
        return tree
    made = tree.copy()
    calls = [n for n in made.find_all(exp.Func, bfs=False) if function_name(n, statement) in SEQUENCE_FUNCTIONS]
    for call in sorted(calls, key=lambda c: -_depth(c, calls)):  # what stands inside of another comes first
        value = await _answer(context, call, statement, describing=describing)
        name = function_name(call, statement) or ""
        replaced: exp.Expr = value
        place = call.parent if isinstance(call.parent, exp.Dot) else call  # pg_catalog.setval(...)
        if isinstance(place.parent, exp.Select) and place.arg_key == "expressions":
            replaced = exp.alias_(value, name)
        if place is made:
            return replaced
        place.replace(replaced)
    return made


def _depth(call: exp.Expr, calls: list[exp.Func]) -> int:
    above, depth = call.parent, 0
    while above is not None:
        depth += any(above is other for other in calls)
        above = above.parent
    return depth


async def _answer(context: Context, call: exp.Func, statement: Statement, *, describing: bool) -> exp.Expr:
    name, position = function_name(call, statement) or "", position_of(call, statement)
    arguments = list(call.expressions) if isinstance(call, exp.Anonymous) else list(call.iter_expressions())
    if name == "pg_get_serial_sequence":
        return _owned_by(context, arguments, call, statement)
    select = call.find_ancestor(exp.Select)
    over_rows = select is not None and select.args.get("from_") is not None
    if over_rows and not (name == "setval" and _stands_alone(call)):
        raise FeatureNotSupported(
            f"{name} over the rows of a relation is not supported",
            hint="give the column a default: nextval('name'), or GENERATED BY DEFAULT AS IDENTITY",
            position=position,
        )
    if len(arguments) not in _ARITIES[name]:
        raise UndefinedFunction(f"function {name} with {len(arguments)} arguments does not exist", position=position)
    if describing:
        return _number(None)
    if name == "lastval":
        latest = context.numbers.latest
        if latest is None:
            raise NotInPrerequisiteState("lastval is not yet defined in this session", position=position)
        return _number(context.numbers.last[latest])
    sequence = found(context, named_sequence(arguments[0], statement), position)
    require_use(context, sequence, name)
    if name == "currval":
        value = context.numbers.last.get(sequence.id)
        if value is None:
            raise NotInPrerequisiteState(
                f'currval of sequence "{sequence.bare}" is not yet defined in this session', position=position
            )
        return _number(value)
    if name == "nextval":
        return _number(int((await take(context, sequence, 1))[0]))
    return await _set(context, sequence, arguments, select, statement)


def _stands_alone(call: exp.Expr) -> bool:
    """Tell whether a call is all that its SELECT gives."""
    place = call.parent if isinstance(call.parent, exp.Dot) else call
    place = place.parent if isinstance(place.parent, exp.Alias) else place
    return isinstance(place.parent, exp.Select) and place.parent.expressions == [place]


_ARITIES = {"nextval": (1,), "currval": (1,), "lastval": (0,), "setval": (2, 3)}


async def _set(
    context: Context, sequence: Sequence, arguments: list[exp.Expr], select: exp.Select | None, statement: Statement
) -> exp.Expr:
    value, called = await _place(context, arguments, select, statement)
    if value is None or called is None:
        return _number(None)
    await context.on_engine(lambda: context.engine.sequences.set(sequence, value, called=called))
    if called:
        context.numbers.last[sequence.id] = value
    return _number(value)


async def _place(
    context: Context, arguments: list[exp.Expr], select: exp.Select | None, statement: Statement
) -> tuple[int | None, bool | None]:
    """Give setval's number, and whether it has been given out. A select over rows is left without them: it gave one row."""
    flag = arguments[2].unnest() if len(arguments) == 3 else exp.true()
    value = _constant(arguments[1])
    over_rows = select is not None and select.args.get("from_") is not None
    if value is not None and isinstance(flag, exp.Boolean) and not over_rows:
        return value, bool(flag.this)
    asked = exp.select() if select is None else select.copy()
    asked.set(
        "expressions", [exp.alias_(exp.cast(arguments[1].copy(), "bigint"), "value"), exp.alias_(flag.copy(), "called")]
    )

    def ask(cursor: duckdb.DuckDBPyConnection, scope: Scope) -> list[tuple[int | None, bool | None]]:
        with translated():
            return cursor.execute(adhoc_sql(asked, statement, scope)).fetchmany(2)

    if context.transaction.private:
        rows = await context.run_own(lambda cursor: ask(cursor, context.own_scope(cursor)))
    else:
        rows = await context.reads.run(lambda cursor: ask(cursor, context.scope(cursor)), context.cancel)
    if len(rows) != 1:
        raise FeatureNotSupported(
            "setval over the rows of a relation is not supported",
            hint="ask for one row: setval('name', max(column))",
            position=position_of(arguments[1], statement),
        )
    if select is not None:
        for key in set(select.args) - {"expressions"}:
            select.set(key, None)
    return rows[0]


def _constant(argument: exp.Expr) -> int | None:
    """Give the whole number that an argument is; None for what is no constant."""
    node = argument.unnest()
    while isinstance(node, exp.Cast):
        node = node.this.unnest()
    sign = 1
    if isinstance(node, exp.Neg):
        sign, node = -1, node.this.unnest()
    if not isinstance(node, exp.Literal) or not node.name.lstrip("+-").isdecimal():
        return None
    return sign * int(node.name)


def _number(value: int | None) -> exp.Expr:
    inner: exp.Expr = exp.null() if value is None else exp.Literal.number(abs(value))
    return exp.cast(exp.Neg(this=inner) if value is not None and value < 0 else inner, "bigint")


def _owned_by(context: Context, arguments: list[exp.Expr], call: exp.Func, statement: Statement) -> exp.Expr:
    """Answer pg_get_serial_sequence, where its arguments are constants."""
    texts = [a.unnest() for a in arguments]
    if len(texts) != 2 or not all(isinstance(t, exp.Literal) and t.is_string for t in texts):
        return call.copy()
    schema, name = parted(folded(texts[0].name))
    key = context.lookup.key(schema, name)
    made = None if key is None else context.catalog.get(key)
    position = position_of(call, statement)
    if not isinstance(made, (Stream, Table)):
        raise UndefinedTable(f'relation "{texts[0].name}" does not exist', position=position)
    if made.column(texts[1].name) is None:
        raise UndefinedColumn(f'column "{texts[1].name}" of relation "{made.bare}" does not exist', position=position)
    sequence = context.catalog.sequence_of(made, texts[1].name)
    if sequence is None:
        return exp.cast(exp.null(), "text")
    return exp.cast(exp.Literal.string(f"{quote_name(sequence.schema)}.{quote_name(sequence.bare)}"), "text")


async def filled(context: Context, statement: Insert, relation: Stream | Table) -> Insert:
    """Give an INSERT whose calls are answered, and whose DEFAULTs of numbered columns are numbers."""
    source = statement.source
    if source is None:
        return statement
    if isinstance(source, exp.Values) and is_numbered(relation):
        source = await _numbered_values(context, statement, source.copy(), relation)
    made = await answered(context, statement, source)
    return statement if made is statement.source else dataclasses.replace(statement, source=made)


async def _numbered_values(
    context: Context, statement: Insert, source: exp.Values, relation: Stream | Table
) -> exp.Values:
    names = statement.columns or tuple(c.name for c in relation.columns)
    for place, name in enumerate(names):
        column = relation.column(name)
        sequence = None if column is None else numbering(context, relation, column)
        if sequence is None:
            continue
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in source.expressions]
        cells = [row[place] for row in rows if place < len(row) and is_default(row[place])]
        for cell, number in zip(cells, await take(context, sequence, len(cells)), strict=True):
            cell.replace(_number(int(number)))
    return source


def is_default(cell: exp.Expr) -> bool:
    return isinstance(cell, exp.Var) and cell.name.upper() == "DEFAULT"
