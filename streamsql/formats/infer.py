"""The columns that a sample of bytes seems to have, for ``CREATE STREAM ... SCHEMA INFERRED``.

A column gets the narrowest of these types that all its values in the sample have: BOOLEAN, BIGINT, DECIMAL(38,0), DOUBLE, DATE,
TIMESTAMP, TIMESTAMP WITH TIME ZONE, UUID, else VARCHAR; objects and arrays are JSON. One that is null throughout is VARCHAR.
Only the sample is known: a person should look at the columns before they are kept.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import IO, Any

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from streamsql.base.errors import InvalidParameterValue
from streamsql.formats import casts
from streamsql.formats.casts import quote, text_literal
from streamsql.formats.columnar import UNREADABLE
from streamsql.formats.csv import CsvFormat
from streamsql.formats.format import Field
from streamsql.formats.json_values import cut_values
from streamsql.formats.records import lines_of, not_utf8

SAMPLE_BYTES_MAX = 4 << 20

_NUMBER = "[+-]?[0-9]+"
# of a column `v` of text, without its nulls: the first of these whose condition holds for all values
_TESTS = (
    ("BOOLEAN", "v IN ('true', 'false')"),
    ("BIGINT", f"regexp_full_match(v, '{_NUMBER}') AND TRY_CAST(v AS BIGINT) IS NOT NULL"),
    ("DECIMAL(38,0)", f"regexp_full_match(v, '{_NUMBER}') AND TRY_CAST(v AS DECIMAL(38,0)) IS NOT NULL"),
    ("DOUBLE", "regexp_full_match(v, '[+-]?[0-9.]+([eE][+-]?[0-9]+)?') AND TRY_CAST(v AS DOUBLE) IS NOT NULL"),
    ("DATE", "regexp_full_match(v, '[0-9]{4}-[0-9]{2}-[0-9]{2}') AND TRY_CAST(v AS DATE) IS NOT NULL"),
    ("TIMESTAMP", "regexp_full_match(v, '[0-9]{4}-.*[0-9]{2}:[0-9.]+') AND TRY_CAST(v AS TIMESTAMP) IS NOT NULL"),
    (
        "TIMESTAMP WITH TIME ZONE",
        "regexp_full_match(v, '[0-9]{4}-.*[0-9]{2}:[0-9]{2}.*') AND TRY_CAST(v AS TIMESTAMPTZ) IS NOT NULL",
    ),
    ("UUID", "regexp_full_match(lower(v), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')"),
)


def infer_json(sample: bytes) -> tuple[Field, ...]:
    """Tell the columns of JSON records: the keys at the top, in the order in which they come."""
    sample = sample[:SAMPLE_BYTES_MAX]
    records = cut_values(sample) if sample.lstrip()[:1] in {b"[", b""} else lines_of(sample)
    bad = not_utf8(records)
    if bad is not None:
        records = records.filter(~bad)
    if not len(records):
        raise InvalidParameterValue("there are no JSON records in the sample")
    given = {"__records": pa.table({"t": records.text()})}
    good = "SELECT t FROM __records WHERE CASE WHEN json_valid(t) THEN json_type(t) = 'OBJECT' ELSE FALSE END"
    found = casts.query(f"SELECT json_keys(t) AS keys FROM ({good})", given).column("keys")
    keys = list(dict.fromkeys(key for row in found.to_pylist() for key in row))
    if not keys:
        raise InvalidParameterValue("there are no JSON objects in the sample")
    structure = dict.fromkeys(_distinct(keys), "JSON")
    values = casts.query(f"SELECT unnest(from_json(t, {text_literal(json.dumps(structure))})) FROM ({good})", given)
    fields = []
    for index, key in enumerate(structure):
        column = pa.table({"j": values.column(index).cast(pa.string())})
        kinds = casts.query("SELECT DISTINCT json_type(j) AS k FROM __column WHERE j IS NOT NULL", {"__column": column})
        names = set(kinds.column("k").to_pylist()) - {"NULL"}
        if names & {"OBJECT", "ARRAY"}:
            fields.append(Field(key, "JSON"))
            continue
        texts = casts.query("SELECT json_extract_string(j, '$') AS v FROM __column", {"__column": column}).column("v")
        fields.append(Field(key, _type_of(texts)))
    return tuple(fields)


def infer_csv(sample: bytes, delimiter: str = ",", *, header: bool = True) -> tuple[Field, ...]:
    """Tell the columns of CSV: those that its header names, or without one column1, column2 and so on.

    Without a header there are as many as most of the records have; records of another number are left out.
    """
    sample = sample[:SAMPLE_BYTES_MAX]
    names = _names_of(sample, delimiter) if header else _numbered(sample, delimiter)
    read = CsvFormat(tuple(Field(n, "VARCHAR") for n in names), header=header, delimiter=delimiter)
    rows = read.decode(sample).rows
    return tuple(Field(n, _type_of(rows.column(i))) for i, n in enumerate(names))


def _names_of(sample: bytes, delimiter: str) -> list[str]:
    head = CsvFormat((Field("any", "VARCHAR"),), header=True, delimiter=delimiter).decoder()
    head.read(sample, 0)
    names = getattr(head, "columns", None) or []
    if not names or not all(names) or len(set(names)) < len(names):
        raise InvalidParameterValue("the sample has no header that names each column once")
    return list(names)


def _numbered(sample: bytes, delimiter: str) -> list[str]:
    """Name columns as PostgreSQL does those of VALUES."""
    text = io.StringIO(sample.decode(errors="replace"), newline="")
    try:
        lengths = Counter(len(record) for record in csv.reader(text, delimiter=delimiter) if record)
    except csv.Error as error:
        raise InvalidParameterValue(f"the sample is no CSV: {error}") from error
    if not lengths:
        raise InvalidParameterValue("there are no CSV records in the sample")
    return [f"column{number}" for number in range(1, lengths.most_common(1)[0][0] + 1)]


def infer_table(sample: bytes | IO[bytes]) -> tuple[Field, ...]:
    """Tell the columns of Parquet or Arrow IPC, which is said in them: in bytes, or in a file."""
    try:
        source: Any = pa.BufferReader(sample) if isinstance(sample, bytes) else pa.PythonFile(sample, mode="r")
        magic = source.read(6)
        source.seek(0)
        if magic.startswith(b"PAR1"):
            schema = parquet.read_schema(source)
        elif magic == b"ARROW1":
            schema = ipc.open_file(source).schema
        else:
            schema = ipc.open_stream(source).schema
        items = ", ".join(f"typeof({quote(name)})" for name in schema.names)
        sql = f"SELECT [{items}] AS t FROM __given RIGHT JOIN (SELECT 1) ON TRUE"
        types = casts.query(sql, {"__given": schema.empty_table()})
    except (*UNREADABLE, duckdb.Error) as error:
        raise InvalidParameterValue(f"the sample cannot be read: {str(error).partition(chr(10))[0]}") from error
    return tuple(Field(n, t) for n, t in zip(schema.names, types.column("t")[0].as_py(), strict=True))


def _distinct(keys: list[str]) -> list[str]:
    """Leave out keys that differ from one before in case only: a column cannot have both names."""
    found: dict[str, str] = {}
    for key in keys:
        found.setdefault(key.lower(), key)
    return list(found.values())


def _type_of(texts: pa.ChunkedArray) -> str:
    given = {"__column": pa.table({"v": texts.drop_null()})}
    if not given["__column"].num_rows:
        return "VARCHAR"
    tests = ", ".join(f"bool_and(coalesce({condition}, FALSE)) AS t{i}" for i, (_, condition) in enumerate(_TESTS))
    row = casts.query(f"SELECT {tests} FROM __column", given)
    holds = np.array([row.column(i)[0].as_py() for i in range(len(_TESTS))])
    return _TESTS[int(np.argmax(holds))][0] if holds.any() else "VARCHAR"
