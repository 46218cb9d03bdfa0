"""The schemas of Protocol Buffers: the text of a .proto file to a tree of messages.

Google's own compiler reads the text (`grpcio-tools` has it in it), in a folder that holds nothing but the text and those
that it imports; what becomes of it is a descriptor, of which this keeps what is needed to read the bytes.

    double, float, bool, string, bytes       DOUBLE, FLOAT, BOOLEAN, VARCHAR, BLOB
    int32, sint32, sfixed32; int64, ...      INTEGER; BIGINT; uint32, fixed32: UINTEGER; uint64, fixed64: UBIGINT
    an enum                                  VARCHAR; a number without a name as digits
    a message                                STRUCT; one that holds itself, or has no fields: BLOB, its bytes
    repeated, map                            a list, MAP
    google.protobuf.Timestamp, Duration      TIMESTAMP WITH TIME ZONE, INTERVAL; wrappers as what they wrap, or NULL

A field that has no presence has its default where it is not there; another one NULL.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.formats.binary import SchemaText

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

_MAIN = "streamsql_main.proto"
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_KINDS = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 8: "bool", 9: "string",
    10: "group", 11: "message", 12: "bytes", 13: "uint32", 14: "enum", 15: "sfixed32", 16: "sfixed64", 17: "sint32",
    18: "sint64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a message. `default` is what it has where it is not there; None: NULL."""

    number: int
    name: str
    kind: str
    repeated: bool = False
    default: Any = None
    message: Message | None = None
    symbols: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `special` is ``timestamp``, ``duration``, ``wrapper``, or ``map`` of an entry of one."""

    name: str
    members: tuple[Member, ...]
    special: str = ""


def message_of(schema: SchemaText, path: Sequence[int], name: str | None = None) -> Message:
    """Read a schema; give the message at `path` (indexes, from the top), or of a name. Raises StreamSQLError."""
    if schema.kind != "PROTOBUF":
        raise InvalidParameterValue(f"it is of type {schema.kind}, not PROTOBUF")
    file = _compiled(schema)
    found: Any = None
    if name is not None:
        found = _named(file, name)
    else:
        proto = _file_proto(file)
        own, known = proto.message_type, file.message_types_by_name
        for index in path:
            if index >= len(own):
                raise InvalidParameterValue(f"the schema has no message {list(path)}")
            found = known[own[index].name]
            own, known = own[index].nested_type, found.nested_types_by_name
    if found is None:
        raise InvalidParameterValue("the schema has no message")
    return _message(found, ())


def _file_proto(file: FileDescriptor) -> Any:
    """Give the file as a message, in which messages stand in their order."""
    from google.protobuf import descriptor_pb2

    found = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(found)
    return found


def _named(file: FileDescriptor, name: str) -> Descriptor:
    names: dict[str, Descriptor] = {}

    def add(found: Descriptor) -> None:
        names[found.full_name] = found
        names.setdefault(found.full_name.removeprefix(f"{file.package}.") if file.package else found.full_name, found)
        for inner in found.nested_types:
            add(inner)

    for top in file.message_types_by_name.values():
        add(top)
    if name not in names:
        raise InvalidParameterValue(
            f'the schema has no message "{name}"', hint=f"messages that there are: {', '.join(sorted(names))}"
        )
    return names[name]


def _compiled(schema: SchemaText) -> FileDescriptor:
    """Have the compiler read the text and what it imports."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool
        from grpc_tools import protoc  # it is run as a module
    except ImportError:
        raise FeatureNotSupported(
            "Protocol Buffers need the packages protobuf and grpcio-tools", hint="pip install 'streamsql[protobuf]'"
        ) from None
    included = str(Path(protoc.__file__).parent / "_proto")
    with tempfile.TemporaryDirectory(prefix="streamsql-proto-") as folder:
        for name, text in ((_MAIN, schema.text), *schema.references):
            _write(Path(folder), name, text)
        out = Path(folder) / "out.descriptors"
        said = _run([f"-I{folder}", f"-I{included}", "--include_imports", f"--descriptor_set_out={out}", _MAIN])
        if not out.exists():
            raise InvalidParameterValue(
                f"the Protocol Buffers schema is not valid: {said or 'the compiler refuses it'}"
            )
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:  # those first that others import
        pool.Add(file)
    found: FileDescriptor = pool.FindFileByName(_MAIN)
    return found


def _write(folder: Path, name: str, text: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InvalidParameterValue(f'a schema cannot import "{name}"')
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


def _run(arguments: list[str]) -> str:
    """Run the compiler, in a process of its own, since it writes where the log goes; give the first error that it tells."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # no shell, no word of the text
    told = [line for line in done.stderr.splitlines() if f"{_MAIN}:" in line and " parser.cc:" not in line]
    return re.sub(rf"^.*{re.escape(_MAIN)}:", "line ", told[0]) if told else ""


def _message(found: Descriptor, above: tuple[str, ...]) -> Message:
    special = ""
    if found.full_name == "google.protobuf.Timestamp":
        special = "timestamp"
    elif found.full_name == "google.protobuf.Duration":
        special = "duration"
    elif found.full_name in _WRAPPERS:
        special = "wrapper"
    elif found.GetOptions().map_entry:
        special = "map"
    inside = (*above, found.full_name)
    return Message(found.full_name, tuple(_member(field, inside) for field in found.fields), special)


def _member(field: FieldDescriptor, above: tuple[str, ...]) -> Member:
    kind = _KINDS[field.type]
    message = None
    if kind == "message":
        other = field.message_type
        if other.full_name in above or _holds_itself(other, ()) or not other.fields:
            kind = "bytes"
        else:
            message = _message(other, above)
    symbols = () if kind != "enum" else tuple((v.number, v.name) for v in field.enum_type.values)
    default = None
    absent = field.has_default_value or not field.has_presence or field.containing_type.GetOptions().map_entry
    if absent and not field.is_repeated and field.message_type is None:
        default = dict(symbols)[field.default_value] if kind == "enum" else field.default_value
    return Member(field.number, field.name, kind, field.is_repeated, default, message, symbols)


def _holds_itself(found: Descriptor, above: tuple[str, ...]) -> bool:
    if found.full_name in above:
        return True
    inside = (*above, found.full_name)
    return any(_holds_itself(f.message_type, inside) for f in found.fields if f.message_type is not None)
