"""The states of a conversation, and what each frontend message does in each of them.

=============== ======================================================================================================
STARTUP         nothing has arrived, or only a request for encryption; messages have no kind byte yet
AUTHENTICATING  Startup has arrived; only passwords are legal
READY           the next command may come; also between two messages of the extended protocol
QUERY           the server is busy with Query or Sync and owes ReadyForQuery: nothing is taken from the buffer
COPY_IN         the server has asked for COPY data
SKIPPING        an extended message failed: everything is discarded until Sync
CLOSED          the framing is lost, the session was refused, or the client has left
=============== ======================================================================================================

The table follows `SocketBackend` and `CopyGetData` of PostgreSQL and
https://www.postgresql.org/docs/current/protocol-flow.html. A kind that is missing in a state is a violation and fatal:
whoever sends it does not speak the protocol that we think it speaks.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a conversation stands; the table above says what each means."""

    STARTUP = "STARTUP"
    AUTHENTICATING = "AUTHENTICATING"
    READY = "READY"
    QUERY = "QUERY"
    COPY_IN = "COPY_IN"
    SKIPPING = "SKIPPING"
    CLOSED = "CLOSED"


class Action(enum.Enum):
    """What becomes of a message: it is an event, or it is read and dropped."""

    DELIVER = "DELIVER"
    DISCARD = "DISCARD"


QUERY_KIND = ord("Q")
PARSE_KIND = ord("P")
BIND_KIND = ord("B")
DESCRIBE_KIND = ord("D")
EXECUTE_KIND = ord("E")
CLOSE_KIND = ord("C")
SYNC_KIND = ord("S")
FLUSH_KIND = ord("H")
TERMINATE_KIND = ord("X")
FUNCTION_CALL_KIND = ord("F")
COPY_DATA_KIND = ord("d")
COPY_DONE_KIND = ord("c")
COPY_FAIL_KIND = ord("f")
PASSWORD_KIND = ord("p")

# the messages after whose failure everything up to the next Sync is discarded
EXTENDED_KINDS = frozenset({PARSE_KIND, BIND_KIND, DESCRIBE_KIND, EXECUTE_KIND, CLOSE_KIND, FLUSH_KIND})
COPY_KINDS = frozenset({COPY_DATA_KIND, COPY_DONE_KIND, COPY_FAIL_KIND})

Transition = tuple[Action, State]

# state -> kind -> (what becomes of the message, the state after it)
TRANSITIONS: dict[State, dict[int, Transition]] = {
    State.STARTUP: {},  # messages without a kind: `Connection` reads them by their length alone
    State.AUTHENTICATING: {
        PASSWORD_KIND: (Action.DELIVER, State.AUTHENTICATING),
        TERMINATE_KIND: (Action.DELIVER, State.CLOSED),
    },
    State.READY: {
        QUERY_KIND: (Action.DELIVER, State.QUERY),
        FUNCTION_CALL_KIND: (Action.DELIVER, State.QUERY),
        SYNC_KIND: (Action.DELIVER, State.QUERY),
        TERMINATE_KIND: (Action.DELIVER, State.CLOSED),
        **dict.fromkeys(EXTENDED_KINDS, (Action.DELIVER, State.READY)),
        # a client that has not yet heard that its COPY failed goes on sending: PostgreSQL drops these too
        **dict.fromkeys(COPY_KINDS, (Action.DISCARD, State.READY)),
    },
    State.QUERY: {},  # paused
    State.COPY_IN: {
        COPY_DATA_KIND: (Action.DELIVER, State.COPY_IN),
        # in the extended protocol the state after these two is READY: no ReadyForQuery is owed before Sync
        COPY_DONE_KIND: (Action.DELIVER, State.QUERY),
        COPY_FAIL_KIND: (Action.DELIVER, State.QUERY),
        FLUSH_KIND: (Action.DISCARD, State.COPY_IN),
        SYNC_KIND: (Action.DISCARD, State.COPY_IN),
        TERMINATE_KIND: (Action.DELIVER, State.CLOSED),
    },
    State.SKIPPING: {
        SYNC_KIND: (Action.DELIVER, State.QUERY),
        TERMINATE_KIND: (Action.DELIVER, State.CLOSED),
        **dict.fromkeys(EXTENDED_KINDS | COPY_KINDS, (Action.DISCARD, State.SKIPPING)),
        QUERY_KIND: (Action.DISCARD, State.SKIPPING),
        FUNCTION_CALL_KIND: (Action.DISCARD, State.SKIPPING),
    },
    State.CLOSED: {},
}
