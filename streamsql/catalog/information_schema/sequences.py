"""sequences: all but those that number identity columns, which are part of their columns."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.objects import Relation
from streamsql.catalog.relation import Row, Snapshot, standard
from streamsql.sql.sequence_statements import SEQUENCE_TYPES


def _sequences(snapshot: Snapshot) -> Iterator[Row]:
    identities = {
        (made.id, column.name)
        for made in snapshot.catalog if isinstance(made, Relation)
        for column in made.columns if column.numbered is not None and column.numbered.is_identity
    }  # fmt: skip
    for sequence in snapshot.catalog.sequences.values():
        if sequence.owned_by in identities:
            continue
        options = sequence.options
        yield {
            "sequence_catalog": snapshot.database, "sequence_schema": sequence.schema, "sequence_name": sequence.bare,
            "data_type": options.type, "numeric_precision": SEQUENCE_TYPES[options.type].bit_length() + 1,
            "numeric_precision_radix": 2, "numeric_scale": 0, "start_value": str(options.first),
            "minimum_value": str(options.lowest), "maximum_value": str(options.highest),
            "increment": str(options.increment), "cycle_option": "YES" if options.cycle else "NO",
        }  # fmt: skip


RELATIONS = (
    standard(
        13386,
        "sequences",
        """sequence_catalog name, sequence_schema name, sequence_name name, data_type varchar, numeric_precision int4,
    numeric_precision_radix int4, numeric_scale int4, start_value varchar, minimum_value varchar, maximum_value
    varchar, increment varchar, cycle_option varchar""",
        _sequences,
    ),
)
