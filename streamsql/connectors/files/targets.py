"""Where a sink of files writes: a folder of this machine, or a prefix in a bucket. A file is there whole, or not at all.

put(name, data)                 a file, for good once it returns
stage(place, name, data)        a file that is to be seen after `publish`: this machine has it under another name until
publish([(place, name), ...])   then; a bucket has no such step, so there it is under its own at once
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import fs

from streamsql.base.errors import InvalidParameterValue, Unavailable
from streamsql.connectors.files.places import check_url, scheme_of, system_of
from streamsql.connectors.settings import allowed_path
from streamsql.connectors.source import Surroundings


class Target(Protocol):
    """A root that files are written below."""

    stages: bool

    def put(self, name: str, data: bytes) -> None: ...
    def stage(self, place: str, name: str, data: bytes) -> None: ...
    def publish(self, files: Iterable[tuple[str, str]]) -> None: ...
    def get(self, name: str) -> bytes | None: ...
    def names(self, folder: str) -> list[str]: ...
    def delete(self, names: Sequence[str]) -> None: ...


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    """Say Unavailable where the disk is full, or the store does not answer: it may be otherwise later."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0][:300]
        raise Unavailable(f'cannot write "{what}": {reason}') from error


class FolderTarget:
    """A folder of this machine."""

    stages = True

    def __init__(self, path: str, surroundings: Surroundings) -> None:
        if not os.path.isabs(path):
            raise InvalidParameterValue(f'"{path}" is not an absolute path', hint="begin it with a slash")
        self._surroundings = surroundings
        self._root = Path(path)
        self._made: set[Path] = set()

    def _path(self, name: str) -> Path:
        """Give the path of a file, its folder made; it must still lie where the server may write."""
        path = self._root / name
        folder = allowed_path(str(path.parent), self._surroundings)
        if folder not in self._made or not folder.is_dir():
            _make_folder(folder)
            self._made.add(folder)
        return folder / path.name

    def put(self, name: str, data: bytes) -> None:
        with _writing(str(self._root / name)):
            path = self._path(name)
            beside = path.with_name(f".{path.name}.tmp")
            _write(beside, data)
            beside.rename(path)
            _sync_folder(path.parent)

    def stage(self, place: str, name: str, data: bytes) -> None:
        with _writing(str(self._root / name)):
            _write(self._path(place), data)

    def publish(self, files: Iterable[tuple[str, str]]) -> None:
        """Give staged files their names; those that have them already are left."""
        with _writing(str(self._root)):
            folders = set()
            for place, name in files:
                path = self._path(name)
                with contextlib.suppress(FileNotFoundError):  # it was given its name before a crash
                    self._path(place).rename(path)
                folders.add(path.parent)
            for folder in folders:
                _sync_folder(folder)

    def get(self, name: str) -> bytes | None:
        with _writing(str(self._root / name)):
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        with _writing(str(self._root / folder)):
            allowed_path(str(self._root / folder), self._surroundings)
            try:
                return sorted(entry.name for entry in os.scandir(self._root / folder))
            except FileNotFoundError:
                return []

    def delete(self, names: Sequence[str]) -> None:
        with _writing(str(self._root)):
            for name in names:
                self._path(name).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(number, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(number)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(number)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class BucketTarget:
    """A prefix in an object store."""

    stages = False

    def __init__(self, system: Any, scheme: str, path: str) -> None:
        self._system, self._root, self._shown = system, path.rstrip("/"), f"{scheme}://{path}"

    def put(self, name: str, data: bytes) -> None:
        with _writing(f"{self._shown}/{name}"), self._system.open_output_stream(f"{self._root}/{name}") as file:
            file.write(data)

    def stage(self, place: str, name: str, data: bytes) -> None:
        self.put(name, data)

    def publish(self, files: Iterable[tuple[str, str]]) -> None:
        """They have their names."""

    def get(self, name: str) -> bytes | None:
        with _writing(f"{self._shown}/{name}"):
            if self._system.get_file_info(f"{self._root}/{name}").type != fs.FileType.File:
                return None
            with self._system.open_input_file(f"{self._root}/{name}") as file:
                return bytes(file.read())

    def names(self, folder: str) -> list[str]:
        with _writing(f"{self._shown}/{folder}"):
            found = self._system.get_file_info(fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True))
            return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def delete(self, names: Sequence[str]) -> None:
        with _writing(self._shown):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._system.delete_file(f"{self._root}/{name}")


def target_of(path: str, options: dict[str, Any], surroundings: Surroundings) -> Target:
    """Give the target that a path names. Raises InsufficientPrivilege where the server may not write there."""
    scheme, rest = scheme_of(path)
    if scheme == "file":
        allowed_path(rest, surroundings)
        return FolderTarget(rest, surroundings)
    check_url(scheme, rest, surroundings)
    return BucketTarget(system_of(scheme, options), scheme, rest)
