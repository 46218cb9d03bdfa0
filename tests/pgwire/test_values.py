"""Values on the wire, held against literals from PostgreSQL and against psycopg's own readers and writers."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from streamsql.base import types as t
from streamsql.base.errors import FeatureNotSupported, ProgramLimitExceeded, StreamSQLError
from streamsql.base.types import WireType, canonical_arrow
from streamsql.pgwire import values
from streamsql.pgwire.values import BadValue, decode_column, decode_value, encode_rows, parse_text
from tests.pgwire.wire import data_rows
from tests.pgwire.wire import encoded as _encoded

TEXT, BINARY = 0, 1
INT32_INFINITY = 2**31 - 1
INT64_INFINITY = 2**63 - 1


def _sliced(column: pa.Array) -> pa.Array:
    """Give the same values at an offset that is not a multiple of 8, with other values around them."""
    return pa.concat_arrays([column, column, column]).slice(len(column), len(column))


def _same(found: pa.Array, expected: pa.Array) -> bool:
    """Compare, with NaN the same as NaN; dates may lie beyond Python's."""
    return bool(found.equals(expected)) or repr(found.to_pylist()) == repr(expected.to_pylist())


def _be(code: str, *numbers: int | float) -> bytes:
    return struct.pack(">" + code, *numbers)


def _interval(months: int, days: int, microseconds: int) -> pa.Scalar:
    return pa.scalar(pa.MonthDayNano([months, days, microseconds * 1000]))


# wire type, Arrow value, text, binary: as PostgreSQL 15 gives them
LITERALS: list[tuple[WireType, Any, str, bytes]] = [
    (t.BOOL, True, "t", b"\x01"),
    (t.BOOL, False, "f", b"\x00"),
    (t.INT2, -(2**15), "-32768", _be("h", -(2**15))),
    (t.INT4, 2**31 - 1, "2147483647", _be("i", 2**31 - 1)),
    (t.INT8, -(2**63), "-9223372036854775808", _be("q", -(2**63))),
    (t.FLOAT8, 1.0, "1", _be("d", 1.0)),
    (t.FLOAT8, 1.5, "1.5", _be("d", 1.5)),
    (t.FLOAT8, -0.0, "-0", _be("d", -0.0)),
    (t.FLOAT8, 1e14, "100000000000000", _be("d", 1e14)),
    (t.FLOAT8, 999999999999999.9, "999999999999999.9", _be("d", 999999999999999.9)),
    (t.FLOAT8, 12345678901.25, "12345678901.25", _be("d", 12345678901.25)),
    (t.FLOAT8, -12345678900.0, "-12345678900", _be("d", -12345678900.0)),
    (t.FLOAT8, 1e15, "1e+15", _be("d", 1e15)),
    (t.FLOAT8, 1e20, "1e+20", _be("d", 1e20)),
    (t.FLOAT8, 123456789012345680.0, "1.2345678901234568e+17", _be("d", 123456789012345680.0)),
    (t.FLOAT8, 0.0001, "0.0001", _be("d", 0.0001)),
    (t.FLOAT8, -0.000015, "-1.5e-05", _be("d", -0.000015)),
    (t.FLOAT8, 1e-6, "1e-06", _be("d", 1e-6)),
    (t.FLOAT8, 1e-7, "1e-07", _be("d", 1e-7)),
    (t.FLOAT8, 5e-324, "5e-324", _be("d", 5e-324)),
    (t.FLOAT8, float("inf"), "Infinity", _be("d", float("inf"))),
    (t.FLOAT8, float("-inf"), "-Infinity", _be("d", float("-inf"))),
    (t.FLOAT8, float("nan"), "NaN", _be("d", float("nan"))),
    # the shortest digits that read back, 7.42106258467582e+16, lie halfway between two numbers: PostgreSQL wants better
    (t.FLOAT8, 7.421062584675821e16, "7.421062584675821e+16", _be("d", 7.421062584675821e16)),
    (t.FLOAT4, 0.1, "0.1", _be("f", 0.1)),
    (t.FLOAT4, 123456.0, "123456", _be("f", 123456.0)),
    (t.FLOAT4, 1e6, "1e+06", _be("f", 1e6)),
    (t.FLOAT4, 1234567.875, "1.2345679e+06", _be("f", 1234567.875)),
    (t.FLOAT4, 16777216.0, "1.6777216e+07", _be("f", 16777216.0)),
    (t.NUMERIC, Decimal("1.5000000000"), "1.5", _be("hhHHhh", 2, 0, 0, 1, 1, 5000)),
    (t.NUMERIC, Decimal("0E-10"), "0", _be("hhHH", 0, 0, 0, 0)),
    (t.NUMERIC, Decimal("-0.0000000001"), "-0.0000000001", _be("hhHHh", 1, -3, 0x4000, 10, 100)),
    (t.NUMERIC, Decimal("100000000.0000000000"), "100000000", _be("hhHHh", 1, 2, 0, 0, 1)),
    (
        t.NUMERIC,
        Decimal("1234567890123456789012345678.0000000000"),
        "1234567890123456789012345678",
        _be("hhHH7h", 7, 6, 0, 0, 1234, 5678, 9012, 3456, 7890, 1234, 5678),
    ),
    (t.TEXT, "", "", b""),
    (t.TEXT, "né\t", "né\t", "né\t".encode()),
    (t.VARCHAR, "x" * 300, "x" * 300, b"x" * 300),
    (t.JSON, '{"a": 1}', '{"a": 1}', b'{"a": 1}'),
    (t.JSONB, '{"a": 1}', '{"a": 1}', b'\x01{"a": 1}'),
    (
        t.UUID,
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        bytes.fromhex("a0eebc999c0b4ef8bb6d6bb9bd380a11"),
    ),
    (t.BYTEA, b"\xde\xad", "\\xdead", b"\xde\xad"),
    (t.BYTEA, b"", "\\x", b""),
    (t.DATE, 0, "1970-01-01", _be("i", -10957)),
    (t.DATE, 10957, "2000-01-01", _be("i", 0)),
    (t.DATE, -735160, "0044-03-15 BC", _be("i", -746117)),
    (t.DATE, 4000000, "12921-08-18", _be("i", 3989043)),
    (t.DATE, INT32_INFINITY, "infinity", _be("i", INT32_INFINITY)),
    (t.DATE, -INT32_INFINITY, "-infinity", _be("i", -(2**31))),
    (t.TIME, 0, "00:00:00", _be("q", 0)),
    (t.TIME, 45296120000, "12:34:56.12", _be("q", 45296120000)),
    (t.TIME, 86399999999, "23:59:59.999999", _be("q", 86399999999)),
    (t.TIMESTAMP, 1767323045500000, "2026-01-02 03:04:05.5", _be("q", 820638245500000)),
    (t.TIMESTAMP, 946684800000000, "2000-01-01 00:00:00", _be("q", 0)),
    (t.TIMESTAMP, -1, "1969-12-31 23:59:59.999999", _be("q", -946684800000001)),
    (t.TIMESTAMP, -735160 * 86400000000 + 3723500000, "0044-03-15 01:02:03.5 BC", _be("q", -64464505076500000)),
    (t.TIMESTAMP, INT64_INFINITY, "infinity", _be("q", INT64_INFINITY)),
    (t.TIMESTAMP, -INT64_INFINITY, "-infinity", _be("q", -(2**63))),
    (t.TIMESTAMPTZ, 1767323045500000, "2026-01-02 03:04:05.5+00", _be("q", 820638245500000)),
    (t.TIMESTAMPTZ, -735160 * 86400000000, "0044-03-15 00:00:00+00 BC", _be("q", -64464508800000000)),
    (t.TIMESTAMPTZ, INT64_INFINITY, "infinity", _be("q", INT64_INFINITY)),
    (t.INTERVAL, _interval(14, 3, 14706700000), "1 year 2 mons 3 days 04:05:06.7", _be("qii", 14706700000, 3, 14)),
    (t.INTERVAL, _interval(0, 0, 0), "00:00:00", _be("qii", 0, 0, 0)),
    (t.INTERVAL, _interval(-12, 0, 0), "-1 years", _be("qii", 0, 0, -12)),
    (t.INTERVAL, _interval(0, -1, 10800000000), "-1 days +03:00:00", _be("qii", 10800000000, -1, 0)),
    (t.INTERVAL, _interval(0, 0, -500000), "-00:00:00.5", _be("qii", -500000, 0, 0)),
    (t.INTERVAL, _interval(-1, 1, 360000000000), "-1 mons +1 day 100:00:00", _be("qii", 360000000000, 1, -1)),
    (t.INT4.array, [1, None, 3], "{1,NULL,3}", _be("iiiii", 1, 1, 23, 3, 1) + _be("iiiii", 4, 1, -1, 4, 3)),
    (t.INT4.array, [], "{}", _be("iii", 0, 0, 23)),
    (t.TEXT.array, ["a b", "", "null", 'x"y\\z', "{", "ok"], '{"a b","","null","x\\"y\\\\z","{",ok}', b""),
    (t.BOOL.array, [True, False], "{t,f}", _be("iiiii", 1, 0, 16, 2, 1) + b"\0\0\0\1\1\0\0\0\1\0"),
]


def _column(wire_type: WireType, items: list[Any]) -> pa.Array:
    return pa.array(
        [item.as_py() if isinstance(item, pa.Scalar) else item for item in items], canonical_arrow(wire_type)
    )


@pytest.mark.parametrize("null_first", [False, True])
@pytest.mark.parametrize(
    ("wire_type", "item", "text", "binary"), LITERALS, ids=lambda x: str(getattr(x, "name", ""))[:9]
)
def test_a_value_is_written_as_postgres_writes_it(
    wire_type: WireType, item: Any, text: str, binary: bytes, null_first: bool
) -> None:
    column = _column(wire_type, [None, item] if null_first else [item])
    nulls: list[bytes | None] = [None] if null_first else []
    assert _encoded(column, wire_type, TEXT) == [*nulls, text.encode()]
    if binary or wire_type in (t.TEXT, t.BYTEA):
        assert _encoded(column, wire_type, BINARY) == [*nulls, binary]
        assert decode_value(binary, wire_type, BINARY) == text
        assert _same(decode_column([*nulls, binary], wire_type, BINARY), column)


@pytest.mark.parametrize("name", sorted({wire_type.name for wire_type, *_ in LITERALS}))
def test_all_values_of_a_type_are_written_together_and_at_an_offset(name: str) -> None:
    chosen = [(item, text, binary) for wire_type, item, text, binary in LITERALS if wire_type.name == name]
    wire_type = t.BY_NAME[name]
    column = _sliced(_column(wire_type, [None, *(item for item, _, _ in chosen), None]))
    assert _encoded(column, wire_type, TEXT) == [None, *(text.encode() for _, text, _ in chosen), None]
    if all(binary for _, _, binary in chosen):
        assert _encoded(column, wire_type, BINARY) == [None, *(binary for _, _, binary in chosen), None]


def test_every_wire_type_has_a_codec() -> None:
    assert set(values.CODECS) == set(t.BY_NAME)


@pytest.mark.parametrize("format_code", [TEXT, BINARY])
@pytest.mark.parametrize("name", sorted(t.BY_NAME))
def test_a_column_of_nulls_and_an_empty_batch_can_be_written_and_read(name: str, format_code: int) -> None:
    wire_type = t.BY_NAME[name]
    nulls = pa.nulls(3, canonical_arrow(wire_type))
    assert _encoded(nulls, wire_type, format_code) == [None, None, None]
    assert bytes(encode_rows(pa.record_batch([nulls.slice(0, 0)], names=["x"]), [wire_type], [format_code])) == b""
    assert decode_column([None, None, None], wire_type, format_code).equals(nulls)
    assert decode_column([], wire_type, format_code).equals(nulls.slice(0, 0))
    assert decode_value(None, wire_type, format_code) is None


def test_rows_mix_formats_and_types_in_one_buffer() -> None:
    batch = pa.record_batch(
        [
            pa.array([1, None]),
            pa.array(["a", "bc"]),
            pa.array([True, None]),
            pa.array([1.5, 2.5]),
            pa.array([None, b"x"]),
        ],
        names=list("abcde"),
    )
    encoded = encode_rows(batch, [t.INT8, t.TEXT, t.BOOL, t.FLOAT8, t.BYTEA], [BINARY, TEXT, TEXT, BINARY, TEXT])
    assert data_rows(encoded) == [
        [_be("q", 1), b"a", b"t", _be("d", 1.5), None],
        [None, b"bc", None, _be("d", 2.5), b"\\x78"],
    ]


def test_rows_without_columns_are_still_rows() -> None:
    batch = pa.record_batch([pa.array([1, 2])], names=["x"]).select([])
    assert bytes(encode_rows(batch, [], [])) == b"D\0\0\0\6\0\0" * batch.num_rows


def test_more_than_two_gigabytes_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pa.record_batch([pa.array(["x" * 10] * 10)], names=["x"])
    whole = bytes(encode_rows(batch, [t.TEXT], [TEXT]))
    monkeypatch.setattr(values, "_BUFFER_BYTES_MAX", 60)
    assert bytes(encode_rows(batch, [t.TEXT], [TEXT])) == whole
    monkeypatch.setattr(values, "_BUFFER_BYTES_MAX", 12)
    with pytest.raises(ProgramLimitExceeded):
        encode_rows(batch, [t.TEXT], [TEXT])


def test_arrays_of_arrays_are_written_and_ragged_ones_have_no_binary_form() -> None:
    column = pa.array([[[1, 2], [3, None]], None, []], pa.list_(pa.list_(pa.int32())))
    assert _encoded(column, t.INT4.array, TEXT) == [b"{{1,2},{3,NULL}}", None, b"{}"]
    elements = _be("iiiiiii", 4, 1, 4, 2, 4, 3, -1)
    assert _encoded(column, t.INT4.array, BINARY) == [
        _be("iiiiiii", 2, 1, 23, 2, 1, 2, 1) + elements,
        None,
        _be("iii", 0, 0, 23),
    ]
    ragged = pa.array([[[1], [2, 3]]], pa.list_(pa.list_(pa.int32())))
    assert _encoded(ragged, t.INT4.array, TEXT) == [b"{{1},{2,3}}"]
    with pytest.raises(FeatureNotSupported, match="no binary form"):
        _encoded(ragged, t.INT4.array, BINARY)


# psycopg's readers and writers

PYTHON_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "float4": st.floats(width=32),
    "float8": st.floats(),
    "numeric": st.decimals(-(10**27), 10**27, places=10),
    "text": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "date": st.dates(),
    "time": st.times().map(lambda moment: moment.replace(fold=0)),
    "timestamp": st.datetimes().map(lambda moment: moment.replace(fold=0)),
    "timestamptz": st.datetimes().map(lambda moment: moment.replace(tzinfo=UTC, fold=0)),
    "_int4": st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)),
    "_text": st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
    "_float8": st.lists(st.none() | st.floats()),
}


def _arrow(name: str, items: list[Any]) -> pa.Array:
    shown = [None if item is None else str(item) for item in items] if name == "uuid" else items
    return pa.array(shown, canonical_arrow(t.BY_NAME[name]))


@pytest.mark.parametrize("name", sorted(PYTHON_VALUES))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_psycopg_reads_what_we_write_and_we_read_what_psycopg_writes(name: str, data: st.DataObject) -> None:
    wire_type = t.BY_NAME[name]
    items = data.draw(st.lists(st.none() | PYTHON_VALUES[name], min_size=1, max_size=8))
    column = _arrow(name, items)
    there = [item for item in items if item is not None]
    transformer = Transformer()
    for format_code, format_ in ((TEXT, Format.TEXT), (BINARY, Format.BINARY)):
        encoded = _encoded(_sliced(column), wire_type, format_code)
        loader = transformer.get_loader(wire_type.oid, format_)
        loaded = [None if value is None else loader.load(value) for value in encoded]
        if name == "float4":  # psycopg reads its digits as a double
            loaded = pa.array(loaded, pa.float32()).to_pylist()
        assert repr(_as_utc(loaded)) == repr(_as_utc(items))
        assert _same(decode_column(encoded, wire_type, format_code), column)
    for item in there:
        dumper = transformer.get_dumper(item, PyFormat.BINARY)
        dumped = bytes(dumper.dump(item) or b"")
        if dumper.oid == wire_type.oid:
            assert repr(decode_column([dumped], wire_type, BINARY).to_pylist()) == repr(
                _arrow(name, [item]).to_pylist()
            )


def _as_utc(items: list[Any]) -> list[Any]:
    """Give times in UTC, and numbers without the zeros at their end."""
    items = [item.normalize() if isinstance(item, Decimal) else item for item in items]
    return [item.astimezone(UTC) if isinstance(item, datetime) and item.tzinfo else item for item in items]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False) | st.integers(2**53, 10**24).map(float), min_size=1))
@example([9007199254740993.0, 7.421062584675821e16, 2.0**63, 1e22, 1e23, 2.0**70])
def test_a_double_is_written_so_that_it_reads_back_the_same(numbers: list[float]) -> None:
    texts = _encoded(pa.array(numbers), t.FLOAT8, TEXT)
    assert [repr(float(text or b"")) for text in texts] == [repr(number) for number in numbers]
    assert parse_text(pa.array([(text or b"").decode() for text in texts]), t.FLOAT8).to_pylist() == numbers


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 2, st.integers(-(2**62) // 1000, 2**62 // 1000)), min_size=1
    )
)
def test_an_interval_is_read_back_from_its_text_and_from_its_bytes(parts: list[tuple[int, int, int]]) -> None:
    column = pa.array([pa.MonthDayNano([m, d, us * 1000]) for m, d, us in parts], pa.month_day_nano_interval())
    for format_code in (TEXT, BINARY):
        assert decode_column(_encoded(column, t.INTERVAL, format_code), t.INTERVAL, format_code).equals(column)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1), st.integers(0, 38))
def test_a_numeric_of_any_scale_is_written_digit_by_digit(unscaled: list[int], scale: int) -> None:
    numbers = [Decimal(f"{number}e-{scale}") for number in unscaled]
    column = pa.array(numbers, pa.decimal128(38, scale))
    expected = [f"{number:f}".encode() for number in numbers]
    if scale == 10:  # a numeric without a scale of its own shows none of the zeros at its end
        expected = [text.rstrip(b"0").removesuffix(b".") for text in expected]
    assert [text.removeprefix(b"-") for text in _encoded(column, t.NUMERIC, TEXT) if text] == [
        text.removeprefix(b"-") for text in expected
    ]
    shown = [decode_value(value, t.NUMERIC, BINARY) for value in _encoded(column, t.NUMERIC, BINARY)]
    assert [(text or "").encode() for text in shown] == [
        text if Decimal(text.decode()) else text.lstrip(b"-") for text in expected
    ]


# text in


@pytest.mark.parametrize(
    ("wire_type", "text", "expected"),
    [
        (t.BOOL, " TRUE ", True),
        (t.BOOL, "of", False),
        (t.INT4, " +7\n", 7),
        (t.INT8, "-9223372036854775808", -(2**63)),
        (t.FLOAT8, "-Infinity", float("-inf")),
        (t.FLOAT8, " 1e3 ", 1000.0),
        (t.NUMERIC, "1.5e-3", Decimal("0.0015000000")),
        (t.NUMERIC, "0.00000000005", Decimal("0.0000000001")),
        (t.BYTEA, "\\xDEad", b"\xde\xad"),
        (t.BYTEA, "a\\\\\\001", b"a\\\x01"),
        (t.UUID, "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (t.DATE, "20260102", date(2026, 1, 2)),
        (t.DATE, "2026-1-2", date(2026, 1, 2)),
        (t.DATE, "2026-01-02 +05:30", date(2026, 1, 2)),
        (t.TIMESTAMPTZ, "2026-01-02 +05:30", datetime(2026, 1, 1, 18, 30, tzinfo=UTC)),
        (t.TIME, "11:59 pm", time(23, 59)),
        (t.TIMESTAMP, "2026-01-02", datetime(2026, 1, 2)),
        (t.TIMESTAMP, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5)),
        (t.TIMESTAMP, "2026-01-02 03:04:05.123+02", datetime(2026, 1, 2, 3, 4, 5, 123000)),
        (t.TIMESTAMP, "2026-01-02 03:04:05.1234567", datetime(2026, 1, 2, 3, 4, 5, 123457)),
        (t.TIMESTAMP, "epoch", datetime(1970, 1, 1)),
        (t.TIMESTAMPTZ, "2026-01-02 03:04:05.123+02", datetime(2026, 1, 2, 1, 4, 5, 123000, UTC)),
        (t.TIMESTAMPTZ, "2026-01-02 03:04:05-0730", datetime(2026, 1, 2, 10, 34, 5, tzinfo=UTC)),
        (t.TIMESTAMPTZ, "2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (t.INTERVAL, "1 day 02:00:00", pa.MonthDayNano([0, 1, 7200 * 10**9])),
        (t.INTERVAL, "5 minutes", pa.MonthDayNano([0, 0, 300 * 10**9])),
        (t.INTERVAL, "PT5M", pa.MonthDayNano([0, 0, 300 * 10**9])),
        (t.INTERVAL, "P1Y2M3DT4H5M6.7S", pa.MonthDayNano([14, 3, 14706700 * 10**6])),
        (t.INTERVAL, "1.5 months ago", pa.MonthDayNano([-1, -15, 0])),
        (t.INTERVAL, "1-2", pa.MonthDayNano([14, 0, 0])),
        (t.JSON, ' {"a": [1, null]} ', ' {"a": [1, null]} '),
        (t.INT4.array, "{1, 2 ,NULL}", [1, 2, None]),
        (t.INT4.array, " { } ", []),
        (t.TEXT.array, '{"a,\\"b", c d ,"null",null}', ['a,"b', "c d", "null", None]),
    ],
)
def test_text_is_read_as_postgres_reads_it(wire_type: WireType, text: str, expected: object) -> None:
    usual = {"int4": "1", "_int4": "{1}", "_text": "{x}"}.get(wire_type.name)
    assert parse_text(pa.array([None, text]), wire_type).to_pylist() == [None, expected]
    if usual is not None:  # among values that the fast path reads
        among = pa.array([usual] * 500 + [text] + [usual] * 500)
        assert parse_text(among, wire_type)[500].as_py() == expected


@pytest.mark.parametrize(
    ("wire_type", "text", "sqlstate", "message"),
    [
        (t.BOOL, "o", "22P02", 'invalid input syntax for type boolean: "o"'),
        (t.INT2, "99999", "22003", 'value "99999" is out of range for type smallint'),
        (t.INT4, "x", "22P02", 'invalid input syntax for type integer: "x"'),
        (t.INT4, "", "22P02", 'invalid input syntax for type integer: ""'),
        (t.INT4, "0xffffffff", "22P02", 'invalid input syntax for type integer: "0xffffffff"'),
        (t.INT8, "9" * 5000, "22003", f'value "{"9" * 5000}" is out of range for type bigint'),
        (t.FLOAT8, "1e400", "22003", '"1e400" is out of range for type double precision'),
        (t.FLOAT8, "1e-400", "22003", '"1e-400" is out of range for type double precision'),
        (t.FLOAT4, "1e40", "22003", '"1e40" is out of range for type real'),
        (t.FLOAT8, "abc", "22P02", 'invalid input syntax for type double precision: "abc"'),
        (t.NUMERIC, "abc", "22P02", 'invalid input syntax for type numeric: "abc"'),
        (t.NUMERIC, "1e28", "22003", "numeric field overflow"),
        (t.NUMERIC, "1e999999999", "22003", "value overflows numeric format"),
        (t.BYTEA, "\\xz1", "22023", 'invalid hexadecimal digit: "z"'),
        (t.BYTEA, "\\x1", "22023", "invalid hexadecimal data: odd number of digits"),
        (t.BYTEA, "a\\z", "22P02", "invalid input syntax for type bytea"),
        (t.UUID, "x", "22P02", 'invalid input syntax for type uuid: "x"'),
        (t.JSON, "{", "22P02", "invalid input syntax for type json"),
        (t.JSON, "NaN", "22P02", "invalid input syntax for type json"),
        (t.JSON, "[" * 100_000, "54000", "json value is nested too deeply"),
        (t.DATE, "2026-02-30", "22008", 'date/time field value out of range: "2026-02-30"'),
        (t.DATE, "zz", "22007", 'invalid input syntax for type date: "zz"'),
        (t.TIME, "25:00", "22008", 'date/time field value out of range: "25:00"'),
        (t.TIMESTAMP, "2026-13-01", "22008", 'date/time field value out of range: "2026-13-01"'),
        (t.TIMESTAMP, "zz", "22007", 'invalid input syntax for type timestamp: "zz"'),
        (t.TIMESTAMPTZ, "zz", "22007", 'invalid input syntax for type timestamp with time zone: "zz"'),
        (t.INTERVAL, "x", "22007", 'invalid input syntax for type interval: "x"'),
        (t.INTERVAL, "300000000 years", "22008", 'interval field value out of range: "300000000 years"'),
        (t.INT4.array, "{1,x}", "22P02", 'invalid input syntax for type integer: "x"'),
        (t.INT4.array, "{1,2", "22P02", 'malformed array literal: "{1,2"'),
        (t.INT4.array, "{1,}", "22P02", 'malformed array literal: "{1,}"'),
        (t.INT4.array, "[2:3]={1,2}", "0A000", "array literals with bounds are not supported"),
        (t.INT4.array, "{{1},{2,3}}", "22P02", 'malformed array literal: "{{1},{2,3}}"'),
        (t.INT4.array, "{{1},{2}", "22P02", 'malformed array literal: "{{1},{2}"'),
    ],
)
def test_a_bad_text_is_named_with_its_row_and_postgres_message(
    wire_type: WireType, text: str, sqlstate: str, message: str
) -> None:
    fine = {
        "bool": "t", "bytea": "\\x00", "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "json": "1", "date": "2026-01-01",
        "time": "01:02:03", "timestamp": "2026-01-01", "timestamptz": "2026-01-01", "interval": "1 day", "_int4": "{1,2}",
    }.get(wire_type.name, "1")  # fmt: skip
    for before in (0, 3, 1000):
        with pytest.raises(BadValue) as caught:
            parse_text(pa.array([fine] * before + [text] + [fine, None] * 10), wire_type)
        assert caught.value.row == before
        assert (caught.value.error.sqlstate, caught.value.error.message) == (sqlstate, message)


def test_the_modifier_of_a_numeric_sets_its_scale_and_bound() -> None:
    modifier = ((5 << 16) | 2) + 4
    assert parse_text(pa.array(["1.005", "-999.99"]), t.NUMERIC, modifier).to_pylist() == [
        Decimal("1.01"),
        Decimal("-999.99"),
    ]
    with pytest.raises(BadValue) as caught:
        parse_text(pa.array(["1", "999.995"]), t.NUMERIC, modifier)
    assert caught.value.row == 1
    assert caught.value.error.detail == (
        "A field with precision 5, scale 2 must round to an absolute value less than 10^3."
    )


# binary in


@pytest.mark.parametrize(
    "name",
    sorted(
        n
        for n in t.BY_NAME
        if values.CODECS[n] not in (values.CODECS["text"], values.CODECS["bytea"], values.CODECS["json"])
    ),
)
def test_a_binary_value_of_a_wrong_length_is_refused_with_its_row(name: str) -> None:
    wire_type = t.BY_NAME[name]
    with pytest.raises(BadValue) as caught:
        decode_column([None, b"\0\0\0"], wire_type, BINARY)
    assert (caught.value.row, caught.value.error.sqlstate) == (1, "22P03")
    with pytest.raises(StreamSQLError) as refused:
        decode_value(b"\0\0\0", wire_type, BINARY)
    assert refused.value.sqlstate == "22P03"


@pytest.mark.parametrize("wrong", [b"\xff", b"a\0b"])
def test_text_that_is_not_utf8_is_refused(wrong: bytes) -> None:
    for format_code in (TEXT, BINARY):
        with pytest.raises(BadValue) as caught:
            decode_column([b"a", wrong], t.TEXT, format_code)
        assert (caught.value.row, caught.value.error.sqlstate) == (1, "22021")
    with pytest.raises(StreamSQLError, match="invalid byte sequence"):
        decode_value(wrong, t.INT4, TEXT)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(t.BY_NAME)), st.binary(max_size=60), st.sampled_from([TEXT, BINARY]))
def test_any_bytes_are_a_value_or_an_error(name: str, value: bytes, format_code: int) -> None:
    wire_type = t.BY_NAME[name]
    row: int | None = None
    try:
        column = decode_column([None, value], wire_type, format_code)
    except BadValue as bad:
        row = bad.row
    else:
        assert column.type == canonical_arrow(wire_type)
        assert len(column) == 2
    assert row in (None, 1)
    try:
        text = decode_value(value, wire_type, format_code)
    except StreamSQLError:
        pass
    else:
        assert isinstance(text, str)
