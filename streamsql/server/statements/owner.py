"""ALTER ... OWNER TO, REASSIGN OWNED and DROP OWNED: who owns what."""

from __future__ import annotations

from dataclasses import replace

from streamsql.base.errors import (
    DependentObjectsExist,
    FeatureNotSupported,
    InsufficientPrivilege,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)
from streamsql.catalog.access import SYSTEM_ROLES, Access
from streamsql.catalog.objects import KIND_OF, Catalog, Sequence, nearest
from streamsql.catalog.rights import require_create, require_owner
from streamsql.catalog.user_types import UserType
from streamsql.engine import roles
from streamsql.engine.schemas import drop_schemas, own_schemas
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.role import role_of
from streamsql.sql.names import parted
from streamsql.sql.role_statements import AlterOwner, AlterOwnerOf, ReassignOwned
from streamsql.sql.schema_statements import MoveObject
from streamsql.sql.statements import ObjectKind


async def alter(context: Context, statement: AlterOwner, values: Values) -> Done:
    asking = context.asker.role
    what = f"ALTER {'TABLE' if statement.kind.value == 'STREAM' else statement.kind.value}"
    schema, name = parted(statement.name)
    of_table = statement.kind is ObjectKind.TABLE and context.lookup.key(schema, name) is None
    if of_table and context.lookup.sequence(schema, name) is not None:  # as in PostgreSQL
        done = await alter_other(
            context,
            AlterOwnerOf(statement.text, statement.position, "sequence", statement.name, statement.owner),
            values,
        )
        return replace(done, tag=what)
    key = found_key(context, statement)
    if key is None:
        return Done(what, [missing_notice(statement)])

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        made = catalog.find(key, statement.name_position + 1)
        if statement.kind is not ObjectKind.TABLE and KIND_OF[type(made)] is not statement.kind:
            raise WrongObjectType(
                f'"{made.bare}" is not a {statement.kind.value.lower()}', position=statement.name_position + 1
            )
        owner = role_of(context, access, statement.owner)
        if access.owner_of(made.id) == owner.oid:
            return access
        require_owner(catalog, asking, made)
        if not access.is_superuser(asking):
            if not access.is_member(asking, owner.oid):
                raise InsufficientPrivilege(f'must be member of role "{owner.name}"')
            require_create(catalog, owner.oid, made.schema)
        return access.with_owner(made.id, owner.oid)

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done(what)


async def alter_other(context: Context, statement: AlterOwnerOf, values: Values) -> Done:
    """ALTER TYPE and ALTER SEQUENCE ... OWNER TO; and ALTER TABLE, which takes sequences as well."""
    asking, what = context.asker.role, f"ALTER {statement.kind.upper()}"
    made: Sequence | UserType | None
    if statement.kind == "type":
        made = context.lookup.type(*parted(statement.name))
        if made is None:
            raise UndefinedObject(f'type "{statement.name}" does not exist')
    else:
        made = context.lookup.sequence(*parted(statement.name))
        if made is None and not statement.if_exists:
            raise UndefinedTable(f'relation "{statement.name}" does not exist')
        if made is None:
            return Done(what, [notice(f'relation "{parted(statement.name)[1]}" does not exist, skipping')])
    owned: Sequence | UserType = made
    if isinstance(owned, Sequence) and owned.owned_by is not None:
        owner_table = context.catalog.of_id(owned.owned_by[0])
        raise FeatureNotSupported(
            f'cannot change owner of sequence "{owned.bare}"',
            detail=None if owner_table is None else f'Sequence "{owned.bare}" is linked to table "{owner_table.bare}".',
        )

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        owner = role_of(context, access, statement.owner)
        if access.owner_of(owned.id) == owner.oid:
            return access
        if not access.owns(asking, owned.id):
            raise InsufficientPrivilege(f"must be owner of {statement.kind} {owned.bare}")
        if not access.is_superuser(asking):
            if not access.is_member(asking, owner.oid):
                raise InsufficientPrivilege(f'must be member of role "{owner.name}"')
            require_create(catalog, owner.oid, owned.schema)
        return access.with_owner(owned.id, owner.oid)

    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done(what)


def found_key(context: Context, statement: AlterOwner | MoveObject) -> str | None:
    """Give the key of what an ALTER is about; None where it is not there and IF EXISTS was said. Raises UndefinedTable."""
    schema, name = parted(statement.name)
    lookup = context.lookup
    found = lookup.key(schema, name)
    if found is None and not statement.if_exists:
        shown = name if schema is None else f"{schema}.{name}"
        raise UndefinedTable(
            f'relation "{shown}" does not exist',
            hint=nearest(name, [made.bare for made in lookup.catalog]),
            position=statement.name_position + 1,
        )
    return found


def missing_notice(statement: AlterOwner | MoveObject) -> dict[str, str]:
    """Tell that what an ALTER is about is not there."""
    return notice(f'relation "{parted(statement.name)[1]}" does not exist, skipping')


async def reassign(context: Context, statement: ReassignOwned, values: Values) -> Done:
    """REASSIGN OWNED BY roles TO role, and DROP OWNED BY roles."""
    asking = context.asker.role

    def named(access: Access) -> set[int]:
        found = set()
        for name in statement.roles:
            role = role_of(context, access, name)
            if not access.has_rights_of(asking, role.oid):
                verb = "reassign" if statement.to is not None else "drop"
                raise InsufficientPrivilege(f"permission denied to {verb} objects")
            if role.oid in SYSTEM_ROLES:
                raise DependentObjectsExist(
                    f"cannot {'reassign ownership of' if statement.to is not None else 'drop'} objects owned by role "
                    f"{role.name} because they are required by the database system"
                )
            found.add(role.oid)
        return found

    def change(catalog: Catalog) -> Access:
        access = catalog.access
        owners = named(access)
        assert statement.to is not None
        to = role_of(context, access, statement.to)
        if not access.has_rights_of(asking, to.oid):
            raise InsufficientPrivilege("permission denied to reassign objects")
        for made in (*catalog, *own_schemas(catalog), *catalog.sequences.values(), *catalog.types.values()):
            if access.owner_of(made.id) in owners:
                access = access.with_owner(made.id, to.oid)
        return access

    def drop() -> None:
        catalog = context.engine.catalog
        owners = named(catalog.access)
        gone = [made for made in catalog if catalog.access.owner_of(made.id) in owners]
        empty = [schema for schema in own_schemas(catalog) if catalog.access.owner_of(schema.id) in owners]
        # all of them at once, so that they do not stand in each other's way
        drop_schemas(context.engine, empty, gone, cascade=statement.cascade)
        roles.change_access(context.engine, lambda catalog: _without_grants(catalog, owners))

    if statement.to is None:
        await context.on_engine(drop)
        return Done("DROP OWNED")
    await context.on_engine(lambda: roles.change_access(context.engine, change))
    return Done("REASSIGN OWNED")


def _without_grants(catalog: Catalog, owners: set[int]) -> Access:
    """Take away all that was given to these roles, or by them."""
    access = catalog.access
    for object_id in [made.id for made in (*catalog, *catalog.schemas.values(), *catalog.sequences.values())]:
        grants = access.acl(object_id)
        kept = [g for g in grants if owners.isdisjoint((g.grantee, g.grantor))]
        if len(kept) != len(grants):
            access = access.with_acl(object_id, kept)
    return access
