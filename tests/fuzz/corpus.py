"""What is mutated: the statements of the golden files and of tools, and messages of the protocol; and how.

All randomness comes from a `random.Random` that is given, so a seed says everything about a run.
"""

from __future__ import annotations

import json
import random
import re
import struct
from functools import cache
from pathlib import Path

from tests.golden import datadriven
from tests.pgwire.wire import bind, frame, parse, startup, string
from tests.security.who_may import CASES

TESTS = Path(__file__).parents[1]
# kept out: what takes the server itself longer than a statement's timeout to be asked for
_QUERIES = ("bi_queries.json", "driver_queries.json")
_WORD = re.compile(r"\s+|'(?:[^']|'')*'|\"[^\"]*\"|\w+|.", re.DOTALL)
_VALUES = [
    "0", "-1", "1e400", "99999999999999999999999999999999999999999", "-9223372036854775808", "NULL", "''", "'\\x'", "'{'",
    "'infinity'", "'0001-01-01 BC'", "'294276-12-31'", "1::int[]", "$1", "$65536", "DEFAULT", "*", "()", "'ß☃\U0001f600'",
    "E'\\u0041'", "U&'\\0041'", "$$x$$", "B'01'", "ARRAY[[1],[2,3]]", "ROW(1,2)", "(SELECT 1)", "interval '-1 year'",
    "/*", "*/", "--", ";", "'", '"', "$q$", "\\", "{", "}", "::", "EMIT APPEND", "EMIT UPDATE", "WITH WATERMARK '1 day'",
    "GROUP BY window(ts, '1h')", "OVER ()", "FILTER (WHERE true)", "LIMIT 0", "LATERAL", "WITH RECURSIVE x AS (SELECT 1)",
]  # fmt: skip


# what neither has
_MORE = (
    "EXPLAIN (ANALYZE, FORMAT JSON, BUFFERS off) SELECT k, count(*) FROM guarded GROUP BY k",
    "VACUUM (ANALYZE, PARALLEL 2) guarded (k)",
    "REINDEX (VERBOSE) TABLE CONCURRENTLY guarded",
    "CLUSTER guarded USING guarded_pkey",
    "SELECT pg_advisory_lock(1, 2), pg_try_advisory_xact_lock_shared(k) FROM guarded",
    "SELECT pg_advisory_unlock_all()",
    "CREATE UNLOGGED TABLE u (a INT PRIMARY KEY) WITH (fillfactor = 70, autovacuum_enabled = off)",
    "ALTER TABLE guarded SET (fillfactor = 70), ADD COLUMN IF NOT EXISTS more numeric(10, 2) DEFAULT 1e3",
    "SELECT row_to_json(ROW(1, 'a', ROW(2.5e-1))), to_jsonb((1, 2))",
    "CREATE TABLE w (k INT PRIMARY KEY, t TEXT)",
    "INSERT INTO w AS g (k, t) VALUES ($1, $2) "
    "ON CONFLICT (k) DO UPDATE SET t = g.t || $2, k = EXCLUDED.k / 2 WHERE g.k > $1",
    "MERGE INTO w AS g USING (SELECT k, t FROM guarded) AS v (k, t) ON g.k = v.k "
    "WHEN MATCHED AND g.t <> v.t THEN UPDATE SET t = v.t WHEN NOT MATCHED THEN INSERT (k, t) VALUES (v.k, v.t)",
    "SELECT k, t INTO TEMP TABLE copied FROM guarded WHERE k > 1",
    "CREATE TABLE r (id SERIAL PRIMARY KEY, g INT REFERENCES guarded DEFERRABLE INITIALLY DEFERRED, "
    "d TEXT[] DEFAULT '{}'::text[])",
    "SET CONSTRAINTS ALL DEFERRED",
    "TRUNCATE TABLE ONLY w, r RESTART IDENTITY CASCADE",
    "CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA public VERSION '1.1' CASCADE",
    "SELECT setval(pg_get_serial_sequence('r', 'id'), coalesce(max(id), 1), max(id) IS NOT NULL) FROM r",
    "SELECT pg_catalog.hashtext('x'), pg_size_pretty(pg_total_relation_size('guarded'::regclass))",
)


@cache
def statements() -> list[str]:
    """List statements that mean something."""
    found: list[str] = []
    for path in sorted((TESTS / "golden").glob("*.test")):
        blocks = datadriven.read(path).blocks
        found += [block.text for block in blocks if block.directive in ("exec", "select", "error", "explain")]
    for name in _QUERIES:
        for queries in json.loads((TESTS / "server" / name).read_text("utf-8")).values():
            found += queries
    found += [*CASES, *_MORE]
    assert len(found) > 500
    return found


@cache
def _words() -> list[str]:
    return sorted(
        {word for text in statements() for word in _WORD.findall(text) if not word.isspace() and len(word) < 60}
    )


def mutated_text(draw: random.Random, secret: Path) -> str:
    """Give a statement with one to four faults in it; `secret` is a file that none must reach."""
    text = draw.choice(statements())
    if draw.random() < 0.02:
        text = draw.choice(_FILES).format(secret)
    for _ in range(draw.choice([1, 1, 1, 2, 2, 3, 4])):
        text = draw.choice(_MUTATIONS)(draw, text)
    return text.replace("\0", "")[:20_000]


_FILES = [
    "SELECT * FROM '{}'", "SELECT * FROM read_csv('{}')", "SELECT * FROM read_text('{}')", "COPY t FROM '{}'",
    "COPY (SELECT 1) TO '{}'", "ATTACH '{}' AS a", "SELECT pg_read_file('{}')", "SELECT content FROM read_blob('{}')",
    "SELECT * FROM glob('{}')", "INSTALL '{}'", "LOAD '{}'", "SET temp_directory = '{}'", "EXPORT DATABASE '{}'",
    "CREATE TABLE t AS FROM read_csv_auto('{}')", "SELECT * FROM parquet_scan('{}')", "SELECT lo_import('{}')",
    "SELECT * FROM sniff_csv('{}')", "SELECT getenv('HOME'), '{}'", "PRAGMA database_list; SELECT '{}'",
    "SELECT * FROM read_json_auto('{}')", "SELECT * FROM duckdb_settings() WHERE value = '{}'",
    "SELECT * FROM query('SELECT * FROM read_text(''{}'')')", "SELECT * FROM query_table('{}')",
]  # fmt: skip


def _swap(draw: random.Random, text: str) -> str:
    words = _WORD.findall(text)
    if len(words) < 2:
        return text
    i, j = draw.randrange(len(words)), draw.randrange(len(words))
    words[i], words[j] = words[j], words[i]
    return "".join(words)


def _drop(draw: random.Random, text: str) -> str:
    words = _WORD.findall(text)
    if words:
        start = draw.randrange(len(words))
        del words[start : start + draw.choice([1, 1, 2, 5])]
    return "".join(words)


def _replace(draw: random.Random, text: str) -> str:
    words = _WORD.findall(text)
    if words:
        words[draw.randrange(len(words))] = draw.choice(draw.choice([_words(), _VALUES]))
    return "".join(words)


def _insert(draw: random.Random, text: str) -> str:
    words = _WORD.findall(text)
    words.insert(draw.randrange(len(words) + 1), f" {draw.choice(draw.choice([_words(), _VALUES]))} ")
    return "".join(words)


def _splice(draw: random.Random, text: str) -> str:
    other = draw.choice(statements())
    return text[: draw.randrange(len(text) + 1)] + other[draw.randrange(len(other)) :]


def _repeat(draw: random.Random, text: str) -> str:
    words = _WORD.findall(text)
    if not words:
        return text
    start = draw.randrange(len(words))
    part = words[start : start + draw.randrange(1, 6)]
    return "".join(words[:start] + part * draw.choice([2, 3, 30]) + words[start:])


def _flip(draw: random.Random, text: str) -> str:
    if not text:
        return text
    at = draw.randrange(len(text))
    return text[:at] + chr(draw.choice([draw.randrange(1, 128), draw.randrange(128, 0xD7FF)])) + text[at + 1 :]


def _cut(draw: random.Random, text: str) -> str:
    return text[: draw.randrange(len(text) + 1)]


_MUTATIONS = [_swap, _drop, _drop, _replace, _replace, _replace, _insert, _insert, _splice, _repeat, _flip, _cut]


# ---- messages ----

_TEXTS = [
    "SELECT $1::int + 1", "SELECT 1", "INSERT INTO fuzzed VALUES ($1, $2)", "SELECT * FROM fuzzed WHERE n > $1", "", "BEGIN",
    "COMMIT", "ROLLBACK", "COPY fuzzed FROM STDIN", "COPY fuzzed FROM STDIN (FORMAT csv)", "COPY fuzzed TO STDOUT",
    "SELECT x FROM fuzz_stream EMIT APPEND", "COPY fuzzed FROM STDIN (FORMAT binary)", "DECLARE c CURSOR FOR SELECT 1",
    "UPDATE fuzzed SET t = $1", "SELECT $1::timestamp, $2::numeric, $3::text[]", "SHOW ALL", "SUBSCRIBE fuzz_view",
    "SELECT generate_series(1, 1000)", "SAVEPOINT s", "ROLLBACK TO s", "DEALLOCATE ALL",
]  # fmt: skip
_VALUES_SENT = [None, "", "1", "x", "2024-01-01", "{1,2}", "\\x00", "1.5", "\0\0\0\1", "\0" * 8, "ä" * 300]


def message(draw: random.Random) -> bytes:
    """Give a message that is right by itself."""
    name, text = draw.choice(["", "", "s", "p"]), draw.choice(_TEXTS)
    values = [draw.choice(_VALUES_SENT) for _ in range(draw.randrange(4))]
    formats = tuple(draw.choice([0, 0, 1]) for _ in range(draw.choice([0, 1, len(values)])))
    return draw.choice([
        lambda: parse(text, name, tuple(draw.choice([0, 23, 25, 1114, 705, 99999]) for _ in range(draw.randrange(3)))),
        lambda: bind(values, name, name, formats, (draw.choice([0, 1]),)),
        lambda: frame("D", string(draw.choice("SP") + name)),
        lambda: frame("E", string(name) + struct.pack(">i", draw.choice([0, 0, 1, 5, -1]))),
        lambda: frame("C", string(draw.choice("SP") + name)),
        lambda: frame("Q", string(text)),
        lambda: frame("S", b""),
        lambda: frame("H", b""),
        lambda: frame("d", draw.choice([b"1\tx\n", b"1,x\n", b"\\.\n", b"PGCOPY\n\xff\r\n\0", b"\xff\xfe", b""])),
        lambda: frame("c", b""),
        lambda: frame("f", string("enough")),
        lambda: frame("F", struct.pack(">IHHH", 1, 0, 0, 0)),
    ])()  # fmt: skip


def mutated_message(draw: random.Random) -> bytes:
    """Give a message with a fault: bytes changed, put in, taken out; another kind; a wrong length."""
    made = bytearray(message(draw))
    kind = draw.randrange(8)
    at = draw.randrange(len(made))
    if kind == 0:
        made[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        made[at] = draw.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind == 2:
        made[0] = draw.randrange(256)
    elif kind == 3:  # its length stays right, its body does not
        body = bytes(made[5:])
        place = draw.randrange(len(body) + 1)
        body = draw.choice([body[:place], body[:place] + draw.randbytes(4) + body[place:], body[place:], body + b"\0"])
        made = bytearray(frame(chr(made[0]), body))
    elif kind == 4:
        wrong = draw.choice([0, 3, 4, 5, len(made), len(made) + 7, 2**31 - 1, 2**32 - 1, 300 << 20])
        made[1:5] = struct.pack(">I", wrong)
    elif kind == 5:
        made = made[:at]
    elif kind == 6:
        made += bytes(made)
    return bytes(made)


def mutated_startup(draw: random.Random) -> bytes:
    """Give the first bytes of a connection, with a fault now and then."""
    parameters = {"user": "fuzz", "database": "streamsql", "options": "-c statement_timeout=100"}
    if draw.random() < 0.97:
        return startup(parameters)
    made = bytearray(draw.choice([
        startup(parameters), startup({**parameters, "client_encoding": "LATIN1", "x" * 500: ""}), startup(parameters, (3, 9)),
        startup(parameters, (2, 0)), struct.pack(">II", 8, 80877103), struct.pack(">IIII", 16, 80877102, 1, 2),
    ]))  # fmt: skip
    made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
    return bytes(made)
