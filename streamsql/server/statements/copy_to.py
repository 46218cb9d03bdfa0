"""COPY relation | (query) TO STDOUT: the rows of a SELECT, live or not, or of SUBSCRIBE, in one of COPY's formats.

Unlike PostgreSQL this copies views by their names, too. A live query or a subscription is a COPY that ends when the client
cancels it, and what there is just now is sent at once.
"""

from __future__ import annotations

from streamsql.base.errors import UndefinedColumn
from streamsql.pgwire.copy_options import check_listed, copy_options
from streamsql.pgwire.copy_out import CopiedColumn, CopyEncoder
from streamsql.server.context import Context, Values
from streamsql.server.results import CopyOut
from streamsql.server.statements import query, subscribe
from streamsql.sql.names import parted
from streamsql.sql.statements import CopyTo, Query


async def execute(context: Context, statement: CopyTo, values: Values) -> CopyOut:
    options = copy_options(statement.options, to_client=True)
    source = statement.query
    if isinstance(source, Query):
        try:
            rows = await query.execute(context, source, values)
        except UndefinedColumn as error:
            if statement.name is not None:  # of this relation, then
                error.message = error.message.replace(
                    " does not", f' of relation "{parted(statement.name)[1]}" does not'
                )
            raise
    else:
        rows = await subscribe.execute(context, source, values)
    try:
        check_listed(options, [column.name for column in rows.columns])
    except BaseException:
        await rows.batches.aclose()
        if rows.release is not None:
            await rows.release()
        raise
    return CopyOut(rows, CopyEncoder([CopiedColumn(c.name, c.type) for c in rows.columns], options, context.zone))
