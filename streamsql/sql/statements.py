"""What a client can ask for: one frozen dataclass a statement.

`sql.parse` makes them, `server.statements` executes them, `sql.render` prints them back. Positions are 0-based
character offsets into the text that the client sent (an error's `position` is that plus one). Expressions and queries
are sqlglot trees; DuckDB evaluates them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from streamsql.base.types import Declared, WireColumn, WireType, wire_column
from streamsql.sql.constraints import Constraint
from streamsql.sql.sequence_statements import Numbered


class EmitMode(enum.Enum):
    """When a continuous query shows a result; see docs/semantics.md."""

    APPEND = "APPEND"
    UPDATE = "UPDATE"
    COMPLETE = "COMPLETE"


@dataclass(frozen=True, slots=True)
class Watermark:
    """A watermark: the largest event time seen minus a delay.

    `column` is None where the text names none (``WITH WATERMARK '10 minutes'``): the query's one window names it.
    """

    delay_us: int
    column: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class AllowedLateness:
    """How long after its end has passed a window still takes rows."""

    lateness_us: int
    position: int = 0


@dataclass(frozen=True, slots=True)
class StateTtl:
    """How long a query keeps state that nothing else bounds."""

    ttl_us: int
    position: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, with the text it came from and where that text starts in the query string."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class RowLock:
    """FOR UPDATE, FOR SHARE and their kin behind a SELECT; `of` are the names in FROM that it is about, none for all."""

    strength: str
    of: tuple[str, ...] = ()
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class Query(Statement):
    """A SELECT (or VALUES, or set operation), ad hoc unless `emit` is set.

    `emit` None means ad hoc. ``WITH WATERMARK`` without EMIT gives APPEND. `every_us` is EMIT ... EVERY's interval,
    `lateness` what ALLOWED LATENESS says. `state_ttl` is how long unbounded state is kept.
    `tree` no longer holds the streaming clauses; a call ``window(...)`` in it is `exp.Anonymous` named ``window``.
    """

    tree: exp.Expr
    emit: EmitMode | None = None
    watermark: Watermark | None = None
    every_us: int | None = None
    parameter_count: int = 0
    lateness: AllowedLateness | None = None
    state_ttl: StateTtl | None = None
    locks: tuple[RowLock, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column of CREATE STREAM or CREATE TABLE. `type` is DuckDB's name of the type, `default` an expression.

    `declared` is what PostgreSQL calls the type, where DuckDB's name does not tell: ``varchar(10)``. `numbered` is how a
    sequence gives its values. `include` is what it holds of a message beside its value, as ``INCLUDE`` names it: ``key``,
    ``header:name``; else "".
    """

    name: str
    type: str
    not_null: bool = False
    primary_key: bool = False
    default: exp.Expr | None = None
    include: str = ""
    position: int = 0
    declared: Declared | None = None
    numbered: Numbered | None = None

    @property
    def wire(self) -> WireColumn:
        """How it is shown to clients."""
        shown = wire_column(self.type)
        return shown if self.declared is None else WireColumn(self.declared.type, shown.cast, self.declared.modifier)

    @property
    def made(self) -> WireType | None:
        """The type that a user has made of which the column is, or an array of such; None where it is of no such type."""
        return self.declared.type if self.declared is not None and self.declared.named else None


@dataclass(frozen=True, slots=True)
class CreateStream(Statement):
    """CREATE STREAM (or SOURCE) name (columns, WATERMARK FOR ...) INCLUDE ... WITH (options).

    With a connector there may be no columns: it knows them (`connectors.resolved`). Included columns come last. Once looked up,
    `names` has the OIDs of the types that it names, by the names there.
    """

    name: str
    columns: tuple[ColumnDefinition, ...]
    watermark: Watermark | None = None
    options: dict[str, str] = field(default_factory=dict)
    if_not_exists: bool = False
    option_positions: dict[str, int] = field(default_factory=dict)
    inferred: bool = False
    constraints: tuple[Constraint, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


class OnCommit(enum.Enum):
    """What becomes of a temporary table at the end of a transaction."""

    PRESERVE = "PRESERVE ROWS"
    DELETE = "DELETE ROWS"
    DROP = "DROP"


@dataclass(frozen=True, slots=True)
class CreateTable(Statement):
    """CREATE [TEMP] TABLE name (columns [, PRIMARY KEY (...)]) [ON COMMIT ...] [WITH (options)].

    `on_commit` None: no temporary one. With options a connector fills it; `storage` are options of PostgreSQL's own storage,
    which mean nothing here. `key_name` is the primary key's name. Once looked up, `names` has the keys of the tables that
    foreign keys name, and the OIDs of the types, by the names there.
    """

    name: str
    columns: tuple[ColumnDefinition, ...]
    primary_key: tuple[str, ...] = ()
    if_not_exists: bool = False
    on_commit: OnCommit | None = None
    options: dict[str, str] = field(default_factory=dict)
    option_positions: dict[str, int] = field(default_factory=dict)
    storage: dict[str, str] = field(default_factory=dict)
    key_name: str = ""
    constraints: tuple[Constraint, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateTableAs(Statement):
    """CREATE [TEMP] TABLE name [(columns)] [ON COMMIT ...] AS query [WITH [NO] DATA]."""

    name: str
    column_names: tuple[str, ...]
    query: Query
    with_data: bool = True
    if_not_exists: bool = False
    on_commit: OnCommit | None = None


@dataclass(frozen=True, slots=True)
class CreateMaterializedView(Statement):
    """CREATE [OR REPLACE] MATERIALIZED VIEW name AS continuous query [WITH [NO] DATA].

    Once looked up, `names` has the keys of what its text names, by the names there (`plan.naming`).
    """

    name: str
    query: Query
    if_not_exists: bool = False
    or_replace: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    with_data: bool = True


@dataclass(frozen=True, slots=True)
class CreateView(Statement):
    """CREATE [OR REPLACE] VIEW name [(column names)] AS query: a query that is run where the view is read.

    `names` as in `CreateMaterializedView`.
    """

    name: str
    query: Query
    column_names: tuple[str, ...] = ()
    if_not_exists: bool = False
    or_replace: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


class ObjectKind(enum.Enum):
    """The kinds of objects."""

    STREAM = "STREAM"
    TABLE = "TABLE"
    VIEW = "MATERIALIZED VIEW"
    PLAIN_VIEW = "VIEW"
    SINK = "SINK"


@dataclass(frozen=True, slots=True)
class Drop(Statement):
    """DROP STREAM | SOURCE | TABLE | MATERIALIZED VIEW [IF EXISTS] names [CASCADE | RESTRICT]."""

    kind: ObjectKind
    names: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Comment(Statement):
    """COMMENT ON kind name IS 'text' | NULL; `kind` None: ON COLUMN name.column."""

    kind: ObjectKind | None
    name: str
    name_position: int
    column: str | None
    comment: str | None


class ShowKind(enum.Enum):
    """What SHOW lists."""

    STREAMS = "STREAMS"
    TABLES = "TABLES"
    VIEWS = "VIEWS"
    SINKS = "SINKS"
    QUERIES = "QUERIES"


@dataclass(frozen=True, slots=True)
class Show(Statement):
    """SHOW STREAMS | TABLES | [MATERIALIZED] VIEWS | SINKS | QUERIES."""

    kind: ShowKind


@dataclass(frozen=True, slots=True)
class ShowVariable(Statement):
    """SHOW name | SHOW ALL (name ``all``) of a session variable."""

    name: str


@dataclass(frozen=True, slots=True)
class SetVariable(Statement):
    """SET [SESSION | LOCAL] name TO value | DEFAULT (None); RESET name has `value` None, RESET ALL name ``all``."""

    name: str
    value: str | None
    local: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Refresh(Statement):
    """REFRESH MATERIALIZED VIEW name: tools send it; there is nothing to do."""

    name: str
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class Verify(Statement):
    """VERIFY MATERIALIZED VIEW name."""

    name: str
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class Describe(Statement):
    """DESCRIBE name."""

    name: str
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class Explain(Statement):
    """EXPLAIN query (or CREATE MATERIALIZED VIEW ... AS query: `query` is its query); `as_json` for (FORMAT JSON).

    `analyze`: the query is run, and it is told how long its parts took.
    """

    query: Query
    as_json: bool = False
    analyze: bool = False


@dataclass(frozen=True, slots=True)
class ExplainWhy(Statement):
    """EXPLAIN WHY view."""

    name: str
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class Insert(Statement):
    """INSERT INTO name [(columns)] VALUES ... | SELECT ...

    `rows` is set for VALUES of nothing but literals: a `LiteralRows` (see `sql.values`), else None. `source` is the tree of the
    VALUES or SELECT otherwise (None for DEFAULT VALUES). `parameter_columns` is set where the one VALUES row holds nothing but
    parameters and casts of them: the 1-based parameter number of each target column in order (`source` is set too).
    `conflict` is sqlglot's tree of ON CONFLICT, `returning` the query that RETURNING is, `overriding` OVERRIDING SYSTEM VALUE.
    """

    name: str
    columns: tuple[str, ...] = ()
    source: exp.Expr | None = None
    rows: object | None = None
    parameter_columns: tuple[int, ...] | None = None
    parameter_count: int = 0
    name_position: int = 0
    conflict: exp.OnConflict | None = None
    returning: Query | None = None
    overriding: bool = False


@dataclass(frozen=True, slots=True)
class Update(Statement):
    """UPDATE of a table; `tree` is sqlglot's, without RETURNING."""

    name: str
    tree: exp.Expr
    parameter_count: int = 0
    returning: Query | None = None


@dataclass(frozen=True, slots=True)
class Delete(Statement):
    """DELETE from a table; `tree` is sqlglot's, without RETURNING."""

    name: str
    tree: exp.Expr
    parameter_count: int = 0
    returning: Query | None = None


@dataclass(frozen=True, slots=True)
class Merge(Statement):
    """MERGE INTO name USING source ON condition WHEN ...; `tree` is sqlglot's."""

    name: str
    tree: exp.Expr
    parameter_count: int = 0


# an option of COPY: text, or names of columns
OptionValue = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Truncate(Statement):
    """TRUNCATE tables: `deletes` are the statements that it stands for; `restarts` for RESTART IDENTITY."""

    deletes: tuple[Delete, ...]
    restarts: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class CopyFrom(Statement):
    """COPY name [(columns)] FROM STDIN [WITH] (options) [WHERE condition].

    Options, only where given: format text|csv|binary, delimiter, null, header true|false|match, quote, escape as text;
    force_null and force_not_null as names of columns.
    """

    name: str
    columns: tuple[str, ...] = ()
    options: dict[str, OptionValue] = field(default_factory=dict)
    name_position: int = 0
    where: exp.Expr | None = None


@dataclass(frozen=True, slots=True)
class Subscribe(Statement):
    """SUBSCRIBE [TO] name [WITH (SNAPSHOT = bool, PROGRESS = bool)]."""

    name: str
    snapshot: bool = True
    progress: bool = False
    name_position: int = 0


@dataclass(frozen=True, slots=True)
class CopyTo(Statement):
    """COPY (query | SUBSCRIBE ...) TO STDOUT [WITH] (options).

    COPY name [(columns)] TO STDOUT has the query ``SELECT * | columns FROM name``, and `name`. Options as in `CopyFrom`, with
    force_quote (names of columns, or "*").
    """

    query: Query | Subscribe
    options: dict[str, OptionValue] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Prepare(Statement):
    """PREPARE name [(types)] AS statement; the types are DuckDB's names."""

    name: str
    types: tuple[str, ...]
    statement: Query | Insert | Merge | Update | Delete


@dataclass(frozen=True, slots=True)
class ExecutePrepared(Statement):
    """EXECUTE name [(values)]."""

    name: str
    values: tuple[exp.Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Listen(Statement):
    """LISTEN channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class Notify(Statement):
    """NOTIFY channel, payload."""

    channel: str
    payload: str = ""


class TransactionVerb(enum.Enum):
    """Transaction control."""

    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"


@dataclass(frozen=True, slots=True)
class Transaction(Statement):
    """BEGIN | START TRANSACTION | COMMIT | END | ROLLBACK [TO] | ABORT | SAVEPOINT | RELEASE.

    `modes` are the words behind BEGIN, `chain` is AND CHAIN, `name` a savepoint's.
    """

    verb: TransactionVerb
    modes: str = ""
    name: str = ""
    chain: bool = False


@dataclass(frozen=True, slots=True)
class Deallocate(Statement):
    """DEALLOCATE name | ALL (None)."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Discard(Statement):
    """DISCARD ALL | PLANS | SEQUENCES | TEMP: what pools send, so that nothing is left of the session's state."""

    what: str = "all"


@dataclass(frozen=True, slots=True)
class Unlisten(Statement):
    """UNLISTEN channel | * (None)."""

    channel: str | None = None
