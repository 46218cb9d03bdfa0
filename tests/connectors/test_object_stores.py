"""Files in object stores: a server that speaks S3 (moto), and a file system of fsspec."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs, parquet

from streamsql.base.errors import InsufficientPrivilege, NotInPrerequisiteState, Unavailable
from streamsql.connectors.files.sink import FileSink, FilesSink
from streamsql.connectors.source import Given, Surroundings
from streamsql.sql.secrets import SecretReference
from tests.connectors.file_reading import Follower, json_lines, rows
from tests.connectors.test_file_sink import ONE_BY_ONE, SHAPE, delivery


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, dict[str, str]]]:
    """Run the server; gives a file system on it, and the options that lead there."""
    monkeypatch.setenv("STORE_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "endpoint": f"http://{host}:{port}", "region": "us-east-1", "access_key": "name",
        "secret_key": SecretReference("env:STORE_KEY"),
    }  # fmt: skip
    system = fs.S3FileSystem(
        access_key="name", secret_key="secret", endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1",
        allow_bucket_creation=True,
    )  # fmt: skip
    system.create_dir("bucket")
    yield system, options
    server.stop()


def write(system: Any, path: str, data: bytes) -> None:
    with system.open_output_stream(path) as file:
        file.write(data)


def follower(path: str, options: dict[str, str], *allowed: str) -> Follower:
    made = Follower("/x.json", Path("/"))
    made.given = Given({"path": path, **options}, {})
    made.surroundings = dataclasses.replace(made.surroundings, allowed_urls=allowed)
    return made


def test_objects_are_read_once_and_new_ones_as_they_come(store: tuple[Any, dict[str, str]]):
    system, options = store
    write(system, "bucket/in/a.json", json_lines(range(10)))
    write(system, "bucket/other/z.json", json_lines([99]))
    found = follower("s3://bucket/in/*.json", options, "s3://bucket/in")
    assert found.all(3) == rows(range(10))
    found.restart()
    write(system, "bucket/in/b.json", json_lines([10, 11]))
    assert found.all() == rows([10, 11])
    assert found.all() == []
    write(system, "bucket/in/b.json", json_lines([10, 11, 12]))
    with pytest.raises(NotInPrerequisiteState, match="replaced by another file"):
        found.all()
    for path in ("s3://bucket/other/*.json", "s3://bucket/in2/*.json", "s3://other/in/*.json"):
        with pytest.raises(InsufficientPrivilege, match="not below an address"):
            follower(path, options, "s3://bucket/in").all()
    with pytest.raises(Unavailable, match="does not answer"):
        follower("s3://bucket/in/*.json", {**options, "endpoint": "http://127.0.0.1:1"}, "s3://bucket").all()


def sink(options: dict[str, str], **more: str) -> FileSink:
    given = Given({"path": "s3://bucket/out", **options, **more}, {})
    return FilesSink().open(given, SHAPE, Surroundings(identity="7", allowed_urls=("s3://bucket",)))


def objects(system: Any) -> list[str]:
    found = system.get_file_info(fs.FileSelector("bucket/out", recursive=True, allow_not_found=True))
    return sorted(info.path.removeprefix("bucket/out/") for info in found if info.type == fs.FileType.File)


def test_objects_are_written_once_and_those_of_a_roll_that_was_cut_off_go(store: tuple[Any, dict[str, str]]):
    system, options = store
    made = sink(options, **ONE_BY_ONE)
    made.deliver(delivery([1, 2], 3))
    made.close()
    name = "part-7-00000000000000000003-0.parquet"
    assert objects(system) == ["_manifest/7/00000000000000000003.json", name]
    # as a crash leaves it before the manifest of the next roll
    cut_off = name.replace("03-0", "05-0")
    write(system, f"bucket/out/{cut_off}", b"rows")
    write(system, "bucket/out/_pending/7/intent.json", json.dumps({"epoch": 5, "files": [cut_off]}).encode())
    made = sink(options, **ONE_BY_ONE)
    assert made.delivered() == 3
    made.deliver(delivery([4], 6))
    made.close()
    names = [n for n in objects(system) if not n.startswith("_")]
    assert names == [name, name.replace("03-0", "06-0")]
    found = [n for file in names for n in parquet.read_table(f"bucket/out/{file}", filesystem=system)["n"].to_pylist()]
    assert found == [1, 2, 4]


def test_other_stores_are_read_by_fsspec():
    system = fsspec.filesystem("memory")
    with system.open("/box/a.json", "wb") as file:
        file.write(json_lines(range(3)))
    found = follower("memory://box/*.json", {}, "memory://box")
    assert found.all() == rows(range(3))
    found.restart()
    assert found.all() == []
