"""Tells how many cases each property test has run, where new ones are drawn (`streams.examples`)."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.engine.streams import CASES, TimeIsOver


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Let a test pass whose time is over: all cases that it has run have passed."""
    try:
        return (yield)
    except TimeIsOver:
        return True


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Note the number with the test's report, which comes back from other processes too."""
    name = getattr(item, "originalname", item.name)
    if name in CASES:
        item.user_properties.append(("cases", CASES[name]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            cases = dict(report.user_properties).get("cases")
            if cases is not None and report.when == "call":
                terminalreporter.write_line(f"{cases:>6} cases  {outcome}  {report.nodeid}")
