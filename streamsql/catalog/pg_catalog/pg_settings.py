"""pg_settings: the variables of the session that asks."""

from __future__ import annotations

from collections.abc import Iterator

from streamsql.catalog.relation import Row, Snapshot, view


def _settings(snapshot: Snapshot) -> Iterator[Row]:
    for setting in snapshot.settings():
        if setting.choices is not None and set(setting.choices) <= {"on", "off", "true", "false", "0", "1"}:
            kind = "bool"
        elif setting.value.isdecimal():
            kind = "integer"
        else:
            kind = "enum" if setting.choices is not None else "string"
        yield {
            "name": setting.name, "setting": setting.value, "category": "Client Connection Defaults",
            "short_desc": setting.description, "context": "user" if setting.writable else "internal",
            "vartype": kind, "source": "default" if setting.value == setting.default else "session",
            "enumvals": list(setting.choices) if kind == "enum" and setting.choices else None,
            "boot_val": setting.default, "reset_val": setting.default, "pending_restart": False,
        }  # fmt: skip


PG_SETTINGS = view(
    12104,
    "pg_settings",
    """name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, vartype
    text, source text, min_val text, max_val text, enumvals text[], boot_val text, reset_val text, sourcefile
    text, sourceline int4, pending_restart bool""",
    _settings,
    lasting=False,
)
