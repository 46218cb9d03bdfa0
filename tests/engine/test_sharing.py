"""Views that group the same rows share one state, and each holds what it would hold by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from streamsql.base.limits import Limits
from streamsql.engine.operators import base
from streamsql.plan.sharing import groups_of, rows_of, takes_sets
from tests.driver import Database
from tests.engine.copies import Copy
from tests.engine.oracle import answer, differences
from tests.engine.stories import story
from tests.engine.streams import Event, Select, cut_lists, event_lists, examples, selects


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """Where epochs of more than two rows are large ones."""
    with pytest.MonkeyPatch.context() as patch, Database() as made:
        patch.setattr(base, "SETS_ROWS_MAX", 2)
        yield made


@st.composite
def _over_the_same_rows(draw: st.DrawFn) -> list[Select]:
    """Queries without a window that differ in their keys, aggregates and HAVING, with one key at the least."""
    first, *others = draw(st.lists(selects(modes=("UPDATE",)), min_size=2, max_size=5))
    found = []
    for query in (first, *others):
        keys, sets = (query.keys, query.sets) if query.keys else (("k",), None)
        found.append(replace(query, size=None, slide=None, delay=None, keys=keys, sets=sets, where=first.where))
    return found


@st.composite
def _alike(draw: st.DrawFn) -> list[Select]:
    """Queries that differ in their aggregates and HAVING alone."""
    first = draw(selects(modes=("UPDATE",)).filter(lambda select: select.size is None or select.size == select.slide))
    others = draw(st.lists(selects(modes=("UPDATE",)), min_size=1, max_size=4))
    # HAVING may speak of the keys, so it is taken only with those that it was drawn for
    return [
        first,
        *(replace(first, aggregates=o.aggregates, having=o.having if o.keys == first.keys else None) for o in others),
    ]


def _units(database: Database, views: list[str]) -> int:
    return len({id(database.engine.queries[view].unit) for view in views})


def _shared(database: Database, views: list[str]) -> bool:
    """Tell whether all share that can: those that keep groups of their own side by side, or that have the same groups."""
    plans = [database.engine.queries[view].plan for view in views]
    alone = [plan for plan in plans if rows_of(plan) is None]
    able = [plan for plan in plans if rows_of(plan) is not None]
    return _units(database, views) == len(alone) + len(
        {(rows_of(plan), None if takes_sets(plan) else groups_of(plan)) for plan in able}
    )


def _keys(query: Select, rows: list[tuple[Any, ...]]) -> Counter[str]:
    """Tell how often there are which keys: their values look alike, wherever they come from."""
    return Counter(str(row[: len(query.outputs)]) for row in rows)


@examples(8)
@given(st.data(), event_lists(most=16), st.one_of(_alike(), _over_the_same_rows(), _over_the_same_rows()))
def test_views_that_share_a_state_hold_what_they_would_hold_alone(
    database: Database, data: st.DataObject, events: list[Event], queries: list[Select]
):
    cuts = data.draw(cut_lists(len(events)), "cuts")
    early = data.draw(st.integers(1, len(queries)), "views made before the rows")
    note(story(events, cuts, queries))
    with Copy(database, queries[:early]) as copy:
        followed = [copy.follow(view) for view in copy.views]
        before = [_keys(query, copy.rows(view)) for view, query in zip(copy.views, queries, strict=False)]
        copy.push(events, cuts)
        for query in queries[early:]:
            copy.add(query)
        assert _shared(database, copy.views)
        for view, query in zip(copy.views, queries, strict=True):
            wanted = answer(query, events)
            assert copy.late(view) == (len(wanted.late), len(wanted.late))
            assert not differences(query, copy.rows(view), wanted.rows)
        for view, query, follower, held in zip(copy.views, queries, followed, before, strict=False):
            for change in follower.subscription.take()[0]:
                weights = [1] * change.rows.num_rows if change.weights is None else change.weights.to_pylist()
                rows = [tuple(row.values()) for row in change.rows.to_pylist()]
                for weight in (1, -1):
                    part = _keys(query, [row for row, w in zip(rows, weights, strict=True) if w == weight])
                    held.update({key: weight * count for key, count in part.items()})
            assert +held == _keys(query, copy.rows(view))
            follower.subscription.close()
            follower.snapshot.close()


@examples(4)
@given(st.data(), event_lists(most=12), st.one_of(_alike(), _over_the_same_rows()))
def test_restarts_crashes_and_views_that_go_make_no_difference_to_those_that_share(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, events: list[Event], queries: list[Select]
):
    half = len(events) // 2
    note(story(events, [half, len(events) - half], queries))
    with Database(tmp_path_factory.mktemp("shared") / "data") as database, Copy(database, queries) as copy:
        copy.push(events[:half], [half])
        gone = data.draw(st.integers(0, len(queries) - 1), "the view that is dropped")
        database.execute(f"DROP MATERIALIZED VIEW {copy.views.pop(gone)}")
        left = [query for number, query in enumerate(queries) if number != gone]
        (database.crash if data.draw(st.booleans(), "crash") else database.restart)()
        assert _shared(database, copy.views)
        copy.push(events[half:], [1] * (len(events) - half))
        for view, query in zip(copy.views, left, strict=True):
            assert not differences(query, copy.rows(view), answer(query, events).rows)


def test_a_view_shares_with_one_that_has_taken_in_the_same_rows_and_with_no_other():
    with Database() as database:
        database.execute(
            "CREATE STREAM s (k TEXT, x INT) WITH (retention = '1 day');"
            "CREATE MATERIALIZED VIEW one AS SELECT k, sum(x) AS s FROM s GROUP BY k;"
            "CREATE MATERIALIZED VIEW other AS SELECT k, max(x) AS m FROM s GROUP BY k;"
            "CREATE MATERIALIZED VIEW narrow AS SELECT k, max(x) AS m FROM s WHERE x > 1 GROUP BY k;"
            "INSERT INTO s VALUES ('a', 1), ('a', 2), ('b', 3)"
        )
        assert _units(database, ["one", "other"]) == 1
        assert _units(database, ["one", "narrow"]) == 2
        database.advance(3 * 86_400_000_000)  # the rows are gone from the stream
        database.execute("CREATE MATERIALIZED VIEW late AS SELECT k, min(x) AS m FROM s GROUP BY k")
        assert _units(database, ["one", "late"]) == 2
        database.execute("INSERT INTO s VALUES ('a', 5)")
        assert database.query("SELECT * FROM one ORDER BY k") == [("a", "8"), ("b", "3")]
        assert database.query("SELECT * FROM late ORDER BY k") == [("a", "5")]


def test_a_row_that_one_of_them_fails_on_parts_that_one_alone():
    with Database() as database:
        database.execute(
            "CREATE STREAM s (k TEXT, x TEXT);"
            "CREATE MATERIALIZED VIEW one AS SELECT k, max(x) AS m FROM s GROUP BY k;"
            "CREATE MATERIALIZED VIEW two AS SELECT k, count(*) AS n FROM s GROUP BY k;"
            "CREATE MATERIALIZED VIEW three AS SELECT k, sum(CAST(x AS INT)) AS t FROM s GROUP BY k"
        )
        assert _units(database, ["one", "two", "three"]) == 1
        database.execute("INSERT INTO s VALUES ('a', '1'), ('a', 'no number')")
        assert _units(database, ["one", "two"]) == 1
        assert _units(database, ["one", "three"]) == 2
        assert database.query("SELECT * FROM two") == [("a", "2")]
        assert database.query("SELECT * FROM three") == [("a", "1")]


def test_a_group_that_has_lost_most_of_its_views_is_made_anew():
    with Database() as database:
        database.execute("CREATE STREAM s (k TEXT, x INT)")
        for number in range(5):
            database.execute(
                f"CREATE MATERIALIZED VIEW v{number} AS SELECT k, sum(x + {number}) AS s FROM s GROUP BY k"
            )
        database.execute("INSERT INTO s VALUES ('a', 1)")
        for number in range(3):
            database.execute(f"DROP MATERIALIZED VIEW v{number}")
        group = database.engine.queries["v3"].unit
        assert group.plan.grouping is not None
        assert len(group.plan.grouping.parts) == 2
        database.execute("INSERT INTO s VALUES ('a', 1)")
        assert database.query("SELECT * FROM v3 UNION ALL SELECT * FROM v4 ORDER BY s") == [("a", "8"), ("a", "10")]
        database.execute("DROP STREAM s CASCADE")
        assert database.values("SELECT count(*) FROM duckdb_tables() WHERE schema_name IN ('_state', '_results')") == [
            (0,)
        ]


def test_views_with_keys_of_their_own_share_until_one_of_them_would_make_the_others_slow_to_read():
    with Database(limits=Limits(shared_rows_max=10)) as database:
        database.execute(
            "CREATE STREAM s (k TEXT, x INT) WITH (retention = 'forever');"
            "CREATE MATERIALIZED VIEW few AS SELECT k, count(*) AS n FROM s GROUP BY k;"
            "CREATE MATERIALIZED VIEW halves AS SELECT x % 2 AS odd, count(*) AS n FROM s GROUP BY x % 2;"
            "CREATE MATERIALIZED VIEW many AS SELECT x, k, sum(x) AS total FROM s GROUP BY x, k;"
            "INSERT INTO s VALUES ('a', 1), ('a', 2)"
        )
        views = ["few", "halves", "many"]
        assert _units(database, views) == 1
        database.execute(
            "INSERT INTO s SELECT 'b', i FROM generate_series(1, 9) AS g(i); INSERT INTO s VALUES ('c', 1)"
        )
        assert _units(database, views) == 2
        assert database.engine.queries["few"].unit is database.engine.queries["halves"].unit
        database.execute("CREATE MATERIALIZED VIEW large AS SELECT x, count(*) AS n FROM s GROUP BY x")
        assert _units(database, [*views, "large"]) == 3
        assert database.query("SELECT * FROM few ORDER BY k") == [("a", "2"), ("b", "9"), ("c", "1")]
        assert database.query("SELECT * FROM halves ORDER BY odd") == [("0", "5"), ("1", "7")]
        assert database.query("SELECT count(*), sum(total) FROM many") == [("12", "49")]
        for view in [*views, "large"]:
            assert database.query(f"VERIFY MATERIALIZED VIEW {view}") == []


def test_a_row_that_the_key_of_one_view_fails_on_parts_that_one_alone():
    with Database() as database:
        database.execute(
            "CREATE STREAM s (k TEXT, x TEXT);"
            "CREATE MATERIALIZED VIEW one AS SELECT k, count(*) AS n FROM s GROUP BY k;"
            "CREATE MATERIALIZED VIEW two AS SELECT x, count(*) AS n FROM s GROUP BY x;"
            "CREATE MATERIALIZED VIEW three AS SELECT CAST(x AS INT) AS x, count(*) AS n FROM s GROUP BY CAST(x AS INT)"
        )
        assert _units(database, ["one", "two", "three"]) == 1
        database.execute("INSERT INTO s VALUES ('a', '1'), ('a', 'no number')")
        assert _units(database, ["one", "two"]) == 1
        assert _units(database, ["one", "three"]) == 2
        assert database.query("SELECT * FROM one") == [("a", "2")]
        assert database.query("SELECT * FROM two ORDER BY x") == [("1", "1"), ("no number", "1")]
        assert database.query("SELECT * FROM three") == [("1", "1")]
