"""docs/connectors.md says what the connectors declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamsql.connectors.documentation import DECLARED, page

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_connectors_declare():
    assert (ROOT / "docs/connectors.md").read_text("utf-8") == page(), (
        "python -m streamsql.connectors.documentation > docs/connectors.md writes it anew"
    )


@pytest.mark.parametrize("name", DECLARED)
def test_every_option_says_what_it_is_for(name: str):
    declared = DECLARED[name]
    options = {**(declared.source or {}), **(declared.sink or {})}
    assert [option for option, told in options.items() if not told.says] == []
