"""What executing a statement gives: a tag, rows (also in the form of COPY), or a request for COPY data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.base.types import (
    BOOL,
    BPCHAR,
    DUCKDB_NAME,
    INT8,
    TEXT,
    WireColumn,
    WireType,
    canonical_arrow,
    duckdb_name,
    wire_column,
)
from streamsql.engine.joined import Joined
from streamsql.pgwire.copy import CopyDecoder
from streamsql.pgwire.copy_binary import BinaryCopyDecoder
from streamsql.pgwire.copy_out import CopyEncoder
from streamsql.pgwire.messages import FieldDescription, row_description
from streamsql.plan.catalog_functions import shown_as


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column as the client is told of it.

    `cast` is the SQL type that brings DuckDB's column into canonical Arrow, or else `shown` an expression, ``{}`` being the
    column's value. `exact` says that a column which has that type already is canonical.
    """

    name: str
    type: WireType
    modifier: int = -1
    cast: str | None = None
    shown: str | None = None
    exact: bool = False

    @staticmethod
    def of(name: str, duckdb_type: str, made: WireType | None = None, *, exact: bool = False) -> ResultColumn:
        """Make the column of a DuckDB type, and of one that a user has made where its values are of such.

        `exact` casts to it even where the type is canonical already.
        """
        shown: WireColumn = wire_column(duckdb_type)
        needless = exact and shown.cast is None
        return ResultColumn(
            name, made or shown.type, shown.modifier, duckdb_type if needless else shown.cast, exact=needless
        )

    @staticmethod
    def told(name: str, wire_type: WireType, modifier: int = -1) -> ResultColumn:
        """Make a column of a type that DuckDB does not know."""
        shown = shown_as(wire_type)
        if wire_type is BPCHAR and modifier >= 4:
            shown = f"rpad({{}}, {modifier - 4}, ' ')"  # it is stored without its spaces
        return ResultColumn(name, wire_type, modifier, cast=None if shown else _stored(wire_type), shown=shown)


def _stored(wire_type: WireType) -> str:
    """Name the DuckDB type that becomes the canonical Arrow form of a type that DuckDB does not know."""
    if wire_type.element is not None:
        return f"{_stored(wire_type.element)}[]"
    if wire_type.is_made:
        return duckdb_name(wire_type)
    return _STORED.get(wire_type.name, "VARCHAR")


_STORED = {**DUCKDB_NAME, "numeric": "DECIMAL(38,16)", "int2vector": "SMALLINT[]", "oidvector": "INTEGER[]"}


def described(columns: Sequence[ResultColumn], formats: Sequence[int]) -> bytes:
    """Make the RowDescription of these columns."""
    return row_description(
        [
            FieldDescription(c.name, c.type.oid, c.type.size, c.modifier, f)
            for c, f in zip(columns, formats, strict=True)
        ]
    )


# A batch of None means: nothing more just now, send what there is.
Batches = AsyncGenerator[pa.RecordBatch | None, None]


@dataclass(slots=True)
class Done:
    """The statement is executed."""

    tag: str
    notices: list[dict[str, str]] = field(default_factory=list)


class Wake(asyncio.Event):
    """Set when there may be more of a live result; `waiting` is set while its rows wait for that, and for nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()


@dataclass(slots=True)
class Rows:
    """Rows to be sent; those of a `live` result may never end. `binary` is what a BINARY cursor asks for.

    `release` lets go of what the rows come from. It is called once, at the end of the rows or when nobody wants more, even
    if `batches` was never asked for any. `locate` gives an error of the rows its place in the client's text. `shared` says that
    other sessions are given the same batches. `notices` are sent before the rows.
    """

    columns: list[ResultColumn]
    batches: Batches
    tag: str = "SELECT"
    live: bool = False
    wake: Wake | None = None
    limit: int | None = None
    binary: bool = False
    release: Callable[[], Awaitable[object]] | None = None
    locate: Callable[[StreamSQLError], StreamSQLError] | None = None
    shared: bool = False
    notices: list[dict[str, str]] = field(default_factory=list)

    def tag_of(self, count: int) -> str:
        """Give the tag of CommandComplete after so many rows."""
        return f"{self.tag} {count}" if self.tag in {"FETCH", "SELECT", "SUBSCRIBE"} else self.tag


class Cursor:
    """Takes rows in portions, as Execute with a row limit asks for them. `ended` once there are no more."""

    __slots__ = ("_rest", "_sent", "ended", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.ended = False
        self._sent = 0
        self._rest: pa.RecordBatch | None = None

    async def take(self, rows_max: int | None) -> pa.RecordBatch | None:
        """Give up to `rows_max` rows. None: no more just now, or none at all (`ended`)."""
        if self.ended:
            return None
        limit = self.rows.limit
        left = None if limit is None else limit - self._sent
        if left is not None and left <= 0:
            self.ended = True
            return None
        batch, self._rest = self._rest, None
        if batch is None:
            try:
                batch = await anext(self.rows.batches)
            except StopAsyncIteration:
                self.ended = True
                return None
            except StreamSQLError as error:
                if self.rows.locate is not None:
                    self.rows.locate(error)
                raise
            if batch is None:
                return None
        count = min(n for n in (batch.num_rows, rows_max, left) if n is not None)
        if count < batch.num_rows:
            self._rest = batch.slice(count)
            batch = batch.slice(0, count)
        self._sent += count
        return batch

    async def look_ahead(self) -> None:
        """Read the first rows already, so that what is wrong with them is told before anything is said of rows."""
        batch = await self.take(None)
        if batch is not None:
            self._rest, self._sent = batch, 0

    async def close(self) -> None:
        """Let go of what the rows come from."""
        self.ended = True
        try:
            await self.rows.batches.aclose()
        finally:
            release, self.rows.release = self.rows.release, None
            if release is not None:
                await release()


@dataclass(slots=True)
class CopyIn:
    """COPY FROM STDIN has begun: the client sends data for `decoder`, which gives `batches`.

    `where` is the SQL of a WHERE clause, over the rows once they have the relation's shape. `pieces` have come and are not
    decoded yet; `decoding` is what is, while more comes.
    """

    decoder: CopyDecoder | BinaryCopyDecoder
    relation: str
    column_names: tuple[str, ...]
    binary: bool = False
    where: str | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    joined: Joined = field(default_factory=Joined)
    row_count: int = 0
    pieces: list[bytes] = field(default_factory=list)
    byte_count: int = 0
    decoding: asyncio.Future[list[pa.RecordBatch]] | None = None


@dataclass(slots=True)
class CopyOut:
    """COPY TO STDOUT: rows that are sent as `encoder` writes them."""

    rows: Rows
    encoder: CopyEncoder


Outcome = Done | Rows | CopyIn | CopyOut


def notice(
    message: str,
    *,
    severity: str = "NOTICE",
    sqlstate: str = "00000",
    detail: str | None = None,
    hint: str | None = None,
) -> dict[str, str]:
    """Make the fields of a NoticeResponse."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": message}
    return fields | ({"D": detail} if detail else {}) | ({"H": hint} if hint else {})


_PYTHON_TYPES = {str: TEXT, int: INT8, bool: BOOL}


def static_columns(*names: tuple[str, type]) -> list[ResultColumn]:
    """Make the columns of a result that Python makes."""
    return [ResultColumn(name, _PYTHON_TYPES[kind]) for name, kind in names]


def static_rows(columns: list[ResultColumn], rows: Sequence[Sequence[object]], tag: str) -> Rows:
    """Make a small result from Python values."""
    arrays = [pa.array([row[i] for row in rows], canonical_arrow(c.type)) for i, c in enumerate(columns)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(columns))])
    return Rows(columns, only(batch), tag)


async def only(batch: pa.RecordBatch) -> Batches:
    """Give one batch and no more."""
    yield batch
