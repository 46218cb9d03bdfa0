"""One server a module, which must be left without live queries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import RunningServer  # after the line above, which it is for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server"), ["--log-level", "debug"]) as running:
        yield running
        running.wait_for_live_queries(0)
