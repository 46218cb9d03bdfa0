"""``connector = 'nexmark'``: the events of an auction house, as the Nexmark benchmark draws them.

Of every 50 events one is a person who comes in, three are auctions that open, and 46 are bids. Each kind is a stream of its
own (``"table" = 'bid'``); the three tell of the same house where their options are the same. Which ids an event may
name, hot auctions and people, prices and the length of auctions follow Apache Beam's generator
(https://github.com/apache/beam/tree/master/sdks/java/testing/nexmark); columns are named as in RisingWave's.

An event is a function of the seed and of its number, so a position is a number, and it does not matter how events are cut into
batches: they are made in blocks of BLOCK_EVENTS, whose chance is Philox with the block's number as its counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.blocks import INTEGERS, PARTITION, BlockSource
from streamsql.connectors.letters import joined, numbered, picked, words
from streamsql.connectors.pace import Pace
from streamsql.connectors.settings import (
    INTEGER_MAX,
    Option,
    duration,
    integer,
    number,
    one_of,
    read_options,
    refuse_references,
    refuse_table,
    timestamp,
)
from streamsql.connectors.source import Given, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition

BLOCK_EVENTS = 50_000

FIRST_PERSON_ID = FIRST_AUCTION_ID = 1_000
FIRST_CATEGORY_ID, CATEGORIES = 10, 5
# of so many ids one is hot; an event may name so many that are not there yet
HOT_STEP = 100
ID_LEAD = 10
CHANNELS = 10_000
SHUFFLE_STEP = 953

FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
CITIES = (
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
)
HOT_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")

COLUMNS = {
    "person": (("id", "BIGINT"), ("name", "VARCHAR"), ("email_address", "VARCHAR"), ("credit_card", "VARCHAR"),
        ("city", "VARCHAR"), ("state", "VARCHAR"), ("date_time", "TIMESTAMP"), ("extra", "VARCHAR")),
    "auction": (("id", "BIGINT"), ("item_name", "VARCHAR"), ("description", "VARCHAR"), ("initial_bid", "BIGINT"),
        ("reserve", "BIGINT"), ("date_time", "TIMESTAMP"), ("expires", "TIMESTAMP"), ("seller", "BIGINT"),
        ("category", "BIGINT"), ("extra", "VARCHAR")),
    "bid": (("auction", "BIGINT"), ("bidder", "BIGINT"), ("price", "BIGINT"), ("channel", "VARCHAR"), ("url", "VARCHAR"),
        ("date_time", "TIMESTAMP"), ("extra", "VARCHAR")),
}  # fmt: skip

_COUNT = integer(1, 1 << 31)
_RATIO = integer(1, 1 << 20)
_SHARE = integer(1, 1_000)
OPTIONS: dict[str, Option] = {
    "table": Option(one_of(*COLUMNS), None, ("nexmark.table.type",), says="`person`, `auction` or `bid`; it is needed"),
    "events": Option(
        integer(1),
        None,
        ("nexmark.event.num",),
        says="how many events of all kinds there are; without it they come for ever",
    ),
    "events_per_second": Option(
        number(0.001, 1e9), None, says="their pace by the clock; without it they come as fast as they are taken"
    ),
    "seed": Option(integer(0), 0, says="decides all that is left to chance"),
    "first_event_time": Option(
        timestamp, 1_436_918_400_000_000, says="when the first event happens"
    ),  # 2015-07-15, as in Beam
    "inter_event_delay": Option(duration, 100, says="how far apart events are in event time"),
    "out_of_order_group_size": Option(
        integer(1, BLOCK_EVENTS),
        1,
        says="within groups of so many, events come in another order than that of their time",
    ),
    "active_people": Option(_COUNT, 1_000, says="how many of the last people may bid"),
    "in_flight_auctions": Option(_COUNT, 100, says="how many auctions are open at a time"),
    "hot_auction_ratio": Option(_RATIO, 2, says="one in so many bids is for another than the hot auction"),
    "hot_bidder_ratio": Option(_RATIO, 4, says="one in so many bids is by another than the hot bidder"),
    "hot_seller_ratio": Option(_RATIO, 4, says="one in so many auctions is of another than the hot seller"),
    "person_proportion": Option(_SHARE, 1, says="of a round of events, so many are people"),
    "auction_proportion": Option(_SHARE, 3, says="so many are auctions"),
    "bid_proportion": Option(_SHARE, 46, says="so many are bids"),
    "person_bytes": Option(integer(0, 1 << 16), 200, says="about how long a person's row is"),
    "auction_bytes": Option(integer(0, 1 << 16), 500, says="about how long an auction's row is"),
    "bid_bytes": Option(integer(0, 1 << 16), 100, says="about how long a bid's row is"),
}


@dataclass(frozen=True, slots=True)
class House:
    """The options, by name; lengths of time in microseconds. `events` None: without end."""

    table: str
    events: int | None
    events_per_second: float | None
    seed: int
    first_event_time: int
    inter_event_delay: int
    out_of_order_group_size: int
    active_people: int
    in_flight_auctions: int
    hot_auction_ratio: int
    hot_bidder_ratio: int
    hot_seller_ratio: int
    person_proportion: int
    auction_proportion: int
    bid_proportion: int
    person_bytes: int
    auction_bytes: int
    bid_bytes: int

    @property
    def round(self) -> int:
        """After how many events the kinds come again in the same order."""
        return self.person_proportion + self.auction_proportion + self.bid_proportion

    # ---- by event numbers ----

    def arrival(self, places: INTEGERS) -> INTEGERS:
        """Give the numbers of the events that arrive at these places: shuffled within groups."""
        size = self.out_of_order_group_size
        return places if size == 1 else places // size * size + places * SHUFFLE_STEP % size

    def of_kind(self, numbers: INTEGERS) -> npt.NDArray[np.bool_]:
        """Tell which events are of the table's kind."""
        within, people = numbers % self.round, self.person_proportion
        if self.table == "person":
            return within < people
        if self.table == "auction":
            return (within >= people) & (within < people + self.auction_proportion)
        return within >= people + self.auction_proportion

    def times_ms(self, numbers: INTEGERS) -> INTEGERS:
        """Give the events' times, in milliseconds since 1970."""
        return (self.first_event_time + numbers * self.inter_event_delay) // 1_000

    def last_person(self, numbers: INTEGERS) -> INTEGERS:
        """Give the number of the last person who had come in when an event happened."""
        return numbers // self.round * self.person_proportion + np.minimum(
            numbers % self.round, self.person_proportion - 1
        )

    def last_auction(self, numbers: INTEGERS) -> INTEGERS:
        """Give the number of the last auction that had opened when an event happened; -1 for none."""
        within = numbers % self.round - self.person_proportion
        return numbers // self.round * self.auction_proportion + np.clip(within, -1, self.auction_proportion - 1)


def house_of(given: Given) -> House:
    """Read the options. Raises InvalidParameterValue."""
    refuse_references(given, "nexmark")
    values = read_options(given, OPTIONS, "nexmark")
    if values["table"] is None:
        raise InvalidParameterValue(
            'the connector "nexmark" needs the option "table"',
            hint="add table = 'bid' (or 'auction', or 'person')",
            position=given.places.get("connector"),
        )
    house = House(**values)
    if house.out_of_order_group_size % SHUFFLE_STEP == 0:
        raise InvalidParameterValue(
            f"out_of_order_group_size cannot be a multiple of {SHUFFLE_STEP}",
            position=given.places.get("out_of_order_group_size"),
        )
    if house.events is not None and house.first_event_time + house.events * house.inter_event_delay > INTEGER_MAX // 2:
        raise InvalidParameterValue(
            "event times are out of range", position=given.places.get("events"), hint="fewer events, or a shorter delay"
        )
    return house


class _Block:
    """Draws one block's rows of a kind: `numbers` are their events."""

    def __init__(self, house: House, number: int) -> None:
        self.house = house
        places = np.arange(number * BLOCK_EVENTS, (number + 1) * BLOCK_EVENTS, dtype=np.int64)
        numbers = house.arrival(places)
        chosen = house.of_kind(numbers)
        self.places: INTEGERS = places[chosen]
        self.numbers: INTEGERS = numbers[chosen]
        self.count = len(self.numbers)
        kind = list(COLUMNS).index(house.table)
        self.chance = np.random.Generator(np.random.Philox(key=[house.seed, kind], counter=[0, 0, 0, number]))
        self.times = house.times_ms(self.numbers)

    def rows(self) -> dict[str, pa.Array]:
        return {"person": self._people, "auction": self._auctions, "bid": self._bids}[self.house.table]()

    def _below(self, bound: int | INTEGERS) -> INTEGERS:
        return self.chance.integers(0, bound, self.count, dtype=np.int64)

    def _hot(self, ratio: int) -> npt.NDArray[np.bool_]:
        return self._below(ratio) > 0

    def _prices(self) -> INTEGERS:
        return np.rint(10 ** (self.chance.random(self.count) * 6) * 100).astype(np.int64)

    def _people_named(self) -> INTEGERS:
        """Draw someone who came in lately, or is about to."""
        known = self.house.last_person(self.numbers) + 1
        active = np.minimum(known, self.house.active_people)
        return known - active + self._below(active + ID_LEAD)

    def _auctions_named(self) -> INTEGERS:
        """Draw an auction that is open, or about to."""
        last = self.house.last_auction(self.numbers)
        first = np.maximum(last - self.house.in_flight_auctions, 0)
        return first + self._below(np.maximum(last - first + 1, 0) + ID_LEAD)

    def _people(self) -> dict[str, pa.Array]:
        first = picked(FIRST_NAMES, self._below(len(FIRST_NAMES)))
        last = picked(LAST_NAMES, self._below(len(LAST_NAMES)))
        mail = joined("", words(self.chance, self.count, 7, "_"), "@", words(self.chance, self.count, 5, "_"), ".com")
        card = [pc.utf8_lpad(pc.cast(pa.array(self._below(10_000)), pa.string()), 4, "0") for _ in range(4)]
        city, state = picked(CITIES, self._below(len(CITIES))), picked(STATES, self._below(len(STATES)))
        columns = {
            "id": pa.array(self.house.last_person(self.numbers) + FIRST_PERSON_ID),
            "name": joined(" ", first, last),
            "email_address": mail,
            "credit_card": joined(" ", *card),
            "city": city,
            "state": state,
        }
        return self._whole(columns, 8 + 8, self.house.person_bytes)

    def _auctions(self) -> dict[str, pa.Array]:
        house, initial = self.house, self._prices()
        people = self.house.last_person(self.numbers) // HOT_STEP * HOT_STEP
        seller = np.where(self._hot(house.hot_seller_ratio), people, self._people_named()) + FIRST_PERSON_ID
        # as long, on average, as it takes until so many others have opened
        ahead = house.in_flight_auctions * house.round // house.auction_proportion
        horizon = house.times_ms(self.numbers + ahead) - self.times
        length = 1 + self._below(np.maximum(horizon * 2, 1))
        columns = {
            "id": pa.array(house.last_auction(self.numbers) + FIRST_AUCTION_ID),
            "item_name": words(self.chance, self.count, 20, " "),
            "description": words(self.chance, self.count, 100, " "),
            "initial_bid": pa.array(initial),
            "reserve": pa.array(initial + self._prices()),
            "expires": _timestamps(self.times + length),
            "seller": pa.array(seller),
            "category": pa.array(FIRST_CATEGORY_ID + self._below(CATEGORIES)),
        }
        return self._whole(columns, 7 * 8, house.auction_bytes)

    def _bids(self) -> dict[str, pa.Array]:
        house = self.house
        hot_auction = house.last_auction(self.numbers) // HOT_STEP * HOT_STEP
        auction = np.where(self._hot(house.hot_auction_ratio), hot_auction, self._auctions_named())
        hot_bidder = house.last_person(self.numbers) // HOT_STEP * HOT_STEP + 1
        bidder = np.where(self._hot(house.hot_bidder_ratio), hot_bidder, self._people_named())
        price = self._prices()
        hot = self.chance.integers(0, 2, self.count) > 0
        channel = np.where(hot, self._below(len(HOT_CHANNELS)), len(HOT_CHANNELS) + self._below(CHANNELS))
        names, urls = _channels(house.seed)
        columns = {
            "auction": pa.array(np.maximum(auction, 0) + FIRST_AUCTION_ID),
            "bidder": pa.array(bidder + FIRST_PERSON_ID),
            "price": pa.array(price),
            "channel": names.take(pa.array(channel)),
            "url": urls.take(pa.array(channel)),
        }
        return self._whole(columns, 4 * 8, house.bid_bytes)

    def _whole(self, columns: dict[str, pa.Array], fixed_bytes: int, wanted_bytes: int) -> dict[str, pa.Array]:
        """Add the time, and text that brings rows to their average size, a fifth more or less."""
        texts = [column for column in columns.values() if pa.types.is_string(column.type)]
        held = sum((np.asarray(pc.binary_length(column), dtype=np.int64) for column in texts), np.int64(fixed_bytes))
        missing = np.maximum(wanted_bytes - held, 0)
        spread = np.rint(missing * 0.2).astype(np.int64)
        lengths = missing - spread + self._below(np.maximum(2 * spread, 1))
        return {**columns, "date_time": _timestamps(self.times), "extra": words(self.chance, self.count, lengths, "_")}


def _timestamps(times_ms: INTEGERS) -> pa.Array:
    return pa.array(times_ms * 1_000, pa.timestamp("us"))


@lru_cache(maxsize=8)
def _channels(seed: int) -> tuple[pa.Array, pa.Array]:
    """Draw the channels that bids come through, and their addresses: a few hot ones, then the others."""
    chance = np.random.Generator(np.random.Philox(key=[seed, len(COLUMNS)]))
    count = len(HOT_CHANNELS) + CHANNELS
    names = pa.concat_arrays([pa.array(HOT_CHANNELS), numbered("channel-", np.arange(CHANNELS))])
    parts = [words(chance, count, 5, "_") for _ in range(3)]
    base = joined("", joined("/", "https://www.nexmark.com", *parts), "/item.htm?query=1")
    own = numbered("&channel_id=", np.arange(-len(HOT_CHANNELS), CHANNELS))
    has = (chance.integers(0, 10, count) > 0) & (np.arange(count) >= len(HOT_CHANNELS))
    return names, joined("", base, pc.if_else(pa.array(has), own, ""))


class Nexmark:
    """The connector."""

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        refuse_table(given, "nexmark")
        return tuple(ColumnDefinition(name, kind) for name, kind in COLUMNS[house_of(given).table])

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> BlockSource:
        house = house_of(given)

        def make(number: int) -> tuple[INTEGERS, pa.Table]:
            block = _Block(house, number)
            rows = block.rows()
            return block.places, pa.table({c.name: rows[c.name] for c in columns})

        pace = Pace(house.events_per_second, int(positions.get(PARTITION, 0)), now_us)
        return BlockSource(make, BLOCK_EVENTS, house.events, pace)
