"""LISTEN, NOTIFY and UNLISTEN. See https://www.postgresql.org/docs/15/sql-notify.html."""

from __future__ import annotations

from streamsql.sql.statements import Listen, Notify, Unlisten
from streamsql.sql.tokens import Cursor


def parse_listen(cursor: Cursor) -> Listen:
    """Read LISTEN channel."""
    cursor.expect("listen")
    channel = cursor.expect_name()
    cursor.expect_end()
    return Listen(*cursor.source, channel=channel)


def parse_notify(cursor: Cursor) -> Notify:
    """Read NOTIFY channel [, 'payload']."""
    cursor.expect("notify")
    channel = cursor.expect_name()
    payload = cursor.expect_string() if cursor.accept(",") else ""
    cursor.expect_end()
    return Notify(*cursor.source, channel=channel, payload=payload)


def parse_unlisten(cursor: Cursor) -> Unlisten:
    """Read UNLISTEN * | channel."""
    cursor.expect("unlisten")
    channel = None if cursor.accept("*") else cursor.expect_name()
    cursor.expect_end()
    return Unlisten(*cursor.source, channel=channel)
