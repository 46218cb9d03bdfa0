"""``SELECT pg_cancel_backend(pid) FROM pg_stat_activity ...``: a query that cancels what other sessions run, one a row.

The call stands in the list of a SELECT. DuckDB computes its argument in its place, and each row's session is cancelled as the
row is sent. A role may cancel what its own sessions run, a superuser what any runs. ``pg_terminate_backend(pid)`` ends them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, InsufficientPrivilege, UndefinedFunction
from streamsql.base.types import BOOL
from streamsql.plan.functions import function_name
from streamsql.server.context import Context
from streamsql.server.results import Batches, ResultColumn
from streamsql.sql.statements import Query
from streamsql.sql.trees import position_of

_TERMINATE = "pg_terminate_backend"
_CALLS = ("pg_cancel_backend", _TERMINATE)


@dataclass(frozen=True, slots=True)
class Cancels:
    """A query with the calls' arguments in their places: `places` tells which end the session."""

    query: Query
    places: dict[int, bool]

    def shown(self, columns: Sequence[ResultColumn]) -> list[ResultColumn]:
        """Give the client's columns: a call tells whether there is such a session."""
        return [ResultColumn(c.name, BOOL) if i in self.places else c for i, c in enumerate(columns)]


def cancels(statement: Query) -> Cancels | None:
    """Take the calls out of a query; None where there are none, which its text alone mostly tells."""
    if not any(name in statement.text.lower() for name in _CALLS):
        return None
    calls = [node for node in statement.tree.find_all(exp.Anonymous) if function_name(node, statement) in _CALLS]
    if not calls:
        return None
    tree = statement.tree.copy()
    places: dict[int, bool] = {}
    for index, item in enumerate(tree.expressions if isinstance(tree, exp.Select) else []):
        call = item.unalias()
        name = function_name(call, statement) if isinstance(call, exp.Anonymous) else None
        if name in _CALLS:
            if len(call.expressions) != 1:
                raise UndefinedFunction(f"function {name} takes a process id", position=position_of(call, statement))
            places[index] = name == _TERMINATE
            number = exp.cast(call.expressions[0].copy(), "int")
            tree.expressions[index].replace(exp.alias_(number, item.alias or name, quoted=True))
    if len(places) != len(calls) or tree.args.get("distinct"):
        name = function_name(calls[0], statement)
        raise FeatureNotSupported(
            f"{name} can only stand in the list of a SELECT",
            hint=f"SELECT {name}(pid) FROM pg_stat_activity WHERE ...",
            position=position_of(calls[0], statement),
        )
    return Cancels(replace(statement, tree=tree), places)


def canceller(context: Context) -> Callable[[int, bool], bool]:
    """Give what cancels or ends the session of a process id; it tells whether there is one. Raises InsufficientPrivilege."""

    def cancel(process_id: int, ends: bool) -> bool:
        other = context.known.cancellations.get(process_id)
        if other is None:
            return False
        role, cancellation = other
        if role != context.asker.role and not context.catalog.access.is_superuser(context.asker.role):
            what = "process is being terminated" if ends else "query is being canceled"
            raise InsufficientPrivilege(f"must be a member of the role whose {what}", hint="or ask a superuser")
        if not ends:
            cancellation.cancel()
        elif cancellation.end is not None:
            cancellation.end()
        return True

    return cancel


async def cancelling(batches: Batches, places: dict[int, bool], cancel: Callable[[int, bool], bool]) -> Batches:
    """Give the rows with what `cancel` says in these columns."""
    try:
        async for batch in batches:
            if batch is None:
                yield None
                continue
            columns = list(batch.columns)
            for place, ends in places.items():
                told = [None if pid is None else cancel(pid, ends) for pid in columns[place].to_pylist()]
                columns[place] = pa.array(told, pa.bool_())
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    finally:
        await batches.aclose()
