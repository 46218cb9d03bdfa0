"""What ALTER TABLE makes of a table: its columns and constraints as they are to be, and where its rows come from.

Nothing is done here: `engine.altering` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from streamsql.base.errors import (
    DatatypeMismatch,
    DependentObjectsExist,
    DuplicateColumn,
    DuplicateObject,
    FeatureNotSupported,
    InvalidTableDefinition,
    NotInPrerequisiteState,
    StreamSQLError,
    UndefinedColumn,
    UndefinedObject,
)
from streamsql.base.types import shown_type
from streamsql.catalog.objects import Catalog, Table, quoted
from streamsql.engine import foreign_keys
from streamsql.plan.expressions import default_sql
from streamsql.plan.fitting import fitted_sql
from streamsql.sql import altering as a
from streamsql.sql.constraints import Check, Constraint, ForeignKey, free_name, named
from streamsql.sql.names import parted
from streamsql.sql.sequence_statements import Numbered
from streamsql.sql.statements import ColumnDefinition
from streamsql.sql.table_elements import of_type


@dataclass(slots=True)
class Plan:
    """A table as it is to be. `sources` has the SQL of each column's values over the rows as they are.

    `affected` are columns that are not as they were, for whoever reads them; `gone` are foreign keys of other tables.
    Rows get numbers in the columns that are `numbered`, and have some already in those that are made `identities`;
    `unnumbered` are those whose sequences go.
    """

    table: Table
    sources: dict[str, str]
    catalog: Catalog
    checked: list[Constraint] = field(default_factory=list)
    affected: dict[str, bool] = field(default_factory=dict)
    gone: list[tuple[Table, ForeignKey]] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    numbered: list[ColumnDefinition] = field(default_factory=list)
    identities: list[ColumnDefinition] = field(default_factory=list)
    unnumbered: set[str] = field(default_factory=set)
    moves_rows: bool = False
    notices: list[str] = field(default_factory=list)

    def column(self, name: str) -> ColumnDefinition:
        found = self.table.column(name)
        if found is None:
            raise UndefinedColumn(f'column "{name}" of relation "{self.table.bare}" does not exist')
        return found

    def put(self, name: str, column: ColumnDefinition) -> None:
        columns = tuple(column if c.name == name else c for c in self.table.columns)
        self.table = replace(self.table, columns=columns)


def planned(catalog: Catalog, table: Table, actions: Sequence[a.Action]) -> Plan:
    """Give the table as the actions make it, one after the other. Raises StreamSQLError."""
    plan = Plan(table, {c.name: quoted(c.name) for c in table.columns}, catalog)
    for action in actions:
        _ACTIONS[type(action)](plan, action)
    return plan


def _add_column(plan: Plan, action: a.AddColumn) -> None:
    table, column = plan.table, action.column
    if table.column(column.name) is not None:
        if action.if_not_exists:
            plan.notices.append(f'column "{column.name}" of relation "{table.bare}" already exists, skipping')
            return
        raise DuplicateColumn(f'column "{column.name}" of relation "{table.bare}" already exists')
    if column.name.startswith("__"):
        raise DuplicateColumn(f'column name "{column.name}" is reserved', hint="names that start with __ are ours")
    plan.table = replace(table, columns=(*table.columns, column))
    plan.moves_rows = True
    plan.affected[""] = True  # of those who read all columns
    if column.numbered is not None:
        plan.numbered.append(column)
    plan.sources[column.name] = default_sql(column)
    for constraint in action.constraints:
        _add(plan, constraint)
    if action.primary_key:
        _add_primary_key(plan, (column.name,), "")


def _drop_column(plan: Plan, action: a.DropColumn) -> None:
    table = plan.table
    if table.column(action.name) is None and action.if_exists:
        plan.notices.append(f'column "{action.name}" of relation "{table.bare}" does not exist, skipping')
        return
    column = plan.column(action.name)
    if len(table.columns) == 1:
        raise FeatureNotSupported("the last column of a table cannot be dropped", hint="drop the table")
    for key in table.keys:
        if column.name in key.columns:
            _drop_references(plan, key.columns, f"column {column.name} of table {table.bare}", action.cascade)
    left = tuple(c for c in table.constraints if column.name not in _columns_of(c))
    primary = () if column.name in table.primary_key else table.primary_key
    columns = tuple(c for c in table.columns if c.name != column.name)
    if primary != table.primary_key:
        columns = tuple(replace(c, primary_key=False) for c in columns)
    plan.table = replace(
        table, columns=columns, constraints=left, primary_key=primary, key_name=table.key_name if primary else ""
    )
    plan.sources.pop(column.name)
    plan.affected[column.name] = action.cascade
    plan.moves_rows = True


def _columns_of(constraint: Constraint) -> set[str]:
    if isinstance(constraint, Check):
        return {c.name for c in constraint.expression.find_all(exp.Column)}
    return set(constraint.columns)


def _drop_references(plan: Plan, columns: Sequence[str], what: str, cascade: bool, told: str = "") -> None:
    """Let foreign keys that speak of a key go with it, or refuse."""
    found = [
        (table, key)
        for table, key in plan.catalog.referencing(plan.table.name)
        if set(foreign_keys.key_columns(plan.catalog, table, key)) == set(columns)
    ]
    if found and not cascade:
        raise DependentObjectsExist(
            f"cannot drop {what} because other objects depend on it",
            detail="\n".join(
                f"constraint {key.name} on table {table.shown} depends on {told or what}" for table, key in found
            ),
            hint="use DROP ... CASCADE to drop the dependent objects too",
        )
    own = [key.name for table, key in found if table.name == plan.table.name]
    plan.table = replace(plan.table, constraints=tuple(c for c in plan.table.constraints if c.name not in own))
    plan.gone += [(table, key) for table, key in found if table.name != plan.table.name]


def _rename_column(plan: Plan, action: a.RenameColumn) -> None:
    table, column = plan.table, plan.table.column(action.name)
    if column is None:
        raise UndefinedColumn(f'column "{action.name}" does not exist')
    if table.column(action.new_name) is not None:
        raise DuplicateColumn(f'column "{action.new_name}" of relation "{table.bare}" already exists')
    old, new = action.name, action.new_name

    def names(found: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new if name == old else name for name in found)

    constraints: list[Constraint] = []
    for constraint in table.constraints:
        if isinstance(constraint, Check):
            expression = constraint.expression.copy()
            for named_column in expression.find_all(exp.Column):
                if named_column.name == old:
                    named_column.set("this", exp.to_identifier(new, quoted=True))
            constraints.append(replace(constraint, expression=expression))
        elif isinstance(constraint, ForeignKey):
            own = constraint.table == table.name
            key = names(constraint.key) if own else constraint.key
            constraints.append(replace(constraint, columns=names(constraint.columns), key=key))
        else:
            constraints.append(replace(constraint, columns=names(constraint.columns)))
    if any(t.name != table.name and old in k.key for t, k in plan.catalog.referencing(table.name)):
        raise FeatureNotSupported(
            f'foreign keys speak of column "{old}" by its name', hint="drop them, and add them again afterwards"
        )
    plan.put(old, replace(column, name=new))
    plan.table = replace(plan.table, constraints=tuple(constraints), primary_key=names(table.primary_key))
    plan.sources = {new if name == old else name: sql for name, sql in plan.sources.items()}
    plan.affected[old] = False
    plan.renamed[old] = new
    plan.moves_rows = True


def _set_default(plan: Plan, action: a.SetDefault) -> None:
    column = plan.column(action.name)
    if column.numbered is not None and column.numbered.is_identity:
        raise IdentityColumnError(f'column "{column.name}" of relation "{plan.table.bare}" is an identity column')
    if column.numbered is not None:
        raise FeatureNotSupported("the default of a serial column stays", hint="drop the column, and add another")
    plan.put(action.name, replace(column, default=action.default))


def _add_identity(plan: Plan, action: a.AddIdentity) -> None:
    column, of = plan.column(action.name), f'column "{action.name}" of relation "{plan.table.bare}"'
    numbered = of_type(action.numbered, column.type)
    if column.numbered is not None and column.numbered.is_identity:
        raise NotInPrerequisiteState(f"{of} is already an identity column")
    if column.default is not None or column.numbered is not None:
        raise NotInPrerequisiteState(f"{of} already has a default value")
    if not column.not_null and not column.primary_key:
        raise NotInPrerequisiteState(f"{of} must be declared NOT NULL before identity can be added")
    made = replace(column, not_null=True, numbered=numbered)
    plan.put(action.name, made)
    plan.identities.append(made)


def _set_identity(plan: Plan, action: a.SetIdentity) -> None:
    column = plan.column(action.name)
    plan.put(action.name, replace(column, numbered=replace(_identity(plan, column), numbering=action.numbering)))


def _drop_identity(plan: Plan, action: a.DropIdentity) -> None:
    column = plan.column(action.name)
    if action.if_exists and (column.numbered is None or not column.numbered.is_identity):
        plan.notices.append(
            f'column "{action.name}" of relation "{plan.table.bare}" is not an identity column, skipping'
        )
        return
    _identity(plan, column)
    plan.put(action.name, replace(column, numbered=None))
    plan.unnumbered.add(action.name)


def _identity(plan: Plan, column: ColumnDefinition) -> Numbered:
    if column.numbered is None or not column.numbered.is_identity:
        raise NotInPrerequisiteState(
            f'column "{column.name}" of relation "{plan.table.bare}" is not an identity column'
        )
    return column.numbered


class IdentityColumnError(StreamSQLError):
    """What cannot be done to a column that is numbered."""

    sqlstate = "42601"


def _set_not_null(plan: Plan, action: a.SetNotNull) -> None:
    column = plan.column(action.name)
    if not action.not_null and column.primary_key:
        raise InvalidTableDefinition(f'column "{column.name}" is in a primary key')
    if not action.not_null and column.numbered is not None and column.numbered.is_identity:
        raise IdentityColumnError(f'column "{column.name}" of relation "{plan.table.bare}" is an identity column')
    plan.put(action.name, replace(column, not_null=action.not_null))
    plan.moves_rows = True


def _set_type(plan: Plan, action: a.SetType) -> None:
    column = plan.column(action.name)
    if column.numbered is not None:
        raise FeatureNotSupported("the type of a numbered column stays", hint="drop the column, and add another")
    made = replace(column, type=action.type, declared=action.declared)
    if action.using is None and not _is_assignable(column, made):
        raise DatatypeMismatch(
            f'column "{column.name}" cannot be cast automatically to type {shown_type(made.wire.type)}',
            hint=f"ALTER COLUMN {action.name} TYPE ... USING {action.name}::{shown_type(made.wire.type)} casts it",
        )
    plan.put(action.name, made)
    source = f"CAST({plan.sources[action.name]} AS {action.type})"
    plan.sources[action.name] = fitted_sql(source, made)
    if action.type != column.type or made.made != column.made:
        plan.affected[action.name] = False
    plan.moves_rows = True


_FAMILIES = (
    {"SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"},
    {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"},
)


def _is_assignable(column: ColumnDefinition, made: ColumnDefinition) -> bool:
    """Tell whether values of a type can be written into another without a cast; anything can be text."""
    before, after = column.type, made.type
    if made.made is not None:
        return made.made == column.made
    one, two = before.partition("(")[0], after.partition("(")[0]
    return after in (before, "VARCHAR") or any(one in family and two in family for family in _FAMILIES)


def _add_constraint(plan: Plan, action: a.AddConstraint) -> None:
    if action.primary_key:
        _add_primary_key(plan, action.primary_key, action.key_name)
    elif action.constraint is not None:
        _add(plan, action.constraint)


def _add_primary_key(plan: Plan, columns: tuple[str, ...], name: str) -> None:
    table = plan.table
    if table.primary_key:
        raise InvalidTableDefinition(f'multiple primary keys for table "{table.bare}" are not allowed')
    for column in columns:
        plan.put(column, replace(plan.column(column), primary_key=True, not_null=True))
    taken = [c.name for c in table.constraints]
    name = name or free_name(table.bare, "", "pkey", lambda n: n in taken)
    plan.table = replace(plan.table, primary_key=columns, key_name=name)
    plan.moves_rows = True


def _add(plan: Plan, constraint: Constraint) -> None:
    table = plan.table
    columns = [c.name for c in table.columns]
    taken = {c.name for c in table.constraints} | {table.key_name} - {""}
    made = named([constraint], table.bare, columns, taken)[0]
    if isinstance(made, ForeignKey) and parted(made.table)[1] == table.bare and made.table != table.name:
        made = replace(made, table=table.name)
    plan.table = replace(table, constraints=(*table.constraints, made))
    plan.checked.append(made)
    plan.moves_rows |= not isinstance(made, (Check, ForeignKey))


def _drop_constraint(plan: Plan, action: a.DropConstraint) -> None:
    table = plan.table
    key = next((k for k in table.keys if k.name == action.name), None)
    if key is not None:
        what = f"constraint {key.name} on table {table.bare}"
        _drop_references(plan, key.columns, what, action.cascade, told=f"index {key.name}")
        plan.moves_rows = True
        if key.columns == table.primary_key and key.name == table.key_name:
            columns = tuple(replace(c, primary_key=False) for c in plan.table.columns)
            plan.table = replace(plan.table, columns=columns, primary_key=(), key_name="")
            return
    left = tuple(c for c in plan.table.constraints if c.name != action.name)
    if key is None and len(left) == len(plan.table.constraints):
        if not action.if_exists:
            raise UndefinedObject(f'constraint "{action.name}" of relation "{table.bare}" does not exist')
        plan.notices.append(f'constraint "{action.name}" of relation "{table.bare}" does not exist, skipping')
    plan.table = replace(plan.table, constraints=left)


def _rename_constraint(plan: Plan, action: a.RenameConstraint) -> None:
    table = plan.table
    names = [table.key_name, *(c.name for c in table.constraints)]
    if action.name not in names:
        raise UndefinedObject(f'constraint "{action.name}" for table "{table.bare}" does not exist')
    if action.new_name in names:
        raise DuplicateObject(f'constraint "{action.new_name}" for relation "{table.bare}" already exists')
    constraints = tuple(replace(c, name=action.new_name) if c.name == action.name else c for c in table.constraints)
    key_name = action.new_name if table.key_name == action.name else table.key_name
    plan.table = replace(table, constraints=constraints, key_name=key_name)


_ACTIONS: dict[type, Callable[..., None]] = {
    a.AddColumn: _add_column,
    a.AddConstraint: _add_constraint,
    a.AddIdentity: _add_identity,
    a.DropColumn: _drop_column,
    a.DropConstraint: _drop_constraint,
    a.DropIdentity: _drop_identity,
    a.RenameColumn: _rename_column,
    a.RenameConstraint: _rename_constraint,
    a.SetDefault: _set_default,
    a.SetIdentity: _set_identity,
    a.SetNotNull: _set_not_null,
    a.SetType: _set_type,
}
