"""``python -m benchmarks [names] [--scale 0.1] [--json FILE]``: run benchmarks and print their figures."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from benchmarks import (
    clients,
    copy,
    copy_out,
    cost,
    engine,
    epochs,
    feeds,
    formats,
    hopping,
    insert,
    kafka,
    latency,
    memory,
    nexmark,
    postgres,
    running,
    select,
    shared,
    state,
    values,
)
from benchmarks.figures import Figure, markdown, save, show

BENCHMARKS: dict[str, Callable[[float], list[Figure]]] = {
    "engine": engine.run,
    "copy": copy.run,
    "copy_out": copy_out.run,
    "insert": insert.run,
    "select": select.run,
    "latency": latency.run,
    "clients": clients.run,
    "memory": memory.run,
    "epochs": epochs.run,
    "cost": cost.run,
    "feeds": feeds.run,
    "formats": formats.run,
    "kafka": kafka.run,
    "nexmark": nexmark.run,
    "postgres": postgres.run,
    "running": running.run,
    "hopping": hopping.run,
    "shared": shared.run,
    "state": state.run,
    "values": values.run,
}


def main() -> int:
    """Run what is named, or everything; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows and seconds (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("--markdown", action="store_true", help="print the table as in README.md")
    given = parser.parse_args()
    unknown = [n for n in given.names if n not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    # engines that run in this process tell of what goes wrong alone
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures: list[Figure] = []
    for name in given.names or BENCHMARKS:
        figures += BENCHMARKS[name](given.scale)
    print()
    if given.markdown:
        print(markdown(figures))
    else:
        show(figures)
    if given.json is not None:
        save(figures, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
