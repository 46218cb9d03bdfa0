"""CREATE EXTENSION, which migrations and ORMs send before anything else: of what is there, a notice says so."""

from __future__ import annotations

from streamsql.base.errors import FeatureNotSupported, UndefinedObject
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.sql.extensions import CreateExtension, DropExtension

# the functions of each that are part of the server
_THERE = {
    "pgcrypto": "gen_random_uuid() is",
    "plpgsql": "DO blocks are",
    "uuid-ossp": "uuid_generate_v4() and uuid_nil() are",
}


async def create(context: Context, statement: CreateExtension, values: Values) -> Done:
    """Raises FeatureNotSupported for what is not part of the server."""
    there = _THERE.get(statement.name)
    if there is None:
        raise FeatureNotSupported(
            f'extension "{statement.name}" is not available',
            hint="the server's files and extensions cannot be reached by SQL",
            position=statement.name_position + 1,
        )
    return Done("CREATE EXTENSION", [notice(f'of extension "{statement.name}", {there} part of the server')])


async def drop(context: Context, statement: DropExtension, values: Values) -> Done:
    """Raises UndefinedObject: none has been added."""
    if not statement.if_exists:
        raise UndefinedObject(f'extension "{statement.names[0]}" does not exist')
    return Done("DROP EXTENSION", [notice(f'extension "{name}" does not exist, skipping') for name in statement.names])
