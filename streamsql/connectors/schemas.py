"""Avro and Protocol Buffers for the messages of brokers: their options, where their schemas are, and their columns.

A schema comes from a registry by the id that stands in each message, or stands in the definition: ``schema = '...'``, or in a
file below ``--allow-path``: ``schema = secret 'file:trades.avsc'``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from streamsql.base.errors import InvalidParameterValue, StreamSQLError
from streamsql.connectors.registry import REGISTRY_OPTIONS, Registry, require_client
from streamsql.connectors.settings import Option, one_of
from streamsql.connectors.source import Given
from streamsql.formats.avro.format import AvroCodec, avro_type, infer_avro
from streamsql.formats.avro.writing import AvroWriter, check_names
from streamsql.formats.binary import BinaryDecoder, SchemaText
from streamsql.formats.format import Field
from streamsql.formats.protobuf.format import ProtobufCodec, infer_protobuf
from streamsql.formats.protobuf.schema import message_of
from streamsql.formats.protobuf.writing import ProtobufWriter, check_fields
from streamsql.formats.written import RecordWriter
from streamsql.sql.secrets import SecretReference

BINARY = ("avro", "protobuf")
_WRITTEN = {"registry", *REGISTRY_OPTIONS["registry"].synonyms}
_KINDS = {"avro": "AVRO", "protobuf": "PROTOBUF"}

BINARY_OPTIONS: dict[str, Option] = {
    "schema": Option(
        str, None,
        says="of `avro` and `protobuf`: the schema of all messages, where no registry has it: the text, or "
        "`secret 'file:PATH'`",
    ),
    "message": Option(
        str, None,
        says="of `protobuf`: the name of the message; by default what the framing says, or the first of the schema",
    ),
    "framing": Option(
        one_of("confluent", "none"), None,
        says="`confluent`: before each record the byte 0 and the id of its schema, in four bytes (and of `protobuf` which "
        "message it is); `none`: the record alone. By default `confluent` where there is a registry",
    ),
}  # fmt: skip


def check_binary(given: Given, options: Mapping[str, Any]) -> None:
    """Check the options of Avro and Protocol Buffers, and the schema if it stands there. Raises with a position."""
    name, place = options["format"], given.places.get("format")
    has_schema = "schema" in given.values
    written = _WRITTEN & given.values.keys()
    if not has_schema and not written:
        raise InvalidParameterValue(
            f"{name} needs a schema", hint="registry = 'http://host:8081', or schema = '...'", position=place
        )
    if has_schema and written:
        raise InvalidParameterValue(
            "the schema is said twice: by a registry, and in the definition", position=given.places.get("schema")
        )
    _check_address(given)
    if written and options["framing"] == "none" and options["registry_subject"] is None and not options.get("topic"):
        raise InvalidParameterValue(
            "messages without the id of a schema need the option registry_subject", position=given.places.get("framing")
        )
    if options["schema"] is not None:  # it stands there, and not in a file
        try:
            _checked(SchemaText(options["schema"], _KINDS[name]), options)
        except StreamSQLError as error:
            error.position = given.places.get("schema")
            raise


def check_registry(given: Given, options: Mapping[str, Any]) -> None:
    """Check the options of a sink's registry. Raises InvalidParameterValue with a position."""
    formats = {name: options.get(name) for name in ("format", "key_format")}
    place = next(
        (given.places[name] for name, kind in formats.items() if kind in BINARY and name in given.places), None
    )
    binary = next((kind for kind in formats.values() if kind in BINARY), None)
    for name, option in (*REGISTRY_OPTIONS.items(), ("registry_key_subject", REGISTRY_OPTIONS["registry_subject"])):
        for written in {name, *option.synonyms} & given.values.keys():
            if binary is None:
                raise InvalidParameterValue(
                    f'the option "{written}" is for avro and protobuf, not for {formats["format"]}',
                    position=given.places.get(written),
                )
    if binary is not None and not _WRITTEN & given.values.keys():
        raise InvalidParameterValue(
            f"{binary} needs a registry, which keeps the schema", hint="registry = 'http://host:8081'", position=place
        )
    _check_address(given)


def check_key_registry(given: Given) -> None:
    """Check that there is a registry for keys that are Avro. Raises InvalidParameterValue with a position."""
    if not _WRITTEN & given.values.keys():
        raise InvalidParameterValue(
            "keys that are avro need a registry", hint="registry = 'http://host:8081'",
            position=given.places.get("key_format"),
        )  # fmt: skip
    _check_address(given)


def check_records(given: Given, option: str, kind: str, fields: Sequence[Field]) -> None:
    """Check whether rows with these columns can be records of `kind`, which the option names. Raises with a position."""
    try:
        (check_names if kind == "avro" else check_fields)(fields)
    except StreamSQLError as error:
        error.position = given.places.get(option, given.places.get("connector"))
        raise


class Records:
    """Writes rows as records of Avro or Protocol Buffers, each with the id that its schema has in the registry before it."""

    def __init__(self, options: Mapping[str, Any], kind: str, fields: Sequence[Field], subject: str) -> None:
        """Have the registry take the schema. Raises Unavailable, ExternalError."""
        name = record_name(subject)
        self._writer: RecordWriter = AvroWriter(fields, name) if kind == "avro" else ProtobufWriter(fields, name)
        registry = Registry(options)
        try:
            number = registry.register(subject, SchemaText(self._writer.schema, _KINDS[kind]))
        finally:
            registry.close()
        # of Protocol Buffers which message it is: none stands for the first
        self._header = b"\0" + number.to_bytes(4, "big") + (b"\0" if kind == "protobuf" else b"")

    def write(self, rows: pa.Table) -> pa.Array:
        """Give the message of each row; `rows` has a column a field, by position."""
        header, nothing = (pa.scalar(b, pa.large_binary()) for b in (self._header, b""))
        return pc.binary_join_element_wise(header, self._writer.write(rows), nothing)


def _check_address(given: Given) -> None:
    written = _WRITTEN & given.values.keys()
    if not written:
        for option in ("registry_subject", "registry_username", "registry_password", "registry_ca"):
            if option in given.values:
                raise InvalidParameterValue(
                    f'the option "{option}" needs the option "registry"', position=given.places.get(option)
                )
    for option in written:
        require_client()
        address = given.values[option]
        if not isinstance(address, SecretReference) and urlsplit(address).password is not None:
            raise InvalidParameterValue(
                f'invalid value for option "{option}": a secret does not stand in a definition',
                hint="use the options registry_username and registry_password", position=given.places.get(option),
            )  # fmt: skip


def record_name(subject: str) -> str:
    """Name the record of a subject."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", subject.removesuffix("-value").removesuffix("-key"))
    return name if not name[:1].isdigit() else f"_{name}"


def _checked(schema: SchemaText, options: Mapping[str, Any]) -> SchemaText:
    if schema.kind == "AVRO":
        avro_type(schema)
    else:
        message_of(schema, (0,), options["message"])
    return schema


def binary_decoder(options: Mapping[str, Any], fields: tuple[Field, ...]) -> BinaryDecoder:
    """Make the decoder of a stream's messages; asks the registry for no more than it must. Raises StreamSQLError."""
    registry = Registry(options) if options["registry"] else None
    framed = (options["framing"] or ("confluent" if registry else "none")) == "confluent"
    schemas = registry.schema if registry and framed else None
    schema = None if schemas else _schema(options, registry)
    if options["format"] == "avro":
        return AvroCodec(fields, options["times"], schemas, schema).decoder(framed=framed)
    return ProtobufCodec(fields, options["times"], schemas, schema, options["message"]).decoder(framed=framed)


def key_decoder(
    options: Mapping[str, Any], fields: tuple[Field, ...], *, whole: str = "", alone: str = ""
) -> BinaryDecoder:
    """Make the decoder of keys that are Avro, in the registry's framing (`AvroCodec` tells the rest)."""
    return AvroCodec(fields, options["times"], Registry(options).schema, None, whole=whole, alone=alone).decoder(
        framed=True
    )


def subject_of(options: Mapping[str, Any]) -> str | None:
    """Name the registry's subject: as the option says, or after the topic."""
    topic = options.get("topic")
    return options["registry_subject"] or (f"{topic}-value" if topic else None)


def _schema(options: Mapping[str, Any], registry: Registry | None) -> SchemaText:
    """Give the one schema that a stream names."""
    if registry is None:
        return _checked(SchemaText(options["schema"], _KINDS[options["format"]]), options)
    subject = subject_of(options)
    assert subject is not None
    return registry.latest(subject)


def infer_binary(given: Given, options: Mapping[str, Any]) -> tuple[Field, ...]:
    """Tell the columns by the schema: the latest of the subject, or the one in the definition. Raises StreamSQLError."""
    check_binary(given, {**options, "schema": None})
    registry = Registry(options) if options["registry"] else None
    if registry is not None and subject_of(options) is None:
        raise InvalidParameterValue(
            "columns are inferred from the registry's schema of a subject", hint="name it: subject = '...'",
            position=given.places.get("registry"),
        )  # fmt: skip
    try:
        schema = _schema(options, registry)
    finally:
        if registry is not None:
            registry.close()
    return infer_avro(schema) if options["format"] == "avro" else infer_protobuf(schema, options["message"])
