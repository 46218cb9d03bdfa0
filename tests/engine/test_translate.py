"""What no rule knows of DuckDB's messages reaches a client without DuckDB's advice, types, names and places."""

from __future__ import annotations

import pytest

from streamsql.engine.translate import translate_text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "Binder Error: Cannot frobnicate VARCHAR and INTEGER[] - an explicit cast is required\n\nLINE 1: SELECT",
            ("42601", "cannot frobnicate text and integer[]"),
        ),
        ("Conversion Error: Wrong shape of INT64. Use TRY_CAST to get NULL", ("22000", "wrong shape of bigint")),
        ("Invalid Input Error: Too many. Please SET threads = 4", ("22023", "too many")),
        ('Catalog Error: Nothing here! Did you mean "_engine.objects"?', ("42704", "nothing here")),
        ('Binder Error: Cannot use "__kept 3"', ("42601", "the statement cannot be executed")),
        ("Invalid Input Error: Cannot open /var/lib/state.duckdb", ("22023", "the statement cannot be executed")),
        ("Binder Error: Value of DECIMAL(10,2) is odd", ("42601", "value of numeric is odd")),
        ("INTERNAL Error: Assertion failed in vector.cpp", ("XX000", "internal error")),
    ],
)
def test_a_message_that_no_rule_knows_is_cleaned(text: str, told: tuple[str, str]) -> None:
    error = translate_text(text)
    assert (error.sqlstate, error.message) == told
