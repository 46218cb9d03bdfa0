"""What every answer has in common: errors as JSON with their SQLSTATE, and the HTTP status that each class of them has."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamsql.base.errors import InternalError, StreamSQLError

# SQLSTATEs and classes of them, the longest that an error's begins with counts
STATUS = {
    "0A": 400, "22": 400, "23": 409, "23502": 400, "25": 409, "28": 403, "28P01": 401, "40": 409, "42": 400, "42501": 403,
    "42P01": 404, "42704": 404, "42809": 400, "53": 503, "53400": 410, "54": 413, "55": 409, "57": 503, "57014": 408, "XX": 500,
}  # fmt: skip


class HttpError(Exception):
    """A fault of the request as HTTP; `error` has the words."""

    def __init__(self, status: int, error: StreamSQLError, headers: dict[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = headers


def status_of(error: StreamSQLError) -> int:
    """Give the HTTP status of an error."""
    for length in (5, 2):
        found = STATUS.get(error.sqlstate[:length])
        if found is not None:
            return found
    return 400


def said(error: StreamSQLError) -> dict[str, Any]:
    """Give an error as JSON has it; what it does not have is left out."""
    found = {
        "sqlstate": error.sqlstate, "message": error.message, "detail": error.detail, "hint": error.hint,
        "position": error.position, "context": error.context,
    }  # fmt: skip
    return {"error": {name: value for name, value in found.items() if value is not None}}


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(json.dumps(body, ensure_ascii=False) + "\n", status, headers, "application/json")


def from_error(raised: Exception) -> Response:
    """Answer with an error of any kind; of our own faults only that there is one."""
    if isinstance(raised, HttpError):
        return JSONResponse(said(raised.error), raised.status, raised.headers)
    if not isinstance(raised, StreamSQLError):
        raised = InternalError("internal error", hint="see the server's log")
    return JSONResponse(said(raised), status_of(raised))


async def on_error(_: Request, raised: Exception) -> Response:
    """Answer what a handler raised."""
    return from_error(raised)
