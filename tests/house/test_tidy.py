"""The code stays readable: bounds on length, words to avoid, nothing left for later, no reference to what is not here.

Each rule is a function from text to sentences, tried on a bad sample first, so that a rule that finds nothing is known to
be able to.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import PurePosixPath

import pytest

from tests.house.project import ROOT, python_files, relative, text_files

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70  # without the docstring: nobody should save words there

# What is longer, how long it is, and why. A ratchet: when the thing shrinks, its number must be lowered or its line removed.
LONG_FILES: dict[str, tuple[int, str]] = {}
LONG_FUNCTIONS: dict[str, tuple[int, str]] = {}

VAGUE_NAMES = frozenset({"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
CAPITAL_DOCUMENT = re.compile(r"\b[A-Z][A-Z_]+\.md\b")
DOCUMENT_SECTION = re.compile(r"\b([A-Z]{4,}),? sections? \d")
CLIMBS_OUT = re.compile(r"(?<![\w./])(?:\.\./)+[\w.-]+")


# --------------------------------------------------------------------------------------------------------------- rules


def functions(source: str) -> dict[str, int]:
    """The lines of each function, named ``Class.method``, its docstring and decorators not counted."""
    lengths: dict[str, int] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                visit(child, prefix)
                continue
            name = prefix + child.name
            if not isinstance(child, ast.ClassDef):
                lengths[name] = (child.end_lineno or child.lineno) - child.lineno + 1 - _docstring_lines(child)
            visit(child, name + ".")

    visit(ast.parse(source), "")
    return lengths


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(function, clean=False) is None:
        return 0
    docstring = function.body[0]
    return (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1


def too_long(lengths: dict[str, int], bound: int, exceptions: dict[str, tuple[int, str]]) -> list[str]:
    """What exceeds the bound and its own exception, and the exceptions that are no longer needed or too wide."""
    found = []
    for name, length in lengths.items():
        allowed = exceptions.get(name, (bound, ""))[0]
        if length > allowed:
            found.append(f"{name}: {length} lines, {allowed} allowed")
    for name, (allowed, reason) in exceptions.items():
        if not reason:
            found.append(f"{name}: its exception has no reason")
        if lengths.get(name, 0) <= bound:
            found.append(f"{name}: needs no exception any more")
        elif lengths[name] < allowed:
            found.append(f"{name}: {lengths[name]} lines, lower its exception from {allowed}")
    return found


def prints(source: str) -> list[int]:
    """The lines that call print."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def unfinished(source: str) -> list[int]:
    """The lines whose comment leaves something for later."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.start[0] for token in tokens if token.type == tokenize.COMMENT and UNFINISHED.search(token.string)]


def lacks_docstring(source: str) -> bool:
    """Whether a module has code but does not say what it is for."""
    tree = ast.parse(source)
    return bool(tree.body) and ast.get_docstring(tree) is None


def references_to_elsewhere(text: str, path: str, documents: frozenset[str]) -> list[str]:
    """Mentions of files outside the project: paths that climb out of it, documents that it does not have."""
    depth = len(PurePosixPath(path).parts) - 1
    climbing = [each for each in CLIMBS_OUT.findall(text) if each.count("../") > depth]
    missing = [each for each in CAPITAL_DOCUMENT.findall(text) if each not in documents]
    sections = [each for each in DOCUMENT_SECTION.findall(text) if f"{each}.md" not in documents]
    return climbing + missing + sections


# ------------------------------------------------------------------------------------------------------ on the project


def test_files_are_short():
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in python_files()}
    found = too_long(lengths, FILE_LINES_MAX, LONG_FILES)
    assert not found, "\n".join(found)


def test_functions_are_short():
    lengths = {
        f"{relative(path)}::{name}": length
        for path in python_files()
        for name, length in functions(path.read_text("utf-8")).items()
    }
    found = too_long(lengths, FUNCTION_LINES_MAX, LONG_FUNCTIONS)
    assert not found, "\n".join(found)


def test_only_the_command_line_prints():
    found = [
        f"{relative(path)}:{line}"
        for path in python_files("streamsql")
        if relative(path) != "streamsql/cli.py"
        for line in prints(path.read_text("utf-8"))
    ]
    assert not found, found


def test_nothing_is_left_for_later():
    found = [f"{relative(path)}:{line}" for path in python_files() for line in unfinished(path.read_text("utf-8"))]
    assert not found, found


def test_every_module_says_what_it_is_for():
    found = [relative(path) for path in python_files() if lacks_docstring(path.read_text("utf-8"))]
    assert not found, found


def test_no_file_has_a_name_that_says_nothing():
    found = [relative(path) for path in python_files() if path.stem in VAGUE_NAMES]
    assert not found, found


def test_decisions_are_numbered_one_by_one():
    numbers = sorted(path.name.partition("-")[0] for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


def test_nothing_refers_to_files_outside_the_project():
    documents = frozenset(path.name for path in text_files() if path.suffix == ".md")
    found = {
        relative(path): mentions
        for path in text_files()
        if (mentions := references_to_elsewhere(path.read_text("utf-8"), relative(path), documents))
    }
    assert not found, found


# ------------------------------------------------------------------------------------------------------ on bad samples


def test_a_long_function_is_found_and_its_docstring_is_free():
    body = "".join(f"        x = {number}\n" for number in range(FUNCTION_LINES_MAX))
    docstring = '        """One.\n\n        Two.\n        """\n'
    lengths = functions(f"class C:\n    @cache\n    async def f(self):\n{docstring}{body}\n    def g(self): pass\n")
    assert lengths == {"C.f": FUNCTION_LINES_MAX + 1, "C.g": 1}
    assert too_long(lengths, FUNCTION_LINES_MAX, {}) == ["C.f: 71 lines, 70 allowed"]


@pytest.mark.parametrize(
    ("length", "exceptions", "complaints"),
    [
        (500, {}, 0),
        (501, {}, 1),
        (600, {"f": (600, "a table")}, 0),
        (601, {"f": (600, "a table")}, 1),
        (599, {"f": (600, "a table")}, 1),  # the ratchet must follow
        (400, {"f": (600, "a table")}, 1),  # and go
        (600, {"f": (600, "")}, 1),
    ],
)
def test_exceptions_to_a_bound_are_a_ratchet(length: int, exceptions: dict[str, tuple[int, str]], complaints: int):
    assert len(too_long({"f": length}, FILE_LINES_MAX, exceptions)) == complaints


def test_a_print_is_found():
    assert prints("def f():\n    print('x')\n    console.print('y')\n") == [2]


def test_a_comment_that_leaves_something_for_later_is_found():
    sample = "x = 1  # TO" + "DO: the rest\ny = 'a TO" + "DO in a string is data'\n# a fix for me\n"
    assert unfinished(sample) == [1]


def test_a_module_without_a_docstring_is_found():
    assert lacks_docstring("import os\n")
    assert not lacks_docstring("")
    assert not lacks_docstring('"""What it is for."""\nimport os\n')


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("docs/a.md", "see ../README.md", 0),
        ("docs/a.md", "see ../../elsewhere/notes.txt", 1),
        ("README.md", "see ../elsewhere", 1),
        ("streamsql/sql/parse.py", "from ...plan import x  # and so on...", 0),
        ("docs/a.md", "as NOSUCH" + ".md says", 1),
        ("docs/a.md", "as NOSUCH" + ", section 7, says", 1),
        ("docs/a.md", "RFC 5802 section 5, README section 2", 0),
    ],
)
def test_a_reference_to_something_outside_the_project_is_found(path: str, text: str, found: int):
    assert len(references_to_elsewhere(text, path, frozenset({"README.md"}))) == found


def test_the_files_that_the_rules_read_are_there():
    assert {"pyproject.toml", "Makefile", "LICENSE", "Dockerfile"} <= {relative(path) for path in text_files()}
    assert (ROOT / "tests/house/test_tidy.py") in set(python_files())
