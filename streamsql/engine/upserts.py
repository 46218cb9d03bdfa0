"""INSERT ... ON CONFLICT on a table. Runs on the engine's thread, but for what `server.written` uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from streamsql.base.errors import CardinalityViolation
from streamsql.catalog.objects import Table, quoted
from streamsql.engine.epoch import Engine
from streamsql.engine.table_changes import refuse_if_append_mode, refuse_if_filled
from streamsql.plan.upsert import Conflict


def upsert(engine: Engine, table: Table, rows: pa.Table, conflict: Conflict) -> int:
    """Run an INSERT with an ON CONFLICT clause; gives how many rows were written. Refused as `change_table` is."""
    refuse_if_filled(engine.catalog, [table.name])
    refuse_if_append_mode(engine.queries.values(), table)
    if not rows.num_rows:
        return 0
    engine.store.register("__given", rows)
    check_once(conflict, engine.store.fetch)
    more = {
        "__seq": f"{engine.next_sequence} - 1 + row_number() OVER ()",
        "__arrived_at": f"make_timestamp({engine.clock.now_us()})",
    }
    return engine.change_table(table, upsert_sql(table, conflict, table.rows_table, more), rows.num_rows)


def check_once(conflict: Conflict, fetch: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """Raise CardinalityViolation where two of the rows in ``__given`` that ON CONFLICT is to update with have one key."""
    if not conflict.updates or conflict.key is None:
        return
    key = ", ".join(map(quoted, conflict.key))
    if fetch(f"SELECT 1 FROM __given GROUP BY {key} HAVING count(*) > 1 LIMIT 1"):
        raise CardinalityViolation(
            "ON CONFLICT DO UPDATE command cannot affect row a second time",
            hint="ensure that no rows proposed for insertion within the same command have duplicate constrained values",
        )


def upsert_sql(table: Table, conflict: Conflict, target: str, more: Mapping[str, str]) -> str:
    """Give the INSERT of the rows in ``__given`` into `target`, which has the table's columns and `more` besides."""
    names = [quoted(c.name) for c in table.columns]
    return (
        f"INSERT INTO {target} AS {quoted(table.bare)} ({', '.join([*names, *more])}) "
        f"SELECT {', '.join([*names, *more.values()])} FROM __given {conflict.sql}"
    )
