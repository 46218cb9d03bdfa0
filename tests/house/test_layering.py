"""Imports go down the list of layers only, and the synchronous core does no input or output.

Read from the source with `ast`, so that imports inside functions and under TYPE_CHECKING count as well: a type that a
lower layer needs belongs to the lower layer.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.project import PACKAGE, parse, python_files, relative

# Highest first. A module may import from its own layer and from those after it. Folders inside a layer are part of it.
LAYERS = (
    "cli",
    "server",  # with server.statements and server.console
    "export",
    "connectors",
    "engine",  # with engine.operators
    "plan",  # with plan.windows and plan.rules
    "catalog",
    "formats",
    "sql",
    "pgwire",
    "base",
)

# These take events in and give events out: no sockets, threads, clocks or chance.
PURE = ("streamsql.pgwire", "streamsql.sql", "streamsql.plan", "streamsql.engine.operators")
IMPURE_MODULES = frozenset({"asyncio", "socket", "time", "random", "threading"})


def module_name(path: str) -> str:
    """``streamsql/sql/parse.py`` is ``streamsql.sql.parse``; a folder's ``__init__.py`` is the folder."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Every import of a module as (line, dotted name), `from a import b` as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - 1 if is_package else node.level
                here = module.split(".")
                base = ".".join([*here[: len(here) - up], *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Call) and _imports_by_name(node.func) and node.args:
            name = node.args[0]
            yield node.lineno, name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else "?"


def _imports_by_name(function: ast.expr) -> bool:
    called = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    return called in {"import_module", "__import__"}


def layer_of(module: str) -> str | None:
    """The layer of a module of streamsql; None for the package itself (its version) and for other packages."""
    parts = module.split(".")
    if parts[0] != "streamsql" or len(parts) == 1 or parts[1].startswith("__"):
        return None
    return parts[1]


def violations(source: str, path: str) -> list[str]:
    """What a file imports against the rules, as sentences."""
    module = module_name(path)
    own = layer_of(module)
    is_package = path.endswith("__init__.py")
    pure = any(module == name or module.startswith(name + ".") for name in PURE)
    found = []
    for line, name in imports(ast.parse(source, path), module, is_package=is_package):
        target = layer_of(name)
        if name == "?":
            found.append(f"{path}:{line}: imports a module whose name is made at run time")
        elif target is not None and target not in LAYERS:
            found.append(f"{path}:{line}: {name} is in no layer")
        elif target is not None and own is not None and LAYERS.index(target) < LAYERS.index(own):
            found.append(f"{path}:{line}: {own} imports {name}, which is above it")
        if pure and name.split(".")[0] in IMPURE_MODULES:
            found.append(f"{path}:{line}: {module} imports {name}; it must do no input or output")
    return found


def test_imports_go_down_the_list_of_layers_only():
    found = [each for path in python_files("streamsql") for each in violations(path.read_text("utf-8"), relative(path))]
    assert not found, "\n".join(found)


def test_every_module_and_folder_of_the_package_is_in_a_layer():
    names = {layer_of(module_name(relative(path))) for path in python_files("streamsql")} - {None}
    assert names <= set(LAYERS), f"in no layer: {sorted(name for name in names if name and name not in LAYERS)}"


def test_the_package_is_read_at_all():
    assert (PACKAGE / "__init__.py").is_file()
    assert any(True for path in python_files("streamsql") for _ in imports(parse(path), "streamsql", is_package=True))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("streamsql/sql/parse.py", "from streamsql.plan import nodes"),
        ("streamsql/base/errors.py", "import streamsql.cli"),
        ("streamsql/engine/operators/join.py", "from streamsql import server"),
        ("streamsql/engine/store.py", "from ..connectors import source"),
        ("streamsql/engine/__init__.py", "from ..server.session import Session"),
        ("streamsql/plan/bind.py", "def f():\n    from streamsql.engine.store import Store"),
        (
            "streamsql/plan/bind.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import streamsql.engine.store",
        ),
        ("streamsql/pgwire/codec.py", "import importlib\nimportlib.import_module('streamsql.sql.parse')"),
        ("streamsql/pgwire/codec.py", "import importlib\nimportlib.import_module(name)"),
        ("streamsql/formats/json.py", "import streamsql.tools"),
        ("streamsql/pgwire/values/numbers.py", "import asyncio.streams"),
        ("streamsql/engine/operators/join.py", "def f():\n    import time"),
        ("streamsql/plan/__init__.py", "from random import random"),
    ],
)
def test_an_import_against_the_rules_is_found(path: str, source: str):
    assert len(violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("streamsql/cli.py", "from streamsql.server import postgres\nimport asyncio"),
        ("streamsql/server/session.py", "from streamsql.server.statements import STATEMENTS"),
        ("streamsql/engine/operators/join.py", "from streamsql.engine import store\nfrom .top_n import TopN"),
        ("streamsql/engine/operators/__init__.py", "from .join import Join"),
        ("streamsql/engine/epoch.py", "import threading, time"),
        ("streamsql/plan/windows/tumble.py", "from streamsql import __version__\nimport datetime"),
    ],
)
def test_an_import_by_the_rules_is_let_through(path: str, source: str):
    assert violations(source, path) == []
