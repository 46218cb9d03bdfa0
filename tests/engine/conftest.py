"""Tells how many cases each property test has run, where new ones are drawn (`streams.examples`)."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.engine.streams import CASES, TimeIsOver


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let a test pass whose time is over: all cases that it has run have passed. Its report takes their number along."""
    try:
        return (yield)
    except TimeIsOver:
        return True
    finally:
        if pyfuncitem.originalname in CASES:
            pyfuncitem.user_properties.append(("cases", CASES[pyfuncitem.originalname]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            cases = dict(report.user_properties).get("cases")
            if cases is not None and report.when == "call":
                terminalreporter.write_line(f"{cases:>6} cases  {outcome}  {report.nodeid}")
