"""Records cut out of bytes: where each begins, and its text. No Python for each record, but for those that are no UTF-8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Positions = npt.NDArray[np.int64]

_NEWLINE = ord("\n")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Records:
    """Pieces of a block: piece i is `data[starts[i]:stops[i]]`, without line ends."""

    data: bytes
    starts: Positions
    stops: Positions

    def __len__(self) -> int:
        return len(self.starts)

    def filter(self, mask: npt.NDArray[np.bool_]) -> Records:
        return Records(self.data, self.starts[mask], self.stops[mask])

    def bytes_of(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.stops[index]]

    def first_bytes(self) -> npt.NDArray[np.uint8]:
        """Give the first byte of each piece; no piece may be empty."""
        return np.frombuffer(self.data, np.uint8)[self.starts]

    def binary(self) -> pa.Array:
        """Give the pieces as a binary array: without a copy where they follow each other but for what parts them.

        Each value then takes the bytes up to the next one with it: line ends, which formats must not mind.
        """
        if not len(self):
            return pa.array([], pa.large_binary())
        if (self.starts[1:] - self.stops[:-1] <= 2).all():
            offsets = np.append(self.starts, self.stops[-1])
            return pa.LargeBinaryArray.from_buffers(
                pa.large_binary(), len(self), [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
            )
        return self.exact()

    def exact(self) -> pa.Array:
        """Give the pieces as a binary array, without what parts them."""
        lengths = self.stops - self.starts
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        index = np.repeat(self.starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        packed = np.frombuffer(self.data, np.uint8)[index]
        return pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(self), [None, pa.py_buffer(offsets), pa.py_buffer(packed)]
        )

    def text(self) -> pa.Array:
        """Give the pieces, which are known to be UTF-8, as strings; line ends may follow."""
        return self.binary().view(pa.large_string())


def lines_of(data: bytes) -> Records:
    """Cut bytes into lines, by LF or CRLF. Empty lines are no records."""
    octets = np.frombuffer(data, np.uint8)
    stops = np.flatnonzero(octets == _NEWLINE).astype(np.int64)
    if not len(stops) or stops[-1] != len(data) - 1:
        stops = np.append(stops, len(data))
    return without_empty(data, np.concatenate(([0], stops[:-1] + 1)), stops)


def without_empty(data: bytes, starts: Positions, stops: Positions) -> Records:
    """Make records of pieces: a carriage return before a line end is not part of one, and empty ones are none."""
    if b"\r" in data:
        octets = np.frombuffer(data, np.uint8)
        stops = stops - ((stops > starts) & (octets[np.maximum(stops - 1, 0)] == ord("\r")))
    kept = stops > starts
    if not kept.all():
        starts, stops = starts[kept], stops[kept]
    return Records(data, starts, stops)


def not_utf8(records: Records) -> npt.NDArray[np.bool_] | None:
    """Tell which records are not UTF-8; None where all are. Costs a scan, and one more from each bad record to its end."""
    bad: list[int] = []
    data, position = records.data, 0
    if data.isascii():
        return None
    while position < len(data):
        try:
            str(memoryview(data)[position:], "utf-8")
            break
        except UnicodeDecodeError as error:
            at = position + error.start
            index = int(np.searchsorted(records.starts, at, side="right")) - 1
            if index >= 0 and at < records.stops[index]:
                bad.append(index)
                position = int(records.stops[index])
            else:
                position = at + 1
    if not bad:
        return None
    mask = np.zeros(len(records), np.bool_)
    mask[bad] = True
    return mask
