"""Kafka: a topic's messages as rows, partition by partition.

A position is the offset of the next message of a partition. It is kept by the engine, in the epoch of the rows before it; the
consumer group is told of it only if ``group`` names one, for people who watch lag, and never asked.

Two threads work ahead of the reader: one takes messages from librdkafka, which fetches in threads of its own, the next turns
them into rows. Each waits where the one after it is behind, so that what is read ahead stays within
``properties.queued.max.messages.kbytes`` and a few batches.

Brokers that are down, restarted or moved are librdkafka's matter: it connects again by itself, and rows go on. What the
broker no longer has (retention was faster than the stream) stops the stream, with the offsets that are missing.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from streamsql.base.errors import DataCorrupted, StreamSQLError, Unavailable, UndefinedObject
from streamsql.connectors.kafka.options import ANSWER_SECONDS_MAX, client_config, require_client, translated
from streamsql.connectors.messages import DecodedMessages, MessageDecoder
from streamsql.connectors.source import Batch, Surroundings
from streamsql.engine.positions import Position, Positions

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

log = structlog.get_logger()

# Messages that are taken at a time, and about how many bytes: more gain nothing.
MESSAGES_MAX = 65_536
BYTES_MAX = 16 << 20
# Batches of one partition that wait for the reader before no more are made.
WAITING_MAX = 32
LOOK_UP_SECONDS = 0.2
_ASK_AGAIN_US = 1_000_000


@dataclass(frozen=True, slots=True)
class _Read:
    """Rows of one partition; `places` are the offsets of each row's message, `end` is the offset after the last message."""

    batch: Batch
    places: npt.NDArray[np.int64]


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
        self._taken: queue.Queue[list[Message]] = queue.Queue(1)
        self._waiting: deque[_Read] = deque()
        self._room = threading.Condition()
        self._to_tell: dict[str, Position] = {}
        self._failure: StreamSQLError | None = None
        self._closing = False
        self._consumer = self._connected()
        try:
            self._assign(positions)
        except BaseException:
            self._consumer.close()
            raise
        names = ("fetch", self._fetch), ("decode", self._decode)
        self._threads = [
            threading.Thread(target=self._guarded, args=(run,), name=f"kafka {what} {surroundings.name}", daemon=True)
            for what, run in names
        ]
        for thread in self._threads:
            thread.start()

    # ---- opening ----

    def _connected(self) -> Consumer:
        from confluent_kafka import Consumer, KafkaException

        config = {
            "queued.max.messages.kbytes": 65_536,
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
            empty = self._decoder.decode([], self._beside([])).rows
            for number, offset in begin.items():
                # at once durable, so that after a restart the same messages come
                self._waiting.append(
                    _Read(Batch(str(number), empty, offset, own_watermark=True), np.zeros(0, np.int64))
                )
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

    # ---- the threads ----

    def _guarded(self, run: Any) -> None:
        from confluent_kafka import KafkaException

        try:
            run()
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

        consumer, size = self._consumer, 256
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
            messages += consumer.consume(size, 0)
            if any(map(Message.error, messages)):
                messages = self._without_errors(messages)
                if not messages:
                    continue
            # so many that they come to the bytes of a batch, if they are as long as these
            length = max(1, sum(map(len, messages)) // len(messages))
            size = max(1, min(MESSAGES_MAX - 1, BYTES_MAX // length, 4 * len(messages) + 256))
            while not self._closing:
                with contextlib.suppress(queue.Full):
                    self._taken.put(messages, timeout=LOOK_UP_SECONDS)
                    break

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

    def _decode(self) -> None:
        while not self._closing:
            try:
                messages = self._taken.get(timeout=LOOK_UP_SECONDS)
            except queue.Empty:
                if self._failure is not None:
                    return
                continue
            made = self._rows(messages)
            with self._room:
                while len(self._waiting) > WAITING_MAX and not self._closing:
                    self._room.wait(LOOK_UP_SECONDS)
                self._waiting.extend(made)
            self._surroundings.wake()

    def _rows(self, messages: list[Message]) -> list[_Read]:
        from confluent_kafka import Message

        count = len(messages)
        partitions = np.fromiter(map(Message.partition, messages), np.int64, count)
        if (partitions[1:] < partitions[:-1]).any():
            messages.sort(key=Message.partition)  # type: ignore[arg-type]  # each has one; the sort is stable
            partitions.sort()
        offsets = np.fromiter(map(Message.offset, messages), np.int64, count)
        found = self._decoder.decode(
            list(map(Message.value, messages)),
            self._beside(messages, partitions, offsets),
        )
        bounds = [0, *(np.flatnonzero(np.diff(partitions)) + 1).tolist(), count]
        made = []
        for low, high in itertools.pairwise(bounds):
            number, end = int(partitions[low]), int(offsets[high - 1]) + 1
            self._next[number] = end
            made.append(_part(found, str(number), low, high, offsets, end))
        return made

    def _beside(
        self, messages: Sequence[Message], partitions: Any = (), offsets: Any = ()
    ) -> dict[str, Any]:  # fmt: skip
        """Give what the stream includes beside the values."""
        from confluent_kafka import Message

        told: dict[str, Any] = {}
        wanted = self._decoder.wanted
        if "key" in wanted:
            told["key"] = list(map(Message.key, messages))
        if "partition" in wanted:
            told["partition"] = pa.array(partitions, pa.int32())
        if "offset" in wanted:
            told["offset"] = pa.array(offsets, pa.int64())
        if "timestamp" in wanted:
            times = np.fromiter((t for _, t in map(Message.timestamp, messages)), np.int64, len(messages))
            told["timestamp"] = pa.array(times * 1_000, mask=times < 0).cast(pa.timestamp("us", "UTC"))
        if "headers" in wanted:
            told["headers"] = list(map(Message.headers, messages))
        return told

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
        with self._room:
            if not self._waiting:
                if self._failure is not None:
                    raise self._failure
                return None
            first = self._waiting.popleft()
            cut = _cut(first, rows_max)
            if cut < first.batch.rows.num_rows:
                first, rest = _halves(first, cut)
                self._waiting.appendleft(rest)
            self._room.notify()
        return first.batch

    def due_us(self, now_us: int) -> int | None:
        return now_us + _ASK_AGAIN_US

    def committed(self, positions: Positions) -> None:
        if self._options["group"]:
            with self._room:
                self._to_tell.update(positions)

    def close(self) -> None:
        self._closing = True
        with self._room:
            self._room.notify_all()
        for thread in self._threads:
            thread.join()
        self._consumer.close()


def _part(
    found: DecodedMessages, partition: str, low: int, high: int, offsets: npt.NDArray[np.int64], end: int
) -> _Read:
    """Take the rows and rejected records of the messages from `low` to `high`, which are one partition's."""
    first, last = (int(i) for i in np.searchsorted(found.messages, [low, high]))
    rejected = found.rejected
    if rejected.num_rows:
        indexes = rejected.column("position").to_numpy()
        one, two = (int(i) for i in np.searchsorted(indexes, [low, high]))
        rejected = rejected.slice(one, two - one).set_column(0, "position", pa.array(offsets[indexes[one:two]]))
    weights = None if found.weights is None else found.weights.slice(first, last - first)
    batch = Batch(
        partition, found.rows.slice(first, last - first), end, rejected, weights,
        own_watermark=True, defaults=found.weights is None,
    )  # fmt: skip
    return _Read(batch, offsets[found.messages[first:last]])


def _cut(read: _Read, rows_max: int) -> int:
    """Say how many rows to give, so that no message is cut in two."""
    count: int = read.batch.rows.num_rows
    if count <= rows_max:
        return count
    places = read.places
    first, over = int(places[0]), int(places[rows_max])
    cut = int(np.searchsorted(places, over, side="left"))
    return cut or int(np.searchsorted(places, first, side="right"))


def _halves(read: _Read, cut: int) -> tuple[_Read, _Read]:
    batch, at = read.batch, int(read.places[cut])
    rejected = batch.rejected.column("position").to_numpy()
    before = int(np.searchsorted(rejected, at))
    one = replace(
        batch, rows=batch.rows.slice(0, cut), position=at, rejected=batch.rejected.slice(0, before),
        weights=None if batch.weights is None else batch.weights.slice(0, cut),
    )  # fmt: skip
    two = replace(
        batch, rows=batch.rows.slice(cut), rejected=batch.rejected.slice(before),
        weights=None if batch.weights is None else batch.weights.slice(cut),
    )  # fmt: skip
    return _Read(one, read.places[:cut]), _Read(two, read.places[cut:])
