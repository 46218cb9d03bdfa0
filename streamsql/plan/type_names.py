"""The types of columns and casts that users have made: names are looked up as those of relations are (`plan.naming`).

::

    CREATE TABLE t (m mood)      a column of DuckDB's type VARCHAR, which is declared a mood
    SELECT 'happy'::mood         a cast whose type's node knows the mood

What was found is noted by the name in the text, with ``::`` before it, and the type's OID: a definition that is read back means
the same type, whatever is called so then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlglot import exp

from streamsql.base.errors import UndefinedObject
from streamsql.base.types import Declared, WireType
from streamsql.catalog.user_types import UserType
from streamsql.sql.altering import AddColumn, AddConstraint, SetDefault
from streamsql.sql.constraints import Check, Constraint
from streamsql.sql.names import NOTE, joined, parted
from streamsql.sql.statements import ColumnDefinition

MADE = "made_type"  # in the meta of a type's node: the user's type that it names

# by schema (None: on the search path) and name
Find = Callable[[str | None, str], UserType | None]

_BUILT_IN_SCHEMAS = ("pg_catalog", "information_schema")


def column_found(column: ColumnDefinition, find: Find) -> ColumnDefinition:
    """Give a column whose type, and those in its default, are looked up. Raises UndefinedObject."""
    told = column.declared
    if column.default is not None:
        column = replace(column, default=expression_found(column.default, find))
    if told is None or not told.named or told.type.scalar.oid:
        return column
    made = _found(told, find)
    array = told.type.element is not None
    return replace(column, type=made.stored + ("[]" if array else ""), declared=declared_as(made, array=array))


def expression_found(tree: exp.Expr, find: Find) -> exp.Expr:
    """Give an expression outside of a query whose casts to types of users are looked up; the same one where it has none."""
    if all(type_named(node, find) is None for node in tree.find_all(exp.DataType)):
        return tree
    made = tree.copy()
    for node in made.find_all(exp.DataType):
        found = type_named(node, find)
        if found is not None:
            node.meta[MADE] = found.wire
    return made


def constraint_found(constraint: Constraint | None, find: Find) -> Constraint | None:
    """Do the same for the condition of a CHECK."""
    if not isinstance(constraint, Check):
        return constraint
    return replace(constraint, expression=expression_found(constraint.expression, find))


def declared_found(told: Declared | None, duckdb_type: str, find: Find) -> tuple[Declared | None, str]:
    """Do the same for a declared type and DuckDB's name of it."""
    column = column_found(ColumnDefinition("", duckdb_type, declared=told), find)
    return column.declared, column.type


def declared_as(made: UserType, *, array: bool) -> Declared:
    """Give what a column of a user's type declares."""
    return Declared(made.wire.array if array else made.wire, named=made.name)


def _found(told: Declared, find: Find) -> UserType:
    made = find(*parted(told.named))
    if made is None:
        raise UndefinedObject(f'type "{told.named}" does not exist', position=told.position)
    return made


def notes_of(columns: Sequence[ColumnDefinition], constraints: Iterable[Constraint] = ()) -> dict[str, str]:
    """Give what the canonical text of columns and constraints names."""
    found = {
        NOTE + c.declared.named: str(c.declared.type.scalar.oid) for c in columns if c.declared and c.declared.named
    }
    trees = [c.default for c in columns if c.default is not None]
    for tree in [*trees, *(c.expression for c in constraints if isinstance(c, Check))]:
        for node in tree.find_all(exp.DataType):
            made, name = node.meta.get(MADE), name_of(node)
            if isinstance(made, WireType) and name is not None:
                found[NOTE + joined(*name)] = str(made.oid)
    return found


def changed_columns(statement: object, find: Find) -> dict[str, object]:
    """Look the types up that a statement's columns are declared of: in `columns`, `column` and the actions of ALTER TABLE."""
    changed: dict[str, object] = {}
    columns = getattr(statement, "columns", None)
    if isinstance(columns, tuple) and any(isinstance(c, ColumnDefinition) for c in columns):
        changed["columns"] = tuple(column_found(c, find) for c in columns)
    column = getattr(statement, "column", None)
    if isinstance(column, ColumnDefinition):
        changed["column"] = column_found(column, find)
    actions = getattr(statement, "actions", None)
    if isinstance(actions, tuple):
        changed["actions"] = tuple(_action(action, find) for action in actions)
    return changed


def _action(action: object, find: Find) -> object:
    column, told = getattr(action, "column", None), getattr(action, "declared", None)
    if isinstance(action, AddColumn):
        constraints = tuple(found for c in action.constraints if (found := constraint_found(c, find)) is not None)
        return replace(action, column=column_found(action.column, find), constraints=constraints)
    if isinstance(action, AddConstraint):
        return replace(action, constraint=constraint_found(action.constraint, find))
    if isinstance(action, SetDefault) and action.default is not None:
        return replace(action, default=expression_found(action.default, find))
    if isinstance(column, ColumnDefinition):
        return dataclasses.replace(action, column=column_found(column, find))  # type: ignore[type-var]  # one of a statement's
    if isinstance(told, Declared):
        declared, stored = declared_found(told, getattr(action, "type", ""), find)
        return dataclasses.replace(action, declared=declared, type=stored)  # type: ignore[type-var]  # as above
    return action


def type_named(node: exp.Expr, find: Find) -> UserType | None:
    """Give the user's type that a type's node names; None for a built-in one, and for one that is not there."""
    name = name_of(node)
    return None if name is None or name[0] in _BUILT_IN_SCHEMAS else find(*name)


def name_of(node: exp.Expr) -> tuple[str | None, str] | None:
    """Give schema and name of a type that is not built in, as a node names it."""
    if not isinstance(node, exp.DataType) or node.expressions:
        return None
    if node.this is exp.DType.USERDEFINED:
        kind = node.args.get("kind")
        if isinstance(kind, exp.Dot):
            return kind.this.name, kind.expression.name
        return None, kind.name if isinstance(kind, exp.Expr) else str(kind)
    return (None, node.this.value.lower()) if node.this in _GEOMETRIC else None


# types of PostgreSQL's that the stock parser knows and the server has not: their names are free
_GEOMETRIC = frozenset({exp.DType.POINT, exp.DType.POLYGON, exp.DType.LINESTRING})


def made_type(node: exp.Expr | None) -> WireType | None:
    """Give the user's type that a type's node was found to name, or an array of it."""
    if isinstance(node, exp.DataType) and node.this is exp.DType.ARRAY and len(node.expressions) == 1:
        element = made_type(node.expressions[0])
        return None if element is None else element.array
    found = node.meta.get(MADE) if node is not None else None
    return found if isinstance(found, WireType) else None
