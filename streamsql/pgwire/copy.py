r"""COPY FROM STDIN: text or CSV bytes, cut anywhere, to canonical Arrow batches.

Bytes are gathered up to `copy_batch_bytes_max`, cut after the last complete record, and read whole, in up to three tries:

1. Arrow's CSV reader converts the columns of the types that it reads as PostgreSQL does, `values.parse_text` the others.
2. If that fails, or a field holds a backslash escape, all columns are read as strings and `parse_text` reads them.
3. If the records are not what Arrow would see (`Records.is_plain`), or an error must be placed, Python cuts them.

An error names the first bad value, in the order of rows and then columns, wherever the bytes were cut, as PostgreSQL does:
``COPY trades, line 3, column price: "abc"``. Lines count from 1 over the whole COPY, the header and newlines inside
quotes included. After an error the decoder must not be used again.

See https://www.postgresql.org/docs/current/sql-copy.html.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from streamsql.base.errors import BadCopyFormat, StreamSQLError
from streamsql.base.limits import Limits, exceeded
from streamsql.base.types import WireType, canonical_arrow
from streamsql.pgwire.copy_options import CopyOptions, copy_options
from streamsql.pgwire.copy_records import cut, records_of, unescape
from streamsql.pgwire.values import BadValue, parse_text
from streamsql.pgwire.values.text import decode

__all__ = ["CopyColumn", "CopyDecoder", "CopyOptions", "copy_options"]

_SHOWN_BYTES_MAX = 100  # of a line or value, in an error's context; PostgreSQL's MAX_COPY_DATA_DISPLAY
_INTEGERS = frozenset({"int2", "int4", "int8"})
_FLOATS = frozenset({"float4", "float8"})
_STRINGS = frozenset({"text", "varchar", "bpchar", "unknown"})
# what Arrow's CSV reader reads as PostgreSQL does, or not at all
_DIRECT = _INTEGERS | _FLOATS | _STRINGS | {"bool", "date", "timestamp"}
_TRUE = ["t", "true", "yes", "y", "on", "1", "T", "TRUE", "True"]
_FALSE = ["f", "false", "no", "n", "off", "0", "F", "FALSE", "False"]


@dataclass(frozen=True, slots=True)
class CopyColumn:
    """One column that COPY fills, in the order of the fields; `modifier` as in `canonical_arrow`."""

    name: str
    type: WireType
    modifier: int = -1
    zone: str = "UTC"  # in which a timestamptz is read that names none


class CopyDecoder:
    """Turns the bytes of one COPY into batches.

    `feed` takes any piece and gives the batches that are complete; `finish` gives the rest. Both raise StreamSQLError.
    Field names and types of the batches are the columns' names and canonical Arrow types.
    """

    def __init__(self, columns: Sequence[CopyColumn], options: CopyOptions, limits: Limits, table: str) -> None:
        assert columns, "COPY of no columns"
        self._columns = tuple(columns)
        self._options = options
        self._limits = limits
        self._table = table
        self._records = records_of(options)
        self._schema = pa.schema([(c.name, canonical_arrow(c.type, c.modifier)) for c in columns])
        self._pieces: list[bytes] = []
        self._gathered = 0
        self.batch_bytes = limits.copy_batch_bytes_max
        self._wanted = self.batch_bytes
        self._lines = 0  # before the first byte of what is gathered
        self._header_due = options.header != "none"
        self._ended = False

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """Take a piece of the data, of any size."""
        if self._ended or not data:
            return []
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered < self._wanted:
            return []
        whole = b"".join(self._pieces)
        end = self._records.last_end(whole)
        if not end and len(whole) > self._limits.message_bytes_max:
            raise exceeded(self._limits, "message_bytes_max", f"a COPY row of {len(whole)} bytes")
        self._pieces = [whole[end:]]
        self._gathered = len(whole) - end
        # a record longer than a batch is not searched again before it has doubled, so that the work stays linear
        self._wanted = max(self.batch_bytes, 2 * self._gathered)
        return self._batches(whole[:end])

    def finish(self) -> list[pa.RecordBatch]:
        """Say that the data has ended; the last line need not end in a newline."""
        whole = b"".join(self._pieces)
        self._pieces, self._gathered = [], 0
        return self._batches(whole)

    def _batches(self, data: bytes) -> list[pa.RecordBatch]:
        if self._ended:
            return []
        marker = self._records.end_marker(data)
        if marker is not None:
            self._ended = True
            data = data[:marker]
        if self._header_due and data:
            data = self._without_header(data)
        if not data:
            return []
        batch = self._read(data)
        self._lines += data.count(b"\n")
        return [batch] if batch.num_rows else []

    def _without_header(self, data: bytes) -> bytes:
        self._header_due = False
        ends = self._records.ends(data)
        end = int(ends[0]) if len(ends) else len(data)
        if self._options.header == "match":
            self._match_header(data[:end].removesuffix(b"\r"))
        self._lines += data.count(b"\n", 0, end + 1)
        return data[end + 1 :]

    def _match_header(self, record: bytes) -> None:
        context = f"COPY {self._table}, line 1: {_shown(record)}"
        names = self._records.fields(record)
        if len(names) != len(self._columns):
            raise BadCopyFormat(
                f"wrong number of fields in header line: got {len(names)}, expected {len(self._columns)}",
                context=context,
            )
        for index, (name, column) in enumerate(zip(names, self._columns, strict=True)):
            if name != column.name:
                got = "null value" if name is None else f'"{name}"'
                raise BadCopyFormat(
                    f'column name mismatch in header line field {index + 1}: got {got}, expected "{column.name}"',
                    context=context,
                )

    # the three tries

    def _read(self, data: bytes) -> pa.RecordBatch:
        if b"\0" not in data and self._records.is_plain(data, len(self._columns)):
            escaped = self._options.format == "text" and data.count(b"\\") != data.count(b"\\N")
            if not escaped and not self._may_differ(data):
                try:
                    return self._read_direct(data)
                except (pa.ArrowInvalid, BadValue):
                    pass
            try:
                strings = self._read_strings(data)
            except pa.ArrowInvalid:
                pass
            else:
                return self._convert(strings, data)
        return self._read_in_python(data)

    def _may_differ(self, data: bytes) -> bool:
        """Say whether a number in the data may be one that Arrow reads otherwise than PostgreSQL."""
        kinds = {column.type.name for column in self._columns}
        if kinds & _INTEGERS and (_holds(data, b"0x") or _holds(data, b"0X")):
            return True  # Arrow reads 0xffffffff as -1
        # a number below the smallest is an error
        return bool(kinds & _FLOATS) and (_holds(data, b"e-") or _holds(data, b"E-"))

    def _read_direct(self, data: bytes) -> pa.RecordBatch:
        forced = {*self._options.force_null, *self._options.force_not_null}
        direct = [column.type.name in _DIRECT and column.name not in forced for column in self._columns]
        fields = zip(direct, self._schema, strict=True)
        table = self._arrow_csv(data, [field.type if is_direct else pa.string() for is_direct, field in fields])
        arrays: list[pa.Array] = []
        for index, column in enumerate(self._columns):
            values = _contiguous(table.column(index))
            if not direct[index]:
                values = self._with_nulls(values, column)
                values = parse_text(self._checked(values), column.type, column.modifier, column.zone)
            elif column.type.name in _FLOATS and pc.any(pc.is_inf(values)).as_py():
                raise pa.ArrowInvalid("infinity, or a number out of range")
            elif column.type.name in _STRINGS:
                self._checked(values)
            arrays.append(values)
        return pa.record_batch(arrays, schema=self._schema)

    def _checked(self, strings: pa.Array) -> pa.Array:
        r"""Refuse strings in which ``\N`` is not a NULL but a part, which must be unescaped."""
        if self._options.format == "text" and pc.any(pc.match_substring(strings, "\\")).as_py():
            raise pa.ArrowInvalid("an escape")
        return strings

    def _read_strings(self, data: bytes) -> list[pa.Array]:
        table = self._arrow_csv(data, [pa.string()] * len(self._columns))
        return [_contiguous(table.column(index)) for index in range(len(self._columns))]

    def _arrow_csv(self, data: bytes, column_types: list[pa.DataType]) -> pa.Table:
        """Read with Arrow; the columns go by number, since a table may call two of them alike in Arrow's eyes."""
        names = [str(index) for index in range(len(self._columns))]
        is_csv = self._options.format == "csv"
        quoted = is_csv and self._options.quote.encode() in data
        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            parse_options=csv.ParseOptions(
                delimiter=self._options.delimiter,
                quote_char=self._options.quote if quoted else False,
                double_quote=quoted,
                escape_char=False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict(zip(names, column_types, strict=True)),
                null_values=[self._options.null],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=_TRUE,
                false_values=_FALSE,
            ),
        )

    def _read_in_python(self, data: bytes) -> pa.RecordBatch:
        ends = self._records.ends(data)
        rows: list[list[str | None]] = []
        failure: StreamSQLError | None = None
        for record in cut(data, ends):
            try:
                fields = self._records.fields(record)
                failure = self._wrong_count(fields)
            except StreamSQLError as error:
                fields, failure = [], error
            if failure is not None:
                failure.context = f"COPY {self._table}, line {self._line(data, len(rows))}: {_shown(record)}"
                if len(fields) < len(self._columns):
                    # PostgreSQL reads the values that are there before it misses the next
                    rows.append([*fields, *[None] * (len(self._columns) - len(fields))])
                break
            rows.append(fields)
        columns = [pa.array([row[index] for row in rows], pa.string()) for index in range(len(self._columns))]
        batch = self._convert(columns, data, escaped=False)  # a bad value in a row before the failure comes first
        if failure is not None:
            raise failure
        return batch

    def _wrong_count(self, fields: list[str | None]) -> BadCopyFormat | None:
        if len(fields) < len(self._columns):
            return BadCopyFormat(f'missing data for column "{self._columns[len(fields)].name}"')
        if len(fields) > len(self._columns):
            return BadCopyFormat("extra data after last expected column")
        return None

    def _with_nulls(self, strings: pa.Array, column: CopyColumn) -> pa.Array:
        """Do what FORCE_NOT_NULL (no NULLs) and FORCE_NULL (NULLs in quotes, too) say of a column of a CSV."""
        options = self._options
        there = strings
        if column.name in options.force_not_null:
            there = pc.fill_null(there, options.null)
        if column.name in options.force_null:
            there = pc.if_else(pc.equal(strings, options.null), pa.scalar(None, pa.string()), there)
            if column.name in options.force_not_null:  # what was NULL before stays the text
                there = pc.if_else(strings.is_null(), pa.scalar(options.null), there)
        return there

    def _convert(self, strings: list[pa.Array], data: bytes, *, escaped: bool = True) -> pa.RecordBatch:
        """Read columns of strings, whose escapes are still to be resolved if `escaped`."""
        strings = [self._with_nulls(array, column) for array, column in zip(strings, self._columns, strict=True)]
        arrays: list[pa.Array] = []
        first: tuple[BadValue, int] | None = None
        for index, column in enumerate(self._columns):
            # after a bad value only the rows before it matter
            texts = strings[index] if first is None else strings[index].slice(0, first[0].row)
            try:
                arrays.append(_parsed(texts, column, escaped and self._options.format == "text"))
            except BadValue as bad:
                first = (bad, index)
        if first is not None:
            wrong, index = first
            value = cast(str, strings[index][wrong.row].as_py()).encode()
            shown = _shown(unescape(value) if escaped and self._options.format == "text" else value)
            place = f"COPY {self._table}, line {self._line(data, wrong.row)}, column {self._columns[index].name}"
            wrong.error.context = f"{place}: {shown}"
            raise wrong.error
        return pa.record_batch(arrays, schema=self._schema)

    def _line(self, data: bytes, row: int) -> int:
        """Give the line on which a record of `data` ends, over the whole COPY."""
        ends = self._records.ends(data)
        end = int(ends[row]) if row < len(ends) else len(data)
        return self._lines + data.count(b"\n", 0, end) + 1


def _holds(data: bytes, pair: bytes) -> bool:
    """Look for two bytes; looking for the rarer one first is ten times as fast where it is not there."""
    letter = pair.strip(b"0-")
    return letter in data and pair in data


def _contiguous(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _parsed(texts: pa.Array, column: CopyColumn, escaped: bool) -> pa.Array:
    if not escaped:
        return parse_text(texts, column.type, column.modifier, column.zone)
    try:
        return parse_text(_unescaped(texts), column.type, column.modifier, column.zone)
    except BadValue as bad:
        # an escape that is bad hides the values before it, which come first
        parse_text(_unescaped(texts.slice(0, bad.row)), column.type, column.modifier, column.zone)
        raise


def _unescaped(strings: pa.Array) -> pa.Array:
    """Resolve the backslash escapes of the values that have any."""
    escaped = pc.match_substring(strings, "\\")
    rows = np.flatnonzero(np.asarray(pc.fill_null(escaped, False)))
    if not len(rows):
        return strings
    return pc.replace_with_mask(
        strings,
        pc.fill_null(escaped, False),
        pa.array(_each(strings.take(pa.array(rows)), rows.tolist(), _unescape_text)),
    )


def _unescape_text(text: str) -> str:
    return decode(unescape(text.encode()))


def _each(strings: pa.Array, rows: list[int], change: Callable[[str], str]) -> list[str]:
    found: list[str] = []
    for row, text in zip(rows, strings.to_pylist(), strict=True):
        try:
            found.append(change(text))
        except StreamSQLError as error:
            raise BadValue(row, error) from None
    return found


def _shown(value: bytes) -> str:
    """Quote a line or a value for a context, cut as PostgreSQL does it."""
    text = value[:_SHOWN_BYTES_MAX].decode("utf-8", "ignore" if len(value) > _SHOWN_BYTES_MAX else "replace")
    return f'"{text}{"..." if len(value) > _SHOWN_BYTES_MAX else ""}"'
