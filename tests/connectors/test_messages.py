"""Messages to rows: each is a record for itself, whatever the others hold, and tells more beside its payload."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamsql.base.errors import StreamSQLError
from streamsql.base.limits import Limits
from streamsql.connectors import CONNECTORS, resolved
from streamsql.connectors.messages import FORMAT_OPTIONS, DecodedMessages, MessageDecoder, check_format
from streamsql.connectors.settings import read_options
from streamsql.connectors.source import Given, Metadata
from streamsql.sql.parse import parse
from streamsql.sql.render import render
from streamsql.sql.statements import CreateStream

METADATA = {
    "key": Metadata("VARCHAR", bytes=True),
    "offset": Metadata("BIGINT"),
    "timestamp": Metadata("TIMESTAMP WITH TIME ZONE", ("TIMESTAMP",)),
    "header": Metadata("VARCHAR", bytes=True),
    "headers": Metadata("JSON"),
}


class Broker:
    """A connector with messages, of which only the definition is asked."""

    metadata = METADATA

    def columns(self, given, declared):
        options = read_options(given, FORMAT_OPTIONS, "broker")
        check_format(given, options, declared)
        return tuple(declared)

    def open(self, given, columns, positions, now_us, surroundings):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def broker(monkeypatch):
    monkeypatch.setitem(CONNECTORS, "broker", Broker())


def create(text: str) -> CreateStream:
    (statement,) = parse(text, Limits())
    assert isinstance(statement, CreateStream)
    return resolved(statement)


def decoder(columns: str, options: str = "", **limits: int) -> MessageDecoder:
    statement = create(f"CREATE STREAM s {columns} WITH (connector = 'broker'{options and ', '}{options})")
    given = Given({n: v for n, v in statement.options.items() if n != "connector"}, {})
    return MessageDecoder(read_options(given, FORMAT_OPTIONS, "broker"), statement.columns, METADATA, **limits)


def read(columns: str, payloads: list[bytes | None], options: str = "", told: Any = None) -> DecodedMessages:
    return decoder(columns, options).decode(payloads, told or {})


def reasons(found: DecodedMessages) -> dict[int, str]:
    return dict(zip(found.rejected["position"].to_pylist(), found.rejected["reason"].to_pylist(), strict=True))


def test_a_message_is_a_record_whatever_line_ends_are_in_it():
    found = read("(a INT, b TEXT)", [b'{"a":\n1,\n"b":"x"}\n', b'\xef\xbb\xbf{"a":2}', b'{"a":3}\r\n', b' {"b":"y"} '])
    assert found.rows.to_pylist() == [
        {"a": 1, "b": "x"}, {"a": 2, "b": None}, {"a": 3, "b": None}, {"a": None, "b": "y"},
    ]  # fmt: skip
    assert found.messages.tolist() == [0, 1, 2, 3]


def test_what_is_no_record_is_set_aside_by_its_place():
    payloads = [b"{}", b"", b"  ", b'{"a":1', b'{"a":1}{"a":2}', b'{"a":1}\n{"a":2}', b"null", b"[]", None, b'{"a":"\xc3',
                b'\xa4"}', b'{"a":"x"}', b'{"a":4}']  # fmt: skip
    found = read("(a INT)", payloads)
    assert found.rows.to_pylist() == [{"a": None}, {"a": 4}]
    assert found.messages.tolist() == [0, 12]
    assert reasons(found) == {
        1: "an empty message", 2: "an empty message", 3: "invalid JSON", 4: "invalid JSON", 5: "invalid JSON",
        6: "not a JSON object", 7: "not a JSON object", 8: "a message without a payload", 9: "invalid UTF-8",
        10: "invalid UTF-8", 11: 'column "a": invalid input for type int4: "x"',
    }  # fmt: skip
    assert found.rejected["bytes"].to_pylist()[3] == b'{"a":1}{"a":2}'


def test_a_message_of_csv_is_one_record():
    payloads: list[bytes | None] = [
        b"1,x",
        b'2,"a\nb"\r\n',
        b'3,"open',
        b"4,x\n5,y",
        b"6",
        b'7,"say ""a"", b"',
        b"",
        b"\n",
        b'8,"x',
        b"9,z\n",
    ]
    found = read("(a INT, b TEXT)", payloads, "format = 'csv'")
    assert found.rows.to_pylist() == [
        {"a": 1, "b": "x"}, {"a": 2, "b": "a\nb"}, {"a": 7, "b": 'say "a", b'}, {"a": 9, "b": "z"},
    ]  # fmt: skip
    assert found.messages.tolist() == [0, 1, 5, 9]
    assert reasons(found) == {
        2: "a quoted field that does not end", 3: "more than one CSV record in a message", 4: "expected 2 fields, found 1",
        6: "an empty message", 7: "an empty message", 8: "a quoted field that does not end",
    }  # fmt: skip


def test_raw_messages_are_taken_as_they_are():
    payloads: list[bytes | None] = [b"a\nb", b"", b"\xff", "ä".encode(), None]
    found = read("(t TEXT)", payloads, "format = 'raw', tombstones = 'null'")
    assert found.rows["t"].to_pylist() == ["a\nb", "", "ä", None]
    assert reasons(found) == {2: "invalid UTF-8"}
    found = read("(t BYTEA)", payloads, "format = 'raw', tombstones = 'skip'")
    assert found.rows["t"].to_pylist() == payloads[:4]
    assert found.messages.tolist() == [0, 1, 2, 3]


def test_envelopes_give_changes_with_the_message_of_each():
    payloads: list[bytes | None] = [
        b'{"op":"c","after":{"a":1}}', None, b'{"op":"u","before":{"a":1},"after":{"a":2}}', b"null",
        b'{"op":"u","after":{"a":3}}', b'{"op":"d","before":{"a":2}}',
    ]  # fmt: skip
    told = {"offset": pa.array(range(10, 16), pa.int64())}
    found = read("(a INT) INCLUDE OFFSET AS o", payloads, "format = 'debezium'", told)
    assert found.rows.to_pylist() == [{"a": 1, "o": 10}, {"a": 1, "o": 12}, {"a": 2, "o": 12}, {"a": 2, "o": 15}]
    assert found.weights is not None
    assert found.weights.to_pylist() == [1, -1, 1, -1]
    assert reasons(found) == {4: "the row before is missing: set REPLICA IDENTITY FULL"}


def test_what_a_message_tells_beside_its_payload_is_read_as_the_column_s_type():
    columns = """(a INT) INCLUDE KEY AS k, KEY AS number BIGINT, KEY AS bytes BYTEA, TIMESTAMP AS at,
        TIMESTAMP AS plain TIMESTAMP, OFFSET AS o, HEADERS, HEADER 'trace' AS trace, HEADER 'n' INT"""
    told = {
        "key": [b"7", None, b"x", b"\xff"],
        "offset": pa.array([5, 6, 7, 9], pa.int64()),
        "timestamp": pa.array([0, 1, 2, 3], pa.timestamp("ms", "UTC")),
        "headers": [[("trace", b"t"), ("n", b"1"), ("trace", b"u"), ("b", b"\xff")], None, [], [("n", b"x")]],
    }
    found = read(columns, [b'{"a":1}'] * 4, told=told)
    first, second = found.rows.to_pylist()
    assert (first["k"], first["number"], first["bytes"], first["o"]) == ("7", 7, b"7", 5)
    assert (first["trace"], first["n"], json.loads(first["headers"])) == (
        "u",
        1,
        {"trace": "u", "n": "1", "b": "\\xff"},
    )
    assert str(first["at"]) == "1970-01-01 00:00:00+00:00"
    assert str(second["plain"]) == "1970-01-01 00:00:00.001000"
    assert (second["k"], second["headers"], second["trace"]) == (None, "{}", None)
    assert reasons(found) == {
        2: 'column "number": invalid input for type int8: "x"',
        3: 'column "n": invalid input for type int4: "x"',
    }
    assert read("(a INT) INCLUDE KEY", [b"{}"], told={"key": [b"\xff"]}).rejected["reason"].to_pylist() == [
        'column "key": KEY is not UTF-8: declare it as BYTEA'
    ]


def test_a_message_that_is_too_long_is_set_aside():
    found = decoder("(t TEXT)", "format = 'raw'", record_bytes_max=3).decode([b"abc", b"abcd"], {})
    assert found.rows["t"].to_pylist() == ["abc"]
    assert reasons(found) == {1: "a message of more than record_bytes_max = 3 bytes"}


def test_columns_are_found_by_their_paths():
    found = read("(id INT, at TEXT)", [b'{"user":{"id":4},"at":"x"}'], "columns = 'id:user.id'")
    assert found.rows.to_pylist() == [{"id": 4, "at": "x"}]


PIECES = [
    None, b"", b" ", b"\n", b"null", b'{"a":1}', b'{"a":1,"b":"x\\ny"}', b'{"b":"\xc3\xa4"}', b'\xef\xbb\xbf{"a":2}', b'"',
    b"1,x",    b'1,"x', b'x"', b'2,"a\nb"', b"3,y\n4,z", b"\xa4", b"5,\xc3", b'{"a":\n3}', b'{"op":"d","before":{"a":1}}',
    b"7,\r", b",",
    b'{"op":"u","before":{"a":1},"after":{"a":12345678901234567890}}', b'{"a":12345678901234567890.1}', b"junk", b"\0",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=8), st.sampled_from(["json", "csv", "debezium"])
)
@example([b"1,x", b'1,"x', b'2,"a\nb"'], "csv")
@example([b"\n"], "csv")
@example([b"", b'"'], "csv")
@settings(max_examples=60, deadline=None)
def test_messages_are_read_the_same_together_and_alone(payloads, kind):
    options = f"format = '{kind}'"
    columns = "(a NUMERIC(30, 2), b TEXT) INCLUDE OFFSET AS o"
    whole = read(columns, payloads, options, {"offset": pa.array(range(len(payloads)), pa.int64())})
    alone = [
        (index, read(columns, [payload], options, {"offset": pa.array([index], pa.int64())}))
        for index, payload in enumerate(payloads)
    ]
    assert whole.rows.to_pylist() == [row for _, one in alone for row in one.rows.to_pylist()]
    assert reasons(whole) == {index: reasons(one)[0] for index, one in alone if one.rejected.num_rows}
    assert (whole.weights or pa.array([], pa.int8())).to_pylist() == [
        w for _, one in alone for w in (one.weights or pa.array([], pa.int8())).to_pylist()
    ]
    if kind != "debezium":
        assert whole.rows.num_rows + whole.rejected.num_rows == len(payloads)


def test_a_definition_with_include_is_written_with_its_types_and_read_again():
    statement = create(
        "CREATE STREAM s (a INT) INCLUDE KEY, HEADER 'Trace-Id' AS trace, TIMESTAMP AS at TIMESTAMP WITH (connector = 'broker')"
    )
    assert render(statement) == (
        "CREATE STREAM s (a INTEGER) INCLUDE KEY AS key TEXT, HEADER 'Trace-Id' AS trace TEXT, "
        "TIMESTAMP AS at TIMESTAMP WITH (connector = 'broker')"
    )
    again = parse(statement.text, Limits())[0]
    assert isinstance(again, CreateStream)
    assert [(c.name, c.type, c.include) for c in again.columns] == [
        ("a", "INTEGER", ""), ("key", "VARCHAR", "key"), ("trace", "VARCHAR", "header:Trace-Id"),
        ("at", "TIMESTAMP", "timestamp"),
    ]  # fmt: skip


# the words after the text before which the error stands
WRONG = {
    "(a INT) INCLUDE KEY": ("KEY", "INCLUDE needs a connector"),
    "(a INT) INCLUDE KEY AS a WITH (connector = 'broker')": ("a WITH", 'column "a" specified more than once'),
    "(a INT) INCLUDE COLOR WITH (connector = 'broker')": ("COLOR", 'the connector "broker" has no COLOR to INCLUDE'),
    "(a INT) INCLUDE OFFSET AS o TEXT WITH (connector = 'broker')": (
        "o TEXT", 'OFFSET of the connector "broker" is of type int8'),
    "INCLUDE KEY AS k WITH (connector = 'nexmark', table = 'bid')": (
        "k WITH", 'the connector "nexmark" has nothing to INCLUDE'),
    "(a INT) INCLUDE WITH (connector = 'broker')": ("WITH", 'syntax error at or near "WITH"'),
    "(a INT, b INT) WITH (connector = 'broker', format = 'raw')": (
        "format", "raw messages need one column, of type text or bytea"),
    "(a INT) WITH (connector = 'broker', delimiter = ';')": (
        "delimiter", 'the option "delimiter" is for csv, not for json'),
    "(a INT) WITH (connector = 'broker', columns = 'b:x')": ("columns", 'column "b" does not exist'),
    "(a INT) WITH (connector = 'broker', columns = 'a')": ("columns", 'columns: "a" is not of the form column:key.key'),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_included_or_read_is_refused_with_its_place(text):
    place, message = WRONG[text]
    whole = f"CREATE STREAM s {text}"
    with pytest.raises(StreamSQLError) as caught:
        create(whole)
    assert caught.value.message == message
    assert caught.value.position is not None
    assert whole[caught.value.position - 1 :].startswith(place)


VALUES = st.sampled_from([
    "1", "-0", "1.0", "1e2", "9223372036854775808", "12345678901234567890.5", "1e999", "true", "null", '"x"', '"1"',
    '"\\u00e9"', '"\\ud800"', '"2026-01-01T00:00:00"', '"2026-02-30 00:00:00"', '"2026-01-01 00:00:00.5Z"', '"é"', "{}",
    "[1]", "NaN", "1767225600", '"a\\u0000"',
])  # fmt: skip
OBJECTS = st.lists(st.tuples(st.sampled_from("abcdeA"), VALUES), max_size=6).map(
    lambda pairs: ("{" + ", ".join(f'"{key}":{value}' for key, value in pairs) + "}").encode()
)
PLAIN = st.sampled_from(
    [b'{"a":1,"b":"x","c":1.5,"d":true,"e":"2026-01-01T10:00:00.25"}', b'{"a":-5,"c":2,"z":{"a":1}}']
)


@given(st.lists(PLAIN | OBJECTS, min_size=1, max_size=3))
@example([b'{"a":1,"a":2}'])
@example([b'{"A":1}'])
@settings(max_examples=150, deadline=None)
def test_a_few_records_are_read_as_many_are(payloads):
    columns = "(a INT, b TEXT, c DOUBLE PRECISION, d BOOLEAN, e TIMESTAMP)"
    one, other = decoder(columns), decoder(columns)
    other._decoder.few = False  # type: ignore[attr-defined]
    few, many = one.decode(payloads, {}), other.decode(payloads, {})
    assert few.rows.schema == many.rows.schema
    assert repr(few.rows.to_pylist()) == repr(many.rows.to_pylist())  # a NaN is a NaN
    assert reasons(few) == reasons(many)
