"""Replay a month of flights through a streamsql server and watch windows close.

    python replay.py                    # starts a server of its own, and stops it at the end
    python replay.py --dsn postgresql://127.0.0.1:5433/streamsql

Everything goes over the Postgres wire, with asyncpg, as any client would do it: the stream and the views are declared,
one connection follows a continuous query, another one sends the flights with COPY in the order in which the planes left,
and asks an ad-hoc question on the way. Event time is the *scheduled* departure, so a flight that left three hours late is
three hours out of order.

At the end the server's counts are held against those made from the file alone (`flights_data.late_rows`). Exit status 0
means that they agree.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import io
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

import flights_data

STREAM = """\
CREATE STREAM flights (
    scheduled TIMESTAMP, departed TIMESTAMP, carrier TEXT, flight INT, origin TEXT, dest TEXT,
    dep_delay DOUBLE PRECISION, arr_delay DOUBLE PRECISION, distance INT,
    WATERMARK FOR scheduled AS scheduled - INTERVAL '1 hour'
) WITH (retention = '400 days')"""

VIEW = """\
CREATE MATERIALIZED VIEW {name} AS
SELECT window_start, carrier, origin, count(*) AS flights, avg(dep_delay) AS mean_delay, max(dep_delay) AS worst
FROM flights GROUP BY window(scheduled, '1h'), carrier, origin
WITH WATERMARK '{delay}' EMIT APPEND"""

LIVE = """\
SELECT window_start, carrier, origin, count(*) AS flights, avg(dep_delay) AS mean_delay, max(dep_delay) AS worst
FROM flights GROUP BY window(scheduled, '1h'), carrier, origin
WITH WATERMARK '1 hour' EMIT APPEND"""

AD_HOC = """\
SELECT origin || '-' || dest AS route, count(*) AS flights, avg(dep_delay) AS mean_delay
FROM flights GROUP BY origin, dest HAVING count(*) >= 50
ORDER BY mean_delay DESC LIMIT 5"""

COUNTS = "SELECT name, rows_in, rows_out, rows_late FROM streamsql.views"

# The views: name, watermark delay as written in SQL, and in seconds.
VIEWS = (("delay_10m", "10 minutes", 600), ("delay_1h", "1 hour", 3_600), ("delay_3h", "3 hours", 10_800))

READY = "listening on "
START_WAIT_S = 30
STOP_WAIT_S = 20
TICK_S = 0.04  # between two COPYs of a paced replay
HOUR_FLIGHTS_MIN = 3  # an hour with fewer flights is not worth a line: its mean is one plane's bad luck
LIVE_PREFETCH_ROWS = 20  # asyncpg shows rows when it has so many: less than one simulated hour brings


class DemoError(Exception):
    """What ends the demo with one line and exit status 1."""


# ------------------------------------------------------------------------------------------------------- what is shown


@dataclass(frozen=True, slots=True)
class ClosedHour:
    """A row of the live query: one carrier at one airport in one hour, final."""

    window_start: datetime.datetime
    carrier: str
    origin: str
    flights: int
    mean_delay: float
    worst: float

    def line(self) -> str:
        return (
            f"{self.window_start:%a %d %b  %H:%M}  {self.origin}  {self.carrier}  {self.flights:>3} flights"
            f"  mean delay {self.mean_delay:>4.0f} min  worst {self.worst:>5.0f} min"
        )


@dataclass(slots=True)
class WorstOfDay:
    """Picks from the live rows the worst hour of each day.

    Within an epoch rows come in no order, and an epoch may hold the hours of two days; so a day is told when a row of the
    day after the next arrives, or at the end.
    """

    rows: int = 0
    _worst: dict[datetime.date, ClosedHour] = field(default_factory=dict)

    def add(self, hour: ClosedHour) -> list[ClosedHour]:
        """Take a row; give the days that are thereby complete, in order."""
        self.rows += 1
        day = hour.window_start.date()
        if hour.flights >= HOUR_FLIGHTS_MIN:
            known = self._worst.get(day)
            if known is None or hour.mean_delay > known.mean_delay:
                self._worst[day] = hour
        return self._take(day - datetime.timedelta(days=2))

    def finish(self) -> list[ClosedHour]:
        """Give the days that are left."""
        return self._take(datetime.date.max)

    def _take(self, last: datetime.date) -> list[ClosedHour]:
        return [self._worst.pop(day) for day in sorted(self._worst) if day <= last]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a watermark's delay costs: rows late, as the server counted them and as the file says."""

    delay: str
    rows_in: int
    rows_late: int
    rows_out: int
    rows_late_expected: int
    rows_out_expected: int

    @property
    def agrees(self) -> bool:
        return (self.rows_late, self.rows_out) == (self.rows_late_expected, self.rows_out_expected)


def costs(counts: Iterable[Sequence[Any]], flights: pa.Table) -> list[Cost]:
    """Join the server's (name, rows_in, rows_out, rows_late) of each view with the counts made from the file."""
    by_name = {row[0]: row for row in counts}
    event_s = flights_data.seconds(flights, "scheduled")
    result = []
    for name, delay, delay_s in VIEWS:
        if name not in by_name:
            raise DemoError(f"streamsql.views has no row for {name}")
        _, rows_in, rows_out, rows_late = by_name[name]
        expected_late = int(flights_data.late_rows(event_s, delay_s).sum())
        expected_out = flights_data.closed_groups(flights, delay_s)
        result.append(Cost(delay, rows_in, rows_late, rows_out, expected_late, expected_out))
    return result


def costs_table(rows: Sequence[Cost], total: int) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title=f"What the watermark's delay costs, of {total:,} flights", title_justify="left"
    )
    for heading in ("watermark delay", "rows late", "share", "results", "as the file says"):
        table.add_column(heading, justify="left" if heading == "watermark delay" else "right")
    for cost in rows:
        verdict = "yes" if cost.agrees else f"no: {cost.rows_late_expected:,} late, {cost.rows_out_expected:,} results"
        share = f"{cost.rows_late / total:.1%}"
        table.add_row(cost.delay, f"{cost.rows_late:,}", share, f"{cost.rows_out:,}", verdict)
    return table


def routes_table(rows: Iterable[Sequence[Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("route")
    table.add_column("flights so far", justify="right")
    table.add_column("mean delay, min", justify="right")
    for route, flights, mean_delay in rows:
        table.add_row(route, f"{flights:,}", f"{mean_delay:.1f}")
    return table


def how_to_go_on(dsn: str, data_dir: Path | None) -> str:
    """Say how to look further: at the server that still runs, or by starting one on the data that is kept."""
    if data_dir is None:
        start, address = "", dsn
    else:
        command = (shutil.which("streamsql") and "streamsql") or os.path.relpath(server_command())
        start = f"  {command} serve --data-dir {shlex.quote(str(data_dir))}\n"
        address = "postgresql://127.0.0.1:5433/streamsql"
    return (
        f"To go on with psql{', on the data that the demo leaves' if start else ''}:\n\n{start}  psql {address}\n\n"
        "  SELECT * FROM delay_3h ORDER BY mean_delay DESC LIMIT 10;\n"
        "  SELECT * FROM streamsql.late_rows LIMIT 10;\n"
        "  SELECT * FROM streamsql.views;\n"
    )


# -------------------------------------------------------------------------------------------------------- what is done


def server_command() -> str:
    """Find the streamsql program: beside this Python, else on the path."""
    found = shutil.which("streamsql", path=str(Path(sys.executable).parent)) or shutil.which("streamsql")
    if found is None:
        raise DemoError("the program streamsql is not installed: pip install -e '.[demo]', or make demo")
    return found


@contextlib.asynccontextmanager
async def own_server(data_dir: Path) -> AsyncIterator[str]:
    """Run a server on a free port; give its address; stop it with SIGTERM, which it must obey with status 0."""
    log = data_dir.with_name(data_dir.name + ".log")
    with log.open("wb") as stderr:
        server = await asyncio.create_subprocess_exec(
            server_command(), "serve", "--port", "0", "--data-dir", str(data_dir),
            stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    try:
        yield await _address(server, log)
    finally:
        if server.returncode is None:
            server.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(server.wait(), STOP_WAIT_S)
        except TimeoutError:
            server.kill()
            await server.wait()
    if server.returncode != 0:
        raise DemoError(f"the server ended with status {server.returncode}; its log is {log}")
    log.unlink()


async def _address(server: asyncio.subprocess.Process, log: Path) -> str:
    assert server.stdout is not None
    try:
        line = (await asyncio.wait_for(server.stdout.readline(), START_WAIT_S)).decode().strip()
    except TimeoutError:
        line = ""
    if not line.startswith(READY):
        last = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise DemoError("\n".join(["the server did not start", *last]))
    return line.removeprefix(READY)


async def send(connection: asyncpg.Connection[Any], rows: pa.Table) -> None:
    """COPY rows into the stream. Returns when the server has committed them with all their effects."""
    await connection.copy_to_table(
        "flights", source=io.BytesIO(flights_data.csv_of(rows)), columns=rows.column_names, format="csv"
    )


async def follow(connection: asyncpg.Connection[Any], console: Console, days: WorstOfDay) -> None:
    """Print the worst hour of each day while the continuous query brings rows. Ends only by being cancelled."""
    async with connection.transaction():  # asyncpg wants one around a cursor
        async for row in connection.cursor(LIVE, prefetch=LIVE_PREFETCH_ROWS):
            for hour in days.add(ClosedHour(*row)):
                console.print(hour.line(), highlight=False)


async def pieces(cutter: flights_data.Cutter, seconds: float) -> AsyncIterator[pa.Table]:
    """Cut the flights so that the whole takes so many seconds; a day at a time without any wait for 0.

    A piece holds what has left by now on the simulated clock: a server that is slower gets larger pieces, not a backlog.
    """
    if seconds <= 0:
        for piece in cutter.by_day():
            yield piece
        return
    began = time.monotonic()
    while (share := (time.monotonic() - began) / seconds) < 1:
        yield cutter.up_to(cutter.start_s + share * (cutter.end_s - cutter.start_s))
        await asyncio.sleep(TICK_S)
    yield cutter.up_to(cutter.end_s)


async def replay(connection: asyncpg.Connection[Any], console: Console, flights: pa.Table, seconds: float) -> float:
    """Send all flights, with the ad-hoc question half-way; give the seconds it took."""
    bar = Progress(
        TextColumn("{task.fields[day]}"), BarColumn(bar_width=30), TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} flights"), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    began, sent, asked = time.monotonic(), 0, False
    with bar:
        task = bar.add_task("", total=flights.num_rows, day="")
        async for piece in pieces(flights_data.Cutter(flights), seconds):
            if piece.num_rows == 0:
                continue
            await send(connection, piece)
            sent += piece.num_rows
            bar.update(task, completed=sent, day=f"{piece['departed'][-1].as_py():%a %d %b %Y %H:%M}")
            if not asked and 2 * sent >= flights.num_rows:
                asked = True
                console.print(f"\n[bold]Asked in between, on the live stream ({sent:,} flights so far):[/bold]")
                console.print(routes_table([tuple(row) for row in await connection.fetch(AD_HOC)]))
    return time.monotonic() - began


async def show(dsn: str, console: Console, seconds: float) -> bool:
    """Do everything that goes over the wire; say whether the server's counts agree with the file's."""
    flights = flights_data.read()
    sender, watcher = [await asyncpg.connect(dsn, user="demo") for _ in range(2)]
    try:
        await sender.execute(STREAM)
        for name, delay, _ in VIEWS:
            await sender.execute(VIEW.format(name=name, delay=delay))
        console.print(f"[bold]{dsn}[/bold]: a stream, three views, and this query:")
        console.print(f"\n{LIVE}\n", style="cyan", highlight=False, soft_wrap=True)
        console.print("[bold]The worst hour of each day, told when no flight of it can come any more:[/bold]")
        days = WorstOfDay()
        watching = asyncio.create_task(follow(watcher, console, days))
        try:
            took_s = await replay(sender, console, flights, seconds)
        finally:
            await _cancel(watching)
        for hour in days.finish():
            console.print(hour.line(), highlight=False)
        total = flights.num_rows
        console.print(f"\n{total:,} flights in {took_s:.1f} s; {days.rows:,} results came while they were sent.\n")
        rows = costs([tuple(row) for row in await sender.fetch(COUNTS)], flights)
        console.print(costs_table(rows, total))
        return all(cost.agrees for cost in rows)
    finally:
        await asyncio.gather(sender.close(timeout=STOP_WAIT_S), watcher.close(timeout=STOP_WAIT_S))


async def _cancel(watching: asyncio.Task[None]) -> None:
    """Cancel the continuous query, as Ctrl-C in psql would; what broke it earlier is raised."""
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError, asyncpg.QueryCanceledError):
        await watching


async def run(options: argparse.Namespace, console: Console) -> bool:
    seconds = 0.0 if options.fast else options.seconds
    if options.dsn is not None:
        agrees = await show(options.dsn, console, seconds)
        console.print(how_to_go_on(options.dsn, None), highlight=False, soft_wrap=True)
        return agrees
    data_dir = (options.data_dir or Path(tempfile.mkdtemp(prefix="streamsql-flights-"))).resolve()
    async with own_server(data_dir) as dsn:
        agrees = await show(dsn, console, seconds)
    console.print(how_to_go_on(dsn, data_dir), highlight=False, soft_wrap=True)
    return agrees


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dsn", help="a running server (default: start one, and stop it at the end)")
    parser.add_argument(
        "--data-dir", type=Path, help="where the demo's own server keeps its data (default: a new folder)"
    )
    parser.add_argument("--seconds", type=float, default=25.0, help="how long the replay takes (default: 25)")
    parser.add_argument("--fast", action="store_true", help="replay as fast as the server takes it")
    console = Console(highlight=False)
    try:
        agrees = asyncio.run(run(parser.parse_args(arguments), console))
    except (DemoError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not agrees:
        print("replay: the server's counts differ from those made from the file", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
