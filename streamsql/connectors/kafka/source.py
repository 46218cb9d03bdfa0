"""Kafka: a topic's messages as rows, partition by partition.

A position is the offset of the next message of a partition. It is kept by the engine, in the epoch of the rows before it; the
consumer group is told of it only if ``group`` names one, for people who watch lag, and never asked.

A thread takes messages from librdkafka, which fetches in threads of its own; the reader's thread turns into rows whatever has
come since it last asked. So it is a few messages where it keeps up, and more at a time the further it is behind. What is read
ahead stays within ``properties.queued.max.messages.kbytes``, `BYTES_MAX` and a few batches.

Brokers that are down, restarted or moved are librdkafka's matter: it connects again by itself, and rows go on. What the
broker no longer has (retention was faster than the stream) stops the stream, with the offsets that are missing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from streamsql.base.errors import DataCorrupted, StreamSQLError, Unavailable, UndefinedObject
from streamsql.connectors.kafka.chunks import Chunk, Read, by_partition, parts
from streamsql.connectors.kafka.options import ANSWER_SECONDS_MAX, client_config, require_client, translated
from streamsql.connectors.messages import MessageDecoder
from streamsql.connectors.source import Batch, Surroundings
from streamsql.engine.positions import Position, Positions

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

log = structlog.get_logger()

# Messages that wait to be turned into rows, and about how many bytes: more at a time gain nothing.
MESSAGES_MAX = 65_536
BYTES_MAX = 16 << 20
# Messages that are taken from librdkafka at a time: while they are few they stay in the processor's cache, at half the cost.
CHUNK = 500
LOOK_UP_SECONDS = 0.2
# While the reader is busy with what came before, so long what comes is gathered: to be woken for each few costs more than they.
GATHER_SECONDS = 0.005
# Rows that are a write of their own, since the reader keeps up; where it does not, it goes on until it has many.
FEW = 4_000
_ASK_AGAIN_US = 1_000_000


class KafkaSource:
    """An open topic. `startup` says where partitions without a position begin, where none has one."""

    def __init__(
        self, options: Mapping[str, Any], decoder: MessageDecoder, positions: Positions, surroundings: Surroundings
    ) -> None:
        require_client()
        self._options = options
        self._topic: str = options["topic"]
        self._decoder = decoder
        self._surroundings = surroundings
        self._told: str | None = None  # the last error that librdkafka has told of by itself
        self._next: dict[int, int] = {}
        self._chunks: list[Chunk] = []
        self._waiting: deque[Read] = deque()
        self._room = threading.Condition()
        self._given = 0  # rows of the messages that were taken last
        self._to_tell: dict[str, Position] = {}
        self._failure: StreamSQLError | None = None
        self._closing = False
        self._consumer = self._connected()
        try:
            self._assign(positions)
        except BaseException:
            self._consumer.close()
            raise
        self._thread = threading.Thread(target=self._guarded, name=f"kafka fetch {surroundings.name}", daemon=True)
        self._thread.start()

    # ---- opening ----

    def _connected(self) -> Consumer:
        from confluent_kafka import Consumer, KafkaException

        config = {
            "queued.max.messages.kbytes": 65_536,
            # what is full is looked at again at once: by default librdkafka lets it run empty for the rest of a second
            "fetch.queue.backoff.ms": 10,
            **client_config(self._options),
            "group.id": self._options["group"] or f"streamsql-{self._surroundings.name}",
            "isolation.level": self._options["isolation"],
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            # partitions are assigned, not subscribed to: a reader that waits long must not lose them
            "max.poll.interval.ms": 86_400_000,
            "error_cb": self._note_error,
        }
        try:
            return Consumer(config)
        except KafkaException as error:
            raise translated(error.args[0], "the options were refused") from error

    def _note_error(self, error: Any) -> None:
        """Be told by librdkafka of what goes wrong beside messages; what lasts ends the stream."""
        from confluent_kafka import KafkaError

        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._told is not None:
            return  # why was told before
        if self._told != error.str():
            log.warning("kafka", stream=self._surroundings.name, topic=self._topic, error=error.str())
        self._told = error.str()
        lasting = translated(error, "the connection failed")
        if error.fatal() or not isinstance(lasting, Unavailable):
            self._failure = self._failure or lasting

    def _partitions(self, seconds: float = ANSWER_SECONDS_MAX) -> list[int]:
        from confluent_kafka import KafkaError, KafkaException

        try:
            found = self._consumer.list_topics(self._topic, timeout=seconds).topics[self._topic]
        except KafkaException as error:
            self._consumer.poll(0)  # so that errors of the connection are told
            if self._failure is not None:
                raise self._failure from error
            raise translated(error.args[0], f"no answer from {self._options['brokers']}", self._told) from error
        if found.error is not None:
            if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise UndefinedObject(f'Kafka: there is no topic "{self._topic}"')
            raise translated(found.error, f'topic "{self._topic}"')
        return sorted(found.partitions)

    def _assign(self, positions: Positions) -> None:
        """Begin where each partition is to begin; those that the stream does not know yet are new, but for the first time."""
        from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

        partitions = self._partitions()
        gone = sorted(set(map(int, positions)) - set(partitions))
        if gone:
            raise DataCorrupted(
                f'Kafka: topic "{self._topic}" has no partition {gone[0]} any more', hint="was the topic made anew?"
            )
        begin = {number: int(positions[str(number)]) for number in partitions if str(number) in positions}
        if not positions:
            try:
                begin = self._startup(partitions)
            except KafkaException as error:
                raise translated(error.args[0], f'where topic "{self._topic}" begins') from error
            nothing = Chunk.of([], self._decoder.wanted)
            for number, offset in begin.items():
                # at once durable, so that after a restart the same messages come
                self._waiting.append(Read.of_nothing(nothing.decoded(self._decoder), number, offset))
        self.begins: Positions = {str(number): offset for number, offset in begin.items()}
        self._next = {number: begin.get(number, OFFSET_BEGINNING) for number in partitions}
        self._consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in self._next.items()])

    def _startup(self, partitions: Sequence[int]) -> dict[int, int]:
        """Ask where the partitions of a stream begin that has read nothing."""
        from confluent_kafka import TopicPartition

        startup, consumer = self._options["startup"], self._consumer
        if startup == "positions":
            given: dict[int, int] = self._options["startup_positions"]
            unknown = sorted(set(given) - set(partitions))
            if unknown:
                raise UndefinedObject(f'Kafka: topic "{self._topic}" has no partition {unknown[0]}')
        starts, ends = {}, {}
        for number in partitions:
            found = consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=ANSWER_SECONDS_MAX)
            if found is None:
                raise Unavailable(f"Kafka: no answer from {self._options['brokers']}")
            starts[number], ends[number] = found
        if startup == "positions":
            return {number: given.get(number, starts[number]) for number in partitions}
        if startup == "earliest":
            return starts
        if startup == "latest":
            return ends
        since = self._options["startup_timestamp"] // 1_000
        asked = [TopicPartition(self._topic, number, since) for number in partitions]
        answers = consumer.offsets_for_times(asked, timeout=ANSWER_SECONDS_MAX)
        for answer in answers:
            if answer.error is not None:
                raise translated(answer.error, "offsets of a time")
        return {a.partition: a.offset if a.offset >= 0 else ends[a.partition] for a in answers}

    # ---- the thread that takes messages ----

    def _guarded(self) -> None:
        from confluent_kafka import KafkaException

        try:
            self._fetch()
        except StreamSQLError as error:
            self._failure = self._failure or error
        except KafkaException as error:
            self._failure = self._failure or translated(error.args[0], f'reading topic "{self._topic}"')
        except Exception as error:  # raised again by `read`, in the reader's own thread
            log.error("kafka source failed", stream=self._surroundings.name, error=repr(error), exc_info=True)
            self._failure = StreamSQLError(f"an internal error: {error!r}")
        self._surroundings.wake()

    def _fetch(self) -> None:
        """Take messages: the first that comes, and what has come with it, so that nothing waits for more.

        This thread alone uses the consumer, which lets in one at a time.
        """
        from confluent_kafka import Message

        consumer, wanted = self._consumer, self._decoder.wanted
        every = self._options["discovery"] / 1e6
        ask_at = time.monotonic() + every
        while not self._closing:
            if time.monotonic() >= ask_at:
                self._discover()
                ask_at = time.monotonic() + every
            self._tell_group()
            messages = consumer.consume(1, LOOK_UP_SECONDS)
            if self._failure is not None:
                return
            if not messages:
                continue
            messages += consumer.consume(CHUNK - 1, GATHER_SECONDS if self._chunks else 0)
            if any(map(Message.error, messages)):
                messages = self._without_errors(messages)
            if messages:
                self._hand_on(Chunk.of(messages, wanted))

    def _hand_on(self, chunk: Chunk) -> None:
        """Give messages to the reader once it has room for them."""
        with self._room:
            while not self._closing and (
                sum(map(len, self._chunks)) + len(chunk) > MESSAGES_MAX
                or (self._chunks and sum(c.byte_count for c in self._chunks) + chunk.byte_count > BYTES_MAX)
            ):
                self._room.wait(LOOK_UP_SECONDS)
            is_first = not self._chunks
            self._chunks.append(chunk)
        if is_first:  # it takes all that are there
            self._surroundings.wake()

    def _tell_group(self) -> None:
        """Tell the group that ``group`` names what is committed, for those who watch it."""
        from confluent_kafka import KafkaException, TopicPartition

        if self._to_tell:
            with self._room:
                positions, self._to_tell = self._to_tell, {}
            offsets = [TopicPartition(self._topic, int(number), int(at)) for number, at in positions.items()]
            with contextlib.suppress(KafkaException):  # nothing depends on it; the next one tells more
                self._consumer.commit(offsets=offsets, asynchronous=True)

    def _discover(self) -> None:
        """Read partitions that have been added from their beginning."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        try:
            added = [number for number in self._partitions() if number not in self._next]
        except Unavailable:
            return  # asked again later; what is known is read on meanwhile
        if added:
            log.info("kafka partitions added", stream=self._surroundings.name, partitions=added)
            self._next.update(dict.fromkeys(added, OFFSET_BEGINNING))
            self._consumer.incremental_assign([TopicPartition(self._topic, n, OFFSET_BEGINNING) for n in added])

    def _without_errors(self, messages: list[Message]) -> list[Message]:
        """Take errors out that stand among messages; raise the first that ends the stream."""
        from confluent_kafka import KafkaError

        for message in messages:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._reset(message)
            elif error.code() in {
                KafkaError.UNKNOWN_TOPIC_OR_PART,
                KafkaError._UNKNOWN_PARTITION,
                KafkaError._UNKNOWN_TOPIC,
            }:
                raise UndefinedObject(f'Kafka: topic "{self._topic}" is gone')
            elif not error.retriable():
                raise translated(error, f'reading topic "{self._topic}"')
        return [m for m in messages if m.error() is None]

    def _reset(self, message: Message) -> None:
        """Say which messages the broker no longer has, or go on without them if ``auto_reset`` wants it."""
        from confluent_kafka import TopicPartition

        number = message.partition()
        assert number is not None
        found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=ANSWER_SECONDS_MAX)
        if found is None:
            raise Unavailable(f"Kafka: no answer from {self._options['brokers']}")
        (low, high), wanted = found, message.offset()
        if wanted is None or wanted < 0:
            wanted = self._next[number]
        what = f'offsets {wanted} to {low - 1} of partition {number} of topic "{self._topic}" are gone'
        if wanted > high:
            what = f'partition {number} of topic "{self._topic}" ends at offset {high}, before the next one to read, {wanted}'
        rule = self._options["auto_reset"]
        if rule == "stop":
            raise DataCorrupted(
                f"Kafka: {what}",
                hint="drop the stream and create it again, or auto_reset = 'earliest' to go on with what is left",
            )
        to = low if rule == "earliest" else high
        log.error("kafka messages lost", stream=self._surroundings.name, what=what, goes_on_from=to)
        self._next[number] = to
        self._consumer.incremental_unassign([TopicPartition(self._topic, number)])
        self._consumer.incremental_assign([TopicPartition(self._topic, number, to)])

    # ---- the reader's thread ----

    def read(self, rows_max: int, now_us: int) -> Batch | None:
        if not self._waiting:
            given, self._given = self._given, 0
            if 0 < given < FEW:  # what has come since is the next write's: its rows cost less together
                return None
            with self._room:
                chunks, self._chunks = self._chunks, []
                self._room.notify()
            if chunks:
                self._waiting.extend(self._rows(Chunk.joined(by_partition(chunks))))
            elif self._failure is not None:
                raise self._failure
            else:
                return None
        first, rest = self._waiting.popleft().cut(rows_max)
        if rest is not None:
            self._waiting.appendleft(rest)
        self._given += first.batch.rows.num_rows
        return first.batch

    def _rows(self, chunk: Chunk) -> list[Read]:
        made = parts(chunk, chunk.decoded(self._decoder))
        for read in made:
            self._next[int(read.batch.partition)] = int(read.batch.position)
        return made

    def due_us(self, now_us: int) -> int | None:
        return now_us if self._chunks or self._failure is not None else now_us + _ASK_AGAIN_US

    def committed(self, positions: Positions) -> None:
        if self._options["group"]:
            with self._room:
                self._to_tell.update(positions)

    def close(self) -> None:
        self._closing = True
        with self._room:
            self._room.notify_all()
        self._thread.join()
        self._consumer.close()
