"""Session variables: what clients SET and SHOW.

Only what Postgres clients ask for is here. Those that would change results (`TimeZone`, `DateStyle`) take the values that
the server works with and refuse others, rather than being accepted and ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, UndefinedObject
from streamsql.catalog.objects import nearest
from streamsql.catalog.relation import Setting
from streamsql.plan.functions import SERVER_VERSION


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: its default, its description, the values it takes (None: any), and whether changes are reported."""

    default: str
    description: str
    allowed: frozenset[str] | None = None
    reported: bool = False
    writable: bool = True


def _only(*values: str) -> frozenset[str]:
    return frozenset(v.lower() for v in values)


_UTC = _only("utc", "gmt", "etc/utc", "z", "+00", "+00:00", "universal", "0", "zulu", "etc/gmt", "uct")

_ON_DISK = _only("on", "local", "remote_write", "remote_apply")
# as PostgreSQL compares them: letters and digits only. SQL_ASCII means "do not convert".
_ENCODINGS = _only("utf8", "unicode", "sqlascii")

# in the order of their names; names are compared without case
VARIABLES: dict[str, Variable] = {
    "application_name": Variable("", "name of the client program", reported=True),
    "bytea_output": Variable("hex", "how bytea is shown", _only("hex")),
    "client_encoding": Variable("UTF8", "character set of the client", _ENCODINGS, reported=True),
    "client_min_messages": Variable("notice", "least severe message that is sent", None),
    "datestyle": Variable("ISO, MDY", "how dates are shown", _only("iso", "iso, mdy", "iso,mdy", "iso, ymd", "iso,ymd"), True),
    "default_transaction_isolation": Variable("read committed", "isolation of new transactions", None),
    "default_transaction_read_only": Variable("off", "whether new transactions only read", None),
    "extra_float_digits": Variable("1", "digits of floating-point numbers: always enough to read them back", None),
    "idle_in_transaction_session_timeout": Variable("0", "not enforced: 0 only", _only("0", "0ms", "0s")),
    "integer_datetimes": Variable("on", "timestamps are integers", reported=True, writable=False),
    "intervalstyle": Variable("postgres", "how intervals are shown", _only("postgres"), True),
    "is_superuser": Variable("on", "whether the user may do everything", reported=True, writable=False),
    "jit": Variable("off", "there is no such compiler", None),
    "lock_timeout": Variable("0", "there are no locks to wait for: 0 only", _only("0", "0ms", "0s")),
    "max_identifier_length": Variable("63", "bytes in a name", writable=False),
    "search_path": Variable("public", "where names are looked up", None),
    "server_encoding": Variable("UTF8", "character set of the server", reported=True, writable=False),
    "server_version": Variable(SERVER_VERSION, "the PostgreSQL version that clients may expect", None, True, False),
    "server_version_num": Variable("150000", "the same as a number", writable=False),
    "session_authorization": Variable("", "the user", reported=True, writable=False),
    "standard_conforming_strings": Variable("on", "backslashes are plain", _only("on", "true", "1"), True),
    "statement_timeout": Variable("0", "not enforced: 0 only", _only("0", "0ms", "0s")),
    "synchronous_commit": Variable("on", "a commit is on disk when it is answered", _ON_DISK),
    "timezone": Variable("UTC", "time zone of timestamptz", _UTC, True),
    "transaction_isolation": Variable("read committed", "isolation of this transaction", None),
    "transaction_read_only": Variable("off", "whether this transaction only reads", None),
}  # fmt: skip

# the spelling in which Postgres reports them
_SPELLING = {"datestyle": "DateStyle", "intervalstyle": "IntervalStyle", "timezone": "TimeZone"}
_ALIASES = {"names": "client_encoding", "time zone": "timezone"}


def spelling(name: str) -> str:
    return _SPELLING.get(name, name)


def key_of(name: str) -> str:
    lowered = name.lower()
    return _ALIASES.get(lowered, lowered)


@dataclass(slots=True)
class Variables:
    """The values in one session."""

    user: str
    values: dict[str, str] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)  # what the client was told last
    _changed: bool = False

    def get(self, name: str) -> str:
        """Give a variable's value; raises UndefinedObject."""
        key = key_of(name)
        if key in self.values:
            return self.values[key]
        if key == "session_authorization":
            return self.user
        return _known(key).default

    def settings(self) -> list[Setting]:
        """Give all variables as ``pg_settings`` shows them."""
        return [
            Setting(
                spelling(n),
                self.get(n),
                v.default,
                v.description,
                v.writable,
                None if v.allowed is None else tuple(v.allowed),
            )
            for n, v in VARIABLES.items()
        ]

    def set(self, name: str, value: str | None) -> None:
        """Set a variable (None: back to its default)."""
        key = key_of(name)
        if "." in key:  # an extension's own variable: Postgres keeps any such
            self.values[key] = value or ""
            return
        variable = _known(key)
        if not variable.writable:
            raise InvalidParameterValue(f'parameter "{spelling(key)}" cannot be changed')
        if value is None:
            self.values.pop(key, None)
        else:
            if variable.allowed is not None and _compared(key, value) not in variable.allowed:
                raise FeatureNotSupported(
                    f'parameter "{spelling(key)}" cannot be set to "{value}"',
                    hint=f"values that it takes: {', '.join(sorted(variable.allowed))}",
                )
            self.values[key] = variable.default if variable.reported and variable.allowed else value
        self._changed = self._changed or variable.reported

    def reset_all(self) -> None:
        """Set every variable back to its default."""
        self.values.clear()
        self._changed = True

    def take_changed(self) -> list[tuple[str, str]]:
        """Give the reported variables that have another value than the client was told: ParameterStatus."""
        if not self._changed:
            return []
        self._changed = False
        changed = {n: self.get(n) for n, v in VARIABLES.items() if v.reported and self.get(n) != self._told.get(n)}
        self._told |= changed
        return [(spelling(name), value) for name, value in changed.items()]

    def reported(self) -> list[tuple[str, str]]:
        """Give all that are reported, as the client is told at the start."""
        self._changed = True
        return self.take_changed()


def _compared(key: str, value: str) -> str:
    if key == "client_encoding":
        return "".join(c for c in value.lower() if c.isalnum())
    return value.strip().lower()


def _known(key: str) -> Variable:
    found = VARIABLES.get(key)
    if found is None:
        raise UndefinedObject(f'unrecognized configuration parameter "{key}"', hint=nearest(key, VARIABLES))
    return found
