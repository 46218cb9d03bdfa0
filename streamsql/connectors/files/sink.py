"""``CREATE SINK ... WITH (connector = 'file')``: changes of a view as files, each row exactly once.

    PATH/day=2026-01-01/part-SINK-00000000000000000042-0.parquet    rows
    PATH/_manifest/SINK/00000000000000000042.json                   which files hold the rows of the epochs up to this one
    PATH/_pending/SINK/00000000000000000043.arrow                   rows of later epochs, which no file of rows holds yet

A delivery is durable when it stands among the pending rows. Once these are many enough, or have waited long enough, they are
*rolled*: written as files of rows, in which the manifest of that roll makes them count, and dropped. The manifest is written
while the files still have names of their own in ``_tmp`` (on this machine), and they are given theirs after it. So whoever
reads the folder, without a look at the manifests, sees each file whole and each row once. A roll that was cut off before its
manifest never was: its rows are pending still, and what is left of it is removed; one cut off after it is finished.
In a bucket, which cannot rename, files have their names before the manifest; of a roll that was cut off they are removed when
the sink is opened again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote as encoded

import numpy as np
import pyarrow as pa
import structlog
from pyarrow import ipc, parquet

from streamsql.base.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    ProgramLimitExceeded,
    StreamSQLError,
    Unavailable,
    UndefinedColumn,
)
from streamsql.base.faults import reached
from streamsql.catalog.objects import nearest
from streamsql.connectors.files.options import STORE_OPTIONS
from streamsql.connectors.files.targets import Target, target_of
from streamsql.connectors.messages import FORMAT_OPTIONS
from streamsql.connectors.settings import Option, boolean, duration, integer, one_of, read_options
from streamsql.connectors.sink import Delivery, Guarantee, Shape
from streamsql.connectors.source import Given, Surroundings
from streamsql.formats import casts
from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import Field
from streamsql.formats.json import JsonFormat

log = structlog.get_logger()

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
# a roll makes a file for each value of the columns that part it
PARTITIONS_MAX = 10_000
WEIGHT, EPOCH = "__weight", "__epoch"


def _interval(text: str) -> int:
    return 0 if text.strip() == "0" else duration(text)


def _columns(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InvalidParameterValue("names each column once", hint="partition_by = 'day, country'")
    return names


OPTIONS: dict[str, Option] = {
    "path": Option(
        str, None, required=True,
        says="the folder, which is made if it is not there: an absolute path, or an address as `s3://bucket/prefix`",
    ),
    "format": Option(one_of("parquet", "csv", "json"), "parquet", says="`parquet`, `csv`, or `json` (an object a line)"),
    "compression": Option(
        one_of("auto", "none", "gzip", "zstd", "snappy"), "auto",
        says="`none`, `gzip`, `zstd`, for Parquet also `snappy`; `auto` is `zstd` for Parquet and `none` for lines",
    ),
    "partition_by": Option(_columns, (), says="columns that part the rows into folders, as `day=2026-01-01/country=FR`"),
    "roll_interval": Option(
        _interval, 60_000_000, says="how long rows wait at the most until they are in a file; `0` makes a file of each delivery"
    ),
    "roll_bytes": Option(
        integer(1, 4 << 30), 64 << 20,
        says="how many bytes of rows, before they are packed, make a file before the time has come",
    ),
    "changes": Option(
        boolean, False,
        says="whether rows that go are written too, each with `__weight` (1 came, -1 went) and `__epoch`; else rows of the "
        "view may only come",
    ),
    "header": Option(boolean, True, says="of `csv`: whether each file begins with the names of the columns"),
    "delimiter": FORMAT_OPTIONS["delimiter"],
    **STORE_OPTIONS,
}  # fmt: skip


class FileSink:
    """The open sink. Rolls by time on a thread of its own."""

    def __init__(self, target: Target, options: dict[str, Any], shape: Shape, identity: str) -> None:
        self._target, self._options, self._identity = target, options, identity
        self._changes: bool = options["changes"]
        columns = [(c.name, c.type) for c in shape.columns]
        if self._changes:
            columns += [(WEIGHT, "TINYINT"), (EPOCH, "BIGINT")]
        self._types = dict(columns)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._since = 0.0  # since when the oldest of them waits
        self._cut_off = False  # a roll failed: what is left of it is seen to before anything else
        self._error: StreamSQLError | None = None  # what it failed with on the thread that rolls in time
        self._rolled = self._recover()
        self._thread = threading.Thread(target=self._roll_in_time, name="file sink", daemon=True)
        self._thread.start()

    # ---- what a sink does ----

    def delivered(self) -> int | None:
        with self._lock:
            return max([self._rolled, *(int(name.partition(".")[0]) for name in self._pending)])

    def deliver(self, delivery: Delivery) -> None:
        rows = delivery.rows
        if self._changes:
            rows = rows.append_column(WEIGHT, pa.array(delivery.weights, pa.int8()))
            rows = rows.append_column(EPOCH, pa.array(delivery.epochs, pa.int64()))
        if not rows.num_rows:
            return
        with self._lock:
            if self._error is not None:
                raise self._error
            self._see_to_rest()
            if self._options["roll_interval"] == 0 or self._pending_bytes + rows.nbytes >= self._options["roll_bytes"]:
                self._roll(rows, delivery.last_epoch)
                return
            name = f"{delivery.last_epoch:020}.arrow"
            self._target.put(f"{self._folder('_pending')}/{name}", _packed(rows))
            reached("files.pending_written")
            if not self._pending:
                self._since = time.monotonic()
            self._pending.append(name)
            self._pending_bytes += rows.nbytes
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()
        try:
            with self._lock:
                self._roll_pending()
        except StreamSQLError as error:
            log.warning("rows of a sink are not in files yet", error=error.message)

    # ---- pending rows ----

    def _folder(self, kind: str) -> str:
        return f"{kind}/{self._identity}"

    def _recover(self) -> int:
        """Finish or undo the roll that was cut off; gives the last epoch that is in files."""
        self._pending, self._pending_bytes = [], 0
        manifests = self._target.names(self._folder("_manifest"))
        manifests = [name for name in manifests if name.endswith(".json") and not name.startswith(".")]
        rolled = 0
        if manifests:
            last = json.loads(self._target.get(f"{self._folder('_manifest')}/{manifests[-1]}") or b"{}")
            rolled = int(last["epoch"])
            self._target.publish((self._staged(rolled, i), file["path"]) for i, file in enumerate(last["files"]))
        intent = self._target.get(f"{self._folder('_pending')}/intent.json")
        if intent is not None and json.loads(intent)["epoch"] > rolled:
            self._target.delete(json.loads(intent)["files"])
        left = [f"{self._folder('_tmp')}/{name}" for name in self._target.names(self._folder("_tmp"))]
        for name in self._target.names(self._folder("_pending")):
            if name.endswith(".arrow") and not name.startswith(".") and int(name.partition(".")[0]) > rolled:
                self._pending.append(name)
                data = self._target.get(f"{self._folder('_pending')}/{name}") or b""
                self._pending_bytes += len(data)
            else:
                left.append(f"{self._folder('_pending')}/{name}")
        self._target.delete(left)
        self._since = time.monotonic()
        return rolled

    def _roll_in_time(self) -> None:
        interval = self._options["roll_interval"] / 1e6
        while not self._closed:
            with self._lock:
                wait = self._since + interval - time.monotonic() if self._pending else None
                if wait is not None and wait <= 0:
                    try:
                        self._roll_pending()
                    except Unavailable as error:  # it is tried again
                        log.warning("cannot write the files of a sink", error=error.message)
                        self._since = time.monotonic()
                    except StreamSQLError as error:
                        self._error = error
                        return
                    continue
            self._wake.wait(wait)
            self._wake.clear()

    def _see_to_rest(self) -> None:
        """Finish or undo a roll that failed."""
        if self._cut_off:
            self._rolled = self._recover()
            self._cut_off = False

    def _roll_pending(self) -> None:
        self._see_to_rest()
        if self._pending:
            self._roll(None, int(self._pending[-1].partition(".")[0]))

    # ---- files ----

    def _roll(self, more: pa.Table | None, epoch: int) -> None:
        """Write what is pending, and more, as files."""
        self._cut_off = True
        folder = self._folder("_pending")
        parts = [_unpacked(self._target.get(f"{folder}/{name}")) for name in self._pending]
        table = pa.concat_tables([*parts, *([] if more is None else [more])])
        files = [
            (f"{path}part-{self._identity}-{epoch:020}-{i}.{self._ending()}", rows)
            for i, (path, rows) in enumerate(self._parted(table))
        ]
        if not self._target.stages:
            intent = {"epoch": epoch, "files": [name for name, _ in files]}
            self._target.put(f"{folder}/intent.json", json.dumps(intent).encode())
        listed = []
        for index, (name, rows) in enumerate(files):
            data = self._encoded(rows)
            self._target.stage(self._staged(epoch, index), name, data)
            listed.append({"path": name, "rows": rows.num_rows, "bytes": len(data)})
        reached("files.staged")
        manifest = {"epoch": epoch, "files": listed}
        self._target.put(f"{self._folder('_manifest')}/{epoch:020}.json", json.dumps(manifest, indent=1).encode())
        reached("files.manifest_written")
        self._target.publish((self._staged(epoch, i), name) for i, (name, _) in enumerate(files))
        reached("files.published")
        gone, self._rolled = self._pending, epoch
        self._pending, self._pending_bytes = [], 0
        self._target.delete([f"{folder}/{name}" for name in [*gone, "intent.json"]])
        self._cut_off = False

    def _staged(self, epoch: int, index: int) -> str:
        return f"{self._folder('_tmp')}/{epoch:020}-{index}"

    def _ending(self) -> str:
        packing = self._packing()
        kind = str(self._options["format"])
        return kind if kind == "parquet" or packing == "none" else f"{kind}.{'gz' if packing == 'gzip' else 'zst'}"

    def _packing(self) -> str:
        said = str(self._options["compression"])
        return ("zstd" if self._options["format"] == "parquet" else "none") if said == "auto" else said

    def _parted(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """Part rows by the values of the columns that say so; the folder of each part, and its rows in their order."""
        names = list(self._options["partition_by"])
        if not names:
            yield "", table
            return
        items = ", ".join(f"{casts.to_text(f'c{i}', self._types[n])} AS c{i}" for i, n in enumerate(names))
        given = table.select(names).rename_columns([f"c{i}" for i in range(len(names))])
        texts = casts.query(f"SELECT {items} FROM __rows", {"__rows": given})
        texts = texts.append_column("place", pa.array(np.arange(table.num_rows)))
        found = texts.group_by([f"c{i}" for i in range(len(names))], use_threads=False).aggregate([("place", "list")])
        if found.num_rows > PARTITIONS_MAX:
            raise ProgramLimitExceeded(
                f"the rows have {found.num_rows} different values of {', '.join(names)}: no more than {PARTITIONS_MAX} files "
                "are made at once",
                hint="partition by something coarser, or roll more often",
            )
        rest = table.drop_columns(names)
        for row in found.to_pylist():
            path = "".join(f"{encoded(n, safe='')}={_folder_of(row[f'c{i}'])}/" for i, n in enumerate(names))
            yield path, rest.take(pa.array(row["place_list"]))

    def _encoded(self, rows: pa.Table) -> bytes:
        packing, kind = self._packing(), self._options["format"]
        if kind == "parquet":
            out = pa.BufferOutputStream()
            parquet.write_table(rows, out, compression=packing)
            return bytes(out.getvalue())
        fields = tuple(Field(name, self._types[name]) for name in rows.column_names)
        if kind == "json":
            data = JsonFormat(fields).encode(rows)
        else:
            data = CsvFormat(fields, self._options["header"], self._options["delimiter"]).encode(rows)
        if packing == "none":
            return data
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, packing) as file:
            file.write(data)
        return bytes(out.getvalue())


def _folder_of(value: str | None) -> str:
    return NO_PARTITION if value is None else encoded(value, safe=" ")


def _packed(rows: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with ipc.new_stream(out, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(out.getvalue())


def _unpacked(data: bytes | None) -> pa.Table:
    assert data is not None, "pending rows are gone"
    return ipc.open_stream(data).read_all()


class FilesSink:
    """The sink's connector."""

    def check(self, given: Given, shape: Shape) -> Guarantee:
        options = read_options(given, OPTIONS, "file")
        names = [c.name for c in shape.columns]
        for name in options["partition_by"]:
            if name not in names:
                raise UndefinedColumn(
                    f'column "{name}" does not exist',
                    hint=nearest(name, names),
                    position=given.places.get("partition_by"),
                )
        if len(options["partition_by"]) == len(names):
            raise InvalidParameterValue(
                "a column must be left that the files hold", position=given.places.get("partition_by")
            )
        if options["compression"] == "snappy" and options["format"] != "parquet":
            raise InvalidParameterValue("lines are not packed by snappy", position=given.places.get("compression"))
        for option in ("header", "delimiter"):
            if option in given.values and options["format"] != "csv":
                raise InvalidParameterValue(f'the option "{option}" is for csv', position=given.places.get(option))
        if not shape.append_only and not options["changes"]:
            raise FeatureNotSupported(
                "rows of this view go and change, and a file keeps what it holds",
                hint="EMIT APPEND gives rows that stay; changes = true writes each change with its __weight",
                position=given.places.get("connector"),
            )
        taken = {WEIGHT, EPOCH}.intersection(names)
        if options["changes"] and taken:
            raise InvalidParameterValue(
                f'the view has a column "{min(taken)}" already', position=given.places.get("changes")
            )
        return Guarantee.EXACTLY_ONCE

    def open(self, given: Given, shape: Shape, surroundings: Surroundings) -> FileSink:
        options = read_options(given, OPTIONS, "file", surroundings)
        return FileSink(target_of(options["path"], options, surroundings), options, shape, surroundings.identity)
