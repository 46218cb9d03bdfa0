"""What a session's transaction has written and not committed, as connections of its own see it.

A table that the transaction has changed is read as its rows less those that are gone, and those of the transaction. A
statement that changes it moves the rows that it is about among the transaction's own and is then run on these: DuckDB does
to them what it would do to the table, and the other sessions' tables, and the engine, are left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import CardinalityViolation
from streamsql.catalog.objects import Stream, Table, quoted
from streamsql.engine import foreign_keys
from streamsql.engine.constraints import check_within, explaining, key_violation
from streamsql.engine.store import translated
from streamsql.engine.table_changes import TableChange, kept_columns, refuse_if_append_mode, typed_columns
from streamsql.engine.upserts import check_once, upsert_sql
from streamsql.plan.adhoc import Scope, aimed_at
from streamsql.plan.merging import KIND, ROW, Clause
from streamsql.plan.upsert import Conflict
from streamsql.server.context import Context
from streamsql.sql.constraints import ForeignKey, ReferentialAction, Unique
from streamsql.sql.render_trees import duckdb_sql

# a table of the connection that changes them: rows of the transaction's own
_OWN_TABLE = "__changed"


async def write(context: Context, relation: Stream | Table, rows: pa.Table) -> None:
    """Write the rows of an INSERT or COPY in the session's transaction.

    Inside of BEGIN ... COMMIT they are held against the table's keys at once, and once more when they are committed: another
    transaction may be first.
    """
    keyed = isinstance(relation, Table) and (relation.keys or relation.foreign_keys)
    if context.transaction.explicit and keyed and rows.num_rows:
        assert isinstance(relation, Table)
        table = relation
        plain = not (table.temporary or table.foreign_keys or table.name in context.transaction.changes)
        await context.reads.compute(lambda: (_check_added if plain else _check)(context, table, rows))
    context.transaction.write(relation.name, rows)


def _check_added(context: Context, table: Table, rows: pa.Table) -> None:
    """Hold rows against the keys of a table to which the transaction has only added. Raises UniqueViolation."""
    own = context.transaction.pending_of(table.name)
    with contextlib.closing(context.plain_cursor()) as cursor:
        cursor.register("__given", rows)
        columns = ", ".join(quoted(c.name) for c in table.columns)
        there = f"SELECT {columns} FROM {table.public_name}"
        if own is not None:
            cursor.register("__own", own)
            there += f" UNION ALL SELECT {columns} FROM __own"
        _check_keys(cursor, table, rows, f"({there})")


def _check_keys(cursor: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table, there: str) -> None:
    """Hold rows, which the connection knows as ``__given``, against a table's keys; `there` is what it has, in FROM."""
    for key in table.keys:
        names = ", ".join(map(quoted, key.columns))
        sql = f"SELECT {names} FROM __given SEMI JOIN {there} USING ({names})"
        if rows.num_rows > 1:
            known = " AND ".join(f"{quoted(c)} IS NOT NULL" for c in key.columns)
            sql = f"SELECT {names} FROM __given WHERE {known} GROUP BY {names} HAVING count(*) > 1 UNION ALL {sql}"
        found = cursor.execute(f"{sql} LIMIT 1").fetchall()
        if found:
            raise key_violation(table, key.name, key.columns, found[0])


def _check(context: Context, table: Table, rows: pa.Table) -> None:
    """Hold rows against the table's keys, and what they speak of. Raises UniqueViolation, ForeignKeyViolation."""
    with contextlib.closing(context.own_cursor()) as cursor:
        stand_ins = context.own_scope(cursor).stand_ins
        there = quoted(stand_ins[table.name]) if table.name in stand_ins else table.public_name
        cursor.register("__given", rows)
        _check_keys(cursor, table, rows, there)
        for foreign in table.foreign_keys:
            if context.transaction.defers(table, foreign):
                continue
            other = table if foreign.table == table.name else context.catalog.relation(foreign.table)
            read = quoted(stand_ins[other.name]) if other.name in stand_ins else other.public_name
            if other is table:
                names = ", ".join(quoted(c.name) for c in table.columns)
                read = f"(SELECT {names} FROM {read} UNION ALL SELECT {names} FROM __given)"
            sql = foreign_keys.orphans(context.catalog, table, foreign, "__given", read)
            found = cursor.execute(f"{sql} LIMIT 1").fetchall()
            if found:
                raise foreign_keys.missing(context.catalog, table, foreign, found[0])


def check_deferred(context: Context, keys: Sequence[tuple[Table, ForeignKey]]) -> None:
    """Hold what the session's transaction leaves against foreign keys. For a reader's thread; raises ForeignKeyViolation."""
    with contextlib.closing(context.own_cursor()) as cursor:
        stand_ins = context.own_scope(cursor).stand_ins

        def read(name: str) -> str:
            table = context.catalog.relation(name)
            return quoted(stand_ins[name]) if name in stand_ins else table.public_name

        for table, key in keys:
            sql = foreign_keys.orphans(context.catalog, table, key, read(table.name), read(key.table))
            found = cursor.execute(f"{sql} LIMIT 1").fetchall()
            if found:
                raise foreign_keys.missing(context.catalog, table, key, found[0])


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows a statement changed, and, where that was asked for, these rows as they are after it (or were deleted).

    `moved` are keys that foreign keys act on: as they were (``old name``), as they are now, and whether their rows `went`.
    """

    count: int
    rows: pa.Table | None = None
    moved: pa.Table | None = None


def change(context: Context, table: Table, resolve: Callable[[Scope], exp.Expr], *, returning: bool = False) -> Written:
    """Run an UPDATE or DELETE in the session's transaction. For a reader's thread.

    `resolve` gives the statement's tree with its names looked up. Raises StreamSQLError.
    """
    with _opened(context, table) as cursor:
        tree = resolve(context.own_scope(cursor))
        where = tree.args.get("where")
        alone = not (tree.args.get("from_") or tree.args.get("using"))
        about = f" WHERE {duckdb_sql(where.this)}" if where is not None and alone else ""
        name = quoted(tree.this.alias or table.name)
        sql = duckdb_sql(aimed_at(tree, _OWN_TABLE))
        return _change(context, table, cursor, f"SELECT * FROM __there AS {name}{about}", sql, returning=returning)


def _change(
    context: Context, table: Table, cursor: duckdb.DuckDBPyConnection, about: str, sql: str, *, returning: bool = False
) -> Written:
    """Run a statement that is about the rows of a SELECT, and what foreign keys do when it has been run."""
    acting = foreign_keys.acting(context.catalog, table)
    followed = {name for child, key in acting for name in foreign_keys.key_columns(context.catalog, child, key)}
    own_keys = set() if sql.startswith("DELETE") else {name for key in table.keys for name in key.columns}
    gone, own = _moved(context, table, cursor, about)
    done = _run(cursor, table, own, sql, returning=returning, keys=sorted(followed | own_keys))
    if own_keys and done.moved is not None and done.moved.num_rows:
        _check_moved(cursor, table, gone, done.moved)
    context.transaction.change(TableChange(table, gone, _own_rows(cursor, table)))
    if done.moved is not None and done.moved.num_rows:
        for child, key in acting:
            _follow(context, child, key, done.moved)
    return done


def _check_moved(cursor: duckdb.DuckDBPyConnection, table: Table, gone: pa.Table, moved: pa.Table) -> None:
    """Hold new keys against the rows that the transaction has not touched. Raises UniqueViolation."""
    cursor.register("__moved_rows", gone)
    cursor.register("__moved_keys", moved)
    for key in table.keys:
        names = ", ".join(map(quoted, key.columns))
        new = ", ".join(f"{quoted('new ' + column)} AS {quoted(column)}" for column in key.columns)
        rest = "SELECT * FROM __there WHERE __seq NOT IN (SELECT __seq FROM __moved_rows)"
        found = cursor.execute(
            f"SELECT {names} FROM (SELECT {new} FROM __moved_keys WHERE NOT went) SEMI JOIN ({rest}) USING ({names}) LIMIT 1"
        ).fetchall()
        if found:
            raise key_violation(table, key.name, key.columns, found[0])


def _follow(context: Context, child: Table, key: ForeignKey, moved: pa.Table) -> None:
    """Do to the rows that speak of moved keys what their foreign key says."""
    there = foreign_keys.key_columns(context.catalog, child, key)
    pairs = list(zip(key.columns, there, strict=True))
    same = " AND ".join(f"c.{quoted(own)} = k.{quoted('old ' + other)}" for own, other in pairs)
    others = " OR ".join(f"{quoted('old ' + other)} IS DISTINCT FROM {quoted('new ' + other)}" for other in there)
    speaks = f"EXISTS (SELECT 1 FROM __keys AS k WHERE {same})"
    nothing = ", ".join(f"{quoted(own)} = NULL" for own in key.columns)
    new = ", ".join(f"{quoted(own)} = k.{quoted('new ' + other)}" for own, other in pairs)
    for action, which in ((key.on_delete, "went"), (key.on_update, f"NOT went AND ({others})")):
        if action is ReferentialAction.SET_NULL:
            sql = f"UPDATE {_OWN_TABLE} AS c SET {nothing} WHERE {speaks}"
        elif action is not ReferentialAction.CASCADE:
            continue
        elif which == "went":
            sql = f"DELETE FROM {_OWN_TABLE} AS c WHERE {speaks}"
        else:
            sql = f"UPDATE {_OWN_TABLE} AS c SET {new} FROM __keys AS k WHERE {same}"
        with _opened(context, child) as cursor:
            cursor.register("__moved", moved)
            cursor.execute(f"CREATE TEMP TABLE __keys AS SELECT * FROM __moved WHERE {which}").fetchall()
            if cursor.execute("SELECT 1 FROM __keys LIMIT 1").fetchall():
                _change(context, child, cursor, f"SELECT c.* FROM __there AS c WHERE {speaks}", sql)


def hold(context: Context, table: Table, resolve: Callable[[Scope], exp.Expr]) -> None:
    """Let the commit fail where another transaction changes the rows that an UPDATE would find. For a reader's thread.

    They are part of the transaction's outcome, as they are. `resolve` as in `change`.
    """
    with _opened(context, table) as cursor:
        tree = resolve(context.own_scope(cursor))
        where = tree.args.get("where")
        about = f" WHERE {duckdb_sql(where.this)}" if where is not None else ""
        gone, own = _moved(
            context, table, cursor, f"SELECT * FROM __there AS {quoted(tree.this.alias or table.name)}{about}"
        )
        context.transaction.change(TableChange(table, gone, own))


def upsert(context: Context, table: Table, rows: pa.Table, conflict: Conflict, *, returning: bool = False) -> Written:
    """Run an INSERT with an ON CONFLICT clause in the session's transaction, as `change` does."""
    if not rows.num_rows:
        return Written(0, rows)
    with _opened(context, table) as cursor:
        cursor.register("__given", rows)
        about = f"SELECT * FROM __there AS t WHERE {' OR '.join(_is_given(key) for key in table.keys)}"
        gone, own = _moved(context, table, cursor, about)
        check_once(conflict, lambda sql: cursor.execute(sql).fetchall())
        done = _run(cursor, table, own, upsert_sql(table, conflict, _OWN_TABLE, {"__seq": "NULL"}), returning=returning)
        context.transaction.change(TableChange(table, gone, _own_rows(cursor, table)))
        return done


@dataclass(frozen=True, slots=True)
class Merging:
    """What a MERGE is to do: its `actions` (`plan.merging`), and the rows that `_moved` gives, the `first` committed ones."""

    clauses: list[Clause]
    actions: pa.Table
    gone: pa.Table
    own: pa.Table
    first: int


def planned(context: Context, table: Table, actions: Callable[[Scope], tuple[str, list[Clause]]]) -> Merging:
    """Find what a MERGE is to do in the session's transaction. For a reader's thread.

    `actions` gives the SQL of it. Raises CardinalityViolation where it would change a row twice.
    """
    with _opened(context, table) as cursor:
        scope = context.own_scope(cursor)
        _, before = _moved(context, table, cursor, "SELECT * FROM __there WHERE FALSE")
        cursor.register("__before_own", before)
        names = ", ".join(quoted(c.name) for c in table.columns)
        cursor.execute(
            f"CREATE TEMP VIEW __target AS SELECT {names}, __seq AS {ROW} FROM __there "
            f"UNION ALL SELECT {typed_columns(table)}, -row_number() OVER () AS {ROW} FROM __before_own"
        ).fetchall()
        sql, clauses = actions(replace(scope, stand_ins={**scope.stand_ins, table.name: "__target"}))
        with translated():
            cursor.execute(f"CREATE TEMP TABLE __actions AS {sql}").fetchall()
            kept = kept_columns(table).removesuffix("__seq")
            found = cursor.sql(f"SELECT {kept}{ROW}, {KIND} FROM __actions").to_arrow_table()
        twice = f"SELECT 1 FROM __actions WHERE {ROW} IS NOT NULL GROUP BY {ROW} HAVING count(*) > 1 LIMIT 1"
        if cursor.execute(twice).fetchall():
            raise CardinalityViolation(
                "MERGE command cannot affect row a second time",
                hint="Ensure that not more than one source row matches any one target row.",
            )
        about = f"SELECT * FROM __there WHERE __seq IN (SELECT {ROW} FROM __actions)"
        gone, own = _moved(context, table, cursor, about)
        return Merging(clauses, found, gone, own, own.num_rows - before.num_rows)


def merge(context: Context, table: Table, plan: Merging) -> Written:
    """Do what was `planned`, and what foreign keys do then. For a reader's thread."""
    if not plan.actions.num_rows:
        return Written(0)
    acting = foreign_keys.acting(context.catalog, table)
    followed = {name for child, key in acting for name in foreign_keys.key_columns(context.catalog, child, key)}
    keys = sorted(followed | {name for key in table.keys for name in key.columns})
    went = ", ".join(str(c.number) for c in plan.clauses if c.verb == "DELETE") or "0"
    names = [quoted(c.name) for c in table.columns]
    with _opened(context, table) as cursor:
        cursor.register("__actions", plan.actions)
        cursor.register("__committed", plan.own.slice(0, plan.first))
        cursor.execute(
            f"CREATE TEMP TABLE __todo AS SELECT {typed_columns(table)}, coalesce(m.place, {plan.first} - {ROW}) AS __at, "
            f"{KIND} IN ({went}) AS __went FROM __actions LEFT JOIN "
            f"(SELECT __seq, row_number() OVER () AS place FROM __committed) AS m ON m.__seq = {ROW}"
        ).fetchall()
        sql = (
            f"MERGE INTO {_OWN_TABLE} AS t USING __todo AS a ON t.__place = a.__at WHEN MATCHED AND a.__went THEN DELETE "
            f"WHEN MATCHED THEN UPDATE SET {', '.join(f'{name} = a.{name}' for name in names)} "
            f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f'a.{name}' for name in names)})"
        )
        done = _run(cursor, table, plan.own, sql, returning=False, keys=keys)
        if keys:
            new = ", ".join(f"{quoted(key)} AS {quoted('new ' + key)}" for key in keys)
            written = cursor.execute(f"SELECT {new}, FALSE AS went FROM __todo WHERE NOT __went").to_arrow_table()
            _check_moved(cursor, table, plan.gone, written)
        context.transaction.change(TableChange(table, plan.gone, _own_rows(cursor, table)))
        if done.moved is not None and done.moved.num_rows:
            for child, key in acting:
                _follow(context, child, key, done.moved)
        return done


def _is_given(key: Unique) -> str:
    same = " AND ".join(f"t.{quoted(c)} = g.{quoted(c)}" for c in key.columns)
    return f"EXISTS (SELECT 1 FROM __given AS g WHERE {same})"


@contextlib.contextmanager
def _opened(context: Context, table: Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection on which ``__there`` is what is left of the table's committed rows."""
    there = context.transaction.temporary.get(table.name)
    if there is None:
        refuse_if_append_mode(list(context.engine.queries.values()), table)
    with contextlib.closing(context.own_cursor()) as cursor:
        made = context.transaction.changes.get(table.name)
        left = ""
        if made is not None:
            cursor.register("__gone", made.gone)
            left = " WHERE __seq NOT IN (SELECT __seq FROM __gone)"
        kept = f"SELECT * EXCLUDE (__arrived_at) FROM {table.rows_table}" if there is None else there.there()
        cursor.execute(f"CREATE TEMP VIEW __there AS SELECT * FROM ({kept}){left}").fetchall()
        yield cursor


def _moved(context: Context, table: Table, cursor: duckdb.DuckDBPyConnection, about: str) -> tuple[pa.Table, pa.Table]:
    """Give the rows gone, and the transaction's own, with the committed rows that a statement is about moved among them."""
    transaction = context.transaction
    with translated():
        moved = cursor.sql(f"SELECT {kept_columns(table)} FROM ({about})").to_arrow_table()
        gone, own = [moved], [moved]
        made = transaction.changes.get(table.name)
        if made is not None:
            gone.append(made.gone)
            own.append(made.own)
        written = transaction.pending().get(table.name)
        if written is not None:
            cursor.register("__new", written)
            kept = kept_columns(table).removesuffix("__seq") + "CAST(NULL AS BIGINT) AS __seq"
            own.append(cursor.sql(f"SELECT {kept} FROM __new").to_arrow_table())
    return pa.concat_tables(gone), pa.concat_tables(own)


def _run(
    cursor: duckdb.DuckDBPyConnection,
    table: Table,
    own: pa.Table,
    sql: str,
    *,
    returning: bool,
    keys: Sequence[str] = (),
) -> Written:
    """Run a statement on the transaction's own rows; see what becomes of their `keys`."""
    columns = [f"{quoted(c.name)} {c.type}{' NOT NULL' if c.not_null or c.primary_key else ''}" for c in table.columns]
    columns += ["__seq BIGINT", "__place BIGINT"]
    columns += [f"UNIQUE ({', '.join(map(quoted, key.columns))})" for key in table.keys]
    with explaining(table):
        cursor.execute(f"CREATE TEMP TABLE {_OWN_TABLE} ({', '.join(columns)})").fetchall()
        cursor.register("__own", own)
        place = "row_number() OVER ()"
        cursor.execute(f"INSERT INTO {_OWN_TABLE} SELECT {typed_columns(table)}, __seq, {place} FROM __own").fetchall()
        if keys:
            before = ", ".join(f"{quoted(key)} AS {quoted('old ' + key)}" for key in keys)
            cursor.execute(f"CREATE TEMP TABLE __before AS SELECT __place, {before} FROM {_OWN_TABLE}").fetchall()
        if returning:
            changed: pa.Table = cursor.execute(f"{sql} RETURNING {kept_columns(table)}").to_arrow_table()
            done = Written(changed.num_rows, changed.drop_columns(["__seq"]))
        else:
            done = Written(int(cursor.execute(sql).fetchall()[0][0]))
        check_within(lambda text: cursor.execute(text).fetchall(), table, _OWN_TABLE)
        return replace(done, moved=_moved_keys(cursor, keys)) if keys else done


def _moved_keys(cursor: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> pa.Table:
    shown = ", ".join(f"b.{quoted('old ' + key)}, a.{quoted(key)} AS {quoted('new ' + key)}" for key in keys)
    other = " OR ".join(f"b.{quoted('old ' + key)} IS DISTINCT FROM a.{quoted(key)}" for key in keys)
    return cursor.execute(
        f"SELECT {shown}, a.__place IS NULL AS went FROM __before AS b LEFT JOIN {_OWN_TABLE} AS a USING (__place) "
        f"WHERE a.__place IS NULL OR {other}"
    ).to_arrow_table()


def _own_rows(cursor: duckdb.DuckDBPyConnection, table: Table) -> pa.Table:
    with translated():
        return cursor.sql(f"SELECT {kept_columns(table)} FROM {_OWN_TABLE}").to_arrow_table()
