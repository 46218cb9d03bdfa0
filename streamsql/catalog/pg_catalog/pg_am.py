"""pg_am and pg_collation: small relations whose rows are the same in every database."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.pg_proc import oids_by_name
from streamsql.catalog.relation import Row, Snapshot, table


def _methods(_: Snapshot) -> Iterator[Row]:
    handlers = oids_by_name()
    yield {"oid": oids.HEAP, "amname": "heap", "amhandler": handlers["heap_tableam_handler"], "amtype": "t"}
    yield {"oid": oids.BTREE, "amname": "btree", "amhandler": handlers["bthandler"], "amtype": "i"}


def _collations(_: Snapshot) -> Iterator[Row]:
    always = {
        "collnamespace": oids.CATALOG_SCHEMA,
        "collowner": oids.OWNER,
        "collisdeterministic": True,
        "collencoding": -1,
    }
    yield {**always, "oid": oids.DEFAULT_COLLATION, "collname": "default", "collprovider": "d"}
    for oid, name in ((oids.C_COLLATION, "C"), (951, "POSIX")):
        yield {**always, "oid": oid, "collname": name, "collprovider": "c", "collcollate": name, "collctype": name}


PG_AM = table(
    2601,
    "pg_am",
    """oid oid, amname name, amhandler regproc, amtype char""",
    _methods,
)
PG_COLLATION = table(
    3456,
    "pg_collation",
    """oid oid, collname name, collnamespace oid, collowner oid, collprovider char, collisdeterministic bool,
    collencoding int4, collcollate text, collctype text, colliculocale text, collversion text""",
    _collations,
)
