r"""COPY data cut into records and fields: where records end, and what a field's bytes mean.

Two readers share this. `copy` finds the last record end of what has arrived, fast and on every piece; and it reads records
field by field here, in Python, where Arrow's CSV reader would see something else than PostgreSQL: quotes inside a field,
an ESCAPE that is not the QUOTE, an escaped delimiter, and data with an error whose place must be named.

Follows https://www.postgresql.org/docs/current/sql-copy.html, "File Formats", and `copyfromparse.c`. Lines may end in LF or
CRLF, mixed; a lone CR is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from streamsql.base.errors import BadCopyFormat
from streamsql.pgwire.copy_options import CopyOptions
from streamsql.pgwire.values.column import Numbers
from streamsql.pgwire.values.text import decode

_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.|\Z)", re.DOTALL)
_END_MARKER = re.compile(rb"(?:\A|\n)(\\\.)(?:\r?\n|\r?\Z)")


class Records(Protocol):
    """What the two formats know about records. `data` always begins where a record begins."""

    def end_marker(self, data: bytes) -> int | None:
        r"""Give where the line ``\.`` begins, which ends the data, if it is there."""
        ...

    def last_end(self, data: bytes) -> int:
        """Give the position after the last record that is complete, 0 if none is."""
        ...

    def ends(self, data: bytes) -> Numbers:
        """Give the positions of the newlines that end records."""
        ...

    def is_plain(self, data: bytes, column_count: int) -> bool:
        """Say whether Arrow's reader sees the same records and fields in this as PostgreSQL."""
        ...

    def fields(self, record: bytes) -> list[str | None]:
        """Read the fields of a record, given without its line end; NULL is None. Raises DataError."""
        ...


def records_of(options: CopyOptions) -> Records:
    """Give the reader of the format that the options name."""
    return CsvRecords(options) if options.format == "csv" else TextRecords(options)


def cut(data: bytes, ends: Numbers) -> Iterator[bytes]:
    """Give the records of complete data, without their line ends."""
    start = 0
    for end in ends.tolist():
        yield data[start:end].removesuffix(b"\r")
        start = end + 1
    if start < len(data):
        yield data[start:].removesuffix(b"\r")


def _newlines(data: bytes) -> Numbers:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))


def _has_lone_carriage_return(data: bytes) -> bool:
    return b"\r" in data and data.count(b"\r") != data.count(b"\r\n") + data.endswith(b"\r")


def _has_empty_line(data: bytes) -> bool:
    if data.startswith((b"\n", b"\r\n")) or (b"\r" in data and b"\n\r\n" in data):
        return True
    ends = np.frombuffer(data, dtype=np.uint8) == ord("\n")  # several times as fast as a search for the pair
    return bool((ends[1:] & ends[:-1]).any())


class TextRecords:
    r"""The text format: a newline ends a record unless a backslash stands before it, ``\.`` ends the data."""

    def __init__(self, options: CopyOptions) -> None:
        self._delimiter = options.delimiter.encode()
        self._null = options.null.encode()
        inside = re.escape(self._delimiter)
        self._field = re.compile(rb"((?:\\.|[^\\" + inside + rb"]|\\\Z)*+)(?:" + inside + rb"|\Z)", re.DOTALL)

    def end_marker(self, data: bytes) -> int | None:
        r"""Give where the line ``\.`` begins, if it is there."""
        if b"\\." not in data:
            return None
        match = _END_MARKER.search(data)
        return match.start(1) if match else None

    def last_end(self, data: bytes) -> int:
        """Skip back over newlines that are escaped."""
        position = data.rfind(b"\n")
        while position > 0 and data[position - 1] == ord("\\") and _is_escaped(data, position):
            position = data.rfind(b"\n", 0, position)
        return position + 1

    def ends(self, data: bytes) -> Numbers:
        """Find the newlines, without those that are escaped."""
        if b"\\\n" in data:
            data = re.sub(rb"\\.", b"..", data, flags=re.DOTALL)
        return _newlines(data)

    def is_plain(self, data: bytes, column_count: int) -> bool:
        """Refuse what an escaped delimiter or newline, a lone CR, or an empty line for several columns would hide."""
        return not (
            b"\\" + self._delimiter in data
            or b"\\\n" in data
            or b"\\\r" in data
            or _has_lone_carriage_return(data)
            or (column_count > 1 and _has_empty_line(data))
        )

    def fields(self, record: bytes) -> list[str | None]:
        """Split at delimiters that are not escaped, then resolve escapes."""
        if b"\r" in record.replace(b"\\\r", b""):
            raise BadCopyFormat("literal carriage return found in data", hint='Use "\\r" to represent carriage return.')
        return [None if raw == self._null else decode(unescape(raw)) for raw in _split(self._field, record)]


class CsvRecords:
    """The CSV format: a newline ends a record unless it is quoted. A quote may begin and end anywhere in a field."""

    def __init__(self, options: CopyOptions) -> None:
        self._quote = options.quote.encode()
        self._escape = options.escape.encode()
        self._delimiter = options.delimiter.encode()
        self._null = options.null
        quote, escape, delimiter = (re.escape(x) for x in (self._quote, self._escape, self._delimiter))
        section = quote + rb"((?:" + escape + rb"[" + quote + escape + rb"]|[^" + quote + rb"])*+)" + quote
        self._section = re.compile(section, re.DOTALL)
        self._open_section = re.compile(section + rb"?", re.DOTALL)
        unnamed = section.replace(b"((?:", b"(?:(?:", 1)
        self._field = re.compile(
            rb"((?:" + unnamed + rb"|[^" + quote + delimiter + rb"])*+)(?:" + delimiter + rb"|\Z)", re.DOTALL
        )
        self._unescape = re.compile(escape + rb"([" + quote + escape + rb"])")

    def end_marker(self, data: bytes) -> int | None:
        r"""Give where the line ``\.`` begins: psql before version 18 sends it in CSV, too, and PostgreSQL takes it."""
        if b"\\." not in data:
            return None
        begins: frozenset[int] | None = None
        for match in _END_MARKER.finditer(data):
            start = match.start(1)
            begins = begins if begins is not None else frozenset((self.ends(data) + 1).tolist())
            if start == 0 or start in begins:
                return start
        return None

    def last_end(self, data: bytes) -> int:
        """Go back from the last newline to the first one with an even number of quotes before it."""
        if self._escape != self._quote:
            ends = self.ends(data)
            return int(ends[-1]) + 1 if len(ends) else 0
        position = data.rfind(b"\n")
        quotes = data.count(self._quote, 0, max(position, 0))
        while position >= 0 and quotes % 2:
            previous = data.rfind(b"\n", 0, position)
            quotes -= data.count(self._quote, max(previous, 0), position)
            position = previous
        return position + 1

    def ends(self, data: bytes) -> Numbers:
        """Find the newlines outside quotes."""
        if self._quote not in data:
            return _newlines(data)
        return _newlines(self._open_section.sub(lambda match: b"." * len(match[0]), data))

    def is_plain(self, data: bytes, column_count: int) -> bool:
        """Refuse quotes inside fields, a lone CR, a separate ESCAPE, and an empty line for several columns."""
        if _has_lone_carriage_return(data) or (column_count > 1 and _has_empty_line(data)):
            return False
        if self._quote not in data:
            return True
        if self._escape != self._quote:
            return False
        return not self._has_odd_quotes(data)

    def _has_odd_quotes(self, data: bytes) -> bool:
        """Look at each quote's neighbours, all at once: opening ones are those with an even number of quotes before."""
        octets = np.frombuffer(data, np.uint8)
        positions = np.flatnonzero(octets == self._quote[0])
        if len(positions) % 2:
            return True
        padded = np.concatenate(([np.uint8(10)], octets, [np.uint8(10)]))
        before, after = padded[positions[0::2]], padded[positions[1::2] + 2]
        good_before = (before == self._delimiter[0]) | (before == 10) | (before == self._quote[0])
        good_after = (after == self._delimiter[0]) | (after == 10) | (after == 13) | (after == self._quote[0])
        return not (good_before.all() and good_after.all())

    def fields(self, record: bytes) -> list[str | None]:
        """Split at delimiters outside quotes; a field with any quote in it is not NULL."""
        outside = self._section.sub(b"", record)
        if self._quote in outside:
            raise BadCopyFormat("unterminated CSV quoted field")
        if b"\r" in outside:
            raise BadCopyFormat(
                "unquoted carriage return found in data",
                hint="Use quoted CSV field to represent carriage return.",
            )
        found: list[str | None] = []
        for raw in _split(self._field, record):
            if self._quote in raw:
                found.append(decode(self._section.sub(lambda match: self._unescape.sub(rb"\1", match[1]), raw)))
            else:
                text = decode(raw)
                found.append(None if text == self._null else text)
        return found


def _split(field: re.Pattern[bytes], record: bytes) -> list[bytes]:
    """Match fields from delimiter to delimiter; the last one ends with the record."""
    found: list[bytes] = []
    position = 0
    while True:
        match = field.match(record, position)
        assert match is not None, record
        found.append(match[1])
        position = match.end()
        if match.end() == match.end(1):  # no delimiter followed
            return found


def _is_escaped(data: bytes, position: int) -> bool:
    start = position
    while start > 0 and data[start - 1] == ord("\\"):
        start -= 1
    return (position - start) % 2 == 1


def unescape(raw: bytes) -> bytes:
    r"""Resolve the backslash escapes of the text format: ``\n`` and its like, ``\101``, ``\x41``, ```\`` before anything."""
    return _ESCAPE.sub(_escaped_byte, raw) if b"\\" in raw else raw


def _escaped_byte(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if escape[:1] == b"x" and len(escape) > 1:
        return bytes([int(escape[1:], 16)])
    if escape and escape[:1] in b"01234567":
        return bytes([int(escape, 8) & 0xFF])
    return _LETTERS.get(escape, escape)
