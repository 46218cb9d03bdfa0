"""Kafka: changes to the messages of a topic, each once for readers that read what is committed.

A delivery is one transaction of the producer. The number of its last epoch is committed in it as an offset, of a consumer
group with the transactional id's name, for partition 0 of the topic: what Kafka's own streams do with what they have read.
`delivered` reads it back, after `init_transactions` has ended what an earlier producer of this sink has left open and shut
that one out. So a delivery that was cut off anywhere is there whole, with its number, or not at all.

**A transaction that the broker has ended.** A broker aborts what has been open for ``transaction.timeout.ms``, and shuts its
producer out: a machine slept, a process was stopped. Another producer with the same transactional id shuts this one out in
just the same way, and librdkafka tells of both as ``_FENCED``. So the sink asks its clock. A transaction that is younger than
its timeout can only have been ended by another producer: the sink stops and says so. Of an older one it reads the note, without
shutting anyone out: if that is neither what it has noted last nor this delivery, another producer has delivered, and it stops.
Else it goes on as after a restart, with a new producer: it takes this delivery as done where the note says so, and delivers it
again where not; after `_ENDED_MAX` times in a row it stops. So two live sinks with one id do not fight for ever: whichever is
shut out within the timeout stops.

The note names the sink (the offset's metadata). A note of another sink, which had the same transactional id before, says
nothing of this one's epochs: a new sink begins with its first row.

Kafka forgets offsets of a group that nobody uses, by default after seven days (``offsets.retention.minutes``): a server that
was killed between a delivery's commit and its own, and is started later than that, delivers this one again.

Without transactions (``transactions = false``) messages are idempotent, which keeps repeats of the connection out, not
those of a server that was killed: then each message of an append-only view has a header `streamsql-row` to tell repeats by.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import structlog

from streamsql.base.clock import Stopwatch
from streamsql.base.errors import ObjectInUse, StreamSQLError, Unavailable
from streamsql.base.faults import reached
from streamsql.connectors.kafka.options import (
    ANSWER_SECONDS_MAX,
    client_config,
    is_fenced,
    require_client,
    taken_over,
    translated,
)
from streamsql.connectors.payloads import Payloads, PayloadWriter
from streamsql.connectors.sink import Delivery
from streamsql.connectors.source import Surroundings

if TYPE_CHECKING:
    from confluent_kafka import Producer

log = structlog.get_logger()

# messages that are handed to librdkafka at a time
_CHUNK = 10_000
_COMMIT_SECONDS_MAX = 30.0
# how often in a row a delivery's transaction may outlive its timeout, and the timeout where none is given
_ENDED_MAX = 3
_TIMEOUT_MS = 60_000
ROW_HEADER = "streamsql-row"


class _Ended(Exception):  # noqa: N818  # no error: the delivery is made again
    """The broker has ended the transaction after its timeout."""


class KafkaSink:
    """An open topic to deliver to."""

    def __init__(self, options: Mapping[str, Any], writer: PayloadWriter, surroundings: Surroundings) -> None:
        require_client()
        self._options = options
        self._topic: str = options["topic"]
        self._writer = writer
        self._name = surroundings.name
        self._transactional: bool = options["transactions"]
        self._id = options["transactional_id"] or f"streamsql-{surroundings.identity}"
        self._failed: Any = None  # the last error of a message, or of the connection where it lasts
        self._told: str | None = None
        self._identity = surroundings.identity
        self._timeout_seconds = (options["properties.transaction.timeout.ms"] or _TIMEOUT_MS) / 1_000
        self._group: Any = None
        self._noted = 0  # the last epoch that the topic is known to hold
        self._config = client_config(options)
        if options["create_topic"]:
            self._create_topic()
        self._producer = self._connected()

    def _connected(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        config = {
            # all of a delivery is there at once, and somebody waits for it
            "linger.ms": 1,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            # a broker refuses the first request of a transaction until it has ended the one before, a few milliseconds long
            "retry.backoff.ms": 2,
            **self._config,
            "enable.idempotence": True,
            "acks": "all",
            "error_cb": self._note_error,
            "on_delivery": self._note_message,
            "delivery.report.only.error": True,
        }
        if self._transactional:
            config["transactional.id"] = self._id
        try:
            producer = Producer(config)
        except KafkaException as error:
            raise translated(error.args[0], "the options were refused") from error
        try:
            found = producer.list_topics(self._topic, ANSWER_SECONDS_MAX).topics[self._topic]
            if found.error is not None:
                raise translated(found.error, f'topic "{self._topic}"')
            if self._transactional:
                producer.init_transactions(_COMMIT_SECONDS_MAX)
        except KafkaException as error:
            doing = f"no answer from {self._options['brokers']}"
            raise self._lasting() or translated(error.args[0], doing, self._told) from error
        return producer

    def _create_topic(self) -> None:
        """Make the topic, if there is none: compacted where messages are rows by key."""
        from confluent_kafka import KafkaError, KafkaException
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        settings = {"cleanup.policy": "compact"} if self._options["topic_compact"] else {}
        config: dict[str, Any] = {**_without_producer(self._config), "error_cb": self._note_error}
        admin = AdminClient(config)
        wanted = NewTopic(
            self._topic, self._options["topic_partitions"], self._options["topic_replication"], config=settings
        )
        try:
            admin.create_topics([wanted], request_timeout=ANSWER_SECONDS_MAX)[self._topic].result(
                2 * ANSWER_SECONDS_MAX
            )
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._detailed(translated(error.args[0], f'making topic "{self._topic}"')) from error
        except TimeoutError as error:
            raise self._detailed(Unavailable(f"Kafka: no answer from {self._options['brokers']}")) from error

    def _note_error(self, error: Any) -> None:
        from confluent_kafka import KafkaError

        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._told is not None:
            return  # why was told before
        self._told = error.str()
        if error.fatal() or not isinstance(translated(error, ""), Unavailable):
            self._failed = self._failed or error

    def _note_message(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed = self._failed or error

    def _lasting(self) -> StreamSQLError | None:
        if self._failed is None:
            return None
        found = translated(self._failed, f'topic "{self._topic}"')
        return None if isinstance(found, Unavailable) else found

    def _detailed(self, error: StreamSQLError) -> StreamSQLError:
        error.detail = error.detail or self._told
        return error

    # ---- the protocol ----

    def delivered(self) -> int | None:
        if not self._transactional:
            return None
        epoch, by_another = self._note()
        self._noted = 0 if by_another else epoch
        return self._noted

    def _note(self) -> tuple[int, bool]:
        """Ask for the last epoch that the topic holds, and whether it is another sink's."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        consumer = Consumer({
            **_without_producer(self._config), "group.id": self._id, "enable.auto.commit": False,
            "isolation.level": "read_committed", "error_cb": self._note_error,
        })  # fmt: skip
        try:
            # what a transaction needs of it: the group's name, of which nobody is a member
            self._group = consumer.consumer_group_metadata()
            found = consumer.committed([TopicPartition(self._topic, 0)], ANSWER_SECONDS_MAX)[0]
        except KafkaException as error:
            raise self._detailed(translated(error.args[0], "asking for the last epoch")) from error
        finally:
            consumer.close()
        if found.error is not None:
            raise translated(found.error, "asking for the last epoch")
        return max(found.offset, 0), bool(found.metadata) and found.metadata != self._identity

    def deliver(self, delivery: Delivery) -> None:
        from confluent_kafka import KafkaException

        self._failed = None
        made = self._writer.write(delivery)
        if self._transactional:
            self._deliver_once(made, delivery.last_epoch)
            return
        try:
            self._send(made, delivery.row_keys())
            self._flush()
        except KafkaException as error:
            raise self._aborted(error) from error

    def _deliver_once(self, made: Payloads, epoch: int) -> None:
        """Deliver in a transaction; in another one if the broker ended it after its timeout."""
        for _ in range(_ENDED_MAX):
            try:
                self._transact(made, epoch)
            except _Ended:
                log.warning("transaction outlived its timeout", sink=self._name, epoch=epoch)
                if not self._taken_back(epoch):
                    continue
            self._noted = epoch
            return
        raise ObjectInUse(
            f'Kafka: topic "{self._topic}": the broker ended {_ENDED_MAX} transactions in a row after their timeout',
            hint="give deliveries more time: properties.transaction.timeout.ms; or another sink has the transactional id",
        )

    def _transact(self, made: Payloads, epoch: int) -> None:
        """Send messages and the number of their epoch, as one. Raises _Ended; or Unavailable, StreamSQLError."""
        from confluent_kafka import KafkaException, TopicPartition

        if self._group is None:
            self.delivered()
        producer, since = self._producer, Stopwatch()
        try:
            producer.begin_transaction()
            self._send(made, None)
            note = TopicPartition(self._topic, 0, epoch, self._identity)
            producer.send_offsets_to_transaction([note], self._group, _COMMIT_SECONDS_MAX)
            reached("kafka.before_commit")
            producer.commit_transaction(_COMMIT_SECONDS_MAX)
        except KafkaException as error:
            found = self._aborted(error)
            if isinstance(found, ObjectInUse) and since.seconds() >= self._timeout_seconds:
                raise _Ended from error
            raise found from error

    def _taken_back(self, epoch: int) -> bool:
        """Deliver with a new producer from now on; tell whether the topic holds the epoch already.

        Raises ObjectInUse where another producer has delivered meanwhile.
        """
        held, by_another = self._note()
        if by_another or held not in {self._noted, epoch}:
            raise taken_over(f'topic "{self._topic}"')
        self.close()
        self._failed = None
        self._producer = self._connected()
        return self.delivered() == epoch

    def _send(self, made: Payloads, row_keys: pa.Array | None) -> None:
        """Hand messages to librdkafka, as fast as it takes them."""
        producer, topic = self._producer, self._topic
        for start in range(0, len(made.values), _CHUNK):
            values = made.values.slice(start, _CHUNK).to_pylist()
            keys: list[bytes | None] = [None] * len(values)
            if made.keys is not None:
                keys = made.keys.slice(start, _CHUNK).to_pylist()
            if row_keys is not None:
                names = row_keys.take(pa.array(made.rows[start : start + _CHUNK])).to_pylist()
                for value, key, name in zip(values, keys, names, strict=True):
                    self._send_one(value, key, [(ROW_HEADER, name.encode())])
                continue
            messages = [{"value": v, "key": k} for v, k in zip(values, keys, strict=True)]
            if producer.produce_batch(topic, messages) < len(messages):
                self._send_again([m for m in messages if "_error" in m])
            producer.poll(0)

    def _send_again(self, messages: list[dict[str, Any]]) -> None:
        """Send one by one what the queue had no room for, in order, and wait for room."""
        for message in messages:
            self._send_one(message["value"], message["key"], None)

    def _send_one(self, value: bytes | None, key: bytes | None, headers: Any) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=headers)
            except BufferError:
                self._producer.poll(0.1)
                if self._failed is not None:
                    raise translated(self._failed, f'topic "{self._topic}"') from None
                continue
            return

    def _flush(self) -> None:
        """Wait until the broker has all messages."""
        left = self._producer.flush(_COMMIT_SECONDS_MAX)
        if self._failed is not None:
            raise self._detailed(translated(self._failed, f'topic "{self._topic}"'))
        if left:
            raise self._detailed(Unavailable(f"Kafka: {left} messages have not been taken"))

    def _aborted(self, error: Any) -> StreamSQLError:
        """End the transaction that went wrong, if it can be; what to do next depends on what went wrong.

        ObjectInUse says that the producer has been shut out. Sending to one that has been is refused without a reason, which
        it then gives when it is told to abort.
        """
        from confluent_kafka import KafkaException

        causes = [error.args[0]]
        try:
            self._producer.abort_transaction(ANSWER_SECONDS_MAX)
        except KafkaException as failed:
            causes.append(failed.args[0])
        if any(is_fenced(cause) for cause in causes):
            return taken_over(f'topic "{self._topic}"')
        found = translated(causes[0], f'topic "{self._topic}"')
        if isinstance(found, Unavailable):
            found = self._lasting() or found
        return self._detailed(found)

    def close(self) -> None:
        from confluent_kafka import KafkaException

        with contextlib.suppress(KafkaException):
            self._producer.purge()
            self._producer.flush(0)


def _without_producer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the properties that any client takes."""
    only = {"linger.ms", "batch.size", "batch.num.messages", "compression.type", "compression.level", "partitioner",
            "queue.buffering.max.kbytes", "transaction.timeout.ms", "message.timeout.ms", "request.timeout.ms"}  # fmt: skip
    return {name: value for name, value in config.items() if name not in only}
