"""The options of Kafka's source and sink, and what librdkafka is told of them.

Certificates and keys are texts (PEM): ``ssl_ca = secret 'file:ca.pem'`` reads one from a file below ``--allow-path``. Of
librdkafka's own properties those can be given that read no files and load nothing: each is an option ``properties.NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamsql.base.errors import InvalidParameterValue, ObjectInUse, StreamSQLError, Unavailable
from streamsql.connectors.incoming import require
from streamsql.connectors.settings import Option, boolean, integer, one_of
from streamsql.connectors.source import Given

NAME = "kafka"
# an answer of the broker is waited for so long
ANSWER_SECONDS_MAX = 10.0
_KILOBYTES_MAX = 1 << 20  # of queues: 1 GiB
_MILLISECONDS_MAX = 86_400_000


def _addresses(text: str) -> str:
    for item in text.split(","):
        host, _, port = item.strip().rpartition(":")
        if host and not (port.isdecimal() and 0 < int(port) < 65_536):
            raise InvalidParameterValue(f'"{item.strip()}" has no port', hint="write brokers as 'host:9092,host:9092'")
        if not item.strip() or "/" in item:
            raise InvalidParameterValue(
                f'"{item.strip()}" is no address', hint="write brokers as 'host:9092,host:9092'"
            )
    return text


def topic_name(text: str) -> str:
    """Read the name of a topic, by Kafka's own rules."""
    if (
        not 0 < len(text) < 250
        or text in {".", ".."}
        or not all(c.isascii() and (c.isalnum() or c in "._-") for c in text)
    ):
        raise InvalidParameterValue(
            f'"{text}" is no name of a topic', hint="letters, digits, points, underlines, hyphens; one topic a stream"
        )
    return text


CONNECTION_OPTIONS: dict[str, Option] = {
    "brokers": Option(
        _addresses, None, ("bootstrap.servers", "properties.bootstrap.servers", "bootstrap_servers"), required=True,
        says="the brokers to ask first: `host:port,host:port`",
    ),
    "topic": Option(topic_name, None, required=True, says="the topic"),
    "security_protocol": Option(
        one_of("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"), None, ("security.protocol", "properties.security.protocol"),
        says="`plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`; without it what the other options need",
    ),
    "sasl_mechanism": Option(
        one_of("plain", "scram-sha-256", "scram-sha-512"), "plain", ("sasl.mechanism", "properties.sasl.mechanism"),
        says="`plain`, `scram-sha-256` or `scram-sha-512`",
    ),
    "sasl_username": Option(str, None, ("username",), says="who logs in"),
    "sasl_password": Option(str, None, ("password",), secret=True, says="the password of who logs in"),
    "ssl_ca": Option(
        str, None, says="the certificates (PEM) by which the broker's is checked; without it those of the system"
    ),
    "ssl_certificate": Option(str, None, says="the client's own certificate (PEM)"),
    "ssl_key": Option(str, None, secret=True, says="the key (PEM) of the client's own certificate"),
    "ssl_key_password": Option(str, None, secret=True, says="the password of that key"),
    "ssl_verify_host": Option(boolean, True, says="whether the broker's certificate must name its host"),
}  # fmt: skip


def _properties(known: Mapping[str, tuple[Callable[[str], Any], str]]) -> dict[str, Option]:
    return {f"properties.{name}": Option(read, None, says=says) for name, (read, says) in known.items()}


_KB = integer(1, _KILOBYTES_MAX)
_MS = integer(0, _MILLISECONDS_MAX)
_BYTES = integer(1, 1 << 30)
_BOTH: dict[str, tuple[Callable[[str], Any], str]] = {
    "client.id": (str, "the client's name in the broker's logs and quotas"),
    "socket.timeout.ms": (integer(10, 300_000), "how long an answer of a broker is waited for"),
    "socket.keepalive.enable": (boolean, "TCP keep-alive"),
    "reconnect.backoff.ms": (_MS, "the first pause before a lost connection is made again"),
    "reconnect.backoff.max.ms": (_MS, "the longest such pause"),
    "metadata.max.age.ms": (integer(1, _MILLISECONDS_MAX), "how long what is known of brokers and topics counts"),
    "broker.address.family": (one_of("any", "v4", "v6"), "`any`, `v4` or `v6`"),
    "message.max.bytes": (integer(1_000, 1_000_000_000), "the largest message"),
}
SOURCE_PROPERTIES = _properties({
    **_BOTH,
    "client.rack": (str, "where the client is, so that the nearest replica is read"),
    "fetch.min.bytes": (integer(1, 100_000_000), "how much a broker gathers before it answers"),
    "fetch.wait.max.ms": (integer(0, 300_000), "how long it gathers at most"),
    "fetch.max.bytes": (integer(1, 1 << 30), "the largest answer of a broker"),
    "max.partition.fetch.bytes": (_BYTES, "the same for one partition"),
    "fetch.error.backoff.ms": (integer(0, 300_000), "the pause after a partition could not be read"),
    "queued.min.messages": (integer(1, 10_000_000), "messages of a partition that are read ahead, if they fit"),
    "queued.max.messages.kbytes": (_KB, "KiB of messages that are read ahead in all; 65536"),
    "receive.message.max.bytes": (integer(1_000, 1 << 30), "the largest answer that is taken"),
    "check.crcs": (boolean, "whether checksums of messages are checked"),
})  # fmt: skip
SINK_PROPERTIES = _properties({
    **_BOTH,
    "linger.ms": (integer(0, 900_000), "how long messages are gathered before they are sent; 1"),
    "batch.size": (integer(1, 1 << 30), "bytes of a batch of messages"),
    "batch.num.messages": (integer(1, 1_000_000), "messages of a batch"),
    "compression.type": (one_of("none", "gzip", "snappy", "lz4", "zstd"), "`none`, `gzip`, `snappy`, `lz4` or `zstd`"),
    "compression.level": (integer(-1, 12), "how hard to compress"),
    "queue.buffering.max.kbytes": (_KB, "KiB of messages that wait to be sent"),
    "transaction.timeout.ms": (integer(1_000, 900_000), "after that the broker ends a transaction; 60000"),
    "message.timeout.ms": (integer(1_000, 900_000), "after that a message could not be sent; without transactions only"),
    "request.timeout.ms": (integer(1, 900_000), "how long the broker may take to store messages"),
    "partitioner": (
        one_of("murmur2_random", "consistent_random", "consistent", "murmur2", "random", "fnv1a", "fnv1a_random"),
        "how a key chooses its partition; `murmur2_random`, which is that of Kafka's own clients",
    ),
})  # fmt: skip


def check_connection(given: Given, options: Mapping[str, Any]) -> None:
    """Check the options of the connection against each other. Raises InvalidParameterValue with a position."""
    for one, other in (("sasl_username", "sasl_password"), ("ssl_certificate", "ssl_key")):
        first, second = (_is_given(given, name) for name in (one, other))
        if first is not None and second is None:
            raise InvalidParameterValue(f'the option "{one}" needs "{other}"', position=given.places.get(first))
        if second is not None and first is None:
            raise InvalidParameterValue(f'the option "{other}" needs "{one}"', position=given.places.get(second))
    protocol = options["security_protocol"]
    for prefix, needed in (("sasl_username", "sasl"), ("ssl_ca", "ssl"), ("ssl_certificate", "ssl")):
        written = _is_given(given, prefix)
        if written is not None and protocol is not None and needed not in protocol:
            raise InvalidParameterValue(
                f'the option "{written}" means nothing under the protocol {protocol}',
                position=given.places.get(written),
            )
    if protocol is not None and protocol.startswith("sasl") and _is_given(given, "sasl_username") is None:
        raise InvalidParameterValue(
            f'the protocol {protocol} needs the options "sasl_username" and "sasl_password"',
            position=given.places.get(_is_given(given, "security_protocol") or ""),
        )


def _is_given(given: Given, name: str) -> str | None:
    """Give the name by which an option was given."""
    return next((n for n in (name, *CONNECTION_OPTIONS[name].synonyms) if n in given.values), None)


def client_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give what librdkafka is told of the connection, and of its own properties."""
    protocol = options["security_protocol"]
    if protocol is None:
        secured = any(options[name] for name in ("ssl_ca", "ssl_certificate"))
        protocol = ("sasl_" if options["sasl_username"] else "") + ("ssl" if secured else "plaintext")
    config: dict[str, Any] = {
        "bootstrap.servers": options["brokers"],
        "security.protocol": protocol,
        "log_level": 0,  # what matters comes by `error_cb`
    }
    if protocol.startswith("sasl"):
        config |= {
            "sasl.mechanism": options["sasl_mechanism"].upper(),
            "sasl.username": options["sasl_username"],
            "sasl.password": options["sasl_password"],
        }
    if protocol.endswith("ssl"):
        pem = {"ssl.ca.pem": "ssl_ca", "ssl.certificate.pem": "ssl_certificate", "ssl.key.pem": "ssl_key",
               "ssl.key.password": "ssl_key_password"}  # fmt: skip
        config |= {name: options[option] for name, option in pem.items() if options[option]}
        config["ssl.endpoint.identification.algorithm"] = "https" if options["ssl_verify_host"] else "none"
    for name, value in options.items():
        if name.startswith("properties.") and value is not None:
            config[name.removeprefix("properties.")] = value
    return config


def require_client() -> None:
    """Raise FeatureNotSupported where confluent-kafka is not installed."""
    require("confluent_kafka", "confluent-kafka", "kafka")


def translated(error: Any, doing: str, told: str | None = None) -> StreamSQLError:
    """Make ours of a KafkaError: Unavailable for what may pass, another for what will not.

    `told` is what librdkafka has said of its connections, which is often the reason.
    """
    from confluent_kafka import KafkaError

    code, text = error.code(), f"Kafka: {doing}: {told or error.str()}"
    if code in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}:
        return InvalidParameterValue(text, hint="see sasl_username and sasl_password")
    if is_fenced(error):
        return taken_over(doing)
    if code in _lasting(KafkaError):
        return InvalidParameterValue(text)
    return Unavailable(text)


def is_fenced(error: Any) -> bool:
    """Tell whether a KafkaError says that the producer's epoch has been left behind."""
    from confluent_kafka import KafkaError

    return error.code() in {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


def taken_over(doing: str) -> StreamSQLError:
    return ObjectInUse(
        f"Kafka: {doing}: another producer has taken over",
        hint="two sinks deliver under one transactional id: stop one, or give it another transactional_id",
    )


def _lasting(codes: Any) -> frozenset[int]:
    """Give the codes of errors that trying again does not mend."""
    return frozenset({
        codes.TOPIC_AUTHORIZATION_FAILED, codes.GROUP_AUTHORIZATION_FAILED, codes.CLUSTER_AUTHORIZATION_FAILED,
        codes.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, codes.MSG_SIZE_TOO_LARGE, codes.RECORD_LIST_TOO_LARGE,
        codes.TOPIC_EXCEPTION, codes.UNSUPPORTED_SASL_MECHANISM, codes.INVALID_CONFIG, codes.POLICY_VIOLATION,
        codes._UNKNOWN_TOPIC, codes._INVALID_ARG, codes._UNSUPPORTED_FEATURE, codes.INVALID_TRANSACTION_TIMEOUT,
        codes.INVALID_REPLICATION_FACTOR, codes.INVALID_PARTITIONS,
    })  # fmt: skip
