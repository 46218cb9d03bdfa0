"""1, 10 and 100 queries over one stream: how an epoch's cost grows with their number.

Estimate. A query costs an epoch 1 ms in append mode and 2 to 4 ms in update mode, nearly all of it DuckDB setting up four
statements; a hundred that share nothing cost a hundred times that. What is shared:

- groups: views with the same stream, condition, window and keys are kept by one query with the aggregates of all. Each of
  them costs the time of its own aggregates, and 0.1 ms to note what has changed of it;
- tables: views without a window that have other keys are grouping sets of one query. A row is multiplied by their number, and
  each costs 0.1 ms to note what has changed of it;
- conditions: all are asked in one statement, 0.02 ms each, and a small epoch runs only the queries that let a row through. What
  is left for each other query is to note that time went by: 0.05 ms;
- live queries that ask the same are one query with many readers: 0.01 ms each, to wake them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.engine import create, open_engine
from benchmarks.events import START_US, Shape, events
from benchmarks.figures import Figure, say
from benchmarks.servers import folder
from streamsql.engine.epoch import Engine
from streamsql.engine.live import start_live_query
from streamsql.engine.writes import Write
from streamsql.sql.parse import parse
from streamsql.sql.statements import Query

EPOCHS = 100
SELECT = (
    "SELECT account, count(*) AS n, sum(amount) AS total, max(amount) AS most "
    "FROM payments {where}GROUP BY account EMIT UPDATE"
)


def run(scale: float) -> list[Figure]:
    """Measure epochs of one row. The bound is the one query, as often as there are queries."""
    epochs = max(20, int(EPOCHS * min(scale, 1)))
    kinds: tuple[tuple[str, Callable[[Engine, int], None]], ...] = (
        ("views, each of one account", _view_of_account),
        ("views that ask the same", _same_view),
        ("views with other aggregates of the same groups", _other_aggregates),
        ("views with groups of their own", _other_groups),
        ("clients that ask the same", _client),
    )
    figures = []
    for name, start in kinds:
        single = 0.0
        for count in (1, 10, 100):
            value = _epoch_ms(epochs, count, start)
            single = single or value
            figures.append(
                say(Figure("shared", f"{count} {name}", value, "ms", single * count, f"{count} times one", ratio_max=1))
            )
    return figures


def _view_of_account(engine: Engine, number: int) -> None:
    select = SELECT.format(where=f"WHERE account = {number} ")
    create(engine, f"CREATE MATERIALIZED VIEW view{number} AS {select}")


def _same_view(engine: Engine, number: int) -> None:
    create(engine, f"CREATE MATERIALIZED VIEW view{number} AS {SELECT.format(where='')}")


def _other_aggregates(engine: Engine, number: int) -> None:
    select = (
        f"SELECT account, count(*) AS n, sum(amount + {number}) AS total, max(amount * {number}) AS most "
        f"FROM payments GROUP BY account HAVING count(*) > {number % 3} EMIT UPDATE"
    )
    create(engine, f"CREATE MATERIALIZED VIEW view{number} AS {select}")


def _other_groups(engine: Engine, number: int) -> None:
    select = (
        f"SELECT account % {1_000 - number} AS part, count(*) AS n, sum(amount) AS total, max(amount) AS most "
        f"FROM payments GROUP BY account % {1_000 - number} EMIT UPDATE"
    )
    create(engine, f"CREATE MATERIALIZED VIEW view{number} AS {select}")


def _client(engine: Engine, _: int) -> None:
    statement = parse(SELECT.format(where=""), engine.limits)[0]
    assert isinstance(statement, Query)
    engine.call(lambda: start_live_query(engine, statement, lambda: None)).result()


def _epoch_ms(epochs: int, count: int, start: Callable[[Engine, int], None]) -> float:
    rows = events(Shape(1_000, 100, 600_000_000, START_US))
    with folder("streamsql-bench") as base:
        engine = open_engine(base)
        for number in range(count):
            start(engine, number)
        engine.submit(Write([("payments", rows)])).result()  # each has seen a row, and has its statements
        began = time.perf_counter()
        for number in range(epochs):
            engine.submit(Write([("payments", rows.slice(number % 1_000, 1))])).result()
        seconds = time.perf_counter() - began
        engine.stop()
    return seconds / epochs * 1e3
