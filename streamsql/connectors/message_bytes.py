"""What a message says in bytes beside its payload: keys and headers as values, and a key as that of the row to delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamsql.connectors.joined import Payloads
from streamsql.connectors.schemas import key_decoder
from streamsql.formats import casts
from streamsql.formats.format import Field, RecordDecoder
from streamsql.formats.json import JsonFormat
from streamsql.formats.records import Records
from streamsql.sql.statements import ColumnDefinition


class BytesReader:
    """Reads keys or headers, which are bytes, as a column's type."""

    def __init__(self, column: ColumnDefinition, times: str) -> None:
        self._column = column
        field = Field(column.name, column.type)
        source = "__text"
        if column.type == "JSON":
            value = f"CAST(TRY_CAST({source} AS JSON) AS VARCHAR)"
            read = casts.Read(source, value, value)
        else:
            read = casts.text_read(source, field, times)
        self._reading = casts.Reading([field], [read], refuse_nul=True)

    def read(self, values: pa.Array, reasons: dict[int, str]) -> pa.Array:
        """Give a value for each, and note for which there is none."""
        if self._column.type == "BLOB":
            return values
        try:
            text = values.cast(pa.string())
        except pa.ArrowInvalid:
            text = that_are_text(values, reasons, f'column "{self._column.name}": {_word(self._column)}')
        rows, said = self._reading.run("__records", pa.table({"__text": text}))
        if said.null_count < len(said):
            wrong = np.flatnonzero(np.asarray(said.is_valid()))
            reasons.update(zip(wrong.tolist(), said.drop_null().to_pylist(), strict=True))
        return rows.column(0).combine_chunks()


def that_are_text(values: pa.Array, reasons: dict[int, str], what: str) -> pa.Array:
    """Give bytes as text, and NULL for those that are none, with the reason."""
    found: list[str | None] = []
    for index, value in enumerate(values.to_pylist()):
        try:
            found.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            found.append(None)
            reasons[index] = f"{what} is not UTF-8: declare it as BYTEA"
    return pa.array(found, pa.string())


def _word(column: ColumnDefinition) -> str:
    return column.include.partition(":")[0].upper()


class AvroKeys:
    """Reads keys that are Avro, whole, as a column's type."""

    def __init__(self, column: ColumnDefinition, options: Mapping[str, Any]) -> None:
        self._what = f'column "{column.name}": {_word(column)}'
        fields = (Field(column.name, column.type, path=("value",)),)
        self._decoder = key_decoder(options, fields, whole="value")

    def read(self, values: pa.Array, reasons: dict[int, str]) -> pa.Array:
        """Give a value for each, and note for which there is none."""
        there = np.flatnonzero(np.asarray(values.is_valid()))
        wrong: dict[int, str] = {}
        rows, read = _read_records(self._decoder, values.drop_null().to_pylist(), wrong)
        reasons.update((int(there[i]), f"{self._what}: {said}") for i, said in wrong.items())
        places = np.full(len(values), -1)
        places[there[read]] = np.arange(len(read))
        return rows.column(0).combine_chunks().take(pa.array(places, mask=places < 0))


def _read_records(
    decoder: RecordDecoder, given: Sequence[bytes], wrong: dict[int, str]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Give the rows of those that can be read, and which these are; `wrong` gets what is wrong with the others."""
    joined = Payloads.of(given)
    starts = joined.starts
    found = decoder.read_records(Records(joined.data, starts, starts + joined.lengths), 0)
    aside = np.searchsorted(starts, found.rejected.column("position").to_numpy())
    wrong.update(zip(aside.tolist(), found.rejected.column("reason").to_pylist(), strict=True))
    if not given:
        return found.rows, np.zeros(0, np.int64)
    return found.rows, np.searchsorted(starts, decoder.positions)


class KeyReader:
    """Reads of messages' keys the columns that name a row: a record with them (`json`, `avro`), or one's text (`raw`)."""

    def __init__(self, columns: Sequence[ColumnDefinition], options: Mapping[str, Any], record_bytes_max: int) -> None:
        self.names = tuple(c.name for c in columns)
        kind, times = options["key_format"], options["times"]
        self._text = BytesReader(columns[0], times) if kind == "raw" else None
        fields = tuple(Field(c.name, c.type, not_null=True) for c in columns)
        self._decoder: RecordDecoder = (
            key_decoder(options, fields, alone=columns[0].name if len(columns) == 1 else "") if kind == "avro"
            else JsonFormat(fields, times=times, record_bytes_max=record_bytes_max).decoder()
        )  # fmt: skip

    def read(self, keys: Sequence[bytes | None], reasons: dict[int, str]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        """Give a row for each key that can be read, and which key it is of; `reasons` gets what is wrong with the others."""
        there = np.flatnonzero([bool(key) for key in keys])
        reasons.update((i, "neither a payload nor a key") for i, key in enumerate(keys) if not key)
        given = [key for key in keys if key]
        wrong: dict[int, str] = {}
        if self._text is not None:
            values = self._text.read(pa.array(given, pa.binary()), wrong)
            reasons.update((int(there[i]), f"no payload, and in the key: {said}") for i, said in wrong.items())
            return pa.table({self.names[0]: values}), there
        rows, read = _read_records(self._decoder, given, wrong)
        reasons.update((int(there[i]), f"no payload, and in the key: {said}") for i, said in wrong.items())
        return rows, there[read]
