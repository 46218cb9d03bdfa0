"""One server a module, which must be left without live queries; and a PostgreSQL to compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import postgres
from tests.running import RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--log-level", "debug"]) as running:
        yield running
        running.wait_for_live_queries(0)


@pytest.fixture(scope="session")
def postgres_port() -> Iterator[int]:
    """The port of a PostgreSQL 15 of our own; its user is the test, its database postgres."""
    if not postgres.installed():
        pytest.skip("PostgreSQL 15 is not installed")
    with postgres.running() as port:
        yield port
