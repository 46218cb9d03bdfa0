"""pg_proc, pg_aggregate, pg_language: the functions that a query can call and that PostgreSQL has as well.

``functions.txt`` lists them by their OIDs in PostgreSQL 15. Functions that only DuckDB has can be called and are not listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources

from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.relation import Row, Snapshot, table

_INTERNAL = 12


@cache
def functions() -> tuple[dict[str, object], ...]:
    """Give the rows of pg_proc."""
    return tuple(_read(resources.files(__package__).joinpath("functions.txt").read_text("utf-8")))


def _read(text: str) -> Iterator[dict[str, object]]:
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, *forms = line.split(" ")
        for form in forms:
            oid, flags, result, arguments = form.split(":")
            types = [int(a) for a in arguments.split(",")] if arguments else []
            yield {
                "oid": int(oid), "proname": name, "pronamespace": oids.CATALOG_SCHEMA, "proowner": oids.OWNER,
                "prolang": _INTERNAL, "procost": 1.0, "prorows": 1000.0 if flags[1] == "s" else 0.0,
                "prokind": flags[0], "proretset": flags[1] == "s", "proisstrict": flags[2] == "t",
                "provolatile": flags[3], "proparallel": "s", "pronargs": len(types), "prorettype": int(result),
                "proargtypes": types, "prosrc": name,
            }  # fmt: skip


@cache
def names() -> dict[int, str]:
    """Name the functions by OID."""
    return {int(str(row["oid"])): str(row["proname"]) for row in functions()}


@cache
def oids_by_name() -> dict[str, int]:
    """Give the OIDs of functions that have one form only, and of the first form of others."""
    return {name: oid for oid, name in reversed(names().items())}


def _functions(_: Snapshot) -> Iterator[Row]:
    return iter(functions())


def _languages(_: Snapshot) -> Iterator[Row]:
    for oid, name, trusted in ((_INTERNAL, "internal", False), (14, "sql", True)):
        yield {"oid": oid, "lanname": name, "lanowner": oids.OWNER, "lanpltrusted": trusted}


PG_PROC = table(
    1255,
    "pg_proc",
    """oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4,
    provariadic oid, prosupport regproc, prokind char, prosecdef bool, proleakproof bool, proisstrict bool,
    proretset bool, provolatile char, proparallel char, pronargs int2, pronargdefaults int2, prorettype oid,
    proargtypes oidvector, proallargtypes oid[], proargmodes char[], proargnames text[], proargdefaults
    pg_node_tree, protrftypes oid[], prosrc text, probin text, prosqlbody pg_node_tree, proconfig text[], proacl
    aclitem[]""",
    _functions,
)
PG_LANGUAGE = table(
    2612,
    "pg_language",
    """oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, laninline oid,
    lanvalidator oid, lanacl aclitem[]""",
    _languages,
)
