"""The command line: ``streamsql serve``.

What a person who starts the server did wrong is told in one line on stderr, with exit status 1. The one line on stdout says
that the server is ready; the log goes to stderr.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from typing import NoReturn

from streamsql import __version__
from streamsql.base.config import ConfigError, add_arguments, config_of

# What packages of ours load where it is installed, and a server has no use for: half of the time of a start.
HIDDEN = frozenset({"pandas", "rich"})


class _Hiding(MetaPathFinder):
    """Tells whoever asks for a hidden package that it is not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002  # its signature
        if fullname in HIDDEN:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def program() -> NoReturn:
    """Run the command of the process's own arguments, and end the process with its exit status.

    All is in order when `main` has returned. What Python does after that, once threads have ended and what was registered for
    the end has been called, is to take each object apart, which is two thirds of what a stop takes. The system does it at once.
    """
    returned: list[int] = []

    def leave() -> None:
        if returned:  # else an exception ends the program
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(returned[0])

    atexit.register(leave)  # before any other, so that it is called last
    returned.append(main())
    sys.exit(returned[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status."""
    parser = argparse.ArgumentParser(prog="streamsql", description="A streaming SQL server that speaks Postgres.")
    parser.add_argument("--version", action="version", version=f"streamsql {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("serve", help="start the server"))
    given = parser.parse_args(arguments)
    sys.meta_path.insert(0, _Hiding())
    try:
        config = config_of(given, os.environ)
        _configure_log(config.log_level)
        # not before: --version and --help need none of it
        with _lasting():
            from streamsql.server.running import serve

        try:
            return serve(config, lambda line: print(line, flush=True))
        finally:
            gc.collect()  # a task that nobody waited for tells of itself when it is collected
            gc.unfreeze()
    except ConfigError as error:
        print(f"streamsql: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _lasting() -> Iterator[None]:
    """Keep Python's collector of cycles from what is made here and lasts: to look through it again and again costs time."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _configure_log(level: str) -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


if __name__ == "__main__":
    program()
