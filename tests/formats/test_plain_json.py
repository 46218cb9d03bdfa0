"""Rows that Arrow alone writes as JSON are written as DuckDB would."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsql.formats import json as json_format
from streamsql.formats.format import Field
from streamsql.formats.plain_json import plain_objects

FIELDS = (Field('a "b"', "BIGINT"), Field("c", "VARCHAR"), Field("d", "BOOLEAN"))
SCHEMA = pa.schema({"a": pa.int64(), "c": pa.string(), "d": pa.bool_()})
TEXTS = st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.text())
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | TEXTS, st.none() | st.booleans()
    ),
    min_size=1, max_size=20,
)  # fmt: skip


def _table(rows: list[tuple[int | None, str | None, bool | None]]) -> pa.Table:
    columns = [pa.array(values, kind.type) for values, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _by_duckdb(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with monkeypatch.context() as patched:
        patched.setattr(json_format, "plain_objects", lambda *_: None)
        written: list[str] = json_format.objects(table, FIELDS).to_pylist()
        return written


@given(ROWS)
def test_what_arrow_writes_is_what_duckdb_writes(rows: list[tuple[int | None, str | None, bool | None]]) -> None:
    table = _table([(a, None if c is None else c.replace("\0", ""), d) for a, c, d in rows])
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = _by_duckdb(table, monkeypatch)
    assert json_format.objects(table, FIELDS).to_pylist() == expected


def test_text_that_needs_escapes_and_other_types_are_left_to_duckdb() -> None:
    assert plain_objects(_table([(1, "plain, 'text' /", None)]), FIELDS) is not None
    for text in ('a "quote"', "a\\b", "a\nb", "\x7f", "é"):
        assert plain_objects(_table([(1, "x", True), (1, text, True)]), FIELDS) is None
    assert plain_objects(pa.table({"a": [1.5]}), (Field("a", "DOUBLE"),)) is None


def test_a_slice_of_a_table_is_written_from_where_it_begins() -> None:
    table = pa.concat_tables([_table([(1, "a", True), (2, "b", None)]), _table([(3, None, False)])]).slice(1)
    found = plain_objects(table, FIELDS)
    assert found is not None
    assert found.to_pylist() == ['{"a \\"b\\"":2,"c":"b","d":null}', '{"a \\"b\\"":3,"c":null,"d":false}']
