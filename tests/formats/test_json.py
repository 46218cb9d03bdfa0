"""JSON records: what is read, what is set aside and why, and that where the bytes are cut changes nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from streamsql.base.errors import ProgramLimitExceeded
from streamsql.formats.format import Decoded, Field
from streamsql.formats.json import JsonFormat


def read(data: str | bytes, *columns: str, **options: Any) -> Decoded:
    """Decode records; a column is written as ``name TYPE``."""
    pairs = (column.split(" ", 1) for column in columns)
    fields = tuple(Field(name, kind) for name, kind in pairs)
    return JsonFormat(fields, **options).decode(data.encode() if isinstance(data, str) else data)


def values(data: str, *columns: str, **options: Any) -> list[Any]:
    """Decode records that can all be read; give the values of the first column."""
    found = read(data, *columns, **options)
    assert found.rejected.to_pylist() == []
    return found.rows.column(0).to_pylist()  # type: ignore[no-any-return]


def reasons(data: str | bytes, *columns: str, **options: Any) -> list[tuple[int, str]]:
    """Decode records; give the position and reason of those that cannot be read."""
    found = read(data, *columns, **options).rejected
    return list(zip(found.column("position").to_pylist(), found.column("reason").to_pylist(), strict=True))


def test_missing_and_null_are_null_and_what_no_column_has_is_left():
    found = read('{"a": 1, "z": [1, {"a": 2}]}\n{"b": "x"}\n{"a": null}\n{}\n', "a BIGINT", "b VARCHAR")
    assert found.rows.to_pylist() == [
        {"a": 1, "b": None}, {"a": None, "b": "x"}, {"a": None, "b": None}, {"a": None, "b": None},
    ]  # fmt: skip


def test_numbers_may_be_strings_and_the_other_way_round():
    assert values('{"a":12}\n{"a":"12"}\n{"a":12.0}\n{"a":" 12"}'.replace(" 12", "12"), "a INTEGER") == [12, 12, 12, 12]
    assert values('{"a":1}\n{"a":"1.5"}\n{"a":1e3}\n{"a":"NaN"}', "a DOUBLE")[:3] == [1.0, 1.5, 1000.0]
    assert values('{"a":12}\n{"a":true}\n{"a":{"b":[1]}}', "a VARCHAR") == ["12", "true", '{"b":[1]}']


def test_what_is_no_whole_number_is_not_rounded_and_what_is_too_large_is_not_infinite():
    text = '{"a":1.5,"x":1}\n{"a":1,"x":1e400}\n{"a":3000000000}\n{"a":"1e-1"}'
    assert reasons(text, "a INTEGER", "x DOUBLE") == [
        (0, 'column "a": invalid input for type int4: "1.5"'),
        (16, 'column "x": invalid input for type float8: "1e400"'),
        (34, 'column "a": invalid input for type int4: "3000000000"'),
        (51, 'column "a": invalid input for type int4: "1e-1"'),
    ]


@pytest.mark.parametrize(
    "number", ["0.1", "12345678901234567890.1234567891", "-99999999999999999999.0000000001", "1e3"]
)
def test_decimals_keep_every_digit(number: str):
    assert values(f'{{"a":{number}}}', "a DECIMAL(38,10)") == [Decimal(number)]
    assert values(f'{{"a":"{number}"}}', "a DECIMAL(38,10)") == [Decimal(number)]


def test_json_columns_keep_the_value_and_the_digits_of_numbers():
    text = '{"a": {"x": [12345678901234567890.12345, "12345678901234567890"], "y": "a\\"12345678901234567890"} }'
    kept = '{"x":[12345678901234567890.12345,"12345678901234567890"],"y":"a\\"12345678901234567890"}'
    assert values(text, "a JSON") == [kept]
    assert values('{"a":"text"}\n{"a":5}\n{"a":null}', "a JSON") == ['"text"', "5", None]


def test_text_that_looks_like_a_long_number_stays_as_it_is():
    assert values('{"a":"12345678901234567890.10"}\n{"a":12345678901234567890.10}', "a VARCHAR") == [
        "12345678901234567890.10",
        "12345678901234567890.10",
    ]


UTC = dt.UTC
AT = dt.datetime(2026, 1, 1, 12, 0, 0, 123000)


@pytest.mark.parametrize(
    "text",
    [
        '"2026-01-01T12:00:00.123Z"', '"2026-01-01T14:00:00.123+02:00"', '"2026-01-01 12:00:00.123"', "1767268800.123",
        "1767268800123", "1767268800123000", "1767268800123000000", '"1767268800123"',
    ],
)  # fmt: skip
def test_times_come_in_many_forms(text: str):
    assert values(f'{{"a":{text}}}', "a TIMESTAMP") == [AT]
    assert values(f'{{"a":{text}}}', "a TIMESTAMP WITH TIME ZONE") == [AT.replace(tzinfo=UTC)]


def test_the_unit_of_times_that_are_numbers_may_be_named():
    assert values('{"a":1000}', "a TIMESTAMP", times="ms") == [dt.datetime(1970, 1, 1, 0, 0, 1)]
    assert values('{"a":1000}', "a TIMESTAMP", times="s") == [dt.datetime(1970, 1, 1, 0, 16, 40)]
    assert reasons('{"a":9223372036854775807}', "a TIMESTAMP", times="s")[0][0] == 0


def test_values_are_found_by_their_paths():
    fields = (
        Field("id", "BIGINT", path=("user", "id")),
        Field("city", "VARCHAR", path=("user", "address", "city")),
        Field("user", "JSON"),
        Field("dotted", "VARCHAR", path=("a.b", 'q"')),
    )
    found = JsonFormat(fields).decode(b'{"user":{"id":7,"address":{"city":"Ulm"}},"a.b":{"q\\"":"x"}}\n{"user":5}\n')
    assert found.rows.to_pylist() == [
        {"id": 7, "city": "Ulm", "user": '{"id":7,"address":{"city":"Ulm"}}', "dotted": "x"},
        {"id": None, "city": None, "user": "5", "dotted": None},
    ]


def test_lists_structs_and_maps_are_read_whole_or_not_at_all():
    assert values('{"a":[1,2]}\n{"a":[]}', "a INTEGER[]") == [[1, 2], []]
    assert values('{"a":{"x":1,"y":"z"}}', "a STRUCT(x INTEGER, y VARCHAR)") == [{"x": 1, "y": "z"}]
    assert reasons('{"a":["x"]}', "a INTEGER[]") == [(0, 'column "a": invalid input for type int4[]: "["x"]"')]


def test_bytes_come_as_hexadecimal_or_base64():
    assert values('{"a":"\\\\xff00"}\n{"a":"/wA="}', "a BLOB") == [b"\xff\x00", b"\xff\x00"]


def test_each_bad_record_is_set_aside_with_its_place_reason_and_bytes():
    data = (
        b'\xef\xbb\xbf{"a":1}\r\n\r\n  \t\nnull\n[1]\n{"a":2}{"a":3}\n{"s":"\xff"}\n{"s":"a\\u0000b"}\n{"a":4}\n{"a":'
    )
    found = read(data, "a BIGINT", "s VARCHAR")
    assert found.rows.column("a").to_pylist() == [1, 4]
    assert [(r["position"], r["reason"], r["bytes"]) for r in found.rejected.to_pylist()] == [
        (18, "not a JSON object", b"null"),
        (23, "not a JSON object", b"[1]"),
        (27, "invalid JSON", b'{"a":2}{"a":3}'),
        (42, "invalid UTF-8", b'{"s":"\xff"}'),
        (52, 'column "s": \\u0000 cannot be converted to text', b'{"s":"a\\u0000b"}'),
        (77, "invalid JSON", b'{"a":'),
    ]


def test_a_column_that_must_not_be_null_rejects_what_has_none():
    found = JsonFormat((Field("a", "BIGINT", not_null=True),)).decode(b'{"a":1}\n{}\n')
    assert found.rows.num_rows == 1
    assert found.rejected.column("reason").to_pylist() == ['null value in column "a" violates not-null constraint']


def test_one_array_and_values_that_follow_each_other_are_records_too():
    text = '[{"a":1},\n {"a":\n2, "s":"]},[{\\\\\\""},\n 5 ]'
    found = read(text, "a BIGINT", "s VARCHAR", layout="values").rows.to_pylist()
    assert found == [{"a": 1, "s": None}, {"a": 2, "s": ']},[{\\"'}]
    assert reasons(text, "a BIGINT", layout="values") == [(39, "not a JSON object")]
    assert values('{"a":1}{"a":\n2}\n\n{"a":3}', "a BIGINT", layout="values") == [1, 2, 3]


def test_what_is_wrong_with_an_array_is_told_and_its_records_count():
    assert read('[{"a":1},{"a":2}', "a BIGINT", layout="values").rows.num_rows == 2
    assert reasons('[{"a":1},{"a":2}', "a BIGINT", layout="values") == [(0, "invalid JSON")]
    assert reasons('[{"a":1}] x', "a BIGINT", layout="values") == [(10, "invalid JSON")]
    assert reasons("]", "a BIGINT", layout="values") == [(0, "invalid JSON")]
    assert read("[]", "a BIGINT", layout="values").rows.num_rows == 0


def test_a_record_that_is_too_long_is_refused():
    decoder = JsonFormat((Field("a", "VARCHAR"),), record_bytes_max=5_000_000).decoder()
    with pytest.raises(ProgramLimitExceeded, match="a record of more than 5000000 bytes"):
        decoder.feed(b'{"a":"' + b"x" * 20_000_000)


def test_deep_nesting_is_read():
    deep = "[" * 100_000 + "]" * 100_000
    assert values(f'{{"a":{deep}}}', "a VARCHAR") == [deep]


NOON = dt.datetime(2026, 1, 1, 12)
NO = "rejected"
# what stands in a record, and what it is in a column of a type; `NO` where it is none
VARIANTS: dict[str, dict[str, Any]] = {
    "BIGINT": {
        "1": 1, "-0": 0, "1.0": 1, "1e2": 100, '"7"': 7, '"+7"': 7, "9223372036854775807": 9223372036854775807, "null": None,
        "1.5": NO, "1e-1": NO, '"1e2"': NO, '" 7"': NO, '""': NO, "true": NO, "9223372036854775808": NO, '"0x10"': NO,
        '"1,000"': NO, '"1_000"': NO, "[1]": NO,
    },
    "SMALLINT": {"32767": 32767, '"-32768"': -32768, "32768": NO},
    "DOUBLE": {
        "1": 1.0, "0.1": 0.1, "1e2": 100.0, '"1.5"': 1.5, '"1e-2"': 0.01, '"Infinity"': float("inf"), '"-inf"': -float("inf"),
        "9223372036854775808": 2.0**63, "null": None, "1e400": NO, "true": NO, '""': NO, '"x"': NO, '"1,5"': NO,
    },
    "FLOAT": {"0.5": 0.5, '"0.5"': 0.5, "1e39": NO, "-1e39": NO},
    "DECIMAL(20,4)": {
        "1": Decimal(1), "0.1": Decimal("0.1"), "1e2": Decimal(100), '"-1.5"': Decimal("-1.5"),
        "1234567890123456.1234": Decimal("1234567890123456.1234"), "null": None, "1e17": NO, '"NaN"': NO, "true": NO,
    },
    "BOOLEAN": {"true": True, '"false"': False, '"t"': True, '"yes"': True, "1": True, "0": False, "null": None, '"x"': NO},
    "TIMESTAMP": {
        '"2026-01-01T12:00:00Z"': NOON, '"2026-01-01 12:00:00"': NOON, '"2026-01-01T12:00"': NOON,
        '"2026-01-01T14:00:00+02:00"': NOON, '"2026-01-01T07:00:00-0500"': NOON, '"2026-01-01"': NOON.replace(hour=0),
        '"2026-01-01T12:00:00.123456789Z"': NOON.replace(microsecond=123456),
        "1767268800": NOON, '"1767268800"': NOON, "1767268800.0": NOON, "1767268800000": NOON, "1767268800000000": NOON,
        "1767268800000000000": NOON, "1767268800.25": NOON.replace(microsecond=250_000),
        "-1": dt.datetime(1969, 12, 31, 23, 59, 59),
        "0": dt.datetime(1970, 1, 1), "null": None, '"2026-02-30"': NO, '"01.02.2026"': NO, '"noon"': NO, '""': NO, "true": NO,
        '"Thu, 01 Jan 2026 12:00:00 GMT"': NO,
    },
    "TIMESTAMP WITH TIME ZONE": {
        '"2026-01-01T12:00:00Z"': NOON.replace(tzinfo=UTC), '"2026-01-01T14:00:00+02:00"': NOON.replace(tzinfo=UTC),
        '"2026-01-01T12:00:00"': NOON.replace(tzinfo=UTC), "1767268800000": NOON.replace(tzinfo=UTC), "null": None, '"x"': NO,
    },
    "DATE": {'"2026-01-01"': dt.date(2026, 1, 1), "null": None, '"2026-13-01"': NO, '""': NO},
    "TIME": {'"12:34:56"': dt.time(12, 34, 56), '"12:34:56.5"': dt.time(12, 34, 56, 500_000), "null": None, '"25:00"': NO},
}  # fmt: skip


@pytest.mark.parametrize("kind", VARIANTS)
def test_numbers_and_times_come_in_variants(kind: str):
    """Alone, and as one of many records, which other code reads."""
    for text, wanted in VARIANTS[kind].items():
        for count in (1, 600):
            found = read(f'{{"a":{text}}}\n' * count, f"a {kind}")
            values = found.rows.column(0).to_pylist()
            assert values == ([] if wanted == NO else [wanted] * count), (text, count)
            assert found.rejected.num_rows == count - len(values), (text, count)
