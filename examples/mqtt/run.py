"""Publishes readings over MQTT, and prints the board that comes of them."""

from __future__ import annotations

import json
import queue
import sys
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion


def main(host: str, port: int) -> None:
    """Run it against the broker at an address."""
    arrived: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda c, u, message: arrived.put((message.topic, json.loads(message.payload)))
    client.connect(host, port)
    client.subscribe("board/+", 1)
    client.loop_start()
    for line in (Path(__file__).parent / "readings.ndjson").read_text().splitlines():
        reading = json.loads(line)
        client.publish(f"rooms/{reading['room']}/temperature", json.dumps({"celsius": reading["celsius"]}), 1)
    board: dict[str, dict[str, object]] = {}
    while sum(int(str(row["readings"])) for row in board.values()) < 4:
        topic, row = arrived.get(timeout=60)
        board[topic] = row
    client.disconnect()
    client.loop_stop()
    for topic, row in sorted(board.items()):
        print(topic, json.dumps(row))


main(sys.argv[1], int(sys.argv[2]))
