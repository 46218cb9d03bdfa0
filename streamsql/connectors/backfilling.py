"""``WITH (backfill = '/history/*.parquet', connector = 'kafka', ...)``: history from files first, then the live source.

All files are read, as `connectors.files` reads them (``backfill.format`` and so on are its options), and then the live source
from where its own options say. The stream's event time tells where history ends: the largest one in it. Of the live source,
rows at that time or before are left out, for they are in the history; later ones are taken, and so are those without a time.

So each row comes once if history holds all rows up to its end, that instant included, and the live source still has all that
is later. Rows are left out by their time alone, not by what they hold.

The position of the partition ``backfill`` says how far history is read, and its largest time: both are committed with the rows.

``ALTER STREAM ... RESET TO EARLIEST`` reads history anew, and then the live source from its beginning. ``TIMESTAMP`` does the
same and leaves out what is earlier, by the stream's event time: history has no other, and by it the two are joined. ``LATEST``
and ``POSITIONS`` are of the live source alone, and history is left out (`resetting`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import DatatypeMismatch, InvalidParameterValue, UndefinedColumn
from streamsql.connectors.files import Files
from streamsql.connectors.files.source import PARTITION, FileSource
from streamsql.connectors.source import (
    Batch,
    Connector,
    Given,
    GivesMetadata,
    LeavesTraces,
    Metadata,
    Notes,
    Resets,
    Source,
    Surroundings,
)
from streamsql.engine.positions import Position, Positions
from streamsql.formats import casts
from streamsql.formats.format import Field
from streamsql.sql.statements import ColumnDefinition

BACKFILL = "backfill"
_PREFIX = "backfill."
# fewer rows at a time than a live source gives: what else arrives stands in line behind them
ROWS_MAX = 16_384
_TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far history is read: the files' position; its largest time; rows; bytes of the files and how many are read; when it
    began and when this was; whether it is all read. `engine.progress_views` shows it.

    After RESET TO EARLIEST the live source is read from its beginning; after RESET TO TIMESTAMP as well, but of all rows those
    that are `since` then (microseconds) are taken. Where nothing was begun and all is read, history is left out.
    """

    files: str | None = None
    last_time: int | None = None
    row_count: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    began_at: int = 0
    noted_at: int = 0
    finished: bool = False
    from_earliest: bool = False
    since: int | None = None

    @property
    def live_since(self) -> int | None:
        """The first time of rows that are taken of the live source; None for all."""
        after = None if self.last_time is None else self.last_time + 1
        return max((t for t in (after, self.since) if t is not None), default=None)

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def of(position: Position | None) -> Progress:
        return Progress(**json.loads(str(position))) if position is not None else Progress()


class _Prefixed:
    """The notes of the history's files, apart from those of the live source."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def get(self, name: str) -> str | None:
        return self._notes.get(_PREFIX + name)

    def all(self) -> Iterable[tuple[str, str]]:
        return ((n.removeprefix(_PREFIX), state) for n, state in self._notes.all() if n.startswith(_PREFIX))


class _Others:
    """The notes of the live source."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def get(self, name: str) -> str | None:
        return self._notes.get(name)

    def all(self) -> Iterable[tuple[str, str]]:
        return ((n, state) for n, state in self._notes.all() if not n.startswith(_PREFIX))


class BackfilledSource:
    """The open source: history until it is all read and that is committed with it, then the live source."""

    def __init__(
        self,
        history: FileSource | None,
        progress: Progress,
        time: str,
        nothing: pa.Table,
        live: Callable[[int], Source],
        now_us: int,
    ) -> None:
        self._history, self._progress, self._time = history, progress, time
        self._open_live = live
        self._live: Source | None = None
        self._nothing = nothing
        if history is not None and not progress.began_at:
            self._progress = dataclasses.replace(progress, began_at=now_us)

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        if self._history is not None:
            return self._read_history(self._history, min(rows_max, ROWS_MAX), now_us)
        if self._live is None:
            self._live = self._open_live(now_us)
        batch: Batch | None = self._live.read(rows_max, now_us)
        since = self._progress.live_since
        return batch if batch is None or since is None else self._cut(batch, since)

    def _read_history(self, history: FileSource, rows_max: int, now_us: int) -> Batch | None:
        batch, before = history.read(rows_max, now_us), self._progress
        read, total = history.extent()
        # what was read before a restart is not listed any more
        total = max(before.bytes_total, total)
        known = total - history.listed_bytes + read
        made = dataclasses.replace(before, bytes_total=total, bytes_read=known, noted_at=now_us)
        if batch is None:
            if history.due_us(now_us) is not None:
                return None
            history.close()
            self._history = None
            self._progress = dataclasses.replace(made, bytes_read=total, finished=True)
            return Batch(BACKFILL, self._nothing, self._progress.text())
        end = before.last_time
        if batch.rows.num_rows and (last := pc.max(_instants(batch.rows.column(self._time))).as_py()) is not None:
            end = last if end is None else max(end, last)
        if before.since is not None:
            batch = self._cut(batch, before.since)
        self._progress = dataclasses.replace(
            made, files=str(batch.position), last_time=end, row_count=before.row_count + batch.rows.num_rows
        )
        finished = {_PREFIX + name: state for name, state in batch.finished.items()}
        return Batch(BACKFILL, batch.rows, self._progress.text(), batch.rejected, defaults=True, finished=finished)

    def _cut(self, batch: Batch, since: int) -> Batch:
        """Leave out the rows that are earlier."""
        if not batch.rows.num_rows:
            return batch
        kept = pc.fill_null(pc.greater_equal(_instants(batch.rows.column(self._time)), since), True)
        if pc.all(kept).as_py():
            return batch
        weights = None if batch.weights is None else batch.weights.filter(kept.combine_chunks())
        return dataclasses.replace(batch, rows=batch.rows.filter(kept), weights=weights)

    def due_us(self, now_us: int) -> int | None:
        if self._history is not None:
            return self._history.due_us(now_us)
        return now_us if self._live is None else self._live.due_us(now_us)

    def committed(self, positions: Positions) -> None:
        others = {name: position for name, position in positions.items() if name != BACKFILL}
        if others and self._live is not None:
            self._live.committed(others)

    def close(self) -> None:
        if self._history is not None:
            self._history.close()
        if self._live is not None:
            self._live.close()


def _instants(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give event times as microseconds."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    zone = column.type.tz
    return column.cast(pa.timestamp("us", zone)).cast(pa.int64())


class Backfilled:
    """A connector with history before it."""

    def __init__(self, live: Connector) -> None:
        self._live = live
        self.metadata: Mapping[str, Metadata] = live.metadata if isinstance(live, GivesMetadata) else {}

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        history, live, time = _parted(given)
        found = self._live.columns(live, declared)
        if given.table:
            raise InvalidParameterValue(
                "a table has no history before its connector: its rows have keys, and the last one counts",
                hint="use CREATE STREAM",
                position=given.places.get(BACKFILL),
            )
        Files().columns(history, declared or found)
        if time is None:
            raise InvalidParameterValue(
                "history ends at an event time, and the stream says nothing of it",
                hint="declare WATERMARK FOR a column, or name it: backfill.time = 'at'",
                position=given.places.get(BACKFILL),
            )
        column = next((c for c in declared or found if c.name == time), None)
        position = given.places.get("backfill.time", given.places.get(BACKFILL))
        if column is None:
            raise UndefinedColumn(f'column "{time}" does not exist', position=position)
        if column.type not in _TIMES:
            raise DatatypeMismatch(f'"{time}" is no time: history cannot end at it', position=position)
        return found

    def infer(self, given: Given, surroundings: Surroundings) -> tuple[ColumnDefinition, ...]:
        return Files().infer(_parted(given)[0], surroundings)

    def forget(self, given: Given, columns: Sequence[ColumnDefinition], surroundings: Surroundings) -> None:
        if isinstance(self._live, LeavesTraces):
            self._live.forget(_parted(given)[1], columns, surroundings)

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> BackfilledSource:
        history, live, time = _parted(given)
        assert time is not None
        progress = Progress.of(positions.get(BACKFILL))
        source = None
        if not progress.finished:
            plain = [c for c in columns if not c.include]
            own = dataclasses.replace(surroundings, notes=_Prefixed(surroundings.notes))
            at = {} if progress.files is None else {PARTITION: progress.files}
            source = Files().open(history, plain, at, now_us, own)
        fields = tuple(Field(c.name, c.type) for c in columns if not c.include)
        others = {name: position for name, position in positions.items() if name != BACKFILL}
        rest = dataclasses.replace(surroundings, notes=_Others(surroundings.notes))

        def open_live(now: int) -> Source:
            at: Positions = others
            if progress.from_earliest and not at and isinstance(self._live, Resets):
                at = self._live.positions_at(live, columns, "earliest", None, rest)
            return self._live.open(live, columns, at, now, rest)

        return BackfilledSource(source, progress, time, casts.empty_rows(fields), open_live, now_us)


def live_options(options: Mapping[str, str]) -> dict[str, str]:
    """Give the options of the live source alone."""
    return {name: value for name, value in options.items() if name != BACKFILL and not name.startswith(_PREFIX)}


def _parted(given: Given) -> tuple[Given, Given, str | None]:
    """Part the options of history from those of the live source; give the column of event time as well."""
    history = {"path": given.values[BACKFILL], "follow": "false"}
    places = {"path": given.places.get(BACKFILL, 0), "connector": given.places.get(BACKFILL, 0)}
    time: str | None = None
    for name, value in given.values.items():
        if name == "backfill.time":
            time = value
        elif name.startswith(_PREFIX):
            history[name.removeprefix(_PREFIX)] = value
            places[name.removeprefix(_PREFIX)] = given.places.get(name, 0)
    known = {name: place for name, place in places.items() if place}
    return Given(history, known), dataclasses.replace(given, values=live_options(given.values)), time
