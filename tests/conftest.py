"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# by day the same cases each time, so that a change that is tested is what a failure speaks of
settings.register_profile("day", derandomize=True)
if os.environ.get("STREAMSQL_PROFILE") != "nightly":
    settings.load_profile("day")
pytest.register_assert_rewrite("tests.running", "tests.server.raw")
# markers of tests that need what `.ci/run` installs
SERVICES = ("kafka", "mqtt", "nats", "postgres", "programs", "redis")
# the folders whose files take longest; `make test` hands files out in this order
LONG = ("golden", "crash", "sqllogic", "engine", "connectors", "clients")
pytest_plugins = ["tests.certificates"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test marked with one of `SERVICES` that would be skipped, where STREAMSQL_REQUIRE_SERVICES=1 promises them."""
    report = yield
    marked = any(item.get_closest_marker(name) is not None for name in SERVICES)
    required = os.environ.get("STREAMSQL_REQUIRE_SERVICES") == "1" and marked
    if report.skipped and required and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although STREAMSQL_REQUIRE_SERVICES=1: {call.excinfo and call.excinfo.value}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files whose tests are long come first, so that no process is left with one of them at the end."""
    folders = [f"tests/{name}/" for name in LONG]
    items.sort(key=lambda item: next((i for i, name in enumerate(folders) if item.nodeid.startswith(name)), len(LONG)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update`` writes what comes out into golden files and transcripts; read the difference before you keep it."""
    parser.addoption("--update", action="store_true", help="write what comes out into golden files and transcripts")
