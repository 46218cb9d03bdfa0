"""The other side of the wire, for tests: what a client sends, what it reads, and a small scripted server.

Written from the protocol's manual and not with `streamsql.pgwire.messages`, so that the two can disagree.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pyarrow as pa

from streamsql.base.errors import (
    BadCopyFormat,
    FeatureNotSupported,
    QueryCanceled,
    SQLSyntaxError,
    StreamSQLError,
)
from streamsql.base.limits import Limits
from streamsql.base.types import WireType
from streamsql.pgwire import auth, messages
from streamsql.pgwire.connection import Connection
from streamsql.pgwire.states import State
from streamsql.pgwire.values import encode_rows
from streamsql.pgwire.values.few import ROWS_MAX

# what a client sends


def frame(kind: str, body: bytes) -> bytes:
    return kind.encode("latin-1") + struct.pack(">I", len(body) + 4) + body


def string(text: str) -> bytes:
    return text.encode() + b"\0"


def startup(parameters: dict[str, str], protocol: tuple[int, int] = (3, 0)) -> bytes:
    body = struct.pack(">HH", *protocol) + b"".join(string(k) + string(v) for k, v in parameters.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def parse(text: str, name: str = "", oids: tuple[int, ...] = ()) -> bytes:
    return frame("P", string(name) + string(text) + struct.pack(f">H{len(oids)}I", len(oids), *oids))


def bind(
    values: list[str | None],
    portal: str = "",
    statement: str = "",
    formats: tuple[int, ...] = (),
    result_formats: tuple[int, ...] = (),
) -> bytes:
    body = string(portal) + string(statement) + struct.pack(f">H{len(formats)}H", len(formats), *formats)
    body += struct.pack(">H", len(values))
    for value in values:
        body += struct.pack(">i", -1) if value is None else struct.pack(">I", len(value.encode())) + value.encode()
    return frame("B", body + struct.pack(f">H{len(result_formats)}H", len(result_formats), *result_formats))


def client_message(name: str, fields: dict[str, Any]) -> bytes:
    """Encode a message of a transcript."""
    f = fields
    match name:
        case "Startup":
            return startup(f["parameters"], tuple(f.get("protocol", (3, 0))))
        case "SSLRequest":
            return struct.pack(">II", 8, 80877103)
        case "GSSENCRequest":
            return struct.pack(">II", 8, 80877104)
        case "CancelRequest":
            secret: str = f["secret"]
            return struct.pack(">III", 12 + len(secret), 80877102, f["process_id"]) + secret.encode()
        case "Parse":
            return parse(f["text"], f.get("name", ""), tuple(f.get("oids", ())))
        case "Bind":
            return bind(
                f.get("values", []),
                f.get("portal", ""),
                f.get("statement", ""),
                tuple(f.get("formats", ())),
                tuple(f.get("result_formats", ())),
            )
        case "Describe" | "Close":
            return frame(name[0], string(f["kind"] + f.get("name", "")))
        case "Execute":
            return frame("E", string(f.get("portal", "")) + struct.pack(">i", f.get("max_rows", 0)))
        case "Query":
            return frame("Q", string(f["text"]))
        case "CopyData":
            return frame("d", f["data"].encode())
        case "CopyFail":
            return frame("f", string(f["message"]))
        case "FunctionCall":
            return frame("F", struct.pack(">IHHH", f["oid"], 0, 0, 0))
        case "Raw":
            return bytes.fromhex(f["hex"])
        case "Frame":
            return frame(f["kind"], bytes.fromhex(f["hex"]))
        case _:
            return frame({"Sync": "S", "Flush": "H", "Terminate": "X", "CopyDone": "c"}[name], b"")


# what a client reads

_NAMES = {
    "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "C": "CommandComplete", "D": "DataRow",
    "A": "NotificationResponse", "H": "CopyOutResponse", "c": "CopyDone", "d": "CopyData", "E": "ErrorResponse",
    "G": "CopyInResponse", "I": "EmptyQueryResponse", "N": "NoticeResponse", "R": "Authentication",
    "S": "ParameterStatus", "T": "RowDescription", "Z": "ReadyForQuery", "n": "NoData", "s": "PortalSuspended",
    "t": "ParameterDescription", "v": "NegotiateProtocolVersion",
}  # fmt: skip


def server_messages(data: bytes) -> list[str]:
    """Read what the server sent, a line a message."""
    lines: list[str] = []
    position = 0
    while position < len(data):
        kind = chr(data[position])
        if kind == "N" and data[position + 1 : position + 2] != b"\0":  # no length follows, which would begin with 0
            lines.append("EncryptionRefused")
            position += 1
            continue
        (length,) = struct.unpack_from(">I", data, position + 1)
        body = data[position + 5 : position + 1 + length]
        assert len(body) == length - 4, "the server sent half a message"
        fields = _server_fields(kind, body)
        lines.append(f"{_NAMES[kind]} {json.dumps(fields, ensure_ascii=False)}" if fields else _NAMES[kind])
        position += 1 + length
    return lines


def _server_fields(kind: str, body: bytes) -> dict[str, Any]:
    match kind:
        case "R":
            return {"code": struct.unpack_from(">I", body)[0]}
        case "Z":
            return {"status": body.decode()}
        case "C":
            return {"tag": body[:-1].decode()}
        case "S":
            name, value, _ = body.split(b"\0")
            return {"name": name.decode(), "value": value.decode()}
        case "E" | "N":
            found = {part[:1].decode(): part[1:].decode() for part in body[:-2].split(b"\0")}
            return {"severity": found["S"], "code": found["C"], "message": found["M"]}
        case "T":
            return {"columns": _described_columns(body)}
        case "D":
            return {"values": [value if value is None else value.decode() for value in row_values(body)]}
        case "t":
            count = struct.unpack_from(">H", body)[0]
            return {"oids": list(struct.unpack_from(f">{count}I", body, 2))}
        case "A":
            channel, payload, _ = body[4:].split(b"\0")
            return {"channel": channel.decode(), "payload": payload.decode()}
        case "d":
            return {"data": body.decode("latin-1")}
        case "G" | "H":
            overall, count = struct.unpack_from(">bH", body)
            return {"format": overall, "columns": list(struct.unpack_from(f">{count}H", body, 3))}
        case "v":
            version, count = struct.unpack_from(">II", body)
            return {"version": [version >> 16, version & 0xFFFF], "options": body[8:].decode().split("\0")[:count]}
        case _:
            assert body == b"", (kind, body)
            return {}


def _described_columns(body: bytes) -> list[Any]:
    columns: list[Any] = []
    position = 2
    for _ in range(struct.unpack_from(">H", body)[0]):
        end = body.index(0, position)
        table, number, oid, size, modifier, format_code = struct.unpack_from(">IHIhih", body, end + 1)
        origin = [table, number] if table or number else []  # PostgreSQL tells it, this server does not
        columns.append([body[position:end].decode(), oid, size, modifier, format_code, *origin])
        position = end + 19
    assert position == len(body)
    return columns


def row_values(body: bytes) -> list[bytes | None]:
    """Read the body of one DataRow."""
    values: list[bytes | None] = []
    position = 2
    for _ in range(struct.unpack_from(">H", body)[0]):
        (length,) = struct.unpack_from(">i", body, position)
        position += 4
        values.append(None if length < 0 else body[position : position + length])
        position += max(length, 0)
    assert position == len(body), "bytes after the last value"
    return values


def data_rows(data: bytes | memoryview) -> list[list[bytes | None]]:
    """Read DataRow messages and nothing else."""
    data = bytes(data)
    rows: list[list[bytes | None]] = []
    position = 0
    while position < len(data):
        assert data[position : position + 1] == b"D"
        (length,) = struct.unpack_from(">I", data, position + 1)
        rows.append(row_values(data[position + 5 : position + 1 + length]))
        position += 1 + length
    assert position == len(data)
    return rows


class ScriptedServer:
    """A server that knows a handful of commands and keeps all that it saw and said."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.connection = Connection(limits or Limits())
        self.events: list[messages.FrontendMessage] = []
        self.said = b""
        self._texts: dict[str, str] = {}
        self._statement_of: dict[str, str] = {}

    def receive(self, data: bytes) -> None:
        """Take bytes (b"" at the end of the stream), and answer all that can be answered."""
        conn = self.connection
        conn.receive_data(data)
        while True:
            try:
                event = conn.next_event()
            except StreamSQLError as error:
                self._fail(error)
                continue
            if event is None:
                return
            self._note(event)
            self._answer(event)

    def _note(self, event: messages.FrontendMessage) -> None:
        """Keep the event; how COPY data is cut into events is nobody's business."""
        last = self.events[-1] if self.events else None
        if isinstance(event, messages.CopyData) and isinstance(last, messages.CopyData):
            self.events[-1] = event = messages.CopyData(last.data + event.data)
        else:
            self.events.append(event)
        if isinstance(event, messages.CopyData) and b"bad" in event.data:
            self.events[-1] = messages.CopyData(event.data[: event.data.index(b"bad") + 3])

    def _fail(self, error: StreamSQLError) -> None:
        self.said += self.connection.error(error)
        self._ready_if_owed()

    def _ready_if_owed(self) -> None:
        if self.connection.owes_ready:
            self.said += self.connection.ready_for_query("I")

    def _answer(self, event: messages.FrontendMessage) -> None:
        match event:
            case messages.SSLRequest() | messages.GSSENCRequest():
                self.said += b"N"
            case messages.Startup():
                try:
                    auth.check_database(auth.asked(event.parameters))
                except StreamSQLError as error:
                    self._fail(error)
                    return
                self.said += self.connection.authentication_ok() + messages.parameter_status("client_encoding", "UTF8")
                self._ready_if_owed()
            case messages.Query():
                self._run(event.text, max_rows=0, described=True)
                if self.connection.state is not State.COPY_IN:
                    self._ready_if_owed()
            case messages.FunctionCall():
                self._fail(FeatureNotSupported("function calls are not supported"))
            case messages.Sync():
                self._ready_if_owed()
            case messages.CopyData():
                gathered = self.events[-1]
                assert isinstance(gathered, messages.CopyData)
                if gathered.data.endswith(b"bad"):
                    self._fail(BadCopyFormat("bad data"))
            case messages.CopyDone():
                self.said += messages.command_complete("COPY 1")
                self._ready_if_owed()
            case messages.CopyFail():
                self._fail(QueryCanceled(f"COPY from stdin failed: {event.message}"))
            case _:
                self._answer_extended(event)

    def _answer_extended(self, event: messages.FrontendMessage) -> None:
        match event:
            case messages.Parse():
                if event.text == "fail":
                    self._fail(SQLSyntaxError("it fails"))
                    return
                self._texts[event.name] = event.text
                self.said += messages.parse_complete()
            case messages.Bind():
                self._statement_of[event.portal] = event.statement
                self.said += messages.bind_complete()
            case messages.Describe():
                if event.kind == "S":
                    self.said += messages.parameter_description([23])
                self.said += messages.no_data()
            case messages.Execute():
                self._run(
                    self._texts.get(self._statement_of.get(event.portal, ""), ""), event.max_rows, described=False
                )
            case messages.Close():
                self.said += messages.close_complete()
            case _:
                assert isinstance(event, messages.Flush | messages.Terminate | messages.CancelRequest), event

    def _run(self, text: str, max_rows: int, *, described: bool) -> None:
        match text.split():
            case []:
                self.said += messages.empty_query_response()
            case ["copy", *_]:
                self.said += self.connection.copy_in_response([0, 0])
            case ["select", *_]:
                if described:
                    self.said += messages.row_description([messages.FieldDescription("n", 23, 4)])
                self.said += b"D\0\0\0\x0b\0\x01\0\0\0\x011"
                self.said += messages.portal_suspended() if max_rows == 1 else messages.command_complete("SELECT 1")
            case _:
                self._fail(SQLSyntaxError("it fails"))


def encoded(column: pa.Array, wire_type: WireType, format_code: int) -> list[bytes | None]:
    """Encode a column as what a long result holds, and as a short one, which is written in another way."""
    many = pa.record_batch([pa.concat_arrays([column] * (1 + ROWS_MAX))], names=["x"])
    found = [row[0] for row in data_rows(encode_rows(many, [wire_type], [format_code]))][: len(column)]
    for start in range(0, len(column), ROWS_MAX):
        few = pa.record_batch([column.slice(start, ROWS_MAX)], names=["x"])
        rows = data_rows(encode_rows(few, [wire_type], [format_code]))
        assert [row[0] for row in rows] == found[start : start + ROWS_MAX]
    return found
