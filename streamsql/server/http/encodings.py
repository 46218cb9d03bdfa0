"""Bodies that come compressed: ``Content-Encoding: gzip``, unpacked as they come, and not beyond the bound of a body."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from streamsql.base.errors import FeatureNotSupported, InvalidParameterValue
from streamsql.base.limits import Limits, exceeded
from streamsql.server.http.answers import HttpError

# so much is unpacked at a time
_PIECE_BYTES = 1 << 20
_GZIP = zlib.MAX_WBITS | 16  # with gzip's head and checksum


class Unpacked:
    """The body as it was before it was compressed, if it was."""

    def __init__(self, encoding: str, limits: Limits) -> None:
        """Raises HttpError 415 for an encoding that is not known."""
        name = encoding.strip().lower()
        if name not in {"", "identity", "gzip", "x-gzip"}:
            raise HttpError(
                415,
                FeatureNotSupported(
                    f'content encoding "{name}" is not supported', hint="send gzip, or the body as it is"
                ),
            )
        self._limits = limits
        self._member = None if name in {"", "identity"} else zlib.decompressobj(_GZIP)
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give what a piece of the body holds, in pieces. Raises HttpError 400 for what is not gzip, 413 for too much."""
        if self._member is None:
            yield data
            return
        while data:
            if self._member.eof:  # another member follows
                self._member = zlib.decompressobj(_GZIP)
            try:
                made = self._member.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise HttpError(400, InvalidParameterValue(f"the body is not gzip: {error}")) from error
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._size += len(made)
            if self._size > self._limits.http_body_bytes_max:
                raise HttpError(413, exceeded(self._limits, "http_body_bytes_max", "the body, unpacked,"))
            yield made

    def finish(self) -> None:
        """Raise HttpError 400 where the body ends too early."""
        if self._member is not None and not self._member.eof:
            raise HttpError(400, InvalidParameterValue("the body is not gzip: it ends too early"))
