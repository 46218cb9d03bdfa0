"""Arrow IPC: the stream format (``application/vnd.apache.arrow.stream``), and the file format.

See https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyarrow import ipc

from streamsql.formats import casts
from streamsql.formats.columnar import WholeDecoder, decoded
from streamsql.formats.format import Decoded, Field, joined

_FILE_MAGIC = b"ARROW1"


@dataclass(frozen=True, slots=True)
class ArrowIpcFormat:
    """Arrow IPC for these fields. What the bytes hold may not take more than `table_bytes_max` in memory."""

    fields: tuple[Field, ...]
    record_bytes_max: int = 256 << 20
    table_bytes_max: int = 1 << 30

    def decoder(self) -> WholeDecoder:
        return WholeDecoder(self._decoded, self.record_bytes_max)

    def decode(self, data: bytes) -> Decoded:
        decoder = self.decoder()
        return joined(decoder.feed(data) + decoder.finish(), casts.empty_rows(self.fields))

    def _decoded(self, data: bytes) -> Decoded:
        return decoded(self._table, data, self.fields, "Arrow IPC")

    def _table(self, data: bytes) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        size = 0
        if data.startswith(_FILE_MAGIC):
            file = ipc.open_file(pa.BufferReader(data))
            reader = (file.get_batch(i) for i in range(file.num_record_batches))
            schema = file.schema
        else:
            stream = ipc.open_stream(pa.BufferReader(data))
            reader, schema = iter(stream), stream.schema
        for batch in reader:
            batch.validate(full=True)  # offsets of foreign bytes may point anywhere
            size += batch.nbytes
            if size > self.table_bytes_max:
                raise ValueError(f"more than {self.table_bytes_max} bytes of rows")
            batches.append(batch)
        return pa.Table.from_batches(batches, schema)

    def encode(self, table: pa.Table) -> bytes:
        """Write rows in the stream format."""
        sink = pa.BufferOutputStream()
        with ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())
