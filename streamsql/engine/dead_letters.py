"""Records that cannot be read, as rows of a stream: ``CREATE STREAM trades (...) WITH (..., rejected_into = 'bad_trades')``.

    CREATE STREAM bad_trades (partition TEXT, position BIGINT, reason TEXT, bytes BYTEA, rejected_at TIMESTAMPTZ)

They are in ``streamsql.rejected_rows`` as well, which keeps so many and no more. The rows belong to the epoch of the rows
around them: each is there once, whatever dies meanwhile. A sink of a view over the stream delivers them (a dead-letter topic).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, WrongObjectType
from streamsql.catalog.objects import Catalog, Stream, Table
from streamsql.engine import ingest

# the columns that the stream may have, whatever else it has, and the types that they may be of
COLUMNS = {
    "stream": ("VARCHAR",),
    "partition": ("VARCHAR",),
    "position": ("BIGINT",),
    "reason": ("VARCHAR",),
    "bytes": ("BLOB",),
    "rejected_at": ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
}


def check_target(catalog: Catalog, made: Stream | Table, position: int | None = None) -> None:
    """Check the stream that gets what cannot be read of a relation. Raises StreamSQLError."""
    target = catalog.called(made.rejected_into) or catalog.find(made.rejected_into, position)
    if target.name != made.rejected_into:
        raise FeatureNotSupported(
            f'"{target.bare}" was renamed: rejected records go by the first name', position=position
        )
    if not isinstance(target, Stream) or target.connector:
        raise WrongObjectType(
            f'"{target.bare}" is no stream without a connector, into which rejected records can be put',
            position=position,
        )
    known = [c for c in target.columns if c.type in COLUMNS.get(c.name, ())]
    other = next((c for c in target.columns if c not in known and (c.not_null or c.name in COLUMNS)), None)
    if known and other is None:
        return
    shape = ", ".join(f"{name} {types[0]}" for name, types in COLUMNS.items())
    what = f'column "{other.name}" of stream' if other is not None else "stream"
    raise InvalidParameterValue(
        f'{what} "{target.bare}" cannot take rejected records', hint=f"what they have: {shape}", position=position
    )


def users_of(catalog: Catalog, name: str) -> list[Stream | Table]:
    """List what puts rejected records into this stream."""
    return [o for o in catalog if isinstance(o, (Stream, Table)) and o.rejected_into == name]


def rows_of(
    made: Stream | Table, rejected: Sequence[tuple[str, pa.Table]], catalog: Catalog, now_us: int,
    cursor: duckdb.DuckDBPyConnection,
) -> Iterator[tuple[str, pa.Table]]:  # fmt: skip
    """Give the records of partitions (`formats.format.REJECTED_SCHEMA`) as rows of the stream that is to get them, if any."""
    found = [(partition, records) for partition, records in rejected if records.num_rows]
    if not made.rejected_into or not found:
        return
    target = catalog.relation(made.rejected_into)
    records = pa.concat_tables([records for _, records in found])
    count = records.num_rows
    partitions = np.repeat([partition for partition, _ in found], [some.num_rows for _, some in found])
    given = {
        "stream": pa.array([made.bare] * count, pa.string()),
        "partition": pa.array(partitions, pa.string()),
        **{name: records.column(name) for name in records.column_names},
        "rejected_at": pa.array([now_us] * count, pa.int64()).cast(pa.timestamp("us", "UTC")),
    }
    columns = [c for c in target.columns if c.name in given and c.type in COLUMNS[c.name]]
    rows = pa.table({c.name: given[c.name] for c in columns})
    yield target.name, ingest.conform(rows, columns, target, ingest.arrow_schema(target, cursor), cursor)
