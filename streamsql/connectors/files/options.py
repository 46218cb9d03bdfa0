"""The options of ``connector = 'file'``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from streamsql.base.errors import InvalidParameterValue, StreamSQLError
from streamsql.connectors.files.reading import LineReading, Reading, arrow_reading, parquet_reading
from streamsql.connectors.messages import FORMAT_OPTIONS, fields_of
from streamsql.connectors.settings import Option, boolean, duration, one_of, read_options
from streamsql.connectors.source import Given, Surroundings
from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import BlockDecoder, Field
from streamsql.formats.json import JsonFormat
from streamsql.formats.raw import RawFormat
from streamsql.sql.statements import ColumnDefinition

# by the ending of a file's name, once that of its packing has been taken off
ENDINGS = {
    "json": "json", "jsonl": "json", "ndjson": "json", "csv": "csv", "parquet": "parquet", "pq": "parquet", "arrow": "arrow",
    "arrows": "arrow", "feather": "arrow", "ipc": "arrow", "txt": "raw", "log": "raw",
}  # fmt: skip
CODECS = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd"}
POLL_US_MIN = 10_000


def _poll(text: str) -> int:
    found = duration(text)
    if found < POLL_US_MIN:
        raise InvalidParameterValue("must be 10 milliseconds or more")
    return found


def _last_line(text: str) -> int | None:
    return None if text.strip().lower() == "wait" else duration(text)


STORE_OPTIONS: dict[str, Option] = {
    "endpoint": Option(str, "", says="of `s3://`: where the store answers, if that is not Amazon's: `http://localhost:9000`"),
    "region": Option(str, "", says="of `s3://`: the bucket's region"),
    "access_key": Option(str, "", says="of `s3://`: the key's name; by default what the server's environment says"),
    "secret_key": Option(str, "", secret=True, says="of `s3://`: the key itself"),
    "session_token": Option(str, "", secret=True, says="of `s3://`: the token of a temporary key"),
    "anonymous": Option(boolean, False, says="of `s3://` and `gs://`: a bucket that everybody may read"),
}  # fmt: skip

OPTIONS: dict[str, Option] = {
    "path": Option(
        str, None, required=True,
        says="a file, a folder (all files below it) or a pattern (`*`, `?`, `[ab]` within a name, `**` for any number of "
        "folders): an absolute path, or an address as `s3://bucket/prefix/*.json`",
    ),
    "format": Option(
        one_of("json", "csv", "raw", "parquet", "arrow"), None,
        says="what the files hold: `json` (an object a line), `csv`, `raw` (a line of text), `parquet`, `arrow`; by default "
        "what the ending of the path says",
    ),
    "compression": Option(
        one_of("auto", "none", "gzip", "zstd"), "auto",
        says="how lines are packed: `auto` goes by each name's ending (`.gz`, `.zst`), else `none`, `gzip`, `zstd`",
    ),
    "order": Option(
        one_of("name", "modified"), "name",
        says="in which order the files of a listing are read: by `name`, or by last change (`modified`)",
    ),
    "follow": Option(boolean, True, says="whether to go on with what comes later; `false` reads what is there, and ends"),
    "poll_interval": Option(_poll, 1_000_000, says="how often to look for new files and lines"),
    "replaced": Option(
        one_of("fail", "read"), "fail",
        says="what to do about a file that does not hold any more what was read of it: `fail` stops the stream, `read` "
        "reads it as a new one",
    ),
    "last_line": Option(
        _last_line, None,
        says="what to do about a last line without a line end: `wait` for the rest, or take it once the file has not changed "
        "for so long (`10 seconds`). A whole JSON object, and the last line of a packed file, are taken at once",
    ),
    "header": Option(
        boolean, True,
        says="of `csv`: whether the first record names the columns; else they are those of the stream, in order",
    ),
    "columns": FORMAT_OPTIONS["columns"],
    "times": FORMAT_OPTIONS["times"],
    "delimiter": FORMAT_OPTIONS["delimiter"],
    **STORE_OPTIONS,
}  # fmt: skip
_ONLY_OF = {
    "columns": ("json",), "delimiter": ("csv",), "header": ("csv",), "times": ("json", "csv"),
    "compression": ("json", "csv", "raw"), "last_line": ("json", "csv", "raw"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileOptions:
    """The options of one stream, read."""

    values: dict[str, Any]
    format: str

    @staticmethod
    def of(given: Given, surroundings: Surroundings | None = None) -> FileOptions:
        """Read and check the options. Raises InvalidParameterValue at the one that is wrong."""
        values = read_options(given, OPTIONS, "file", surroundings)
        kind = values["format"] or format_of(values["path"] or "")
        if kind is None:
            raise InvalidParameterValue(
                'the ending of the path does not say what the files hold: it takes the option "format"',
                hint="format = 'json', 'csv', 'raw', 'parquet' or 'arrow'",
                position=given.places.get("path"),
            )
        for option, kinds in _ONLY_OF.items():
            if option in given.values and kind not in kinds:
                raise InvalidParameterValue(
                    f'the option "{option}" is for {" and ".join(kinds)}, not for {kind}',
                    position=given.places.get(option),
                )
        return FileOptions(values, kind)

    @property
    def path(self) -> str:
        return str(self.values["path"])

    @property
    def order(self) -> str:
        return str(self.values["order"])

    @property
    def replaced(self) -> str:
        return str(self.values["replaced"])

    @property
    def follow(self) -> bool:
        return bool(self.values["follow"])

    @property
    def poll_us(self) -> int:
        return int(self.values["poll_interval"])

    @property
    def last_line_us(self) -> int | None:
        found = self.values["last_line"]
        return None if found is None else int(found)

    @property
    def lines(self) -> bool:
        return self.format in {"json", "csv", "raw"}

    @property
    def whole(self) -> bool:
        """Tell whether a file of this kind is written once."""
        return self.format == "parquet"

    def codec(self, name: str) -> str | None:
        """Name how a file is packed."""
        if not self.lines:
            return None
        said = str(self.values["compression"])
        if said == "auto":
            return CODECS.get(name.rpartition(".")[2].lower())
        return None if said == "none" else said

    def grows_by_bytes(self, name: str) -> bool:
        """Tell whether places in a file are those of its bytes."""
        return self.lines and self.codec(name) is None

    def takes_rest(self, name: str, quiet_us: int) -> bool:
        """Tell whether a last line without a line end is taken, now that the file has not changed for so long."""
        if self.codec(name) is not None or not self.follow:
            return True
        return self.last_line_us is not None and quiet_us >= self.last_line_us

    def fields(self, columns: Sequence[ColumnDefinition]) -> tuple[Field, ...]:
        return fields_of(self.values, columns)

    def check_columns(self, given: Given, columns: Sequence[ColumnDefinition]) -> None:
        """Raise where the format cannot give such columns, or an option names one that is not there."""
        values = [c for c in columns if not c.include]
        if self.format == "raw" and (len(values) != 1 or values[0].type not in {"VARCHAR", "BLOB"}):
            raise InvalidParameterValue(
                "lines as they are need one column, of type text or bytea",
                hint="columns of INCLUDE may stand beside it",
                position=given.places.get("format", given.places.get("path")),
            )
        try:
            self.fields(columns)
        except StreamSQLError as error:
            error.position = given.places.get("columns")
            raise

    def reading(
        self, file: IO[bytes], name: str, fields: tuple[Field, ...], place: int, record_bytes_max: int
    ) -> Reading:
        """Begin to read a file at a place. Raises UnfinishedError where it cannot be read as it is."""
        if self.format == "parquet":
            return parquet_reading(file, fields, place)
        if self.format == "arrow":
            return arrow_reading(file, fields, place)
        decoder = _DECODERS[self.format](self.values, fields, record_bytes_max)
        return LineReading(file, self.codec(name), decoder, place, self.format == "json").open()


def _json(values: dict[str, Any], fields: tuple[Field, ...], record_bytes_max: int) -> BlockDecoder:
    return JsonFormat(fields, times=values["times"], record_bytes_max=record_bytes_max).decoder()


def _csv(values: dict[str, Any], fields: tuple[Field, ...], record_bytes_max: int) -> BlockDecoder:
    return CsvFormat(fields, values["header"], values["delimiter"], values["times"], record_bytes_max).decoder()


def _raw(values: dict[str, Any], fields: tuple[Field, ...], record_bytes_max: int) -> BlockDecoder:
    return RawFormat(fields, "lines", record_bytes_max).decoder()


_DECODERS: dict[str, Callable[[dict[str, Any], tuple[Field, ...], int], BlockDecoder]] = {
    "json": _json, "csv": _csv, "raw": _raw
}  # fmt: skip


def format_of(path: str) -> str | None:
    """Tell what files hold by the ending of a path; None if it says nothing."""
    parts = path.rpartition("/")[2].lower().split(".")[1:]
    if parts and parts[-1] in CODECS:
        parts.pop()
    return ENDINGS.get(parts[-1]) if parts else None
