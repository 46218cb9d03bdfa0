"""Lookups of a view's row by its key, answered from memory (`engine.key_index`) as far as that is the same.

It is the same where everything that was committed has been published (`Engine.settled`): what any reader may have seen
before is then in the index. Otherwise, and for whatever is no lookup, DuckDB answers. An index is made when so many lookups
have gone to DuckDB that it would have paid, and is let go when it does not pay any longer (see `KeyIndex`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import duckdb
import pyarrow as pa
import structlog

from streamsql.base.errors import StreamSQLError
from streamsql.base.types import DATE, INT2, INT4, INT8, TIMESTAMP, WireType
from streamsql.engine.epoch import Engine
from streamsql.engine.key_index import KeyIndex, NotKeptError, key_values
from streamsql.engine.views import ContinuousQuery
from streamsql.pgwire.values import BadValue, parse_text
from streamsql.plan import stages
from streamsql.plan.point_lookup import PointLookup
from streamsql.server.reads import ReadPool

log = structlog.get_logger()

# so many lookups by DuckDB come before an index is made, and one more for so many rows of the view: it has paid by then
LOOKUPS_MIN = 32
LOOKUPS_MAX = 1_000
ROWS_A_LOOKUP = 3_000
_BITS = {INT2: 16, INT4: 32, INT8: 64}
# constants that are written like these are read alike by everybody; all others are DuckDB's
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_TIMES = {
    DATE: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII),
    TIMESTAMP: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?", re.ASCII),
}

_Place = tuple[int, tuple[int, ...]]  # a query's id and the columns of a key


class Lookups:
    """The indexes of all views, and how often one was missed; used from the event loop's thread."""

    def __init__(self, reads: ReadPool) -> None:
        self._reads = reads
        self._indexes: OrderedDict[_Place, KeyIndex] = OrderedDict()  # the one that was used last comes last
        self._missed: dict[_Place, int] = {}
        self._refused: dict[_Place, ContinuousQuery] = {}
        self._making: dict[_Place, asyncio.Task[None]] = {}

    @property
    def kept(self) -> list[str]:
        """Name the views that have an index."""
        return [index.query.name for index in self._indexes.values()]

    def find(self, engine: Engine, lookup: PointLookup, constants: Sequence[str | None]) -> pa.RecordBatch | None:
        """Give the columns asked for of the row that has this key, as a batch of one row or none. None: ask DuckDB.

        `constants` are in the order of the key.
        """
        query = engine.queries.get(lookup.view)
        if query is None:
            return None
        place = (query.id, lookup.key)
        index = self._indexes.get(place)
        if index is None or index.query is not query:
            self._miss(engine, place, query)
            return None
        key = _key(lookup.types, constants)
        if key is None or not engine.settled:
            return None
        try:
            row = index.find(key)
        except NotKeptError:
            self._let_go(place)
            return None
        self._indexes.move_to_end(place)
        return row.select(lookup.outputs)

    def _miss(self, engine: Engine, place: _Place, query: ContinuousQuery) -> None:
        """Count a lookup that DuckDB answers; after enough of them, make an index."""
        if place in self._making or self._refused.get(place) is query:
            return
        missed = self._missed[place] = self._missed.get(place, 0) + 1
        if missed >= LOOKUPS_MIN + min(query.progress.rows_out // ROWS_A_LOOKUP, LOOKUPS_MAX):
            del self._missed[place]
            self._making[place] = asyncio.get_running_loop().create_task(self._make(engine, place, query))

    async def _make(self, engine: Engine, place: _Place, query: ContinuousQuery) -> None:
        """Make an index. Where the rows cannot be kept by this key, it is not tried again."""
        bytes_max = engine.limits.lookup_bytes_max
        index = KeyIndex(query, place[1], bytes_max)
        made = False
        try:
            await self._fill(engine, index)
            made = True
        except NotKeptError:
            self._refused[place] = query
        except StreamSQLError as error:  # the view is gone or has stopped, or the server stops
            log.debug("no lookup index", view=query.name, reason=error.message)
        finally:
            del self._making[place]
            if not made:
                index.close()
        if not made:
            return
        self._let_go(place)
        self._indexes[place] = index
        while sum(each.bytes for each in self._indexes.values()) > bytes_max:
            self._let_go(next(iter(self._indexes)))
        log.debug("lookup index made", view=query.name, rows=len(index), bytes=index.bytes)

    async def _fill(self, engine: Engine, index: KeyIndex) -> None:
        query = index.query

        def begin() -> tuple[duckdb.DuckDBPyConnection, str]:
            """Between two epochs: what the snapshot does not hold, the subscription will bring."""
            if engine.queries.get(query.name) is not query or query.progress.error is not None:
                raise StreamSQLError("the view is not kept any more")
            index.subscription = query.log.subscribe(index.wake)
            sql = f"SELECT {', '.join(stages.output_columns(query.plan))} FROM {query.result}"
            return engine.store.snapshot(query.tables.result), sql

        cursor, sql = await asyncio.wrap_future(engine.call(begin))
        with contextlib.closing(cursor):
            await self._reads.compute(lambda: index.load(cursor.sql(sql).to_arrow_reader(65_536)))

    def _let_go(self, place: _Place) -> None:
        index = self._indexes.pop(place, None)
        if index is not None:
            index.close()

    def close(self) -> None:
        """Let go of all indexes, and of those that are being made."""
        for task in self._making.values():
            task.cancel()
        for place in list(self._indexes):
            self._let_go(place)


def _key(types: Sequence[WireType], constants: Sequence[str | None]) -> Hashable | None:
    """Read a key's constants as the index has them; None where DuckDB should say what they mean."""
    values = [
        None if text is None else _value(wire_type, text) for wire_type, text in zip(types, constants, strict=True)
    ]
    if None in values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def _value(wire_type: WireType, text: str) -> Hashable | None:
    if wire_type in _BITS:
        if _INTEGER.fullmatch(text) is None:
            return None
        value = int(text)
        return value if -1 << _BITS[wire_type] - 1 <= value < 1 << _BITS[wire_type] - 1 else None
    pattern = _TIMES.get(wire_type)
    if pattern is None:
        return text
    if pattern.fullmatch(text) is None:
        return None
    try:
        return key_values(parse_text(pa.array([text]), wire_type))[0]
    except BadValue:
        return None
