"""pg_sequence and pg_sequences: the sequences, also those that number columns."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.base.types import INT2, INT4, INT8
from streamsql.catalog.objects import Sequence
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.relation import PG_CATALOG, CatalogRelation, Row, Snapshot, columns, table, view

TYPES = {"smallint": INT2, "integer": INT4, "bigint": INT8}


def _bounds(sequence: Sequence) -> tuple[int, int, int, int, int]:
    options = sequence.options
    return options.first, options.increment, options.highest, options.lowest, options.cache


def sequence_relation(sequence: Sequence) -> CatalogRelation:
    """Give a sequence as the relation of one row that it is: ``SELECT last_value FROM s``."""

    def rows(snapshot: Snapshot) -> Iterator[Row]:
        last, called = snapshot.last_number(sequence)
        yield {"last_value": last, "log_cnt": 0, "is_called": called}

    listed = columns("last_value int8, log_cnt int8, is_called bool")
    oid = oids.relation(sequence.id)
    return CatalogRelation(PG_CATALOG, f"sequence_{sequence.id}", oid, "S", listed, rows, lasting=False)


def _sequences(snapshot: Snapshot) -> Iterator[Row]:
    for sequence in snapshot.catalog.sequences.values():
        first, increment, highest, lowest, cache = _bounds(sequence)
        yield {
            "seqrelid": oids.relation(sequence.id), "seqtypid": TYPES[sequence.options.type].oid, "seqstart": first,
            "seqincrement": increment, "seqmax": highest, "seqmin": lowest, "seqcache": cache,
            "seqcycle": sequence.options.cycle,
        }  # fmt: skip


def _shown(snapshot: Snapshot) -> Iterator[Row]:
    for sequence in snapshot.catalog.sequences.values():
        first, increment, highest, lowest, cache = _bounds(sequence)
        last, called = snapshot.last_number(sequence)
        yield {
            "schemaname": sequence.schema, "sequencename": sequence.bare,
            "sequenceowner": snapshot.role_name(snapshot.catalog.access.owner_of(sequence.id)),
            "data_type": TYPES[sequence.options.type].oid, "start_value": first, "min_value": lowest,
            "max_value": highest, "increment_by": increment, "cycle": sequence.options.cycle, "cache_size": cache,
            "last_value": last if called else None,
        }  # fmt: skip


PG_SEQUENCE = table(
    2224,
    "pg_sequence",
    """seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8,
    seqcycle bool""",
    _sequences,
)
PG_SEQUENCES = view(
    12048,
    "pg_sequences",
    """schemaname name, sequencename name, sequenceowner name, data_type regtype, start_value int8, min_value int8,
    max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8""",
    _shown,
    lasting=False,
)
