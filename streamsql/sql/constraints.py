"""Constraints of tables and streams: CHECK, UNIQUE and FOREIGN KEY, their names, and how they are read and printed.

A constraint that is given no name gets PostgreSQL's: ``t_a_check``, ``t_a_b_key``, ``t_a_fkey``, with a number behind it where
that is taken; a primary key is ``t_pkey``.

Specification: https://www.postgresql.org/docs/15/ddl-constraints.html
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from streamsql.base.errors import DuplicateColumn, DuplicateObject, SQLSyntaxError, UndefinedColumn
from streamsql.sql.names import parted, quote_name, quote_path
from streamsql.sql.render_trees import postgres_sql
from streamsql.sql.tokens import Cursor, is_quoted, syntax_error
from streamsql.sql.trees import count_parameters, parse_tree
from streamsql.sql.unsupported import refuse

NAME_BYTES_MAX = 63


@dataclass(frozen=True, slots=True)
class Check:
    """CHECK (expression): no row for which it is false."""

    name: str
    expression: exp.Expr
    position: int = 0


@dataclass(frozen=True, slots=True)
class Unique:
    """UNIQUE (columns): no two rows with the same values, NULL being like no other."""

    name: str
    columns: tuple[str, ...]
    position: int = 0


class ReferentialAction(enum.Enum):
    """What becomes of rows whose key in the other table goes or changes; the value is that of ``pg_constraint``."""

    NO_ACTION = "a"
    RESTRICT = "r"
    CASCADE = "c"
    SET_NULL = "n"

    @property
    def words(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """FOREIGN KEY (columns) REFERENCES table (key): `key` is empty where the text names none (the primary key).

    `deferrable`: SET CONSTRAINTS may put its check off until COMMIT; `deferred`: it is put off unless that says otherwise.
    """

    name: str
    columns: tuple[str, ...]
    table: str
    key: tuple[str, ...] = ()
    on_delete: ReferentialAction = ReferentialAction.NO_ACTION
    on_update: ReferentialAction = ReferentialAction.NO_ACTION
    position: int = 0
    deferrable: bool = False
    deferred: bool = False  # INITIALLY DEFERRED


Constraint = Check | Unique | ForeignKey


# ---- reading ----


def accept_constraint(cursor: Cursor, name: str, column: str | None) -> Constraint | None:
    """Read a constraint of this name ("": none given) on a column, or (None) of a table; None where there is none here."""
    position = cursor.position
    if cursor.accept("check"):
        return Check(name, _expect_condition(cursor), position)
    if cursor.accept("unique"):
        if cursor.sees("nulls"):
            refuse("NULLS [NOT] DISTINCT", "leave it away: NULL is like no other value", cursor)
        columns = (column,) if column is not None else expect_key(cursor)
        return Unique(name, columns, position)
    if column is None:
        if not cursor.accept("foreign key"):
            return None
        columns = expect_key(cursor)
        cursor.expect("references")
    else:
        if not cursor.accept("references"):
            return None
        columns = (column,)
    return _expect_references(cursor, name, columns, position)


def expect_key(cursor: Cursor, of: str = "the key", known: Container[str] | None = None) -> tuple[str, ...]:
    """Read names of columns in parentheses, none of them twice, and of the `known` ones where these are given."""
    cursor.expect("(")
    names: list[str] = []
    while True:
        position = cursor.position
        found = cursor.expect_name()
        if found in names:
            raise DuplicateColumn(f'column "{found}" appears twice in {of}', position=position + 1)
        if known is not None and found not in known:
            raise UndefinedColumn(f'column "{found}" named in key does not exist', position=position + 1)
        names.append(found)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return tuple(names)


def _expect_references(cursor: Cursor, name: str, columns: tuple[str, ...], position: int) -> ForeignKey:
    table = cursor.expect_object_name()
    key = expect_key(cursor) if cursor.sees("(") else ()
    actions = {"delete": ReferentialAction.NO_ACTION, "update": ReferentialAction.NO_ACTION}
    while True:
        if cursor.accept("match"):
            if cursor.accept_any("simple") is None:
                refuse("MATCH other than SIMPLE", "declare the columns NOT NULL", cursor)
        elif cursor.sees("on", "delete") or cursor.sees("on", "update"):
            cursor.expect("on")
            event = cursor.accept_any("delete", "update")
            assert event is not None
            actions[event] = _expect_action(cursor)
        else:
            break
    deferrable, deferred = _accept_timing(cursor)
    return ForeignKey(name, columns, table, key, actions["delete"], actions["update"], position, deferrable, deferred)


def _accept_timing(cursor: Cursor) -> tuple[bool, bool]:
    """Read [NOT] DEFERRABLE and INITIALLY DEFERRED | IMMEDIATE, in either order."""
    deferrable: bool | None = None
    deferred: bool | None = None
    while True:
        start = cursor.position
        if cursor.accept("not", "deferrable") or cursor.accept("deferrable"):
            if deferrable is not None:
                what = "multiple DEFERRABLE/NOT DEFERRABLE clauses not allowed"
                raise SQLSyntaxError(what, position=start + 1)
            deferrable = cursor.tokens[cursor.index - 2].text != "not"
        elif cursor.accept("initially", "deferred") or cursor.accept("initially", "immediate"):
            if deferred is not None:
                what = "multiple INITIALLY IMMEDIATE/DEFERRED clauses not allowed"
                raise SQLSyntaxError(what, position=start + 1)
            deferred = cursor.tokens[cursor.index - 1].text == "deferred"
        else:
            return deferrable is True or deferred is True, deferred is True
        if deferred and deferrable is False:
            raise SQLSyntaxError("constraint declared INITIALLY DEFERRED must be DEFERRABLE", position=start + 1)


def _expect_action(cursor: Cursor) -> ReferentialAction:
    for action in ReferentialAction:
        if cursor.accept(*action.words.lower().split()):
            if action is ReferentialAction.SET_NULL and cursor.sees("("):
                refuse("a column list of SET NULL", "leave it away: all columns of the key are set", cursor)
            return action
    if cursor.sees("set", "default"):
        refuse("SET DEFAULT of a foreign key", "use RESTRICT or NO ACTION", cursor)
    raise cursor.error()


def skip_timing(cursor: Cursor) -> None:
    """Read NOT DEFERRABLE and INITIALLY IMMEDIATE, which say what is so anyway; refuse what would defer the check of a key."""
    while True:
        if cursor.accept("not", "deferrable") or cursor.accept("initially", "immediate"):
            continue
        if cursor.sees("deferrable") or cursor.sees("initially", "deferred"):
            if cursor.accept("deferrable", "initially", "deferred"):
                continue  # what frameworks write: the check is as strict, and comes earlier (docs/compatibility.md)
            refuse("DEFERRABLE of a constraint", "leave it away", cursor)
        if cursor.sees("not", "valid"):
            refuse("NOT VALID of a constraint", "leave it away: all rows are checked", cursor)
        if cursor.sees("no", "inherit"):
            refuse("NO INHERIT of a constraint", "leave it away: tables do not inherit", cursor)
        return


def _expect_condition(cursor: Cursor) -> exp.Expr:
    """Read an expression in parentheses."""
    first = cursor.peek
    cursor.expect("(")
    tokens: list[Token] = []
    depth = 1
    while (token := cursor.peek) is not None:
        if not is_quoted(token):
            depth += (token.text == "(") - (token.text == ")")
        cursor.advance()
        if depth == 0:
            break
        tokens.append(token)
    if depth or not tokens:
        raise cursor.error(first)
    if count_parameters(tokens, cursor.limits):
        refuse("a parameter in a CHECK constraint", "write a constant", cursor)
    return parse_expression(cursor, tokens)


def parse_expression(cursor: Cursor, tokens: list[Token]) -> exp.Expression:
    """Parse tokens as one expression, as the one column of a SELECT."""
    first = tokens[0]
    select = Token(TokenType.SELECT, "select", first.line, first.col, first.start, first.start)
    tree = parse_tree(cursor.text, [select, *tokens], cursor.limits)
    parts = tree.expressions
    extra = any(value for key, value in tree.args.items() if key not in ("expressions", "kind"))
    if not isinstance(tree, exp.Select) or len(parts) != 1 or extra or isinstance(parts[0], (exp.Alias, exp.Star)):
        raise syntax_error(cursor.text, tokens[-1])
    expression = parts[0].pop()
    assert isinstance(expression, exp.Expression)
    return expression


# ---- names ----


def named(
    constraints: Sequence[Constraint], relation: str, columns: Sequence[str], taken: Container[str] = ()
) -> tuple[Constraint, ...]:
    """Give constraints of a relation with their names, each of them once. Raises DuplicateObject, UndefinedColumn.

    `taken` are names that others of the relation have already.
    """
    label = parted(relation)[1]
    found = [c.name for c in constraints if c.name]
    for name in found:
        if found.count(name) > 1 and all(isinstance(c, Check) for c in constraints if c.name == name):
            raise DuplicateObject(f'check constraint "{name}" already exists')
        if found.count(name) > 1 or name in taken:
            raise DuplicateObject(f'constraint "{name}" for relation "{label}" already exists')
    made: list[Constraint] = []
    for constraint in constraints:
        for column in () if isinstance(constraint, Check) else constraint.columns:
            if column not in columns:
                what = "referenced in foreign key constraint" if isinstance(constraint, ForeignKey) else "named in key"
                raise UndefinedColumn(f'column "{column}" {what} does not exist')
        name = constraint.name or _chosen(constraint, label, {*found, *(c.name for c in made)}, taken)
        made.append(replace(constraint, name=name))
    return tuple(made)


def _chosen(constraint: Constraint, label: str, found: set[str], taken: Container[str]) -> str:
    suffix = {Check: "check", Unique: "key", ForeignKey: "fkey"}[type(constraint)]
    if isinstance(constraint, Check):
        named_columns = {c.name for c in constraint.expression.find_all(exp.Column)}
        columns = tuple(named_columns) if len(named_columns) == 1 else ()
    else:
        columns = constraint.columns
    return free_name(label, "_".join(columns), suffix, lambda name: name in found or name in taken)


def free_name(label: str, middle: str, suffix: str, is_taken: Callable[[str], bool]) -> str:
    """Make a name as PostgreSQL does: of what is too long, the longer of both parts is cut."""
    number = 0
    while True:
        end = f"_{suffix}{number or ''}"
        first, second = label.encode(), middle.encode()
        while len(first) + len(second) + bool(second) + len(end) > NAME_BYTES_MAX:
            if len(first) > len(second):
                first = first[:-1]
            else:
                second = second[:-1]
        parts = [part.decode("utf-8", "ignore") for part in (first, second) if part]
        name = "_".join(parts) + end
        if not is_taken(name):
            return name
        number += 1


# ---- printing ----


def definition(constraint: Constraint, table: str | None = None) -> str:
    """Write what ``pg_get_constraintdef`` does; `table` is what a foreign key's is called, as it is written."""
    if isinstance(constraint, Check):
        return f"CHECK ({shown_condition(constraint.expression)})"
    columns = ", ".join(map(quote_name, constraint.columns))
    if isinstance(constraint, Unique):
        return f"UNIQUE ({columns})"
    key = f"({', '.join(map(quote_name, constraint.key))})" if constraint.key else ""
    text = f"FOREIGN KEY ({columns}) REFERENCES {table or quote_path(constraint.table)}{key}"
    if constraint.on_update is not ReferentialAction.NO_ACTION:
        text += f" ON UPDATE {constraint.on_update.words}"
    if constraint.on_delete is not ReferentialAction.NO_ACTION:
        text += f" ON DELETE {constraint.on_delete.words}"
    return text + " DEFERRABLE" * constraint.deferrable + " INITIALLY DEFERRED" * constraint.deferred


def shown_condition(expression: exp.Expr) -> str:
    """Write a condition as PostgreSQL does: in parentheses of its own, where it is more than a call or a name."""
    made = exp.Paren(this=expression.copy())
    for node in reversed(list(made.find_all(exp.Binary, exp.Between, exp.In, exp.Is, exp.Not))):
        within = node.parent
        same = isinstance(node, exp.Connector) and type(within) is type(node)
        inside = isinstance(within, exp.Paren) or isinstance(node, (exp.Dot, exp.JSONExtract)) or same
        if not inside and not (isinstance(node, exp.Is) and isinstance(within, exp.Not)):
            node.replace(exp.Paren(this=node.copy()))
    plain = isinstance(expression, (exp.Paren, exp.Column, exp.Func, exp.Boolean)) and not isinstance(
        expression, (exp.Binary, exp.Connector)
    )
    return postgres_sql(made.this if plain else made)


def render_constraint(constraint: Constraint) -> str:
    """Write a constraint of a CREATE TABLE, with its name."""
    text = definition(constraint)
    if isinstance(constraint, Check):
        text = f"CHECK ({postgres_sql(constraint.expression)})"
    return f"CONSTRAINT {quote_name(constraint.name)} {text}" if constraint.name else text


def check_name(name: str, position: int) -> str:
    """Give a constraint's name. Raises SQLSyntaxError for an empty one."""
    if not name:
        raise SQLSyntaxError("zero-length delimited identifier", position=position)
    return name
