"""A figure, its bound and its target; and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    `bound` is what it is held against (None: nothing), measured in the same run in the same unit. `ratio_min` and
    `value_min`, or `value_max` and `ratio_max` where less is better, are the targets.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    bound: float | None = None
    bound_name: str = ""
    value_min: float | None = None
    value_max: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.bound if self.bound else None

    @property
    def met(self) -> bool | None:
        """Tell whether every target is met; None where there is none."""
        ratio = self.ratio
        checks = [
            None if self.value_min is None else self.value >= self.value_min,
            None if self.value_max is None else self.value <= self.value_max,
            None if self.ratio_min is None or ratio is None else ratio >= self.ratio_min,
            None if self.ratio_max is None or ratio is None else ratio <= self.ratio_max,
        ]
        known = [c for c in checks if c is not None]
        return all(known) if known else None

    @property
    def target(self) -> str:
        parts = [
            (self.value_min, ">= {}"),
            (self.value_max, "<= {}"),
            (self.ratio_min, "ratio >= {}"),
            (self.ratio_max, "ratio <= {}"),
        ]
        return ", ".join(text.format(_shown(v)) for v, text in parts if v is not None)


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def row_of(figure: Figure) -> list[str]:
    """Make the cells of a figure's row."""
    met = {True: "yes", False: "NO", None: ""}[figure.met]
    bound = "" if figure.bound is None else f"{_shown(figure.bound)} ({figure.bound_name})"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    return [figure.name, f"{_shown(figure.value)} {figure.unit}", bound, ratio, figure.target, met, figure.note]


HEADERS = ["what", "measured", "bound", "ratio", "target", "met", "note"]


def say(figure: Figure) -> Figure:
    """Print a figure as soon as it is known; gives it back."""
    cells = dict(zip(HEADERS, row_of(figure), strict=True))
    tail = "".join(f" | {k} {cells[k]}" for k in HEADERS[2:] if cells[k])
    print(f"{figure.benchmark}: {cells['what']}: {cells['measured']}{tail}", flush=True)
    return figure


def markdown(figures: Iterable[Figure]) -> str:
    """Make the table of README.md."""
    lines = ["| benchmark | " + " | ".join(HEADERS[:-1]) + " |", "|---" * len(HEADERS) + "|"]
    lines += ["| " + " | ".join([f.benchmark, *row_of(f)[:-1]]) + " |" for f in figures]
    return "\n".join(lines)


def show(figures: list[Figure]) -> None:
    """Print all figures as one table: with rich where it is installed, as Markdown where it is not."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(markdown(figures))
        return
    table = Table("benchmark", *HEADERS)
    for figure in figures:
        table.add_row(figure.benchmark, *row_of(figure), style="red" if figure.met is False else None)
    Console(width=None if Console().is_terminal else 170).print(table)


def save(figures: list[Figure], path: Path) -> None:
    """Write all figures as JSON."""
    path.write_text(json.dumps([{**asdict(f), "ratio": f.ratio, "met": f.met} for f in figures], indent=1) + "\n")
