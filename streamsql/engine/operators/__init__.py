"""The operators: one file each. `for_plan` picks the one that keeps a plan up to date."""

from __future__ import annotations

from streamsql.engine.operators.base import Operator, Tables
from streamsql.engine.operators.group_aggregate import GroupAggregate
from streamsql.engine.operators.hopping_window import HoppingAppend, HoppingUpdate
from streamsql.engine.operators.linear import Linear
from streamsql.engine.operators.session_window import SessionAppend, SessionUpdate
from streamsql.engine.operators.tumbling_window import TumblingAppend, TumblingUpdate
from streamsql.engine.store import Store
from streamsql.plan.nodes import ContinuousPlan
from streamsql.sql.statements import EmitMode

__all__ = ["Operator", "Tables", "for_plan"]


def for_plan(plan: ContinuousPlan, store: Store, tables: Tables) -> Operator:
    """Make the operator that keeps this plan up to date."""
    if plan.grouping is None:
        return Linear(plan, store, tables)
    if plan.window is None:
        return GroupAggregate(plan, store, tables)
    append = plan.mode is EmitMode.APPEND
    if plan.window.session:
        return SessionAppend(plan, store, tables) if append else SessionUpdate(plan, store, tables)
    if plan.window.tumbling:
        return TumblingAppend(plan, store, tables) if append else TumblingUpdate(plan, store, tables)
    return HoppingAppend(plan, store, tables) if append else HoppingUpdate(plan, store, tables)
