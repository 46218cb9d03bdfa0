"""A wire between a client and a server that is cut again and again, in the middle of whatever goes over it."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading

_PIECE = 4_096


class CuttingWire:
    """Listens on a port of this machine and passes bytes on to another port, both ways.

    Until it is told to be `steady` each connection is cut after a number of bytes that chance decides: `bytes_max` at most; of
    every second one after so many of the server's answers alone, a tenth of that, so that what was done is not heard of.
    `cuts` counts them. Use it as a context manager.
    """

    def __init__(self, target: int, port: int = 0, bytes_max: int = 20_000, seed: int = 1) -> None:
        self._target, self._bytes_max = target, bytes_max
        self._chance = random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", port))
        self._sockets: set[socket.socket] = set()
        self._steady = self._answers = False
        self._lock = threading.Lock()
        self.port: int = self._server.getsockname()[1]
        self.cuts = 0

    def __enter__(self) -> CuttingWire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()
        with self._lock:
            left = list(self._sockets)
        for each in left:
            self._close(each)

    def steady(self) -> None:
        """Cut nothing any more."""
        self._steady = True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._answers = not self._answers
                    left = [self._chance.randrange(self._bytes_max // (10 if self._answers else 1))]
                    asked = [sys.maxsize] if self._answers else left
                    self._sockets |= {client, server}
                for way in ((client, server, asked), (server, client, left)):
                    threading.Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(self, from_: socket.socket, to: socket.socket, left: list[int]) -> None:
        """Pass bytes on until there are no more, or it is cut; `left` are the bytes that it has, maybe with the other way."""
        with contextlib.suppress(OSError):
            while piece := from_.recv(_PIECE):
                with self._lock:
                    cut = not self._steady and len(piece) > left[0]
                    if cut:
                        piece = piece[: left[0]]
                        self.cuts += left[0] >= 0
                        left[0] = -1
                    elif not self._steady:
                        left[0] -= len(piece)
                to.sendall(piece)
                if cut:
                    break
        self._close(from_)
        self._close(to)

    def _close(self, each: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(each)
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
