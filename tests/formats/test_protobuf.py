"""Protocol Buffers: what is read is what Google's library wrote, and a message that is wrong costs only itself."""

import datetime
import decimal
import json
from datetime import UTC

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsql.base.errors import InvalidParameterValue
from streamsql.formats.binary import SchemaText
from streamsql.formats.format import Field
from streamsql.formats.protobuf.format import ProtobufCodec, infer_protobuf
from streamsql.formats.protobuf.writing import ProtobufWriter, check_fields
from streamsql.formats.records import Records

TEXT = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
message Order {
  int64 id = 1;
  string name = 2;
  double price = 3;
  optional int32 qty = 4;
  repeated sint64 deltas = 5;
  repeated string tags = 6;
  map<string, int32> counts = 7;
  enum Side { BUY = 0; SELL = 1; }
  Side side = 8;
  google.protobuf.Timestamp at = 9;
  message Part { uint32 number = 1; bytes raw = 2; }
  Part part = 10;
  repeated Part parts = 11;
  google.protobuf.Int64Value maybe = 12;
  google.protobuf.Duration took = 13;
  bool good = 14;
  fixed64 wide = 15;
  sfixed32 narrow = 16;
  float ratio = 17;
  uint64 huge = 18;
  oneof either { string text = 19; int32 number = 20; }
  Order inner = 21;
  repeated int32 loose = 22 [packed = false];
}
message Other { int32 id = 1; message Nested { int64 id = 5; } }
"""


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Google's own classes, as its compiler and library make them."""
    made = compiled(tmp_path_factory.mktemp("proto"), TEXT)
    return {name: made(f"shop.{name}") for name in ("Order", "Order.Part", "Other", "Other.Nested")}


def compiled(folder, text):
    (folder / "shop.proto").write_text(text)
    included = str(protoc.__file__).rpartition("/")[0] + "/_proto"
    out = folder / "out"
    protoc.main(["x", f"-I{folder}", f"-I{included}", "--include_imports", f"--descriptor_set_out={out}", "shop.proto"])
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


FIELDS = (
    Field("id", "BIGINT"), Field("name", "VARCHAR"), Field("price", "DOUBLE"), Field("qty", "INTEGER"),
    Field("deltas", "BIGINT[]"), Field("tags", "VARCHAR[]"), Field("counts", "MAP(VARCHAR, INTEGER)"),
    Field("side", "VARCHAR"), Field("at", "TIMESTAMP WITH TIME ZONE"), Field("part", "JSON"),
    Field("parts", 'STRUCT(number UINTEGER, raw BLOB)[]'), Field("maybe", "BIGINT"), Field("took", "INTERVAL"),
    Field("good", "BOOLEAN"), Field("wide", "UBIGINT"), Field("narrow", "INTEGER"), Field("ratio", "FLOAT"),
    Field("huge", "UBIGINT"), Field("text", "VARCHAR"), Field("number", "INTEGER"), Field("inner", "BLOB"),
    Field("loose", "INTEGER[]"), Field("part_number", "BIGINT", path=("part", "number")),
)  # fmt: skip


def packed(payloads):
    lengths = np.array([len(p) for p in payloads], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    return Records(b"\n".join(payloads), starts, starts + lengths)


def decoder(fields=FIELDS, message=None, schemas=None, framed=False):
    schema = None if schemas else SchemaText(TEXT, "PROTOBUF")
    return ProtobufCodec(tuple(fields), "auto", schemas, schema, message).decoder(framed=framed)


@pytest.fixture(scope="module")
def plain_decoder():
    return decoder()


@st.composite
def orders(draw, classes):
    made = classes["Order"]()
    numbers = {"id": 64, "narrow": 32}
    for name, bits in numbers.items():
        setattr(made, name, draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)))
    made.name = draw(st.text(max_size=8))
    made.price = draw(st.floats(allow_nan=False))
    if draw(st.booleans()):
        made.qty = draw(st.integers(-(2**31), 2**31 - 1))
    made.deltas.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)))
    made.tags.extend(draw(st.lists(st.text(max_size=4), max_size=3)))
    for key, value in draw(st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3)).items():
        made.counts[key] = value
    made.side = draw(st.integers(0, 3))
    if draw(st.booleans()):
        made.at.FromDatetime(draw(st.datetimes(datetime.datetime(1900, 1, 1))))
    if draw(st.booleans()):
        made.part.number = draw(st.integers(0, 2**32 - 1))
    for raw in draw(st.lists(st.binary(max_size=3), max_size=3)):
        made.parts.add(number=len(raw), raw=raw)
    if draw(st.booleans()):
        made.maybe.value = draw(st.integers(-5, 5))
    if draw(st.booleans()):
        made.took.FromTimedelta(datetime.timedelta(microseconds=draw(st.integers(-(10**12), 10**12))))
    made.good, made.wide, made.huge = (
        draw(st.booleans()),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 2**64 - 1)),
    )
    made.ratio = draw(st.floats(width=32, allow_nan=False))
    if draw(st.booleans()):
        made.text = draw(st.text(max_size=3))
    elif draw(st.booleans()):
        made.number = draw(st.integers(-9, 9))
    if draw(st.booleans()):
        made.inner.id = 5
    made.loose.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
    return made


def row_of(order):
    """What the row of an order is, by Google's library."""
    present = {name: order.HasField(name) for name in ("qty", "at", "part", "maybe", "took", "text", "number", "inner")}
    sides = {0: "BUY", 1: "SELL"}
    at = order.at.ToDatetime(datetime.UTC) if present["at"] else None
    took = order.took.ToMicroseconds() if present["took"] else None
    part = {"number": order.part.number, "raw": ""} if present["part"] else None
    return {
        "id": order.id, "name": order.name, "price": order.price, "qty": order.qty if present["qty"] else None,
        "deltas": list(order.deltas), "tags": list(order.tags), "counts": dict(order.counts),
        "side": sides.get(order.side, str(order.side)), "at": at, "part": part,
        "parts": [{"number": p.number, "raw": p.raw} for p in order.parts],
        "maybe": order.maybe.value if present["maybe"] else None, "took": took, "good": order.good, "wide": order.wide,
        "narrow": order.narrow, "ratio": order.ratio, "huge": order.huge, "text": order.text if present["text"] else None,
        "number": order.number if present["number"] else None,
        "inner": order.inner.SerializeToString() if present["inner"] else None, "loose": list(order.loose),
        "part_number": order.part.number if present["part"] else None,
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_read_is_what_google_wrote(data, classes, plain_decoder):
    made = data.draw(st.lists(orders(classes), min_size=1, max_size=6))
    made = [order for order in made if "\0" not in order.name + order.text]
    found = plain_decoder.read_records(packed([m.SerializeToString() for m in made]), 0)
    assert not found.rejected.num_rows, found.rejected.to_pylist()
    rows = found.rows.to_pylist()
    for row in rows:
        row["counts"] = dict(row["counts"])
        row["part"] = None if row["part"] is None else json.loads(row["part"])
        row["took"] = (
            None if row["took"] is None else row["took"].nanoseconds // 1000 + row["took"].days * 86_400_000_000
        )
    assert rows == [row_of(order) for order in made]


@settings(max_examples=25, deadline=None)
@given(garbage=st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_what_google_refuses_is_set_aside_and_costs_no_other_message(garbage, classes, plain_decoder):
    good = classes["Order"](id=7, name="good", tags=["a", "b"]).SerializeToString()
    payloads = [good, *garbage, good]
    found = plain_decoder.read_records(packed(payloads), 0)
    assert found.rows.num_rows + found.rejected.num_rows == len(payloads)
    records = packed(payloads)
    read = set(np.searchsorted(records.starts, plain_decoder.positions).tolist())
    assert {0, len(payloads) - 1} <= read
    for index, payload in enumerate(payloads):
        try:
            classes["Order"].FromString(payload)
        except Exception:  # noqa: BLE001  # the library has several kinds
            assert index not in read, payload


def test_messages_are_told_apart_by_their_indexes(classes):
    texts = {1: SchemaText(TEXT, "PROTOBUF")}
    reading = decoder((Field("id", "BIGINT"),), schemas=texts.__getitem__, framed=True)
    head = b"\0\0\0\0\1"
    payloads = [
        head + b"\0" + classes["Order"](id=1).SerializeToString(),
        head + b"\2\2" + classes["Other"](id=2).SerializeToString(),
        head + b"\4\2\0" + classes["Other.Nested"](id=3).SerializeToString(),
        head + b"\2\0" + classes["Order"](id=4).SerializeToString(),
        head + b"\0",
    ]
    found = reading.read_records(packed(payloads), 0)
    assert found.rows.column("id").to_pylist() == [1, 2, 3, 4, 0]
    bad = [head + b"\2\x10x", head + b"\1", head]
    found = reading.read_records(packed(bad), 0)
    assert found.rejected.column("reason").to_pylist() == [
        "schema 1: the schema has no message [8]",
        "no indexes of a message",
        "the record ends too early",
    ]


def test_columns_are_told_by_a_schema():
    schema = SchemaText(TEXT, "PROTOBUF")
    assert {f.name: f.type for f in infer_protobuf(schema, "Order")} == {
        f.name: "STRUCT(number UINTEGER, raw BLOB)" if f.name == "part" else f.type for f in FIELDS[:-1]
    }
    assert [(f.name, f.type) for f in infer_protobuf(schema, "shop.Other.Nested")] == [("id", "BIGINT")]


def test_a_schema_imports_what_it_refers_to():
    other = 'syntax = "proto3"; message Money { int64 cents = 1; }'
    text = 'syntax = "proto3"; import "money/money.proto"; message Bill { Money total = 1; }'
    schema = SchemaText(text, "PROTOBUF", (("money/money.proto", other),))
    assert [(f.name, f.type) for f in infer_protobuf(schema, None)] == [("total", "STRUCT(cents BIGINT)")]


@pytest.mark.parametrize(
    ("text", "message", "said"),
    [
        ("message {", None, "the Protocol Buffers schema is not valid: line 1"),
        ('syntax = "proto3"; import "gone.proto";', None, "not valid"),
        ('syntax = "proto3"; message A { int32 x = 1; }', "B", 'no message "B"'),
        ('syntax = "proto3"; enum A { X = 0; }', None, "no message"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(text, message, said):
    with pytest.raises(InvalidParameterValue, match=said):
        infer_protobuf(SchemaText(text, "PROTOBUF"), message)


# ---- writing ----


def test_what_is_written_google_reads(tmp_path):
    fields = [
        Field("i", "INTEGER"), Field("l", "BIGINT"), Field("b", "BOOLEAN"), Field("f", "FLOAT"), Field("d", "DOUBLE"),
        Field("s", "VARCHAR"), Field("x", "BLOB"), Field("day", "DATE"), Field("at", "TIMESTAMP"),
        Field("zoned", "TIMESTAMP WITH TIME ZONE"), Field("p", "DECIMAL(12,3)"), Field("tags", "VARCHAR[]"),
        Field("j", "JSON"), Field("u", "UBIGINT"), Field("t", "SMALLINT"), Field("v", "UINTEGER"), Field("last_one", "VARCHAR"),
    ]  # fmt: skip
    at = datetime.datetime(2015, 7, 15, 1, 2, 3, 456)
    rows = [
        {
            "i": -5, "l": 2**62, "b": True, "f": 1.5, "d": -2.25, "s": "Zürich", "x": b"\0\xff", "day": at.date(), "at": at,
            "zoned": at.replace(tzinfo=UTC), "p": decimal.Decimal("-12345.678"), "tags": ["a", None, ""], "j": '{"k":1}',
            "u": 2**64 - 1, "t": -3, "v": 2**32 - 1, "last_one": "z" * 300,
        },
        dict.fromkeys([f.name for f in fields]),
        {
            "i": 2**31 - 1, "l": -(2**63), "b": False, "f": 0.0, "d": 1e300, "s": "", "x": b"", "day": datetime.date(1, 1, 1),
            "at": datetime.datetime(1900, 1, 1, 0, 0, 0, 1), "zoned": datetime.datetime(1960, 1, 1, tzinfo=UTC),
            "p": decimal.Decimal(0), "tags": [], "j": "null", "u": 0, "t": 0, "v": 0, "last_one": "",
        },
    ]  # fmt: skip
    schema = pa.schema([
        ("i", pa.int32()), ("l", pa.int64()), ("b", pa.bool_()), ("f", pa.float32()), ("d", pa.float64()), ("s", pa.string()),
        ("x", pa.binary()), ("day", pa.date32()), ("at", pa.timestamp("us")), ("zoned", pa.timestamp("us", "UTC")),
        ("p", pa.decimal128(12, 3)), ("tags", pa.list_(pa.string())), ("j", pa.string()), ("u", pa.uint64()),
        ("t", pa.int16()), ("v", pa.uint32()), ("last_one", pa.string()),
    ])  # fmt: skip
    writer = ProtobufWriter(fields, "Row")
    made = compiled(tmp_path, writer.schema)("streamsql.Row")
    others = {"DATE", "DECIMAL(12,3)", "VARCHAR[]", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}
    plain = [f.name for f in fields if f.type not in others]
    for table in (pa.Table.from_pylist(rows, schema), pa.Table.from_pylist(rows, schema).slice(1)):
        written = writer.write(table).to_pylist()
        for record, row in zip(written, table.to_pylist(), strict=True):
            found = made.FromString(record)
            assert found.SerializeToString(deterministic=True) == record
            assert {n for n, v in row.items() if v is not None} == {f.name for f in fields if found.HasField(f.name)}
            assert all(row[n] is None or getattr(found, n) == row[n] for n in plain)
            if row["at"] is not None:
                assert found.at.ToDatetime() == row["at"]
        again = ProtobufCodec(tuple(fields), "auto", None, SchemaText(writer.schema, "PROTOBUF"), None)
        back = again.decoder(framed=False).read_records(packed(written), 0)
        assert not back.rejected.num_rows
        assert back.rows.to_pylist() == table.to_pylist()
    for name in ("a b", "ümlaut"):
        with pytest.raises(InvalidParameterValue, match="cannot be the name of a field"):
            check_fields([Field(name, "INTEGER")])
    with pytest.raises(InvalidParameterValue, match="not valid"):  # both are called aB in JSON
        check_fields([Field("a_b", "INTEGER"), Field("aB", "INTEGER")])
