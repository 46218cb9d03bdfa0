"""What changes sinks: CREATE, DROP, ALTER, and deliveries. Each runs on the engine's thread and is one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamsql.base.errors import FeatureNotSupported, StreamSQLError
from streamsql.base.faults import reached
from streamsql.catalog.access import OWNER
from streamsql.catalog.objects import Sink, View
from streamsql.engine import outbox, recovery
from streamsql.engine.definitions import set_access
from streamsql.engine.epoch import Engine
from streamsql.engine.outbox import SinkProgress
from streamsql.plan.result_key import grouped_columns
from streamsql.sql.flow_statements import AlterFlow, CreateSink, FlowAction
from streamsql.sql.statements import CreateMaterializedView


def key_of(engine: Engine, view: View) -> tuple[str, ...]:
    """Name the columns of a view by which it groups, a bound of its windows among them; () where it does not show them all."""
    plan = engine.queries[view.name].plan
    grouping = plan.grouping
    if plan.recomputed is not None:
        made = recovery.defined(view.text, view.name, view.names, engine.limits, engine.catalog)
        assert isinstance(made, CreateMaterializedView)
        return grouped_columns(made.query)
    if grouping is None or grouping.sets:
        return ()
    wanted = [{f"k{i}"} for i in range(len(grouping.keys))]
    if grouping.window is not None:
        wanted.insert(0, {"MAKE_TIMESTAMP(w)", "MAKE_TIMESTAMP(e)"})
    found = [next((o.name for o in plan.outputs if o.sql in texts), None) for texts in wanted]
    return () if None in found else tuple(name for name in found if name is not None)


def create_sink(engine: Engine, statement: CreateSink, guarantee: str, *, snapshot: bool, owner: int = OWNER) -> bool:
    """CREATE SINK: its outbox begins with the view's rows, if wanted. False where it is there and IF NOT EXISTS was said."""
    if statement.if_not_exists and statement.name in engine.catalog.sinks:
        return False
    view = engine.catalog.view(statement.view, statement.view_position + 1)
    query = engine.queries[view.name]
    if query.progress.error is not None:
        raise StreamSQLError(
            f'materialized view "{view.name}" has stopped: {query.progress.error}', hint="drop and create it"
        )
    made = recovery.sink_of(statement, engine.next_id(), statement.text, guarantee)
    catalog = engine.catalog.with_sink(made)

    def make() -> None:
        rows = outbox.create(engine.store, made, query, engine.epoch, snapshot=snapshot)
        engine.catalog = catalog
        engine.sinks = {**engine.sinks, made.name: SinkProgress(delivered_epoch=engine.epoch - 1, rows_in=rows)}
        if owner != OWNER:
            set_access(engine, catalog.access.with_owner(made.id, owner))
        recovery.save_object(engine.store, made)

    _in_transaction(engine, make)
    reached("sink.created")
    return True


def drop(engine: Engine, names: tuple[str, ...], *, if_exists: bool) -> list[str]:
    """DROP SINK: gives the names that did not exist (IF EXISTS)."""
    missing = [name for name in names if if_exists and name not in engine.catalog.sinks]
    gone = [engine.catalog.sink(name) for name in dict.fromkeys(names) if name not in missing]

    def change() -> None:
        catalog, engine.sinks = outbox.remove(engine.store, engine.catalog, engine.sinks, gone)
        set_access(engine, catalog.access)
        engine.catalog = catalog

    if gone:
        _in_transaction(engine, change)
    return missing


def alter(engine: Engine, statement: AlterFlow) -> None:
    """ALTER SINK ... PAUSE | RESUME."""
    if statement.action is FlowAction.SKIP:
        raise FeatureNotSupported("a sink skips nothing", hint="RESUME tries again; DROP SINK gives up what waits")
    sink = engine.catalog.sink(statement.name, statement.name_position + 1)
    at = engine.sinks[sink.name]
    if statement.action is FlowAction.PAUSE:
        note(engine, sink, replace(at, paused=True))
    else:
        note(engine, sink, replace(at, paused=False, error=None, retrying=False))
    engine.flows.altered = True


def note(engine: Engine, sink: Sink, at: SinkProgress) -> None:
    """Say how a sink is doing."""

    def change() -> None:
        engine.sinks = {**engine.sinks, sink.name: at}

    _in_transaction(engine, change)


def delivered(engine: Engine, sink: Sink, epoch: int) -> None:
    """Let go of the changes up to an epoch: the other side has them for good. Nothing happens where the sink is gone."""
    if engine.catalog.sinks.get(sink.name) is not sink:
        return

    def change() -> None:
        reached("sink.delivered")
        at = engine.sinks[sink.name]
        count = outbox.let_go(engine.store, sink, epoch)
        made = replace(
            at, delivered_epoch=max(at.delivered_epoch, epoch), rows_delivered=at.rows_delivered + count,
            error=None, retrying=False,
        )  # fmt: skip
        engine.sinks = {**engine.sinks, sink.name: made}

    _in_transaction(engine, change)


def _in_transaction(engine: Engine, change: Callable[[], None]) -> None:
    """Run what changes the catalog's sinks or their progress, and save it; all as before where it fails."""
    catalog, sinks = engine.catalog, engine.sinks
    try:
        with engine.store.transaction():
            change()
            engine.save()
    except BaseException:
        engine.catalog, engine.sinks = catalog, sinks
        raise
    outbox.mark(engine.catalog, engine.queries)
