"""Where files lie: a folder of this machine, or a bucket of an object store; what is there, and how one is opened.

A path names a file, a folder (all files below it), or a pattern: ``*`` and ``?`` within a name, ``[ab]``, and ``**`` for any
number of folders. Names that begin with a dot or an underscore are left out, as they are of writers at work (ours too), unless
the pattern itself says so. Links are followed, but never to what lies outside of the folders that the server may use.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import pyarrow as pa
from pyarrow import fs

from streamsql.base.errors import FeatureNotSupported, InsufficientPrivilege, InvalidParameterValue, Unavailable
from streamsql.connectors.files.reading import mark_of
from streamsql.connectors.settings import allowed_path
from streamsql.connectors.source import Surroundings

_MAGIC = re.compile(r"[*?\[]")
_DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it is now: its name below the root, with slashes; its size; its last change; what it is on the disk, if
    that is known."""

    name: str
    size: int
    changed_ns: int
    inode: int = 0


class Place(Protocol):
    """A root, and the files below it that are wanted. Of an object store, they are replaced as a whole and never grow."""

    grows: bool

    def list(self) -> Iterator[Found]:
        """Give what is there now, in no order. Raises Unavailable where the root cannot be read."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read anywhere in it. Raises FileNotFoundError, Unavailable, InsufficientPrivilege."""
        ...

    def mark(self, file: IO[bytes], found: Found, upto: int) -> str:
        """Give the mark of a file's first bytes, by which it is known again (`reading`)."""
        ...

    def shown(self, name: str) -> str:
        """Give the path or address of a file."""
        ...


# ---- names ----


def split(path: str) -> tuple[str, str]:
    """Part a path before the first name that is a pattern: the root, and the pattern below it (or nothing)."""
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])


def pattern_of(text: str) -> re.Pattern[str]:
    """Make an expression that whole names below the root are to match."""
    made = []
    parts = text.split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            made.append(r"(?:(?![._])[^/]+/)*" + (r"(?![._])[^/]+" if last else ""))
            continue
        if "**" in part:
            raise InvalidParameterValue(
                f'"**" stands for whole folders, not within "{part}"', hint="write it as a/**/b"
            )
        hidden = "" if part[:1] in {".", "_"} else r"(?![._])"
        made.append(hidden + _of_name(part) + ("" if last else "/"))
    return re.compile("".join(made), re.DOTALL)


def _of_name(part: str) -> str:
    made, index = "", 0
    while index < len(part):
        character = part[index]
        index += 1
        if character == "*":
            made += "[^/]*"
        elif character == "?":
            made += "[^/]"
        elif character == "[" and (end := part.find("]", index + 1 + (part[index : index + 1] in {"!", "^"}))) > 0:
            inside = part[index:end].replace("\\", r"\\").replace("[", r"\[")
            made += "[" + ("^/" + inside[1:] if inside[:1] in {"!", "^"} else inside) + "]"
            index = end + 1
        else:
            made += re.escape(character)
    return made


def _deepest(pattern: str) -> int:
    """Tell below how many folders names can match."""
    return _DEPTH_MAX if "**" in pattern or not pattern else pattern.count("/")


# ---- this machine ----


class Folder:
    """A folder of this machine, or one file of it."""

    grows = True

    def __init__(self, path: str, surroundings: Surroundings) -> None:
        if not os.path.isabs(path):
            raise InvalidParameterValue(f'"{path}" is not an absolute path', hint="begin it with a slash")
        self._surroundings = surroundings
        root, pattern = split(path)
        allowed_path(root or "/", surroundings)
        self._one = not pattern and not os.path.isdir(root)
        self._root = os.path.dirname(root) if self._one else root or "/"
        self._name = os.path.basename(root) if self._one else ""
        self._pattern = pattern_of(pattern) if pattern else None
        self._depth = _deepest(pattern)

    def list(self) -> Iterator[Found]:
        if self._one:
            yield self._only()
            return
        try:
            yield from self._below(self._root, "", 0)
        except OSError as error:
            raise Unavailable(f'cannot read the folder "{error.filename or self._root}": {error.strerror}') from error

    def _only(self) -> Found:
        try:
            at = os.stat(self.shown(self._name))
        except OSError as error:
            raise Unavailable(f'cannot read "{self.shown(self._name)}": {error.strerror}') from error
        return Found(self._name, at.st_size, at.st_mtime_ns, at.st_ino)

    def _below(self, folder: str, prefix: str, depth: int) -> Iterator[Found]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                try:
                    if entry.is_dir():
                        if depth < self._depth and (self._pattern is not None or entry.name[0] not in "._"):
                            yield from self._below(entry.path, name + "/", depth + 1)
                    elif self._wanted(name, entry.name) and entry.is_file():
                        at = entry.stat()
                        yield Found(name, at.st_size, at.st_mtime_ns, at.st_ino)
                except FileNotFoundError:
                    continue  # gone since the folder was read

    def _wanted(self, name: str, last: str) -> bool:
        return last[0] not in "._" if self._pattern is None else self._pattern.fullmatch(name) is not None

    def open(self, name: str) -> IO[bytes]:
        shown = self.shown(name)
        path = allowed_path(shown, self._surroundings)
        try:
            # a link that was put in the way since is not followed, and a pipe does not make the thread wait
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unavailable(f'cannot open "{shown}": {error.strerror}') from error
        opened = os.fdopen(number, "rb", buffering=0)
        try:
            self._check(opened, shown)
        except BaseException:
            opened.close()
            raise
        return opened

    def _check(self, opened: Any, shown: str) -> None:
        """See that what was opened is a file of an allowed folder: a folder above it may have become a link meanwhile."""
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise InvalidParameterValue(f'"{shown}" is not a file')
        own = Path(f"/proc/self/fd/{opened.fileno()}")
        if own.exists():
            allowed_path(os.readlink(own).removesuffix(" (deleted)"), self._surroundings)

    def mark(self, file: IO[bytes], found: Found, upto: int) -> str:
        return mark_of(file, upto)

    def shown(self, name: str) -> str:
        return os.path.join(self._root, name)


# ---- object stores ----


class Bucket:
    """Files of an object store, or of any file system that Arrow knows."""

    grows = False

    def __init__(self, system: Any, scheme: str, path: str) -> None:
        self._system, self._scheme = system, scheme
        root, pattern = split(path)
        with _reached(scheme):
            kind = system.get_file_info(root).type if root else fs.FileType.Directory
        self._one = not pattern and kind == fs.FileType.File
        self._root = root.rpartition("/")[0] if self._one else root.rstrip("/")
        self._name = root.rpartition("/")[2] if self._one else ""
        self._pattern = pattern_of(pattern) if pattern else None
        self._deep = _deepest(pattern) > 0

    def list(self) -> Iterator[Found]:
        selector: Any = [f"{self._root}/{self._name}"] if self._one else None
        with _reached(self._scheme):
            found = self._system.get_file_info(
                selector or fs.FileSelector(self._root, allow_not_found=True, recursive=self._deep)
            )
        cut = len(self._root.strip("/")) + 1
        for info in found:
            name = info.path.strip("/")[cut:]  # some systems say /bucket/name
            if info.type == fs.FileType.File and self._wanted(name):
                yield Found(name, info.size, info.mtime_ns or 0)

    def _wanted(self, name: str) -> bool:
        if self._pattern is None:
            return all(part[:1] not in {".", "_"} for part in name.split("/"))
        return self._pattern.fullmatch(name) is not None

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._system.open_input_file(f"{self._root}/{name}")  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unavailable(f'cannot open "{self.shown(name)}": {_first_line(error)}') from error

    def mark(self, file: IO[bytes], found: Found, upto: int) -> str:
        return str(found.changed_ns) if found.changed_ns else mark_of(file, upto)

    def shown(self, name: str) -> str:
        return f"{self._scheme}://{self._root}/{name}"


class _reached:  # noqa: N801  # a context manager, used as a word
    """Says Unavailable where an object store does not answer."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, pa.ArrowException)):
            raise Unavailable(f"the store of {self._scheme}:// does not answer: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]


def scheme_of(path: str) -> tuple[str, str]:
    """Part a path into its scheme, ``file`` where it names none, and the rest."""
    scheme, colon, rest = path.partition("://")
    if not colon:
        return "file", path
    return scheme.lower(), rest


def check_url(scheme: str, path: str, surroundings: Surroundings) -> None:
    """Raise InsufficientPrivilege unless the path lies below an address of ``--allow-path``."""
    if ".." in PurePosixPath(path).parts:
        raise InvalidParameterValue(f'".." in "{scheme}://{path}"')
    root = split(path)[0]
    wanted = f"{scheme}://{root}".rstrip("/") + "/"
    if not any(wanted.startswith(address.rstrip("/") + "/") for address in surroundings.allowed_urls):
        raise InsufficientPrivilege(
            f'"{scheme}://{path}" is not below an address that the server may use',
            hint=f"start the server with --allow-path {scheme}://{root.partition('/')[0]}",
        )


def system_of(scheme: str, options: dict[str, Any]) -> Any:
    """Give Arrow's file system for a scheme, with what the options say. Raises FeatureNotSupported."""
    if scheme == "s3":
        given = {
            "endpoint_override": options["endpoint"], "region": options["region"],
            "access_key": options["access_key"], "secret_key": options["secret_key"],
            "session_token": options["session_token"], "anonymous": options["anonymous"] or None,
        }  # fmt: skip
        given = {name: value for name, value in given.items() if value}
        endpoint = given.get("endpoint_override", "")
        if "://" in endpoint:
            given["scheme"], _, given["endpoint_override"] = endpoint.partition("://")
        return fs.S3FileSystem(**given, connect_timeout=10, request_timeout=30)
    if scheme in {"gs", "gcs"}:
        return fs.GcsFileSystem(anonymous=options["anonymous"])
    try:
        import fsspec
    except ImportError:
        raise FeatureNotSupported(
            f'files of "{scheme}://" need fsspec',
            hint="pip install 'streamsql[fsspec]', and the package for this scheme",
        ) from None
    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ValueError, ImportError) as error:
        raise FeatureNotSupported(f'files of "{scheme}://": {_first_line(error)}') from error


def place_of(path: str, options: dict[str, Any], surroundings: Surroundings) -> Place:
    """Give the place that a path names. Raises InsufficientPrivilege where the server may not use it."""
    scheme, rest = scheme_of(path)
    if scheme == "file":
        return Folder(rest, surroundings)
    check_url(scheme, rest, surroundings)
    return Bucket(system_of(scheme, options), scheme, rest)
