"""Avro: what is read is what fastavro reads, what is written fastavro reads, and a record that is wrong costs only itself."""

import datetime
import decimal
import io
import json
import uuid

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.formats.avro.format import AvroCodec, infer_avro
from streamsql.formats.avro.schema import parse
from streamsql.formats.avro.writing import AvroWriter
from streamsql.formats.binary import SchemaText
from streamsql.formats.format import Field
from streamsql.formats.records import Records

UTC = datetime.UTC


def packed(payloads):
    lengths = np.array([len(p) for p in payloads], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    return Records(b"\n".join(payloads), starts, starts + lengths)


def written(schema, values):
    parsed = fastavro.parse_schema(schema)
    found = []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, value)
        found.append(out.getvalue())
    return found


def decode(schema, fields, payloads, times="auto"):
    text = SchemaText(json.dumps(schema))
    return AvroCodec(tuple(fields), times, None, text).decoder(framed=False).read_records(packed(payloads), 0)


def record(*fields):
    return {"type": "record", "name": "R", "namespace": "n.s", "fields": [{"name": n, "type": t} for n, t in fields]}


def logical(kind, name, **more):
    return {"type": kind, "logicalType": name, **more}


# ---- random schemas and values, against fastavro ----

LEAVES = {
    "boolean": ("boolean", st.booleans()),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "float": ("float", st.floats(width=32, allow_nan=False)),
    "double": ("double", st.floats(allow_nan=False)),
    "string": ("string", st.text(max_size=20)),
    "bytes": ("bytes", st.binary(max_size=20)),
    "date": (logical("int", "date"), st.dates(datetime.date(1, 1, 1))),
    "time": (logical("long", "time-micros"), st.times()),
    "millis": (
        logical("long", "timestamp-millis"),
        st.datetimes(datetime.datetime(1900, 1, 1)).map(
            lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000, tzinfo=UTC)
        ),
    ),
    "micros": (
        logical("long", "timestamp-micros"),
        st.datetimes(datetime.datetime(1900, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),
    ),
    "local": (logical("long", "local-timestamp-micros"), st.datetimes(datetime.datetime(1900, 1, 1))),
    "decimal": (
        logical("bytes", "decimal", precision=38, scale=4),
        st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: decimal.Context(prec=50).scaleb(decimal.Decimal(n), -4)),
    ),
    "uuid": (logical("string", "uuid"), st.uuids()),
}


@st.composite
def types(draw, depth=2):
    kind = draw(st.sampled_from([*LEAVES, *(["record", "array", "map", "optional", "enum", "fixed"] if depth else [])]))
    if kind in LEAVES:
        return LEAVES[kind]
    name = f"T{draw(st.uuids()).hex}"
    if kind == "enum":
        return {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")
    if kind == "fixed":
        return {"type": "fixed", "name": name, "size": 3}, st.binary(min_size=3, max_size=3)
    inner, values = draw(types(depth - 1))
    if kind == "array":
        return {"type": "array", "items": inner}, st.lists(values, max_size=4)
    if kind == "map":
        return {"type": "map", "values": inner}, st.dictionaries(st.text(max_size=5), values, max_size=4)
    if kind == "optional":
        if isinstance(inner, list):
            return inner, values
        return ["null", inner], st.none() | values
    other, others = draw(types(depth - 1))
    shape = {"type": "record", "name": name, "fields": [{"name": "a", "type": inner}, {"name": "b", "type": other}]}
    return shape, st.fixed_dictionaries({"a": values, "b": others})


def plain(value):
    """Make of Arrow's values those of fastavro."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return {k: plain(v) for k, v in value}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, uuid.UUID) else value


def emptied(value):
    """An empty map and an empty list look the same in Arrow."""
    if isinstance(value, dict):
        return {k: emptied(v) for k, v in value.items()} or []
    if isinstance(value, list):
        return [emptied(v) for v in value]
    return str(value) if isinstance(value, uuid.UUID) else value


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_is_read_is_what_fastavro_reads(data):
    shape, values = data.draw(types())
    schema = record(("v", shape), ("w", "int"))
    rows = [{"v": v, "w": 7} for v in data.draw(st.lists(values, min_size=1, max_size=6))]
    payloads = written(schema, rows)
    from streamsql.formats.avro.reading import read
    from streamsql.formats.varints import Block, Cursor

    records = packed(payloads)
    cursor = Cursor.of(Block(records.data), records.starts, records.stops)
    found = read(parse(json.dumps(schema)), cursor)
    assert not cursor.wrong.any(), cursor.reasons
    assert (cursor.places == records.stops).all()
    parsed = fastavro.parse_schema(schema)
    wanted = [fastavro.schemaless_reader(io.BytesIO(p), parsed) for p in payloads]
    assert plain(found.to_pylist()) == emptied(wanted) or emptied(plain(found.to_pylist())) == emptied(wanted)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.data())
def test_garbage_is_set_aside_and_costs_no_other_record(garbage, data):
    shape, values = data.draw(types())
    schema = record(("id", "long"), ("v", shape))
    good = written(schema, [{"id": i, "v": data.draw(values)} for i in range(3)])
    mixed = [*garbage, good[0], *garbage, good[1], good[2]]
    found = decode(schema, [Field("id", "BIGINT")], mixed)
    places = {len(garbage): 0, 2 * len(garbage) + 1: 1, 2 * len(garbage) + 2: 2}
    starts = packed(mixed).starts
    assert found.rows.num_rows + found.rejected.num_rows == len(mixed)
    aside = set(np.searchsorted(starts, found.rejected.column("position").to_numpy()).tolist())
    assert not aside & places.keys()
    kept = [i for i in range(len(mixed)) if i not in aside]
    for index, number in places.items():
        assert found.rows.column("id")[kept.index(index)].as_py() == number


# ---- columns ----


def test_fields_go_to_columns_by_name_and_what_is_missing_is_null():
    schema = record(
        ("a", "int"), ("skipped", {"type": "map", "values": {"type": "array", "items": "string"}}), ("b", "string")
    )
    payloads = written(schema, [{"a": 1, "skipped": {"k": ["x", "y"], "l": []}, "b": "one"}])
    fields = [Field("b", "VARCHAR"), Field("gone", "DOUBLE"), Field("a", "BIGINT")]
    assert decode(schema, fields, payloads).rows.to_pylist() == [{"b": "one", "gone": None, "a": 1}]


def test_values_become_what_the_columns_are():
    schema = record(
        ("at", "long"), ("n", "string"), ("d", "double"), ("m", {"type": "map", "values": "int"}),
        ("u", ["null", "string", "long"]), ("r", record(("x", "int"))["fields"] and {**record(("x", "int")), "name": "In"}),
        ("price", logical("bytes", "decimal", precision=9, scale=2)),
    )  # fmt: skip
    rows = [
        {
            "at": 1_700_000_000_123,
            "n": "42",
            "d": 3.0,
            "m": {"k": 5},
            "u": 9,
            "r": {"x": 1},
            "price": decimal.Decimal("1.25"),
        },
        {"at": 1_700_000_000, "n": "7", "d": -1.0, "m": {}, "u": "8", "r": {"x": 2}, "price": decimal.Decimal("-3.50")},
        {"at": 0, "n": "1", "d": 0.0, "m": {"j": 1}, "u": None, "r": {"x": 3}, "price": decimal.Decimal(0)},
    ]
    fields = [
        Field("at", "TIMESTAMP"), Field("n", "INTEGER"), Field("d", "INTEGER"), Field("k", "INTEGER", path=("m", "k")),
        Field("u", "BIGINT"), Field("x", "INTEGER", path=("r", "x")), Field("price", "DECIMAL(6,2)"), Field("m", "JSON"),
    ]  # fmt: skip
    found = decode(schema, fields, written(schema, rows))
    assert not found.rejected.num_rows, found.rejected.to_pylist()
    at = datetime.datetime(2023, 11, 14, 22, 13, 20)
    assert [tuple(row.values()) for row in found.rows.to_pylist()] == [
        (at.replace(microsecond=123000), 42, 3, 5, 9, 1, decimal.Decimal("1.25"), '{"k":5}'),
        (at, 7, -1, None, 8, 2, decimal.Decimal("-3.50"), "{}"),
        (datetime.datetime(1970, 1, 1), 1, 0, None, None, 3, decimal.Decimal("0.00"), '{"j":1}'),
    ]


@pytest.mark.parametrize(
    ("column", "kind", "value", "reason"),
    [
        ("INTEGER", "long", 2**40, 'column "v": invalid input for type int4: "1099511627776"'),
        ("INTEGER", "double", 1.5, 'column "v": invalid input for type int4: "1.5"'),
        ("BIGINT", "string", "x", 'column "v": invalid input for type int8: "x"'),
        ("VARCHAR", "string", "a\0b", 'column "v": \\u0000 cannot be converted to text'),
        ("INTEGER", {"type": "array", "items": "int"}, [1], 'column "v": invalid input for type int4: "[1]"'),
    ],
)
def test_a_value_that_fits_no_column_rejects_its_record(column, kind, value, reason):
    schema = record(("v", ["null", kind]))
    found = decode(schema, [Field("v", column)], written(schema, [{"v": value}, {"v": None}]))
    assert found.rows.to_pylist() == [{"v": None}]
    assert found.rejected.column("reason").to_pylist() == [reason]


def test_null_where_a_column_allows_none_rejects_its_record():
    schema = record(("v", ["null", "int"]))
    found = decode(schema, [Field("v", "INTEGER", not_null=True)], written(schema, [{"v": 1}, {"v": None}]))
    assert found.rows.to_pylist() == [{"v": 1}]
    assert found.rejected.column("reason").to_pylist() == ['null value in column "v" violates not-null constraint']


# ---- many schemas in one stream ----


def test_each_message_is_read_by_the_schema_of_its_id_which_is_asked_for_once():
    old, new = record(("a", "int")), record(("b", "string"), ("a", "long"))
    texts = {1: old, 2: new}
    asked = []

    def schemas(number):
        asked.append(number)
        if number not in texts:
            raise InvalidParameterValue("the registry has no such schema")
        return SchemaText(json.dumps(texts[number]))

    def message(number, value):
        (body,) = written(texts[number], [value])
        return b"\0" + number.to_bytes(4, "big") + body

    payloads = [message(1, {"a": 1}), message(2, {"b": "x", "a": 2}), b"\0\0\0\0\7zz", message(1, {"a": 3}), b"{}", b""]
    decoder = AvroCodec((Field("a", "BIGINT"), Field("b", "VARCHAR")), "auto", schemas, None).decoder(framed=True)
    for _ in range(2):
        found = decoder.read_records(packed(payloads), 100)
        assert found.rows.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}, {"a": 3, "b": None}]
        starts = packed(payloads).starts
        assert decoder.positions.tolist() == [100 + int(starts[i]) for i in (0, 1, 3)]
        assert found.rejected.column("reason").to_pylist() == [
            "schema 7: the registry has no such schema",
            *["no schema id: the message does not begin with the byte 0 and four more, as Confluent's framing has it"]
            * 2,
        ]
    assert sorted(asked) == [1, 2, 7]


# ---- schemas ----


def test_columns_are_told_by_a_schema():
    schema = record(
        ("id", "long"), ("at", logical("long", "timestamp-millis")), ("seen", logical("long", "local-timestamp-micros")),
        ("day", logical("int", "date")), ("price", ["null", logical("bytes", "decimal", precision=10, scale=2)]),
        ("who", logical("string", "uuid")), ("tags", {"type": "array", "items": "string"}),
        ("attributes", {"type": "map", "values": "double"}), ("either", ["null", "string", "long"]),
        ("side", {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}), ("raw", "bytes"),
    )  # fmt: skip
    assert {f.name: f.type for f in infer_avro(SchemaText(json.dumps(schema)))} == {
        "id": "BIGINT", "at": "TIMESTAMP WITH TIME ZONE", "seen": "TIMESTAMP", "day": "DATE", "price": "DECIMAL(10,2)",
        "who": "UUID", "tags": "VARCHAR[]", "attributes": "MAP(VARCHAR, DOUBLE)",
        "either": 'STRUCT("string" VARCHAR, "long" BIGINT)', "side": "VARCHAR", "raw": "BLOB",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("{", InvalidParameterValue, "the Avro schema is not JSON"),
        ('"long"', InvalidParameterValue, "must be a record, not long"),
        (
            '{"type":"record","name":"R","fields":[{"name":"a","type":"Gone"}]}',
            InvalidParameterValue,
            'not define "Gone"',
        ),
        (
            '{"type":"record","name":"R","fields":[{"name":"a","type":["null","R"]}]}',
            FeatureNotSupported,
            "holds itself",
        ),
        (
            '{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}',
            FeatureNotSupported,
            "take no bytes",
        ),
        ('{"type":"record","name":"R","fields":[]}', FeatureNotSupported, "no fields"),
        ('{"type":"record","name":"7","fields":[]}', InvalidParameterValue, "no name of a record"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(text, error, said):
    with pytest.raises(error, match=said):
        infer_avro(SchemaText(text))


# ---- writing ----


def test_what_is_written_fastavro_reads():
    fields = [
        Field("i", "INTEGER"), Field("l", "BIGINT"), Field("b", "BOOLEAN"), Field("f", "FLOAT"), Field("d", "DOUBLE"),
        Field("s", "VARCHAR"), Field("x", "BLOB"), Field("day", "DATE"), Field("at", "TIMESTAMP"),
        Field("zoned", "TIMESTAMP WITH TIME ZONE"), Field("p", "DECIMAL(12,3)"), Field("tags", "VARCHAR[]"),
        Field("j", "JSON"), Field("u", "UBIGINT"), Field("t", "TIME"),
    ]  # fmt: skip
    at = datetime.datetime(2015, 7, 15, 1, 2, 3, 456)
    rows = [
        {
            "i": -5, "l": 2**62, "b": True, "f": 1.5, "d": -2.25, "s": "Zürich", "x": b"\0\xff", "day": at.date(), "at": at,
            "zoned": at.replace(tzinfo=UTC), "p": decimal.Decimal("-12345.678"), "tags": ["a", None, ""], "j": '{"k":1}',
            "u": 2**64 - 1, "t": datetime.time(1, 2, 3, 4),
        },
        dict.fromkeys([f.name for f in fields]),
        {
            "i": 2**31 - 1, "l": -(2**63), "b": False, "f": 0.0, "d": 1e300, "s": "", "x": b"", "day": datetime.date(1, 1, 1),
            "at": datetime.datetime(1900, 1, 1), "zoned": datetime.datetime(1960, 1, 1, tzinfo=UTC), "p": decimal.Decimal(0),
            "tags": [], "j": "null", "u": 0, "t": datetime.time(),
        },
    ]  # fmt: skip
    schema = pa.schema([
        ("i", pa.int32()), ("l", pa.int64()), ("b", pa.bool_()), ("f", pa.float32()), ("d", pa.float64()), ("s", pa.string()),
        ("x", pa.binary()), ("day", pa.date32()), ("at", pa.timestamp("us")), ("zoned", pa.timestamp("us", "UTC")),
        ("p", pa.decimal128(12, 3)), ("tags", pa.list_(pa.string())), ("j", pa.string()), ("u", pa.uint64()),
        ("t", pa.time64("us")),
    ])  # fmt: skip
    writer = AvroWriter(fields, "row")
    parsed = fastavro.parse_schema(json.loads(writer.schema))
    for table in (pa.Table.from_pylist(rows, schema), pa.Table.from_pylist(rows, schema).slice(1)):
        found = [fastavro.schemaless_reader(io.BytesIO(r), parsed) for r in writer.write(table).to_pylist()]
        wanted = table.to_pylist()
        for row in wanted:
            row["u"] = None if row["u"] is None else str(row["u"])
        assert found == wanted
        again = AvroCodec(tuple(fields), "auto", None, SchemaText(writer.schema)).decoder(framed=False)
        back = again.read_records(packed(writer.write(table).to_pylist()), 0)
        assert not back.rejected.num_rows
        assert back.rows.to_pylist() == table.to_pylist()
