"""The command line: ``streamsql serve``.

What a person who starts the server did wrong is told in one line on stderr, with exit status 1. The one line on stdout says
that the server is ready; the log goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from streamsql import __version__
from streamsql.base.clock import SystemClock
from streamsql.base.config import Config, ConfigError, add_arguments, config_of
from streamsql.catalog.objects import Stream, Table, View
from streamsql.connectors.asking import Askers
from streamsql.connectors.delivering import Deliverers
from streamsql.connectors.readers import SourceReaders
from streamsql.engine.epoch import Engine
from streamsql.engine.store import DataDirectoryError, Store
from streamsql.pgwire.rules import Method, is_loopback
from streamsql.server.first_owner import set_password
from streamsql.server.login import auth_rules
from streamsql.server.postgres import PostgresServer

if TYPE_CHECKING:
    from streamsql.server.http.app import HttpServer

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# How long one thread may keep Python's lock while another waits for it. The default, 5 ms, is longer than a small epoch.
SWITCH_INTERVAL_S = 0.0005


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
    began = time.monotonic()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        store = Store(config.data_directory, threads=config.threads, memory_limit=config.memory_limit)
        engine = Engine(store, config.limits, SystemClock())
    except DataDirectoryError as error:
        return _refuse(str(error))
    structlog.get_logger().info(
        "recovered",
        data_directory=str(config.data_directory or "in memory"),
        epoch=engine.epoch,
        streams=sum(isinstance(o, Stream) for o in engine.catalog),
        tables=sum(isinstance(o, Table) for o in engine.catalog),
        views=sum(isinstance(o, View) for o in engine.catalog),
        seconds=round(time.monotonic() - began, 3),
    )
    try:
        status = _run(engine, config)
    finally:
        engine.stop()
    if status == 0:
        structlog.get_logger().info("stopped", epoch=engine.epoch)
    return status


def _run(engine: Engine, config: Config) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(engine, config))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(engine: Engine, config: Config) -> int:
    log = structlog.get_logger()
    try:
        set_password(engine, config.password)
        server = PostgresServer(engine, config)
    except ConfigError as error:
        return _refuse(str(error))
    elsewhere = [config.host, *([config.http_host] if config.http_port is not None else [])]
    far = next((host for host in elsewhere if not _local(host)), None)
    if far is not None and _nobody_can_prove(engine, config):
        return _refuse(
            f"serving {far} needs a password for the first owner: set STREAMSQL_PASSWORD, or use --password-file; "
            "or listen on 127.0.0.1"
        )
    try:
        port = await server.start()
    except OSError as error:
        return _refuse(f"cannot listen on {config.host}:{config.port}: {_reason(error)}")
    http, http_port = None, 0
    if config.http_port is not None:
        try:
            http = _http_server(server, config)
            http_port = await http.start()
        except ConfigError as error:
            return _refuse(str(error))
        except OSError as error:
            return _refuse(f"cannot listen on {config.http_host}:{config.http_port}: {_reason(error)}")
    engine.allowed_paths, engine.allowed_urls = config.allowed_paths, config.allowed_urls
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        loop.call_soon_threadsafe(stop.set)

    engine.on_broken = end
    askers = Askers(engine, config.allowed_paths, config.allowed_urls)
    askers.start()
    engine.start()
    readers = SourceReaders(engine, config.allowed_paths, config.allowed_urls)
    readers.start()
    deliverers = Deliverers(engine, config.allowed_paths, config.allowed_urls)
    deliverers.start()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, server.reload)
    print(f"listening on postgresql://{_shown(config.host)}:{port}/streamsql", flush=True)
    if http is not None:
        scheme = "http" if config.tls_certificate is None else "https"
        print(f"listening on {scheme}://{_shown(config.http_host)}:{http_port}", flush=True)
    log.info("listening", host=config.host, port=port, version=__version__)
    if not _local(config.host) and config.tls_certificate is None:
        log.warning("connections are not encrypted: use --tls-cert and --tls-key", host=config.host)
    await stop.wait()
    log.info("stopping")
    await asyncio.to_thread(askers.stop)
    await asyncio.to_thread(readers.stop)
    await asyncio.to_thread(deliverers.stop)
    if http is not None:
        await http.stop()
    await server.stop()
    return 0 if engine.broken is None else 1


def _nobody_can_prove(engine: Engine, config: Config) -> bool:
    """Tell whether no client of another machine could log in: nobody has a password, and no rule believes a certificate."""
    passwords = any(role.login and role.verifier for role in engine.catalog.access.roles.values())
    return not passwords and all(rule.method is not Method.CERT for rule in auth_rules(config))


def _http_server(server: PostgresServer, config: Config) -> HttpServer:
    """Make the HTTP listener. Raises ConfigError."""
    try:
        from streamsql.server.http.app import HttpServer
    except ImportError as error:
        raise ConfigError(
            f"HTTP needs more packages ({error.name} is missing): pip install 'streamsql[http]'"
        ) from None
    return HttpServer(server, config)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _local(host: str) -> bool:
    try:
        return host == "localhost" or is_loopback(host)
    except ValueError:
        return False


def _reason(error: OSError) -> str:
    """Say what is wrong in one line: uvloop's own messages repeat the address."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()


def _refuse(message: str) -> int:
    print(f"streamsql: {message}", file=sys.stderr)
    return 1


def _configure_log(level: str) -> None:
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
    sys.exit(main())
