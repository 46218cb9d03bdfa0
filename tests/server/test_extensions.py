"""CREATE EXTENSION as migrations and ORMs send it."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer


def test_what_is_there_is_told_and_works(server: RunningServer):
    with server.session() as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda diagnostic: told.append(diagnostic.message_primary or ""))
        for name in ('"uuid-ossp"', "pgcrypto WITH SCHEMA public", "plpgsql VERSION '1.0' CASCADE"):
            cursor = connection.execute(f"CREATE EXTENSION IF NOT EXISTS {name}".encode())
            assert cursor.statusmessage == "CREATE EXTENSION"
        assert told == [
            'of extension "uuid-ossp", uuid_generate_v4() and uuid_nil() are part of the server',
            'of extension "pgcrypto", gen_random_uuid() is part of the server',
            'of extension "plpgsql", DO blocks are part of the server',
        ]
        connection.execute("CREATE TABLE of_uuids (id UUID PRIMARY KEY DEFAULT uuid_generate_v4(), x INT)")
        connection.execute("INSERT INTO of_uuids (x) VALUES (1), (2)")
        query = "SELECT count(DISTINCT id), bool_or(id = uuid_nil()), pg_typeof(uuid_generate_v4())::text FROM of_uuids"
        assert connection.execute(query).fetchall() == [(2, False, "uuid")]
        shown = (
            "SELECT column_default FROM information_schema.columns WHERE table_name = 'of_uuids' AND column_name = 'id'"
        )
        assert connection.execute(shown).fetchall() == [("uuid_generate_v4()",)]
        connection.execute("DROP TABLE of_uuids")
        assert connection.execute("DROP EXTENSION IF EXISTS pgcrypto").statusmessage == "DROP EXTENSION"


@pytest.mark.parametrize(
    ("statement", "error", "message", "position"),
    [
        ("CREATE EXTENSION postgis", errors.FeatureNotSupported, 'extension "postgis" is not available', "18"),
        ("CREATE EXTENSION IF NOT EXISTS", errors.SyntaxError, "syntax error at end of input", "31"),
        ("DROP EXTENSION pgcrypto", errors.UndefinedObject, 'extension "pgcrypto" does not exist', None),
    ],
)
def test_what_is_not_there_is_refused(
    server: RunningServer, statement: str, error: type[psycopg.Error], message: str, position: str | None
):
    with server.session() as connection, pytest.raises(error) as raised:
        connection.execute(statement.encode())
    assert (raised.value.diag.message_primary, raised.value.diag.statement_position) == (message, position)
