"""Adds readings to a Redis stream, and prints what comes of them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import redis


def main(url: str) -> None:
    """Run it against the Redis at an address."""
    client: Any = redis.Redis.from_url(url, decode_responses=True)
    for line in (Path(__file__).parent / "readings.ndjson").read_text().splitlines():
        client.xadd("readings", json.loads(line))
    while (
        client.xlen("alerts") < 2 or client.hget("room:kitchen", "readings") != "2" or not client.exists("room:cellar")
    ):
        time.sleep(0.05)
    for _, alert in client.xrange("alerts"):
        print("alert", json.dumps(alert))
    for key in sorted(client.keys("room:*")):
        print(key, json.dumps(client.hgetall(key)))


main(sys.argv[1])
