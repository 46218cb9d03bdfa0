"""What executing a statement gives: a tag, rows (also in the form of COPY), or a request for COPY data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamsql.base.errors import StreamSQLError
from streamsql.base.types import BOOL, DUCKDB_NAME, INT8, TEXT, WireColumn, WireType, canonical_arrow, wire_column
from streamsql.pgwire.copy import CopyDecoder
from streamsql.pgwire.copy_binary import BinaryCopyDecoder
from streamsql.pgwire.copy_out import CopyEncoder
from streamsql.pgwire.messages import FieldDescription, row_description
from streamsql.plan.catalog_functions import shown_as


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column as the client is told of it.

    `cast` is the SQL type that brings DuckDB's column into canonical Arrow, or else `shown` an expression, ``{}`` being the
    column's value.
    """

    name: str
    type: WireType
    modifier: int = -1
    cast: str | None = None
    shown: str | None = None

    @staticmethod
    def of(name: str, duckdb_type: str, *, exact: bool = False) -> ResultColumn:
        """Make the column of a DuckDB type; `exact` casts to it even where the type is canonical already."""
        shown: WireColumn = wire_column(duckdb_type)
        return ResultColumn(name, shown.type, shown.modifier, shown.cast or (duckdb_type if exact else None))

    @staticmethod
    def told(name: str, wire_type: WireType) -> ResultColumn:
        """Make a column of a type that DuckDB does not know."""
        shown = shown_as(wire_type)
        return ResultColumn(name, wire_type, cast=None if shown else _stored(wire_type), shown=shown)


def _stored(wire_type: WireType) -> str:
    """Name the DuckDB type that becomes the canonical Arrow form of a type that DuckDB does not know."""
    if wire_type.element is not None:
        return f"{_stored(wire_type.element)}[]"
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


@dataclass(slots=True)
class Rows:
    """Rows to be sent.

    `release` lets go of what the rows come from. It is called once, at the end of the rows or when nobody wants more, even
    if `batches` was never asked for any. `locate` gives an error of the rows its place in the client's text.
    """

    columns: list[ResultColumn]
    batches: Batches
    tag: str = "SELECT"
    live: bool = False
    limit: int | None = None
    release: Callable[[], Awaitable[object]] | None = None
    locate: Callable[[StreamSQLError], StreamSQLError] | None = None

    def tag_of(self, count: int) -> str:
        """Give the tag of CommandComplete after so many rows."""
        return f"{self.tag} {count}" if self.tag in {"SELECT", "SUBSCRIBE"} else self.tag


@dataclass(slots=True)
class CopyIn:
    """COPY FROM STDIN has begun: the client sends data for `decoder`, which gives `batches`.

    `where` is the SQL of a WHERE clause, over the rows once they have the relation's shape.
    """

    decoder: CopyDecoder | BinaryCopyDecoder
    relation: str
    column_names: tuple[str, ...]
    binary: bool = False
    where: str | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    row_count: int = 0


@dataclass(slots=True)
class CopyOut:
    """COPY TO STDOUT: rows that are sent as `encoder` writes them."""

    rows: Rows
    encoder: CopyEncoder


Outcome = Done | Rows | CopyIn | CopyOut


def notice(
    message: str, *, severity: str = "NOTICE", sqlstate: str = "00000", hint: str | None = None
) -> dict[str, str]:
    """Make the fields of a NoticeResponse."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": message}
    return {**fields, "H": hint} if hint else fields


_PYTHON_TYPES = {str: TEXT, int: INT8, bool: BOOL}


def static_columns(*names: tuple[str, type]) -> list[ResultColumn]:
    """Make the columns of a result that Python makes."""
    return [ResultColumn(name, _PYTHON_TYPES[kind]) for name, kind in names]


def static_rows(columns: list[ResultColumn], rows: Sequence[Sequence[object]], tag: str) -> Rows:
    """Make a small result from Python values."""
    arrays = [pa.array([row[i] for row in rows], canonical_arrow(c.type)) for i, c in enumerate(columns)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(columns))])

    async def batches() -> Batches:
        yield batch

    return Rows(columns, batches(), tag)
