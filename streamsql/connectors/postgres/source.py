"""Change capture: a table of another PostgreSQL, kept up to date here; or a stream of the rows that are inserted there.

    CREATE TABLE orders (id BIGINT PRIMARY KEY, amount NUMERIC(10,2), note TEXT)
        WITH (connector = 'postgres', host = 'db', database = 'shop', user = 'streamsql', table = 'public.orders');

The origin gets a publication and a replication slot, both named after the relation. First comes a snapshot, the rows that were
there at the moment at which the slot begins, then each change after that moment. A relation without a primary key (a stream)
takes the rows and the inserts alone.

What was read up to where is a position, the one of partition "0":

    snapshot          the slot is about to be made, or rows are being read: after a crash it begins anew, on an empty table
    0/16B3748         all transactions that committed before this place in the log
    0/16B3748:1200    the same, and the first 1200 changes of the transaction whose commit is there

The slot lets go of the log only up to what is committed here. It is the same place to which we go back, so nothing is
lost; and what the walsender sends a second time the decoder leaves out, so nothing comes twice. Transactions come whole, unless
they have more rows than may be read at a time. A stream's snapshot is one batch, since rows of a stream cannot be taken back.

All talking is done by a thread (`capture.Capture`), which keeps the connection alive while the source is paused.

Tables that name the same slot are read over it together. Each has its snapshot over a temporary slot, by a capture of its
own; from its first place in the log on one capture reads for all of them (`shared`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from streamsql.base.errors import InvalidParameterValue, StreamSQLError
from streamsql.connectors.postgres.capture import LOOK_AGAIN_US, PARTITION, Capture, Captured, SharedSlot, Target
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import CONNECTION_OPTIONS, address_of, qualified, table_name
from streamsql.connectors.postgres.origin import drop_publication, drop_slot, leave_publication
from streamsql.connectors.postgres.pgoutput import read_place
from streamsql.connectors.postgres.shared import SharedPostgresSource, joined
from streamsql.connectors.settings import Option, one_of, read_options
from streamsql.connectors.source import Batch, Companion, Given, Member, Source, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition

NAME = "postgres"
_NAME_BYTES_MAX = 63


def _name(value: str) -> str:
    if not 1 <= len(value.encode()) <= _NAME_BYTES_MAX:
        raise InvalidParameterValue(f"a name has 1 to {_NAME_BYTES_MAX} bytes")
    return value


def _slot_name(value: str) -> str:
    if not all(c.islower() or c.isdigit() or c == "_" for c in _name(value)) or not value.isascii():
        raise InvalidParameterValue("the name of a slot has lower-case letters, digits and underscores alone")
    return value


OPTIONS = {
    **CONNECTION_OPTIONS,
    "table": Option(
        table_name, None, ("table.name",),
        says="the table of the origin, `schema.table`; without a schema `public`, and if it is not given, one of the same name",
    ),
    "slot": Option(
        _slot_name, None, ("slot.name",),
        says="the replication slot, which is made. Tables that name the same one (with the same `host`, `port`, `database` and "
        "`user`) are read over it together: a transaction that changes several of them is seen at once. Without it, and for a "
        "stream, the relation has one for itself; if it is not given, named after the relation",
    ),
    "publication": Option(
        _name, None, ("publication.name",),
        says="the publication; made for this table if there is none of the name; it must have the table if there is. If it is "
        "not given, one named as the slot, which tables that share the slot are added to and taken out of as they come and go",
    ),
    "snapshot": Option(
        one_of("initial", "never"), "initial",
        says="`initial`: the rows that are there come first; `never`: only what changes from now on",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PostgresConnector:
    """The connector ``postgres``: see above."""

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        read_options(given, OPTIONS, NAME)
        if not declared:
            raise InvalidParameterValue(
                f'the connector "{NAME}" needs the columns to be declared',
                hint="write those of the origin's table that are wanted, by its names, and its primary key",
                position=given.places.get("connector"),
            )
        return tuple(declared)

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,  # the protocol's
        surroundings: Surroundings,
    ) -> Source:
        target = _target(given, columns, surroundings)
        at = positions.get(PARTITION)
        place = read_place(str(at)) if at is not None else None
        if target.shared is not None and place is not None:
            return _Begun()
        return PostgresSource(Capture(target, begun=at is not None, start=place), keyed=bool(target.key))

    def forget(self, given: Given, columns: Sequence[ColumnDefinition], surroundings: Surroundings) -> None:
        """Let go of what the origin keeps for a relation that is dropped: the slot, and a publication that was made for it."""
        if not surroundings.begun:
            return  # a slot of its name is another's
        target = _target(given, columns, surroundings)
        with contextlib.nullcontext() if target.shared is None else target.shared.held(time.sleep):
            self._forget(target, surroundings.companions() if target.shared is not None else ())

    def _forget(self, target: Target, companions: Sequence[Companion]) -> None:
        """Let go of what no other relation needs: one that has not begun will make what it needs."""
        others = [read_options(c.given, OPTIONS, NAME) | {"name": c.name} for c in companions if c.positions]
        same = [other for other in others if other["publication"] is None and target.own_publication]
        sql = Connection(target.address)
        try:
            if not others:
                drop_slot(sql, target.slot)
            if target.own_publication and not same:
                drop_publication(sql, target.publication)
            elif target.own_publication and not any(_table(o, o["name"]) == qualified(target.table) for o in same):
                leave_publication(sql, target.publication, target.table)
        except StreamSQLError as error:
            error.hint = f"at the origin: SELECT pg_drop_replication_slot('{target.slot}'), or its log piles up"
            raise
        finally:
            sql.close()

    def shared_origin(self, given: Given) -> tuple[object, ...] | None:
        """Tables that name the same slot of the same database, as the same user, are read together."""
        values = read_options(given, OPTIONS, NAME)
        if not given.table or values["slot"] is None:
            return None
        return tuple(values[name] for name in ("host", "port", "database", "user", "slot"))

    def has_begun(self, positions: Positions) -> bool:
        """Tell whether the snapshot is behind it."""
        return read_place(str(positions.get(PARTITION))) is not None

    def open_shared(self, members: Mapping[int, Member], wake: Callable[[], None]) -> SharedPostgresSource:
        targets, starts = {}, {}
        for number, member in members.items():
            targets[number] = _target(member.given, member.columns, member.surroundings)
            place = read_place(str(member.positions.get(PARTITION)))
            assert place is not None, member
            starts[number] = place
        return SharedPostgresSource(targets, starts, wake)


def _table(values: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Name the origin's table: its schema, and its name there."""
    return qualified(values["table"]) if values["table"] else ("public", name)


def _target(given: Given, columns: Sequence[ColumnDefinition], surroundings: Surroundings) -> Target:
    values = read_options(given, OPTIONS, NAME, surroundings)
    plain = "".join(c if c.isascii() and (c.islower() or c.isdigit()) else "_" for c in surroundings.name.lower())
    end = f"_{surroundings.identity.replace('-', '_')}"
    connector, shared = PostgresConnector(), None
    if (origin := connector.shared_origin(given)) is not None:
        shared = SharedSlot(origin, f"snapshot{end}"[-_NAME_BYTES_MAX:], surroundings.companions)
    slot = values["slot"] or f"streamsql_{plain}"[: _NAME_BYTES_MAX - len(end)] + end
    return Target(
        address=address_of(values, surroundings),
        table=values["table"] or f'"{surroundings.name.replace(chr(34), chr(34) * 2)}"',
        columns=tuple(columns),
        slot=slot,
        publication=values["publication"] or slot,
        own_publication=values["publication"] is None,
        snapshot=values["snapshot"] == "initial",
        record_bytes_max=surroundings.record_bytes_max,
        snapshot_rows_max=surroundings.snapshot_rows_max,
        wake=surroundings.wake,
        shared=shared,
    )


class _Begun:
    """The source of a table that has begun, and is read together with others."""

    def read(self, rows_max: int, now_us: int) -> Batch | None:  # the protocol's
        return None

    def due_us(self, now_us: int) -> int | None:  # the protocol's
        return None

    def committed(self, positions: Positions) -> None:
        pass

    def close(self) -> None:
        pass


class PostgresSource:
    """A capture, cut into batches of whole transactions as far as these are small enough."""

    def __init__(self, capture: Capture, *, keyed: bool) -> None:
        self._capture = capture
        self._keyed = keyed
        self._held: list[Captured] = []
        self._held_rows = 0
        capture.start()

    def read(self, rows_max: int, now_us: int) -> Batch | None:  # the protocol's
        while self._held_rows < rows_max:
            found = self._capture.take()
            if found is None:
                break
            if found.truncated:  # what came before it in the same batch need not come at all
                rejected = [held.rejected for held in self._held]
                found = replace(found, rejected=pa.concat_tables([*rejected, found.rejected]))
                self._held, self._held_rows = [], 0
            self._held.append(found)
            self._held_rows += found.rows.num_rows
        if not self._held:
            return None
        rows = np.cumsum([held.rows.num_rows for held in self._held])
        whole = [i for i, held in enumerate(self._held) if held.whole and rows[i] <= rows_max]
        if whole:
            return self._joined([self._held.pop(0) for _ in range(whole[-1] + 1)])
        if self._held_rows >= rows_max:
            return self._cut(rows_max)
        return None  # the rest of the transaction is on its way

    def _cut(self, rows_max: int) -> Batch:
        """Give as many rows as may be, in the middle of a transaction."""
        taken: list[Captured] = []
        left = rows_max
        while self._held[0].rows.num_rows <= left:
            taken.append(self._held.pop(0))
            left -= taken[-1].rows.num_rows
            if not left:
                return self._joined(taken)
        first, rest = self._held[0].cut(left)
        if first is not None:
            taken.append(first)
        if rest is None:
            self._held.pop(0)
        else:
            self._held[0] = rest
        return self._joined(taken)

    def _joined(self, taken: list[Captured]) -> Batch:
        self._held_rows -= sum(t.rows.num_rows for t in taken)
        return joined(taken, taken[-1].position, keyed=self._keyed)

    def due_us(self, now_us: int) -> int | None:
        return None if self._capture.has_ended else now_us + LOOK_AGAIN_US

    def committed(self, positions: Positions) -> None:
        if PARTITION in positions:
            self._capture.committed(str(positions[PARTITION]))

    def close(self) -> None:
        self._capture.close()
