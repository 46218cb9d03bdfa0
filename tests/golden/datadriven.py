"""Files of blocks: a directive, its input, ``----``, what must come out, a blank line.

    push trades                      <- directive and arguments
    ts                  | price      <- input, until the dashes
    2026-01-01 00:00:00 | 1.5
    ----
                                     <- what must come out, until a blank line

The shape is that of https://github.com/cockroachdb/datadriven. Lines that start with ``#`` outside of a block are
comments. Lines before the first block of the form ``name: words`` are settings of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_SETTING = re.compile(r"(modes|limits): (.*)")


@dataclass(slots=True)
class Block:
    """One directive: where it stands, its words, its input, what it must print."""

    line: int
    words: list[str]
    text: str
    expected: str

    @property
    def directive(self) -> str:
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        return self.words[1:]


@dataclass(slots=True)
class Document:
    """A file: its blocks and, word for word, everything between them."""

    path: Path
    settings: dict[str, list[str]] = field(default_factory=dict)
    items: list[str | Block] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        return [item for item in self.items if isinstance(item, Block)]

    def render(self, outputs: list[str]) -> str:
        """Give the file's text with these outputs in place of the expected ones."""
        lines: list[str] = []
        left = iter(outputs)
        for item in self.items:
            if isinstance(item, str):
                lines.append(item)
                continue
            output = next(left)
            lines += [" ".join(item.words), *item.text.splitlines(), "----", *output.splitlines(), ""]
        while lines and not lines[-1]:
            lines.pop()
        return "\n".join(lines) + "\n"


def read(path: Path) -> Document:
    """Read a file. Raises ValueError for one that has not the shape."""
    document = Document(path)
    lines = path.read_text("utf-8").splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        setting = _SETTING.fullmatch(line)
        if setting is not None and not document.blocks:
            document.settings[setting[1]] = setting[2].split()
        if setting is not None or not line.strip() or line.startswith("#"):
            document.items.append(line)
            at += 1
            continue
        start = at
        try:
            dashes = lines.index("----", at)
        except ValueError:
            raise ValueError(f"{path.name}:{start + 1}: the block has no ----") from None
        end = dashes + 1
        while end < len(lines) and lines[end].strip():
            end += 1
        text, expected = "\n".join(lines[at + 1 : dashes]), "\n".join(lines[dashes + 1 : end])
        if "\n\n" in text:
            raise ValueError(f"{path.name}:{start + 1}: a blank line in the input; is the ---- of a block missing?")
        document.items.append(Block(start + 1, line.split(), text, expected))
        at = end + 1
    return document


def table(text: str) -> tuple[list[str], list[tuple[str | None, ...]]]:
    """Read a table: names, then rows, cells parted by ``|``. ``NULL`` is NULL and ``''`` the empty text."""
    header, *rows = text.splitlines()
    names = [name.strip() for name in header.split("|")]
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    for row in cells:
        if len(row) != len(names):
            raise ValueError(f"a row of {len(row)} cells under {len(names)} names: {row}")
    return names, [tuple(None if c == "NULL" else "" if c == "''" else c for c in row) for row in cells]


def shown(names: list[str], rows: list[tuple[str | None, ...]]) -> str:
    """Write a table as `table` reads it, its columns aligned."""
    cells = [names, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    return "\n".join(" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    return value.replace("\n", "\\n") or "''"
