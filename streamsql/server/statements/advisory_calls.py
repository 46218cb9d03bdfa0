"""``SELECT pg_advisory_lock(key)`` and its kin: a query that takes or releases locks, one a row.

The calls stand in the list of a SELECT. DuckDB computes the keys in their places, and each lock is taken as its row is sent,
which waits for it. See https://www.postgresql.org/docs/15/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from streamsql.base.errors import FeatureNotSupported, UndefinedFunction
from streamsql.base.types import BOOL, VOID
from streamsql.plan.functions import function_name
from streamsql.server.advisory import Wanted
from streamsql.server.context import Context
from streamsql.server.results import Batches, ResultColumn
from streamsql.sql.statements import Query
from streamsql.sql.trees import position_of

_ALL = "pg_advisory_unlock_all"


@dataclass(frozen=True, slots=True)
class Call:
    """What a function does: takes a lock, waiting for it or not, or releases one."""

    takes: bool = True
    waits: bool = False
    shared: bool = False
    transaction: bool = False


CALLS = {
    f"pg_{'' if waits else 'try_'}advisory_{'xact_' if of_transaction else ''}lock{'_shared' if shared else ''}": Call(
        waits=waits, shared=shared, transaction=of_transaction
    )
    for waits in (True, False) for of_transaction in (True, False) for shared in (True, False)
} | {
    "pg_advisory_unlock": Call(takes=False), "pg_advisory_unlock_shared": Call(takes=False, shared=True),
    _ALL: Call(takes=False, waits=True),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Locks:
    """A query with the locks' keys, as text, in the places of the calls."""

    query: Query
    places: dict[int, Call]

    def shown(self, columns: Sequence[ResultColumn]) -> list[ResultColumn]:
        """Give the client's columns: whether a lock was taken or released, or nothing, which is a type of its own."""
        return [
            ResultColumn(c.name, VOID if self.places[i].waits else BOOL) if i in self.places else c
            for i, c in enumerate(columns)
        ]


def locks(statement: Query) -> Locks | None:
    """Take the calls out of a query; None where there are none, which its text alone mostly tells."""
    if "advisory_" not in statement.text.lower():
        return None
    calls = [node for node in statement.tree.find_all(exp.Anonymous) if function_name(node, statement) in CALLS]
    if not calls:
        return None
    tree = statement.tree.copy()
    places: dict[int, Call] = {}
    for index, item in enumerate(tree.expressions if isinstance(tree, exp.Select) else []):
        node = item.unalias()
        name = function_name(node, statement) if isinstance(node, exp.Anonymous) else None
        if name in CALLS:
            places[index] = CALLS[name]
            tree.expressions[index].replace(exp.alias_(_key(node, name, statement), item.alias or name, quoted=True))
    if len(places) != len(calls) or tree.args.get("distinct"):
        name = function_name(calls[0], statement)
        raise FeatureNotSupported(
            f"{name} can only stand in the list of a SELECT",
            hint=f"SELECT {name}(...)",
            position=position_of(calls[0], statement),
        )
    return Locks(replace(statement, tree=tree), places)


def _key(call: exp.Anonymous, name: str, statement: Query) -> exp.Expr:
    """Write a key as text: one number of 64 bits, or two of 32, which are never the same."""
    arguments = [argument.copy() for argument in call.expressions]
    if name == _ALL and not arguments:
        return exp.cast(exp.Literal.string(""), "text")
    if name != _ALL and len(arguments) == 1:
        return exp.cast(exp.cast(arguments[0], "bigint"), "text")
    if name != _ALL and len(arguments) == 2:
        one, two = (exp.cast(exp.cast(argument, "int"), "text") for argument in arguments)
        comma = exp.Literal.string(",")
        return exp.DPipe(this=exp.DPipe(this=one, expression=comma, safe=True), expression=two, safe=True)
    takes = "nothing" if name == _ALL else "a bigint, or two integers"
    raise UndefinedFunction(f"function {name} takes {takes}", position=position_of(call, statement))


async def locking(context: Context, batches: Batches, places: dict[int, Call]) -> Batches:
    """Give the rows with what became of the locks in these columns."""
    try:
        async for batch in batches:
            if batch is None:
                yield None
                continue
            told: dict[int, list[bool | str | None]] = {place: [] for place in places}
            keys = {place: batch.columns[place].to_pylist() for place in places}
            for row in range(batch.num_rows):
                for place, call in places.items():
                    key = keys[place][row]
                    told[place].append(None if key is None else await _do(context, call, key))
            columns = list(batch.columns)
            for place, call in places.items():
                columns[place] = pa.array(told[place], pa.string() if call.waits else pa.bool_())
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    finally:
        await batches.aclose()


async def _do(context: Context, call: Call, key: str) -> bool | str:
    """Do what a call says. Gives the empty text where it says nothing."""
    known, session = context.known.advisory, context.logged_in.process_id
    if not session:
        raise FeatureNotSupported("advisory locks need a session", hint="use a client of PostgreSQL, not HTTP")
    wanted = Wanted(key, session, call.shared, call.transaction)
    if call.takes and call.waits:
        await known.wait(wanted, context.cancel, context.variables.lock_seconds_max)
        return ""
    if call.takes:
        return known.take(wanted)
    if call.waits:
        known.release_all(session, transaction=False)
        return ""
    return known.release(wanted)
