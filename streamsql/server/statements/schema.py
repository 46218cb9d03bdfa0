"""CREATE SCHEMA, DROP SCHEMA, ALTER SCHEMA, and ALTER ... SET SCHEMA and RENAME TO."""

from __future__ import annotations

from streamsql.base.errors import (
    DependentObjectsExist,
    DuplicateSchema,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidSchemaName,
    WrongObjectType,
)
from streamsql.catalog.objects import (
    KIND_OF,
    PUBLIC_SCHEMA,
    SYSTEM_SCHEMAS,
    Catalog,
    Named,
    Schema,
    Table,
)
from streamsql.catalog.rights import require_create, require_owner, require_schema_owner
from streamsql.engine import roles, schemas
from streamsql.server.context import Context, Values
from streamsql.server.results import Done, notice
from streamsql.server.statements.create import block_notices
from streamsql.server.statements.drop import cascade_notices
from streamsql.server.statements.owner import found_key, missing_notice
from streamsql.server.statements.role import role_of
from streamsql.sql.schema_statements import AlterSchema, CreateSchema, DropSchema, MoveObject
from streamsql.sql.schemas import check_schema_name
from streamsql.sql.statements import ObjectKind


async def create(context: Context, statement: CreateSchema, values: Values) -> Done:
    engine, asking = context.engine, context.asker.role

    def make() -> bool:
        access = engine.catalog.access
        owner = asking if statement.owner is None else role_of(context, access, statement.owner).oid
        name = access.name_of(owner) if statement.name is None else statement.name
        check_schema_name(name)
        if not access.is_superuser(asking):
            raise InsufficientPrivilege(
                f"permission denied for database {context.asker.database}",
                hint="a superuser makes it: CREATE SCHEMA name AUTHORIZATION role",
            )
        if name in SYSTEM_SCHEMAS:
            raise DuplicateSchema(f'schema "{name}" already exists')
        if statement.if_not_exists and name in engine.catalog.schemas:
            return False
        schemas.create_schema(engine, name, owner)
        return True

    if await context.on_engine(make):
        return Done("CREATE SCHEMA")
    return Done("CREATE SCHEMA", [notice(f'schema "{statement.name}" already exists, skipping', sqlstate="42P06")])


def _found(catalog: Catalog, name: str) -> Schema | None:
    """Give a schema that can be changed; None for one that is not there."""
    if name in SYSTEM_SCHEMAS:
        raise DependentObjectsExist(f"cannot drop schema {name} because it is required by the database system")
    return catalog.schemas.get(name)


async def drop(context: Context, statement: DropSchema, values: Values) -> Done:
    engine, asking = context.engine, context.asker.role

    def remove() -> tuple[list[str], list[Named]]:
        found, missing = [], []
        for name in dict.fromkeys(statement.schemas):
            schema = _found(engine.catalog, name)
            if schema is None:
                if not statement.if_exists:
                    raise InvalidSchemaName(f'schema "{name}" does not exist')
                missing.append(name)
                continue
            require_schema_owner(engine.catalog, asking, schema)
            if name == PUBLIC_SCHEMA:
                raise FeatureNotSupported(
                    "the schema public cannot be dropped", hint="REVOKE USAGE ON SCHEMA public FROM PUBLIC closes it"
                )
            found.append(schema)
        return missing, schemas.drop_schemas(engine, found, cascade=statement.cascade)

    missing, more = await context.on_engine(remove)
    notices = [notice(f'schema "{name}" does not exist, skipping') for name in missing] + cascade_notices(more)
    return Done("DROP SCHEMA", notices + block_notices(context, "DROP SCHEMA"))


async def alter(context: Context, statement: AlterSchema, values: Values) -> Done:
    engine, asking = context.engine, context.asker.role

    def change() -> None:
        catalog = engine.catalog
        schema = catalog.schemas.get(statement.schema)
        if schema is None:
            raise InvalidSchemaName(f'schema "{statement.schema}" does not exist')
        require_schema_owner(catalog, asking, schema)
        if statement.new_name is not None:
            if statement.schema == PUBLIC_SCHEMA:
                raise FeatureNotSupported("the schema public cannot be renamed", hint="make another: CREATE SCHEMA")
            schemas.rename_schema(engine, schema, statement.new_name)
            return
        assert statement.owner is not None
        owner = role_of(context, catalog.access, statement.owner)
        if not catalog.access.is_member(asking, owner.oid):
            raise InsufficientPrivilege(f'must be member of role "{owner.name}"')
        roles.change_access(engine, lambda catalog: catalog.access.with_owner(schema.id, owner.oid))

    await context.on_engine(change)
    return Done("ALTER SCHEMA", block_notices(context, "ALTER SCHEMA"))


async def move(context: Context, statement: MoveObject, values: Values) -> Done:
    what = f"ALTER {'TABLE' if statement.kind.value == 'STREAM' else statement.kind.value}"
    engine, asking, position = context.engine, context.asker.role, statement.name_position + 1
    key = found_key(context, statement)
    if key is None:
        return Done(what, [missing_notice(statement)])

    def change() -> None:
        made = context.catalog.find(key, position)
        # as in PostgreSQL, ALTER TABLE takes all that has rows
        if statement.kind is not ObjectKind.TABLE and KIND_OF[type(made)] is not statement.kind:
            raise WrongObjectType(f'"{made.bare}" is not a {statement.kind.value.lower()}', position=position)
        if isinstance(made, Table) and made.temporary:
            raise FeatureNotSupported("a temporary table keeps its name", hint="make another one", position=position)
        require_owner(engine.catalog, asking, made)
        schema = made.schema if statement.schema is None else statement.schema
        if schema in SYSTEM_SCHEMAS:
            raise InsufficientPrivilege(f"permission denied for schema {schema}")
        require_create(engine.catalog, asking, schema)
        if (schema, statement.new_name) != (made.schema, None):
            schemas.move(engine, made, schema, statement.new_name or made.bare)

    await context.on_engine(change)
    return Done(what, block_notices(context, what))
