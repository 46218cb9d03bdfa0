"""Connections to PostgreSQL are encrypted as ``sslmode`` says, and changes come over them as over others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamsql.base.errors import AuthorizationError, InsufficientPrivilege
from streamsql.connectors.postgres.connection import Connection
from streamsql.connectors.postgres.options import Address, address_of
from streamsql.connectors.postgres.source import OPTIONS
from streamsql.connectors.settings import read_options
from streamsql.connectors.source import Given, Surroundings
from streamsql.sql.statements import ColumnDefinition
from tests import postgres
from tests.certificates import Certificates, certificates
from tests.connectors.captured import CapturedTable
from tests.connectors.servers.postgres import SETTINGS, OtherDatabase
from tests.running import until

__all__ = ["certificates"]

pytestmark = pytest.mark.postgres

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
COLUMNS = (ColumnDefinition("id", "INTEGER", not_null=True, primary_key=True), ColumnDefinition("note", "VARCHAR"))


@pytest.fixture(scope="module")
def encrypted(certificates: Certificates) -> Iterator[OtherDatabase]:
    """A server with a certificate for ``localhost``."""
    if not postgres.installed():
        pytest.skip("PostgreSQL 15 is not installed")
    certificate, key = certificates.of("server")
    with postgres.cluster(SETTINGS) as made:
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            shutil.copy(source, made.folder / "data" / name)
            shutil.chown(made.folder / "data" / name, (made.folder / "data").owner())
            (made.folder / "data" / name).chmod(0o600)
        database = OtherDatabase(made, "postgres")
        database.execute("ALTER SYSTEM SET ssl = on")
        database.execute("SELECT pg_reload_conf()")
        until(lambda: database.rows("SHOW ssl") == [("on",)])
        yield database


def address(database: OtherDatabase, allowed: Path | None = None, **options: str) -> Address:
    surroundings = Surroundings() if allowed is None else Surroundings((allowed,))
    given = Given({**database.options, "host": "localhost", **options}, {})
    return address_of(read_options(given, OPTIONS, "postgres", surroundings), surroundings)


def asked(where: Address) -> str | None:
    connection = Connection(where)
    try:
        return connection.query(ENCRYPTED)[0][0]
    finally:
        connection.close()


def test_sslmode_says_whether_and_whom_to_trust(encrypted: OtherDatabase, certificates: Certificates):
    folder, root = certificates.folder, str(certificates.authority)
    assert asked(address(encrypted, sslmode="disable")) == "f"
    assert asked(address(encrypted)) == "t"
    assert asked(address(encrypted, sslmode="require")) == "t"
    assert asked(address(encrypted, folder, sslmode="verify-full", sslrootcert=root)) == "t"
    assert asked(address(encrypted, folder, sslmode="verify-ca", sslrootcert=root, host="127.0.0.1")) == "t"
    with pytest.raises(AuthorizationError, match="is not to be trusted"):
        asked(address(encrypted, sslmode="verify-full"))
    with pytest.raises(InsufficientPrivilege, match="not below a folder"):
        address(encrypted, sslrootcert=root)


def test_changes_come_over_an_encrypted_connection(encrypted: OtherDatabase):
    rows = "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series({}, {}) i"
    encrypted.execute(f"CREATE TABLE t (id int PRIMARY KEY, note text); {rows.format(1, 3_000)}")
    table = CapturedTable({**encrypted.options, "host": "localhost", "sslmode": "require"}, COLUMNS)
    table.read_until(lambda: table.has_begun and len(table.rows) == 3_000)
    encrypted.execute(f"{rows.format(3_001, 9_000)}; DELETE FROM t WHERE id <= 3000")
    table.read_until(lambda: set(table.rows) == {(i,) for i in range(3_001, 9_001)})
    used = encrypted.rows(
        "SELECT ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'walsender'"
    )
    assert used == [(True,)]
    table.close()
