"""SQLAlchemy 2, with four drivers: reflection as BI tools do it, Core, a mapped class in a session, and what goes wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from tests.running import RunningServer

DRIVERS = ["psycopg", "psycopg2", "pg8000"]


def url(server: RunningServer, driver: str) -> str:
    return f"postgresql+{driver}://tester@127.0.0.1:{server.port}/streamsql"


@pytest.fixture(params=DRIVERS)
def engine(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    made = sa.create_engine(url(server, request.param))
    yield made
    made.dispose()


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    made: Mapped[dt.datetime | None]
    day: Mapped[dt.date | None]
    sold: Mapped[bool | None]
    key: Mapped[uuid.UUID | None]
    doc: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    raw: Mapped[bytes | None]
    span: Mapped[dt.timedelta | None]
    tags: Mapped[list[str] | None] = mapped_column(sa.ARRAY(sa.String))
    weight: Mapped[float | None]


@pytest.fixture
def items(engine: sa.Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    yield
    Base.metadata.drop_all(engine)


@pytest.fixture(scope="module")
def shop(server: RunningServer) -> None:
    server.execute(
        "CREATE TABLE goods (id INT PRIMARY KEY, name VARCHAR(30) NOT NULL, price NUMERIC(10,2), at TIMESTAMP, tags TEXT[])",
        "CREATE STREAM sales (ts TIMESTAMP, id INT, n INT, WATERMARK FOR ts AS ts)",
        "CREATE MATERIALIZED VIEW sold AS SELECT id, count(*) AS n, sum(n) AS total FROM sales GROUP BY id EMIT UPDATE",
    )


def test_the_inspector_finds_relations_columns_and_keys(engine: sa.Engine, shop: None):
    found = sa.inspect(engine)
    assert found.default_schema_name == "public"
    assert {"information_schema", "public"} <= set(found.get_schema_names())
    assert {"goods", "sales"} <= set(found.get_table_names())
    assert "sold" in found.get_materialized_view_names()
    assert found.has_table("sold")
    assert not found.has_table("nothing")
    columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns("goods")}
    assert columns["id"] == ("INTEGER", False)
    assert columns["price"] == ("NUMERIC(10, 2)", True)
    assert columns["at"] == ("TIMESTAMP", True)
    assert columns["tags"] == ("ARRAY", True)
    assert columns["name"][1] is False
    assert found.get_pk_constraint("goods")["constrained_columns"] == ["id"]
    assert found.get_pk_constraint("sold")["constrained_columns"] == []
    assert [c["name"] for c in found.get_columns("sold")] == ["id", "n", "total"]
    assert "GROUP BY id" in found.get_view_definition("sold")


def test_the_inspector_asks_for_what_bi_tools_show(engine: sa.Engine, shop: None):
    found = sa.inspect(engine)
    for name in ("goods", "sold"):
        assert found.get_foreign_keys(name) == []
        assert found.get_indexes(name) == []
        assert found.get_unique_constraints(name) == []
        assert found.get_check_constraints(name) == []
        assert found.get_table_comment(name) == {"text": None}
        assert found.get_table_options(name) == {}
    assert found.get_sequence_names() == []
    assert found.get_temp_table_names() == []
    assert found.get_enums() == []  # type: ignore[attr-defined]
    with pytest.raises(sa.exc.NoSuchTableError):
        found.get_columns("nothing")
    assert {name for _, name in found.get_multi_columns(kind=ObjectKind.ANY)} >= {"goods", "sales", "sold"}


def test_tables_and_views_are_reflected_and_queried(engine: sa.Engine, shop: None):
    metadata = sa.MetaData()
    metadata.reflect(engine, only=["goods", "sold"], views=True)
    goods, sold = metadata.tables["goods"], metadata.tables["sold"]
    with engine.begin() as connection:
        connection.execute(sa.insert(goods), [{"id": i, "name": f"g{i}", "price": Decimal(i)} for i in range(3)])
        connection.execute(sa.text("INSERT INTO sales VALUES (now()::timestamp, 1, 5), (now()::timestamp, 1, 6)"))
    query = sa.select(goods.c.name, sold.c.total).join(sold, goods.c.id == sold.c.id).where(goods.c.price >= 1)
    with engine.begin() as connection:
        assert connection.execute(query).all() == [("g1", 11)]
        assert connection.execute(sa.delete(goods)).rowcount == 3
        connection.execute(sa.text("DROP MATERIALIZED VIEW sold"))
        connection.execute(sa.text("DROP STREAM sales"))
    with engine.begin() as connection:  # as it was, for the next driver
        connection.execute(sa.text("CREATE STREAM sales (ts TIMESTAMP, id INT, n INT, WATERMARK FOR ts AS ts)"))
        text = "CREATE MATERIALIZED VIEW sold AS SELECT id, count(*) AS n, sum(n) AS total FROM sales GROUP BY id EMIT UPDATE"
        connection.execute(sa.text(text))


def test_a_mapped_class_lives_in_a_session(engine: sa.Engine, items: None):
    value = {
        "price": Decimal("1.50"), "made": dt.datetime(2024, 1, 1, 12, 30), "day": dt.date(1969, 1, 1), "sold": True,
        "key": uuid.UUID(int=5), "doc": {"a": [1, None]}, "raw": b"\0\xff", "span": dt.timedelta(days=1, seconds=2),
        "tags": ["a", 'b"c'], "weight": 0.25,
    }  # fmt: skip
    with Session(engine) as session:
        session.add_all([Item(id=i, name=f"n{i}", **value) for i in range(5)])
        session.add(Item(id=9, name="bare"))
        session.commit()
        changed = session.get_one(Item, 3)
        assert {name: getattr(changed, name) for name in value} == value
        assert all(getattr(session.get_one(Item, 9), name) is None for name in value)
        changed.name, changed.tags = "changed", None
        session.commit()
        session.delete(session.get_one(Item, 4))
        session.flush()
        assert session.scalar(sa.select(sa.func.count()).select_from(Item)) == 5
        session.rollback()
        names = session.scalars(sa.select(Item.name).where(Item.price > 1).order_by(Item.id)).all()
        assert names == ["n0", "n1", "n2", "changed", "n4"]


def test_a_savepoint_saves_a_session_from_a_duplicate(engine: sa.Engine, items: None):
    with Session(engine) as session:
        session.add(Item(id=1, name="first"))
        for wrong in ("SELECT nosuch", "INSERT INTO items (id, name) VALUES (1, 'twice')"):
            with pytest.raises(sa.exc.DBAPIError), session.begin_nested():
                session.execute(sa.text(wrong))
        with session.begin_nested():
            session.add(Item(id=2, name="second"))
        session.commit()
        assert session.scalars(sa.select(Item.id).order_by(Item.id)).all() == [1, 2]
        session.add(Item(id=2, name="again"))
        with pytest.raises(sa.exc.DBAPIError, match="duplicate key"):
            session.commit()
        session.rollback()
        assert session.scalars(sa.select(Item.name).order_by(Item.id)).all() == ["first", "second"]


def test_core_writes_many_rows_and_puts_rows_in_place_of_others(engine: sa.Engine, items: None):
    table = Item.__table__
    assert isinstance(table, sa.Table)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": i, "name": "z"} for i in range(300)])
        wanted = insert(table).values([{"id": 299, "name": "up"}, {"id": 300, "name": "new"}])
        connection.execute(wanted.on_conflict_do_update(index_elements=["id"], set_={"name": wanted.excluded.name}))
        changed = connection.execute(sa.update(table).where(table.c.id < 10).values(name=table.c.name + "!"))
        assert changed.rowcount == 10
        query = sa.select(table.c.name, sa.func.count()).group_by(table.c.name).order_by(table.c.name)
        assert connection.execute(query).all() == [("new", 1), ("up", 1), ("z", 289), ("z!", 10)]


def test_an_error_says_what_and_the_connection_goes_on(engine: sa.Engine):
    with engine.connect() as connection:
        with pytest.raises(sa.exc.ProgrammingError, match='relation "nope" does not exist'):
            connection.execute(sa.text("SELECT * FROM nope"))
        connection.rollback()
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_isolation_levels_can_be_asked_for(engine: sa.Engine):
    for level in ("AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_the_async_engine_does_the_same(server: RunningServer):
    async def talk() -> Any:
        engine = create_async_engine(url(server, "asyncpg"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            names = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
        async with AsyncSession(engine) as session:
            session.add(Item(id=1, name="a", price=Decimal("2.50"), tags=["x"], doc={"k": 1}))
            await session.commit()
            item = await session.get_one(Item, 1)
            item.name = "b"
            await session.commit()
            found = (await session.execute(sa.select(Item.name, Item.price, Item.tags, Item.doc))).all()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
        return "items" in names, found

    assert asyncio.run(talk()) == (True, [("b", Decimal("2.50"), ["x"], {"k": 1})])


def test_a_large_result_is_read_in_portions(engine: sa.Engine):
    with engine.connect().execution_options(yield_per=100) as connection:
        found = connection.execute(sa.text("SELECT i FROM generate_series(1, 1050) AS g(i)"))
        assert sum(row.i for row in found) == 551_775


class Placed(DeclarativeBase):
    metadata = sa.MetaData(schema="placed")


class Thing(Placed):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]


def test_a_mapped_class_stands_in_a_schema(server: RunningServer, engine: sa.Engine):
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("placed", if_not_exists=True))
    Placed.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Thing(id=1, name="a"), Thing(id=2, name="b")])
        session.commit()
        thing = session.get(Thing, 2)
        assert thing is not None
        thing.name = "c"
        session.commit()
        assert session.scalars(sa.select(Thing.name).order_by(Thing.id)).all() == ["a", "c"]
    looked = sa.inspect(engine)
    assert "placed" in looked.get_schema_names()
    assert looked.get_table_names(schema="placed") == ["things"]
    assert "things" not in looked.get_table_names()
    reflected = sa.Table("things", sa.MetaData(), schema="placed", autoload_with=engine)
    assert [column.name for column in reflected.primary_key] == ["id"]
    Placed.metadata.drop_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.schema.DropSchema("placed"))
    assert "placed" not in sa.inspect(engine).get_schema_names()


def test_a_live_query_is_read_and_cancelled(server: RunningServer, engine: sa.Engine):
    with engine.begin() as connection:
        connection.execute(sa.text("DROP STREAM IF EXISTS endless"))
        connection.execute(sa.text("CREATE STREAM endless (n INT)"))
        connection.execute(sa.text("INSERT INTO endless VALUES (1), (2), (3)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        limited = connection.execute(sa.text("SELECT n FROM endless EMIT APPEND LIMIT 3"))
        assert [row.n for row in limited] == [1, 2, 3]
        number = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(lambda: connection.execute(sa.text("SELECT n FROM endless EMIT APPEND")).all())
            server.wait_for_live_queries(1)
            with engine.connect() as other:
                assert other.scalar(sa.select(sa.func.pg_cancel_backend(number))) is True
            with pytest.raises(sa.exc.DBAPIError, match="canceling statement due to user request"):
                ended.result(30)
        assert connection.scalar(sa.text("SELECT 1")) == 1


class Numbered(DeclarativeBase):
    pass


class Team(Numbered):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    members: Mapped[list[Member]] = relationship(back_populates="team")


class Member(Numbered):
    __tablename__ = "members"
    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(5))
    age: Mapped[int | None]
    team_id: Mapped[int] = mapped_column(sa.ForeignKey("teams.id"))
    team: Mapped[Team] = relationship(back_populates="members")
    __table_args__ = (sa.CheckConstraint("age >= 0", name="sane_age"), sa.UniqueConstraint("name", "team_id"))


def test_mapped_classes_are_numbered_and_held_to_their_constraints(server: RunningServer):
    engine = sa.create_engine(url(server, "psycopg"))
    Numbered.metadata.create_all(engine)
    with Session(engine) as session:
        team = Team(name="one", members=[Member(name="x", age=1), Member(name="y")])
        session.add_all([team, *(Team(name=f"team {i}") for i in range(40))])
        session.commit()
        assert [m.id for m in team.members] == [1, 2]
        assert session.scalars(sa.select(sa.func.max(Team.id))).one() == 41
        team_id = team.id
        for values, code, constraint in (
            ({"name": "z", "age": -1, "team_id": team_id}, "23514", "sane_age"),
            ({"name": "x", "team_id": team_id}, "23505", "members_name_team_id_key"),
            ({"name": "too long", "team_id": team_id}, "22001", None),
            ({"name": "q", "team_id": 999}, "23503", "members_team_id_fkey"),
        ):
            session.add(Member(**values))
            with pytest.raises(sa.exc.DBAPIError) as refused:
                session.flush()
            found = refused.value.orig
            assert (found.sqlstate, found.diag.constraint_name) == (code, constraint)  # type: ignore[union-attr]
            session.rollback()
    seen = sa.inspect(engine)
    assert [str(c["type"]) for c in seen.get_columns("members")] == ["BIGINT", "VARCHAR(5)", "INTEGER", "INTEGER"]
    assert seen.get_columns("teams")[0]["autoincrement"] is True
    assert seen.get_columns("members")[0]["identity"]["always"] is False
    assert [(f["name"], f["referred_table"]) for f in seen.get_foreign_keys("members")] == [
        ("members_team_id_fkey", "teams")
    ]
    assert [c["sqltext"] for c in seen.get_check_constraints("members")] == ["age >= 0"]
    assert [u["name"] for u in seen.get_unique_constraints("members")] == ["members_name_team_id_key"]
    Numbered.metadata.drop_all(engine)
    engine.dispose()
