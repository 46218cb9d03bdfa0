"""A file being read: blocks of rows, one after the other, each with the place in the file behind it.

A *place* counts bytes as they are once unpacked (lines), or row groups (Parquet) or record batches (Arrow IPC). Of the rows
from a place on, the n-th is always the same one, however much of the file was there when it was read. So a place and a
number of rows lead back to the same row.

What has been read has a *mark*: the hash of the file's first bytes and of the last ones before what was read. A file that
still begins so, and has the same bytes there, is the same file, and goes on behind them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import ipc, parquet

from streamsql.formats import columnar
from streamsql.formats.csv import CsvDecoder
from streamsql.formats.format import BlockDecoder, Field

CHUNK_BYTES = 4 << 20
HEAD_BYTES = 1024
TAIL_BYTES = 64
HEADER_BYTES = 1 << 16
_ARROW_MAGIC = b"ARROW1"
_UNPACKING = (OSError, pa.ArrowException)


@dataclass(slots=True)
class Block:
    """Rows that were read together, each one's number (of its first byte, or row) in the file, what could not be read,
    and the place behind them."""

    rows: pa.Table
    numbers: npt.NDArray[np.int64]
    rejected: pa.Table
    behind: int


class UnfinishedError(Exception):
    """The file ends in the middle of something, or cannot be read as it is now: it may be about to be finished."""


class Reading(Protocol):
    """An open file, from a place on."""

    place: int

    def read(self) -> Block | None:
        """Give the next rows, or None where there are no more now. Raises UnfinishedError, or StreamSQLError."""
        ...

    def rest(self) -> Block | None:
        """Give what is left behind the last line end, as the record that it is; None where there is nothing."""
        ...

    def waits(self) -> bool:
        """Tell whether something is left for `rest`."""
        ...

    def bytes_read(self, size: int) -> int:
        """Tell how much of a file of that size is read, about, for an estimate of the rest."""
        ...


@dataclass(slots=True)
class Exhausted:
    """A file of which no more is read."""

    place: int

    def read(self) -> Block | None:
        return None

    def rest(self) -> Block | None:
        return None

    def waits(self) -> bool:
        return False

    def bytes_read(self, size: int) -> int:
        return size


# ---- lines ----


@dataclass(slots=True)
class LineReading:
    """Lines (or CSV records) of a file, packed or not."""

    file: IO[bytes]
    codec: str | None
    decoder: BlockDecoder
    place: int
    self_ending: bool  # a record that is whole tells so by itself (JSON), without a line end
    _stream: Any = None
    _left: bytes = b""
    _wanted: int = CHUNK_BYTES

    def open(self) -> LineReading:
        """Go to the place. Raises UnfinishedError where a packed file does not reach it any more."""
        if self.codec is None:
            self._stream = self.file
        else:
            self.file.seek(0)
            self._stream = pa.CompressedInputStream(pa.PythonFile(self.file, mode="r"), self.codec)
        if self.place and isinstance(self.decoder, CsvDecoder) and self.decoder.columns is None:
            self._read_header()
        elif self.codec is not None:
            self._skip(self.place)
        if self.codec is None:
            self.file.seek(self.place)
        return self

    def _read_header(self) -> None:
        """Let the decoder see the first record again, which names the columns."""
        if self.codec is None:
            self.file.seek(0)
        head = b""
        while len(head) < self.place:
            piece = self._unpacked(min(HEADER_BYTES, self.place - len(head)))
            head += piece
            end = self.decoder.last_end(head)
            if end or not piece:
                self.decoder.read(head[:end], 0)
                break
        if self.codec is not None:
            self._skip(self.place - len(head))

    def _skip(self, count: int) -> None:
        while count:
            piece = self._unpacked(min(CHUNK_BYTES, count))
            if not piece:
                raise UnfinishedError("it holds less than what was read of it before")
            count -= len(piece)

    def _unpacked(self, count: int) -> bytes:
        try:
            return self._stream.read(count) or b""
        except _UNPACKING as error:
            if self.codec is None:
                raise
            raise UnfinishedError(str(error).partition("\n")[0]) from error

    def read(self) -> Block | None:
        while True:
            piece = self._unpacked(CHUNK_BYTES)
            self._left += piece
            if not self._left or (not piece and not self._ends_by_itself()):
                return None
            if len(self._left) >= self._wanted or not piece or len(piece) < CHUNK_BYTES:
                end = len(self._left) if not piece else self.decoder.last_end(self._left)
                # a record longer than a block is not searched again before it has doubled
                self._wanted = CHUNK_BYTES if end else 2 * len(self._left)
                if end:
                    return self._decoded(end)
                if len(self._left) > self.decoder.record_bytes_max:
                    raise self.decoder.too_long()

    def _ends_by_itself(self) -> bool:
        """Tell whether what is left is a whole JSON object: nothing that begins one is one."""
        if not self.self_ending or not self._left.rstrip().endswith(b"}"):
            return False
        try:
            return isinstance(json.loads(self._left), dict)
        except (ValueError, RecursionError):
            return False

    def bytes_read(self, size: int) -> int:
        return self.place if self.codec is None else int(self.file.tell())

    def waits(self) -> bool:
        return bool(self._left.strip())

    def rest(self) -> Block | None:
        return self._decoded(len(self._left)) if self._left else None

    def _decoded(self, end: int) -> Block:
        block, self._left = self._left[:end], self._left[end:]
        found = self.decoder.read(block, self.place)
        self.place += len(block)
        numbers = self.decoder.positions  # type: ignore[attr-defined]  # decoders of lines have them
        if not found.rows.num_rows:
            numbers = np.zeros(0, np.int64)
        return Block(found.rows, numbers, found.rejected, self.place)


# ---- tables ----


@dataclass(slots=True)
class TableReading:
    """A Parquet or Arrow file, or an Arrow stream: a group of rows at a time."""

    fields: tuple[Field, ...]
    place: int
    groups: int | None
    group: Callable[[int], pa.Table | None]
    count: Callable[[int], int]
    _before: int = field(default=-1)

    def read(self) -> Block | None:
        if self.groups is not None and self.place >= self.groups:
            return None
        if self._before < 0:
            self._before = sum(self.count(i) for i in range(self.place))
        try:
            table = self.group(self.place)
        except columnar.UNREADABLE as error:
            raise UnfinishedError(str(error).partition("\n")[0]) from error
        if table is None:
            return None
        found = columnar.typed(table, self.fields)
        said = found.rejected
        numbers = np.arange(table.num_rows, dtype=np.int64)
        if said.num_rows:
            places = said.column("position").to_numpy()
            numbers = np.delete(numbers, places)
            said = said.set_column(0, "position", pa.array(places + self._before))
        self.place += 1
        first, self._before = self._before, self._before + table.num_rows
        return Block(found.rows, numbers + first, said, self.place)

    def bytes_read(self, size: int) -> int:
        return size * self.place // self.groups if self.groups else 0

    def waits(self) -> bool:
        return False

    def rest(self) -> Block | None:
        return None


def _opened(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except columnar.UNREADABLE as error:
        raise UnfinishedError(str(error).partition("\n")[0]) from error


def parquet_reading(file: IO[bytes], fields: tuple[Field, ...], place: int) -> TableReading:
    """Read a Parquet file, of which there are only the columns that are wanted."""
    opened = _opened(lambda: parquet.ParquetFile(file, pre_buffer=False))
    wanted = {f.name for f in fields}
    names = [n for n in opened.schema_arrow.names if n in wanted]

    def group(index: int) -> pa.Table:
        if not names:  # none of the columns is there: rows of nulls
            count = opened.metadata.row_group(index).num_rows
            return pa.table({"": pa.nulls(count)})
        return opened.read_row_group(index, columns=names, use_threads=False)

    return TableReading(
        fields, place, opened.num_row_groups, group, lambda i: int(opened.metadata.row_group(i).num_rows)
    )


def arrow_reading(file: IO[bytes], fields: tuple[Field, ...], place: int) -> TableReading:
    """Read an Arrow file, or an Arrow stream, which may still be written."""
    file.seek(0)
    magic = file.read(len(_ARROW_MAGIC))
    file.seek(0)
    source = pa.PythonFile(file, mode="r") if not isinstance(file, pa.NativeFile) else file
    if magic == _ARROW_MAGIC:
        opened = _opened(lambda: ipc.open_file(source))
        return TableReading(
            fields,
            place,
            opened.num_record_batches,
            lambda i: pa.Table.from_batches([_valid(opened.get_batch(i))]),
            lambda i: int(opened.get_batch(i).num_rows),
        )
    stream = _opened(lambda: ipc.open_stream(source))
    counts = [_skipped_rows(stream) for _ in range(place)]

    def group(_: int) -> pa.Table | None:
        try:
            batch = stream.read_next_batch()
        except StopIteration:
            return None
        return pa.Table.from_batches([_valid(batch)])

    return TableReading(fields, place, None, group, lambda i: counts[i])


def _skipped_rows(stream: Any) -> int:
    try:
        return int(_opened(stream.read_next_batch).num_rows)
    except StopIteration:
        raise UnfinishedError("it holds less than what was read of it before") from None


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    batch.validate(full=True)  # offsets of foreign bytes may point anywhere
    return batch


# ---- the same file ----


def mark_of(file: IO[bytes], upto: int) -> str:
    """Give the mark of the first `upto` bytes as they lie in the file, which stays where it is read."""
    at = file.tell()
    file.seek(0)
    head = _exactly(file, min(HEAD_BYTES, upto))
    start = max(0, upto - TAIL_BYTES)
    file.seek(start)
    tail = _exactly(file, upto - start)
    file.seek(at)
    return hashlib.blake2b(head + b"/" + tail, digest_size=8).hexdigest()


def _exactly(file: IO[bytes], count: int) -> bytes:
    pieces = []
    while count and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
