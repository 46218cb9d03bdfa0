"""Sequences: CREATE, ALTER and DROP SEQUENCE, and columns that are numbered by one of their own."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

# a type's name -> the largest number of it
SEQUENCE_TYPES = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """What a sequence gives: None is what follows from its type and direction."""

    type: str = "bigint"
    increment: int = 1
    minimum: int | None = None
    maximum: int | None = None
    start: int | None = None
    cache: int = 1
    cycle: bool = False

    @property
    def lowest(self) -> int:
        if self.minimum is not None:
            return self.minimum
        return 1 if self.increment > 0 else -SEQUENCE_TYPES[self.type] - 1

    @property
    def highest(self) -> int:
        if self.maximum is not None:
            return self.maximum
        return SEQUENCE_TYPES[self.type] if self.increment > 0 else -1

    @property
    def first(self) -> int:
        if self.start is not None:
            return self.start
        return self.lowest if self.increment > 0 else self.highest

    def render(self) -> str:
        """Write the options that are not the usual ones."""
        parts = [] if self.type == "bigint" else [f"AS {self.type}"]
        parts += [] if self.increment == 1 else [f"INCREMENT BY {self.increment}"]
        parts += [] if self.minimum is None else [f"MINVALUE {self.minimum}"]
        parts += [] if self.maximum is None else [f"MAXVALUE {self.maximum}"]
        parts += [] if self.start is None else [f"START WITH {self.start}"]
        parts += [] if self.cache == 1 else [f"CACHE {self.cache}"]
        return " ".join([*parts, *(["CYCLE"] if self.cycle else [])])


class Numbering(enum.Enum):
    """How a column gets its numbers; the value is that of ``pg_attribute.attidentity``."""

    SERIAL = ""
    ALWAYS = "a"
    BY_DEFAULT = "d"


@dataclass(frozen=True, slots=True)
class Numbered:
    """A column that a sequence of its own numbers; `name` is the sequence's where SEQUENCE NAME gave one, as pg_dump does."""

    numbering: Numbering
    options: SequenceOptions = field(default_factory=SequenceOptions)
    name: str = field(default="", compare=False)

    @property
    def is_identity(self) -> bool:
        return self.numbering is not Numbering.SERIAL

    @property
    def always(self) -> bool:
        """Tell whether clients may not write the column by themselves."""
        return self.numbering is Numbering.ALWAYS

    def render(self) -> str:
        """Write what stands behind the type of an identity column."""
        options = self.options.render()
        words = "ALWAYS" if self.always else "BY DEFAULT"
        return f"GENERATED {words} AS IDENTITY" + (f" ({options})" if options else "")
