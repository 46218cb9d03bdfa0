"""Publishes readings to JetStream, and prints the alerts that come of them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import nats
from nats.js import JetStreamContext


async def main(url: str, what: str) -> None:
    """Make the streams, or run it, against the server at an address."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    if what == "streams":
        await jetstream.add_stream(name="READINGS", subjects=["readings.*"])
        await jetstream.add_stream(name="ALERTS", subjects=["alerts.*"])
    else:
        await run(jetstream)
    await client.close()


async def run(jetstream: JetStreamContext) -> None:
    """Publish the readings, and print the alerts."""
    for line in (Path(__file__).parent / "readings.ndjson").read_text().splitlines():
        await jetstream.publish(f"readings.{json.loads(line)['room']}", line.encode())
    alerts = await jetstream.subscribe("alerts.*", stream="ALERTS")
    for _ in range(2):
        alert = await alerts.next_msg(timeout=60)
        print(alert.subject, alert.data.decode())


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "run"))
