"""``has_table_privilege`` and its kin, and ``pg_has_role``: about whoever asks, or about the role that comes first.

Each is a template, as in `catalog_functions`, over the rights that roles have. Several privileges, divided by commas, mean any
of them. About what has no privileges here (functions, types, languages) the answer is yes.
"""

from __future__ import annotations

from collections.abc import Callable

from streamsql.catalog.pg_catalog.rights_table import ALL_RIGHTS, OWN_RIGHTS, RIGHT

# function -> what it asks about, and how many arguments it has without the role
_ASKED: dict[str, tuple[str, int]] = {
    "has_any_column_privilege": ("class", 2),
    "has_column_privilege": ("class", 3),
    "has_schema_privilege": ("namespace", 2),
    "has_table_privilege": ("class", 2),
    "pg_has_role": ("role", 2),
}
_ALWAYS = "TRUE"


def is_privilege_function(name: str | None) -> bool:
    """Tell whether a function may begin with a role."""
    return name in _ASKED or name == "has_database_privilege"


def privilege_template(name: str, count: int, oid: Callable[[str, str], str], *, superuser: bool) -> str | None:
    """Give the template of a call with so many arguments; None for other functions.

    `oid(kind, argument)` is the SQL that reads an argument as an OID.
    """
    if name == "has_database_privilege":
        return _ALWAYS if superuser else f"NOT contains(upper(${count}), 'CREATE')"
    if name not in _ASKED:
        return None
    kind, own_count = _ASKED[name]
    about_other = count > own_count
    if superuser and not about_other:
        return _ALWAYS
    first = 2 if about_other else 1
    wanted = oid(kind, f"${first}")
    role = f"{oid('role', '$1')} || ':' || " if about_other else ""
    relation = (ALL_RIGHTS if about_other else OWN_RIGHTS).read_as
    # what is looked up, once for each privilege; a lambda could hold no subquery
    prefix = f"({role}'{kind}:' || {wanted} || ':')"
    privileges = f"replace(upper(trim(${count})), ' WITH ADMIN OPTION', '')" if kind == "role" else f"upper(trim(${count}))"
    together = f"regexp_replace({privileges}, '\\s*,\\s*', ',', 'g')"
    keys = f"string_split({prefix} || replace({together}, ',', ',' || {prefix}), ',')"
    return (
        f'CASE WHEN {wanted} IS NOT NULL THEN list_has_any((SELECT list({RIGHT}) FROM "{relation}"), {keys}) END'
    )
