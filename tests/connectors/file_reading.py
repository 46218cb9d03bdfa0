"""Drives a source of files by hand, as the reader does: what it gives, from any position on."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet

from streamsql.connectors.files import Files
from streamsql.connectors.source import Batch, Given, Surroundings
from streamsql.engine.positions import Position
from streamsql.sql.statements import ColumnDefinition

COLUMNS = (ColumnDefinition("n", "BIGINT"), ColumnDefinition("word", "VARCHAR"))
# later than the last change of any file by an hour
LATER_US = 4_000_000_000_000_000


class Notes(dict[str, str]):
    """The engine's table of what is finished."""

    def all(self) -> Iterable[tuple[str, str]]:
        return list(self.items())


class Follower:
    """A source that is opened anew from what was committed, whenever it is asked for."""

    def __init__(self, path: Path | str, allowed: Path, columns: Sequence[ColumnDefinition] = COLUMNS, **options: str):
        self.given = Given({"path": str(path), **options}, {})
        self.columns = columns
        self.notes = Notes()
        self.positions: dict[str, Position] = {}
        self.surroundings = Surroundings((allowed.resolve(),), notes=self.notes)
        self.now_us = LATER_US
        self.batches: list[Batch] = []
        self._source: Any = None

    def open(self) -> Any:
        if self._source is None:
            self._source = Files().open(self.given, self.columns, self.positions, self.now_us, self.surroundings)
        return self._source

    def restart(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def read(self, rows_max: int = 1_000_000) -> Batch | None:
        """Read a batch, and commit it."""
        batch: Batch | None = self.open().read(rows_max, self.now_us)
        if batch is not None:
            self.positions[batch.partition] = batch.position
            self.notes.update(batch.finished)
            self.batches.append(batch)
        return batch

    def all(self, rows_max: int = 1_000_000) -> list[tuple[Any, ...]]:
        """Look again for files, and give all rows that come."""
        self.now_us += 60_000_000
        found: list[tuple[Any, ...]] = []
        while (batch := self.read(rows_max)) is not None:
            found += zip(*(c.to_pylist() for c in batch.rows.columns), strict=True)
        return found

    def reasons(self) -> list[str]:
        return [reason for batch in self.batches for reason in batch.rejected.column("reason").to_pylist()]


def json_lines(numbers: Iterable[int]) -> bytes:
    return b"".join(b'{"n": %d, "word": "w%d"}\n' % (n, n) for n in numbers)


def csv_lines(numbers: Iterable[int], header: bool = True) -> bytes:
    return (b"word,n\n" if header else b"") + b"".join(b'"w%d",%d\n' % (n, n) for n in numbers)


def table(numbers: Iterable[int]) -> pa.Table:
    values = [*numbers]
    return pa.table({"word": [f"w{n}" for n in values], "n": pa.array(values, pa.int64())})


def rows(numbers: Iterable[int]) -> list[tuple[int, str]]:
    return [(n, f"w{n}") for n in numbers]


def write_parquet(path: Path, numbers: Iterable[int]) -> None:
    parquet.write_table(table(numbers), path, row_group_size=70)


def write_arrow_file(path: Path, numbers: Iterable[int]) -> None:
    given = table(numbers)
    with ipc.new_file(path, given.schema) as writer:
        writer.write_table(given, max_chunksize=70)


def write_arrow_stream(path: Path, numbers: Iterable[int]) -> None:
    given = table(numbers)
    with ipc.new_stream(path, given.schema) as writer:
        writer.write_table(given, max_chunksize=70)


def _writing(make: Callable[[Iterable[int]], bytes]) -> Callable[[Path, Iterable[int]], None]:
    def write(path: Path, numbers: Iterable[int]) -> None:
        path.write_bytes(make(numbers))

    return write


# by the ending of a name, how such a file is written
WRITERS: dict[str, Callable[[Path, Iterable[int]], None]] = {
    "json": _writing(json_lines),
    "csv": _writing(csv_lines),
    "json.gz": _writing(lambda numbers: gzip.compress(json_lines(numbers))),
    "csv.gz": _writing(lambda numbers: gzip.compress(csv_lines(numbers))),
    "json.zst": _writing(lambda numbers: bytes(pa.Codec("zstd").compress(json_lines(numbers)))),
    "parquet": write_parquet,
    "arrow": write_arrow_file,
    "arrows": write_arrow_stream,
}


def with_included(*words: str) -> tuple[ColumnDefinition, ...]:
    kinds = {w: m.type for w, m in Files.metadata.items()}
    return COLUMNS + tuple(ColumnDefinition(f"_{w}", kinds[w], include=w) for w in words)


__all__ = ["COLUMNS", "WRITERS", "Follower", "dataclasses"]
