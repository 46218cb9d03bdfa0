"""What the transcripts do not tell: bounds, the end of the stream, arbitrary bytes."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base.errors import ProgramLimitExceeded, ProtocolViolation, StreamSQLError
from streamsql.base.limits import Limits
from streamsql.pgwire import auth, messages
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.states import TRANSITIONS, State
from tests.pgwire.wire import ScriptedServer, bind, client_message, frame, parse, server_messages, startup


def _logged_in(limits: Limits | None = None) -> Connection:
    conn = Connection(limits or Limits())
    conn.receive_data(startup({"user": "ann"}))
    assert conn.next_event() == messages.Startup((3, 0), {"user": "ann"})
    conn.authentication_ok()
    conn.ready_for_query("I")
    return conn


def _copying(limits: Limits | None = None) -> Connection:
    conn = _logged_in(limits)
    conn.receive_data(frame("Q", b"copy\0"))
    conn.next_event()
    conn.copy_in_response([0])
    return conn


def test_nothing_is_taken_while_ready_for_query_is_owed() -> None:
    conn = _logged_in()
    conn.receive_data(frame("Q", b"a\0") + frame("Q", b"b\0"))
    assert conn.next_event() == messages.Query("a")
    assert conn.owes_ready
    assert conn.next_event() is None
    conn.ready_for_query("I")
    assert conn.next_event() == messages.Query("b")


def test_all_copy_data_that_has_arrived_is_one_event() -> None:
    conn = _copying()
    stream = b"".join(frame("d", b"%d\n" % i) for i in range(1000))
    conn.receive_data(stream[:-1])
    assert conn.next_event() == messages.CopyData(b"".join(b"%d\n" % i for i in range(999)))
    assert conn.next_event() is None
    conn.receive_data(stream[-1:] + frame("c", b""))
    assert conn.next_event() == messages.CopyData(b"999\n")
    assert conn.next_event() == messages.CopyDone()


def test_an_empty_copy_data_is_an_event_and_not_a_wait() -> None:
    conn = _copying()
    conn.receive_data(frame("d", b""))
    assert conn.next_event() == messages.CopyData(b"")
    assert conn.next_event() is None


def test_bind_gives_values_formats_and_nulls() -> None:
    conn = _logged_in()
    conn.receive_data(bind(["a", None, ""], "p", "s", (0, 1, 0), (1,)))
    assert conn.next_event() == messages.Bind("p", "s", (0, 1, 0), (b"a", None, b""), (1,))


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_bind_cut_short_inside_its_frame_is_a_violation_that_the_session_survives(cut: int) -> None:
    conn = _logged_in()
    body = bind(["a", None, ""], "p", "s", (0, 1, 0), (1,))[5:]
    conn.receive_data(frame("B", body[:-cut]))
    with pytest.raises(ProtocolViolation) as caught:
        conn.next_event()
    assert caught.value.severity == "ERROR"
    conn.error(caught.value)
    assert conn.state is State.SKIPPING


def test_a_message_that_is_too_long_closes_the_session_before_it_is_received() -> None:
    conn = _logged_in(Limits(message_bytes_max=100))
    conn.receive_data(b"Q" + struct.pack(">I", 101))
    with pytest.raises(ProgramLimitExceeded, match="message_bytes_max = 100") as caught:
        conn.next_event()
    assert caught.value.severity == "FATAL"
    assert conn.state is State.CLOSED


def test_copy_data_that_is_too_long_closes_the_session_wherever_it_stands() -> None:
    conn = _copying(Limits(message_bytes_max=100))
    conn.receive_data(frame("d", b"x") + frame("d", b"y" * 97))
    assert conn.next_event() == messages.CopyData(b"x")
    with pytest.raises(ProgramLimitExceeded):
        conn.next_event()


@pytest.mark.parametrize("message", [frame("Q", b"x" * 11 + b"\0"), parse("x" * 11)])
def test_a_query_text_that_is_too_long_is_an_error_that_the_session_survives(message: bytes) -> None:
    conn = _logged_in(Limits(query_text_bytes_max=10))
    conn.receive_data(message)
    with pytest.raises(ProgramLimitExceeded, match="query_text_bytes_max = 10") as caught:
        conn.next_event()
    assert caught.value.severity == "ERROR"


@pytest.mark.parametrize("message", [bind(["1", "2", "3"]), parse("select", oids=(1, 2, 3))])
def test_too_many_parameters_are_an_error_that_the_session_survives(message: bytes) -> None:
    conn = _logged_in(Limits(parameters_max=2))
    conn.receive_data(message)
    with pytest.raises(ProgramLimitExceeded, match="parameters_max = 2") as caught:
        conn.next_event()
    assert caught.value.severity == "ERROR"


def test_the_end_of_the_stream_between_messages_is_a_terminate_once() -> None:
    conn = _logged_in()
    conn.receive_data(b"")
    assert conn.peer_closed
    assert conn.next_event() == messages.Terminate()
    assert conn.next_event() is None
    assert conn.state is State.CLOSED


def test_the_end_of_the_stream_inside_a_message_is_a_violation() -> None:
    conn = _logged_in()
    conn.receive_data(frame("Q", b"select 1\0")[:-1])
    conn.receive_data(b"")
    with pytest.raises(ProtocolViolation) as caught:
        conn.next_event()
    assert caught.value.severity == "FATAL"


def test_a_password_is_asked_for_and_taken_after_the_negotiation() -> None:
    conn = Connection(Limits())
    conn.receive_data(startup({"user": "ann"}, (3, 7)))
    assert conn.next_event() == messages.Startup((3, 2), {"user": "ann"})
    negotiation, *asked = server_messages(conn.authentication_sasl(["SCRAM-SHA-256"]))
    assert negotiation == 'NegotiateProtocolVersion {"version": [3, 2], "options": []}'
    assert asked == ['Authentication {"code": 10}']
    conn.receive_data(frame("p", b"secret\0"))
    assert conn.next_event() == messages.PasswordMessage(b"secret\0")
    assert server_messages(conn.authentication_ok()) == ['Authentication {"code": 0}']


def test_an_error_before_the_session_has_begun_is_fatal() -> None:
    conn = Connection(Limits())
    conn.receive_data(startup({"user": "ann"}))
    conn.next_event()
    said = conn.error(ProtocolViolation("no"))
    assert server_messages(said) == ['ErrorResponse {"severity": "FATAL", "code": "08P01", "message": "no"}']
    assert conn.state is State.CLOSED


def test_a_message_of_many_pieces_costs_no_more_than_its_bytes() -> None:
    """A buffer that is copied for each piece would move 8 GB here."""
    conn = _copying()
    whole = frame("d", b"x" * (16 << 20))
    for start in range(0, len(whole), 16 << 10):
        assert conn.next_event() is None
        conn.receive_data(whole[start : start + (16 << 10)])
    assert conn.next_event() == messages.CopyData(b"x" * (16 << 20))
    assert conn.bytes_unread == 0


def test_every_state_says_what_each_message_does() -> None:
    assert set(TRANSITIONS) == set(State)


def test_a_zero_byte_in_what_the_server_says_does_not_end_the_field() -> None:
    assert messages.command_complete("a\0b") == b"C\0\0\0\x0aa\xef\xbf\xbdb\0"


@pytest.mark.parametrize(
    ("parameters", "sqlstate"),
    [({}, "28000"), ({"user": ""}, "28000"), ({"user": "ann", "database": "other"}, "3D000")],
)
def test_who_may_not_connect_is_told_so_fatally(parameters: dict[str, str], sqlstate: str) -> None:
    with pytest.raises(StreamSQLError) as caught:
        auth.check_database(auth.asked(parameters))
    assert (caught.value.sqlstate, caught.value.severity) == (sqlstate, "FATAL")


@pytest.mark.parametrize("database", [None, "streamsql", "postgres", "ann"])
def test_who_may_connect_gets_in_by_name(database: str | None) -> None:
    parameters = {"user": "ann"} | ({"database": database} if database else {})
    wanted = auth.asked(parameters)
    assert wanted.user == "ann"
    assert auth.check_database(wanted) in auth.DATABASE_NAMES


# any bytes at all

_SENDABLE: list[tuple[str, dict[str, Any]]] = [
    ("Query", {"text": "select 1"}),
    ("Query", {"text": "fail"}),
    ("Query", {"text": "copy t"}),
    ("Parse", {"text": "select 1", "oids": [23]}),
    ("Parse", {"text": "copy t"}),
    ("Parse", {"text": "fail"}),
    ("Bind", {"values": ["a", None], "formats": [0]}),
    ("Describe", {"kind": "S"}),
    ("Execute", {}),
    ("Close", {"kind": "P"}),
    ("Sync", {}),
    ("Flush", {}),
    ("CopyData", {"data": "1,2\n"}),
    ("CopyData", {"data": "bad"}),
    ("CopyDone", {}),
    ("CopyFail", {"message": "no"}),
    ("FunctionCall", {"oid": 1}),
    ("Terminate", {}),
]
_MESSAGES = st.sampled_from([client_message(name, fields) for name, fields in _SENDABLE])


@st.composite
def _mutated_conversations(draw: st.DrawFn) -> bytes:
    """Draw a conversation of which some bytes have been changed, or none."""
    data = bytearray(startup({"user": "ann"}) + b"".join(draw(st.lists(_MESSAGES, max_size=20))))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(data) - 1))
        change = draw(st.sampled_from(["replace", "delete", "insert"]))
        octet = draw(st.integers(0, 255))
        if change == "replace":
            data[position] = octet
        elif change == "insert":
            data.insert(position, octet)
        elif len(data) > 1:
            del data[position]
    return bytes(data)


def _converse(data: bytes, cuts: list[int]) -> tuple[list[object], bytes]:
    server = ScriptedServer(Limits(message_bytes_max=10_000))
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        server.receive(data[start:end])
    server.receive(b"")
    assert server.connection.state is State.CLOSED
    server_messages(server.said)
    return list(server.events), server.said


@settings(max_examples=300, deadline=None)
@given(data=_mutated_conversations() | st.binary(max_size=200), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_any_bytes_end_in_events_or_errors_and_alike_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    assert _converse(data, []) == _converse(data, cuts)
