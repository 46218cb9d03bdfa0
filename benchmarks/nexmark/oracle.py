"""The answers to the queries of Nexmark, as DuckDB gives them to one SELECT over all events.

Queries without windows and without PostgreSQL's functions are put to DuckDB as they stand; the others are written out here.
`{closed}` is the watermark after the last bid: in append mode only what ends by then has been shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from benchmarks.nexmark.queries import script

_DAY = "strftime(date_time, '%Y-%m-%d')"
_MINUTE = "strftime(date_time, '%H:%M')"


def _counts(*whats: str) -> str:
    conditions = ("", " FILTER (WHERE price < 10000)", " FILTER (WHERE price >= 10000 AND price < 1000000)",
        " FILTER (WHERE price >= 1000000)")  # fmt: skip
    return ", ".join(f"count({what}){condition}" for what in whats for condition in conditions)


_WRITTEN = {
    "q5": """
        WITH counts AS (
            SELECT start, auction, count(*) AS num
            FROM (SELECT auction, unnest([time_bucket(INTERVAL '2 seconds', date_time) - n * INTERVAL '2 seconds'
                for n in range(5)]) AS start FROM bid)
            GROUP BY start, auction)
        SELECT start, auction, num FROM counts QUALIFY num = max(num) OVER (PARTITION BY start)""",
    "q7": """
        SELECT auction, price, bidder, date_time, extra FROM bid
        QUALIFY price = max(price) OVER (PARTITION BY time_bucket(INTERVAL '10 seconds', date_time))""",
    "q8": """
        SELECT DISTINCT p.id, p.name, time_bucket(INTERVAL '10 seconds', p.date_time)
        FROM person AS p JOIN auction AS a ON p.id = a.seller
            AND time_bucket(INTERVAL '10 seconds', p.date_time) = time_bucket(INTERVAL '10 seconds', a.date_time)""",
    "q10": f"SELECT auction, bidder, price, date_time, extra, {_DAY}, {_MINUTE} FROM bid",
    "q11": """
        WITH starts AS (
            SELECT *, coalesce(date_time - lag(date_time) OVER one >= INTERVAL '10 seconds', true)::INT AS starts
            FROM bid WINDOW one AS (PARTITION BY bidder ORDER BY date_time)),
        sessions AS (SELECT *, sum(starts) OVER (PARTITION BY bidder ORDER BY date_time) AS number FROM starts)
        SELECT bidder, count(*), min(date_time), max(date_time) + INTERVAL '10 seconds' FROM sessions
        GROUP BY bidder, number HAVING max(date_time) + INTERVAL '10 seconds' <= {closed}""",
    # the time at which a bid arrives is in no table: that of the event takes as long to look at
    "q12": """
        SELECT bidder, count(*), time_bucket(INTERVAL '10 seconds', date_time) AS start,
            time_bucket(INTERVAL '10 seconds', date_time) + INTERVAL '10 seconds' FROM bid GROUP BY bidder, start""",
    "q15": f"SELECT {_DAY} AS day, {_counts('*', 'DISTINCT bidder', 'DISTINCT auction')} FROM bid GROUP BY day",
    "q16": f"""
        SELECT channel, {_DAY} AS day, max({_MINUTE}), {_counts('*', 'DISTINCT bidder', 'DISTINCT auction')}
        FROM bid GROUP BY channel, day""",
    "q17": f"""
        SELECT auction, {_DAY} AS day, {_counts('*')}, min(price), max(price), avg(price), sum(price)
        FROM bid GROUP BY auction, day""",
}  # fmt: skip

SIDE_INPUT = "CREATE TABLE side_input AS SELECT k AS key, 'value ' || k AS value FROM range(10000) AS g(k)"


def open_oracle(tables: Mapping[str, pa.Table], threads: int = 2) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB that has the events as tables, and the side input."""
    connection = duckdb.connect(config={"threads": threads})
    for name, rows in tables.items():
        connection.register(f"arrow_{name}", rows)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow_{name}")
    connection.execute(SIDE_INPUT)
    return connection


def answer_sql(name: str) -> str:
    """Give the SELECT that answers a query over all events."""
    written = _WRITTEN.get(name)
    if written is not None:
        return written.format(closed="(SELECT max(date_time) - INTERVAL '4 seconds' FROM bid)")
    text = script(name).statements[-1]
    return text.partition(" AS\n")[2].rpartition("EMIT")[0]
