"""What stands between the parentheses of CREATE TABLE and CREATE STREAM: columns, their constraints, and the relation's own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import (
    DuplicateColumn,
    InvalidParameterValue,
    InvalidTableDefinition,
    SQLSyntaxError,
    UndefinedColumn,
)
from streamsql.base.limits import Limits, exceeded
from streamsql.base.types import Declared
from streamsql.sql.clauses import expect_watermark_for
from streamsql.sql.column_types import accept_serial, expect_column_type, is_column_end
from streamsql.sql.constraints import (
    Constraint,
    ForeignKey,
    Unique,
    accept_constraint,
    expect_key,
    free_name,
    named,
    parse_expression,
    skip_timing,
)
from streamsql.sql.includes import accept_includes
from streamsql.sql.names import parted
from streamsql.sql.sequence_options import accept_options, check_options
from streamsql.sql.sequence_statements import Numbered, Numbering, SequenceOptions
from streamsql.sql.statements import ColumnDefinition, Watermark
from streamsql.sql.tokens import Cursor, is_quoted
from streamsql.sql.trees import count_parameters
from streamsql.sql.unsupported import refuse, refuse_here

_IN_CLIENT = "let the client see to it"
COLUMN_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("collate",): ("COLLATE of a column", "text is compared by its bytes"),
    ("using",): ("USING in a column definition", _IN_CLIENT),
}
TABLE_UNSUPPORTED: dict[tuple[str, ...], tuple[str, str]] = {
    ("exclude", "using"): ("an EXCLUDE constraint", _IN_CLIENT),
    ("exclude", "("): ("an EXCLUDE constraint", _IN_CLIENT),
    ("like",): ("LIKE in a column list", "write the columns out"),
}
_INTEGERS = {"SMALLINT": "smallint", "INTEGER": "integer", "BIGINT": "bigint"}


@dataclass(slots=True)
class Elements:
    """What has been read so far."""

    relation: str = ""
    columns: list[ColumnDefinition] = field(default_factory=list)
    primary_key: tuple[str, ...] = ()
    key_name: str = ""
    constraints: list[Constraint] = field(default_factory=list)
    watermark: Watermark | None = None
    watermark_position: int = 0
    end: int | None = None

    def marked(self) -> tuple[ColumnDefinition, ...]:
        """Give the columns, those of the primary key as such."""
        return tuple(
            dataclasses.replace(c, primary_key=True, not_null=True) if c.name in self.primary_key else c
            for c in self.columns
        )

    def names(self) -> tuple[str, tuple[Constraint, ...]]:
        """Give the name of the primary key ("": there is none), and the constraints with theirs. Raises StreamSQLError."""
        given = [c.name for c in self.constraints]
        key_name = self.key_name
        if self.primary_key and not key_name:
            key_name = free_name(parted(self.relation)[1], "", "pkey", lambda name: name in given)
        constraints = named(self.constraints, self.relation, [c.name for c in self.columns], {key_name} - {""})
        keys = {self.primary_key}
        kept = []  # as in PostgreSQL, a UNIQUE that says what another key does is not kept
        for constraint in constraints:
            if isinstance(constraint, Unique) and constraint.columns in keys and constraint.name not in given:
                continue
            if isinstance(constraint, Unique):
                keys.add(constraint.columns)
            kept.append(constraint)
        return key_name, tuple(kept)


def expect_new_name(cursor: Cursor) -> str:
    name = cursor.expect_object_name()
    _check_length(name, cursor.limits)
    return name


def _check_length(name: str, limits: Limits) -> None:
    if len(name.encode("utf-8", "surrogatepass")) > limits.identifier_bytes_max:
        raise exceeded(limits, "identifier_bytes_max", f'the name "{name}"')


def expect_elements(cursor: Cursor, relation: str, *, is_stream: bool) -> Elements:
    """Read columns and constraints in parentheses."""
    cursor.expect("(")
    elements = Elements(relation)
    while not (cursor.sees(")") and not elements.columns and elements.watermark is None):
        if cursor.sees("watermark", "for") and is_stream:
            elements.watermark_position = cursor.position
            _expect_watermark(cursor, elements)
        elif not accept_table_constraint(cursor, elements, is_stream=is_stream):
            expect_column(cursor, elements, is_stream=is_stream)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    if len(elements.columns) > cursor.limits.columns_max:
        raise exceeded(cursor.limits, "columns_max", "the number of columns")
    elements.end = cursor.tokens[cursor.index - 1].start + 1
    return elements


def accept_included(cursor: Cursor, elements: Elements) -> list[ColumnDefinition]:
    included = accept_includes(cursor, elements.columns)
    elements.columns += included
    if len(elements.columns) > cursor.limits.columns_max:
        raise exceeded(cursor.limits, "columns_max", "the number of columns")
    return included


def check_elements(elements: Elements, *, given_by_connector: bool = False, inferred: bool = False) -> None:
    """Raise where there is no column; a connector may know them by itself, or they are `inferred`."""
    if inferred:
        return
    if given_by_connector and all(column.include for column in elements.columns):
        return
    if not elements.columns:
        raise SQLSyntaxError("at least one column is needed", position=elements.end)
    known = {column.name for column in elements.columns}
    if elements.watermark is not None and elements.watermark.column not in known:
        position = (elements.watermark.position or elements.watermark_position) + 1
        raise UndefinedColumn(f'column "{elements.watermark.column or ""}" does not exist', position=position)


def _expect_watermark(cursor: Cursor, elements: Elements) -> None:
    position = cursor.position
    cursor.expect("watermark")
    if elements.watermark is not None:
        raise SQLSyntaxError("WATERMARK is given twice", position=position + 1)
    elements.watermark = expect_watermark_for(cursor)


def accept_table_constraint(cursor: Cursor, elements: Elements, *, is_stream: bool) -> bool:
    """Read a constraint of the relation's own, if one comes next."""
    name = cursor.expect_new_name() if cursor.accept("constraint") else ""
    refuse_here(cursor, TABLE_UNSUPPORTED)
    if cursor.sees("primary key"):
        _expect_primary_key(cursor, elements, name, is_stream=is_stream)
        return True
    position = cursor.position
    found = accept_constraint(cursor, name, None)
    if found is None:
        if name:
            raise cursor.error()
        return False
    _add(cursor, elements, found, position, is_stream=is_stream)
    return True


def _expect_primary_key(cursor: Cursor, elements: Elements, name: str, *, is_stream: bool) -> None:
    _refuse_key(cursor, elements, is_stream=is_stream)
    cursor.expect("primary key")
    known = {c.name for c in elements.columns}
    names = expect_key(cursor, "primary key constraint", known or None)
    skip_timing(cursor)
    elements.primary_key, elements.key_name = names, name


def _add(cursor: Cursor, elements: Elements, found: Constraint, position: int, *, is_stream: bool) -> None:
    if is_stream and isinstance(found, (ForeignKey, Unique)):
        what = "a foreign key" if isinstance(found, ForeignKey) else "a UNIQUE constraint"
        cursor.index = next(i for i, token in enumerate(cursor.tokens) if token.start == position)
        refuse(f"{what} of a stream", "use CREATE TABLE: rows of a stream are events, each by itself", cursor)
    skip_timing(cursor)
    elements.constraints.append(found)


def _refuse_key(cursor: Cursor, elements: Elements, *, is_stream: bool) -> None:
    if is_stream:
        refuse("a PRIMARY KEY of a stream", "use CREATE TABLE: the rows of a stream are not replaced", cursor)
    if elements.primary_key:
        raise InvalidTableDefinition(
            f'multiple primary keys for table "{parted(elements.relation)[1]}" are not allowed',
            position=cursor.position + 1,
        )


def expect_column(cursor: Cursor, elements: Elements, *, is_stream: bool) -> None:
    """Read a column with its constraints, and add it."""
    position = cursor.position
    name = cursor.expect_name()
    _check_length(name, cursor.limits)
    if any(column.name == name for column in elements.columns):
        raise DuplicateColumn(f'column "{name}" specified more than once', position=position + 1)
    serial = accept_serial(cursor)
    declared: Declared | None = None
    if serial is None:
        column_type, declared = expect_column_type(cursor)
        made = ColumnDefinition(name, column_type, position=position, declared=declared)
    else:
        numbered = Numbered(Numbering.SERIAL, SequenceOptions(type=_INTEGERS[serial]))
        made = ColumnDefinition(name, serial, not_null=True, position=position, numbered=numbered)
    made = _with_constraints(cursor, elements, made, is_stream=is_stream)
    elements.columns.append(made)


def _with_constraints(
    cursor: Cursor, elements: Elements, column: ColumnDefinition, *, is_stream: bool
) -> ColumnDefinition:
    not_null = nullable = False
    while not (cursor.peek is None or cursor.sees(",") or cursor.sees(")")):
        refuse_here(cursor, COLUMN_UNSUPPORTED)
        name = cursor.expect_new_name() if cursor.accept("constraint") else ""
        place = cursor.position
        if cursor.accept("not", "null"):
            not_null = True
        elif cursor.accept("null"):
            nullable = True
        elif cursor.accept("default"):
            if column.default is not None or column.numbered is not None:
                raise SQLSyntaxError(
                    f'multiple default values specified for column "{column.name}" of table "{parted(elements.relation)[1]}"',
                    position=place + 1,
                )
            column = dataclasses.replace(column, default=expect_default(cursor))
        elif cursor.sees("generated"):
            column = dataclasses.replace(column, numbered=_expect_identity(cursor, column), not_null=True)
        elif cursor.sees("primary key"):
            _refuse_key(cursor, elements, is_stream=is_stream)
            cursor.expect("primary key")
            skip_timing(cursor)
            elements.primary_key, elements.key_name = (column.name,), name
        else:
            found = accept_constraint(cursor, name, column.name)
            if found is None:
                raise cursor.error()
            _add(cursor, elements, found, place, is_stream=is_stream)
        if nullable and (not_null or column.not_null):
            raise SQLSyntaxError(
                f'conflicting NULL/NOT NULL declarations for column "{column.name}"', position=place + 1
            )
    return dataclasses.replace(column, not_null=column.not_null or not_null)


def _expect_identity(cursor: Cursor, column: ColumnDefinition) -> Numbered:
    position = cursor.position
    found = expect_identity(cursor)
    if column.default is not None or column.numbered is not None:
        raise SQLSyntaxError(f'both default and identity specified for column "{column.name}"', position=position + 1)
    try:
        return of_type(found, column.type)
    except InvalidParameterValue as error:
        error.position = position + 1
        raise


def expect_identity(cursor: Cursor) -> Numbered:
    """Read GENERATED ALWAYS | BY DEFAULT AS IDENTITY [(options)], of a column whose type is not known."""
    numbering = expect_numbering(cursor)
    cursor.expect("as")
    if cursor.sees("("):
        refuse("a generated column", "compute it in a materialized view", cursor)
    cursor.expect("identity")
    options, name = SequenceOptions(), ""
    if cursor.accept("("):
        if cursor.accept("sequence", "name"):
            name = parted(cursor.expect_object_name())[1]
        options, _ = accept_options(cursor, options)
        cursor.expect(")")
    return Numbered(numbering, options, name)


def expect_numbering(cursor: Cursor) -> Numbering:
    """Read GENERATED ALWAYS | BY DEFAULT."""
    cursor.expect("generated")
    if cursor.accept("always"):
        return Numbering.ALWAYS
    cursor.expect("by", "default")
    return Numbering.BY_DEFAULT


def of_type(numbered: Numbered, duckdb_type: str) -> Numbered:
    """Give an identity as it is for a column of this type. Raises InvalidParameterValue where that has none."""
    if duckdb_type not in _INTEGERS:
        raise InvalidParameterValue("identity column type must be smallint, integer, or bigint")
    options = dataclasses.replace(numbered.options, type=_INTEGERS[duckdb_type])
    return dataclasses.replace(numbered, options=check_options(options))


def expect_default(cursor: Cursor) -> exp.Expression:
    """Read an expression up to a comma, a closing parenthesis or the next constraint."""
    tokens: list[Token] = []
    depth = 0
    while (token := cursor.peek) is not None:
        if depth == 0 and token.text in (",", ")") and token.token_type is not TokenType.STRING:
            break
        constraint = is_column_end(token) and (token.text != "not" or cursor.sees("not", "null"))
        if depth == 0 and constraint and tokens and tokens[-1].text not in ("is", "not"):
            break
        if not is_quoted(token):
            depth += (token.text in ("(", "[", "case")) - (token.text in (")", "]", "end"))
        tokens.append(cursor.advance())
    if not tokens:
        raise cursor.error()
    if count_parameters(tokens, cursor.limits):
        refuse("a parameter in a DEFAULT", "write a constant", cursor)
    if [token.text for token in tokens] == ["now", "(", ")"]:
        # no CURRENT_TIMESTAMP: tools compare what the catalog shows with what they wrote
        return exp.Anonymous(this="now")
    return parse_expression(cursor, tokens)
