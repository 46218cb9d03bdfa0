"""Session variables: what clients SET and SHOW.

Only what Postgres clients ask for is here. Those that would change results (`TimeZone`, `DateStyle`) take the values that
the server works with and refuse others, rather than being accepted and ignored. What PostgreSQL takes as advice (`HINTS`:
its planner, its memory, how functions are checked) can be set to anything, and no result depends on it there either.

As in PostgreSQL, what is set in a transaction is undone where that is rolled back, and SET LOCAL lasts to its end.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue, SQLSyntaxError, UndefinedObject
from streamsql.catalog.objects import nearest
from streamsql.catalog.relation import Setting
from streamsql.plan.functions import SERVER_VERSION
from streamsql.server.identity import Identity


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: its default, its description, the values it takes (None: any), and whether changes are reported."""

    default: str
    description: str
    allowed: frozenset[str] | None = None
    reported: bool = False
    writable: bool = True


# advice to PostgreSQL's planner, executor and dump; name -> its default
HINTS: dict[str, str] = {
    "backslash_quote": "safe_encoding", "check_function_bodies": "on", "constraint_exclusion": "partition",
    "cpu_tuple_cost": "0.01", "cursor_tuple_fraction": "0.1", "default_statistics_target": "100",
    "default_table_access_method": "heap", "default_tablespace": "", "default_transaction_deferrable": "off",
    "effective_cache_size": "4GB", "effective_io_concurrency": "1",
    **dict.fromkeys(
        (
            "enable_bitmapscan", "enable_hashagg", "enable_hashjoin", "enable_indexonlyscan", "enable_indexscan",
            "enable_material", "enable_memoize", "enable_mergejoin", "enable_nestloop", "enable_seqscan", "enable_sort",
            "enable_tidscan",
        ),
        "on",
    ),
    "escape_string_warning": "on", "force_parallel_mode": "off", "from_collapse_limit": "8", "geqo": "on",
    "geqo_threshold": "12", "gin_pending_list_limit": "4MB", "jit": "off", "join_collapse_limit": "8",
    "lc_messages": "C", "log_min_messages": "warning", "log_statement": "none",
    "maintenance_work_mem": "64MB", "max_parallel_workers": "8", "max_parallel_workers_per_gather": "2",
    "plan_cache_mode": "auto", "quote_all_identifiers": "off", "random_page_cost": "4", "seq_page_cost": "1",
    "session_replication_role": "origin", "synchronize_seqscans": "on", "tcp_keepalives_count": "0",
    "tcp_keepalives_idle": "0", "tcp_keepalives_interval": "0", "temp_buffers": "8MB", "temp_tablespaces": "",
    "tcp_user_timeout": "0", "vacuum_cost_delay": "0", "work_mem": "4MB", "xmlbinary": "base64", "xmloption": "content",
}  # fmt: skip


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
    "idle_in_transaction_session_timeout": Variable("0", "how long a session may idle in a transaction; 0 is for ever"),
    "integer_datetimes": Variable("on", "timestamps are integers", reported=True, writable=False),
    "intervalstyle": Variable("postgres", "how intervals are shown", _only("postgres"), True),
    "is_superuser": Variable("on", "whether the user may do everything", reported=True, writable=False),
    "idle_session_timeout": Variable("0", "how long a session may idle outside of a transaction; 0 is for ever"),
    "in_hot_standby": Variable("off", "whether this server follows another", writable=False),
    "lc_collate": Variable("C", "order of text: by its bytes", writable=False),
    "lc_ctype": Variable("C", "classes of characters", writable=False),
    "lc_monetary": Variable("C", "how money is shown", _only("c", "posix")),
    "lc_numeric": Variable("C", "how numbers are shown", _only("c", "posix")),
    "lc_time": Variable("C", "how times are shown", _only("c", "posix")),
    "lock_timeout": Variable("0", "how long a statement may wait for an advisory lock; 0 is for ever"),
    "max_function_args": Variable("100", "arguments of a function, as drivers are told", writable=False),
    "max_identifier_length": Variable("63", "bytes in a name", writable=False),
    "max_index_keys": Variable("32", "columns of a key, as drivers are told", writable=False),
    "role": Variable("none", "the role that is acted as; none: the session's own"),
    "row_security": Variable("on", "there are no policies that hide rows", None),
    "search_path": Variable('"$user", public', "where PostgreSQL looks names up: here always in pg_catalog and public", None),
    "server_encoding": Variable("UTF8", "character set of the server", reported=True, writable=False),
    "server_version": Variable(SERVER_VERSION, "the PostgreSQL version that clients may expect", None, True, False),
    "server_version_num": Variable("150000", "the same as a number", writable=False),
    "session_authorization": Variable("", "the session's own role", reported=True),
    "ssl": Variable("off", "whether connections can be encrypted", writable=False),
    "max_connections": Variable("1000", "sessions at once", writable=False),
    "memory_limit": Variable("", "memory that DuckDB may use; empty: 80 % of the machine's", writable=False),
    "authentication_timeout": Variable("60s", "how long logging in may take", writable=False),
    "password_encryption": Variable("scram-sha-256", "how passwords are kept", _only("scram-sha-256")),
    "standard_conforming_strings": Variable("on", "backslashes are plain", _only("on", "true", "1"), True),
    "statement_timeout": Variable("0", "how long a statement may take: milliseconds, or with a unit; 0 is for ever"),
    "synchronous_commit": Variable("on", "a commit is on disk when it is answered", _ON_DISK),
    "timezone": Variable("UTC", "time zone of timestamptz", None, True),
    "transaction_deferrable": Variable("off", "whether this transaction may be deferred", None),
    "transaction_isolation": Variable("read committed", "isolation of this transaction", None),
    "transaction_read_only": Variable("off", "whether this transaction only reads", None),
}  # fmt: skip
VARIABLES |= {name: Variable(default, "advice to PostgreSQL, without effect") for name, default in HINTS.items()}
VARIABLES = dict(sorted(VARIABLES.items()))
_UNITS_MS = {"": 1, "ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "us": 0.001}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|)\s*\Z")
_TIMEOUTS = frozenset(
    {"idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout", "statement_timeout"}
)
# who the session is: SET ROLE and SET SESSION AUTHORIZATION
IDENTITY = frozenset({"role", "session_authorization"})
# of one transaction; what they are set to in none is forgotten
_OF_TRANSACTION = "transaction_"

TRANSACTION_VARIABLES = tuple(name for name in VARIABLES if name.startswith(_OF_TRANSACTION))

# the spelling in which Postgres reports them
_SPELLING = {"datestyle": "DateStyle", "intervalstyle": "IntervalStyle", "timezone": "TimeZone"}
_ALIASES = {"names": "client_encoding", "time zone": "timezone"}


def spelling(name: str) -> str:
    return _SPELLING.get(name, name)


def key_of(name: str) -> str:
    lowered = name.lower()
    return _ALIASES.get(lowered, lowered)


def command_line_options(text: str) -> list[tuple[str, str]]:
    """Read the startup parameter ``options``: ``-c name=value``, ``--name=value``; a backslash quotes what follows.

    Raises SQLSyntaxError for any other option of the `postgres` program.
    """
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in re.findall(r"(?:\\.|\S)+", text, re.DOTALL)]
    found: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = words.pop(0)
        elif word.startswith(("--", "-c")):
            word = word[2:]
        else:
            raise SQLSyntaxError(
                f'invalid command-line argument for server process: "{word}"', hint="use -c name=value"
            )
        name, equals, value = word.partition("=")
        if not equals:
            raise SQLSyntaxError(f"-c {name} requires a value")
        found.append((name.replace("-", "_").lower(), value))
    return found


@dataclass(slots=True)
class Variables:
    """The values in one session."""

    user: str
    values: dict[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    server: Mapping[str, str] = field(default_factory=dict)  # what is set when the server is started
    _told: dict[str, str] = field(default_factory=dict)  # what the client was told last
    _changed: bool = False
    _before: dict[str, str] | None = None  # as it was when the transaction began
    _local: dict[str, str | None] = field(default_factory=dict)  # what SET LOCAL put another value over

    def get(self, name: str) -> str:
        """Give a variable's value; raises UndefinedObject."""
        key = key_of(name)
        if key in self.values:
            return self.values[key]
        if key == "session_authorization":
            return self.user
        if key == "is_superuser" and self.identity is not None:
            return "on" if self.identity.is_superuser(self) else "off"
        if key in self.server:
            return self.server[key]
        if key.startswith(_OF_TRANSACTION):
            return self.get(f"default_{key}")
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

    def begin(self) -> None:
        """Remember everything for the end of a transaction that begins."""
        self._before = dict(self.values)

    def end(self, *, committed: bool) -> None:
        """Undo what was set for a transaction that has ended, and all of it if that was rolled back."""
        if self._before is None:
            return
        before, self._before = self._before, None
        if not committed:
            self.values = before
        else:
            for key, value in self._local.items():
                self._put_back(key, value)
        for key in [k for k in self.values if k.startswith(_OF_TRANSACTION)]:
            del self.values[key]
        self._local.clear()
        self._changed = True

    def fail(self, savepoint: dict[str, str] | None) -> None:
        """Undo, as soon as a statement fails, what its transaction set: since the last savepoint, if it has one."""
        if savepoint is None:
            self.end(committed=False)
        else:
            self.restore(savepoint)

    def restore(self, values: dict[str, str]) -> None:
        """Undo what was set since a savepoint; `values` are those of that time."""
        self.values = dict(values)
        self._changed = True

    def _put_back(self, key: str, value: str | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    @property
    def zone(self) -> str:
        """The time zone, as DuckDB and Arrow know it."""
        zone = self.get("timezone")
        return "UTC" if zone.lower() in _UTC else zone

    @property
    def read_only(self) -> bool:
        """Tell whether nothing may be written now."""
        return self.get("transaction_read_only").lower() in ("on", "true", "1", "yes")

    @property
    def statement_seconds_max(self) -> float | None:
        """How long a statement may take; None: for ever."""
        return (duration_ms(self.get("statement_timeout")) or 0) / 1_000 or None

    @property
    def lock_seconds_max(self) -> float | None:
        """How long a statement may wait for an advisory lock; None: for ever."""
        return (duration_ms(self.get("lock_timeout")) or 0) / 1_000 or None

    def set(self, name: str, value: str | None, *, local: bool = False) -> None:
        """Set a variable (None: back to its default); `local` to the transaction, outside of one: not at all."""
        key = key_of(name)
        if local and self._before is None:
            return
        before = self.values.get(key)
        self._set(key, value)
        if local:
            self._local.setdefault(key, before)
        else:
            self._local.pop(key, None)

    def _set(self, key: str, value: str | None) -> None:
        if "." in key:  # an extension's own variable: Postgres keeps any such
            self.values[key] = value or ""
            return
        variable = _known(key)
        if not variable.writable:
            raise InvalidParameterValue(f'parameter "{spelling(key)}" cannot be changed')
        if key in IDENTITY:
            self._set_identity(key, value)
        elif value is None:
            self.values.pop(key, None)
        else:
            if key in _TIMEOUTS and duration_ms(value) is None:
                raise InvalidParameterValue(f'invalid value for parameter "{key}": "{value}"', hint=_UNITS_HINT)
            if variable.allowed is not None and _compared(key, value) not in variable.allowed:
                raise FeatureNotSupported(
                    f'parameter "{spelling(key)}" cannot be set to "{value}"',
                    hint=f"values that it takes: {', '.join(sorted(variable.allowed))}",
                )
            if key == "timezone":
                value = _zone(value)
            self.values[key] = variable.default if variable.reported and variable.allowed else value
        self._changed = self._changed or variable.reported

    def _set_identity(self, key: str, value: str | None) -> None:
        """Set the role that is acted as, or the session's own; that puts the former back, too."""
        if value is None or (key == "session_authorization" and value == self.user):
            self.values.pop(key, None)
        elif self.identity is None:
            raise FeatureNotSupported(f'parameter "{key}" cannot be set here')
        else:
            self.values[key] = self.identity.admitted(key, value, self)
        if key == "session_authorization":
            self.values.pop("role", None)
        self._changed = True

    def reset_all(self) -> None:
        """Set every variable back to its default, but for who the session is."""
        self.values = {k: v for k, v in self.values.items() if k in IDENTITY}
        self._changed = True

    def discard_all(self) -> None:
        """Set every variable back to its default, and the session to the role that logged in."""
        self.values.clear()
        self._changed = True

    def idle_limit(self, *, in_transaction: bool) -> float | None:
        """How many seconds the session may idle now; None: for ever."""
        name = "idle_in_transaction_session_timeout" if in_transaction else "idle_session_timeout"
        if name not in self.values:
            return None
        return (duration_ms(self.values[name]) or 0) / 1_000 or None

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


_OFFSET = re.compile(r"([+-]?)(\d{1,2})(?::?00)?\Z")


def _zone(value: str) -> str:
    """Give a time zone as the zone database spells it; hours from UTC as ``Etc/GMT``. Raises InvalidParameterValue."""
    name = value.strip().strip("'\"")  # a name that SET was given keeps its quotes
    if name.lower() in _UTC:
        return "UTC" if name.lower() != "gmt" else "GMT"
    found = zones_by_name().get(name.lower())
    offset = _OFFSET.match(name)
    if found is None and offset is not None and int(offset[2]) <= 12:
        # POSIX counts hours west of Greenwich, SQL those east of it
        found = f"Etc/GMT{'+' if offset[1] == '-' else '-'}{int(offset[2])}" if int(offset[2]) else "UTC"
    if found is None:
        raise InvalidParameterValue(
            f'invalid value for parameter "TimeZone": "{value}"',
            hint="name a zone, such as 'Europe/Berlin', or whole hours",
        )
    return found


@cache
def zones_by_name() -> dict[str, str]:
    """Give the zones that the system knows, by their names in lower case."""
    return {name.lower(): name for name in zoneinfo.available_timezones() if not name.startswith("posix")}


_UNITS_HINT = 'valid units for this parameter are "us", "ms", "s", "min", "h", and "d"'


def duration_ms(text: str) -> float | None:
    """Read a duration of a variable; None where it is none."""
    found = _DURATION.match(text)
    return float(found[1]) * _UNITS_MS[found[2]] if found else None


def _compared(key: str, value: str) -> str:
    if key == "client_encoding":
        return "".join(c for c in value.lower() if c.isalnum())
    return value.strip().lower()


def _known(key: str) -> Variable:
    found = VARIABLES.get(key)
    if found is None:
        raise UndefinedObject(f'unrecognized configuration parameter "{key}"', hint=nearest(key, VARIABLES))
    return found
