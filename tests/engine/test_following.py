"""What a client is shown that follows a view, and what two readers see of one moment."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamsql.base.errors import SubscriptionTooSlow
from streamsql.base.limits import Limits
from streamsql.engine import definitions
from tests.driver import Database


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as made:
        made.execute(
            "CREATE STREAM s (k TEXT, x INT) WITH (retention = 'forever');"
            "CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS s FROM s GROUP BY k EMIT UPDATE;"
        )
        yield made


def test_a_subscription_shows_a_snapshot_then_changes_with_their_epoch_and_weight(database: Database):
    database.push("s", ["k", "x"], [("a", "1"), ("b", "2")])
    following = database.follow("SUBSCRIBE v")
    assert following.columns == ["epoch", "weight", "k", "s"]
    assert following.take() == [("1", "1", "a", "1"), ("1", "1", "b", "2")]
    database.push("s", ["k", "x"], [("a", "10"), ("c", "3")])
    database.push("s", ["k", "x"], [("b", "0")])
    database.push("s", ["k", "x"], [("c", "4")])
    database.settle()
    assert following.take() == [
        ("2", "-1", "a", "1"),
        ("2", "1", "a", "11"),
        ("2", "1", "c", "3"),
        ("4", "-1", "c", "3"),
        ("4", "1", "c", "7"),
    ]


def test_progress_tells_how_far_a_subscription_is_complete_even_where_nothing_changed(database: Database):
    database.push("s", ["k", "x"], [("a", "1")])
    following = database.follow("SUBSCRIBE v WITH (SNAPSHOT = false, PROGRESS = true)")
    assert following.columns == ["epoch", "weight", "progressed", "k", "s"]
    assert following.take() == [("1", None, "t", None, None)]
    database.push("s", ["k", "x"], [("a", "0")])
    database.settle()
    assert following.take() == [("2", None, "t", None, None)]
    database.push("s", ["k", "x"], [("a", "1")])
    database.settle()
    assert following.take() == [
        ("3", "-1", "f", "a", "1"),
        ("3", "1", "f", "a", "2"),
        ("3", None, "t", None, None),
    ]


def test_changes_that_are_held_back_are_shown_as_one(database: Database):
    database.execute("CREATE MATERIALIZED VIEW e AS SELECT k, sum(x) AS s FROM s GROUP BY k EMIT UPDATE EVERY '10 s'")
    following = database.follow("SUBSCRIBE e")
    database.push("s", ["k", "x"], [("a", "1")])
    database.settle()
    assert [row[1:] for row in following.take()] == [("1", "a", "1")]
    for change in ("10", "100", "-100"):
        database.push("s", ["k", "x"], [("a", change), ("b", change)])
        database.settle()
    database.push("s", ["k", "x"], [("c", "5")])
    database.settle()
    assert following.take() == []
    database.advance(9_999_999)
    assert following.take() == []
    database.advance(1)
    assert [row[1:] for row in following.take()] == [
        ("-1", "a", "1"),
        ("1", "a", "11"),
        ("1", "b", "10"),
        ("1", "c", "5"),
    ]


def test_a_subscriber_that_falls_behind_what_is_kept_is_told_and_others_are_not_held_up():
    few = dataclasses.replace(Limits(), subscription_rows_max=4)
    with Database(limits=few) as database:
        database.execute("CREATE STREAM s (x INT); CREATE MATERIALIZED VIEW v AS SELECT x FROM s EMIT APPEND")
        slow, quick = (
            database.on_engine(lambda: definitions.subscribe(database.engine, "v", None, lambda: None))
            for _ in range(2)
        )
        taken = 0
        for number in range(4):
            database.push("s", ["x"], [(str(number),)] * 2)
            changes, _ = quick.subscription.take()
            taken += sum(change.rows.num_rows for change in changes)
        assert taken == 8
        with pytest.raises(SubscriptionTooSlow, match='fell behind the changes of "v"'):
            slow.subscription.take()
        for following in (slow, quick):
            following.subscription.close()
            following.snapshot.close()


def test_every_reader_of_any_number_of_views_sees_one_epoch(database: Database):
    database.execute(
        "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM s EMIT UPDATE;"
        "CREATE MATERIALIZED VIEW all_rows AS SELECT x FROM s EMIT APPEND;"
    )
    seen: list[tuple[int, ...]] = []
    done = threading.Event()

    def read() -> None:
        cursor = database.store.cursor()
        while not done.is_set():
            seen.append(
                cursor.execute(
                    "SELECT (SELECT sum(s) FROM v), (SELECT n FROM n), "
                    "(SELECT count(*) FROM all_rows), (SELECT count(*) FROM s)"
                ).fetchall()[0]
            )
        cursor.close()

    reader = threading.Thread(target=read)
    reader.start()
    database.push_arrow("s", pa.table({"k": ["a", "b"] * 100, "x": pa.array([1] * 200, pa.int32())}), [2] * 100)
    done.set()
    reader.join()
    assert len(set(seen)) > 5, "the reader saw too few epochs to tell"
    assert all((s or 0, n, rows) == (kept, kept, kept) for s, n, rows, kept in seen)
    assert {kept % 2 for *_, kept in seen} == {0}


def test_a_query_that_was_stopped_leaves_nothing_behind(database: Database):
    before = database.values("SELECT count(*) FROM duckdb_tables() WHERE temporary OR schema_name <> 'main'")
    following = database.follow("SELECT k, sum(x) FROM s GROUP BY k EMIT COMPLETE")
    assert len(database.engine.queries) == 2
    database.push("s", ["k", "x"], [("a", "1")])
    database.stop(following)
    assert list(database.engine.queries) == ["v"]
    assert database.values("SELECT count(*) FROM duckdb_tables() WHERE temporary OR schema_name <> 'main'") == before
