"""What is asked of an origin before it is read, and made there: its table, its publication, its replication slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamsql.base.errors import (
    DuplicateObject,
    FeatureNotSupported,
    InvalidTableDefinition,
    NotInPrerequisiteState,
    Unavailable,
    UndefinedColumn,
    UndefinedTable,
)
from streamsql.catalog.objects import nearest
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import literal, qualified, quoted
from streamsql.connectors.postgres.pgoutput import Place, lsn_text, read_place

VERSION_MIN = 120_000
_DROP_TRIES = 100
_LOCK_MS = 1_000
_BEGIN_ANEW = "drop this relation and create it again: it begins with the rows that the origin has then"
_BEGIN_ALL_ANEW = (
    "drop all tables that share it, and create them again: they begin with the rows that the origin has then"
)


@dataclass(frozen=True, slots=True)
class OriginTable:
    """A table of the origin."""

    oid: int
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def version_of(sql: Connection) -> int:
    """Give the server's version (150004 for 15.4). Raises FeatureNotSupported for one without logical replication."""
    version = int(sql.query("SHOW server_version_num")[0][0] or 0)
    if version < VERSION_MIN:
        raise FeatureNotSupported("PostgreSQL before version 12 is not supported")
    return version


def check_logical(sql: Connection) -> None:
    """Raise NotInPrerequisiteState where the server writes no log that changes can be read from."""
    level = sql.query("SHOW wal_level")[0][0]
    if level != "logical":
        raise NotInPrerequisiteState(
            f"PostgreSQL at {sql.address} runs with wal_level = {level}",
            hint="at the origin: ALTER SYSTEM SET wal_level = logical, and restart it",
        )


def patience_seconds(sql: Connection) -> float:
    """Tell after how long without a word the server gives up a replication connection; 0 for never."""
    return int(sql.query("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'")[0][0] or 0) / 1_000


def find_table(sql: Connection, name: str, columns: Sequence[str], key: Sequence[str]) -> OriginTable:
    """Find the table, and check that it has the columns, and no two rows with the same key."""
    schema, table = qualified(name)
    found = sql.query(
        "SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE n.nspname = {literal(schema)} AND c.relname = {literal(table)}"
    )
    if not found:
        raise UndefinedTable(
            f'the origin has no table "{schema}.{table}"', hint="give the option table = 'schema.table'"
        )
    oid, kind = int(found[0][0] or 0), found[0][1]
    if kind not in {"r", "p"}:
        raise FeatureNotSupported(f'"{schema}.{table}" is not a table: its changes cannot be read')
    attributes = sql.query(
        f"SELECT attname FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' ORDER BY attnum"
    )
    have = [name or "" for (name,) in attributes]
    for column in columns:
        if column not in have:
            raise UndefinedColumn(
                f'the table "{schema}.{table}" of the origin has no column "{column}"',
                hint=nearest(column, have) or f"columns that there are: {', '.join(have)}",
            )
    if key:
        _check_key(sql, oid, f"{schema}.{table}", key)
    return OriginTable(oid, schema, table)


def _check_key(sql: Connection, oid: int, name: str, key: Sequence[str]) -> None:
    indexes = sql.query(
        "SELECT a.attname, i.indexrelid FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        "AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1]::int[]) "
        f"WHERE i.indrelid = {oid} AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL "
        "AND i.indexprs IS NULL"
    )
    by_index: dict[str | None, set[str]] = {}
    for column, index in indexes:
        by_index.setdefault(index, set()).add(column or "")
    if not any(columns <= set(key) for columns in by_index.values()):
        raise InvalidTableDefinition(
            f'("{", ".join(key)}") is not unique in the table "{name}" of the origin',
            detail="no unique index that is checked at once is on these columns",
            hint="declare the origin's primary key as this table's",
        )


def ensure_publication(
    sql: Connection, name: str, table: OriginTable, version: int, *, inserts_only: bool, add: bool = False
) -> None:
    """Make the publication, if there is none of that name; one that there is must have the table, unless it is to be added."""
    if not sql.query(f"SELECT 1 FROM pg_publication WHERE pubname = {literal(name)}"):
        options = ["publish = 'insert'"] if inserts_only else []
        if version >= 130_000:
            options.append("publish_via_partition_root = true")
        given = f" WITH ({', '.join(options)})" if options else ""
        sql.query(f"CREATE PUBLICATION {quoted(name)} FOR TABLE {table.sql}{given}")
        return
    has = sql.query(
        f"SELECT 1 FROM pg_publication_tables WHERE pubname = {literal(name)} "
        f"AND schemaname = {literal(table.schema)} AND tablename = {literal(table.name)}"
    )
    if not has and add:
        _add_to_publication(sql, name, table)
    elif not has:
        raise NotInPrerequisiteState(
            f'the publication "{name}" of the origin does not have the table "{table}"',
            hint=f"at the origin: ALTER PUBLICATION {quoted(name)} ADD TABLE {table.sql}",
        )
    if not inserts_only:
        (published,) = sql.query(f"SELECT pubupdate AND pubdelete FROM pg_publication WHERE pubname = {literal(name)}")
        if published[0] != "t":
            raise NotInPrerequisiteState(
                f'the publication "{name}" of the origin leaves out updates or deletes',
                hint=f"at the origin: ALTER PUBLICATION {quoted(name)} SET (publish = 'insert, update, delete, truncate')",
            )


def _add_to_publication(sql: Connection, name: str, table: OriginTable) -> None:
    """Add a table to a publication.

    Nobody may be writing to it at that moment. Else one that a transaction has written to before, which goes on after, would
    stay unpublished for a walsender that begins before it, in versions without the correction of May 2025.
    """
    sql.query(
        f"BEGIN; SET LOCAL lock_timeout = '{_LOCK_MS}ms'; LOCK TABLE {table.sql} IN SHARE ROW EXCLUSIVE MODE; "
        f"ALTER PUBLICATION {quoted(name)} ADD TABLE {table.sql}; COMMIT"
    )


def leave_publication(sql: Connection, name: str, table: str) -> None:
    """Take a table out of a publication, if both are there."""
    schema, bare = qualified(table)
    has = sql.query(
        f"SELECT 1 FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = {literal(name)} "
        f"AND n.nspname = {literal(schema)} AND c.relname = {literal(bare)}"
    )
    if has:
        sql.query(f"ALTER PUBLICATION {quoted(name)} DROP TABLE {quoted(schema)}.{quoted(bare)}")


def check_slot(sql: Connection, slot: str, place: Place, *, shared: bool = False) -> None:
    """Check that a slot, which may be a `shared` one, has all changes from a place on.

    Raises Unavailable while another process uses it.
    """
    state = _slot(sql, slot)
    if state is None:
        raise slot_is_gone(slot, str(place), shared=shared)
    active, status, confirmed = state
    if active is not None:
        raise _in_use(slot, active)
    if status == "lost":
        raise NotInPrerequisiteState(
            f'the origin has removed the log that the replication slot "{slot}" needs',
            detail="it exceeded max_slot_wal_keep_size",
            hint=_BEGIN_ALL_ANEW if shared else _BEGIN_ANEW,
        )
    have = read_place(confirmed or "")
    if have is not None and have.lsn > place.lsn:
        raise NotInPrerequisiteState(
            f'the replication slot "{slot}" of the origin has gone on without us',
            detail=f"it is at {confirmed}, and what was read from it ends at {place}",
            hint=f"a slot is for one reader: {_BEGIN_ALL_ANEW}"
            if shared
            else "a slot is for one reader: give each relation its own by the option slot",
        )


def slot_is_gone(slot: str, place: str, *, shared: bool) -> NotInPrerequisiteState:
    """Make the error for a slot that was there, and has been read up to a place."""
    return NotInPrerequisiteState(
        f'the replication slot "{slot}" of the origin is gone',
        detail=f"changes after {place} cannot be read any more",
        hint=_BEGIN_ALL_ANEW if shared else _BEGIN_ANEW,
    )


def has_slot(sql: Connection, slot: str) -> bool:
    """Tell whether there is a slot of this name."""
    return _slot(sql, slot) is not None


def _slot(sql: Connection, slot: str) -> tuple[str | None, str | None, str | None] | None:
    """Give the process that uses a slot, whether the log is still there, and what is confirmed; None where there is none."""
    has_status = version_of(sql) >= 130_000
    found = sql.query(
        f"SELECT CASE WHEN active THEN active_pid::text END, {'wal_status' if has_status else 'NULL'}, "
        f"confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = {literal(slot)}"
    )
    return (found[0][0], found[0][1], found[0][2]) if found else None


def _in_use(slot: str, process: str) -> Unavailable:
    return Unavailable(f'the replication slot "{slot}" of the origin is in use by its process {process}')


def create_slot(
    replication: Connection, sql: Connection, slot: str, *, ours: bool, temporary: bool = False
) -> tuple[Place, str]:
    """Make a slot; give where its changes begin, and the name of the snapshot of what was there before.

    One that is `temporary` goes with the connection. The snapshot lasts until the next command of `replication`. A slot of
    that name that is there already is dropped, if it is `ours`. Waits for the transactions that are open at the origin.
    Raises DuplicateObject.
    """
    state = _slot(sql, slot)
    if state is not None:
        if not ours:
            raise slot_is_there(slot)
        if state[0] is not None:
            raise _in_use(slot, state[0])
        drop_slot(sql, slot)
    kind = " TEMPORARY" if temporary else ""
    (made,) = replication.query(f"CREATE_REPLICATION_SLOT {quoted(slot)}{kind} LOGICAL pgoutput EXPORT_SNAPSHOT")
    place = read_place(made[1] or "")
    assert place is not None, made
    return place, made[2] or ""


def slot_is_there(slot: str) -> DuplicateObject:
    """Make the error for a slot that is there, and is not ours."""
    return DuplicateObject(
        f'the origin has a replication slot "{slot}" already',
        hint="give another name by the option slot; if nobody uses that one, at the origin: "
        f"SELECT pg_drop_replication_slot({literal(slot)})",
    )


def drop_slot(sql: Connection, slot: str) -> None:
    """Drop a slot, if it is there. The process that has just used it may take a moment to end."""
    drop = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {literal(slot)}"
    for _ in range(_DROP_TRIES - 1):
        try:
            sql.query(drop)
            return
        except Unavailable:
            sql.query("SELECT pg_sleep(0.05)")
    sql.query(drop)


def drop_publication(sql: Connection, name: str) -> None:
    """Drop a publication, if it is there."""
    sql.query(f"DROP PUBLICATION IF EXISTS {quoted(name)}")


def start_command(slot: str, place: Place, *publications: str) -> str:
    """Write the command that begins to stream changes."""
    names = literal(",".join(quoted(name) for name in publications))
    return (
        f"START_REPLICATION SLOT {quoted(slot)} LOGICAL {lsn_text(place.lsn)} "
        f"(proto_version '1', publication_names {names})"
    )
