"""Change envelopes in JSON: rows with weights.

Debezium's, one a line, with its ``schema`` and ``payload`` or without
(https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events):

    {"op": "c", "after": {"id": 1, "n": 5}, ...}                            +1 (1, 5)
    {"op": "u", "before": {"id": 1, "n": 5}, "after": {"id": 1, "n": 6}}    -1 (1, 5)  +1 (1, 6)
    {"op": "d", "before": {"id": 1, "n": 6}, "after": null}                 -1 (1, 6)

and flat ones (`flat`), as its "new record state extraction" writes them: the row with ``__deleted``, which says -1 where it is
true. Updates and deletes must tell the whole row before (``REPLICA IDENTITY FULL``): one that does not is rejected, and so is a
truncate. A line ``null`` (a tombstone) is no record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.formats import casts
from streamsql.formats.format import Decoded, Field, joined, rejected
from streamsql.formats.json import JsonDecoder, JsonFormat
from streamsql.formats.records import Records

_COMES = ["c", "r"]
_OPERATIONS = ["c", "r", "u", "d"]


@dataclass(frozen=True, slots=True)
class DebeziumFormat:
    """Change envelopes for these fields. `payload` says that each stands under the key ``payload`` beside its schema."""

    fields: tuple[Field, ...]
    payload: bool = False
    flat: bool = False
    times: str = "auto"
    record_bytes_max: int = 64 << 20

    def decoder(self) -> EnvelopeDecoder:
        head = ("payload",) if self.payload else ()
        marks: tuple[Field, ...]
        if self.flat:
            marks = (Field("__deleted", "BOOLEAN", path=(*head, "__deleted")),)
            wanted = tuple(replace(f, path=(*head, *f.keys)) for f in self.fields)
        else:
            marks = (
                Field("__op", "VARCHAR", path=(*head, "op")),
                Field("__before", "JSON", path=(*head, "before")),
                Field("__after", "JSON", path=(*head, "after")),
            )
            wanted = tuple(
                replace(f, name=f"{image}.{f.name}", not_null=False, path=(*head, image, *f.keys))
                for image in ("before", "after") for f in self.fields
            )  # fmt: skip
        under = JsonFormat((*marks, *wanted), times=self.times, record_bytes_max=self.record_bytes_max)
        return EnvelopeDecoder(self.record_bytes_max, format=under, envelope=self)

    def decode(self, data: bytes) -> Decoded:
        decoder = self.decoder()
        empty = Decoded(casts.empty_rows(self.fields), rejected([], [], []), pa.array([], pa.int8()))
        return joined([empty, *decoder.feed(data), *decoder.finish()], empty.rows)

    def encode(self, table: pa.Table) -> bytes:
        """Write rows that came, as inserts."""
        lines = JsonFormat(self.fields).encode(table).splitlines()
        head, tail = (b'{"payload":', b"}") if self.payload else (b"", b"")
        if self.flat:
            return b"".join(head + line + tail + b"\n" for line in lines)
        return b"".join(head + b'{"before":null,"after":' + line + b',"op":"c"}' + tail + b"\n" for line in lines)


@dataclass(slots=True)
class EnvelopeDecoder(JsonDecoder):
    """Reads envelopes as JSON, and takes the rows out of them."""

    envelope: DebeziumFormat = None  # type: ignore[assignment]  # always given

    def read_records(self, records: Records, start: int) -> Decoded:
        found = JsonDecoder.read_records(self, records, start)
        tombstones = pc.equal(found.rejected.column("bytes"), b"null")
        said = found.rejected.filter(pc.invert(tombstones))
        if self.envelope.flat:
            gone = found.rows.column("__deleted").combine_chunks().fill_null(False)
            weights = pc.if_else(gone, pa.scalar(-1, pa.int8()), pa.scalar(1, pa.int8()))
            return Decoded(found.rows.drop_columns(["__deleted"]), said, weights)
        return self._images(found.rows, said)

    def _images(self, rows: pa.Table, said: pa.Table) -> Decoded:
        operation = rows.column("__op").combine_chunks()
        reasons = self._reasons(rows, operation)
        wrong = np.asarray(reasons.is_valid())
        if wrong.any():
            shown = rows.filter(pa.array(wrong)).select(["__op", "__before", "__after"])
            told = JsonFormat(
                (Field("op", "VARCHAR"), Field("before", "JSON"), Field("after", "JSON"))
            ).encode(shown).splitlines()  # fmt: skip
            places = self.positions[wrong].tolist()
            said = pa.concat_tables([said, rejected(places, reasons.drop_null().to_pylist(), told)]).sort_by("position")
            rows, operation = rows.filter(pa.array(~wrong)), operation.filter(pa.array(~wrong))
            self.positions = self.positions[~wrong]
        fields = self.envelope.fields
        before, after = (
            rows.select([f"{image}.{f.name}" for f in fields]).rename_columns([f.name for f in fields])
            for image in ("before", "after")
        )
        goes = np.asarray(pc.is_in(operation, pa.array(["u", "d"])))
        comes = np.asarray(pc.is_in(operation, pa.array(["c", "r", "u"])))
        count = rows.num_rows
        places = np.column_stack((np.arange(count), np.arange(count) + count)).ravel()
        kept = np.column_stack((goes, comes)).ravel()
        weights = np.tile(np.array([-1, 1], np.int8), count)[kept]
        self.positions = np.repeat(self.positions, 2)[kept]
        return Decoded(
            pa.concat_tables([before, after]).take(pa.array(places[kept])), said, pa.array(weights, pa.int8())
        )

    def _reasons(self, rows: pa.Table, operation: pa.Array) -> pa.Array:
        """Say what is wrong with an envelope that is JSON and whose values can be read."""
        reasons = pa.nulls(rows.num_rows, pa.string())
        no_before, no_after = (rows.column(f"__{image}").combine_chunks().is_null() for image in ("before", "after"))
        needs_before, needs_after = (
            pc.is_in(operation, pa.array(["u", "d"])),
            pc.is_in(operation, pa.array([*_COMES, "u"])),
        )
        checks = [
            (pc.invert(pc.is_in(operation, pa.array(_OPERATIONS))), "not an operation on a row"),
            (pc.and_(needs_before, no_before), "the row before is missing: set REPLICA IDENTITY FULL"),
            (pc.and_(needs_after, no_after), "the row after is missing"),
        ]
        for field in self.envelope.fields:
            if field.not_null:
                for image, needs in (("before", needs_before), ("after", needs_after)):
                    missing = rows.column(f"{image}.{field.name}").combine_chunks().is_null()
                    checks.append((pc.and_(needs, missing), f'null value in column "{field.name}" of {image}'))
        for condition, reason in reversed(checks):
            reasons = pc.if_else(condition, pa.scalar(reason), reasons)
        return reasons
