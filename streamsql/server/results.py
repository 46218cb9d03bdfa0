"""What executing a statement gives: a tag, rows, or a request for COPY data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamsql.base.types import BOOL, INT8, TEXT, WireColumn, WireType, canonical_arrow, wire_column
from streamsql.pgwire.copy import CopyDecoder
from streamsql.pgwire.messages import FieldDescription, row_description


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column as the client is told of it; `cast` is the SQL type that brings DuckDB's column into canonical Arrow."""

    name: str
    type: WireType
    modifier: int = -1
    cast: str | None = None

    @staticmethod
    def of(name: str, duckdb_type: str) -> ResultColumn:
        shown: WireColumn = wire_column(duckdb_type)
        return ResultColumn(name, shown.type, shown.modifier, shown.cast)


def described(columns: Sequence[ResultColumn], formats: Sequence[int]) -> bytes:
    """Make the RowDescription of these columns."""
    return row_description(
        [
            FieldDescription(c.name, c.type.oid, c.type.size, c.modifier, f)
            for c, f in zip(columns, formats, strict=True)
        ]
    )


@dataclass(slots=True)
class Done:
    """The statement is executed; `deferred` where its rows are only durable once the transaction commits."""

    tag: str
    notices: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Rows:
    """Rows to be sent. A batch of None means: nothing more just now, send what there is."""

    columns: list[ResultColumn]
    batches: AsyncIterator[pa.RecordBatch | None]
    tag: str = "SELECT"
    live: bool = False
    limit: int | None = None


@dataclass(slots=True)
class CopyIn:
    """COPY FROM STDIN has begun: the client sends data for `decoder`, and `finish` takes the batches that it gives."""

    decoder: CopyDecoder
    relation: str
    column_names: tuple[str, ...]
    batches: list[pa.RecordBatch] = field(default_factory=list)
    row_count: int = 0


Outcome = Done | Rows | CopyIn


def notice(message: str, *, severity: str = "NOTICE", sqlstate: str = "00000", hint: str | None = None) -> dict[str, str]:
    """Make the fields of a NoticeResponse."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": message}
    return {**fields, "H": hint} if hint else fields


_PYTHON_TYPES = {str: TEXT, int: INT8, bool: BOOL}


def static_columns(*names: tuple[str, type]) -> list[ResultColumn]:
    """Make the columns of a result that Python makes."""
    return [ResultColumn(name, _PYTHON_TYPES[kind]) for name, kind in names]


def static_rows(columns: list[ResultColumn], rows: Sequence[Sequence[object]], tag: str) -> Rows:
    """Make a small result from Python values."""
    arrays = [
        pa.array([row[i] for row in rows], canonical_arrow(column.type)) for i, column in enumerate(columns)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(columns))])

    async def batches() -> AsyncIterator[pa.RecordBatch | None]:
        yield batch

    return Rows(columns, batches(), tag)
