"""Raw text and bytes: one column, a record a line, or all bytes as one record."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from streamsql.formats import casts
from streamsql.formats.format import NOTHING_REJECTED, BlockDecoder, Decoded, Field, joined, rejected
from streamsql.formats.records import Positions, Records, lines_of, not_utf8

FRAMINGS = ("lines", "whole")


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Text (a VARCHAR field) or bytes (a BLOB field); `framing` is one of `FRAMINGS`. Empty lines are no records."""

    fields: tuple[Field, ...]
    framing: str = "lines"
    record_bytes_max: int = 64 << 20

    def __post_init__(self) -> None:
        assert len(self.fields) == 1, "raw records have one field"
        assert self.fields[0].type in {"VARCHAR", "BLOB"}, self.fields
        assert self.framing in FRAMINGS, self.framing

    def decoder(self) -> RawDecoder:
        return RawDecoder(self.record_bytes_max, format=self)

    def decode(self, data: bytes) -> Decoded:
        decoder = self.decoder()
        return joined(decoder.feed(data) + decoder.finish(), casts.empty_rows(self.fields))

    def encode(self, table: pa.Table) -> bytes:
        """Write the values one after the other, each ended by a line feed where lines frame them. NULL is nothing."""
        values = table.column(0).cast(pa.large_binary()).drop_null().to_pylist()
        return b"".join(v + b"\n" for v in values) if self.framing == "lines" else b"".join(values)


@dataclass(slots=True)
class RawDecoder(BlockDecoder):
    """Reads one sequence of raw records."""

    format: RawFormat = field(kw_only=True)
    # of each row that was read last, where its record begins
    positions: Positions = field(default_factory=lambda: np.zeros(0, np.int64))

    def last_end(self, data: bytes) -> int:
        return data.rfind(b"\n") + 1 if self.format.framing == "lines" else 0

    def read(self, block: bytes, start: int) -> Decoded:
        if self.format.framing == "lines":
            records = lines_of(block)
        else:
            records = Records(block, np.zeros(1, np.int64), np.array([len(block)], np.int64))
        return self.read_records(records, start)

    def read_records(self, records: Records, start: int) -> Decoded:
        """Read records that have been cut already; they may be empty."""
        said = NOTHING_REJECTED
        kind = pa.binary()
        if self.format.fields[0].type == "VARCHAR":
            kind = pa.string()
            records, said = _that_are_text(records, start)
        self.positions = records.starts + start
        values = records.exact().cast(pa.binary()).cast(kind)
        return Decoded(pa.table([values], names=[self.format.fields[0].name]), said)


def _that_are_text(records: Records, start: int) -> tuple[Records, pa.Table]:
    bad = not_utf8(records)
    wrong = np.zeros(len(records), np.bool_) if bad is None else bad
    reasons = np.where(wrong, "invalid UTF-8", "\\u0000 cannot be converted to text")
    if b"\0" in records.data:
        zeros = np.flatnonzero(np.frombuffer(records.data, np.uint8) == 0)
        wrong = wrong | (np.searchsorted(zeros, records.stops) > np.searchsorted(zeros, records.starts))
    if not wrong.any():
        return records, NOTHING_REJECTED
    gone = records.filter(wrong)
    said = rejected(
        (gone.starts + start).tolist(), reasons[wrong].tolist(), [gone.bytes_of(i) for i in range(len(gone))]
    )
    return records.filter(~wrong), said
