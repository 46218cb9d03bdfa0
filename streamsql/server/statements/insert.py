"""INSERT: literal rows by column, anything else by one DuckDB query. (Bound rows of parameters: `server.gathered`.)"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import duckdb
import pyarrow as pa
from sqlglot import exp
from sqlglot.tokens import TokenType

from streamsql.base.errors import DatatypeMismatch, InvalidTextRepresentation, NumericOutOfRange, StreamSQLError
from streamsql.base.limits import Limits, exceeded
from streamsql.base.types import NUMERIC, WireType, shown_type
from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.catalog.rights import require
from streamsql.engine.ingest import arranged, check_width, conform, default_rows, target_columns
from streamsql.engine.store import translated
from streamsql.pgwire.values import BadValue, parse_text
from streamsql.plan.adhoc import Scope, adhoc_sql, check_inserted, known_types
from streamsql.plan.insertion import in_types
from streamsql.plan.parameters import infer_types, substituted
from streamsql.plan.places import located, place_of_word
from streamsql.plan.upsert import as_update
from streamsql.server import written
from streamsql.server.context import Context, Values
from streamsql.server.gathered import VALUES_READ_INLINE_MAX, casts_change_nothing, modifier_of
from streamsql.server.numbering import check_always, filled, is_default, is_numbered, with_numbers
from streamsql.server.reads import next_batch
from streamsql.server.results import Done, Rows
from streamsql.server.returning import returned
from streamsql.sql.statements import ColumnDefinition, Insert
from streamsql.sql.tokens import tokenize
from streamsql.sql.values import LiteralRows

_NUMBERS = frozenset({"float4", "float8", "int2", "int4", "int8", "numeric"})
_TEXTS = frozenset({"bpchar", "text", "varchar"})
# beyond it, an error in an INSERT of literals is not looked for in the text
_SEARCHED_CHARACTERS_MAX = 1_000_000


def types_of(
    context: Context, statement: Insert, declared: Sequence[WireType | None], cursor: duckdb.DuckDBPyConnection
) -> tuple[WireType, ...]:
    """Give the types of the parameters: those of the columns that they are written to, or what is around them."""
    relation = context.catalog.relation(statement.name, statement.name_position + 1)
    context.known.schema(relation, cursor)  # the first row will want it
    scope = context.scope(cursor)
    count = statement.parameter_count
    clause = None if statement.conflict is None else as_update(statement.conflict, statement.name)
    if statement.source is None:  # DEFAULT VALUES
        assert clause is not None
        return tuple(infer_types(clause, count, declared, scope.describe))
    columns = _targets(relation, statement, context.limits)
    if statement.parameter_columns is not None:
        columns = _leading(columns, len(statement.parameter_columns), statement)
    targets = [c.wire.type for c in columns]
    known = known_types(statement, scope)
    return tuple(infer_types(statement.source, count, declared, scope.describe, targets, known, clause))


async def execute(context: Context, statement: Insert, values: Values) -> Done | Rows:
    relation = context.catalog.relation(statement.name, statement.name_position + 1)
    require(context.catalog, context.asker.role, relation, "INSERT")
    rows = await rows_of(context, statement, values, relation)
    await written.write(context, relation, rows)
    tag = f"INSERT 0 {rows.num_rows}"
    if statement.returning is None:
        return Done(tag)
    return await returned(context, statement.returning, relation, rows, tag)


async def rows_of(context: Context, statement: Insert, values: Values, relation: Stream | Table) -> pa.Table:
    """Give the rows that an INSERT writes, in the relation's columns. Raises StreamSQLError."""
    numbered = is_numbered(relation)
    if isinstance(statement.rows, LiteralRows):
        return await _literal_rows(context, statement, statement.rows, relation, numbered=numbered)
    if statement.source is None:
        if numbered:
            one = pa.table({"__row": pa.nulls(1, pa.int8())})
            columns, given = await with_numbers(context, relation, [], one)
            return await _conformed(context, columns, given.drop_columns(["__row"]), relation)
        return await context.reads.run(lambda cursor: default_rows(1, relation, cursor))
    if statement.parameter_columns is not None and values.texts:
        bound = await _bound_row(context, statement, values, relation, numbered=numbered)
        if bound is not None:
            return bound
    if numbered and not statement.overriding:
        _check_always(statement, relation)
    made = await filled(context, statement, relation)
    if not context.transaction.private:
        columns, given = await context.reads.run(
            lambda cursor: _selected(context, made, values, relation, cursor, context.scope(cursor)), context.cancel
        )
    else:
        columns, given = await context.run_own(
            lambda cursor: _selected(context, made, values, relation, cursor, context.own_scope(cursor))
        )
    if numbered:
        columns, given = await with_numbers(context, relation, columns, given)
    return await _conformed(context, columns, given, relation)


async def _conformed(
    context: Context, columns: Sequence[ColumnDefinition], given: pa.Table, relation: Stream | Table
) -> pa.Table:
    schema = context.known.schema_if_known(relation)
    made = None if schema is None else arranged(given, columns, relation, schema)
    if made is not None:
        return made
    return await context.reads.run(
        lambda cursor: conform(given, columns, relation, context.known.schema(relation, cursor), cursor)
    )


async def _bound_row(
    context: Context, statement: Insert, values: Values, relation: Stream | Table, *, numbered: bool
) -> pa.Table | None:
    """Read one row of parameters, each by its type's own input; None for what has to be computed."""
    types, texts, numbers = values.types, values.texts, statement.parameter_columns
    assert texts is not None
    assert numbers is not None
    if any(t.fields or t.scalar.is_made for t in types) or not casts_change_nothing(statement, context.catalog, types):
        return None
    columns = _leading(_targets(relation, statement, context.limits), len(numbers), statement)
    if numbered and not statement.overriding:
        check_always(columns)
    arrays = []
    for number, column in zip(numbers, columns, strict=True):
        wire, given = types[number - 1], pa.array([texts[number - 1]], pa.string())
        if wire.name not in _TEXTS:
            try:
                given = parse_text(given, wire, modifier_of(column.type) if wire is NUMERIC else -1, context.zone)
            except BadValue as bad:
                raise bad.error from None
        arrays.append(given)
    row = pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])
    if numbered:
        columns, row = await with_numbers(context, relation, columns, row)
    return await _conformed(context, columns, row, relation)


def _check_always(statement: Insert, relation: Stream | Table) -> None:
    """Raise GeneratedAlways where something else than DEFAULT is written into a column that only its sequence numbers."""
    source = statement.source
    names = statement.columns or tuple(c.name for c in relation.columns)
    for place, name in enumerate(names):
        column = relation.column(name)
        if column is None:
            continue
        if isinstance(source, exp.Values):
            rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in source.expressions]
            if all(place >= len(row) or is_default(row[place]) for row in rows):
                continue
        elif isinstance(source, exp.Select) and not statement.columns and place >= len(source.expressions):
            continue
        check_always([column])


# ---- literals ----


async def _literal_rows(
    context: Context, statement: Insert, literals: LiteralRows, relation: Stream | Table, *, numbered: bool
) -> pa.Table:
    columns = _leading(_targets(relation, statement, context.limits), len(literals.columns), statement)
    if numbered:
        if not statement.overriding:
            check_always(columns)
        given = await context.reads.compute(lambda: _given(statement, literals, columns, context))
        more, given = await with_numbers(context, relation, columns, given)
        return await _conformed(context, more, given, relation)
    schema = context.known.schema_if_known(relation)
    if schema is not None and literals.row_count * len(columns) <= VALUES_READ_INLINE_MAX:
        made = arranged(_given(statement, literals, columns, context), columns, relation, schema)
        if made is not None:
            return made

    def read(cursor: duckdb.DuckDBPyConnection) -> pa.Table:
        given = _given(statement, literals, columns, context)
        return conform(given, columns, relation, context.known.schema(relation, cursor), cursor)

    return await context.reads.run(read)


def _given(statement: Insert, literals: LiteralRows, columns: Sequence[ColumnDefinition], context: Context) -> pa.Table:
    arrays = []
    for index, (texts, kind, column) in enumerate(zip(literals.columns, literals.kinds, columns, strict=True)):
        try:
            arrays.append(_literals(texts, kind, column, context.zone))
        except BadValue as bad:
            bad.error.position = cell_position(statement, bad.row, index, context.limits)
            raise bad.error from None
        except StreamSQLError as error:
            error.position = cell_position(statement, 0, index, context.limits)
            raise
    return pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])


def _literals(texts: pa.Array, kind: str, column: ColumnDefinition, zone: str) -> pa.Array:
    """Read one column of literals as Postgres would: a string by the type's own input, a number as a number.

    What gives text is left to DuckDB's cast. Raises BadValue, or DatatypeMismatch.
    """
    shown = column.wire
    name = shown.type.name
    if kind == "null":
        return pa.nulls(len(texts))
    if kind == "string":
        return texts if name in _TEXTS else parse_text(texts, shown.type, modifier_of(column.type), zone)
    if name in _TEXTS:
        return texts
    if kind == "number" and name in _NUMBERS:
        try:
            return parse_text(texts, shown.type, modifier_of(column.type))
        except BadValue as bad:
            if isinstance(bad.error, InvalidTextRepresentation):
                return texts  # 1.5 or 1e3 for an integer: a cast rounds it
            if isinstance(bad.error, NumericOutOfRange) and name != "numeric":
                bad.error.message = f"{shown_type(shown.type)} out of range"  # a number, not a text that is read
                bad.error.args = (bad.error.message,)
            raise
    if kind == "boolean" and name == "bool":
        return parse_text(texts, shown.type)
    raise DatatypeMismatch(
        f'column "{column.name}" is of type {shown_type(shown.type)} but expression is of type '
        f"{'boolean' if kind == 'boolean' else _number_type(texts)}",
        hint="rewrite or cast the expression",
    )


def _number_type(texts: pa.Array) -> str:
    first = next((text for text in texts.to_pylist() if text is not None), "")
    return "integer" if first.lstrip("+-").isdecimal() else "numeric"


def cell_position(statement: Insert, row: int, column: int, limits: Limits) -> int | None:
    """Find the 1-based position of a cell of an INSERT of literals in the client's text; None in a very long text."""
    if len(statement.text) > _SEARCHED_CHARACTERS_MAX:
        return None
    depth, at_row, at_column, inside = 0, -1, 0, False
    for token in tokenize(statement.text, limits):
        mark = "" if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) else token.text
        if not inside:
            inside = mark == "values"
        elif mark == "(":
            depth += 1
            if depth == 1:
                at_row, at_column = at_row + 1, 0
        elif mark == ")":
            depth -= 1
        elif mark == "," and depth == 1:
            at_column += 1
        elif (at_row, at_column) == (row, column):
            return statement.position + token.start + 1
    return None


# ---- queries ----


def _selected(
    context: Context,
    statement: Insert,
    values: Values,
    relation: Stream | Table,
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
) -> tuple[list[ColumnDefinition], pa.Table]:
    """Give the rows of a query, and the columns that they are for."""
    source = statement.source
    assert source is not None
    if statement.parameter_count:
        types = values.types or types_of(context, statement, (), cursor)
        source = substituted(source, types, values.texts or None)
    columns = _targets(relation, statement, context.limits)
    try:
        sql = adhoc_sql(in_types(source, columns), statement, scope)
        columns = _leading(columns, _width(source, sql, scope), statement)
        if isinstance(source, exp.Query) and not isinstance(source, exp.Values):
            check_inserted(source, statement, columns, scope)
        casts = ", ".join(f"CAST(#{i + 1} AS {c.type}) AS {quoted(c.name)}" for i, c in enumerate(columns))
        given = read_all(f"SELECT {casts} FROM ({sql})", cursor, context.limits)
    except StreamSQLError as error:
        raise located(error, source, statement) from error
    return columns, given


def _width(source: exp.Expr, sql: str, scope: Scope) -> int:
    if isinstance(source, exp.Values):
        row = source.expressions[0]
        return len(row.expressions) if isinstance(row, exp.Tuple) else 1
    return len(scope.describe(sql))


def read_all(sql: str, cursor: duckdb.DuckDBPyConnection, limits: Limits) -> pa.Table:
    """Read a query's rows, but no more of them than a transaction may hold."""
    with translated():
        reader = cursor.sql(sql).to_arrow_reader(limits.result_batch_rows_max)
    batches: list[pa.RecordBatch] = []
    count = 0
    with contextlib.closing(reader):
        while (batch := next_batch(reader)) is not None:
            batches.append(batch)
            count += batch.num_rows
            if count > limits.transaction_rows_max:
                raise exceeded(limits, "transaction_rows_max", "the number of rows in a transaction")
    return pa.Table.from_batches(batches, reader.schema)


def _targets(relation: Stream | Table, statement: Insert, limits: Limits) -> list[ColumnDefinition]:
    place = partial(place_of_word, statement=statement, after=statement.name_position, limits=limits)
    return target_columns(relation, statement.columns, place)


def _leading(columns: list[ColumnDefinition], width: int, statement: Insert) -> list[ColumnDefinition]:
    """Give the columns that so many values are for: without a column list, fewer values fill the first ones, as in Postgres."""
    columns = columns if statement.columns or width > len(columns) else columns[:width]
    check_width(columns, width, statement.position + 1)
    return columns
