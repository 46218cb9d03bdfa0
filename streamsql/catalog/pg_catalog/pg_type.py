"""pg_type, pg_enum, pg_range: the types that values can have here, those of the system's relations, and row types.

The built-in types are as PostgreSQL 15 has them; the row types are those of the user's relations. There are no ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from streamsql.catalog import user_types
from streamsql.catalog.pg_catalog import oids
from streamsql.catalog.pg_catalog.pg_proc import oids_by_name
from streamsql.catalog.pg_catalog.shapes import namespace
from streamsql.catalog.relation import Row, Snapshot, table

_FIELDS = (
    "oid typname typlen typbyval typtype typcategory typispreferred typelem typarray typsubscript typinput typoutput "
    "typreceive typsend typmodin typmodout typanalyze typalign typstorage typcollation"
).split()
_NUMBERS = frozenset({"oid", "typlen", "typelem", "typarray", "typcollation"})
_FLAGS = frozenset({"typbyval", "typispreferred"})
_FUNCTIONS = frozenset(
    {"typsubscript", "typinput", "typoutput", "typreceive", "typsend", "typmodin", "typmodout", "typanalyze"}
)


def _field(name: str, text: str) -> object:
    if name in _NUMBERS:
        return int(text)
    if name in _FUNCTIONS:
        return oids_by_name().get(text, 0)
    return text == "t" if name in _FLAGS else text


def _built_in() -> Iterator[dict[str, object]]:
    for line in resources.files(__package__).joinpath("types.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        fields = {name: _field(name, text) for name, text in zip(_FIELDS, line.split(), strict=True)}
        made = {
            **fields, "typnamespace": oids.CATALOG_SCHEMA, "typowner": oids.OWNER, "typisdefined": True,
            "typdelim": ",", "typtypmod": -1,
        }  # fmt: skip
        yield made
        if made["typarray"]:
            yield _array_of(made)


def _array_of(element: dict[str, object]) -> dict[str, object]:
    functions = {f"typ{what}": oids_by_name()[f"array_{short}"] for what, short in _ARRAY_FUNCTIONS}
    return {
        **element, **functions, "oid": element["typarray"], "typname": f"_{element['typname']}", "typlen": -1,
        "typbyval": False, "typcategory": "P" if element["typname"] == "record" else "A", "typispreferred": False,
        "typelem": element["oid"], "typarray": 0, "typrelid": 0,
        "typtype": "p" if element["typname"] == "record" else "b",
        "typalign": "d" if element["typalign"] == "d" else "i", "typstorage": "x",
    }  # fmt: skip


_ARRAY_FUNCTIONS = (
    ("input", "in"), ("output", "out"), ("receive", "recv"), ("send", "send"), ("analyze", "typanalyze"),
    ("subscript", "subscript_handler"),
)  # fmt: skip
BUILT_IN: dict[int, dict[str, object]] = {int(str(row["oid"])): row for row in _built_in()}


def _types(snapshot: Snapshot) -> Iterator[Row]:
    yield from BUILT_IN.values()
    functions = {f"typ{what}": oids_by_name()[f"record_{short}"] for what, short in _IN_AND_OUT}
    for made in snapshot.catalog:
        row: dict[str, object] = {
            **functions, "oid": oids.row_type(made.id), "typname": made.bare, "typnamespace": namespace(snapshot.catalog, made),
            "typowner": oids.OWNER, "typlen": -1, "typtype": "c", "typcategory": "C", "typisdefined": True,
            "typdelim": ",", "typrelid": oids.relation(made.id), "typarray": oids.row_array(made.id), "typalign": "d",
            "typstorage": "x", "typtypmod": -1,
        }  # fmt: skip
        yield row
        yield _array_of(row)
    for made_type in snapshot.catalog.types.values():
        row = _made_by_user(snapshot, made_type, functions)
        yield row
        yield _array_of(row)


def _made_by_user(snapshot: Snapshot, made: user_types.UserType, of_records: dict[str, int]) -> dict[str, object]:
    row: dict[str, object] = {
        "oid": made.wire.oid, "typname": made.bare, "typnamespace": namespace(snapshot.catalog, made),
        "typowner": snapshot.catalog.access.owner_of(made.id), "typisdefined": True, "typdelim": ",",
        "typarray": made.wire.array_oid, "typtypmod": -1,
    }  # fmt: skip
    if made.labels is None:
        composite = {"typlen": -1, "typtype": "c", "typcategory": "C", "typrelid": oids.relation(made.id),
                     "typalign": "d", "typstorage": "x"}  # fmt: skip
        return {**row, **of_records, **composite}
    names = {f"typ{what}": oids_by_name()[f"enum_{short}"] for what, short in _IN_AND_OUT}
    enum = {"typlen": 4, "typbyval": True, "typtype": "e", "typcategory": "E", "typrelid": 0, "typalign": "i",
            "typstorage": "p"}  # fmt: skip
    return {**row, **names, **enum}


_IN_AND_OUT = (("input", "in"), ("output", "out"), ("receive", "recv"), ("send", "send"))


def _labels(snapshot: Snapshot) -> Iterator[Row]:
    for made in snapshot.catalog.types.values():
        for label, rank in made.labels.ranks.items() if made.labels is not None else ():
            oid = user_types.label_oid(made.wire.oid, label)
            yield {"oid": oid, "enumtypid": made.wire.oid, "enumsortorder": rank, "enumlabel": label}


PG_TYPE = table(
    1247,
    "pg_type",
    """oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype char, typcategory
    char, typispreferred bool, typisdefined bool, typdelim char, typrelid oid, typsubscript regproc, typelem oid,
    typarray oid, typinput regproc, typoutput regproc, typreceive regproc, typsend regproc, typmodin regproc,
    typmodout regproc, typanalyze regproc, typalign char, typstorage char, typnotnull bool, typbasetype oid,
    typtypmod int4, typndims int4, typcollation oid, typdefaultbin pg_node_tree, typdefault text, typacl aclitem[]""",
    _types,
)
PG_ENUM = table(
    3501,
    "pg_enum",
    """oid oid, enumtypid oid, enumsortorder float4, enumlabel name""",
    _labels,
)
PG_RANGE = table(
    3541,
    "pg_range",
    """rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical regproc,
    rngsubdiff regproc""",
)
