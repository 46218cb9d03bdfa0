r"""COPY TO STDOUT: canonical Arrow batches to CopyData messages, one a row, as PostgreSQL sends them.

Encoding goes by column. Each column is written by its codec, escaped or quoted where any of its values must be (a search of
the column's bytes tells), and two Arrow kernels join columns to lines and lines to messages. The binary format is
that of DataRow behind another first byte. Cost: 0.1 us a row, and what the columns' codecs take.

Drivers take each message for one row (psycopg's ``rows()``), so rows are not sent together. See `copyto.c` in PostgreSQL and
https://www.postgresql.org/docs/15/sql-copy.html.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.types import WireType
from streamsql.pgwire.copy_options import ALL_COLUMNS, CopyOptions
from streamsql.pgwire.messages import copy_data
from streamsql.pgwire.values import UTC, codec_of, encode_rows
from streamsql.pgwire.values.column import binary_of_fixed, strings_of

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_BINARY_HEAD = SIGNATURE + struct.pack(">II", 0, 0)  # no flags, no extension
_BINARY_TAIL = copy_data(struct.pack(">h", -1))
_COPY_DATA_KIND = ord("d")
# Arrow's binary arrays count in 32 bits, and escaping may make a column four times as long
_BATCH_BYTES_MAX = 1 << 28
# the characters that have a letter of their own behind the backslash in the text format
_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
# types whose text holds digits, upper-case letters and these marks at most: nothing that is ever escaped but the delimiter
_PLAIN = frozenset(
    {"bool", "date", "float4", "float8", "int2", "int4", "int8", "interval", "numeric", "oid", "time", "timestamp",
     "timestamptz", "uuid", "xid"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CopiedColumn:
    """One column of what is copied."""

    name: str
    type: WireType


class CopyEncoder:
    """Writes the rows of one COPY. `head`, then `rows` of each batch, then `tail`."""

    def __init__(self, columns: Sequence[CopiedColumn], options: CopyOptions, zone: str = UTC) -> None:
        self._zone = zone
        self._columns = tuple(columns)
        self._options = options
        self._types = [column.type for column in columns]
        self.is_binary = options.format == "binary"
        self._begun = not self.is_binary

    @property
    def formats(self) -> list[int]:
        """The format code of each column."""
        return [int(self.is_binary)] * len(self._columns)

    def head(self) -> bytes:
        """Give what comes before the rows: the line of names, if it is asked for."""
        if self._options.header == "none":
            return b""
        names = [self._named(column.name) for column in self._columns]
        return copy_data(self._options.delimiter.encode().join(names) + b"\n")

    def rows(self, batch: pa.RecordBatch) -> memoryview:
        """Give the messages of a batch's rows. Raises what `values.encode_rows` raises."""
        if not batch.num_rows:
            return memoryview(b"")
        if not self.is_binary:
            if batch.nbytes > _BATCH_BYTES_MAX and batch.num_rows > 1:
                half = batch.num_rows // 2
                return memoryview(bytes(self.rows(batch.slice(0, half))) + bytes(self.rows(batch.slice(half))))
            return self._lines(batch)
        if self._begun:
            return encode_rows(batch, self._types, self.formats, _COPY_DATA_KIND)
        self._begun = True  # as in PostgreSQL the signature comes in the first row's message
        first = encode_rows(batch.slice(0, 1), self._types, self.formats, _COPY_DATA_KIND)
        rest = encode_rows(batch.slice(1), self._types, self.formats, _COPY_DATA_KIND)
        return memoryview(copy_data(_BINARY_HEAD + bytes(first[5:])) + bytes(rest))

    def tail(self) -> bytes:
        """Give what comes behind the rows."""
        if not self.is_binary:
            return b""
        return _BINARY_TAIL if self._begun else copy_data(_BINARY_HEAD + struct.pack(">h", -1))

    def _lines(self, batch: pa.RecordBatch) -> memoryview:
        fields = [self._fields(array, index) for index, array in enumerate(batch.columns)]
        lines = pc.binary_join_element_wise(*fields, self._options.delimiter.encode()) if len(fields) > 1 else fields[0]
        lengths = np.asarray(pc.binary_length(lines))
        heads = np.empty(len(lengths), [("kind", "u1"), ("length", ">i4")])
        heads["kind"] = _COPY_DATA_KIND
        heads["length"] = lengths + 5  # itself and the newline
        _, _, data = pc.binary_join_element_wise(binary_of_fixed(heads), lines, b"\n", b"").buffers()
        return memoryview(data)

    def _fields(self, array: pa.Array, index: int) -> pa.Array:
        """Give a column's fields as binary without nulls."""
        column = self._columns[index]
        piece = codec_of(column.type, self._zone).to_text(array)
        if isinstance(piece, np.ndarray) and not array.null_count and not self._may_need_marks(column):
            return binary_of_fixed(piece)
        texts = strings_of(piece, array)
        if self._options.format == "csv":
            texts = self._quoted(texts, column)
        elif self._may_need_marks(column):
            texts = self._escaped(texts)
        if array.null_count:
            texts = pc.if_else(array.is_null(), pa.scalar(self._options.null), texts)
        return texts.view(pa.binary())

    def _may_need_marks(self, column: CopiedColumn) -> bool:
        """Say whether a field of the column may have to be escaped or quoted."""
        usual = self._options.delimiter in ",;|\t" and column.type.name in _PLAIN
        if not usual or self._options.format == "text":
            return not usual
        null = self._options.null
        return bool(null) or self._forced(column) or self._options.quote != '"'

    def _escaped(self, texts: pa.Array) -> pa.Array:
        delimiter = self._options.delimiter
        if not _holds_any(texts, "\\", *_LETTERS, delimiter):
            return texts
        texts = pc.replace_substring(texts, "\\", "\\\\")
        for character in dict.fromkeys([*_LETTERS, delimiter]):
            # a delimiter that has a letter is written as that letter, too
            texts = pc.replace_substring(texts, character, "\\" + _LETTERS.get(character, character))
        return texts

    def _quoted(self, texts: pa.Array, column: CopiedColumn) -> pa.Array:
        options = self._options
        if self._forced(column):
            return self._between_quotes(texts)
        if not self._may_need_marks(column):
            return texts
        characters = (options.delimiter, options.quote, "\n", "\r")
        needed = pc.equal(texts, options.null)
        if _holds_any(texts, *characters):
            special = "".join(f"\\x{ord(c):02x}" for c in characters)
            needed = pc.or_(pc.match_substring_regex(texts, f"[{special}]"), needed)
        if len(self._columns) == 1:
            needed = pc.or_(needed, pc.equal(texts, "\\."))  # alone on its line it would end the data
        if not pc.any(needed).as_py():
            return texts
        return pc.if_else(needed, self._between_quotes(texts), texts)

    def _between_quotes(self, texts: pa.Array) -> pa.Array:
        quote, escape = self._options.quote, self._options.escape
        for character in dict.fromkeys([escape, quote]):
            texts = pc.replace_substring(texts, character, escape + character)
        return pc.binary_join_element_wise(quote, texts, quote, "")

    def _forced(self, column: CopiedColumn) -> bool:
        forced = self._options.force_quote
        return ALL_COLUMNS in forced or column.name in forced

    def _named(self, name: str) -> bytes:
        """Write a column's name in the line of names: quoted only where it must be, whatever FORCE_QUOTE says."""
        texts = pa.array([name])
        if self._options.format == "text":
            return str(self._escaped(texts)[0]).encode()
        special = {self._options.delimiter, self._options.quote, "\n", "\r"}
        odd = bool(special & set(name)) or (name == "\\." and len(self._columns) == 1) or name == self._options.null
        return (str(self._between_quotes(texts)[0]) if odd else name).encode()


def _holds_any(texts: pa.Array, *characters: str) -> bool:
    """Say whether any of these ASCII characters is in any of the texts: a search of their bytes, several times as fast."""
    if not len(texts):
        return False
    _, offset_buffer, data = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(texts) + 1, texts.offset * 4)
    start, end = int(offsets[0]), int(offsets[-1])
    held = data.slice(start, end - start).to_pybytes() if data is not None else b""
    return any(character.encode() in held for character in characters)
