"""Changes as messages: what the sinks of brokers have in common.

`mode` says how a view's changes are told. ``append``: a message is a row; for views whose rows never go. ``upsert``: a row in
place of the one with its key; where it went, the key and ``"__deleted": true``. ``changelog``: every change, as
``{"epoch": 8, "weight": -1, "row": {...}}``. Without it, it is append where no row ever goes, else upsert where rows have a
key, else changelog.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidParameterValue, UndefinedColumn
from streamsql.catalog.objects import OutputColumn, nearest
from streamsql.connectors.registry import REGISTRY_OPTIONS
from streamsql.connectors.schemas import BINARY, Records, check_records, check_registry
from streamsql.connectors.settings import Option, one_of
from streamsql.connectors.sink import Delivery, Shape
from streamsql.connectors.source import Given
from streamsql.formats import casts
from streamsql.formats.format import Field
from streamsql.formats.json import objects

DELETED = "__deleted"
NULL_TEXT, EMPTY_TEXT = "%N", "%E"
_PLACE = re.compile(r"\{([^{}]*)\}")


class Mode(enum.Enum):
    """How changes are told."""

    APPEND = "append"
    UPSERT = "upsert"
    CHANGELOG = "changelog"


MODE = Option(
    one_of(*(m.value for m in Mode)), None,
    says="how changes are told: `append` (rows; of views whose rows never go), `upsert` (a row in place of the one with its "
    "key, and deletions), `changelog` (every change with its weight); by default the first of them that fits the view",
)  # fmt: skip


def mode_of(given: Given, shape: Shape, chosen: str | None) -> Mode:
    """Say how changes of a view are told. Raises InvalidParameterValue where they cannot be."""
    position = given.places.get("mode")
    if chosen is None:
        return Mode.APPEND if shape.append_only else Mode.UPSERT if shape.key else Mode.CHANGELOG
    mode = Mode(chosen)
    if mode is Mode.APPEND and not shape.append_only:
        raise InvalidParameterValue(
            "mode append is for views whose rows never go",
            hint="use upsert with a key, or changelog",
            position=position,
        )
    if mode is Mode.UPSERT and not shape.key:
        raise InvalidParameterValue("mode upsert needs a key", hint="key = 'column, column'", position=position)
    return mode


def texts_of(rows: pa.Table, columns: Sequence[OutputColumn]) -> list[pa.Array]:
    """Give columns as text, as JSON has it but for the quotes; NULL stays NULL."""
    if not rows.num_rows:
        return [pa.array([], pa.string()) for _ in columns]
    named = rows.select([c.name for c in columns]).rename_columns([f"c{i}" for i in range(len(columns))])
    items = ", ".join(f"CAST({casts.to_text(f'c{i}', c.type)} AS VARCHAR) AS t{i}" for i, c in enumerate(columns))
    made = casts.query(f"SELECT {items} FROM __rows", {"__rows": named})
    return [column.combine_chunks().cast(pa.string()) for column in made.columns]


BODY_OPTIONS: dict[str, Option] = {
    "format": Option(
        one_of("json", *BINARY), "json",
        says="what a message holds: `json`, or a record with the id that its schema has in the registry: `avro`, `protobuf`. "
        "These are for rows alone: no record says that a row went",
    ),
    **REGISTRY_OPTIONS,
}  # fmt: skip


def check_bodies(given: Given, options: Mapping[str, Any], shape: Shape, mode: Mode, *, deletes: bool = False) -> None:
    """Check whether changes can be written so; `deletes`: what goes needs no message's body. Raises with a position."""
    kind, place = options["format"], given.places.get("format")
    check_registry(given, options)
    if kind not in BINARY:
        return
    if mode is not Mode.APPEND and not (mode is Mode.UPSERT and deletes):
        raise InvalidParameterValue(
            f"{kind} is for rows that come, and in mode {mode.value} rows go as well",
            hint="use json, or a view whose rows never go",
            position=place,
        )
    if options["registry_subject"] is None:
        raise InvalidParameterValue(
            f"{kind} needs the option registry_subject", hint="registry_subject = 'name-value'", position=place
        )
    check_records(given, "format", kind, [Field(c.name, c.type) for c in shape.columns])


class Bodies:
    """Writes the messages of one sink."""

    def __init__(self, options: Mapping[str, Any], shape: Shape, mode: Mode) -> None:
        """Have the registry take the schema, if there is one. Raises Unavailable, ExternalError."""
        self._shape, self._mode = shape, mode
        self._records: Records | None = None
        if options["format"] in BINARY:
            fields = [Field(c.name, c.type) for c in shape.columns]
            self._records = Records(options, options["format"], fields, options["registry_subject"])

    def of(self, delivery: Delivery) -> list[bytes]:
        """Give a message for each change of a delivery."""
        if self._records is None:
            return _json_bodies(delivery, self._shape, self._mode)
        found: list[bytes] = self._records.write(
            delivery.rows.select([c.name for c in self._shape.columns])
        ).to_pylist()
        return found


def _json_bodies(delivery: Delivery, shape: Shape, mode: Mode) -> list[bytes]:
    if not delivery.rows.num_rows:
        return []
    went = delivery.weights < 0
    lines = objects(delivery.rows, [Field(c.name, c.type) for c in shape.columns])
    if mode is Mode.UPSERT and went.any():
        keys = [c for c in shape.columns if c.name in shape.key]
        mask = pa.array(went)
        gone = objects(delivery.rows.filter(mask).select([c.name for c in keys]), [Field(c.name, c.type) for c in keys])
        gone = pc.replace_substring_regex(gone, r"\}$", f',"{DELETED}":true}}')
        lines = pc.replace_with_mask(lines, mask, gone)
    elif mode is Mode.CHANGELOG:
        heads = ('{"epoch": ', pa.array(delivery.epochs), ', "weight": ', pa.array(delivery.weights), ', "row": ')
        lines = _joined(*heads, lines, "}")
    found: list[bytes] = lines.cast(pa.large_binary()).to_pylist()
    return found


def _joined(*parts: str | pa.Array) -> pa.Array:
    kind = pa.large_string()
    made = [pa.scalar(p, kind) if isinstance(p, str) else p.cast(kind) for p in parts]
    return pc.binary_join_element_wise(*made, pa.scalar("", kind))


def told(delivery: Delivery, shape: Shape, mode: Mode) -> Delivery:
    """Leave out what the mode does not tell: of an upsert all but the last change of each key."""
    return delivery.last_of_keys(shape.key) if mode is Mode.UPSERT and delivery.rows.num_rows else delivery


def part_of(delivery: Delivery, start: int, stop: int) -> Delivery:
    """Give some of the rows of a delivery."""
    return Delivery(
        delivery.rows.slice(start, stop - start), delivery.weights[start:stop], delivery.epochs[start:stop],
        delivery.numbers[start:stop], delivery.first_epoch, delivery.last_epoch,
    )  # fmt: skip


def by_epoch(delivery: Delivery) -> list[Delivery]:
    """Cut a delivery at the ends of epochs; an epoch without rows is in none of the parts."""
    if not delivery.rows.num_rows:
        return []
    edges = [0, *(np.flatnonzero(np.diff(delivery.epochs)) + 1).tolist(), len(delivery.epochs)]
    found = []
    for start, stop in itertools.pairwise(edges):
        epoch = int(delivery.epochs[start])
        part = part_of(delivery, start, stop)
        found.append(Delivery(part.rows, part.weights, part.epochs, part.numbers, epoch, epoch))
    return found


# ---- names that hold values of the row: 'rooms/{room}' ----


@dataclass(frozen=True, slots=True)
class Template:
    """A text with columns in it. `escaped` are characters that a value must not have there: they become %XX."""

    parts: tuple[str, ...]  # text, column, text, column, ..., text
    escaped: str

    @property
    def columns(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def values(self, rows: pa.Table, columns: Sequence[OutputColumn]) -> list[str]:
        """Give the text for each row."""
        if not self.columns:
            return [self.parts[0]] * rows.num_rows
        by_name = {c.name: c for c in columns}
        made = dict(zip(self.columns, texts_of(rows, [by_name[n] for n in self.columns]), strict=True))
        pieces = [
            pa.scalar(part, pa.string()) if number % 2 == 0 else escaped_text(made[part], self.escaped)
            for number, part in enumerate(self.parts)
        ]
        found: list[str] = pc.binary_join_element_wise(*pieces, pa.scalar("", pa.string())).to_pylist()
        return found


def template(given: Given, option: str, text: str, shape: Shape, escaped: str) -> Template:
    """Read a template. Raises UndefinedColumn at the option."""
    parts = tuple(_PLACE.split(text))
    known = {c.name for c in shape.columns}
    for name in parts[1::2]:
        if name not in known:
            raise UndefinedColumn(
                f'column "{name}" does not exist', hint=nearest(name, known), position=given.places.get(option)
            )
    return Template(parts, escaped)


def escaped_text(texts: pa.Array, characters: str) -> pa.Array:
    """Write what must not be in a value as %XX; NULL as %N, nothing as %E, so that no two values look the same."""
    for character in "%" + characters.replace("%", ""):
        texts = pc.replace_substring(texts, character, f"%{ord(character):02X}")
    texts = pc.if_else(pc.equal(texts, ""), EMPTY_TEXT, texts)
    return pc.fill_null(texts, NULL_TEXT)
