"""The servers of other projects that connectors are tested with."""

from __future__ import annotations

from tests.connectors.servers.mosquitto import mosquitto
from tests.connectors.servers.nats import nats_server
from tests.connectors.servers.redis import redis_server

__all__ = ["mosquitto", "nats_server", "redis_server"]
