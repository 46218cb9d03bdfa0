"""Session windows without the engine: rows taken one by one, by the definition in docs/semantics.md alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import strategies as st

from tests.engine.oracle import Answer
from tests.engine.streams import AGGREGATES, SCHEMA, SECOND_US, Event, Select, table_of


class SessionSelect(Select):
    """A continuous query over sessions; `size` is the gap in microseconds."""

    __slots__ = ()

    def sql(self, stream: str) -> str:
        made = Select.sql(self, stream)
        return made.replace(f"window(ts, '{self.size} us')", f"session_window(ts, '{self.size} us')")


@st.composite
def session_selects(draw: st.DrawFn, modes: tuple[str, ...] = ("APPEND", "UPDATE", "COMPLETE")) -> SessionSelect:
    """Draw a query over sessions."""
    mode = draw(st.sampled_from(modes))
    gap = draw(st.integers(1, 12)) * SECOND_US
    delays = st.sampled_from([0, 1, SECOND_US, 4 * SECOND_US, 10 * SECOND_US])
    return SessionSelect(
        gap,
        gap,
        draw(delays if mode == "APPEND" else st.one_of(delays, st.none())),
        tuple(draw(st.lists(st.sampled_from(["k", "b", "x % 3", "y"]), max_size=2, unique=True))),
        tuple(draw(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=3, unique=True))),
        draw(st.one_of(st.none(), st.none(), st.sampled_from(["x > 0", "b"]))),
        draw(st.one_of(st.none(), st.none(), st.sampled_from(["count(*) > 1", "sum(x) > 0"]))),
        mode,
    )


@dataclass(slots=True)
class Session:
    """A session and the numbers of its rows."""

    start: int
    end: int
    rows: list[int] = field(default_factory=list)


def sessions_of(
    gap: int, delay: int | None, events: list[Event], keys: list[Any], wanted: list[bool]
) -> tuple[list[Session], list[int], int | None]:
    """Go through the rows as they arrive; give the sessions, the numbers of late rows, and the last watermark.

    `keys` are the rows' groups; rows that are not `wanted` only move the watermark.
    """
    found: list[tuple[Any, Session]] = []
    late: list[int] = []
    watermark: int | None = None
    for number, (event, key) in enumerate(zip(events, keys, strict=True)):
        if event.ts is None or (watermark is not None and event.ts + gap <= watermark):
            late += [number] if wanted[number] else []
        elif wanted[number]:
            new = Session(event.ts, event.ts + gap, [number])
            for other_key, session in list(found):
                is_open = watermark is None or session.end > watermark
                if other_key == key and is_open and session.start < event.ts + gap and event.ts < session.end:
                    new.start, new.end = min(new.start, session.start), max(new.end, session.end)
                    new.rows += session.rows
                    found.remove((other_key, session))
            found.append((key, new))
        if event.ts is not None and delay is not None and (watermark is None or event.ts - delay > watermark):
            watermark = event.ts - delay
    return [s for _, s in found], late, watermark


def answer(select: SessionSelect, events: list[Event]) -> Answer:
    """Let DuckDB aggregate the sessions' rows."""
    assert select.size is not None
    with duckdb.connect() as connection:
        connection.register("events", table_of(events).append_column("seq", pa.array(range(len(events)), pa.int64())))
        keys = "".join(f", ({key})::VARCHAR" for key in select.keys).replace("(y)", "(y + 0.0)")
        told = connection.execute(f"SELECT coalesce({select.where or 'true'}, false){keys} FROM events ORDER BY seq")
        rows = told.fetchall()
        sessions, late, watermark = sessions_of(
            select.size, select.delay, events, [row[1:] for row in rows], [row[0] for row in rows]
        )
        if select.mode == "APPEND":
            sessions = [s for s in sessions if watermark is not None and s.end <= watermark]
        members = [(i, s.start, s.end, row) for i, s in enumerate(sessions) for row in s.rows]
        names_of_members = ("sid", "starts", "ends", "row")  # none that a lambda's parameter has
        columns = {n: pa.array([m[i] for m in members], pa.int64()) for i, n in enumerate(names_of_members)}
        connection.register("members", pa.table(columns))
        names = ", ".join(f"events.{name}" for name in SCHEMA.names)
        items = ["make_timestamp(starts)", "make_timestamp(ends)", *select.keys, *(a.oracle for a in select.aggregates)]
        having = f" HAVING {select.having}" if select.having else ""
        result = connection.execute(
            f"SELECT {', '.join(items)} FROM (SELECT sid, starts, ends, seq, {names} FROM members JOIN events ON row = seq "
            f"ORDER BY seq) GROUP BY {', '.join(['sid', 'starts', 'ends', *select.keys])}{having}"
        ).fetchall()
    return Answer([tuple(row) for row in result], late)
