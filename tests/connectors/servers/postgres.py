"""A PostgreSQL that tells its changes, with a database for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests import postgres

SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "wal_sender_timeout": "3s",  # whoever is silent for so long is cut off
    "autovacuum": "off",
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class OtherDatabase:
    """One database of a server."""

    cluster: postgres.Cluster
    name: str

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.cluster.port, user="tester", dbname=self.name, autocommit=True
        )

    def execute(self, sql: str) -> None:
        """Run statements."""
        with self.connect() as connection:
            connection.execute(sql.encode())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a query."""
        with self.connect() as connection:
            return connection.execute(sql.encode()).fetchall()

    @property
    def options(self) -> dict[str, str]:
        """The options that a connector reaches it by."""
        return {"host": "127.0.0.1", "port": str(self.cluster.port), "database": self.name, "user": "tester"}

    @property
    def written_options(self) -> str:
        """The same as they stand in WITH (...)."""
        return ", ".join(f"{name} = '{value}'" for name, value in self.options.items())

    def end_connections(self, kind: str = "") -> int:
        """Cut all connections to it, or those of a kind (``walsender``); gives how many there were."""
        wanted = f"AND backend_type = '{kind}'" if kind else ""
        found = self.rows(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}' "
            f"AND pid <> pg_backend_pid() {wanted}"
        )
        return len(found)


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[postgres.Cluster]:
    """A server for all tests of a session."""
    if not postgres.installed():
        pytest.skip("PostgreSQL 15 is not installed")
    with postgres.cluster(SETTINGS) as made:
        yield made


@pytest.fixture
def other_database(postgres_cluster: postgres.Cluster) -> Iterator[OtherDatabase]:
    """A database of its own for a test."""
    made = OtherDatabase(postgres_cluster, f"test_{next(_numbers)}")
    OtherDatabase(postgres_cluster, "postgres").execute(f"CREATE DATABASE {made.name}")
    yield made
    left = OtherDatabase(postgres_cluster, "postgres")
    made.end_connections()
    for (slot,) in left.rows(f"SELECT slot_name FROM pg_replication_slots WHERE database = '{made.name}'"):
        left.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    left.execute(f"DROP DATABASE {made.name} WITH (FORCE)")
