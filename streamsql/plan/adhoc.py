"""Ad-hoc queries: a client's SELECT as the SQL that DuckDB runs over the current epoch.

What is done to the tree: the functions that it calls are looked at, each relation is looked up in the catalog and written
with its schema (so that nothing but the user's own can be reached), columns get Postgres' names, ``window()`` in GROUP BY
becomes plain expressions, and questions about the session (``version()``, ``current_user``) get their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import sqlglot
from sqlglot import exp

from streamsql.base.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    ProgramLimitExceeded,
    SQLSyntaxError,
    StreamSQLError,
    UndefinedColumn,
    UndefinedTable,
)
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import (
    PUBLIC_SCHEMA,
    ROWS_SCHEMA,
    SYSTEM_SCHEMA,
    Catalog,
    PlainView,
    Table,
    View,
    nearest,
)
from streamsql.catalog.objects import Sequence as Sequence_
from streamsql.catalog.pg_catalog import FUNCTIONS
from streamsql.catalog.pg_catalog.names import oid_of
from streamsql.catalog.pg_catalog.pg_sequence import sequence_relation
from streamsql.catalog.relation import PG_CATALOG, CatalogRelation, Snapshot
from streamsql.catalog.rights import require_read, require_read_sequence
from streamsql.catalog.standard import STANDARD
from streamsql.plan import catalog_functions, enums, grouped_by_key, postgres_operators, stages, type_check
from streamsql.plan.assignment import mismatch
from streamsql.plan.ctes import is_cte, visible_ctes
from streamsql.plan.dialects import as_our_own
from streamsql.plan.fitting import fitted_tree
from streamsql.plan.functions import Asker, function_name, refuse_functions, session_value
from streamsql.plan.macros import write_out
from streamsql.plan.modifiers import modifiers
from streamsql.plan.naming import SEQUENCE
from streamsql.plan.nodes import Describe
from streamsql.plan.output_names import name_outputs
from streamsql.plan.outside import refuse_outside
from streamsql.plan.permission import TARGET, hide_rows, require_change
from streamsql.plan.places import located
from streamsql.plan.plain_views import READ_AS
from streamsql.plan.postgres_types import as_postgres_reads, name_fields, read_exponents
from streamsql.plan.properties import refuse_versions
from streamsql.plan.result_types import Columns, ResultTypes, column_type, relation_columns
from streamsql.plan.table_functions import as_subqueries
from streamsql.plan.windows import bind_window, check_time_type, is_window
from streamsql.plan.windows.adhoc_sessions import END, START, join_sessions
from streamsql.plan.windows.rows import rows_of_windows, window_start
from streamsql.plan.windows.session_rows import rows_of_sessions, sessions_in
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of
from streamsql.sql.render_trees import duckdb_sql
from streamsql.sql.statements import ColumnDefinition, Statement

# relations that hold verifiers, which only superusers may read, and what they are
_SECRET = {"pg_authid": "table", "pg_shadow": "view"}
_FUNCTIONS = {function.name: function for function in FUNCTIONS}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where the names of a query are looked up.

    `system` are the relations of schema ``streamsql``. `stand_ins` gives, for a relation, the name that is read in its
    place: what the session's own transaction has written and not committed yet. `provide` makes a relation of the standard
    schemas (None: the names of all that has an OID) readable for the connection that describes and runs the query.
    """

    catalog: Catalog
    describe: Describe
    limits: Limits
    asker: Asker
    system: frozenset[str]
    snapshot: Snapshot
    provide: Callable[[CatalogRelation | None], None]
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> catalog_functions.Names:
        """Where functions and casts look names up."""
        superuser = self.catalog.access.is_superuser(self.asker.role)
        oid = partial(oid_of, self.snapshot)
        return catalog_functions.Names(oid, self.provide, self.limits, superuser, self.asker.path)


@dataclass(frozen=True, slots=True)
class AdhocQuery:
    """An ad-hoc query: the SQL that DuckDB runs, and the types of its columns where PostgreSQL's are others (None: not so).

    `types` and `modifiers` (-1: none) are None where nothing is known of them.
    """

    sql: str
    types: list[WireType | None] | None
    modifiers: list[int] | None = None


def adhoc_sql(tree: exp.Expr, statement: Statement, scope: Scope) -> str:
    """Give the DuckDB SQL of an ad-hoc query; `tree` is left as it is. Raises StreamSQLError with a position."""
    return adhoc_query(tree, statement, scope).sql


def adhoc_query(tree: exp.Expr, statement: Statement, scope: Scope) -> AdhocQuery:
    """Give an ad-hoc query as DuckDB runs it; `tree` is left as it is. Raises StreamSQLError with a position."""
    try:
        return _adhoc_query(tree, statement, scope)
    except RecursionError as error:
        raise ProgramLimitExceeded(
            "the nesting of a statement is too deep", hint="write the expression with less nesting"
        ) from error


def _adhoc_query(tree: exp.Expr, statement: Statement, scope: Scope) -> AdhocQuery:
    tree = catalog_functions.unqualified_functions(tree.copy())
    refuse_versions(tree, statement)
    as_our_own(tree, statement)
    as_subqueries(tree, statement)
    name_outputs(tree, statement)
    grouped_by_key.complete(tree, lambda table: scope.catalog.get(table.name) if not table.db else None)
    as_postgres_reads(tree, statement)
    read_exponents(tree)
    name_fields(tree)
    catalog_functions.values_in_from(tree, statement)
    types = _checked_types(tree, statement, scope)
    told = types.told(tree)
    modified = modifiers(tree, partial(_modifiers_of, scope=scope))
    postgres_operators.note(tree, statement, types, scope.limits)
    catalog_functions.rewrite(tree, statement, scope.names, types)
    postgres_operators.apply(tree, statement)
    tree = _answered(tree, statement, scope)
    _resolve_names(tree, statement, scope)
    for select in list(_innermost_first(tree)):
        _rewrite_window_rows(select, statement, scope)
    _read_functions(tree, statement, scope)
    refuse_functions(tree, statement)
    tree = write_out(tree)
    for select in list(_innermost_first(tree)):
        _rewrite_window(select, statement, scope)
    stray = next((n for n in tree.walk() if is_window(n)), None)
    if stray is not None:
        raise SQLSyntaxError(
            f"{str(stray.this).lower()}() stands in GROUP BY only",
            hint="select window_start and window_end",
            position=position_of(stray, statement),
        )
    return AdhocQuery(duckdb_sql(tree), told, modified)


def _checked_types(tree: exp.Expr, statement: Statement, scope: Scope) -> ResultTypes:
    """Find the mistakes in a tree's types, and let it go by the order of enums; give what knows its types."""
    columns = partial(_columns_of, scope=scope)
    types = ResultTypes(statement, columns)
    type_check.check(tree, statement, types, scope.limits)
    if not scope.catalog.types:
        return types
    enums.rewrite(tree, statement, columns)
    return ResultTypes(statement, columns)


def known_types(statement: Statement, scope: Scope) -> ResultTypes:
    """Give what knows the types of a statement's columns."""
    return ResultTypes(statement, partial(_columns_of, scope=scope))


def explained(error: StreamSQLError, tree: exp.Expr, statement: Statement, scope: Scope) -> StreamSQLError:
    """Give an error about a query its place in the client's text, and the types of arguments."""
    types = ResultTypes(statement, partial(_columns_of, scope=scope))
    return located(type_check.with_argument_types(error, tree, statement, types, scope.limits), tree, statement)


def change_sql(tree: exp.Expr, statement: Statement, table: Table, scope: Scope) -> str:
    """Give the DuckDB SQL of an UPDATE or DELETE, aimed at the table's rows. Raises as `adhoc_sql` does."""
    return duckdb_sql(aimed_at(change_tree(tree, statement, table, scope), table.name, ROWS_SCHEMA))


def aimed_at(tree: exp.Expr, name: str, schema: str | None = None) -> exp.Expr:
    """Aim an UPDATE or DELETE at the relation of this name."""
    tree.this.set("this", exp.to_identifier(name, quoted=True))
    tree.this.set("db", exp.to_identifier(schema) if schema else None)
    return tree


def change_tree(tree: exp.Expr, statement: Statement, table: Table, scope: Scope) -> exp.Expr:
    """Give an UPDATE or DELETE with its names looked up, to be aimed at rows. Raises as `adhoc_sql` does."""
    tree = catalog_functions.unqualified_functions(tree.copy())
    refuse_functions(tree, statement)
    _check_assigned(tree, statement, table)
    as_postgres_reads(tree, statement)
    read_exponents(tree)
    name_fields(tree)
    types = _checked_types(tree, statement, scope)
    _check_types(tree, statement, table, types)
    postgres_operators.note(tree, statement, types, scope.limits)
    catalog_functions.rewrite_without_catalog(tree, statement, scope.limits)
    postgres_operators.apply(tree, statement)
    hidden = next((c for c in tree.find_all(exp.Column) if c.name.startswith("__")), None)
    if hidden is not None:
        raise UndefinedColumn(f'column "{hidden.name}" does not exist', position=position_of(hidden, statement))
    target = tree.this
    assert isinstance(target, exp.Table), tree
    target.meta[TARGET] = True
    require_change(tree, target, table, scope.catalog, scope.asker.role)
    _resolve_names(tree, statement, replace(scope, provide=_refuse_standard))
    _fit_assigned(tree, table)
    return write_out(_answered(tree, statement, scope))


def _answered(tree: exp.Expr, statement: Statement, scope: Scope) -> exp.Expr:
    """Put the answers in for questions about the session."""
    for node in list(tree.walk()):
        value = session_value(node, scope.asker, statement)
        if value is None:
            continue
        made: exp.Expr = sqlglot.parse_one(value, read="duckdb")
        if isinstance(node, exp.Column) and isinstance(node.parent, exp.Select) and node.arg_key == "expressions":
            made = exp.alias_(made, node.name)
        if node is tree:
            return made
        node.replace(made)
    return tree


def _check_assigned(tree: exp.Expr, statement: Statement, table: Table) -> None:
    for assignment in tree.expressions if isinstance(tree, exp.Update) else []:
        column = assignment.this
        if isinstance(column, exp.Column) and table.column(column.name) is None:
            raise UndefinedColumn(
                f'column "{column.name}" of relation "{table.bare}" does not exist',
                hint=nearest(column.name, [c.name for c in table.columns]),
                position=position_of(column, statement),
            )


def _fit_assigned(tree: exp.Expr, table: Table) -> None:
    for assignment in tree.expressions if isinstance(tree, exp.Update) else []:
        column = table.column(assignment.this.name) if isinstance(assignment.this, exp.Column) else None
        if column is not None:
            assignment.set("expression", fitted_tree(assignment.expression, column))


def _check_types(tree: exp.Expr, statement: Statement, table: Table, types: ResultTypes) -> None:
    for assignment in tree.expressions if isinstance(tree, exp.Update) else []:
        column = table.column(assignment.this.name) if isinstance(assignment.this, exp.Column) else None
        if column is None:
            continue
        error = mismatch(column, types.type_of(assignment.expression), assignment.expression, statement)
        if error is not None:
            raise error


def check_inserted(source: exp.Expr, statement: Statement, columns: Sequence[ColumnDefinition], scope: Scope) -> None:
    """Raise DatatypeMismatch where a query gives a column of an INSERT what is of another type."""
    types = ResultTypes(statement, partial(_columns_of, scope=scope))
    given = types.outputs(source)
    items = source.expressions if isinstance(source, exp.Select) else []
    for index, (column, (_, wire_type)) in enumerate(zip(columns, given or (), strict=False)):
        error = mismatch(column, wire_type, items[index] if index < len(items) else exp.null(), statement)
        if error is not None:
            raise error


def _resolve_names(tree: exp.Expr, statement: Statement, scope: Scope) -> None:
    """Look every relation up, and write it with its schema."""
    for table in list(tree.find_all(exp.Table)):
        provided = table.meta.get(catalog_functions.PROVIDED)
        if provided or not isinstance(table.this, exp.Identifier) or (not table.db and is_cte(table)):
            continue
        position = position_of(table.this, statement)
        schema, name = table.db, table.name
        sequence = _sequence_read(table, scope)
        if sequence is not None:
            require_read_sequence(scope.catalog, scope.asker.role, sequence)
            _read_standard(table, sequence_relation(sequence), scope)
            continue
        if table.catalog:
            raise FeatureNotSupported(
                f"cross-database references are not implemented: {table.catalog}.{schema}.{name}", position=position
            )
        if schema == SYSTEM_SCHEMA and name in scope.system:
            hide_rows(table, name, scope.catalog, scope.asker.role)
            continue
        relation = STANDARD.get((schema or PG_CATALOG, name))
        if relation is not None:
            _read_standard(table, relation, scope)
            continue
        found = scope.catalog.get(name)
        if schema or found is None:
            known = scope.system if schema == SYSTEM_SCHEMA else scope.catalog.objects
            shown = f"{schema}.{name}" if schema else name
            raise UndefinedTable(f'relation "{shown}" does not exist', hint=nearest(name, known), position=position)
        refuse_outside(found, position)
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
        if table.meta.get(TARGET) is None:
            role = table.meta.get(READ_AS, scope.asker.role)
            require_read(scope.catalog, role, scope.catalog.objects[name])
        if name in scope.stand_ins:
            table.set("this", exp.to_identifier(scope.stand_ins[name], quoted=True))
        else:
            table.set("db", exp.to_identifier(PUBLIC_SCHEMA))


def _read_standard(table: exp.Table, relation: CatalogRelation, scope: Scope) -> None:
    if relation.name in _SECRET and not scope.catalog.access.is_superuser(scope.asker.role):
        raise InsufficientPrivilege(f"permission denied for {_SECRET[relation.name]} {relation.name}")
    scope.provide(relation)
    if not table.alias:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(relation.name, quoted=True)))
    table.set("this", exp.to_identifier(relation.read_as, quoted=True))
    table.set("db", None)
    select = table.find_ancestor(exp.Select)
    for column in list(select.find_all(exp.Column)) if select is not None else []:
        if column.name == "tableoid" and column.table in ("", table.alias):
            oid: exp.Expr = exp.Literal.number(relation.oid)
            if column.parent is select and column.arg_key == "expressions":
                oid = exp.alias_(oid, "tableoid")
            column.replace(oid)


def _sequence_read(table: exp.Table, scope: Scope) -> Sequence_ | None:
    """Give the sequence whose one row is read: ``SELECT last_value FROM s``."""
    return scope.catalog.sequences.get(table.name) if SEQUENCE in table.meta else None


def _refuse_standard(_: CatalogRelation | None) -> None:
    raise FeatureNotSupported(
        "UPDATE and DELETE cannot read the system's relations", hint="SELECT from them first, and write the values"
    )


def _read_functions(tree: exp.Expr, statement: Statement, scope: Scope) -> None:
    """Turn functions in FROM that give a fixed set of rows into the relations that they are."""
    for table in list(tree.find_all(exp.Table)):
        called = table.this
        relation = _FUNCTIONS.get(function_name(called, statement) or "") if isinstance(called, exp.Func) else None
        if relation is not None:
            _read_standard(table, relation, scope)


def _columns_of(table: exp.Table, scope: Scope) -> Columns | None:
    """Give the columns of a relation, with their types as clients see them."""
    relation = STANDARD.get((table.db or PG_CATALOG, table.name))
    sequence = _sequence_read(table, scope)
    if sequence is not None:
        relation = sequence_relation(sequence)
    if relation is not None:
        return [(c.name, c.type) for c in relation.columns]
    made = scope.catalog.get(table.name) if not table.db else None
    if made is None:
        return None
    if isinstance(made, (PlainView, View)):
        return relation_columns(made)
    return [(c.name, c.wire.type if c.declared is not None else column_type(c.type)) for c in made.columns]


def _modifiers_of(table: exp.Table, scope: Scope) -> dict[str, int] | None:
    """Give the type modifiers of a relation's columns."""
    made = scope.catalog.get(table.name) if not table.db and not is_cte(table) else None
    if made is None or isinstance(made, (PlainView, View)):
        return None
    return {c.name: c.wire.modifier if c.declared is not None else -1 for c in made.columns}


def _innermost_first(node: exp.Expr) -> Iterator[exp.Select]:
    """Give the SELECTs of a tree, each after those that it reads from."""
    around = node.args.get("with_")
    for child in ([around] if around is not None else []) + [c for c in node.iter_expressions() if c is not around]:
        yield from _innermost_first(child)
    if isinstance(node, exp.Select):
        yield node


def _rewrite_window_rows(select: exp.Select, statement: Statement, scope: Scope) -> None:
    """Turn ``window(time, size [, slide])`` in FROM into a lateral subquery that gives the windows of each row."""
    joins = select.args.get("joins") or []
    sessions = sessions_in(select, statement)
    if sessions is not None:
        columns = _columns_of_item(select, scope)
        rows_of_sessions(sessions, columns, _typing(select, [], sessions.join, scope), scope.limits)
    for place, join in enumerate(joins):
        item = join.this
        call = item.this if isinstance(item, (exp.Table, exp.Lateral)) else None
        if call is None or not is_window(call):
            continue
        type_of = _typing(select, joins[:place], call, scope)
        window = bind_window(call, type_of, scope.limits, position_of(call, statement))
        check_time_type(window, position_of(call, statement))
        rows = sqlglot.parse_one(rows_of_windows(window, position_of(call, statement))[0], read="duckdb")
        alias = item.args.get("alias") or exp.TableAlias(this=exp.to_identifier(call.name.lower(), quoted=True))
        join.set("this", exp.Lateral(this=exp.Subquery(this=rows), alias=alias.copy()))
        if not join.kind and not join.side:
            join.set("kind", None if join.args.get("on") is not None else "CROSS")


def _columns_of_item(select: exp.Select, scope: Scope) -> list[str]:
    """Name the columns of the first item of FROM."""
    probe = exp.Select(expressions=[exp.Star()], from_=exp.From(this=select.args["from_"].this.copy()))
    around = [cte.copy() for cte in visible_ctes(select, recursive=False)]
    if around:
        probe.set("with_", exp.With(expressions=around))
    return [c.name for c in scope.describe(duckdb_sql(probe))]


def _typing(select: exp.Select, joins: list[exp.Join], call: exp.Expr, scope: Scope) -> Callable[[exp.Expr], str]:
    """Give what tells the type of an expression over a query's FROM and these joins."""

    def type_of(node: exp.Expr) -> str:
        probe = exp.select(node.copy())
        if select.args.get("from_"):
            probe = probe.from_(select.args["from_"].this.copy())
        for join in joins:
            probe.append("joins", join.copy())
        around = [cte.copy() for cte in visible_ctes(call, recursive=False)]
        if around:
            probe.set("with_", exp.With(expressions=around))
        return scope.describe(duckdb_sql(probe))[0].type

    return type_of


def _rewrite_window(select: exp.Select, statement: Statement, scope: Scope) -> None:
    """Turn ``GROUP BY window(time, size [, slide])`` into expressions, and a hopping one into a lateral join as well."""
    group = select.args.get("group")
    calls = [e for e in group.find_all(exp.Anonymous) if is_window(e)] if group is not None else []
    if not calls:
        return
    call, *others = calls
    for other in others:  # of several grouping sets
        if other != call:
            raise FeatureNotSupported("a query has one window", position=position_of(other, statement))

    type_of = _typing(select, select.args.get("joins") or [], call, scope)
    window = bind_window(call, type_of, scope.limits, position_of(call, statement))
    check_time_type(window, position_of(call, statement))
    if window.session:
        join_sessions(select, call, window, stages.time_us(window), type_of, statement)
        start, end = START, END
    else:
        start, end = window_start(select, window), None
        # the bounds are functions of the start, so that both may stand in the SELECT list
        for found in calls:
            found.replace(sqlglot.parse_one(start, read="duckdb"))
    bounds = dict(zip(WINDOW_COLUMNS, stages.window_bounds(window, start, end), strict=True))
    for column in list(select.find_all(exp.Column)):
        if column.table or column.name not in bounds or column.find_ancestor(exp.Select) is not select:
            continue
        made: exp.Expr = sqlglot.parse_one(bounds[column.name], read="duckdb")
        if column.parent is select and column.arg_key == "expressions":
            made = exp.alias_(made, column.name)
        if column.parent is group:
            column.pop()
        else:
            column.replace(made)
