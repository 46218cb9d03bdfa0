"""``CREATE STREAM s SCHEMA INFERRED ... WITH (connector = ...)``: columns that a sample of the source's records has.

Once they are found, they stand in the definition like any others, and nothing is inferred again. Columns that the statement
declares count before those of the same name that were found.
"""

from __future__ import annotations

import dataclasses

from streamsql.base.errors import FeatureNotSupported
from streamsql.connectors import connector_of, given_of
from streamsql.connectors.source import Infers, Surroundings
from streamsql.sql.statements import CreateStream


def inferred(statement: CreateStream, surroundings: Surroundings) -> CreateStream:
    """Give the statement with its columns written out. Reads from the source. Raises StreamSQLError."""
    name = statement.options["connector"]
    connector = connector_of(statement.options, statement.option_positions)
    if not isinstance(connector, Infers):
        raise FeatureNotSupported(
            f'the connector "{name}" infers no columns',
            hint="write the columns out",
            position=statement.option_positions.get("connector"),
        )
    given = given_of(statement.options, statement.option_positions)
    declared = {column.name: column for column in statement.columns}
    found = [declared.pop(column.name, column) for column in connector.infer(given, surroundings)]
    return dataclasses.replace(statement, columns=(*found, *declared.values()), inferred=False)
