"""Records that are read side by side are read as the parser reads them, whatever stands between those that are alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamsql.formats import few_json, flat_json
from streamsql.formats.format import Field
from streamsql.formats.json import JsonFormat

FIELDS = (
    Field("ts", "TIMESTAMP"), Field("zoned", "TIMESTAMP WITH TIME ZONE"), Field("n", "INTEGER"), Field("d", "DOUBLE"),
    Field("ok", "BOOLEAN"), Field("s", "VARCHAR"), Field("gone", "BIGINT"),
)  # fmt: skip
TIMES = st.sampled_from([
    '"2026-01-01T00:00:01"', '"2026-01-01 00:00:01.123456"', '"2026-01-01T00:00:01Z"', '"2026-01-01T00:00:01+01:00"',
    '"2026-01-01"', '"2026-01-01T25:00:00"', '"2026-02-30T00:00:00"', '"0001-01-01T00:00:00"', '"2026-01-01T00:00:60"',
    '"2026-01-01T00:00:01.1234567"', '"2026-01-01T00:00"', '"20260101T000000.000000"', "1767225601", "null", '""',
])  # fmt: skip
NUMBERS = st.sampled_from([
    "0", "7", "-7", "007", "+7", "-0", "0x10", "1.5", "5.", ".5", "1e3", "5.e1", "1E+2", "2147483648", "1e999", "NaN",
    "Infinity", "null", "nul", '"7"', "12345678901234567890", "-", "", "1 ", "- 1", "00.5", "-01", "0.1", "[1]", "{}", "true",
])  # fmt: skip
TRUTHS = st.sampled_from(["true", "false", "null", "True", "1", '"true"', "tru"])
TEXTS = st.sampled_from(
    ['"a"', '""', '"Zürich"', '"a,b:c"', '"}"', '"a\\"b"', '"\\u0041"', "null", "1", '"', '"a" "b"']
)
PLAIN = ('"2026-01-01T00:00:01"', '"2026-01-01T00:00:01Z"', "7", "1.5", "true", '"a"', "3")
COLUMNS = (TIMES, TIMES, NUMBERS, NUMBERS, TRUTHS, TEXTS, NUMBERS)
KEYS = ("ts", "zoned", "n", "d", "ok", "s", "more")


def line(values, keys=KEYS, colon=":", comma=","):
    return "{" + comma.join(f'"{k}"{colon}{v}' for k, v in zip(keys, values, strict=True)) + "}"


@st.composite
def records(draw):
    """Draw lines that are mostly alike, in the one or the other place of which something odd stands."""
    colon, comma = draw(st.sampled_from([(":", ","), (": ", ", "), (" : ", ",")]))
    found = []
    for _ in range(draw(st.integers(1, 12))):
        values = list(PLAIN)
        for place in draw(st.lists(st.integers(0, len(PLAIN) - 1), max_size=1)):
            values[place] = draw(COLUMNS[place])
        found.append(line(values, colon=colon, comma=comma))
    for odd in draw(
        st.lists(st.sampled_from(["nonsense", "{}", "[]", '{"n":1}', line(PLAIN, KEYS[::-1]), " ", "\t"]), max_size=2)
    ):
        found.insert(draw(st.integers(0, len(found))), odd)
    return "\n".join(found).encode() + draw(st.sampled_from([b"", b"\n", b"\r\n"]))


def read(data, fields, *, flat):
    decoder = JsonFormat(fields).decoder()
    decoder.few, decoder.flat = False, flat and decoder.flat
    found = decoder.read(data, 5)
    # as text, in which what is no number is the same as itself
    return repr(found.rows.to_pylist()), found.rejected.to_pylist(), decoder.positions.tolist(), found.rows.schema


@given(records())
@example(line(PLAIN).encode())
@example("\n".join([line(PLAIN)] * 3 + [line((*PLAIN[:5], '"x', "3"))] + [line(PLAIN)] * 3).encode())
@settings(max_examples=50, deadline=None)
def test_what_is_read_side_by_side_is_what_the_parser_reads(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_json, "RECORDS_MAX", 0)
        patch.setattr(flat_json, "_RECORDS_AT_A_TIME", 4)
        assert read(data, FIELDS, flat=True) == read(data, FIELDS, flat=False)


def test_records_that_are_alike_are_not_given_to_the_parser(monkeypatch):
    lines = [line(PLAIN) for _ in range(2_000)]
    lines[700] = "nonsense"
    lines[900] = line((*PLAIN[:5], '"a\\"b"', "3"))
    parsed = []
    real = JsonFormat.read

    def counted(self, records, **more):
        parsed.append(len(records))
        return real(self, records, **more)

    monkeypatch.setattr(JsonFormat, "read", counted)
    found = JsonFormat(FIELDS).decode("\n".join(lines).encode())
    assert parsed == [2]
    assert (found.rows.num_rows, found.rejected.num_rows) == (1_999, 1)
    assert np.flatnonzero(np.asarray(found.rows.column("s").to_numpy() == 'a"b')).tolist() == [899]


def test_a_column_that_must_not_be_null_and_one_of_another_type_are_left_to_the_parser():
    lines = "\n".join([line(PLAIN)] * 1_000).encode()
    for fields in ((Field("gone", "BIGINT", not_null=True),), (Field("s", "INTEGER"),), (Field("n", "VARCHAR"),)):
        assert read(lines, fields, flat=True) == read(lines, fields, flat=False)
