"""Every bound of the server, by name, with its unit and its reason.

`Limits` is read once at the start (see `base/config.py`): each field can be set by ``--limit name=value`` or by the
environment variable ``STREAMSQL_LIMIT_<NAME>``. An error that a bound causes names it (`exceeded`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from streamsql.base.errors import ProgramLimitExceeded


def _bound(default: int, why: str) -> int:
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's bounds. Sizes are in bytes, times in the unit that the name says."""

    startup_message_bytes_max: int = _bound(10_000, "PostgreSQL's own bound; nobody has authenticated yet")
    message_bytes_max: int = _bound(256 << 20, "one frontend message is held in memory whole")
    query_text_bytes_max: int = _bound(64 << 20, "a statement is parsed in memory, several times its size")
    connections_max: int = _bound(1_000, "each holds buffers and a file descriptor")
    statements_max: int = _bound(10_000, "prepared statements of one session")
    portals_max: int = _bound(1_000, "open portals of one session")
    cursor_bytes_max: int = _bound(256 << 20, "rows that the SCROLL and held cursors of one session keep in memory")
    notifications_max: int = _bound(10_000, "notifications that wait for one session before it is ended")
    parameters_max: int = _bound(65_535, "the protocol counts them in 16 bits")
    columns_max: int = _bound(1_600, "PostgreSQL's own bound on columns")
    identifier_bytes_max: int = _bound(63, "PostgreSQL's own bound on names")
    startup_seconds_max: int = _bound(60, "a connection that never logs in must not hold a place")
    authentication_message_bytes_max: int = _bound(65_536, "PostgreSQL's own bound; nobody has authenticated yet")
    logins_max: int = _bound(256, "connections that have not logged in yet; they are cheap to open")
    failed_logins_max: int = _bound(10, "wrong passwords from one address before it has to wait")
    failed_logins_seconds: int = _bound(60, "how long an address waits after too many wrong passwords")
    failed_login_addresses_max: int = _bound(10_000, "addresses whose wrong passwords are counted")
    password_iterations_max: int = _bound(
        100_000, "work that the server does itself for a password that comes over HTTP"
    )
    roles_max: int = _bound(10_000, "roles; all are written when one changes")
    output_bytes_max: int = _bound(1 << 20, "bytes buffered for one socket before its producer waits")
    result_batch_rows_max: int = _bound(16_384, "rows encoded at a time, so that memory does not grow with a result")
    copy_batch_bytes_max: int = _bound(8 << 20, "COPY text gathered before it is parsed into one Arrow batch")
    transaction_rows_max: int = _bound(10_000_000, "rows that one transaction holds back until COMMIT")
    advisory_locks_max: int = _bound(100_000, "advisory locks that all sessions together hold or wait for")
    savepoints_max: int = _bound(10_000, "savepoints of one transaction; each remembers what was written before it")
    temporary_bytes_max: int = _bound(256 << 20, "one temporary table of a session; its rows are held in memory")
    queue_rows_max: int = _bound(1_000_000, "rows waiting for the engine before producers wait")
    queue_bytes_max: int = _bound(256 << 20, "bytes waiting for the engine before producers wait")
    epoch_rows_max: int = _bound(500_000, "rows in one epoch; larger bites gain no speed and cost latency")
    source_batch_rows_max: int = _bound(65_536, "rows that are read from a source at a time")
    source_ahead_rows_max: int = _bound(
        262_144, "rows of one source that are read and not committed before it is paused"
    )
    snapshot_rows_max: int = _bound(
        10_000_000, "rows of a database's table that a stream begins with; they are one transaction, held in memory"
    )
    sink_batch_rows_max: int = _bound(100_000, "rows that are delivered to a sink at a time, unless one epoch has more")
    outbox_rows_max: int = _bound(10_000_000, "rows on disk that wait for one sink before producers wait")
    late_rows_max: int = _bound(100_000, "rows kept in streamsql.late_rows; the counters go on")
    rejected_rows_max: int = _bound(10_000, "records kept in streamsql.rejected_rows; the counters go on")
    record_bytes_max: int = _bound(64 << 20, "one record of a format is held in memory whole")
    http_body_bytes_max: int = _bound(256 << 20, "the rows of one HTTP request are one transaction, held in memory")
    http_requests_max: int = _bound(1_000, "HTTP requests and subscriptions that run at once; more are turned away")
    idempotency_keys_max: int = _bound(100_000, "answers to HTTP requests kept by their Idempotency-Key")
    idempotency_key_bytes_max: int = _bound(255, "an Idempotency-Key is kept as it is")
    resume_rows_max: int = _bound(10_000, "changes of a view kept for subscribers over HTTP that come back")
    resume_seconds_max: int = _bound(60, "how long changes are kept for them once the last one has gone")
    subscription_rows_max: int = _bound(1_000_000, "changes of one view kept in memory for its slowest subscriber")
    subscription_bytes_max: int = _bound(256 << 20, "bytes of changes of one view kept for its slowest subscriber")
    lookup_bytes_max: int = _bound(256 << 20, "rows of views that are kept in memory, found by their keys")
    readers_max: int = _bound(8, "ad-hoc reads that run at once; more wait")
    queries_max: int = _bound(1_000, "continuous queries and views that run at once")
    shared_rows_max: int = _bound(
        100_000, "groups that views with different keys keep in one table; each reader of one looks through all"
    )
    window_panes_max: int = _bound(100_000, "panes of one hopping window: size / gcd(size, slide)")
    grouping_sets_max: int = _bound(256, "grouping sets of one query: each row counts once in each of them")
    rank_rows_max: int = _bound(
        10_000, "rows of one key that row_number() lets through in append mode: a row is kept for each"
    )
    why_rows_max: int = _bound(1_000, "open windows that EXPLAIN WHY lists; it counts them all")
    expression_depth_max: int = _bound(500, "nesting of one statement; the parser recurses")
    expression_nodes_max: int = _bound(
        20_000, "what one call of a function of PostgreSQL's is written as; calls within calls multiply"
    )


def exceeded(limits: Limits, name: str, what: str) -> ProgramLimitExceeded:
    """Make the error that says which bound was reached and how to raise it."""
    return ProgramLimitExceeded(
        f"{what} exceeds {name} = {getattr(limits, name)}",
        hint=f"start the server with --limit {name}=N, or set STREAMSQL_LIMIT_{name.upper()}",
    )


def names() -> list[str]:
    """List the names of all bounds."""
    return [f.name for f in dataclasses.fields(Limits)]
