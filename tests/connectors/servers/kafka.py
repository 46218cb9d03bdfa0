"""A real Apache Kafka broker in KRaft mode, from its released jars (`kafka.pom.xml`; `.ci/run` brings them into build/kafka).

It has a listener of each kind: plain text, TLS, and SASL over TLS, with a user ``alice`` whose password is ``secret``; and one
that says of itself that it is elsewhere, where a test puts a wire in between.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

JARS = Path(__file__).parents[3] / "build" / "kafka"
STARTS_WITHIN_SECONDS = 90
_JAVA = ("java", "-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class Broker:
    """One broker, which is its own controller; `folder` keeps its log over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = free_ports(6)
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def tls_address(self) -> str:
        return f"127.0.0.1:{self._ports[1]}"

    @property
    def sasl_address(self) -> str:
        return f"127.0.0.1:{self._ports[2]}"

    @property
    def wire(self) -> tuple[int, int]:
        """The port of a listener, and the port where clients that begin there look for the broker."""
        return self._ports[4], self._ports[5]

    @property
    def certificate(self) -> Path:
        """The certificate that the broker shows, which is its own authority."""
        return self.folder / "certificate.pem"

    def _configure(self) -> None:
        key, both = self.folder / "key.pem", self.folder / "broker.pem"
        made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(self.certificate))  # fmt: skip
        subprocess.run(made, check=True, capture_output=True)
        both.write_text(key.read_text() + self.certificate.read_text())
        plain, tls, sasl, controller, behind, shown = self._ports
        told = f"PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}"
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{told},WIRE://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"{told},WIRE://127.0.0.1:{shown}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,WIRE:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{login} user_alice="secret";',
            "log.dirs": str(self.folder / "log"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.retention.check.interval.ms": "500",
            "log.initial.task.delay.ms": "500",
            "log.segment.delete.delay.ms": "0",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",
        }
        self._settings = self.folder / "server.properties"
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self._run("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(self._settings))

    def _command(self, name: str, arguments: Sequence[str]) -> list[str]:
        options = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", f"-Dkafka.logs.dir={self.folder}")
        return [*_JAVA, *options, "-cp", f"{JARS}/*", name, *arguments]

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(self._command(name, arguments), check=True, capture_output=True, timeout=STARTS_WITHIN_SECONDS)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        from confluent_kafka import KafkaException

        with (self.folder / "broker.txt").open("ab") as output:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", [str(self._settings)]), stdout=output, stderr=output
            )
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        client = self.admin()
        while True:
            try:
                client.list_topics(timeout=1)
                self._ask_for_groups()
                return
            except KafkaException:
                assert self._process.poll() is None, (self.folder / "broker.txt").read_text()[-4_000:]
                assert time.monotonic() < deadline, (self.folder / "broker.txt").read_text()[-4_000:]

    def _ask_for_groups(self) -> None:
        """Raise KafkaException while it does not serve the offsets of groups, which it begins to do after all else."""
        from confluent_kafka import Consumer, TopicPartition

        asking = Consumer({"bootstrap.servers": self.address, "group.id": "ready", "log_level": 0})
        try:
            asking.committed([TopicPartition("ready", 0)], 10)
        finally:
            asking.close()

    def stop(self, *, at_once: bool = False) -> None:
        """End it, by SIGKILL if `at_once`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def pause(self) -> None:
        """Let it answer nothing, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    # ---- what tests ask of it ----

    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def create(self, topic: str, partitions: int = 1, **settings: str) -> None:
        """Make a topic."""
        from confluent_kafka.cimpl import NewTopic

        config = {name.replace("_", "."): value for name, value in settings.items()}
        admin = self.admin()  # who lets go of it ends what it does
        made = admin.create_topics([NewTopic(topic, partitions, 1, config=config)])
        made[topic].result(30)

    def settings_of(self, topic: str) -> dict[str, str]:
        from confluent_kafka.admin._config import ConfigResource

        admin, asked = self.admin(), ConfigResource("topic", topic)
        return {name: entry.value for name, entry in admin.describe_configs([asked])[asked].result(30).items()}

    def admin_delete(self, topic: str) -> None:
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(30)

    def send(self, topic: str, values: Sequence[Any], **more: Any) -> None:
        """Send messages: values, or (key, value), to a partition or with headers and times that `more` tells."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 1, "log_level": 0})
        for value in values:
            key, payload = value if isinstance(value, tuple) else (None, value)
            producer.produce(topic, key=key, value=payload, **more)
            producer.poll(0)
        assert producer.flush(30) == 0

    def has_open_transaction(self, topic: str) -> bool:
        """Tell whether there are messages in a topic's first partition that are neither committed nor aborted."""
        from confluent_kafka import IsolationLevel, TopicPartition
        from confluent_kafka.admin._listoffsets import OffsetSpec

        admin, place = self.admin(), TopicPartition(topic, 0)
        ends = [
            admin.list_offsets({place: OffsetSpec.latest()}, isolation_level=level)[place].result(30).offset
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        ]
        return bool(ends[0] < ends[1])

    def received(self, topic: str, isolation: str = "read_committed") -> list[Any]:
        """Give all messages of a topic that a reader sees, each partition's in order."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

        consumer = Consumer({
            "bootstrap.servers": self.address, "group.id": "reader", "isolation.level": isolation,
            "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 0,
        })  # fmt: skip
        partitions = consumer.list_topics(topic, 30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        found, ended = [], 0
        while ended < len(partitions):
            for message in consumer.consume(10_000, 1):
                error = message.error()
                if error is None:
                    found.append(message)
                    continue
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
        consumer.close()
        return sorted(found, key=lambda m: (m.partition(), m.offset()))


def free_ports(count: int) -> list[int]:
    """Give ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def missing() -> str | None:
    """Say what the broker lacks to be started."""
    if shutil.which("java") is None:
        return "there is no java"
    if not JARS.is_dir() or not any(JARS.glob("kafka_*.jar")):
        return f"there are no jars in {JARS.relative_to(Path.cwd()) if JARS.is_relative_to(Path.cwd()) else JARS}"
    return None


def broker_in(folder: Path) -> Iterator[Broker]:
    """Start a broker that keeps its files in a folder, and end it in the end."""
    lacks = missing()
    if lacks is not None:
        pytest.skip(f"{lacks}: see .ci/run")
    os.makedirs(folder, exist_ok=True)
    broker = Broker(folder)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop(at_once=True)
