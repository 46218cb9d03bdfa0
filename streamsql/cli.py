"""The command line: ``streamsql serve``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence

import structlog

from streamsql import __version__
from streamsql.base.clock import SystemClock
from streamsql.base.config import Config, ConfigError, add_arguments, config_of
from streamsql.engine.epoch import Engine
from streamsql.engine.store import DataDirectoryError, Store
from streamsql.server.postgres import PostgresServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status."""
    parser = argparse.ArgumentParser(prog="streamsql", description="A streaming SQL server that speaks Postgres.")
    parser.add_argument("--version", action="version", version=f"streamsql {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("serve", help="start the server"))
    given = parser.parse_args(arguments)
    try:
        config = config_of(given, os.environ)
    except ConfigError as error:
        return _refuse(str(error))
    _configure_log(config.log_level)
    return serve(config)


def serve(config: Config) -> int:
    """Run a server until SIGTERM or SIGINT; gives the exit status."""
    try:
        store = Store(config.data_directory, threads=config.threads, memory_limit=config.memory_limit)
        engine = Engine(store, config.limits, SystemClock())
    except DataDirectoryError as error:
        return _refuse(str(error))
    try:
        return _run(_serve(engine, config))
    finally:
        engine.stop()


def _run(main_task: "asyncio.coroutines.Coroutine[object, object, int]") -> int:  # type: ignore[name-defined]
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main_task)
    return uvloop.run(main_task)


async def _serve(engine: Engine, config: Config) -> int:
    server = PostgresServer(engine, config)
    try:
        port = await server.start()
    except OSError as error:
        return _refuse(f"cannot listen on {config.host}:{config.port}: {os.strerror(error.errno or 0).lower()}")
    engine.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host = f"[{config.host}]" if ":" in config.host else config.host
    print(f"listening on postgresql://{host}:{port}/streamsql", flush=True)
    await stop.wait()
    structlog.get_logger("server").info("stopping")
    await server.stop()
    return 0


def _refuse(message: str) -> int:
    print(f"streamsql: {message}", file=sys.stderr)
    return 1


def _configure_log(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "logger_name", "event"], drop_missing=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
