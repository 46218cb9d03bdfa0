"""Runs the blocks of a golden file against a database, in one of several ways that must not make a difference.

    exec                 statements; prints their tags and notices
    push STREAM          a table of rows
    clock +5s            moves the wall clock on, and lets the engine do what time alone brings about
    subscribe VIEW as X  follows a view; `live X`: follows the continuous query in the input
    read X               what X was told since the last `read X`, whatever it was told in between:
                           a subscription    rows that came (+) and went (-), all in all
                           EMIT APPEND       the rows, in order
                           EMIT UPDATE       the last value of each group whose value is another than at the last read
                           EMIT COMPLETE     the last result, if it is another
    stop X               the client of X goes away
    select               a query's rows, sorted if it does not order them itself
    explain              the plan of a query
    error SQLSTATE       statements that must fail; prints the message, and the text at the error's position
    restart              a restart in every mode

After a restart, clients connect again: a subscription starts from a snapshot, a continuous query from the rows kept, and
must then show again what it had shown.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from streamsql.base.errors import StreamSQLError
from streamsql.sql.durations import parse_duration
from streamsql.sql.statements import EmitMode
from tests.driver import Database, Following, Row, random_cuts
from tests.golden.datadriven import Block, shown, table

# How many rows an epoch has; `restarts`: cut at random, and after each block a restart or a crash, by day after every third
# one. The output may not depend on it.
MODES = ("whole", "rows", "random-1", "random-2", "restarts")
NIGHTLY = os.environ.get("STREAMSQL_PROFILE") == "nightly"

_POSITION_TEXT = re.compile(r"\w+|'[^']*'|\S|\Z")


class Reader:
    """One client that follows something, and what the file has been told of it."""

    def __init__(self, text: str, following: Following) -> None:
        self.text = text
        self.following = following
        self._held: Counter[Row] = Counter()
        self._values: dict[Row, Row] = {}
        self._shown: list[Row] = []

    def again(self, following: Following) -> None:
        """Follow anew after a restart."""
        old, self.following = self.following, following
        if old.mode is EmitMode.APPEND:
            again = following.rows[: len(old.rows)]
            assert again == old.rows, f"shown before the restart: {old.rows}, after it: {again}"

    def read(self) -> str:
        """Print what came since the last time."""
        following = self.following
        names = following.columns
        if following.mode is None:
            names, rows = ["", *names[2:]], self._net()  # the first two are the epoch and the weight
        elif following.mode is EmitMode.UPDATE:
            rows = self._last()
        elif following.mode is EmitMode.COMPLETE:
            rows = self._whole()
        else:
            rows, self._shown = following.rows[len(self._shown) :], list(following.rows)
        return _ended(following, shown(names, rows) if rows else "nothing")

    def _net(self) -> list[Row]:
        before, now = self._held, self.following.integrated()
        self._held = now
        return _sorted([(f"{now[row] - before[row]:+d}", *row) for row in now | before if now[row] != before[row]])

    def _last(self) -> list[Row]:
        before, keys = self._values, self.following.key_columns
        self._values = before | {tuple(row[i] for i in keys): row for row in self.following.rows}
        return _sorted([row for key, row in self._values.items() if before.get(key) != row])

    def _whole(self) -> list[Row]:
        before = self._shown
        self._shown = list(self.following.batches[-1]) if self.following.batches else []
        return self._shown if self._shown != before else []


def _ended(following: Following, text: str) -> str:
    if following.error is not None:
        return f"{text}\nerror {following.error.sqlstate}: {following.error.message}"
    return f"{text}\n(end)" if following.ended else text


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [(value is None, value or "") for value in row])


class Story:
    """A golden file being run."""

    def __init__(self, name: str, database: Database, mode: str) -> None:
        self.database = database
        self.mode = mode
        self.readers: dict[str, Reader] = {}
        self._random = Random(f"{name} {mode}")
        self._changes = 0

    def run(self, block: Block) -> str:
        """Do what a block says; give what it prints."""
        printed = self._DIRECTIVES[block.directive](self, block)
        # a block that only reads leaves nothing that a restart could lose
        if self.mode == "restarts" and block.directive in {"clock", "exec", "push"}:
            self._changes += 1
            if NIGHTLY or self._changes % 3 == 0:
                self._restart()
        return "\n".join(line.rstrip() for line in printed.splitlines() if line.strip())

    def _exec(self, block: Block) -> str:
        results = self.database.execute(block.text)
        self.database.settle()
        return "\n".join("\n".join([*r.notices, r.tag]) for r in results)

    def _push(self, block: Block) -> str:
        names, rows = table(block.text)
        cuts: list[int] | None = None
        if self.mode == "rows":
            cuts = [1] * len(rows)
        elif self.mode != "whole":
            cuts = random_cuts(len(rows), self._random.randint)
        self.database.push(block.arguments[0], names, rows, cuts)
        self.database.settle()
        return ""

    def _clock(self, block: Block) -> str:
        self.database.advance(parse_duration(" ".join(block.arguments).removeprefix("+")))
        return ""

    def _subscribe(self, block: Block) -> str:
        view, _, name = block.arguments
        return self._follow(name, f"SUBSCRIBE {view}")

    def _live(self, block: Block) -> str:
        return self._follow(block.arguments[0], block.text)

    def _follow(self, name: str, text: str) -> str:
        self.readers[name] = Reader(text, self.database.follow(text))
        return ""

    def _read(self, block: Block) -> str:
        self.database.settle()
        return self.readers[block.arguments[0]].read()

    def _stop(self, block: Block) -> str:
        reader = self.readers.pop(block.arguments[0])
        if reader.following in self.database.followings:
            self.database.stop(reader.following)
        return ""

    def _select(self, block: Block) -> str:
        result = self.database.execute(block.text)[-1]
        ordered = "order by" in block.text.lower()
        return shown(result.columns, result.rows if ordered else _sorted(result.rows))

    def _explain(self, block: Block) -> str:
        return "\n".join(row[0] or "" for row in self.database.query("EXPLAIN " + block.text))

    def _error(self, block: Block) -> str:
        with pytest.raises(StreamSQLError) as raised:
            self.database.execute(block.text)
        error, wanted = raised.value, block.arguments[0]
        assert error.sqlstate == wanted, f"line {block.line}: {error.sqlstate} instead of {wanted}: {error.message}"
        lines = [error.message]
        lines += [f"detail: {line}" for line in (error.detail or "").splitlines()]
        lines += [f"hint: {error.hint}"] if error.hint else []
        if error.position is not None:
            place = _POSITION_TEXT.match(block.text, error.position - 1)
            lines.append(f"at: {place[0]}" if place else f"at: position {error.position}, outside of the text")
        return "\n".join(lines)

    def _restart_now(self, block: Block) -> str:
        self._restart()
        return ""

    def _restart(self) -> None:
        self.database.settle()
        open_readers = [r for r in self.readers.values() if not r.following.ended]
        self._random.choice([self.database.restart, self.database.crash])()
        for reader in open_readers:
            reader.again(self.database.follow(reader.text))

    _DIRECTIVES: dict[str, Callable[[Story, Block], str]] = {  # noqa: RUF012  # a table of this class' own methods
        "clock": _clock,
        "error": _error,
        "exec": _exec,
        "explain": _explain,
        "live": _live,
        "push": _push,
        "read": _read,
        "restart": _restart_now,
        "select": _select,
        "stop": _stop,
        "subscribe": _subscribe,
    }
