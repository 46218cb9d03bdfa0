"""``docs/connectors.md``, made from what connectors declare.

``python -m streamsql.connectors.documentation > docs/connectors.md`` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from streamsql.connectors import CONNECTORS, LOOKUPS, SINKS, datagen, kafka, mqtt, nats, nexmark, redis, webhook
from streamsql.connectors.files import options as files
from streamsql.connectors.files import sink as file_sink
from streamsql.connectors.postgres import lookup as postgres_lookup
from streamsql.connectors.postgres import sink as postgres_sink
from streamsql.connectors.postgres import source as postgres_source
from streamsql.connectors.settings import Option

HEAD = """# Connectors

Made from what the connectors declare (`python -m streamsql.connectors.documentation`).

`CREATE STREAM name (columns) WITH (connector = '...', option = 'value', ...)` reads rows, `CREATE TABLE name (columns, PRIMARY KEY
(...)) WITH (...)` keeps a table as its origin is, or leaves it there and looks rows up as others are joined with them, and `CREATE
SINK name FROM view WITH (...)` delivers a view's changes. What a
source has read and what has come of it are committed together, so a crash at any instant loses and repeats nothing. What goes to
a sink is written in the same commit, and stays until the other side has it.

Any option but those of made rows may be a reference to a secret, and one that is a secret has to be: `password = secret 'env:NAME'` is an environment
variable of the server, `secret 'file:PATH'` a file below a folder of `--allow-path`. Superusers alone may create what reaches out
of the server. `streamsql.sources`, `streamsql.partitions`, `streamsql.lookups` and `streamsql.sinks` show how far each is, and what is wrong;
`ALTER STREAM | TABLE | SINK name PAUSE` and `RESUME` stop it and let it go on. `ALTER STREAM name RESET TO EARLIEST | LATEST |
TIMESTAMP 'time' | POSITIONS '{"0": 42}'` empties a stream and its views, and reads from there: of Kafka all of these, of files and
generators the first and the last, of NATS and Redis positions; where there is a `backfill`, EARLIEST and TIMESTAMP (then the stream's event
time) begin with the history, and the others leave it out. What a record has and no column is left out; `ALTER STREAM name ADD
COLUMN column type [NOT NULL] [DEFAULT value]` has it read from then on, while rows that are kept have the default, or NULL.

Of any stream:

| option | meaning |
|---|---|
| `retention` | how long rows are kept for ad-hoc SQL and new views: a duration, `'forever'`, or `'0'` for none. Default `7 days` |
| `idle_timeout` | after that long without rows, time moves the watermark on; a partition without rows holds it back no more |
| `on_error` | `skip` (default) sets a record that cannot be read aside, in `streamsql.rejected_rows`; `fail` stops the stream at it, until `ALTER STREAM name RESUME` (read it again) or `RESUME SKIP` (go past it) |
| `rejected_into` | a stream that gets what cannot be read as well, all of it, and exactly once; it has some of the columns `stream text`, `partition text`, `position bigint`, `reason text`, `bytes bytea` (4 kB at the most), `rejected_at timestamptz` |

Of any sink:

| option | meaning |
|---|---|
| `key` | the columns of a row's key, as `'a, b'`. Default: those by which the view groups |
| `snapshot` | whether the rows that the view has come first. Default `true` |
"""  # noqa: E501  # a row of a table is one line


@dataclass(frozen=True, slots=True)
class Declared:
    """What a connector declares: its title, and its options as a source and as a sink."""

    title: str
    source: Mapping[str, Option] | None = None
    sink: Mapping[str, Option] | None = None
    lookup: Mapping[str, Option] | None = None
    more: str = ""


_KINDS = (
    "Each column has options too, as `fields.NAME.OPTION`: `kind` is one of "
    + ", ".join(f"`{name}`" for name in datagen.KINDS)
    + ", `null_rate` the share of values that are left out. The README says what each kind takes."
)

DECLARED: Mapping[str, Declared] = {
    "datagen": Declared("Made rows", datagen.OPTIONS, more=_KINDS),
    "file": Declared("Files", files.OPTIONS, file_sink.OPTIONS),
    "kafka": Declared("Kafka", kafka.SOURCE_OPTIONS, kafka.SINK_OPTIONS),
    "mqtt": Declared("MQTT", mqtt.OPTIONS, mqtt.SINK_OPTIONS),
    "nats": Declared("NATS JetStream", nats.OPTIONS, nats.SINK_OPTIONS),
    "nexmark": Declared("The Nexmark benchmark", nexmark.OPTIONS),
    "postgres": Declared("PostgreSQL", postgres_source.OPTIONS, postgres_sink.OPTIONS),
    "postgres-lookup": Declared("PostgreSQL, looked up", lookup=postgres_lookup.OPTIONS),
    "redis": Declared("Redis streams", redis.OPTIONS, redis.SINK_OPTIONS),
    "webhook": Declared("Webhooks", None, webhook.OPTIONS),
}


def page() -> str:
    """Make the page."""
    assert set(DECLARED) == set(CONNECTORS) | set(SINKS) | set(LOOKUPS), "each connector has its place in DECLARED"
    return HEAD + "".join(f"\n{part}" for name in DECLARED for part in _section(name, DECLARED[name]))


def _section(name: str, declared: Declared) -> Iterator[str]:
    yield f"## {declared.title}: `connector = '{name}'`\n"
    if declared.source is not None:
        yield "As a source:\n\n" + _table(declared.source)
    if declared.sink is not None:
        yield "As a sink:\n\n" + _table(declared.sink)
    if declared.lookup is not None:
        yield "As a table that is joined `FOR SYSTEM_TIME AS OF PROCTIME()`:\n\n" + _table(declared.lookup)
    if declared.more:
        yield declared.more + "\n"


def _table(options: Mapping[str, Option]) -> str:
    rows = [f"| `{name}` | {_meaning(option)} |\n" for name, option in options.items()]
    return "| option | meaning |\n|---|---|\n" + "".join(rows)


def _meaning(option: Option) -> str:
    said = option.says.rstrip(".")
    marks = [word for word, holds in (("needed", option.required), ("a secret", option.secret)) if holds]
    marks += [f"also `{synonym}`" for synonym in option.synonyms]
    return (said + (f" ({', '.join(marks)})" if marks else "")).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
