"""The types that users make: enums, whose values are kept as texts, and composite types, which are structs.

An enum's label has a rank, by which values are ordered; one that is added gets a rank between its neighbours', so that no
other's changes (docs/decisions, "Enums are texts that know their order").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamsql.base.errors import DuplicateObject, InvalidParameterValue, ProgramLimitExceeded
from streamsql.base.types import Field, Labels, WireType
from streamsql.catalog.objects import Named
from streamsql.catalog.pg_catalog import oids

LABEL_BYTES_MAX = 63
STORED_ENUM = "VARCHAR"


@dataclass(frozen=True, slots=True)
class UserType(Named):
    """A type of a user's. `stored` is DuckDB's type of its values; `fields` are a composite one's names and types, as text."""

    wire: WireType
    stored: str
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> Labels | None:
        return self.wire.labels


def user_type(wire: WireType) -> UserType:
    """Give a type of which no more is needed than what clients see."""
    return UserType(0, wire.name, wire, "")


def enum_type(type_id: int, name: str, ranks: dict[str, float]) -> WireType:
    """Make an enum as clients see it."""
    return WireType(name, oids.row_type(type_id), oids.row_array(type_id), 4, labels=Labels(ranks))


def composite_type(type_id: int, name: str, fields: Iterable[Field]) -> WireType:
    """Make a composite type as clients see it."""
    return WireType(name, oids.row_type(type_id), oids.row_array(type_id), -1, fields=tuple(fields))


def label_oid(type_oid: int, label: str) -> int:
    """Give the OID of a label, as ``pg_enum`` has it."""
    return oids.named(type_oid, "label", label)


def check_labels(labels: Iterable[str]) -> None:
    """Raise where labels cannot be those of one enum."""
    seen: set[str] = set()
    for label in labels:
        if not label or len(label.encode()) > LABEL_BYTES_MAX:
            raise InvalidParameterValue(
                f'invalid enum label "{label}"', detail=f"Labels must be {LABEL_BYTES_MAX} bytes or less."
            )
        if label in seen:
            raise DuplicateObject(f'enum label "{label}" already exists')
        seen.add(label)


def with_label(labels: Labels, label: str, neighbour: str | None, *, before: bool) -> dict[str, float]:
    """Give the ranks with a label more: at the end, or next to a neighbour. Raises InvalidParameterValue."""
    check_labels([label])
    ranks = dict(labels.ranks)
    order = list(ranks)
    if neighbour is None:
        return {**ranks, label: (ranks[order[-1]] if order else 0.0) + 1}
    if neighbour not in ranks:
        raise InvalidParameterValue(f'"{neighbour}" is not an existing enum label')
    place = order.index(neighbour) + (0 if before else 1)
    if place == 0:
        rank = ranks[order[0]] - 1
    elif place == len(order):
        rank = ranks[order[-1]] + 1
    else:
        low, high = ranks[order[place - 1]], ranks[order[place]]
        rank = (low + high) / 2
        if not low < rank < high:
            raise ProgramLimitExceeded(
                f'there is no room for another label between "{order[place - 1]}" and "{order[place]}"',
                hint="add it somewhere else, or make another type",
            )
    order.insert(place, label)
    return {name: rank if name == label else ranks[name] for name in order}
