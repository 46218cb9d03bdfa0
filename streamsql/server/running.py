"""A server from its start to its end: the engine, what listens, what reads and delivers, and a stop in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from streamsql import __version__
from streamsql.base.clock import SystemClock
from streamsql.base.config import Config, ConfigError
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


def serve(config: Config, say: Callable[[str], None]) -> int:
    """Run a server until SIGTERM or SIGINT; gives the exit status. `say` is told where it listens.

    Raises ConfigError where it cannot be started as it is asked to.
    """
    began = time.monotonic()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        store = Store(config.data_directory, threads=config.threads, memory_limit=config.memory_limit)
        engine = Engine(store, config.limits, SystemClock())
    except DataDirectoryError as error:
        raise ConfigError(str(error)) from error
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
        status = _run(engine, config, say)
    finally:
        engine.stop()
    if status == 0:
        structlog.get_logger().info("stopped", epoch=engine.epoch)
    return status


def _run(engine: Engine, config: Config, say: Callable[[str], None]) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(engine, config, say))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(engine: Engine, config: Config, say: Callable[[str], None]) -> int:
    log = structlog.get_logger()
    set_password(engine, config.password)
    server = PostgresServer(engine, config)
    elsewhere = [config.host, *([config.http_host] if config.http_port is not None else [])]
    far = next((host for host in elsewhere if not _local(host)), None)
    if far is not None and _nobody_can_prove(engine, config):
        raise ConfigError(
            f"serving {far} needs a password for the first owner: set STREAMSQL_PASSWORD, or use --password-file; "
            "or listen on 127.0.0.1"
        )
    try:
        port = await server.start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {config.host}:{config.port}: {_reason(error)}") from error
    http, http_port = None, 0
    if config.http_port is not None:
        try:
            http = _http_server(server, config)
            http_port = await http.start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {config.http_host}:{config.http_port}: {_reason(error)}") from error
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
    say(f"listening on postgresql://{_shown(config.host)}:{port}/streamsql")
    if http is not None:
        scheme = "http" if config.tls_certificate is None else "https"
        say(f"listening on {scheme}://{_shown(config.http_host)}:{http_port}")
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
