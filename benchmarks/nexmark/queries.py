"""The queries of Nexmark as files of SQL: the three streams, and q0 to q22, each a view of its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "queries"
NAMES = [f"q{number}" for number in range(23)]
STREAMS = ("person", "auction", "bid")


@dataclass(frozen=True, slots=True)
class Script:
    """A file's statements, and what its first line says that they are for."""

    about: str
    statements: tuple[str, ...]


def script(name: str) -> Script:
    """Read a query's file."""
    about, _, text = (FOLDER / f"{name}.sql").read_text("utf-8").partition("\n")
    return Script(about.removeprefix("-- "), tuple(s.strip() for s in text.split(";") if s.strip()))


def streams(events: int, *, delay: str = "100 us", retention: str = "forever") -> tuple[str, ...]:
    """Give the statements that create the streams of this many events, `delay` of event time apart."""
    return tuple(s.format(events=events, delay=delay, retention=retention) for s in script("streams").statements)
