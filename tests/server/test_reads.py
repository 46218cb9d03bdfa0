"""Ad-hoc reads, without a server around them."""

from __future__ import annotations

import asyncio

import pytest

from streamsql.base.errors import QueryCanceled
from streamsql.base.limits import Limits
from streamsql.engine.store import Store
from streamsql.server.cancellation import Cancellation
from streamsql.server.reads import ReadPool
from streamsql.server.results import ResultColumn


def test_a_read_that_is_cancelled_before_it_begins_does_not_begin():
    store = Store(None)
    pool = ReadPool(store, Limits())
    cancellation = Cancellation()
    cancellation.cancel()
    long = "SELECT count(*) AS n FROM range(300000000) a(x), range(100000) b(y) WHERE (x * y) % 7 = 3"

    async def read() -> None:
        # it closes the connection that it was given, which DuckDB refuses while a query runs on it
        rows = pool.stream(long, [ResultColumn.of("n", "BIGINT")], cancellation, store.cursor())
        async for _ in rows:
            pass

    with pytest.raises(QueryCanceled):
        asyncio.run(read())
    pool.close()
    store.close()
