"""Entries of field-value pairs to rows: each column is the field of its name, as text. All entries are read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from streamsql.connectors.message_bytes import that_are_text
from streamsql.connectors.messages import DecodedMessages
from streamsql.formats import casts
from streamsql.formats.format import REJECTED_SCHEMA, Field, rejected
from streamsql.sql.statements import ColumnDefinition


class FieldDecoder:
    """Reads the entries of one stream. A field that is missing is NULL; a field that has no column is left out."""

    def __init__(self, columns: Sequence[ColumnDefinition], times: str) -> None:
        self._included = [c for c in columns if c.include]
        values = [c for c in columns if not c.include]
        self._fields = [Field(c.name, c.type, (c.not_null or c.primary_key) and c.default is None) for c in values]
        self._names = [c.name.encode() for c in values]
        self._texts = [f for f in self._fields if f.type != "BLOB"]
        reads = [casts.text_read(f"t{i}", f, times) for i, f in enumerate(self._texts)]
        self._reading = casts.Reading(self._texts, reads, refuse_nul=True)

    def decode(
        self, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]], told: Mapping[str, pa.Array]
    ) -> DecodedMessages:
        """Read entries; `told` has for each included word a value an entry."""
        reasons: dict[int, str] = {}
        raw = {
            f.name: pa.array([fields.get(name) for _, fields in entries], pa.binary())
            for f, name in zip(self._fields, self._names, strict=True)
        }
        texts = [_text(raw[f.name], f.name, reasons) for f in self._texts]
        table = pa.table(
            [*texts, pa.nulls(len(entries), pa.bool_())], names=[*(f"t{i}" for i in range(len(texts))), "__entry"]
        )
        made, said = self._reading.run("__records", table)
        for index in np.flatnonzero(np.asarray(said.is_valid())).tolist():
            reasons.setdefault(index, said[index].as_py())
        by_name = {f.name: column for f, column in zip(self._texts, made.columns, strict=True)}
        columns = {f.name: by_name.get(f.name, raw[f.name]) for f in self._fields}
        for field in self._fields:
            if field.type == "BLOB" and field.not_null:
                for index in np.flatnonzero(np.asarray(raw[field.name].is_null())).tolist():
                    reasons.setdefault(index, f'null value in column "{field.name}" violates not-null constraint')
        for column in self._included:
            value = told[column.include]
            plain = column.type == "TIMESTAMP" and pa.types.is_timestamp(value.type)
            columns[column.name] = value.cast(pa.timestamp(value.type.unit)) if plain else value
        rows, messages = pa.table(columns), np.arange(len(entries))
        order = sorted(reasons)
        if not order:
            return DecodedMessages(rows, REJECTED_SCHEMA.empty_table(), messages)
        kept = np.ones(len(entries), np.bool_)
        kept[order] = False
        aside = rejected(order, [reasons[i] for i in order], [b""] * len(order))
        return DecodedMessages(rows.filter(pa.array(kept)), aside, messages[kept])


def _text(values: pa.Array, name: str, reasons: dict[int, str]) -> pa.Array:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return that_are_text(values, reasons, f'column "{name}": the field')
