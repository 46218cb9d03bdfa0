"""``connector = 'file'``: rows of files that come and grow.

    CREATE STREAM visits (at TIMESTAMP, page TEXT) INCLUDE FILE AS file
        WITH (connector = 'file', path = '/data/visits/**/*.json.gz');

Files are taken up in the order of their names, or of their last change, as a listing shows them; of each, all that is there
is read before the next one. Then the folder is listed again. A file that has grown is read on from where it ended. One that
is shorter than what was read of it, or holds other bytes there, was replaced: `replaced` says what to do. A file that was
given another name goes on under that, so that logs may be rotated.

The position is the state of the files in use, as one text (`known`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from streamsql.base.errors import NotInPrerequisiteState
from streamsql.connectors.files.known import KEPT_FILES, FileState, Finished, Known
from streamsql.connectors.files.options import FileOptions
from streamsql.connectors.files.places import Found, Place
from streamsql.connectors.files.reading import HEAD_BYTES, Block, Exhausted, Reading, UnfinishedError
from streamsql.connectors.source import Batch, Surroundings
from streamsql.engine.positions import Positions
from streamsql.formats import casts
from streamsql.formats.format import NOTHING_REJECTED, rejected
from streamsql.sql.statements import ColumnDefinition

log = structlog.get_logger()

PARTITION = "files"
# A file that cannot be read as it is may be about to be finished; after that long without a change it is taken as it is.
FINISH_US_MAX = 10_000_000
# parts of small files that go into one batch
PARTS_MAX = 1_000
ARROW_TYPES = {"file": pa.string(), "offset": pa.int64(), "timestamp": pa.timestamp("us", "UTC")}

Numbers = npt.NDArray[np.int64]
NO_NUMBERS: Numbers = np.zeros(0, np.int64)


@dataclass(slots=True)
class _Open:
    """The file that is read: as it was found, open, and the block whose rows are being given."""

    found: Found
    file: IO[bytes]
    reading: Reading
    block: Block | None = None
    given: int = 0  # rows of the block that were given


class FileSource:
    """The open source."""

    def __init__(
        self,
        place: Place,
        options: FileOptions,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        surroundings: Surroundings,
    ) -> None:
        self._place, self._options = place, options
        self._fields = options.fields(columns)
        self._empty = casts.empty_rows(self._fields)
        self._included = [c for c in columns if c.include]
        self._record_bytes_max = surroundings.record_bytes_max
        finished = Finished(surroundings.notes.get)
        finished.add((name, FileState.of(text)) for name, text in surroundings.notes.all())
        position = positions.get(PARTITION)
        self._known = Known.of(None if position is None else str(position), finished)
        self._waiting: Iterator[Found] = iter(())
        self._there: frozenset[str] = frozenset()
        self._open: _Open | None = None
        self._listed_us: int | None = None
        self._listing_us = 0
        self._moved = False
        self._ended = False
        self._read_bytes = 0  # of files of the last listing that are read
        self.listed_bytes = 0  # of all that were news in the last listing that had any

    # ---- what a source does ----

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        parts: list[pa.Table] = []
        said: list[pa.Table] = []
        rows = 0
        while rows < rows_max and len(parts) < PARTS_MAX:
            part = self._part(rows_max - rows, now_us)
            if part is None:
                break
            found, aside = part
            rows += found.num_rows + aside.num_rows
            if found.num_rows:
                parts.append(found)
            if aside.num_rows:
                said.append(aside)
        if not parts and not said and not self._moved:
            return None
        self._moved = False
        finished = self._known.retired(self._gone) if len(self._known.files) > KEPT_FILES else {}
        table = pa.concat_tables(parts) if parts else self._with_included(self._empty, NO_NUMBERS, None)
        aside = pa.concat_tables(said) if said else NOTHING_REJECTED
        return Batch(PARTITION, table, self._known.position(), aside, defaults=True, finished=finished)

    def due_us(self, now_us: int) -> int | None:
        if self._ended:
            return None
        listed = now_us if self._listed_us is None else self._listed_us
        # a folder that takes long to list is listed less often
        return max(now_us + 1, listed + max(self._options.poll_us, 4 * self._listing_us))

    def committed(self, positions: Positions) -> None:
        """There is nobody to tell."""

    def close(self) -> None:
        self._close()

    def extent(self) -> tuple[int, int]:
        """Tell how many bytes of the files that were listed last are read, and how many there are."""
        opened = self._open
        part = 0 if opened is None else min(opened.reading.bytes_read(opened.found.size), opened.found.size)
        return self._read_bytes + part, self.listed_bytes

    def _gone(self, name: str) -> bool:
        """Tell whether a file was not there any more when the folder was listed, and is not being read."""
        return self._open is None and name not in self._there

    # ---- rows of the file that is open ----

    def _part(self, rows_max: int, now_us: int) -> tuple[pa.Table, pa.Table] | None:
        """Give some rows of one file, and records of it that could not be read; None where there are no more now."""
        while True:
            opened = self._open or self._open_next(now_us)
            if opened is None:
                return None
            if opened.block is None:
                opened.block = self._next_block(opened, now_us)
                if opened.block is None:
                    self._close()
                    continue
                opened.given = self._known.files[opened.found.name].skip
            return self._slice(opened, rows_max)

    def _slice(self, opened: _Open, rows_max: int) -> tuple[pa.Table, pa.Table]:
        block, start = opened.block, opened.given
        assert block is not None
        stop = min(start + rows_max, block.rows.num_rows)
        rows, numbers = block.rows.slice(start, stop - start), block.numbers[start:stop]
        found, state = opened.found, self._known.files[opened.found.name]
        self._moved = True
        if stop < block.rows.num_rows:
            opened.given = stop
            self._known.note(found.name, replace(state, skip=stop, size=-1))
            return self._with_included(rows, numbers, found), NOTHING_REJECTED
        # what could not be read comes with the last rows of a block, so that it comes once wherever one is cut
        opened.block = None
        upto = block.behind if self._in_bytes(found) else found.size
        mark = state.mark if upto == state.upto else self._place.mark(opened.file, found, upto)
        self._known.note(found.name, FileState(block.behind, 0, upto, mark, found.inode))
        return self._with_included(rows, numbers, found), _of_file(block.rejected, found.name)

    def _with_included(self, rows: pa.Table, numbers: Numbers, found: Found | None) -> pa.Table:
        """Add the columns that tell where rows are from."""
        for column in self._included:
            if found is None or not rows.num_rows:
                values = pa.nulls(rows.num_rows, ARROW_TYPES[column.include])
            elif column.include == "offset":
                values = pa.array(numbers, ARROW_TYPES["offset"])
            else:
                told: Any = self._place.shown(found.name)
                if column.include == "timestamp":
                    told = found.changed_ns // 1_000
                scalar = pa.scalar(told, pa.int64() if column.include == "timestamp" else pa.string())
                values = pa.repeat(scalar, rows.num_rows).cast(ARROW_TYPES[column.include])
            rows = rows.append_column(column.name, values)
        return rows

    def _next_block(self, opened: _Open, now_us: int) -> Block | None:
        """Read on; None where the file is at its end, which is noted, or where it is to be tried again."""
        found, options = opened.found, self._options
        quiet_us = now_us - found.changed_ns // 1_000
        try:
            block = opened.reading.read()
        except UnfinishedError as error:
            return self._unfinished(opened, str(error), quiet_us)
        if block is None and opened.reading.waits():
            if options.takes_rest(found.name, quiet_us):
                return opened.reading.rest()
            if options.last_line_us is not None:
                return None  # it stays news until the time has come
        if block is None:
            self._known.settle(found.name, found)
            self._moved = True
        return block

    def _unfinished(self, opened: _Open, reason: str, quiet_us: int) -> Block | None:
        """Wait for a file that is being written; one that nobody writes any more is a record that cannot be read."""
        if quiet_us < FINISH_US_MAX and self._options.follow and self._place.grows:
            name = opened.found.name
            if self._known.files[name].place == 0 and self._known.files[name].skip == 0:
                del self._known.files[name]  # it may be anything yet
            return None
        place = opened.reading.place
        log.warning("file cannot be read", file=self._place.shown(opened.found.name), reason=reason)
        opened.reading = Exhausted(place)
        said = rejected([place], [reason], [b""])
        return Block(self._empty, np.zeros(0, np.int64), said, place)

    # ---- the next file ----

    def _open_next(self, now_us: int) -> _Open | None:
        """Open the next file of which something is not read yet; list them again when that is due."""
        while True:
            for found in self._waiting:
                opened = self._opened(found, now_us)
                if opened is not None:
                    self._open = opened
                    return opened
            if self._ended or (self._listed_us is not None and now_us < (self.due_us(now_us - 1) or 0)):
                return None
            if self._listed_us is not None and not self._options.follow:
                self._ended = True
                return None
            self._waiting = iter(self._news(now_us))

    def _news(self, now_us: int) -> list[Found]:
        """List the files, and give those of which something is not read yet, in order."""
        began = time.monotonic()
        used = {state.inode: name for name, state in self._known.files.items() if state.inode}
        moved: list[Found] = []
        news: list[Found] = []
        there: dict[str, int] = {}
        for found in self._place.list():
            if found.name in self._known.files:
                there[found.name] = found.inode
            if used.get(found.inode, found.name) != found.name:
                moved.append(found)
            if self._known.is_news(found):
                news.append(found)
        self._rename(moved, used, there)
        self._there = frozenset(there)
        self._listed_us = now_us
        if news:
            self.listed_bytes, self._read_bytes = sum(f.size for f in news), 0
        self._listing_us = round((time.monotonic() - began) * 1e6)
        by_change = self._options.order == "modified"
        return sorted(news, key=lambda f: (f.changed_ns if by_change else 0, f.name))

    def _rename(self, moved: list[Found], used: dict[int, str], there: dict[str, int]) -> None:
        """Let files that stand under another name now go on under that."""
        states = {}
        for found in moved:
            before = used[found.inode]
            if there.get(before) != found.inode and self._holds(found, self._known.files[before]):
                states[found.name] = before
        taken = {name: self._known.files[before] for name, before in states.items()}
        for before in states.values():
            self._known.files.pop(before, None)
        self._known.files.update(taken)
        self._moved = self._moved or bool(states)

    def _holds(self, found: Found, state: FileState) -> bool:
        try:
            with self._place.open(found.name) as file:
                return self._same(found, state, file)
        except FileNotFoundError:
            return False

    def _same(self, found: Found, state: FileState, file: IO[bytes]) -> bool:
        """Tell whether a file begins with what was read of it."""
        if found.size < state.upto or (found.size != state.upto and (self._options.whole or not self._place.grows)):
            return False
        return self._place.mark(file, found, state.upto) == state.mark

    def _opened(self, found: Found, now_us: int) -> _Open | None:
        """Open a file where it is read up to. Raises NotInPrerequisiteState where it has been replaced."""
        if not self._known.is_news(found):
            return None  # read under its new name
        try:
            file = self._place.open(found.name)
        except FileNotFoundError:
            return None
        try:
            state = self._known.state(found.name)
            if state is not None and not self._same(found, state, file):
                self._replaced(found)
                state = None
            if state is None:
                upto = min(HEAD_BYTES, found.size) if self._in_bytes(found) else found.size
                state = FileState(upto=upto, mark=self._place.mark(file, found, upto))
            self._known.note(found.name, replace(state, inode=found.inode, size=-1))
            reading = Exhausted(state.place)
            opened = _Open(found, file, reading)
            try:
                opened.reading = self._options.reading(
                    file, found.name, self._fields, state.place, self._record_bytes_max
                )
            except UnfinishedError as error:
                opened.block = self._unfinished(opened, str(error), now_us - found.changed_ns // 1_000)
                if opened.block is None:
                    file.close()
                    return None
        except BaseException:
            file.close()
            raise
        return opened

    def _in_bytes(self, found: Found) -> bool:
        return self._place.grows and self._options.grows_by_bytes(found.name)

    def _replaced(self, found: Found) -> None:
        shown = self._place.shown(found.name)
        if self._options.replaced == "fail":
            raise NotInPrerequisiteState(
                f'"{shown}" does not hold any more what was read of it: it was cut, or replaced by another file',
                hint="with replaced = 'read' the new content is read as that of a new file",
            )
        log.warning("file was replaced", file=shown)

    def _close(self) -> None:
        if self._open is not None:
            self._read_bytes += self._open.found.size
            self._open.file.close()
            self._open = None


def _of_file(aside: pa.Table, name: str) -> pa.Table:
    """Say of records that could not be read which file they are in: their place alone does not."""
    if not aside.num_rows:
        return aside
    at = aside.schema.get_field_index("reason")
    reasons = pc.binary_join_element_wise(aside.column(at), f" (file {name})", "")
    return aside.set_column(at, aside.schema.field(at), reasons)
