"""pgjdbc: what Java programs, DBeaver and Metabase do. The conversation is java/Conversation.java."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.programs import CLIENTS, needs, output_of, sections
from tests.running import RunningServer

pytestmark = pytest.mark.programs

JAR = Path("/usr/share/java/postgresql.jar")


@pytest.fixture(scope="module")
def said(server: RunningServer) -> dict[str, list[str]]:
    java, jar = needs(shutil.which("java"), "Java"), needs(JAR, "pgjdbc")
    url = f"jdbc:postgresql://127.0.0.1:{server.port}/streamsql?user=tester"
    program = str(CLIENTS / "java" / "Conversation.java")
    return sections(output_of([java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", jar, program, url]))


COLUMNS = (
    "id|int4|10|NO name|text|2147483647|NO price|numeric|10|YES at|timestamp|29|YES tz|timestamptz|35|YES d|date|13|YES "
    "t|time|15|YES f|float8|17|YES b|bool|1|YES l|int8|19|YES u|uuid|2147483647|YES raw|bytea|2147483647|YES "
    "tags|_text|2147483647|YES"
)
VALUES = (
    "[n|1.50|2024-02-29T12:30:15.123456|2024-02-29T10:00:00Z|1969-12-31|23:59:59|0.25|true|9223372036854775807|"
    "12345678-1234-5678-1234-567812345678|[0, -1]|[a, null, b,c]]"
)
EXPECTED = {
    "product": ["PostgreSQL 15"],
    "catalogs": ["streamsql"],
    "types": ["true"],
    "tables": ["counts|MATERIALIZED VIEW events|TABLE j|TABLE"],
    "keys": ["id|j_pkey"],
    "imported": [""],
    "best row": ["id"],
    "type info": ["true"],
    "values": [VALUES],
    "parameters": ["int4"],
    "nulls": ["1"],
    "prepared": ["210"],
    "batch": ["[1, 1, 2]"],
    "prepared batch": ["1000"],
    "batched": ["1002|499503"],
    "update": ["3"],
    "delete": ["9"],
    "inside": ["3"],
    "after": ["0"],
    "read only": ["25006"],
    "error": [
        '42703 ERROR: column "nosuch" does not exist',
        '42P01 ERROR: relation "nowhere" does not exist',
        '23505 ERROR: duplicate key value violates unique constraint "j_pkey"',
        '23502 ERROR: null value in column "name" of relation "j" violates not-null constraint',
        "22012 ERROR: division by zero",
        '22P02 ERROR: invalid input syntax for type integer: "x"',
    ],
    "valid": ["true"],
    "fetched": ["551775"],
    "limited": ["1 2 3 4 5 6 7"],
    "running": ["true"],
    "cancelled": ["57014"],
    "live": ["[1, 2] a|1 b|1"],
}


@pytest.mark.parametrize("section", sorted(EXPECTED))
def test_java_programs_get_what_they_ask_for(said: dict[str, list[str]], section: str):
    assert said.get(section) == EXPECTED[section]


def test_columns_have_the_types_that_were_declared(said: dict[str, list[str]]):
    (columns,) = said["columns"]
    # a length of varchar is not kept: that column is text
    assert columns.replace("name|varchar|30|", "name|text|2147483647|") == COLUMNS
    assert "public" in said["schemas"][0].split()
    assert "numeric:java.math.BigDecimal" in said["described"][0]
    assert "_text:java.sql.Array" in said["described"][0]
