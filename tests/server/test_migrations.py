"""What migration tools and ORMs send, replayed: indexes, ALTER TYPE, FOR UPDATE, GROUP BY of a key, their questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.running import RunningServer

Connection = psycopg.Connection[tuple[Any, ...]]

# as Django asks for a table's indexes before it alters it
_INDEXES = """
SELECT indexname, array_agg(attname ORDER BY arridx), indisunique, indisprimary, array_agg(ordering ORDER BY arridx), amname,
       exprdef FROM (
    SELECT c2.relname AS indexname, idx.*, attr.attname, am.amname,
           CASE WHEN idx.indexprs IS NOT NULL THEN pg_get_indexdef(idx.indexrelid) END AS exprdef,
           CASE am.amname WHEN 'btree' THEN CASE (option & 1) WHEN 1 THEN 'DESC' ELSE 'ASC' END END AS ordering
    FROM (SELECT * FROM pg_index i, unnest(i.indkey, i.indoption) WITH ORDINALITY koi(key, option, arridx)) idx
    LEFT JOIN pg_class c ON idx.indrelid = c.oid LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid
    LEFT JOIN pg_am am ON c2.relam = am.oid
    LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key
    WHERE c.relname = %s AND pg_catalog.pg_table_is_visible(c.oid)) s2
GROUP BY indexname, indisunique, indisprimary, amname, exprdef ORDER BY 1
"""


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with server.session() as opened:
        opened.execute("CREATE TABLE book (id int PRIMARY KEY, title varchar(20), price int, author int, doc jsonb)")
        opened.execute("INSERT INTO book VALUES (1, 'a', 10, 1, '{}'), (2, 'b', 20, 1, NULL)")
        yield opened
        opened.execute("DROP TABLE book CASCADE")


def notices(connection: Connection, sql: str) -> list[str]:
    told: list[str] = []
    connection.add_notice_handler(lambda found: told.append(found.message_primary or ""))
    connection.execute(sql)
    return told


def test_an_index_is_an_object_that_can_be_dropped(connection: Connection):
    assert notices(connection, "CREATE INDEX ON book (author)") == [
        "an index is kept as a name only: lookups do not need it"
    ]
    connection.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS book_author_idx ON book (price)")
    connection.execute(
        "CREATE INDEX like_ix ON book USING btree (title varchar_pattern_ops DESC, lower(title)) WHERE id > 0"
    )
    shown = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'book' ORDER BY 1"
    assert connection.execute(shown).fetchall() == [
        ("book_author_idx", "CREATE INDEX book_author_idx ON public.book USING btree (author)"),
        ("book_pkey", "CREATE UNIQUE INDEX book_pkey ON public.book USING btree (id)"),
        (
            "like_ix",
            "CREATE INDEX like_ix ON public.book USING btree (title varchar_pattern_ops DESC, lower(title)) WHERE id > 0",
        ),
    ]
    asked = [row[:4] for row in connection.execute(_INDEXES, ("book",)).fetchall()]
    assert asked == [
        ("book_author_idx", ["author"], False, False), ("book_pkey", ["id"], True, True),
        ("like_ix", ["title", None], False, False),
    ]  # fmt: skip
    connection.execute("ALTER INDEX book_author_idx RENAME TO by_author")
    connection.execute("ALTER TABLE book RENAME COLUMN author TO writer")
    assert connection.execute(
        "SELECT 'by_author'::regclass::text, pg_get_indexdef('by_author'::regclass)"
    ).fetchall() == [("by_author", "CREATE INDEX by_author ON public.book USING btree (writer)")]
    connection.execute("ALTER TABLE book DROP COLUMN writer")
    connection.execute("DROP INDEX like_ix")
    assert [row[0] for row in connection.execute(shown).fetchall()] == ["book_pkey"]
    with pytest.raises(errors.UndefinedObject):
        connection.execute("DROP INDEX like_ix")


def test_a_unique_index_keeps_rows_unique_and_is_no_constraint(connection: Connection):
    connection.execute("CREATE UNIQUE INDEX one_title ON book (title)")
    with pytest.raises(errors.UniqueViolation) as raised:
        connection.execute("INSERT INTO book VALUES (3, 'a')")
    assert raised.value.diag.constraint_name == "one_title"
    connection.execute("INSERT INTO book VALUES (3, 'a', 7) ON CONFLICT (title) DO UPDATE SET price = excluded.price")
    constraints = "SELECT conname FROM pg_constraint WHERE conrelid = 'book'::regclass"
    assert connection.execute(constraints).fetchall() == [("book_pkey",)]
    connection.execute("DROP INDEX one_title")
    connection.execute("INSERT INTO book VALUES (3, 'a')")
    with pytest.raises(errors.UniqueViolation, match='could not create unique index "one_title"'):
        connection.execute("CREATE UNIQUE INDEX one_title ON book (title)")


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("CREATE UNIQUE INDEX ON book (lower(title))", errors.FeatureNotSupported),
        ("CREATE INDEX ON book (nope)", errors.UndefinedColumn),
        ("CREATE INDEX book_pkey ON book (id)", errors.DuplicateTable),
        ("DROP INDEX book_pkey", errors.FeatureNotSupported),
        ("ALTER TABLE book ALTER COLUMN title TYPE int USING price + 1", errors.FeatureNotSupported),
        ("SELECT count(*) FROM book FOR UPDATE", errors.FeatureNotSupported),
        ("SELECT * FROM book FOR UPDATE SKIP LOCKED", errors.FeatureNotSupported),
        ("SELECT * FROM (SELECT * FROM book) b FOR UPDATE", errors.FeatureNotSupported),
        ("SELECT * FROM book FOR UPDATE OF other", errors.UndefinedTable),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM book FOR UPDATE", errors.FeatureNotSupported),
    ],
)
def test_what_cannot_be_done_is_told(connection: Connection, sql: str, error: type[psycopg.Error]):
    with pytest.raises(error):
        connection.execute(sql)


def test_an_enum_takes_the_place_of_another_type(connection: Connection):
    connection.execute("CREATE TYPE kind AS ENUM ('a', 'b')")
    with pytest.raises(errors.DatatypeMismatch):
        connection.execute("ALTER TABLE book ALTER COLUMN title TYPE kind")
    connection.execute("ALTER TABLE book ALTER COLUMN title TYPE kind USING title::kind")
    connection.execute("ALTER TYPE kind RENAME TO kind_old")
    connection.execute("CREATE TYPE kind AS ENUM ('b', 'a')")
    connection.execute("ALTER TABLE book ALTER COLUMN title TYPE kind USING title::text::kind")
    connection.execute("DROP TYPE kind_old")
    assert connection.execute("SELECT id FROM book ORDER BY title").fetchall() == [(2,), (1,)]
    connection.execute("ALTER TABLE book ALTER COLUMN title TYPE text")
    connection.execute("DROP TYPE kind")


def test_rows_locked_for_update_have_not_changed_at_commit(server: RunningServer, connection: Connection):
    with server.session() as other:
        other.autocommit = False
        assert other.execute("SELECT price FROM book WHERE id = %s FOR UPDATE", (1,)).fetchall() == [(10,)]
        connection.execute("UPDATE book SET price = 11 WHERE id = 1")
        other.execute("UPDATE book SET price = 21 WHERE id = 2")
        with pytest.raises(errors.SerializationFailure):
            other.commit()
        first = "SELECT id FROM book ORDER BY id LIMIT 1 FOR NO KEY UPDATE NOWAIT"
        assert other.execute(first).fetchall() == [(1,)]
        connection.execute("UPDATE book SET price = 22 WHERE id = 2")  # another row
        other.execute("UPDATE book SET price = price + 1 WHERE id = 1")
        other.commit()
        joined = "SELECT a.id FROM book a JOIN book b ON b.id = a.id + 1 FOR SHARE OF b"
        assert other.execute(joined).fetchall() == [(1,)]
        connection.execute("DELETE FROM book WHERE id = 2")
        with pytest.raises(errors.SerializationFailure):
            other.commit()
    assert connection.execute("SELECT id, price FROM book FOR UPDATE").fetchall() == [(1, 12)]


def test_columns_that_depend_on_a_grouped_key_can_be_selected(connection: Connection):
    connection.execute("CREATE TABLE author (id int PRIMARY KEY, name text)")
    connection.execute("INSERT INTO author VALUES (1, 'Ann'), (2, 'Bob')")
    sql = "SELECT a.name, count(b.id) FROM author a LEFT JOIN book b ON b.author = a.id GROUP BY a.id ORDER BY a.name"
    assert connection.execute(sql).fetchall() == [("Ann", 2), ("Bob", 0)]
    connection.execute("DROP TABLE author")


def test_jsonb_is_told_as_such(connection: Connection):
    found = connection.execute("SELECT doc FROM book WHERE id = 1", binary=True)
    assert found.description is not None
    assert (found.description[0].type_code, found.fetchall()) == (3802, [({},)])
    asked = "SELECT data_type FROM information_schema.columns WHERE table_name = 'book' AND column_name = 'doc'"
    assert connection.execute(asked).fetchall() == [("jsonb",)]
