"""Files of a sink: each row once, each file whole or absent, wherever writing is cut off."""

from __future__ import annotations

import gzip
import json
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from streamsql.base import faults
from streamsql.base.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidParameterValue,
    StreamSQLError,
    Unavailable,
)
from streamsql.catalog.objects import OutputColumn
from streamsql.connectors.files import sink as sinks
from streamsql.connectors.files.sink import FileSink, FilesSink
from streamsql.connectors.files.targets import FolderTarget
from streamsql.connectors.sink import Delivery, Guarantee, Shape
from streamsql.connectors.source import Given, Surroundings
from tests.running import until

SHAPE = Shape((OutputColumn("n", "BIGINT"), OutputColumn("word", "VARCHAR")), True, ())
ONE_BY_ONE = {"roll_interval": "0"}


def opened(path: Path, shape: Shape = SHAPE, /, **options: str) -> FileSink:
    given = Given({"path": str(path), **options}, {})
    FilesSink().check(given, shape)
    return FilesSink().open(given, shape, Surroundings((path.parent.resolve(),), identity="7"))


def delivery(
    numbers: Sequence[int], first: int, last: int | None = None, weights: Sequence[int] | None = None
) -> Delivery:
    rows = pa.table(
        {"n": pa.array(numbers, pa.int64()), "word": [None if n % 7 == 3 else f"w{n % 3}" for n in numbers]}
    )
    count = len(numbers)
    given = np.ones(count, np.int8) if weights is None else np.array(weights, np.int8)
    return Delivery(rows, given, np.full(count, first), np.arange(count), first, last or first)


def files(path: Path) -> list[str]:
    found = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return sorted(name for name in found if not name.startswith("_"))


def listed(path: Path) -> list[str]:
    manifests = sorted((path / "_manifest").rglob("*.json"))
    return sorted(f["path"] for m in manifests for f in json.loads(m.read_text())["files"])


def read(path: Path, select: str = "n, word", pattern: str = "part-*.parquet") -> list[tuple[Any, ...]]:
    return duckdb.connect().execute(f"SELECT {select} FROM '{path}/{pattern}' ORDER BY ALL").fetchall()


def test_rows_wait_durably_until_they_are_rolled(tmp_path: Path):
    path = tmp_path / "out"
    sink = opened(path, roll_interval="1 hour")
    assert sink.delivered() == 0
    sink.deliver(delivery([1, 2], 3))
    sink.deliver(delivery([4], 5, 6))
    assert sink.delivered() == 6
    assert files(path) == []
    other = opened(path, roll_interval="1 hour")  # as after a crash
    assert other.delivered() == 6
    other.close()
    assert read(path) == [(1, "w1"), (2, "w2"), (4, "w1")]
    assert files(path) == listed(path) == ["part-7-00000000000000000006-0.parquet"]
    assert not [*(path / "_pending/7").iterdir()]


def test_files_are_rolled_by_their_size_and_in_time(tmp_path: Path):
    path = tmp_path / "out"
    sink = opened(path, roll_interval="1 hour", roll_bytes="35000")
    for epoch in range(1, 11):
        sink.deliver(delivery(range(epoch * 1_000, epoch * 1_000 + 1_000), epoch))
    assert 2 < len(files(path)) < 6
    sink.close()
    assert [n for n, _ in read(path)] == [*range(1_000, 11_000)]
    path = tmp_path / "timed"
    sink = opened(path, roll_interval="50 milliseconds")
    sink.deliver(delivery([1], 1))
    until(lambda: files(path))
    assert read(path) == [(1, "w1")]
    sink.close()
    assert len(files(path)) == 1


def test_rows_are_parted_by_columns_as_hive_does(tmp_path: Path):
    path = tmp_path / "out"
    shape = Shape((*SHAPE.columns, OutputColumn("at", "TIMESTAMP")), True, ())
    sink = opened(path, shape, partition_by="word, at", **ONE_BY_ONE)
    given = delivery(range(8), 1)
    times = pa.array([n % 2 * 3_600_000_000 for n in range(8)], pa.timestamp("us"))
    sink.deliver(Delivery(given.rows.append_column("at", times), given.weights, given.epochs, given.numbers, 1, 1))
    sink.close()
    assert files(path) == listed(path)
    assert "word=w0/at=1970-01-01T00%3A00%3A00" in {str(Path(name).parent) for name in files(path)}
    assert any(name.startswith("word=__HIVE_DEFAULT_PARTITION__/") for name in files(path))
    found = (
        duckdb.connect()
        .execute(
            f"SELECT n, word, CAST(t.at AS TEXT) FROM read_parquet('{path}/*/*/*.parquet', hive_partitioning = 1) t ORDER BY n"
        )
        .fetchall()
    )
    assert [n for n, _, _ in found] == [*range(8)]
    assert found[1] == (1, "w1", "1970-01-01T01:00:00")


@pytest.mark.parametrize(
    ("kind", "compression", "ending"),
    [("json", "none", "json"), ("json", "gzip", "json.gz"), ("json", "zstd", "json.zst"), ("csv", "none", "csv"),
     ("csv", "gzip", "csv.gz"), ("parquet", "snappy", "parquet")],
)  # fmt: skip
def test_each_format_is_read_back_by_others(tmp_path: Path, kind: str, compression: str, ending: str):
    path = tmp_path / "out"
    sink = opened(path, format=kind, compression=compression, **ONE_BY_ONE)
    sink.deliver(delivery(range(1, 6), 1))
    sink.close()
    assert files(path) == [f"part-7-00000000000000000001-0.{ending}"]
    if ending == "csv.gz":
        text = gzip.decompress((path / files(path)[0]).read_bytes())
        assert text == b"n,word\n1,w1\n2,w2\n3,\n4,w1\n5,w2\n"
    assert read(path, pattern=f"*.{ending}") == [(1, "w1"), (2, "w2"), (3, None), (4, "w1"), (5, "w2")]


def test_changes_are_written_with_their_weights(tmp_path: Path):
    path = tmp_path / "out"
    shape = Shape(SHAPE.columns, False, ())
    with pytest.raises(FeatureNotSupported, match="a file keeps what it holds"):
        opened(path, shape)
    sink = opened(path, shape, changes="true", **ONE_BY_ONE)
    sink.deliver(delivery([1, 2], 1))
    sink.deliver(delivery([1, 5], 2, weights=[-1, 1]))
    sink.close()
    found = read(path, "n, __weight, __epoch")
    assert found == [(1, -1, 2), (1, 1, 1), (2, 1, 1), (5, 1, 2)]
    select = f"SELECT n FROM '{path}/*.parquet' GROUP BY n HAVING sum(__weight) > 0 ORDER BY n"
    left = duckdb.connect().execute(select).fetchall()
    assert left == [(2,), (5,)]


class Killed(BaseException):
    """The process is gone here."""


@pytest.mark.parametrize("rolls", ["0", "1 hour"])
@pytest.mark.parametrize("point", faults.FILE_POINTS)
def test_what_is_cut_off_anywhere_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, rolls: str
):
    path = tmp_path / "out"
    left = [0]

    def reached(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    monkeypatch.setattr(sinks, "reached", reached)
    wanted: list[int] = []
    for killed_at in (1, 2, 3):
        left[0] = killed_at
        seen = False
        for _ in range(4):  # deliveries, as the deliverer makes them: from what the sink says that it has
            sink = opened(path, roll_interval=rolls, partition_by="word", roll_bytes="2000000")
            try:
                done = sink.delivered() or 0
                assert files(path) == listed(path)
                for epoch in range(done + 1, done + 3):
                    wanted = [n for n in wanted if n < epoch * 10] + [*range(epoch * 10, epoch * 10 + 10)]
                    sink.deliver(delivery(wanted[-10:], epoch))
                sink.close()
            except Killed:
                seen = True
                sink._pending.clear()  # nothing of it does anything any more
                sink._closed = True
                sink._wake.set()
            assert set(files(path)) <= set(listed(path))
        assert seen or (point == "files.pending_written" and rolls == "0")
    opened(path, roll_interval=rolls, partition_by="word").close()
    assert files(path) == listed(path)
    found = (
        duckdb.connect()
        .execute(f"SELECT n FROM read_parquet('{path}/*/*.parquet', hive_partitioning = true) ORDER BY n")
        .fetchall()
    )
    assert [n for (n,) in found] == wanted
    assert not [*(path / "_tmp/7").iterdir()]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Lets this process write no file of more than 20,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_says_so_and_leaves_nothing(tmp_path: Path, small_disk: None):
    path = tmp_path / "out"
    sink = opened(path, format="json", **ONE_BY_ONE)
    sink.deliver(delivery(range(10), 1))
    with pytest.raises(Unavailable, match="File too large"):
        sink.deliver(delivery(range(10, 5_000), 2))
    assert len(files(path)) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sink.deliver(delivery(range(10, 5_000), 2))
    sink.close()
    assert [n for n, _ in read(path, pattern="*.json")] == [*range(5_000)]


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    for options, said in (
        ({"partition_by": "z"}, 'column "z" does not exist'),
        ({"partition_by": "n, word"}, "a column must be left"),
        ({"partition_by": "n, n"}, "names each column once"),
        ({"compression": "snappy", "format": "csv"}, "not packed by snappy"),
        ({"header": "false"}, 'the option "header" is for csv'),
    ):
        with pytest.raises(StreamSQLError, match=said):
            opened(tmp_path / "out", SHAPE, **options)
    with pytest.raises(InvalidParameterValue, match="absolute path"):
        FolderTarget("out", Surroundings((tmp_path,)))
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(outside)
    with pytest.raises(InsufficientPrivilege):
        opened(tmp_path / "in" / "link")
    assert FilesSink().check(Given({"path": "/x"}, {}), SHAPE) is Guarantee.EXACTLY_ONCE
