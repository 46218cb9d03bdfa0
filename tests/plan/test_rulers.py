"""A ruler never goes back, its two directions fit, and SQL says the same as numpy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from streamsql.engine.watermark import NEVER
from streamsql.plan.rulers import MONTH_LENGTH_US, PLACES, Ruler, zoned
from streamsql.sql.durations import DAY_US, HOUR_US, MINUTE_US

ZONES = [
    *sorted(z for z in available_timezones() if "/" in z)[::25],
    "Pacific/Apia",
    "America/Juneau",
    "Africa/Casablanca",
]


def instants_near(changes: tuple[int, ...]) -> PLACES:
    """Instants at all changes of a zone and around them, and others."""
    random = np.random.default_rng(len(changes))
    at = np.array(changes[1:], dtype=np.int64)
    near = [at + offset for offset in (-HOUR_US, -1, 0, 1, HOUR_US - 1, HOUR_US)]
    return np.unique(np.concatenate([*near, random.integers(-(10**15), 4 * 10**15, 200)]))


def check(ruler: Ruler, instants: PLACES) -> None:
    places = ruler.places(instants)
    assert (np.diff(places) >= 0).all()
    wanted = np.concatenate([places, places + 1, places // HOUR_US * HOUR_US])
    first = ruler.instants(wanted)
    assert (ruler.places(first) >= wanted).all()
    assert (ruler.places(first - 1) < wanted).all()


@pytest.mark.parametrize("step", [15 * MINUTE_US, HOUR_US, 2 * HOUR_US, DAY_US])
def test_zones_all_over_the_world_have_rulers(step: int):
    for zone in ZONES:
        ruler = zoned(zone, step)
        check(ruler, instants_near(ruler.changes))


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
)
def test_days_start_when_the_local_date_changes(zone: str):
    ruler = zoned(zone, DAY_US)
    at = datetime(2011, 1, 1, tzinfo=UTC)
    while at.year < 2012:
        place = ruler.place(int(at.timestamp()) * 1_000_000)
        shown = datetime(1970, 1, 1) + timedelta(days=place // DAY_US)
        assert shown.date() == at.astimezone(ZoneInfo(zone)).date(), at
        at += timedelta(minutes=30)


@pytest.mark.parametrize(
    "ruler",
    [
        Ruler(offset_us=7),
        Ruler(months=True),
        Ruler(offset_us=DAY_US, months=True),
        zoned("Europe/Berlin", DAY_US, HOUR_US),
        zoned("Australia/Lord_Howe", HOUR_US),
        zoned("America/New_York", MONTH_LENGTH_US, 3, months=True),
    ],
)
def test_sql_says_the_same(ruler: Ruler):
    instants = instants_near(zoned("Europe/Berlin", DAY_US).changes)
    if not ruler.months:
        check(ruler, instants)
    places = ruler.places(instants)
    back = ruler.instants(places // HOUR_US * HOUR_US)
    with duckdb.connect() as connection:
        connection.register("t", pa.table({"i": instants, "p": places, "q": places // HOUR_US * HOUR_US, "b": back}))
        found = connection.execute(
            f"SELECT count(*) FROM t WHERE {ruler.place_sql('i')} <> p OR {ruler.instant_sql('q')} <> b"
        ).fetchall()
    assert found == [(0,)]


def test_a_zone_that_is_none():
    for name in ("Berlin", "", "../etc/passwd", "/etc/passwd"):
        with pytest.raises(KeyError):
            zoned(name, DAY_US)


@pytest.mark.parametrize(
    "ruler", [zoned("Europe/Berlin", DAY_US), zoned("America/New_York", MONTH_LENGTH_US, months=True)]
)
def test_what_is_before_all_time_comes_before_all_places(ruler: Ruler):
    assert ruler.place(NEVER - 400 * DAY_US) < ruler.place(-(10**17)) < ruler.place(0)
