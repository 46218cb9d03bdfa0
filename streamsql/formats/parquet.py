"""Parquet: a file as a whole. See https://parquet.apache.org/docs/file-format/."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyarrow import parquet

from streamsql.formats import casts
from streamsql.formats.columnar import WholeDecoder, decoded
from streamsql.formats.format import Decoded, Field, joined


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    """Parquet for these fields; only their columns are read. A file of more than `table_bytes_max`, unpacked, is refused."""

    fields: tuple[Field, ...]
    record_bytes_max: int = 256 << 20
    table_bytes_max: int = 1 << 30

    def decoder(self) -> WholeDecoder:
        return WholeDecoder(self._decoded, self.record_bytes_max)

    def decode(self, data: bytes) -> Decoded:
        decoder = self.decoder()
        return joined(decoder.feed(data) + decoder.finish(), casts.empty_rows(self.fields))

    def _decoded(self, data: bytes) -> Decoded:
        return decoded(self._table, data, self.fields, "Parquet")

    def _table(self, data: bytes) -> pa.Table:
        file = parquet.ParquetFile(pa.BufferReader(data))
        metadata = file.metadata
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if size > self.table_bytes_max:
            raise ValueError(f"more than {self.table_bytes_max} bytes of rows")
        wanted = {f.name for f in self.fields}
        table = file.read(columns=[n for n in file.schema_arrow.names if n in wanted], use_threads=False)
        if table.num_rows * max(table.num_columns, 1) > self.table_bytes_max:  # runs of one value take no bytes
            raise ValueError(f"more than {self.table_bytes_max} values")
        table.validate(full=True)
        return table

    def encode(self, table: pa.Table) -> bytes:
        """Write rows as one file."""
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink)
        return bytes(sink.getvalue())
