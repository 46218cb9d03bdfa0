"""A server with HTTP, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.running import RunningServer

SMALL = ["--limit", "http_body_bytes_max=100000", "--limit", "rejected_rows_max=100", "--limit", "resume_rows_max=20"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("http")
    with RunningServer(folder, ["--http-port", "0", "--log-level", "debug", *SMALL]) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http, timeout=30) as made:
        yield made
