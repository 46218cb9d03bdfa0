"""Files: ``connector = 'file'``, as a source (`source`) and as a sink (`sink`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamsql.connectors.files.inferring import infer_columns
from streamsql.connectors.files.options import FileOptions
from streamsql.connectors.files.places import place_of
from streamsql.connectors.files.source import FileSource
from streamsql.connectors.source import Given, Metadata, Surroundings
from streamsql.engine.positions import Positions
from streamsql.sql.statements import ColumnDefinition


class Files:
    """The source's connector."""

    metadata: Mapping[str, Metadata] = {
        "file": Metadata("VARCHAR"),
        "offset": Metadata("BIGINT"),
        "timestamp": Metadata("TIMESTAMP WITH TIME ZONE", ("TIMESTAMP",)),
    }

    def columns(self, given: Given, declared: Sequence[ColumnDefinition]) -> tuple[ColumnDefinition, ...]:
        FileOptions.of(given).check_columns(given, declared)
        return tuple(declared)

    def infer(self, given: Given, surroundings: Surroundings) -> tuple[ColumnDefinition, ...]:
        options = FileOptions.of(given, surroundings)
        return infer_columns(place_of(options.path, options.values, surroundings), options)

    def open(
        self,
        given: Given,
        columns: Sequence[ColumnDefinition],
        positions: Positions,
        now_us: int,
        surroundings: Surroundings,
    ) -> FileSource:
        options = FileOptions.of(given, surroundings)
        return FileSource(
            place_of(options.path, options.values, surroundings), options, columns, positions, surroundings
        )
