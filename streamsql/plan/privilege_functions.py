"""``has_table_privilege`` and its kin, and ``pg_has_role``: about whoever asks, or about the role that comes first.

Each is a template, as in `catalog_functions`, over the rights that roles have. Several privileges, divided by commas, mean any
of them. About what has no privileges here (functions, types, languages) the answer is yes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from streamsql.catalog.pg_catalog.rights_table import ALL_RIGHTS, OWN_RIGHTS, RIGHT

# function -> what it asks about, and how many arguments it has without the role
_ASKED: dict[str, tuple[str | None, int]] = {
    "has_any_column_privilege": ("class", 2),
    "has_column_privilege": ("class", 3),
    "has_database_privilege": (None, 2),
    "has_schema_privilege": ("namespace", 2),
    "has_sequence_privilege": ("class", 2),
    "has_table_privilege": ("class", 2),
    "pg_has_role": ("role", 2),
}
PRIVILEGE_FUNCTIONS = frozenset(_ASKED)
_ALWAYS = "TRUE"


def asked_kinds(name: str, count: int) -> list[str | None]:
    """Tell of each argument what it names: a ``role``, a ``class``, a ``namespace``, or nothing (None)."""
    kind, own_count = _ASKED[name]
    about_other: list[str | None] = ["role"] if count > own_count else []
    return [*about_other, kind, *[None] * (own_count - 1)]


def privilege_template(
    name: str, arguments: Sequence[exp.Expr], oid: Callable[[str, str], str], *, superuser: bool
) -> str:
    """Give the template of a call. `oid(kind, argument)` is the SQL that reads an argument as an OID."""
    kind, own_count = _ASKED[name]
    count = len(arguments)
    about_other = count > own_count
    if superuser and not about_other:
        return _ALWAYS
    if kind is None:
        return f"NOT contains(upper(${count}), 'CREATE')"

    def read(place: int, kind: str) -> str:
        known = isinstance(arguments[place - 1], exp.Literal) and not arguments[place - 1].is_string
        return f"${place}" if known else oid(kind, f"${place}")

    role = f"{read(1, 'role')} || ':' || " if about_other else ""
    relation = (ALL_RIGHTS if about_other else OWN_RIGHTS).read_as
    privileges = f"upper(trim(${count}))"
    if kind == "role":
        privileges = f"replace({privileges}, ' WITH ADMIN OPTION', '')"
    together = f"regexp_replace({privileges}, '\\s*,\\s*', ',', 'g')"
    # what is looked up for each privilege begins with the same; NULL where the object is not known
    keys = f"string_split(__prefix || replace({together}, ',', ',' || __prefix), ',')"
    prefix = f"{role}'{kind}:' || {read(2 if about_other else 1, kind)} || ':'"
    rights = f'(SELECT list({RIGHT}) FROM "{relation}")'
    return f"(SELECT list_has_any({rights}, {keys}) FROM (SELECT {prefix} AS __prefix) WHERE __prefix IS NOT NULL)"
