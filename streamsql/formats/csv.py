"""CSV: RFC 4180, as COPY reads it (`pgwire.copy_records`): an empty field is NULL, a quoted empty one is the empty string.

With a header, which is the rule, columns are found by their names, in any order; those that no field has are left, fields that
the header does not name are NULL. Without one, columns are the fields in their order. A record of more or fewer fields than
that is rejected. Values are read as in JSON (`casts`); lists, structs and maps are written as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from streamsql.base.errors import StreamSQLError
from streamsql.formats import casts
from streamsql.formats.casts import text_literal
from streamsql.formats.format import NOTHING_REJECTED, BlockDecoder, Decoded, Field, joined, rejected
from streamsql.formats.records import BYTE_ORDER_MARK, Positions, Records, not_utf8, without_empty
from streamsql.pgwire.copy_options import CopyOptions
from streamsql.pgwire.copy_records import CsvRecords

_QUOTE = ord('"')


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """CSV for these fields."""

    fields: tuple[Field, ...]
    header: bool = True
    delimiter: str = ","
    times: str = "auto"
    record_bytes_max: int = 64 << 20

    def __post_init__(self) -> None:
        assert len(self.delimiter) == 1, self.delimiter

    def decoder(self) -> CsvDecoder:
        return CsvDecoder(self.record_bytes_max, format=self)

    def decode(self, data: bytes) -> Decoded:
        decoder = self.decoder()
        return joined(decoder.feed(data) + decoder.finish(), casts.empty_rows(self.fields))

    def encode(self, table: pa.Table) -> bytes:
        """Write rows, a header first."""
        head = self.delimiter.join(self._quoted(f.name) for f in self.fields) + "\n" if self.header else ""
        return head.encode() + self.encode_rows(table)

    def _quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"' if any(c in name for c in f'"\r\n{self.delimiter}') else name

    def encode_rows(self, table: pa.Table) -> bytes:
        """Write rows without a header."""
        return b"".join(self.lines(table, "\n").cast(pa.large_binary()).to_pylist())

    def lines(self, table: pa.Table, end: str = "") -> pa.Array:
        """Write each row as a record, with that end."""
        if not table.num_rows:
            return pa.array([], pa.string())
        named = table.rename_columns([f"c{i}" for i in range(table.num_columns)])
        marks = text_literal(f"[{chr(34)}\\r\\n{'' if self.delimiter == chr(34) else chr(92) + self.delimiter}]")
        items = []
        for index, column in enumerate(self.fields):
            text = casts.to_text(f"c{index}", column.type)
            quoted = f"'\"' || replace({text}, '\"', '\"\"') || '\"'"
            needs_quotes = f"{text} = '' OR regexp_matches({text}, {marks})"
            items.append(f"coalesce(CASE WHEN {needs_quotes} THEN {quoted} ELSE {text} END, '')")
        line = f" || {text_literal(self.delimiter)} || ".join(items)
        made = casts.query(f"SELECT {line} || {text_literal(end)} AS line FROM __rows", {"__rows": named})
        return made.column("line").combine_chunks()


@dataclass(slots=True)
class CsvDecoder(BlockDecoder):
    """Reads one sequence of CSV records. `columns` are the header's, once it has been read."""

    format: CsvFormat = field(kw_only=True)
    columns: list[str] | None = None
    reading: casts.Reading | None = None
    # of each row that was read last, where its record begins
    positions: Positions = field(default_factory=lambda: np.zeros(0, np.int64))
    _records: CsvRecords = field(init=False)

    def __post_init__(self) -> None:
        self._records = CsvRecords(CopyOptions(format="csv", delimiter=self.format.delimiter, null=""))
        if not self.format.header:
            self._name_columns([f.name for f in self.format.fields])

    def last_end(self, data: bytes) -> int:
        return self._records.last_end(data)

    def read(self, block: bytes, start: int) -> Decoded:
        if start == 0 and block.startswith(BYTE_ORDER_MARK):
            block, start = block[3:], 3
        ends = self._records.ends(block).astype(np.int64)
        if not len(ends) or ends[-1] != len(block) - 1:
            ends = np.append(ends, len(block))
        return self.read_records(without_empty(block, np.concatenate(([0], ends[:-1] + 1)), ends), start)

    def read_records(self, records: Records, start: int) -> Decoded:
        """Read records that have been cut already: no quote is open at the end of one, no line ends outside of quotes."""
        parts: list[pa.Table] = []
        bad = not_utf8(records)
        if bad is not None:
            parts.append(_set_aside(records.filter(bad), start, ["invalid UTF-8"] * int(bad.sum())))
            records = records.filter(~bad)
        if self.columns is None and len(records):
            parts.append(self._read_header(records, start))
            records = records.filter(np.arange(len(records)) > 0)
        rows, said = self._rows(records, start)
        return Decoded(rows, pa.concat_tables([*parts, said, NOTHING_REJECTED]).sort_by("position"))

    def _read_header(self, records: Records, start: int) -> pa.Table:
        try:
            names = [name or "" for name in self._records.fields(records.bytes_of(0))]
        except StreamSQLError as error:
            names = []
            reason = error.message
        else:
            reason = "the header names none of the columns"
        self._name_columns(names)
        if {f.name for f in self.format.fields}.isdisjoint(names):
            return _set_aside(records.filter(np.arange(len(records)) == 0), start, [reason])
        return NOTHING_REJECTED

    def _name_columns(self, names: list[str]) -> None:
        self.columns = names
        sources = {name: f"c{index}" for index, name in reversed([*enumerate(names)])}  # of two, the first
        reads = []
        for wanted in self.format.fields:
            source = sources.get(wanted.name, "CAST(NULL AS VARCHAR)")
            if wanted.type == "JSON":
                value = f"CAST(TRY_CAST({source} AS JSON) AS VARCHAR)"
                reads.append(casts.Read(source, value, value))
            else:
                reads.append(casts.text_read(source, wanted, self.format.times))
        self.reading = casts.Reading(self.format.fields, reads, refuse_nul=True)

    def _rows(self, records: Records, start: int) -> tuple[pa.Table, pa.Table]:
        """Read records; give their rows and those that cannot be read."""
        empty = casts.empty_rows(self.format.fields)
        if not len(records):
            return empty, NOTHING_REJECTED
        assert self.columns is not None
        assert self.reading is not None
        counts = self._field_counts(records)
        wrong = counts != len(self.columns)
        reasons = pa.nulls(len(records), pa.string())
        if wrong.any():
            said = [f"expected {len(self.columns)} fields, found {n}" for n in counts[wrong].tolist()]
            reasons = pc.replace_with_mask(reasons, pa.array(wrong), pa.array(said, pa.string()))
        good = records.filter(~wrong)
        self.positions = good.starts + start
        rows = empty
        if len(good):
            texts, failed = self._texts(good)
            read, told = self.reading.run("__records", texts)
            told = pc.coalesce(failed, told)
            rows = read.rename_columns([f.name for f in self.format.fields])
            if told.null_count < len(told):
                rows, self.positions = rows.filter(told.is_null()), self.positions[np.asarray(told.is_null())]
            reasons = pc.replace_with_mask(reasons, pa.array(~wrong), told)
        kept = np.asarray(reasons.is_valid())
        return rows, _set_aside(records.filter(kept), start, reasons.drop_null().to_pylist())

    def _field_counts(self, records: Records) -> npt.NDArray[np.int64]:
        """Count the fields of each record: the delimiters outside of quotes, and one. Between records anything may stand."""
        octets = np.frombuffer(records.data, np.uint8)
        marks = np.flatnonzero(octets == ord(self.format.delimiter))
        if b'"' in records.data:
            quotes = np.flatnonzero(octets == _QUOTE)
            within = records.starts[np.maximum(np.searchsorted(records.starts, marks, side="right") - 1, 0)]
            marks = marks[(np.searchsorted(quotes, marks) - np.searchsorted(quotes, within)) % 2 == 0]
        found: npt.NDArray[np.int64] = (
            np.searchsorted(marks, records.stops) - np.searchsorted(marks, records.starts) + 1
        )
        return found

    def _texts(self, records: Records) -> tuple[pa.Table, pa.Array]:
        """Cut records of the right number of fields into columns of text; give with them what is wrong with a record."""
        assert self.columns is not None
        names = [f"c{i}" for i in range(len(self.columns))]
        ended = pc.binary_join_element_wise(records.exact(), *(pa.scalar(b, pa.large_binary()) for b in (b"\n", b"")))
        data = b"".join(ended.to_pylist()) if ended.offset else ended.buffers()[2].to_pybytes()
        nothing_wrong = pa.nulls(len(records), pa.string())
        if b"\0" not in data and self._records.is_plain(data, len(names)):
            try:
                made = csv.read_csv(
                    pa.BufferReader(data),
                    csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                    csv.ParseOptions(delimiter=self.format.delimiter, newlines_in_values=True, ignore_empty_lines=False),
                    csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True,
                        quoted_strings_can_be_null=False, check_utf8=False,
                    ),
                )  # fmt: skip
            except pa.ArrowInvalid:
                pass
            else:
                if made.num_rows == len(records):
                    return made, nothing_wrong
        return self._texts_by_python(records, names)

    def _texts_by_python(self, records: Records, names: list[str]) -> tuple[pa.Table, pa.Array]:
        """Read records that Arrow would read otherwise: quotes inside fields, carriage returns."""
        rows: list[list[str | None]] = []
        failed: list[str | None] = []
        for index in range(len(records)):
            try:
                found = self._records.fields(records.bytes_of(index))
                rows.append(found)
                failed.append(None if len(found) == len(names) else f"expected {len(names)} fields, found {len(found)}")
            except StreamSQLError as error:
                rows.append([])
                failed.append(error.message)
            if failed[-1] is not None:
                rows[-1] = [None] * len(names)
        columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
        return pa.table(columns, names=names), pa.array(failed, pa.string())


def _set_aside(records: Records, start: int, reasons: list[str]) -> pa.Table:
    return rejected((records.starts + start).tolist(), reasons, [records.bytes_of(i) for i in range(len(records))])
