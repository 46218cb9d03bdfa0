"""The columns of files, by a sample: the first records of the first files that have any."""

from __future__ import annotations

import pyarrow as pa

from streamsql.base.errors import InvalidParameterValue
from streamsql.connectors.files.options import FileOptions
from streamsql.connectors.files.places import Place
from streamsql.formats.format import Field
from streamsql.formats.infer import SAMPLE_BYTES_MAX, infer_csv, infer_json, infer_table
from streamsql.sql.statements import ColumnDefinition

FILES_MAX = 10


def infer_columns(place: Place, options: FileOptions) -> tuple[ColumnDefinition, ...]:
    """Tell the columns. Raises InvalidParameterValue where there is nothing to tell them by."""
    if options.format == "raw":
        return (ColumnDefinition("line", "VARCHAR"),)
    files = sorted((f for f in place.list() if f.size), key=lambda f: f.name)[:FILES_MAX]
    if not files:
        raise InvalidParameterValue(f'there are no files to infer columns from at "{options.path}"')
    if not options.lines:
        with place.open(files[0].name) as file:
            return _columns(infer_table(file))
    head, *others = [_head(place, options, f.name, SAMPLE_BYTES_MAX // len(files)) for f in files]
    if options.format == "json":
        return _columns(infer_json(head + b"".join(others)))
    if options.values["header"]:
        return _columns(infer_csv(head, options.values["delimiter"]))
    return _columns(infer_csv(head + b"".join(others), options.values["delimiter"], header=False))


def _head(place: Place, options: FileOptions, name: str, count: int) -> bytes:
    """Give the first whole lines of a file."""
    codec = options.codec(name)
    found = b""
    with place.open(name) as file:
        source = file if codec is None else pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)
        try:
            while len(found) < count and (piece := source.read(min(count, 1 << 16))):
                found += piece
        except (OSError, pa.ArrowException) as error:
            if not found:
                raise InvalidParameterValue(f'"{place.shown(name)}" cannot be read: {error}') from error
    end = found.rfind(b"\n") + 1
    return found[:end] if end else found + b"\n"


def _columns(fields: tuple[Field, ...]) -> tuple[ColumnDefinition, ...]:
    return tuple(ColumnDefinition(f.name, f.type) for f in fields)
