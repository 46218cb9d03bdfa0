"""SCRAM-SHA-256 by its specification's example, the forms of verifiers, and any bytes at all from a client."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base.errors import InvalidPassword, ProtocolViolation, StreamSQLError
from streamsql.pgwire.auth import initial_response
from streamsql.pgwire.saslprep import saslprep
from streamsql.pgwire.scram import (
    SCRAM,
    SCRAM_PLUS,
    Exchange,
    Verifier,
    matches,
    mock_verifier,
    read_verifier,
    verifier_of,
)

# the example of RFC 7677, section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE, SERVER_NONCE = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = f"n,,n=user,r={CLIENT_NONCE}".encode()
SERVER_FIRST = f"r={CLIENT_NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
CLIENT_FINAL = f"c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
PENCIL = verifier_of("pencil", SALT)


def test_the_example_of_the_specification_comes_out():
    exchange = Exchange(PENCIL, SERVER_NONCE)
    assert exchange.mechanisms == (SCRAM,)
    assert exchange.first(SCRAM, CLIENT_FIRST) == SERVER_FIRST
    assert exchange.final(CLIENT_FINAL) == SERVER_FINAL


def test_a_verifier_has_postgresqls_form_and_tells_the_password_from_others():
    assert str(PENCIL) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert read_verifier(str(PENCIL)) == PENCIL
    assert matches("pencil", PENCIL)
    assert not matches("Pencil", PENCIL)
    for text in (
        "pencil", "", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$AAAA:AAAA", "md5" + "0" * 32,
        str(PENCIL) + "x", str(PENCIL).replace("4096", "0"), str(PENCIL).replace("4096", "x"), str(PENCIL)[:-2],
    ):  # fmt: skip
        assert read_verifier(text) is None


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # the examples of RFC 4013, section 3
        ("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"),
        ("\u0007", "\u0007"), ("\u06271", "\u06271"),  # prohibited: taken as they are, as PostgreSQL does
        ("a\u00a0b", "a b"), ("\u0627b\u0627", "\u0627b\u0627"), ("", ""), ("\u00ad", "\u00ad"), ("pa ss", "pa ss"),
    ],
)  # fmt: skip
def test_passwords_are_compared_in_their_prepared_form(text: str, prepared: str):
    assert saslprep(text) == prepared


def test_an_unknown_user_gets_the_same_salt_each_time_and_no_proof_is_right():
    assert mock_verifier("ann", b"secret") == mock_verifier("ann", b"secret")
    assert mock_verifier("ann", b"secret").salt != mock_verifier("bob", b"secret").salt
    assert mock_verifier("ann", b"secret").salt != mock_verifier("ann", b"other").salt
    exchange = Exchange(PENCIL, SERVER_NONCE, doomed=True)
    assert exchange.first(SCRAM, CLIENT_FIRST) == SERVER_FIRST
    with pytest.raises(InvalidPassword):
        exchange.final(CLIENT_FINAL)


def prove(verifier_password: str, salt: bytes, transcript: str) -> str:
    """A client's proof, written from RFC 5802 and not with our own module."""
    salted = hashlib.pbkdf2_hmac("sha256", verifier_password.encode(), salt, 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), transcript.encode(), "sha256")
    return base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()


def exchanged(
    mechanism: str, header: str, bound: bytes, server_binding: bytes | None, password: str = "pencil"
) -> bytes:
    exchange = Exchange(PENCIL, SERVER_NONCE, server_binding)
    first = exchange.first(mechanism, f"{header}n=,r=abc".encode()).decode()
    without_proof = f"c={base64.b64encode(bound).decode()},r=abc{SERVER_NONCE}"
    proof = prove(password, SALT, f"n=,r=abc,{first},{without_proof}")
    return exchange.final(f"{without_proof},p={proof}".encode())


CERTIFICATE = b"the hash of a certificate"
PLUS = "p=tls-server-end-point,,"


def test_a_client_binds_to_the_certificate_or_says_that_it_cannot():
    assert Exchange(PENCIL, SERVER_NONCE, CERTIFICATE).mechanisms == (SCRAM_PLUS, SCRAM)
    assert exchanged(SCRAM_PLUS, PLUS, PLUS.encode() + CERTIFICATE, CERTIFICATE)
    assert exchanged(SCRAM, "n,,", b"n,,", CERTIFICATE)
    assert exchanged(SCRAM, "y,,", b"y,,", None)
    with pytest.raises(InvalidPassword):
        exchanged(SCRAM_PLUS, PLUS, PLUS.encode() + CERTIFICATE, CERTIFICATE, "Pencil")


@pytest.mark.parametrize(
    ("mechanism", "header", "bound", "binding", "message"),
    [
        (SCRAM_PLUS, PLUS, PLUS.encode() + b"another", CERTIFICATE, "SCRAM channel binding check failed"),
        (SCRAM_PLUS, PLUS, PLUS.encode(), CERTIFICATE, "SCRAM channel binding check failed"),
        (SCRAM_PLUS, "n,,", b"n,,", CERTIFICATE, "malformed SCRAM message"),
        (SCRAM, PLUS, PLUS.encode() + CERTIFICATE, CERTIFICATE, "malformed SCRAM message"),
        (
            SCRAM,
            "y,,",
            b"y,,",
            CERTIFICATE,
            "SCRAM channel binding negotiation error",
        ),  # somebody took PLUS off the list
        (SCRAM, "n,,", b"y,,", None, "unexpected SCRAM channel-binding attribute in client-final-message"),
        (SCRAM_PLUS, PLUS, PLUS.encode(), None, "client selected an invalid SASL authentication mechanism"),
        (SCRAM_PLUS, "p=tls-unique,,", b"", CERTIFICATE, 'unsupported SCRAM channel-binding type "tls-unique"'),
        (SCRAM, "n,a=ann,", b"n,a=ann,", None, "client uses authorization identity, but it is not supported"),
        ("PLAIN", "n,,", b"n,,", None, "client selected an invalid SASL authentication mechanism"),
        ("", "n,,", b"n,,", None, "client selected an invalid SASL authentication mechanism"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    mechanism: str, header: str, bound: bytes, binding: bytes | None, message: str
):
    with pytest.raises(ProtocolViolation) as refused:
        exchanged(mechanism, header, bound, binding)
    assert refused.value.message == message


@pytest.mark.parametrize(
    "final",
    [
        CLIENT_FINAL.replace(SERVER_NONCE.encode(), b"other"), CLIENT_FINAL.replace(b",p=", b",q="),
        CLIENT_FINAL[:-8], b"", b"\xff\xfe", b"c=biws", CLIENT_FINAL.replace(b"dHzb", b"!!!!"), CLIENT_FINAL + b"AAAA",
        b"x" * 100_000,
    ],
)  # fmt: skip
def test_a_final_message_that_cannot_be_read_is_a_violation(final: bytes):
    exchange = Exchange(PENCIL, SERVER_NONCE)
    exchange.first(SCRAM, CLIENT_FIRST)
    with pytest.raises(ProtocolViolation):
        exchange.final(final)


def test_extensions_behind_the_nonce_are_part_of_what_is_signed():
    exchange = Exchange(PENCIL, SERVER_NONCE)
    first = exchange.first(SCRAM, b"n,,n=,r=abc,x=1").decode()
    without_proof = f"c=biws,r=abc{SERVER_NONCE},y=2"
    proof = prove("pencil", SALT, f"n=,r=abc,x=1,{first},{without_proof}")
    assert exchange.final(f"{without_proof},p={proof}".encode())


PIECES = st.sampled_from(
    [b"n,,", b"y,,", PLUS.encode(), b"n=", b"r=", b"abc", b",", b"c=biws", b"p=", b"m=x", b"a=b", b"\0", b"\xff", b"="]
)
MESSAGES = st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=8).map(b"".join))


@settings(max_examples=400, deadline=None)
@given(mechanism=st.sampled_from([SCRAM, SCRAM_PLUS]), first=MESSAGES, final=MESSAGES, bound=st.booleans())
def test_any_bytes_end_in_an_error_and_never_in_a_login(mechanism: str, first: bytes, final: bytes, bound: bool):
    exchange = Exchange(PENCIL, SERVER_NONCE, CERTIFICATE if bound else None)
    try:
        exchange.first(mechanism, first)
    except ProtocolViolation:
        return
    with pytest.raises((ProtocolViolation, InvalidPassword)):
        exchange.final(final)


RESPONSES = st.builds(lambda a, b: b"SCRAM-SHA-256\0" + a + b, st.binary(max_size=4), MESSAGES)


@settings(max_examples=400, deadline=None)
@given(body=st.one_of(st.binary(max_size=40), RESPONSES))
def test_any_bytes_are_an_initial_response_or_a_violation(body: bytes):
    try:
        mechanism, data = initial_response(body)
    except ProtocolViolation:
        return
    assert body == mechanism.encode() + b"\0" + len(data).to_bytes(4) + data


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_is_a_verifier_or_a_password(text: str):
    found = read_verifier(text)
    assert found is None or isinstance(found, Verifier)
    try:
        saslprep(text)
    except StreamSQLError:
        pytest.fail("saslprep raised")
