"""The Nexmark generator: the same events however they are read, and what an auction house's events must be like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from streamsql.base.errors import InvalidParameterValue
from streamsql.base.limits import Limits
from streamsql.connectors import resolved
from streamsql.connectors.nexmark import COLUMNS, Nexmark
from streamsql.connectors.source import Batch, Given, Source, Surroundings
from streamsql.sql.parse import parse
from streamsql.sql.statements import CreateStream
from tests.driver import Database


def source(position: int = 0, now_us: int = 0, **options: Any) -> Source:
    given = Given({name: str(value) for name, value in options.items()}, {})
    connector = Nexmark()
    return connector.open(
        given, connector.columns(given, ()), {"0": position} if position else {}, now_us, Surroundings()
    )


def everything(made: Source, rows_max: int = 100_000) -> list[Batch]:
    found = []
    while (batch := made.read(rows_max, 0)) is not None:
        found.append(batch)
    assert made.due_us(0) is None
    return found


def rows(table: str, events: int, **options: Any) -> pa.Table:
    return pa.concat_tables([b.rows for b in everything(source(table=table, events=events, **options))])


@pytest.mark.parametrize("table", COLUMNS)
def test_events_are_the_same_however_they_are_read(table: str):
    whole = rows(table, 120_000)
    small = everything(source(table=table, events=120_000), rows_max=777)
    assert pa.concat_tables([b.rows for b in small]).equals(whole)
    assert all(b.rows.num_rows <= 777 for b in small)
    for batch in (small[0], small[len(small) // 2], small[-2]):
        rest = everything(source(int(batch.position), table=table, events=120_000))
        seen = whole.num_rows - sum(b.rows.num_rows for b in rest)
        assert pa.concat_tables([b.rows for b in rest]).equals(whole.slice(seen))
    assert not everything(source(120_000, table=table, events=120_000))


@pytest.mark.parametrize("table", COLUMNS)
def test_the_seed_decides(table: str):
    one, other = rows(table, 5_000, seed=1), rows(table, 5_000, seed=2)
    assert not one.equals(other)
    assert one.equals(rows(table, 5_000, seed=1))
    assert one.column("date_time").equals(other.column("date_time"))


def test_of_fifty_events_one_is_a_person_three_are_auctions_and_the_rest_bids():
    people, auctions, bids = (rows(t, 100_000) for t in ("person", "auction", "bid"))
    assert [t.num_rows for t in (people, auctions, bids)] == [2_000, 6_000, 92_000]
    assert people.column("id").to_pylist() == list(range(1_000, 3_000))
    assert auctions.column("id").to_pylist() == list(range(1_000, 7_000))
    times = [pc.cast(t.column("date_time"), pa.int64()).to_numpy() for t in (people, auctions, bids)]
    assert all((np.diff(t) >= 0).all() for t in times)
    assert int(times[0][0]) == 1_436_918_400_000_000
    assert int(times[2][-1]) == 1_436_918_400_000_000 + 99_999 * 100 // 1_000 * 1_000


def test_events_name_what_is_there_or_about_to_be():
    auctions, bids = rows("auction", 100_000), rows("bid", 100_000)
    opened = 1_000 + (np.flatnonzero(np.arange(100_000) % 50 >= 4) // 50) * 3 + 2
    named = bids.column("auction").to_numpy()
    assert (named <= opened + 10).all()
    assert (named >= np.minimum(opened // 100 * 100, opened - 100) - 1).all()
    hot = (named % 100 == 0).mean()
    assert 0.45 < hot < 0.55
    sellers = auctions.column("seller").to_numpy()
    assert 0.7 < (sellers % 100 == 0).mean() < 0.8
    price = bids.column("price").to_numpy()
    assert price.min() >= 100
    assert price.max() <= 100_000_000
    assert 9_000 < np.median(price) < 110_000
    assert set(np.unique(auctions.column("category").to_numpy())) == {10, 11, 12, 13, 14}
    assert (auctions.column("expires").to_numpy() > auctions.column("date_time").to_numpy()).all()
    assert bids.column("url").null_count == 0
    assert pc.all(pc.starts_with(bids.column("url"), "https://www.nexmark.com/")).as_py()


def test_texts_bring_rows_to_their_average_size():
    size = np.asarray(pc.binary_length(rows("person", 100_000).column("extra")), dtype=np.int64).mean()
    longer = np.asarray(
        pc.binary_length(rows("person", 100_000, person_bytes=1_200).column("extra")), dtype=np.int64
    ).mean()
    assert 950 < longer - size < 1_050


def test_events_come_out_of_order_within_groups():
    bids = rows("bid", 20_000, out_of_order_group_size=100)
    times = pc.cast(bids.column("date_time"), pa.int64()).to_numpy()
    assert (np.diff(times) < 0).any()
    behind = np.maximum.accumulate(times) - times
    assert 0 < behind.max() <= 100 * 100
    assert sorted(times) == sorted(pc.cast(rows("bid", 20_000).column("date_time"), pa.int64()).to_numpy())


def test_options_change_the_house():
    assert rows("person", 10_000, person_proportion=2, bid_proportion=5).num_rows == 2_000
    cold = rows("bid", 50_000, hot_auction_ratio=1, hot_bidder_ratio=1, active_people=5, in_flight_auctions=3)
    assert (cold.column("auction").to_numpy() % 100 == 0).mean() < 0.05
    assert len(np.unique(cold.column("auction").to_numpy()[-46:])) <= 3 + 1 + 10 + 3
    first = rows("person", 10, first_event_time="2026-01-02 03:04:05", inter_event_delay="2 seconds")
    assert str(first.column("date_time")[0]) == "2026-01-02 03:04:05"


def test_events_come_as_fast_as_they_are_due():
    made = source(table="bid", events=1_000, events_per_second=100)
    assert made.read(1_000, 0) is None
    assert made.due_us(0) == 20_000
    batch = made.read(1_000, 1_000_000)
    assert batch is not None
    assert (batch.rows.num_rows, batch.position) == (92, 100)
    assert made.read(1_000, 1_000_000) is None
    assert made.due_us(1_000_000) == 1_020_000
    assert made.read(1_000, 1_040_000) is None, "a person and three auctions"
    later = made.read(1_000, 2_000_000)
    assert later is not None
    assert later.position == 200
    assert rows("bid", 200).equals(pa.concat_tables([batch.rows, later.rows]))


WRONG = {
    "connector = 'nexmark'": ('the connector "nexmark" needs the option "table"', "connector"),
    "connector = 'nexmrk'": ('there is no connector "nexmrk"', "connector"),
    "connector = 'nexmark', table = 'bids'": (
        'invalid value for option "table": "bids" is none of person, auction, bid', "table"),
    "connector = 'nexmark', table = 'bid', evens = 3": ('unrecognized option "evens" of the connector "nexmark"', "evens"),
    "connector = 'nexmark', table = 'bid', events = 'x'": (
        'invalid value for option "events": "x" is not a whole number', "events ="),
    "connector = 'nexmark', table = 'bid', hot_auction_ratio = 0": (
        'invalid value for option "hot_auction_ratio": 0 is not between 1 and 1048576', "hot_auction_ratio"),
    "connector = 'nexmark', table = 'bid', events_per_second = fast": (
        'invalid value for option "events_per_second": "fast" is not a number', "events_per_second"),
    "connector = 'nexmark', table = 'bid', first_event_time = 'noon'": (
        'invalid value for option "first_event_time": "noon" is not a timestamp', "first_event_time"),
    "connector = 'nexmark', table = 'bid', nexmark.table.type = 'bid'": (
        '"nexmark.table.type" and "table" are the same option', "nexmark.table"),
    "connector = 'nexmark', table = 'bid', out_of_order_group_size = 953": (
        "out_of_order_group_size cannot be a multiple of 953", "out_of_order"),
    "connector = 'nexmark', table = 'bid', events = 9223372036854775807": ("event times are out of range", "events ="),
}  # fmt: skip


@pytest.mark.parametrize("options", WRONG)
def test_a_wrong_option_is_told_at_its_place(options: str):
    message, word = WRONG[options]
    text = f"CREATE STREAM s WITH ({options})"
    statement = parse(text, Limits())[0]
    assert isinstance(statement, CreateStream)
    with pytest.raises(InvalidParameterValue) as raised:
        resolved(statement)
    assert raised.value.message == message
    assert raised.value.position is not None
    assert text[raised.value.position - 1 :].startswith(word)


def test_a_stream_has_the_columns_of_its_connector_or_some_of_them():
    with Database() as database:
        database.execute(
            "CREATE STREAM people WITH (connector = 'nexmark', nexmark.table.type = 'Person', nexmark.event.num = 10);"
            "CREATE STREAM prices (price BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time) "
            "WITH (connector = 'nexmark', table = 'bid', events = 10)"
        )
        columns = {o.name: [c.name for c in o.columns] for o in database.engine.catalog}
        assert columns == {"people": [n for n, _ in COLUMNS["person"]], "prices": ["price", "date_time"]}
        for sql, message in {
            "(cost BIGINT)": 'the connector "nexmark" gives no column "cost"',
            "(price INT)": 'column "price" of the connector "nexmark" is of type BIGINT',
            "(price BIGINT, WATERMARK FOR date_time AS date_time)": 'column "date_time" does not exist',
        }.items():
            with pytest.raises(Exception, match=message):
                database.execute(f"CREATE STREAM no {sql} WITH (connector = 'nexmark', table = 'bid')")
