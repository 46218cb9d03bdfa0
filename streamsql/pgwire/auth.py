"""Who may connect: for now anybody on this machine, by the name that they give ("trust").

Follows https://www.postgresql.org/docs/current/auth-trust.html. Other machines are refused until SCRAM is built.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamsql.base.errors import AuthorizationError, UndefinedDatabase

DATABASE_NAMES = ("streamsql", "postgres")


def authenticate(parameters: Mapping[str, str], peer_is_loopback: bool) -> str:
    """Give the user's name from the parameters of Startup.

    A missing database means `streamsql` (clients leave it out, and PostgreSQL would take the user's name).
    Raises, with severity FATAL, AuthorizationError or UndefinedDatabase.
    """
    user = parameters.get("user", "")
    if not user:
        raise AuthorizationError("no PostgreSQL user name specified in startup packet", severity="FATAL")
    if not peer_is_loopback:
        raise AuthorizationError(
            f'user "{user}" may not connect from another machine',
            hint="SCRAM authentication is not built yet; bind the server to a loopback address and connect from there",
            severity="FATAL",
        )
    database = parameters.get("database") or DATABASE_NAMES[0]
    # libpq sends the user's name where the user has given no database, so that name must lead to ours too
    if database not in DATABASE_NAMES and database != user:
        raise UndefinedDatabase(
            f'database "{database}" does not exist',
            hint=f"connect to database {DATABASE_NAMES[0]}",
            severity="FATAL",
        )
    return user
