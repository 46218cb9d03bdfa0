"""POST /streams/NAME: rows of a stream or table, in one transaction, answered when they are durable.

The body is read as it comes and not faster than it is decoded; it waits while the engine's queue is full. Records that cannot
be read are set aside and counted, all others are written. With an ``Idempotency-Key`` the answer is committed with the rows,
and given again to the same request under the same key, whatever happened to the connection or the server in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from streamsql.base.errors import InvalidParameterValue, NotInPrerequisiteState
from streamsql.base.limits import exceeded
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import Stream, Table
from streamsql.catalog.rights import require
from streamsql.engine.ingest import conform, with_defaults
from streamsql.engine.receipts import Receipt
from streamsql.engine.writes import Write
from streamsql.formats.format import NOTHING_REJECTED, Decoded, Format
from streamsql.server.http.answers import HttpError, answer
from streamsql.server.http.encodings import Unpacked
from streamsql.server.http.kinds import input_format
from streamsql.server.http.parts import Parts
from streamsql.server.numbering import is_numbered, numbered_nulls
from streamsql.server.transactions import room

REJECTIONS_SHOWN_MAX = 10
# so much of a body is gathered before another thread decodes it
PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class Keys:
    """The keys of requests that are being answered: the same key at the same time is refused."""

    running: set[str] = field(default_factory=set)


async def post(request: Request, parts: Parts, keys: Keys) -> Response:
    """Answer a request."""
    with parts.context(request.state.who) as context:
        return await _post(request, parts, keys, context.key_called(request.path_params["name"]), context.asker.role)


async def _post(request: Request, parts: Parts, keys: Keys, name: str, role: int) -> Response:
    relation = _writable(parts, name, role)
    decoding = input_format(request.headers.get("content-type", ""), dict(request.query_params), relation, parts.limits)
    key = _key(request, parts, role)
    if key is None:
        return await _take(request, parts, relation, decoding, None, role)
    if key in keys.running:
        raise HttpError(
            409,
            NotInPrerequisiteState("a request with this Idempotency-Key is being answered", hint="wait for its answer"),
        )
    keys.running.add(key)
    try:
        return await _take(request, parts, relation, decoding, key, role)
    finally:
        keys.running.discard(key)


def _writable(parts: Parts, name: str, role: int) -> Stream | Table:
    """Give the stream or table. Raises StreamSQLError where there is none, or the role may not write to it."""
    catalog = parts.engine.catalog
    relation = catalog.relation(name)
    require(catalog, role, relation, "INSERT")
    return relation


def _key(request: Request, parts: Parts, role: int) -> str | None:
    """Give the key under which a request is kept: what one role uses, another does not meet."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= parts.limits.idempotency_key_bytes_max:
        raise InvalidParameterValue(
            f"an Idempotency-Key has 1 to {parts.limits.idempotency_key_bytes_max} characters",
            hint="idempotency_key_bytes_max",
        )
    return key if key is None or role == OWNER else f"{role}\n{key}"  # a line break stands in no header


async def _take(
    request: Request, parts: Parts, relation: Stream | Table, decoding: Format, key: str | None, role: int
) -> Response:
    await room(parts.engine)
    digest = hashlib.sha256()
    for said in (relation.name, request.url.query, request.headers.get("content-type", "")):
        digest.update(said.encode() + b"\0")
    decoded = await _decoded(request, parts, decoding, digest)
    if key is not None:
        known = await parts.reads.run(lambda cursor: _known(cursor, key))
        if known is not None:
            return _again(known, digest.hexdigest())
    if is_numbered(relation):
        tables = [d.rows for d in decoded if d.rows.num_rows]
        whole = await numbered_nulls(parts.engine, relation, pa.concat_tables(tables)) if tables else None
        rows = await parts.reads.run(lambda cursor: _shaped(parts, relation, whole, cursor))
    else:
        rows = await parts.reads.run(lambda cursor: _rows(parts, relation, decoded, cursor))
    rejected = pa.concat_tables([NOTHING_REJECTED, *(d.rejected for d in decoded)]).sort_by("position")
    body = _body(rows.num_rows, rejected)
    receipt = Receipt(relation.name, rejected, key, digest.hexdigest(), json.dumps(body))
    epoch = parts.engine.epoch
    if rows.num_rows or rejected.num_rows or key is not None:
        await room(parts.engine)
        _writable(parts, relation.name, role)  # the body may have taken long
        epoch = await asyncio.wrap_future(parts.engine.submit(Write([(relation.name, rows)], receipts=(receipt,))))
    return answer({**body, "epoch": epoch}, _status(body))


def _body(accepted: int, rejected: pa.Table) -> dict[str, Any]:
    shown = rejected.slice(0, REJECTIONS_SHOWN_MAX).select(["position", "reason"]).to_pylist()
    return {"accepted": accepted, "rejected": rejected.num_rows, "rejections": shown}


def _status(body: dict[str, Any]) -> int:
    """Tell success from a request of which nothing could be read."""
    return 422 if body["rejected"] and not body["accepted"] else 200


def _known(cursor: duckdb.DuckDBPyConnection, key: str) -> tuple[int, str, str] | None:
    found = cursor.execute("SELECT epoch, digest, answer FROM _engine.receipts WHERE key = ?", [key]).fetchall()
    return found[0] if found else None


def _again(known: tuple[int, str, str], digest: str) -> Response:
    epoch, before, text = known
    if before != digest:
        raise HttpError(
            422,
            InvalidParameterValue(
                "this Idempotency-Key was used for another request", hint="use a new key for new rows"
            ),
        )
    body = json.loads(text)
    return answer({**body, "epoch": epoch}, _status(body), {"Idempotency-Replayed": "true"})


async def _decoded(request: Request, parts: Parts, decoding: Format, digest: Any) -> list[Decoded]:
    """Read the body. Raises HttpError 413, and ProgramLimitExceeded for too many rows."""
    decoder = decoding.decoder()
    unpacked = Unpacked(request.headers.get("content-encoding", ""), parts.limits)
    found: list[Decoded] = []
    row_count = 0

    def feed(data: bytes) -> list[Decoded]:
        return [made for part in unpacked.feed(data) for made in decoder.feed(part)]

    try:
        async for piece in _pieces(request, parts):
            digest.update(piece)
            more = await parts.reads.compute(partial(feed, piece))
            row_count += sum(d.rows.num_rows for d in more)
            found += more
            if row_count > parts.limits.transaction_rows_max:
                raise exceeded(parts.limits, "transaction_rows_max", "the number of rows of a request")
        unpacked.finish()
        found += await parts.reads.compute(decoder.finish)
    except ClientDisconnect:
        raise ConnectionResetError from None
    return found


async def _pieces(request: Request, parts: Parts) -> AsyncIterator[bytes]:
    """Give the body in pieces of a size that is worth another thread."""
    size, gathered, waiting = 0, bytearray(), 0
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > parts.limits.http_body_bytes_max:
        raise HttpError(413, exceeded(parts.limits, "http_body_bytes_max", f"a body of {length} bytes"))
    async for piece in request.stream():
        size += len(piece)
        if size > parts.limits.http_body_bytes_max:
            raise HttpError(413, exceeded(parts.limits, "http_body_bytes_max", "the body"))
        gathered += piece
        waiting += len(piece)
        if waiting >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
            waiting = 0
    if gathered:
        yield bytes(gathered)


def _rows(
    parts: Parts, relation: Stream | Table, decoded: list[Decoded], cursor: duckdb.DuckDBPyConnection
) -> pa.Table:
    """Bring what was decoded into the relation's shape."""
    tables = [d.rows for d in decoded if d.rows.num_rows]
    return _shaped(parts, relation, pa.concat_tables(tables) if tables else None, cursor)


def _shaped(
    parts: Parts, relation: Stream | Table, rows: pa.Table | None, cursor: duckdb.DuckDBPyConnection
) -> pa.Table:
    schema = parts.known.schema(relation, cursor)
    if rows is None:
        return schema.empty_table()
    return conform(with_defaults(rows, relation, cursor), relation.columns, relation, schema, cursor)
