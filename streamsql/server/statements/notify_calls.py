"""``SELECT pg_notify(channel, payload)``: a query that tells listeners, a notification a row; and pg_listening_channels().

The calls may stand in the list of a SELECT. DuckDB computes their arguments as columns behind those that the client sees, and
each row's notifications join the transaction as the row is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, SQLSyntaxError, UndefinedFunction
from streamsql.base.types import VOID
from streamsql.plan.functions import function_name
from streamsql.server.notifications import Notification, checked
from streamsql.server.results import Batches, ResultColumn
from streamsql.sql.statements import Query
from streamsql.sql.trees import position_of

_NOTIFY, _CHANNELS = "pg_notify", "pg_listening_channels"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A query without the calls: `query` gives what they are told by, in pairs of columns behind the client's own."""

    query: Query
    calls: tuple[int, ...] = ()  # which of the client's columns they are

    def shown(self, columns: Sequence[ResultColumn]) -> list[ResultColumn]:
        """Give the client's columns: the calls give nothing, which is a type of its own."""
        shown = columns[: len(columns) - 2 * len(self.calls)]
        return [ResultColumn(c.name, VOID) if i in self.calls else c for i, c in enumerate(shown)]


def rewritten(statement: Query) -> Rewritten | None:
    """Take the calls out of a query; None where there are none, which its text alone mostly tells."""
    text = statement.text.lower()
    if _NOTIFY not in text and _CHANNELS not in text:
        return None
    tree = statement.tree
    calls = [node for node in tree.find_all(exp.Anonymous) if function_name(node, statement) == _NOTIFY]
    if not calls:
        return _of_channels(statement)
    made = tree.copy()
    told: list[exp.Expr] = []
    shown: list[exp.Expr] = []
    places: list[int] = []
    for item in made.expressions if isinstance(made, exp.Select) else []:
        call = item.unalias()
        if not isinstance(call, exp.Anonymous) or function_name(call, statement) != _NOTIFY:
            shown.append(item)
            continue
        if len(call.expressions) != 2:
            raise UndefinedFunction(
                "function pg_notify takes a channel and a payload", position=position_of(call, statement)
            )
        places.append(len(shown))
        told += [exp.cast(argument.copy(), "text") for argument in call.expressions]
        empty = exp.cast(exp.Literal.string(""), "text")
        shown.append(exp.alias_(empty, item.alias or _NOTIFY, quoted=True))
    if len(told) != 2 * len(calls) or made.args.get("distinct"):
        raise FeatureNotSupported(
            "pg_notify can only stand in the list of a SELECT", hint="SELECT pg_notify(channel, payload) FROM ...",
            position=position_of(calls[0], statement),
        )  # fmt: skip
    made.set("expressions", [*shown, *(exp.alias_(t, f"__told_{i}", quoted=True) for i, t in enumerate(told))])
    return Rewritten(replace(statement, tree=made), tuple(places))


def _of_channels(statement: Query) -> Rewritten | None:
    """Read ``SELECT pg_listening_channels()`` from the function, since it gives rows."""
    tree = statement.tree
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or tree.args.get("from_") is not None:
        return None
    call = tree.expressions[0].unalias()
    if not isinstance(call, exp.Anonymous) or function_name(call, statement) != _CHANNELS:
        return None
    if call.expressions:
        raise SQLSyntaxError("pg_listening_channels takes no arguments", position=position_of(call, statement))
    made = tree.copy()
    made.set("expressions", [exp.alias_(exp.column(_CHANNELS), tree.expressions[0].alias or _CHANNELS, quoted=True)])
    made.set("from_", exp.From(this=exp.Table(this=call.copy())))
    return Rewritten(replace(statement, tree=made))


async def telling(batches: Batches, calls: int, process_id: int, act: Callable[[Notification], None]) -> Batches:
    """Give the client's columns of the rows; `act` gets what each row tells."""
    try:
        async for batch in batches:
            if batch is None:
                yield None
                continue
            width = batch.num_columns - 2 * calls
            for row in zip(*(column.to_pylist() for column in batch.columns[width:]), strict=True):
                for channel, payload in zip(row[0::2], row[1::2], strict=True):
                    act(checked(channel or "", payload or "", process_id))
            yield pa.RecordBatch.from_arrays(batch.columns[:width], names=batch.schema.names[:width])
    finally:
        await batches.aclose()
