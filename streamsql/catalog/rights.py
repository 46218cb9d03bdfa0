"""What a role may do with an object: each function raises InsufficientPrivilege (42501), in PostgreSQL's words, or returns.

A materialized view is read with the rights of two: whoever asks needs SELECT on the view, and the view's owner SELECT on
all that it reads. So what an owner may not see any more, nobody sees through the owner's views.
"""

from __future__ import annotations

from streamsql.base.errors import InsufficientPrivilege, InvalidSchemaName
from streamsql.catalog.access import Access, Grant
from streamsql.catalog.objects import KIND_OF, PUBLIC, Catalog, CatalogObject, Schema, Sequence, Sink, View
from streamsql.sql.role_statements import SEQUENCE_PRIVILEGES

# connectors that reach nothing outside of the server
OWN_CONNECTORS = frozenset({"datagen", "nexmark"})


def kind(made: CatalogObject) -> str:
    """What people call it: ``stream``, ``table``, ``materialized view``."""
    return KIND_OF[type(made)].value.lower()


def may_read(catalog: Catalog, role: int, made: CatalogObject) -> bool:
    """Tell whether a role may read an object."""
    return _unreadable(catalog, role, made) is None


def require_read(catalog: Catalog, role: int, made: CatalogObject) -> None:
    """Raise unless the role may SELECT from, or SUBSCRIBE to, the object."""
    denied = _unreadable(catalog, role, made)
    if denied is not None:
        raise _denied(denied)


def _unreadable(catalog: Catalog, role: int, made: CatalogObject) -> CatalogObject | None:
    """Find what keeps a role from reading an object: itself, or what a view's owner may not read."""
    if not catalog.access.has(role, made.id, "SELECT"):
        return made
    if not isinstance(made, View):
        return None
    owner = catalog.access.owner_of(made.id)
    if catalog.access.is_superuser(owner):
        return None
    sources = (catalog.get(name) for name in made.sources)
    return next((d for s in sources if s is not None and (d := _unreadable(catalog, owner, s)) is not None), None)


def with_sequence_acl(access: Access, sequence: int) -> Access:
    """Write down what a sequence's privileges are where they are the default ones, which are not a table's."""
    if sequence in access.acls:
        return access
    owner = access.owner_of(sequence)
    return access.with_acl(sequence, [Grant(owner, owner, SEQUENCE_PRIVILEGES)])


def may_use(access: Access, role: int, sequence: int, privilege: str) -> bool:
    """Tell whether a role has a privilege on a sequence."""
    if sequence in access.acls or not access.owns(role, sequence):
        return access.has(role, sequence, privilege)
    return True


def require_read_sequence(catalog: Catalog, role: int, sequence: Sequence) -> None:
    """Raise unless the role may SELECT from the sequence."""
    if not may_use(catalog.access, role, sequence.id, "SELECT"):
        raise InsufficientPrivilege(f"permission denied for sequence {sequence.bare}")


def require(catalog: Catalog, role: int, made: CatalogObject, *privileges: str) -> None:
    """Raise unless the role has all these privileges on the object."""
    if not all(catalog.access.has(role, made.id, privilege) for privilege in privileges):
        raise _denied(made)


def require_any(catalog: Catalog, role: int, made: CatalogObject, *privileges: str) -> None:
    """Raise unless the role has one of these privileges on the object."""
    if not any(catalog.access.has(role, made.id, privilege) for privilege in privileges):
        raise _denied(made)


def require_owner(catalog: Catalog, role: int, made: CatalogObject) -> None:
    """Raise unless the role owns the object, or is in the role that does."""
    if not catalog.access.owns(role, made.id):
        raise InsufficientPrivilege(f"must be owner of {kind(made)} {made.bare}")


def require_sink_owner(catalog: Catalog, role: int, sink: Sink) -> None:
    """Raise unless the role owns the sink, or is in the role that does."""
    if not catalog.access.owns(role, sink.id):
        raise InsufficientPrivilege(f"must be owner of sink {sink.name}")


def require_connector(catalog: Catalog, role: int, connector: str | None) -> None:
    """Raise unless the role may let the server itself reach what a connector names: other machines, files, its secrets."""
    if connector is not None and connector not in OWN_CONNECTORS and not catalog.access.is_superuser(role):
        raise InsufficientPrivilege(
            f'permission denied to use the connector "{connector}"',
            hint="a superuser lets the server reach other machines and files; GRANT on the stream or table lets others use it",
        )


def require_create(catalog: Catalog, role: int, schema: str = PUBLIC.name) -> None:
    """Raise unless the role may create objects in the schema."""
    known = catalog.schemas.get(schema)
    if known is None:
        raise InvalidSchemaName(f'schema "{schema}" does not exist')
    if not catalog.access.has(role, known.id, "CREATE"):
        raise InsufficientPrivilege(
            f"permission denied for schema {schema}", hint=f"GRANT CREATE ON SCHEMA {schema} lets a role create objects"
        )


def require_usage(catalog: Catalog, role: int, schema: str) -> None:
    """Raise unless the role may look names up in the schema."""
    if not catalog.access.has(role, catalog.schemas[schema].id, "USAGE"):
        raise InsufficientPrivilege(
            f"permission denied for schema {schema}", hint=f"GRANT USAGE ON SCHEMA {schema} lets a role look names up"
        )


def require_schema_owner(catalog: Catalog, role: int, schema: Schema) -> None:
    """Raise unless the role owns the schema, or is in the role that does."""
    if not catalog.access.owns(role, schema.id):
        raise InsufficientPrivilege(f"must be owner of schema {schema.name}")


def _denied(made: CatalogObject) -> InsufficientPrivilege:
    return InsufficientPrivilege(f"permission denied for {kind(made)} {made.bare}")
