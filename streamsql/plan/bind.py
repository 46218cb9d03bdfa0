"""From a parsed continuous query to its plan: names and types are resolved, what cannot be kept is refused.

DuckDB itself resolves names and types (`Describe` asks it about a SELECT without running it), so an expression means in a
view what it means ad hoc. What is decided here: which source is read, what the groups are, which aggregate becomes which
parts, and what the SELECT list says over the groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import sqlglot
from sqlglot import exp

from streamsql.base.errors import (
    FeatureNotSupported,
    GroupingError,
    InvalidParameterValue,
    SQLSyntaxError,
    StreamSQLError,
    WrongObjectType,
)
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.catalog.objects import Catalog, PlainView, Stream, Table, TimeBound, View, quoted
from streamsql.plan import stages
from streamsql.plan.aggregates import is_aggregate
from streamsql.plan.bounds import Bounds, bounds_of, bounds_of_window
from streamsql.plan.catalog_functions import rewrite_without_catalog
from streamsql.plan.dialects import as_our_own
from streamsql.plan.functions import refuse_functions, refuse_session_functions
from streamsql.plan.grouping_sets import Groups, groups_of
from streamsql.plan.join_parts import declared
from streamsql.plan.nodes import ContinuousPlan, Describe, Distinct, Grouping, Output, Window, as_told
from streamsql.plan.output_names import name_outputs, output_name
from streamsql.plan.over_groups import Rewrite, Types
from streamsql.plan.parts import Part
from streamsql.plan.places import located
from streamsql.plan.postgres_operators import apply, note
from streamsql.plan.postgres_types import as_postgres_reads
from streamsql.plan.properties import check, refuse_distinct, refuse_shapes
from streamsql.plan.ranking import as_ranked
from streamsql.plan.result_types import Columns, ResultTypes, relation_columns
from streamsql.plan.set_operations import as_select
from streamsql.plan.sources import Derived, Sources, check_watermark, delay_of_origin, time_handed_on
from streamsql.plan.windows import bind_window, check_time_type, is_window
from streamsql.plan.windows.tables import WINDOW_COLUMNS
from streamsql.sql.parse import position_of
from streamsql.sql.statements import EmitMode, Query

Relation = Stream | Table | Derived

_LISTING = (exp.Group, exp.GroupingSets, exp.Rollup, exp.Cube, exp.Tuple, exp.Paren)  # what holds entries of GROUP BY
CLOSING = "__closing"  # the key by which groups are closed where there is no window


def bind(
    query: Query, catalog: Catalog, describe: Describe, limits: Limits, *, as_lists: bool = False
) -> ContinuousPlan:
    """Plan a continuous query; `as_lists` is for one whose state is there, with lists of distinct values.

    Raises StreamSQLError, with a position where the fault has one in the query's text.
    """
    if query.emit is None:
        raise SQLSyntaxError(
            "a materialized view needs an output mode",
            hint="add EMIT UPDATE, EMIT COMPLETE or, with a window and a watermark, EMIT APPEND at the end",
            position=query.position + 1,
        )
    plan = Binder(query, catalog, describe, limits, as_lists=as_lists).bind()
    check_watermark(plan, query)
    return plan


@dataclass(slots=True)
class Binder:
    query: Query
    catalog: Catalog
    describe: Describe
    limits: Limits
    parts: list[Part] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    growing: list[tuple[str, str]] = field(default_factory=list)
    distincts: list[Distinct] = field(default_factory=list)
    derived: Derived | None = None
    inner: bool = False
    as_lists: bool = False
    told: list[WireType | None] | None = None

    def bind(self) -> ContinuousPlan:
        assert self.query.emit is not None
        tree = self.query.tree.copy()
        if self.query.emit is EmitMode.APPEND:
            tree = as_select(tree) if self.inner else as_ranked(as_select(tree))
        as_our_own(tree, self.query)
        if isinstance(tree, exp.Select):
            sources = Sources(self.query, self.catalog, self.describe, self._inner, self.limits)
            try:
                self.derived = sources.derived(tree)
            except StreamSQLError as error:
                raise located(error, self.query.tree, self.query) from error
        refuse_shapes(tree, self.query)
        refuse_functions(tree, self.query)
        assert isinstance(tree, exp.Select)
        refuse_session_functions(tree, self.query, "a continuous query")
        name_outputs(tree, self.query)
        as_postgres_reads(tree, self.query)
        types = ResultTypes(self.query, self._columns_of)
        self.told = types.told(tree)
        note(tree, self.query, types, self.limits)
        apply(tree, self.query)
        try:
            plan = self._plan(tree, self.query.emit)
        except StreamSQLError as error:
            raise located(error, tree, self.query) from error
        check(plan, self.query, inner=self.inner)
        return plan

    def _inner(self, query: Query) -> ContinuousPlan:
        """Plan a subquery."""
        return Binder(query, self.catalog, self.describe, self.limits, inner=True).bind()

    def _columns_of(self, table: exp.Table) -> Columns | None:
        made = self.derived or self.catalog.get(table.name)
        return None if made is None else relation_columns(made)

    def _plan(self, tree: exp.Select, mode: EmitMode) -> ContinuousPlan:
        rewrite_without_catalog(tree, self.query, self.limits)
        table = tree.args["from_"].this
        source = self._source(table)
        alias = quoted(table.alias or table.name)
        condition = tree.args["where"].this.sql("duckdb") if tree.args.get("where") else None
        items = self._expanded(tree, source)
        groups = self._groups(tree, items, source)
        typed = Types(self.describe, source.public_name, alias)
        aggregates = any(is_aggregate(n) for item in items for n in item.walk()) or tree.args.get("having")
        limit = self._limit(tree)
        if not tree.args.get("group") and not aggregates:
            if tree.args.get("distinct"):
                refuse_distinct(tree, self.query)
            outputs = self._linear_outputs(items, source, alias, condition)
            plan = ContinuousPlan(source.name, alias, condition, None, outputs, mode, None, self.query.every_us, limit)
            known = dict(self.derived.origin.times) if self.derived is not None else {}
            time = None if self.derived is not None else time_handed_on(source, self.query)
            if time is not None:
                known = {time[0]: Bounds()}
            return self._over_origin(replace(plan, time=time), items, known)
        window = self._window(groups.window, typed)
        if window is None and mode is EmitMode.APPEND and groups.keys:
            source, window = self._closed_by_key(source, groups, typed)
        if window is not None and window.session and groups.sets:
            raise FeatureNotSupported(
                "there is no incremental form of grouping sets of sessions yet",
                hint="write one query for each grouping",
                position=position_of(tree.args["group"], self.query),
            )
        keeps_distincts = not self.as_lists and _keeps_distincts(mode, source, window, groups)
        rewrite = Rewrite(self, groups, None if window and window.instant else window, typed, keeps_distincts)
        if tree.args.get("distinct") and not (plain_distinct(tree) and rewrite.tells_groups_apart(items)):
            refuse_distinct(tree, self.query)
        finals = [(output_name(item, self.query), rewrite.over_groups(item)) for item in items]
        having = tree.args.get("having")
        having_sql = rewrite.over_groups(having.this) if having else None
        # a query without any aggregate still tells which groups there are
        grouping = Grouping(
            tuple(k.sql("duckdb") for k in groups.keys),
            tuple(self.parts or [Part("count(*)")]),
            window,
            having_sql,
            tuple(dict.fromkeys(self.calls)),
            having.this.sql("postgres") if having else None,
            tuple(dict.fromkeys(self.growing)),
            groups.sets,
            tuple(self.splits),
            distincts=tuple(self.distincts),
        )
        outputs = tuple(Output(name, sql, "") for name, sql in finals)
        draft = ContinuousPlan(
            source.name,
            alias,
            condition,
            grouping,
            outputs,
            mode,
            self._delay(source, window),
            self.query.every_us,
            limit,
            self.query.lateness.lateness_us if self.query.lateness is not None else 0,
        )
        typed_plan = self._typed(draft, source)
        if window is not None and window.instant:
            key = sqlglot.parse_one(window.time_sql, read="duckdb")
            items = [exp.column(CLOSING) if rewrite.is_same(i.unalias(), key) else i for i in items]
            return self._over_origin(typed_plan, items, {CLOSING: bounds_of_window(window)["window_start"]})
        known = bounds_of_window(window) if window is not None and mode is EmitMode.APPEND else {}
        return self._over_origin(typed_plan, items, known)

    def _over_origin(self, plan: ContinuousPlan, items: list[exp.Expr], known: dict[str, TimeBound]) -> ContinuousPlan:
        """Add where the rows come from, and the bounds of the outputs: `known` are those of the columns they are made of."""
        found = [(o.name, bounds_of(i.unalias(), known)) for o, i in zip(plan.outputs, items, strict=True)]
        plan = replace(plan, times=tuple((name, bound) for name, bound in found if bound is not None))
        if self.derived is None:
            return plan
        bound = None
        if plan.window is not None:
            time = sqlglot.parse_one(plan.window.time_sql, read="duckdb")
            bound = bounds_of(time, dict(self.derived.origin.times))
        names = ", ".join(self.derived.origin.names)
        return replace(plan, origin=self.derived.origin, bound=bound, source=names)

    def _source(self, table: exp.Table) -> Relation:
        if self.derived is not None:
            return self.derived
        position = position_of(table.this, self.query)
        if table.catalog or (table.db and table.db != "public"):
            raise WrongObjectType(f'"{table.sql()}" is not a stream or table', position=position)
        found = self.catalog.find(table.name, position)
        assert not isinstance(found, PlainView)  # its query stands in its place
        if isinstance(found, View):
            raise FeatureNotSupported(f'"{table.name}" is a view whose rows can go', position=position)
        return found

    def _expanded(self, tree: exp.Select, source: Relation) -> list[exp.Expr]:
        items: list[exp.Expr] = []
        for item in tree.expressions:
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                if item.args.get("except_") or item.args.get("replace") or item.args.get("rename"):
                    raise FeatureNotSupported("SELECT * with changes is not supported in a continuous query")
                items.extend(exp.column(c.name, quoted=True) for c in source.columns)
            else:
                items.append(item)
        return items

    def _groups(self, tree: exp.Select, items: list[exp.Expr], source: Relation) -> Groups:
        """Take GROUP BY apart: ordinals and output names are looked up; the window call is told from the keys."""
        group = tree.args.get("group")
        if group is None:
            return Groups((), None, ())
        # a name that is both is the source's column, as in Postgres
        aliases = {i.alias: i.this for i in items if isinstance(i, exp.Alias) and source.column(i.alias) is None}
        # a number inside of an expression is no place in the list
        entries = (n for n in group.walk() if not isinstance(n, exp.Literal) or isinstance(n.parent, _LISTING))
        own = any(is_window(self._key(n, items, aliases)) for n in entries)
        columns = WINDOW_COLUMNS if own or not any(source.column(n) for n in WINDOW_COLUMNS) else ()
        try:
            return groups_of(group, lambda e: self._key(e, items, aliases), is_window, columns, self.limits)
        except StreamSQLError as error:
            calls = [node for node in group.find_all(exp.Anonymous) if is_window(node)]
            if error.position is None and calls:
                error.position = position_of(calls[-1], self.query)
            raise

    def _key(self, entry: exp.Expr, items: list[exp.Expr], aliases: dict[str, exp.Expr]) -> exp.Expr:
        if isinstance(entry, exp.Literal) and entry.is_int:
            number = int(entry.this)
            if not 1 <= number <= len(items):
                raise GroupingError(f"GROUP BY position {number} is not in select list")
            return items[number - 1].unalias()
        if isinstance(entry, exp.Column) and not entry.table and entry.name in aliases:
            return aliases[entry.name]
        return entry.unnest()

    def _limit(self, tree: exp.Select) -> int | None:
        limit = tree.args.get("limit")
        if limit is None:
            return None
        value = limit.expression
        if not (isinstance(value, exp.Literal) and value.is_int):
            raise InvalidParameterValue("the LIMIT of a continuous query must be a number")
        return int(value.this)

    def _window(self, call: exp.Expr | None, typed: Types) -> Window | None:
        if call is None:
            return None
        assert is_window(call)
        position = position_of(call, self.query)
        window = bind_window(call, typed.of, self.limits, position)
        check_time_type(window, position)
        return window

    def _closed_by_key(self, source: Relation, groups: Groups, typed: Types) -> tuple[Relation, Window | None]:
        """Find the key by which groups are closed where there is no window: an event time, or the start of a window below.

        Gives the source with its watermark, and the instants of the key as windows; None where there is no such key.
        """
        found = source
        if isinstance(source, Stream):
            sources = Sources(self.query, self.catalog, self.describe, self._inner, self.limits)
            used = {c.name for key in groups.keys for c in key.find_all(exp.Column)}
            found = Derived(source.name, declared(sources.stream(source), used))
        times = dict(found.origin.times) if isinstance(found, Derived) else {}
        everywhere = [k for i, k in enumerate(groups.keys) if all(i in members for members in groups.sets)]
        timed = [k for k in everywhere if bounds_of(k.unnest(), times) is not None]
        timed.sort(key=lambda k: not (isinstance(k, exp.Column) and k.name.rpartition(".")[2] == WINDOW_COLUMNS[0]))
        if not timed or not isinstance(found, Derived):
            return source, None
        self.derived = found
        call = exp.Anonymous(this="window", expressions=[timed[0].copy(), exp.Literal.string("1 microsecond")])
        window = self._window(call, typed)
        assert window is not None
        return found, replace(window, instant=True)

    def _delay(self, source: Relation, window: Window | None) -> int | None:
        """Find the watermark's delay: the query's own, or else the stream's if its column is the window's."""
        own = self.query.watermark
        declared = source.watermark if isinstance(source, Stream) else None
        if isinstance(source, Derived) and window is not None:
            return delay_of_origin(source, window, self.query)
        if own is not None and window is None:
            raise SQLSyntaxError(
                "WITH WATERMARK needs a window",
                detail="without a window nothing is late and nothing is finished",
                hint="GROUP BY window(time, size), or leave WITH WATERMARK out",
                position=own.position + 1,
            )
        if window is None:
            return None
        if own is not None:
            if own.column is not None and own.column != window.time_column:
                raise FeatureNotSupported(
                    f'the watermark is on "{own.column}", but the window is over {window.time_sql}',
                    hint="name the window's column in the watermark",
                    position=own.position + 1,
                )
            return own.delay_us
        if declared is not None and declared.column == window.time_column:
            return declared.delay_us
        return None

    def _linear_outputs(
        self, items: list[exp.Expr], source: Relation, alias: str, condition: str | None
    ) -> tuple[Output, ...]:
        select = ", ".join(_bare(i).sql("duckdb") for i in items)
        where = f" WHERE {condition}" if condition else ""
        columns = self.describe(f"SELECT {select} FROM {source.public_name} AS {alias}{where}")
        found = (
            Output(output_name(i, self.query), _bare(i).sql("duckdb"), c.type)
            for i, c in zip(items, columns, strict=True)
        )
        return as_told(found, self.told)

    def _typed(self, plan: ContinuousPlan, source: Relation) -> ContinuousPlan:
        """Let DuckDB check the whole query, and give the outputs their types."""
        hidden = ", ".join(f"0::BIGINT AS {c}" for c in ("__seq", stages.PANE_COLUMN, stages.FROM_COLUMN))
        assert plan.grouping is not None
        relation = f"(SELECT *, {hidden} FROM {source.public_name})"
        groups = stages.whole_windows(plan, relation)
        columns = self.describe(stages.result(plan, groups, ordered=False))
        found = (replace(o, type=c.type) for o, c in zip(plan.outputs, columns, strict=True))
        return replace(plan, outputs=as_told(found, self.told))


def _keeps_distincts(mode: EmitMode, source: Relation, window: Window | None, groups: Groups) -> bool:
    """Tell whether each row counts for one group, which is changed in place: then distinct values can be kept apart from it."""
    tumbling = window is None or window.tumbling
    return mode is not EmitMode.APPEND and isinstance(source, Stream) and tumbling and not groups.sets


def plain_distinct(tree: exp.Select) -> bool:
    """Tell whether a query's DISTINCT is of whole rows: it has no ON."""
    return tree.args["distinct"].args.get("on") is None


def _bare(item: exp.Expr) -> exp.Expr:
    return item.unalias()
