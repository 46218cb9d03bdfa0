"""COPY FROM STDIN in the binary format: bytes, cut anywhere, to canonical Arrow batches.

Whole rows are found and read many at once (`copy_frames`). What does not fit in is read step by step, for the error's place.

See https://www.postgresql.org/docs/15/sql-copy.html, "Binary Format". Errors name the line (the row) and the column.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa

from streamsql.base.errors import BadCopyFormat, InvalidBinaryRepresentation, ProtocolViolation, StreamSQLError
from streamsql.base.limits import Limits, exceeded
from streamsql.base.types import canonical_arrow
from streamsql.pgwire.copy import CopyColumn
from streamsql.pgwire.copy_frames import COUNT, LENGTH, Found, Shape
from streamsql.pgwire.copy_out import SIGNATURE
from streamsql.pgwire.values import BadValue, codec_of, decode_binary
from streamsql.pgwire.values.column import Fixed

# so many are read at once, if they may: more find no place in the processor's caches, and the last ones are waited for
_BATCH_BYTES_MAX = 2 << 20
_HEAD_BYTES = len(SIGNATURE) + 8
_CRITICAL_FLAGS = 0xFFFF0000


class BinaryCopyDecoder:
    """Turns the bytes of one binary COPY into batches; `feed` and `finish` as in `copy.CopyDecoder`."""

    def __init__(self, columns: Sequence[CopyColumn], limits: Limits, table: str) -> None:
        assert columns, "COPY of no columns"
        self._columns = tuple(columns)
        self._limits = limits
        self._table = table
        self._schema = pa.schema([(c.name, canonical_arrow(c.type, c.modifier)) for c in columns])
        self._shape = Shape([_width(column) for column in columns])
        self._pieces: list[bytes] = []
        self._gathered = 0
        self.batch_bytes = min(limits.copy_batch_bytes_max, _BATCH_BYTES_MAX)
        self._wanted = self.batch_bytes
        self._head_read = self._ended = False
        self._rows = 0

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """Take a piece of the data, of any size."""
        if data:
            self._pieces.append(data)
            self._gathered += len(data)
        if self._gathered < self._wanted:
            return []
        batches = self._read(b"".join(self._pieces), last=False)
        if self._gathered > self._limits.message_bytes_max:
            raise exceeded(self._limits, "message_bytes_max", f"a COPY row of {self._gathered} bytes")
        # a row longer than a batch is not looked at again before it has doubled, so that the work stays linear
        self._wanted = max(self.batch_bytes, 2 * self._gathered)
        return batches

    def finish(self) -> list[pa.RecordBatch]:
        """Say that the data has ended."""
        return self._read(b"".join(self._pieces), last=True)

    def _read(self, data: bytes, *, last: bool) -> list[pa.RecordBatch]:
        at = 0 if self._head_read else self._head(data, last=last)
        if at is None:
            return []
        batches: list[pa.RecordBatch] = []
        if not self._ended:
            while True:
                found = self._shape.find(data, at)
                if found is not None:
                    batches.append(self._batch(found))
                    at += found.end
                if not self._shape.loosen(data, at):
                    break
            at = self._behind(data, at, last=last)
        if self._ended and at < len(data):
            raise BadCopyFormat("received copy data after EOF marker", context=self._context())
        self._pieces, self._gathered = [data[at:]], len(data) - at
        return batches

    def _head(self, data: bytes, *, last: bool) -> int | None:
        """Read the signature, flags and extension; None where more must come first."""
        if data[: len(SIGNATURE)] != SIGNATURE[: len(data)] or (last and len(data) < len(SIGNATURE)):
            raise BadCopyFormat("COPY file signature not recognized")
        if len(data) < _HEAD_BYTES:
            if last:
                missing = "flags" if len(data) < _HEAD_BYTES - 4 else "length"
                raise BadCopyFormat(f"invalid COPY file header (missing {missing})")
            self._keep(data)
            return None
        flags, extension = struct.unpack_from(">II", data, len(SIGNATURE))
        if flags & 1 << 16:
            raise BadCopyFormat("invalid COPY file header (WITH OIDS)")
        if flags & _CRITICAL_FLAGS:
            raise BadCopyFormat("unrecognized critical flags in COPY file header")
        if extension > self._limits.message_bytes_max:
            raise BadCopyFormat("invalid COPY file header (wrong length)")
        if len(data) < _HEAD_BYTES + extension:
            if last:
                raise BadCopyFormat("invalid COPY file header (wrong length)")
            self._keep(data)
            return None
        self._head_read = True
        return int(_HEAD_BYTES + extension)

    def _keep(self, data: bytes) -> None:
        self._pieces, self._gathered = [data], len(data)

    def _behind(self, data: bytes, at: int, *, last: bool) -> int:
        """Look at what stands behind the rows that were read: the end, part of a row, or something wrong."""
        if len(data) - at < COUNT.size:
            return len(data) if last else at  # PostgreSQL takes the end of the data for the trailer
        (count,) = COUNT.unpack_from(data, at)
        if count == -1:
            self._ended = True
            return at + COUNT.size
        if count != len(self._columns):
            raise self._error(
                BadCopyFormat(f"row field count is {count}, expected {len(self._columns)}"), line=self._rows + 1
            )
        position = at + COUNT.size
        for column in self._columns:
            if position + LENGTH.size > len(data):
                if last:
                    raise self._error(BadCopyFormat("unexpected EOF in COPY data"), column, self._rows + 1)
                break
            (length,) = LENGTH.unpack_from(data, position)
            if length < -1:
                raise self._error(BadCopyFormat("invalid field size"), column, self._rows + 1)
            position += LENGTH.size + max(length, 0)
            if position > len(data) and last:
                raise self._error(BadCopyFormat("unexpected EOF in COPY data"), column, self._rows + 1)
        return at

    def _batch(self, found: Found) -> pa.RecordBatch:
        arrays: list[pa.Array] = []
        failure: tuple[int, StreamSQLError, CopyColumn] | None = None
        for column, given in zip(self._columns, found.values, strict=True):
            # after a bad value only the rows before it matter
            values = given if failure is None else given.slice(0, failure[0])
            try:
                arrays.append(decode_binary(values, column.type, column.modifier))
            except BadValue as bad:
                failure = (bad.row, _reworded(bad.error, column, values, bad.row), column)
        if failure is not None:
            row, error, column = failure
            raise self._error(error, column, self._rows + row + 1)
        self._rows += found.count
        return pa.record_batch(arrays, schema=self._schema)

    def _context(self, line: int | None = None) -> str:
        return f"COPY {self._table}, line {self._rows + 1 if line is None else line}"

    def _error(
        self, error: StreamSQLError, column: CopyColumn | None = None, line: int | None = None
    ) -> StreamSQLError:
        error.context = self._context(line) + (f", column {column.name}" if column is not None else "")
        return error


def _width(column: CopyColumn) -> int:
    """Give the number of bytes that each value of a column has; -1 where it varies."""
    return column.type.size if codec_of(column.type).from_fixed is not None else -1


def _reworded(error: StreamSQLError, column: CopyColumn, values: Fixed | pa.Array, row: int) -> StreamSQLError:
    """Say of a value of a wrong length what PostgreSQL says of it here."""
    if isinstance(values, Fixed) or not isinstance(error, InvalidBinaryRepresentation) or column.type.size <= 0:
        return error
    length = len(values[row].as_py())
    if length == column.type.size:
        return error
    if length < column.type.size:
        return ProtocolViolation("insufficient data left in message", detail=error.detail)
    return InvalidBinaryRepresentation("incorrect binary data format", detail=error.detail)
