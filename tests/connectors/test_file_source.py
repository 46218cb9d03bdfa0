"""Files that come and grow: each row comes once, in order, wherever reading was cut."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamsql.base.errors import (
    InsufficientPrivilege,
    InvalidParameterValue,
    NotInPrerequisiteState,
    StreamSQLError,
    Unavailable,
)
from streamsql.connectors.files import Files
from streamsql.connectors.files.known import KEPT_FILES
from streamsql.connectors.files.reading import CHUNK_BYTES
from streamsql.connectors.source import Given
from tests.connectors.file_reading import (
    COLUMNS,
    WRITERS,
    Follower,
    csv_lines,
    json_lines,
    rows,
    with_included,
    write_parquet,
)


@pytest.mark.parametrize("ending", WRITERS)
def test_files_of_each_kind_are_read_whole_and_from_any_position(tmp_path: Path, ending: str):
    for index in range(3):
        WRITERS[ending](tmp_path / f"part-{index}.{ending}", range(index * 500, index * 500 + 500))
    pattern = tmp_path / f"*.{ending}"
    assert Follower(pattern, tmp_path).all() == rows(range(1_500))
    follower, found = Follower(pattern, tmp_path), []
    while True:
        batch = follower.read(37)
        if batch is None:
            break
        found += [*zip(*(c.to_pylist() for c in batch.rows.columns), strict=True)]
        follower.restart()
    assert found == rows(range(1_500))
    assert len(follower.batches) > 20


@pytest.mark.parametrize("ending", WRITERS)
def test_a_row_tells_its_file_and_its_number(tmp_path: Path, ending: str):
    WRITERS[ending](tmp_path / f"a.{ending}", range(300))
    columns = with_included("file", "offset", "timestamp")
    whole = Follower(tmp_path / f"a.{ending}", tmp_path, columns).all()
    cut = Follower(tmp_path / f"a.{ending}", tmp_path, columns).all(17)
    assert whole == cut
    assert {row[2] for row in whole} == {str(tmp_path / f"a.{ending}")}
    offsets = [row[3] for row in whole]
    if ending in {"parquet", "arrow", "arrows"}:
        assert offsets == [*range(300)]
    else:
        plain = json_lines(range(300)) if ending.startswith("json") else csv_lines(range(300))
        assert [plain[o : plain.index(b"\n", o)].count(b"w%d" % n) for n, o in enumerate(offsets)] == [1] * 300
    assert {row[4].timestamp() for row in whole} == {(tmp_path / f"a.{ending}").stat().st_mtime_ns // 1_000 / 1e6}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    ending=st.sampled_from(["json", "csv"]),
    steps=st.lists(st.tuples(st.integers(1, 1_500), st.integers(1, 40), st.booleans()), max_size=8),
)
def test_a_file_that_grows_in_any_pieces_gives_each_row_once(tmp_path: Path, ending: str, steps):
    whole = json_lines(range(60)) if ending == "json" else csv_lines(range(60))
    path = tmp_path / f"{len([*tmp_path.iterdir()])}.{ending}"
    path.touch()
    follower, found, at = Follower(path, tmp_path), [], 0
    for step, rows_max, restarts in [*steps, (len(whole), 40, False)]:
        with path.open("ab") as file:
            file.write(whole[at : at + step])
        at += step
        found += follower.all(rows_max)
        if restarts:
            follower.restart()
    assert found == rows(range(60))
    assert follower.reasons() == []


def test_a_packed_file_that_grows_is_read_on(tmp_path: Path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json_lines(range(10))))
    follower = Follower(path, tmp_path)
    assert follower.all() == rows(range(10))
    with path.open("ab") as file:
        file.write(gzip.compress(json_lines(range(10, 20))))
    assert follower.all() == rows(range(10, 20))
    assert follower.all() == []


def test_records_that_cannot_be_read_come_once_wherever_their_block_is_cut(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(json_lines(range(20)) + b"garbage\n" + json_lines(range(20, 30)) + b'{"n": "x"}\n')
    for rows_max in (1, 7, 100):
        follower, found = Follower(path, tmp_path), []
        while (batch := follower.read(rows_max)) is not None:
            found += [*zip(*(c.to_pylist() for c in batch.rows.columns), strict=True)]
            follower.restart()
        assert found == rows(range(30))
        assert follower.reasons() == [
            "invalid JSON (file a.json)", 'column "n": invalid input for type int8: "x" (file a.json)',
        ]  # fmt: skip


def test_a_half_written_last_line_waits_but_a_whole_object_does_not(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(json_lines(range(2)) + b'{"n": 2, "wo')
    follower = Follower(path, tmp_path)
    assert follower.all() == rows(range(2))
    with path.open("ab") as file:
        file.write(b'rd": "w2"}')
    assert follower.all() == rows([2])
    with path.open("ab") as file:
        file.write(b"\n" + json_lines([3]))
    assert follower.all() == rows([3])
    assert follower.reasons() == []


def test_a_last_csv_record_without_an_end_is_taken_as_the_options_say(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(csv_lines(range(2))[:-1])
    assert Follower(path, tmp_path).all() == rows(range(1))
    assert Follower(path, tmp_path, follow="false").all() == rows(range(2))
    follower = Follower(path, tmp_path, last_line="10 seconds")
    follower.now_us = path.stat().st_mtime_ns // 1_000 - 55_000_000
    assert follower.all() == rows(range(1))
    assert follower.all() == rows([1])


def test_a_file_that_is_cut_or_replaced_stops_the_stream_or_is_read_anew(tmp_path: Path):
    path = tmp_path / "a.json"
    for wanted in (range(5), range(50, 80), range(0)):
        path.write_bytes(json_lines(range(10)))
        failing, reading = Follower(path, tmp_path), Follower(path, tmp_path, replaced="read")
        assert failing.all() == reading.all() == rows(range(10))
        path.write_bytes(json_lines(wanted))
        with pytest.raises(NotInPrerequisiteState, match="cut, or replaced"):
            failing.all()
        failing.restart()
        with pytest.raises(NotInPrerequisiteState, match="cut, or replaced"):
            failing.all()
        assert reading.all() == rows(wanted)


def test_a_log_that_is_rotated_goes_on_under_its_new_name(tmp_path: Path):
    log = tmp_path / "app.log"
    log.write_bytes(json_lines(range(5)))
    follower = Follower(tmp_path / "app.log*", tmp_path, format="json")
    assert follower.all() == rows(range(5))
    with log.open("ab") as file:
        file.write(json_lines(range(5, 8)))
        file.flush()
        log.rename(tmp_path / "app.log.1")
        log.write_bytes(json_lines(range(8, 10)))
        assert sorted(follower.all()) == rows(range(5, 10))
        file.write(json_lines(range(10, 12)))
        file.flush()
        (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
        log.rename(tmp_path / "app.log.1")
        log.write_bytes(json_lines(range(12, 14)))
        follower.restart()
        assert sorted(follower.all()) == rows(range(10, 14))
    assert follower.all() == []


def test_a_file_that_is_being_written_is_waited_for_and_then_set_aside(tmp_path: Path):
    whole, path = tmp_path / "whole.parquet", tmp_path / "a.parquet"
    write_parquet(whole, range(100))
    data = whole.read_bytes()
    whole.unlink()
    follower = Follower(tmp_path, tmp_path, format="parquet")
    path.write_bytes(data[:500])
    follower.now_us = path.stat().st_mtime_ns // 1_000 - 60_000_000
    assert follower.all() == []
    path.write_bytes(data)
    follower.now_us = path.stat().st_mtime_ns // 1_000 - 55_000_000
    assert follower.all() == rows(range(100))
    (tmp_path / "b.parquet").write_bytes(data[:500])
    follower.now_us += 20_000_000
    assert follower.all() == []
    assert len(follower.reasons()) == 1
    assert "b.parquet" in follower.reasons()[0]
    follower.restart()
    assert follower.all() == []
    assert len(follower.reasons()) == 1


def test_the_position_stays_short_however_many_files_there_are(tmp_path: Path):
    for index in range(300):
        (tmp_path / f"{index:03}.json").write_bytes(json_lines([index]))
    follower = Follower(tmp_path, tmp_path, format="json")
    assert follower.all(10) == rows(range(300))
    follower.restart()
    assert follower.all() == []
    (tmp_path / "150-late.json").write_bytes(json_lines([1_000]))
    with (tmp_path / "007.json").open("ab") as file:
        file.write(json_lines([2_000]))
    assert follower.all() == rows([2_000, 1_000])
    follower.restart()
    assert follower.all() == []
    assert len(str(follower.positions["files"])) < 200 * (KEPT_FILES + 10)
    assert len(follower.notes) > 280


def test_files_come_in_the_order_of_names_or_of_changes(tmp_path: Path):
    for index, name in enumerate(("c.json", "a.json", "b.json")):
        (tmp_path / name).write_bytes(json_lines([index]))
        os.utime(tmp_path / name, ns=(0, 1_000_000_000 * index))
    assert Follower(tmp_path, tmp_path, format="json").all() == rows([1, 2, 0])
    assert Follower(tmp_path, tmp_path, format="json", order="modified").all() == rows([0, 1, 2])


def test_patterns_and_folders_say_which_files_are_read(tmp_path: Path):
    names = ("a.json", "b.txt", "x/a.json", "x/y/c1.json", "x/y/c2.json", "_tmp.json", ".hidden.json", "_w/a.json")
    for index, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(json_lines([index]))
    wanted = {
        "": [0, 1, 2, 3, 4], "*.json": [0], "**/*.json": [0, 2, 3, 4], "x/*/c[12].json": [3, 4], "x/y/c[!1].json": [4],
        "_*.json": [5], "x/**": [2, 3, 4], "?.*": [0, 1], "none*": [],
    }  # fmt: skip
    for pattern, numbers in wanted.items():
        found = Follower(f"{tmp_path}/{pattern}".rstrip("/"), tmp_path, format="json").all()
        assert found == rows(numbers), pattern
    with pytest.raises(Unavailable, match="No such file"):
        Follower(tmp_path / "absent" / "*.json", tmp_path).all()
    with pytest.raises(Unavailable, match="No such file"):
        Follower(tmp_path / "absent.json", tmp_path).all()


def test_nothing_outside_of_the_allowed_folders_is_read(tmp_path: Path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.json").write_bytes(json_lines([1]))
    (inside / "link.json").symlink_to(outside / "secret.json")
    (inside / "good.json").write_bytes(json_lines([2]))
    (inside / "same.json").symlink_to(inside / "good.json")
    (inside / "folder").symlink_to(outside)
    for path in (
        outside / "secret.json",
        inside / "link.json",
        inside / "folder" / "*.json",
        f"{inside}/../out/*.json",
    ):
        with pytest.raises(InsufficientPrivilege, match="not below a folder"):
            Follower(path, inside).all()
    with pytest.raises(InsufficientPrivilege, match="not below an address"):
        Follower("s3://bucket/x.json", inside).all()
    with pytest.raises(InvalidParameterValue, match="absolute"):
        Follower("in/good.json", inside).all()
    assert Follower(inside / "same.json", inside).all() == rows([2])
    os.mkfifo(inside / "pipe.json")
    assert Follower(inside / "p*.json", inside).all() == []


def test_blocks_and_records_longer_than_a_block_are_read(tmp_path: Path):
    long = b'{"n": 1, "word": "' + b"x" * (2 * CHUNK_BYTES) + b'"}\n'
    many = json_lines(range(200_000))
    (tmp_path / "a.json").write_bytes(many + long + many)
    found = Follower(tmp_path / "a.json", tmp_path).all(10_000)
    assert [n for n, _ in found] == [*range(200_000), 1, *range(200_000)]


def test_wrong_options_are_refused_by_name():
    for options, said in (
        ({}, 'needs the option "path"'),
        ({"path": "/x"}, 'it takes the option "format"'),
        ({"path": "/x.json", "order": "size"}, 'invalid value for option "order"'),
        ({"path": "/x.json", "delimiter": ";"}, 'the option "delimiter" is for csv, not for json'),
        ({"path": "/x.log"}, "lines as they are need one column"),
        ({"path": "/x.json", "columns": "z:a.b"}, 'column "z" does not exist'),
        ({"path": "/x.json", "secret_key": "abc"}, "a secret does not stand in a definition"),
        ({"path": "/x.json", "poll_interval": "1 millisecond"}, "10 milliseconds or more"),
    ):
        with pytest.raises(StreamSQLError, match=said):
            Files().columns(Given(options, {}), COLUMNS)


def test_values_below_other_keys_are_found_by_their_path(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'{"user": {"id": 7}, "word": "x", "more": [1]}\n{"word": "y"}\n')
    follower = Follower(tmp_path / "a.json", tmp_path)
    follower.given = Given({"path": str(tmp_path / "a.json"), "columns": "n:user.id"}, {})
    assert follower.all() == [(7, "x"), (None, "y")]
