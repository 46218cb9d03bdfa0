"""The stream of changes that a walsender sends may be cut anywhere on its way."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest

from streamsql.base.errors import Unavailable
from streamsql.connectors.postgres import shared
from streamsql.connectors.postgres.capture import Capture, Captured, Target
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import Address, address_of
from streamsql.connectors.postgres.origin import create_slot, start_command
from streamsql.connectors.postgres.pgoutput import ChangeDecoder, Place, Wanted
from streamsql.connectors.postgres.shared import SharedCapture
from streamsql.connectors.postgres.source import OPTIONS
from streamsql.connectors.settings import read_options
from streamsql.connectors.source import Given, Surroundings
from streamsql.pgwire.client import frames
from streamsql.sql.statements import ColumnDefinition
from tests.connectors.servers.postgres import OtherDatabase, other_database, postgres_cluster

__all__ = ["other_database", "postgres_cluster"]

pytestmark = pytest.mark.postgres

KEY, TEXT = ColumnDefinition("id", "INTEGER", not_null=True, primary_key=True), ColumnDefinition("note", "VARCHAR")
TABLE = "CREATE TABLE t (id int PRIMARY KEY, note text)"


class Recorded:
    """A stream of changes that was written down, and comes in pieces cut at these places."""

    def __init__(self, data: bytes, cuts: Sequence[int]) -> None:
        places = [0, *cuts, len(data)]
        self._pieces = [data[a:b] for a, b in pairwise(places)]

    def receive(self, _seconds: float, _waker: int) -> bytes:
        if not self._pieces:
            raise Unavailable("the record has ended")
        return self._pieces.pop(0)

    def send(self, data: bytes) -> None:
        pass


def test_where_the_stream_is_cut_changes_nothing(other_database: OtherDatabase):
    other_database.execute(f"{TABLE}; CREATE PUBLICATION p FOR TABLE t")
    values = read_options(Given(other_database.options, {}), OPTIONS, "postgres", Surroundings())
    address = address_of({**values, "sslmode": "disable"}, Surroundings())
    sql, stream = Connection(address), Connection(address, replication=True)
    start, _ = create_slot(stream, sql, "recorded", ours=False)
    other_database.execute("INSERT INTO t VALUES (1, 'dw'), (2, NULL); UPDATE t SET id = 3 WHERE id = 1")
    other_database.execute(
        "BEGIN; DELETE FROM t; TRUNCATE t; INSERT INTO t VALUES (4, 'last'); COMMIT; INSERT INTO t VALUES (5, '')"
    )
    stream.begin_streaming(start_command("recorded", start, "p"))
    data, (waker, other_end) = b"", os.pipe()
    while b"t\0\0\0\x015t\0\0\0\0" not in data:  # the last row; its commit comes at once behind it
        data += stream.receive(1.0, waker)
    while data.count(b"C\0\0\0\0\0") < 3:
        data += stream.receive(1.0, waker)
    stream.close()
    sql.close()
    os.close(waker)
    os.close(other_end)
    (oid,) = other_database.rows("SELECT 't'::regclass::oid::int")
    whole = replayed(data, [], start, oid[0])
    assert whole[0] == {4: "last", 5: ""}
    begins, _ = frames(data)
    chance = random.Random(3)
    for cuts in [*([int(b)] for b in begins), begins.tolist(), *([chance.randrange(len(data))] for _ in range(40)),
                 range(1, len(data))]:  # fmt: skip
        assert replayed(data, list(cuts), start, oid[0]) == whole


def take_in(found: Captured, rows: dict[int, str]) -> None:
    """Do to rows by key what was captured."""
    if found.truncated:
        rows.clear()
    for row, weight in zip(found.rows.to_pylist(), found.weights.tolist(), strict=True):
        if weight > 0:
            rows[row["id"]] = row["note"]
        else:
            del rows[row["id"]]


def replayed(data: bytes, cuts: Sequence[int], start: Place, oid: int) -> tuple[dict[int, str], str]:
    """Give the rows and the position that a capture of a recorded stream comes to."""
    target = Target(
        address=Address("", 0, "", "", None, "disable", None, 1), table="t", columns=(KEY, TEXT), slot="", publication="",
        own_publication=False, snapshot=False, record_bytes_max=1 << 20, snapshot_rows_max=1, wake=lambda: None,
    )  # fmt: skip
    capture = Capture(target, begun=True, start=start)
    decoder = ChangeDecoder(Wanted(oid, "public.t", ("id", "note"), ("id",)), start, 1 << 20)
    with pytest.raises(Unavailable, match="the record has ended"):
        capture._stream(cast(Any, Recorded(data, cuts)), decoder)
    rows: dict[int, str] = {}
    position, whole = "", True
    while capture._queue:
        found = capture._queue.popleft()
        take_in(found, rows)
        position, whole = found.position, found.whole
    assert whole
    return rows, position


def test_tables_of_one_stream_go_on_from_their_places(other_database: OtherDatabase, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared, "IDLE_BYTES", 1)  # so that a place moves wherever it can
    other_database.execute(
        "CREATE TABLE a (id int PRIMARY KEY, note text); CREATE TABLE b (id int PRIMARY KEY, note text); "
        "CREATE TABLE beside (id int PRIMARY KEY, note text); CREATE PUBLICATION p FOR TABLE a, b, beside"
    )
    values = read_options(Given(other_database.options, {}), OPTIONS, "postgres", Surroundings())
    address = address_of({**values, "sslmode": "disable"}, Surroundings())
    sql, stream = Connection(address), Connection(address, replication=True)
    start, _ = create_slot(stream, sql, "recorded", ours=False)
    for number in range(6):
        beside = f"INSERT INTO beside VALUES ({number}, 'n')"
        other_database.execute(
            f"BEGIN; INSERT INTO a VALUES ({number}, 'both'), (-{number + 1}, 'one'); INSERT INTO b VALUES ({number}, 'both'); "
            f"UPDATE a SET note = 'again' WHERE id = {number}; COMMIT; {beside}"
        )
        other_database.execute(f"INSERT INTO b VALUES ({number + 100}, 'alone'); DELETE FROM a WHERE id = {number} - 1")
    other_database.execute(
        "BEGIN; TRUNCATE a, b; INSERT INTO a VALUES (500, 'last'); INSERT INTO b VALUES (500, 'last'); COMMIT"
    )
    other_database.execute("INSERT INTO b VALUES (501, 'the end')")
    stream.begin_streaming(start_command("recorded", start, "p"))
    data, (waker, other_end) = b"", os.pipe()
    while b"the end" not in data or not data[data.index(b"the end") :].count(b"C\0\0\0\0\0"):
        data += stream.receive(1.0, waker)
    stream.close()
    sql.close()
    os.close(waker)
    os.close(other_end)
    ((a, b),) = other_database.rows("SELECT 'a'::regclass::oid::int, 'b'::regclass::oid::int")
    oids = {1: a, 2: b}
    begins, _ = frames(data)
    # one message at a time: what is there at every place that a table can be at
    known = shared_replay(data, begins.tolist(), oids, {1: (start, {}), 2: (start, {})})
    assert [known[-1][number][1] for number in oids] == [{500: "last"}, {500: "last", 501: "the end"}]
    chance = random.Random(5)
    for _ in range(60):
        cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(8)))
        starts = {number: chance.choice(known)[number] for number in oids}
        found = shared_replay(data, cuts, oids, starts)
        assert found[-1] == known[-1]
        for step in found:
            for number, (place, rows) in step.items():
                assert rows == [at[number][1] for at in known if at[number][0] <= place][-1]


State = dict[int, tuple[Place, dict[int, str]]]


def shared_replay(data: bytes, cuts: Sequence[int], oids: dict[int, int], starts: State) -> list[State]:
    """Give the place and the rows of each table at the start, and after each stretch of a recorded stream."""
    target = Target(
        address=Address("", 0, "", "", None, "disable", None, 1), table="t", columns=(KEY, TEXT), slot="", publication="",
        own_publication=False, snapshot=False, record_bytes_max=1 << 20, snapshot_rows_max=1, wake=lambda: None,
    )  # fmt: skip
    places = {number: place for number, (place, _) in starts.items()}
    capture = SharedCapture(dict.fromkeys(oids, target), places, lambda: None)
    for number, oid in oids.items():
        wanted = Wanted(oid, f"public.{chr(96 + number)}", ("id", "note"), ("id",))
        capture._decoders[number] = ChangeDecoder(wanted, places[number], 1 << 20)
    with pytest.raises(Unavailable, match="the record has ended"):
        capture._stream(cast(Any, Recorded(data, list(cuts))))
    os.close(capture._waker)
    os.close(capture._wakes)
    states = [{number: (place, dict(rows)) for number, (place, rows) in starts.items()}]
    while capture._queue:
        stretch = capture._queue.popleft()
        state = {}
        for number, place in stretch.places.items():
            rows = dict(states[-1][number][1])
            for found in stretch.parts.get(number, ()):
                take_in(found, rows)
            state[number] = (place, rows)
        states.append(state)
    return states
