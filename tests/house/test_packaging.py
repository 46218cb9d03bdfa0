"""What is installed is what was meant: the wheel, the lock file, the image, the licence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import streamsql
from tests.house.project import PACKAGE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    assert "streamsql/py.typed" in held


def test_the_wheel_has_the_version_the_licence_and_the_program(wheel: zipfile.ZipFile):
    information = f"streamsql-{streamsql.__version__}.dist-info"
    assert f"{information}/licenses/LICENSE" in wheel.namelist()
    assert b"streamsql = streamsql.cli:program" in wheel.read(f"{information}/entry_points.txt")
    assert b"License-Expression: Apache-2.0" in wheel.read(f"{information}/METADATA")


def locked() -> dict[str, list[str]]:
    """The pins of requirements.lock: versions by canonical name (several where they differ by marker)."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines():
        requirement = Requirement(line)
        pins.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier))
    return pins


def test_the_lock_pins_every_dependency_to_a_version_that_is_allowed():
    wanted = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    pins = locked()
    for requirement in map(Requirement, wanted):
        if requirement.name == "streamsql":
            continue
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in requirements.lock: make lock"
        for pin in pins[name]:
            assert pin.startswith("=="), pin
            assert requirement.specifier.contains(pin.removeprefix("==")), (
                f"{requirement} is locked to {pin}: make lock"
            )


def test_the_lock_names_no_index():
    assert not re.search(r"://|--", (ROOT / "requirements.lock").read_text("utf-8"))


def copied() -> list[str]:
    """What the Dockerfile copies from the project."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_is_built_from_is_there_and_not_ignored():
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        ignored = False
        for pattern in patterns:  # the last pattern that matches decides
            if pattern and not pattern.startswith("#") and fnmatch(source, pattern.removeprefix("!")):
                ignored = not pattern.startswith("!")
        assert not ignored, f"{source} is in .dockerignore"


def test_the_image_runs_the_server_as_its_own_user_and_its_health_check_is_python():
    commands = [json.loads(each) for each in re.findall(r"CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)]
    health, server = commands
    assert server[:2] == ["streamsql", "serve"]
    assert re.search(r"^USER streamsql$", DOCKERFILE, re.MULTILINE)
    python, option, program = health
    assert (python, option) == ("python", "-c")
    compile(program, "health check", "exec")


def test_the_folder_of_the_program_has_no_stray_files():
    known = {".py", ".typed", ".html", ".css", ".js", ".json", ".lark", ".sql", ".txt"}
    stray = [path for path in PACKAGE.rglob("*") if path.is_file() and _suffix(path) not in known | {".pyc"}]
    assert not stray


def _suffix(path: Path) -> str:
    return path.suffix or path.name
