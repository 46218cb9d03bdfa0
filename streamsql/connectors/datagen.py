"""``connector = 'datagen'``: rows of random values, for columns that the statement declares.

    CREATE STREAM readings (at TIMESTAMP, sensor INT, celsius DOUBLE PRECISION) WITH (connector = 'datagen', rows = 1000000,
        fields.at.step = '10 ms', fields.at.out_of_orderness = '5 s', fields.sensor.kind = 'zipf',
        fields.celsius.kind = 'normal', fields.celsius.mean = 21, fields.celsius.stddev = 4);

Each column has a kind of distribution (`KINDS`), by its type if none is given, and that kind's options. A value is a function
of the seed, the column's name and the row's number, so a position is a number, as in `connectors.nexmark`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, SQLSyntaxError
from streamsql.connectors.blocks import INTEGERS, PARTITION, BlockSource
from streamsql.connectors.letters import numbered, words
from streamsql.connectors.pace import Pace
from streamsql.connectors.settings import (
    Option,
    duration,
    integer,
    number,
    one_of,
    read_options,
    refuse_references,
    refuse_table,
    timestamp,
)
from streamsql.connectors.source import Given, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition

BLOCK_ROWS = 65_536
TEXT_LETTERS_MAX = 10_000
DISTINCT_MAX = 1_000_000
_DAY_US = 86_400_000_000

# DuckDB's types as the distributions tell them apart.
FAMILIES = {
    "SMALLINT": "integer", "INTEGER": "integer", "BIGINT": "integer", "FLOAT": "float", "DOUBLE": "float",
    "DECIMAL": "decimal", "VARCHAR": "text", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "time",
    "TIMESTAMP WITH TIME ZONE": "time",
}  # fmt: skip
_RANGES = {"SMALLINT": (1 << 15), "INTEGER": (1 << 31), "BIGINT": (1 << 62)}


@dataclass(frozen=True, slots=True)
class Draw:
    """What a column of a block is made from: a source of chance of its own, and the rows' numbers."""

    chance: np.random.Generator
    places: INTEGERS

    @property
    def count(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its name, DuckDB type and family, how it is distributed, and that kind's options."""

    name: str
    type: str
    family: str
    kind: str
    settings: Mapping[str, Any]
    null_rate: float

    def make(self, seed: int, block: int) -> pa.Array:
        """Make the column's values in a block."""
        key = [seed, zlib.crc32(self.name.encode())]
        chance = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, block]))
        places = np.arange(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS, dtype=np.int64)
        missing = chance.random(BLOCK_ROWS) < self.null_rate if self.null_rate else None
        values = KINDS[self.kind].make(self, Draw(chance, places))
        return values if missing is None else pc.if_else(pa.array(missing), None, values)


# ---- distributions ----


def _random(field: Field, draw: Draw) -> pa.Array:
    settings = field.settings
    if field.family == "boolean":
        return pa.array(draw.chance.random(draw.count) < settings["true_rate"])
    if field.family == "text":
        lengths = np.full(draw.count, settings["length"], dtype=np.int64)
        return words(draw.chance, draw.count, lengths, "_")
    low, high = settings["min"], settings["max"]
    if field.family == "integer":
        return pa.array(draw.chance.integers(low, high, draw.count, dtype=np.int64, endpoint=True))
    if field.family in {"date", "time"}:
        return _instants(field, draw.chance.integers(low, high, draw.count, dtype=np.int64, endpoint=True))
    return pa.array(low + draw.chance.random(draw.count) * (high - low))


def _sequence(field: Field, draw: Draw) -> pa.Array:
    values = field.settings["start"] + draw.places * field.settings["step"]
    return numbered(field.settings["prefix"], values) if field.family == "text" else pa.array(values)


def _normal(field: Field, draw: Draw) -> pa.Array:
    values = draw.chance.normal(field.settings["mean"], field.settings["stddev"], draw.count)
    return pa.array(np.rint(values).astype(np.int64) if field.family == "integer" else values)


def _zipf(field: Field, draw: Draw) -> pa.Array:
    """Draw ranks from 0 on: the n-th is as likely as 1 / (n + 1) ** exponent."""
    shares = np.cumsum(np.arange(1, field.settings["distinct"] + 1, dtype=np.float64) ** -field.settings["exponent"])
    ranks = np.searchsorted(shares, draw.chance.random(draw.count) * shares[-1], side="right").astype(np.int64)
    return numbered(field.settings["prefix"], ranks) if field.family == "text" else pa.array(ranks)


def _choice(field: Field, draw: Draw) -> pa.Array:
    values, weights = field.settings["values"], field.settings["weights"]
    shares = np.cumsum(weights or [1.0] * len(values))
    chosen = np.searchsorted(shares, draw.chance.random(draw.count) * shares[-1], side="right")
    return pa.array(values).take(pa.array(chosen.astype(np.int64)))


def _time(field: Field, draw: Draw) -> pa.Array:
    """Let time go on by a step a row, less a random delay of its arrival."""
    settings = field.settings
    behind = draw.chance.integers(0, settings["out_of_orderness"] + 1, draw.count, dtype=np.int64)
    return _instants(field, settings["start"] + draw.places * settings["step"] - behind)


def _instants(field: Field, microseconds: npt.NDArray[np.int64]) -> pa.Array:
    if field.family == "date":
        return pa.array((microseconds // _DAY_US).astype(np.int32), pa.date32())
    return pa.array(microseconds, pa.timestamp("us", "UTC" if "ZONE" in field.type else None))


# ---- options ----


def _listed(text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if not all(values):
        raise InvalidParameterValue("a value is missing", hint="write it as 'red, green, blue'")
    return values


def _weights(text: str) -> list[float]:
    return [number(1e-9, 1e9)(value) for value in _listed(text)]


def _duration_or_none(text: str) -> int:
    return 0 if text.strip() == "0" else duration(text)


@dataclass(frozen=True, slots=True)
class Kind:
    """A distribution: what makes it, for which families of types, and its options by the type's family and name."""

    make: Callable[[Field, Draw], pa.Array]
    families: frozenset[str]
    options: Callable[[str, str], dict[str, Option]]


def _options_of_random(family: str, type_name: str) -> dict[str, Option]:
    if family == "boolean":
        return {"true_rate": Option(number(0, 1), 0.5, says="the share of true values")}
    if family == "text":
        return {"length": Option(integer(0, TEXT_LETTERS_MAX), 10, says="how many letters a text has")}
    if family == "integer":
        bound = _RANGES[type_name]
        read = integer(-bound, bound - 1)
        return {
            "min": Option(read, 0, says="the least value"),
            "max": Option(read, min(1_000_000, bound - 1), says="the greatest value"),
        }
    if family in {"date", "time"}:
        return {
            "min": Option(timestamp, 1_704_067_200_000_000, says="the least value"),
            "max": Option(timestamp, 1_735_689_600_000_000, says="the greatest value"),
        }
    return {
        "min": Option(number(-1e15, 1e15), 0.0, says="the least value"),
        "max": Option(number(-1e15, 1e15), 1.0, says="the greatest value"),
    }


def _prefix(family: str) -> dict[str, Option]:
    return {"prefix": Option(str, "", says="what a text begins with")} if family == "text" else {}


def _options_of_sequence(family: str, type_name: str) -> dict[str, Option]:
    read = integer(-(1 << 62), 1 << 62)
    return {
        "start": Option(read, 0, says="the first value"),
        "step": Option(integer(-(1 << 31), 1 << 31), 1, says="how far it goes on from row to row"),
        **_prefix(family),
    }


def _options_of_normal(family: str, type_name: str) -> dict[str, Option]:
    return {
        "mean": Option(number(-1e15, 1e15), 0.0, says="the mean"),
        "stddev": Option(number(0, 1e15), 1.0, says="the standard deviation"),
    }


def _options_of_zipf(family: str, type_name: str) -> dict[str, Option]:
    return {
        "distinct": Option(
            integer(1, min(DISTINCT_MAX, _RANGES.get(type_name, DISTINCT_MAX))),
            1_000,
            says="how many different values there are",
        ),
        "exponent": Option(number(0, 10), 1.0, says="the n-th value is as likely as 1 / n ** exponent"),
        **_prefix(family),
    }


def _options_of_choice(family: str, type_name: str) -> dict[str, Option]:
    return {
        "values": Option(_listed, None, says="the values, as `a, b, c`"),
        "weights": Option(_weights, None, says="how likely each is, as `90, 9, 1`"),
    }


def _options_of_time(family: str, type_name: str) -> dict[str, Option]:
    return {
        "start": Option(timestamp, 1_704_067_200_000_000, says="the first value"),  # 2024-01-01
        "step": Option(duration, 1_000, says="how far it goes on from row to row"),
        "out_of_orderness": Option(_duration_or_none, 0, says="up to how much later than in order a row comes"),
    }


KINDS = {
    "choice": Kind(_choice, frozenset({"text"}), _options_of_choice),
    "normal": Kind(_normal, frozenset({"integer", "float", "decimal"}), _options_of_normal),
    "random": Kind(_random, frozenset({"integer", "float", "decimal", "text", "boolean", "date", "time"}), _options_of_random),
    "sequence": Kind(_sequence, frozenset({"integer", "text"}), _options_of_sequence),
    "time": Kind(_time, frozenset({"date", "time"}), _options_of_time),
    "zipf": Kind(_zipf, frozenset({"integer", "text"}), _options_of_zipf),
}  # fmt: skip

OPTIONS: dict[str, Option] = {
    "rows": Option(
        integer(1), None, ("number-of-rows",), says="how many rows there are; without it they come for ever"
    ),
    "rows_per_second": Option(
        number(0.001, 1e9),
        None,
        ("rows-per-second", "datagen.rows.per.second"),
        says="their pace by the clock; without it they come as fast as they are taken",
    ),
    "seed": Option(integer(0), 0, says="decides all that is left to chance"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """What is made: `rows` None is without end, `rows_per_second` None as fast as they are taken."""

    rows: int | None
    rows_per_second: float | None
    seed: int
    fields: tuple[Field, ...]


def table_of(given: Given, declared: Sequence[ColumnDefinition]) -> Table:
    """Read the options. Raises StreamSQLError with a position."""
    options, kinds = dict(OPTIONS), {}
    for column in declared:
        family = FAMILIES.get(column.type.partition("(")[0])
        if family is None:
            raise FeatureNotSupported(
                f'the connector "datagen" makes no values of type {column.type}',
                hint="types that it makes: numbers, text, boolean, date and timestamps",
                position=column.position + 1,
            )
        prefix = f"fields.{column.name}"
        kind = _kind_of(given, prefix, family)
        kinds[column.name] = family, kind
        own = {
            "null_rate": Option(number(0, 1), 0.0, says="the share of values that are left out"),
            **KINDS[kind].options(family, column.type),
        }
        options |= {
            f"{prefix}.kind": Option(str, kind, says="how it is distributed"),
            **{f"{prefix}.{name}": option for name, option in own.items()},
        }
    refuse_references(given, "datagen")
    values = read_options(given, options, "datagen")
    fields = []
    for column in declared:
        prefix = f"fields.{column.name}."
        own_values = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        family, kind = kinds[column.name]
        field = Field(column.name, column.type, family, kind, own_values, own_values["null_rate"])
        _check(field, given, prefix)
        fields.append(field)
    return Table(values["rows"], values["rows_per_second"], values["seed"], tuple(fields))


def _kind_of(given: Given, prefix: str, family: str) -> str:
    possible = [name for name, kind in KINDS.items() if family in kind.families]
    written = given.values.get(f"{prefix}.kind")
    if written is None:
        return "time" if family == "time" else "random"
    try:
        return one_of(*possible)(written)
    except InvalidParameterValue as error:
        raise InvalidParameterValue(
            f'invalid value for option "{prefix}.kind": {error.message}',
            position=given.places.get(f"{prefix}.kind"),
        ) from error


def _check(field: Field, given: Given, prefix: str) -> None:
    """Raise where a field's options do not go together."""
    settings, wrong = field.settings, None
    if field.kind == "choice" and settings["values"] is None:
        wrong = "kind", "needs the option " + f'"{prefix}values"'
    elif (
        field.kind == "choice"
        and settings["weights"] is not None
        and len(settings["weights"]) != len(settings["values"])
    ):
        wrong = "weights", "must have a weight for each value"
    elif "min" in settings and settings["min"] > settings["max"]:
        wrong = ("max" if f"{prefix}max" in given.values else "min"), "the smallest value is above the largest"
    if wrong is not None:
        raise InvalidParameterValue(
            f'invalid value for option "{prefix}{wrong[0]}": {wrong[1]}',
            position=given.places.get(f"{prefix}{wrong[0]}"),
        )


class Datagen:
    """The connector."""

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        refuse_table(given, "datagen")
        if not declared:
            raise SQLSyntaxError(
                'the connector "datagen" needs columns',
                hint="CREATE STREAM name (column type, ...) WITH (connector = 'datagen')",
                position=given.places.get("connector"),
            )
        table_of(given, declared)
        return tuple(declared)

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> BlockSource:
        table = table_of(given, columns)

        def make(block: int) -> tuple[INTEGERS, pa.Table]:
            places = np.arange(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS, dtype=np.int64)
            return places, pa.table({field.name: field.make(table.seed, block) for field in table.fields})

        pace = Pace(table.rows_per_second, int(positions.get(PARTITION, 0)), now_us)
        return BlockSource(make, BLOCK_ROWS, table.rows, pace)
