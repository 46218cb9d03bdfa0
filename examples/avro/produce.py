"""Writes readings.ndjson as Avro into the topic `readings`; registers its schemas. Arguments: broker, registry."""

import io
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import httpx
from confluent_kafka import Producer

HERE = Path(__file__).parent


def register(registry: str, schema: dict[str, Any]) -> int:
    """Have the registry take a schema; give its id."""
    answer = httpx.post(f"{registry}/subjects/readings-value/versions", json={"schema": json.dumps(schema)})
    answer.raise_for_status()
    return int(answer.json()["id"])


def main(broker: str, registry: str) -> None:
    old = json.loads((HERE / "reading.avsc").read_text())
    battery = {"name": "battery", "type": ["null", "int"], "default": None}
    new = {**old, "fields": [*old["fields"], battery]}
    known = {key: (register(registry, schema), fastavro.parse_schema(schema)) for key, schema in ((0, old), (1, new))}
    producer = Producer({"bootstrap.servers": broker})
    for line in (HERE / "readings.ndjson").read_text().splitlines():
        row = json.loads(line)
        row["at"] = datetime.fromisoformat(row["at"]).replace(tzinfo=UTC)
        row["celsius"] = Decimal(row["celsius"])
        number, schema = known["battery" in row]
        out = io.BytesIO(b"\0" + number.to_bytes(4, "big"))
        out.seek(5)
        fastavro.schemaless_writer(out, schema, row)
        producer.produce("readings", out.getvalue())
    producer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
