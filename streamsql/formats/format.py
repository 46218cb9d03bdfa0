"""What a format is: bytes to Arrow columns of the wanted types and back, and what becomes of bytes that cannot be read.

    Format.decoder()         reads one sequence of bytes that comes in pieces: `feed`, then `finish`
    Format.decode(data)      the same for bytes that are all there
    Format.encode(table)     rows to bytes
    Format.infer(sample)     the columns that a sample of bytes seems to have

The rules: decoding never raises for what the bytes hold. A record that cannot be read is *rejected*: it is given back with
its position, the reason and its first bytes, and everything else goes on. Where the bytes are cut into pieces changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.formats.records import Records

REJECTED_SCHEMA = pa.schema([("position", pa.int64()), ("reason", pa.string()), ("bytes", pa.binary())])

# of a rejected record, that many bytes are kept
REJECTED_BYTES_MAX = 4_096
# bytes that are read at a time, unless one record is longer
BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """A column that rows are wanted to have: its name, its DuckDB type, and where formats with nesting find it."""

    name: str
    type: str
    not_null: bool = False
    path: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that lead to the value: the path, or the name alone."""
        return self.path or (self.name,)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows, with a column for each field, and the records that were not read (`REJECTED_SCHEMA`).

    `weights` (int8, one a row) is there where the format tells of rows that went (-1) as well as of those that came (+1).
    """

    rows: pa.Table
    rejected: pa.Table
    weights: pa.Array | None = None


class Decoder(Protocol):
    """Reads one sequence of bytes."""

    def feed(self, data: bytes) -> list[Decoded]:
        """Take a piece, cut anywhere; give what is complete. Raises ProgramLimitExceeded for a record that is too long."""
        ...

    def finish(self) -> list[Decoded]:
        """Say that the bytes have ended; give what is left."""
        ...


class Format(Protocol):
    """A way to write rows as bytes, for certain columns."""

    @property
    def fields(self) -> tuple[Field, ...]: ...
    def decoder(self) -> Decoder: ...
    def decode(self, data: bytes) -> Decoded: ...
    def encode(self, table: pa.Table) -> bytes: ...


def rejected(positions: Sequence[int], reasons: Sequence[str], records: Sequence[bytes]) -> pa.Table:
    """Make the table of rejected records, each cut to `REJECTED_BYTES_MAX`."""
    return pa.table(
        [
            pa.array(positions, pa.int64()),
            pa.array(reasons, pa.string()),
            pa.array([bytes(r[:REJECTED_BYTES_MAX]) for r in records], pa.binary()),
        ],
        schema=REJECTED_SCHEMA,
    )


NOTHING_REJECTED = REJECTED_SCHEMA.empty_table()


def joined(parts: Sequence[Decoded], empty: pa.Table) -> Decoded:
    """Put the parts of one sequence together, rejected records by position."""
    if not parts:
        return Decoded(empty, NOTHING_REJECTED)
    weights = [p.weights for p in parts if p.weights is not None]
    return Decoded(
        pa.concat_tables([p.rows for p in parts]),
        pa.concat_tables([p.rejected for p in parts]).sort_by("position"),
        pa.concat_arrays(weights) if weights else None,
    )


@dataclass(slots=True)
class BlockDecoder:
    """A decoder that gathers bytes to blocks of whole records. Subclasses know where records end, and read them."""

    record_bytes_max: int
    position: int = 0  # of the first byte that is gathered
    _pieces: list[bytes] = field(default_factory=list)
    _gathered: int = 0
    _wanted: int = BLOCK_BYTES

    def feed(self, data: bytes) -> list[Decoded]:
        found: list[Decoded] = []
        for start in range(0, len(data), BLOCK_BYTES):
            found += self._gather(data[start : start + BLOCK_BYTES])
        return found

    def _gather(self, data: bytes) -> list[Decoded]:
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered < self._wanted:
            return []
        whole = b"".join(self._pieces)
        end = self.last_end(whole)
        self._pieces = [whole[end:]]
        self._gathered = len(whole) - end
        # a record longer than a block is not searched again before it has doubled, so that the work stays linear
        self._wanted = max(BLOCK_BYTES, 2 * self._gathered)
        if self._gathered > self.record_bytes_max:
            raise self.too_long()
        return self._take(whole[:end])

    def finish(self) -> list[Decoded]:
        whole = b"".join(self._pieces)
        self._pieces, self._gathered = [], 0
        if len(whole) > max(self.record_bytes_max, BLOCK_BYTES) and not self.last_end(whole):
            raise self.too_long()
        return self._take(whole)

    def _take(self, block: bytes) -> list[Decoded]:
        if not block:
            return []
        start, self.position = self.position, self.position + len(block)
        return [self.read(block, start)]

    def too_long(self) -> Exception:
        """Make the error of a record that is longer than may be gathered."""
        from streamsql.base.errors import ProgramLimitExceeded

        return ProgramLimitExceeded(
            f"a record of more than {self.record_bytes_max} bytes",
            hint="record_bytes_max bounds the length of a record",
        )

    def last_end(self, data: bytes) -> int:
        """Give the position after the last record that is complete, 0 if none is."""
        raise NotImplementedError

    def read(self, block: bytes, start: int) -> Decoded:
        """Read the records of a block that begins at byte `start` of the sequence."""
        raise NotImplementedError


class RecordDecoder(Protocol):
    """A decoder that can also be given records that somebody else has cut, each for itself (`connectors.messages`)."""

    # of each row that was read last, where its record begins
    positions: npt.NDArray[np.int64]

    def read_records(self, records: Records, start: int) -> Decoded:
        """Read records of a block that begins at byte `start`; none is empty, line ends may be in them."""
        ...
