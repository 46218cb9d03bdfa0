"""psql: scripted with -c, -f and a pipe, as people and shell scripts use it."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.running import RunningServer, until

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed"),
]


def command(server: RunningServer, *arguments: str) -> list[str]:
    return ["psql", "-X", "-h", "127.0.0.1", "-p", str(server.port), "-U", "tester", *arguments, "streamsql"]


ENVIRONMENT = {**os.environ, "PAGER": "", "LC_ALL": "C.UTF-8", "PGAPPNAME": "test"}


def psql(server: RunningServer, *arguments: str, stdin: str = "", status: int = 0) -> str:
    """Run psql to its end; give what it printed, errors and notices in between, as a terminal would show it."""
    done = subprocess.run(
        command(server, *arguments),
        input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


def plain(server: RunningServer, *statements: str) -> list[str]:
    """Run statements one by one; give the lines of their rows, unaligned."""
    options = [option for statement in statements for option in ("-c", statement)]
    return psql(server, "-qAt", *options).splitlines()


def test_a_table_is_made_filled_and_shown(server: RunningServer):
    shown = psql(
        server,
        "-c", "CREATE TABLE cities (name TEXT PRIMARY KEY, people INT DEFAULT 0, founded DATE)",
        "-c", "INSERT INTO cities VALUES ('Bern', 134591, '1191-01-01'), ('Uri', NULL, NULL)",
        "-c", "SELECT * FROM cities ORDER BY name",
    )  # fmt: skip
    assert shown == (
        "CREATE TABLE\n"
        "INSERT 0 2\n"
        " name | people |  founded   \n"
        "------+--------+------------\n"
        " Bern | 134591 | 1191-01-01\n"
        " Uri  |        | \n"
        "(2 rows)\n\n"
    )


def test_a_script_from_a_file_and_one_from_a_pipe_do_the_same(server: RunningServer, tmp_path: Path):
    text = "CREATE TABLE {0} (a INT);\nINSERT INTO {0} VALUES (1),\n  (2); -- two\nSELECT sum(a) FROM {0};\n"
    script = tmp_path / "script.sql"
    script.write_text(text.format("from_file"))
    from_file = psql(server, "-f", str(script))
    from_pipe = psql(server, stdin=text.format("from_pipe"))
    assert from_file == from_pipe == "CREATE TABLE\nINSERT 0 2\n sum \n-----\n   3\n(1 row)\n\n"


def test_notices_say_what_was_skipped(server: RunningServer):
    first = psql(server, "-c", "CREATE STREAM IF NOT EXISTS twice (ts TIMESTAMP)")
    second = psql(server, "-c", "CREATE STREAM IF NOT EXISTS twice (ts TIMESTAMP)")
    dropped = psql(server, "-c", "DROP STREAM IF EXISTS twice, never")
    assert first == "CREATE STREAM\n"
    assert second == 'NOTICE:  relation "twice" already exists, skipping\nCREATE STREAM\n'
    assert dropped == 'NOTICE:  stream "never" does not exist, skipping\nDROP STREAM\n'


def with_caret(marked: str, line: int = 1) -> tuple[str, str]:
    """Give a statement, and what psql shows of its line where ``^`` stands before the fault."""
    text = marked.replace("^", "")
    shown = marked.splitlines()[line - 1]
    return (
        text,
        f"LINE {line}: {shown.replace('^', '')}\n{' ' * len(f'LINE {line}: {shown[: shown.index(chr(94))]}')}^\n",
    )


@pytest.mark.parametrize(
    ("marked", "message", "hint"),
    [
        ("^SELEC 1", 'syntax error at or near "SELEC"', ""),
        ("SELECT a,\n  ^nosuch\nFROM carets", 'column "nosuch" does not exist', ""),
        ("SELECT * FROM ^carrots", 'relation "carrots" does not exist', 'did you mean "carets"?'),
        ("SELECT a, ^floorr(a) FROM carets", "function floorr(integer) does not exist", 'did you mean "floor"?'),
        ("SELECT a FROM carets WHERE a = ^'x'", 'invalid input syntax for type integer: "x"', ""),
        (
            "INSERT INTO carets VALUES (1, 'y'), (2, 'z'), (^'three', 'x')",
            'invalid input syntax for type integer: "three"',
            "",
        ),
        ("INSERT INTO carets (a, ^c) VALUES (1, 2)", 'column "c" of relation "carets" does not exist', ""),
        ("INSERT INTO ^nowhere VALUES (1)", 'relation "nowhere" does not exist', ""),
        (
            "SELECT ^b, count(*) FROM carets",
            'column "carets.b" must appear in the GROUP BY clause or be used in an aggregate function',
            "",
        ),
        ("SELECT ^a FROM carets x JOIN carets y ON x.a = y.a", 'column reference "a" is ambiguous', ""),
        ("UPDATE carets SET ^nosuch = 1", 'column "nosuch" of relation "carets" does not exist', ""),
        ("DELETE FROM ^nowhere", 'relation "nowhere" does not exist', ""),
        ("SELECT a FROM carets ORDER BY ^a EMIT APPEND", None, ""),
    ],
)
def test_the_caret_of_an_error_stands_where_the_fault_is(server: RunningServer, marked: str, message: str, hint: str):
    psql(server, "-c", "CREATE TABLE IF NOT EXISTS carets (a INT, b TEXT)", "-c", "INSERT INTO carets VALUES (1, 'y')")
    text, line = with_caret(marked, 1 + marked[: marked.index("^")].count("\n"))
    shown = psql(server, "-c", text, status=1)
    assert line in shown
    if message is not None:
        assert shown == f"ERROR:  {message}\n{line}" + (f"HINT:  {hint}\n" if hint else "")


def test_the_caret_is_right_in_the_second_statement_of_a_string_and_behind_umlauts(server: RunningServer):
    text, line = with_caret("SELECT 'äöü' AS a; SELECT 'ß', ^nosuch")
    shown = psql(server, "-c", text, status=1)
    assert shown.endswith(f'ERROR:  column "nosuch" does not exist\n{line}')


def test_several_statements_in_one_string_are_one_transaction(server: RunningServer):
    psql(server, "-c", "CREATE TABLE together (a INT NOT NULL)")
    psql(server, "-c", "INSERT INTO together VALUES (1); INSERT INTO together VALUES (NULL)", status=1)
    assert plain(server, "SELECT count(*) FROM together") == ["0"]
    assert plain(server, "INSERT INTO together VALUES (1); SELECT count(*) FROM together") == ["1"]
    assert plain(
        server, "INSERT INTO together VALUES (2); INSERT INTO together VALUES (3)", "SELECT count(*) FROM together"
    ) == ["3"]


def test_an_error_leaves_the_session_usable(server: RunningServer):
    shown = psql(server, "-At", stdin="SELECT nosuch;\nSELECT 1/;\nSELECT 5;\n")
    assert re.findall(r"ERROR: .*", shown) == [
        'ERROR:  column "nosuch" does not exist', 'ERROR:  syntax error at or near ";"',
    ]  # fmt: skip
    assert shown.endswith("\n5\n")


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("csv header", 'ts,note\n2024-01-01 00:00:01,"a, b"\n2024-01-01 00:00:02,\n'),
        ("", "2024-01-01 00:00:01\ta, b\n2024-01-01 00:00:02\t\\N\n"),
        ("with (format csv, delimiter ';', null 'none')", "2024-01-01 00:00:01;a, b\n2024-01-01 00:00:02;none\n"),
    ],
)
def test_copy_takes_text_and_csv_from_a_file_and_from_the_script_itself(
    server: RunningServer, tmp_path: Path, options: str, data: str
):
    file = tmp_path / "rows"
    file.write_text(data)
    made = "DROP STREAM IF EXISTS copied; CREATE STREAM copied (ts TIMESTAMP, note TEXT)"
    shown = psql(server, "-q", "-c", made, "-c", rf"\copy copied from '{file}' {options}")
    assert "ERROR" not in shown
    inline = psql(server, stdin=f"COPY copied FROM STDIN {options};\n{data}\\.\nSELECT 'on';\n")
    assert inline.startswith("COPY 2\n")
    assert plain(server, "SELECT note, count(*) FROM copied GROUP BY note ORDER BY note") == ["a, b|2", "|2"]


def test_copy_names_the_line_and_column_of_a_fault_and_keeps_nothing(server: RunningServer):
    psql(server, "-c", "CREATE TABLE strict (a INT, b DATE NOT NULL)")
    shown = psql(server, stdin="COPY strict FROM STDIN;\n1\t2024-01-01\n2\t2024-02-30\n\\.\nSELECT 'on';\n")
    assert shown.startswith(
        'ERROR:  date/time field value out of range: "2024-02-30"\nCONTEXT:  COPY strict, line 2, column b: "2024-02-30"\n'
    )
    assert " on\n" in shown
    missing = psql(server, stdin="COPY strict FROM STDIN (FORMAT csv);\n1,2024-01-01\n2,\n\\.\n")
    assert missing.splitlines() == [
        'ERROR:  null value in column "b" of relation "strict" violates not-null constraint',
        "DETAIL:  Failing row contains (2, null).",
    ]
    assert plain(server, "SELECT count(*) FROM strict") == ["0"]


def test_timing_and_expanded_output_work(server: RunningServer):
    shown = psql(server, stdin="\\timing on\nSELECT 1 AS one, 'x' AS two \\gx\n")
    assert re.search(r"-\[ RECORD 1 \]\none \| 1\ntwo \| x\n\nTime: [\d.]+ ms\n\Z", shown)


def test_set_show_and_reset_behave(server: RunningServer):
    assert plain(
        server, "SET application_name TO 'mine'", "SHOW application_name", "RESET application_name", "SHOW TimeZone",
        "SHOW server_encoding", "SHOW standard_conforming_strings",
    ) == ["mine", "UTC", "UTF8", "on"]  # fmt: skip
    assert "unrecognized configuration parameter" in psql(server, "-c", "SHOW nosuch", status=1)
    assert "cannot be set to" in psql(server, "-c", "SET DateStyle TO 'German'", status=1)


def test_an_empty_query_and_a_comment_are_nothing(server: RunningServer):
    assert psql(server, "-c", ";", "-c", "-- nothing", "-c", "/* nothing */ ;;") == ""


class Terminal:
    """psql at a terminal: what it is told is not a script, so that Ctrl-C ends a statement and not psql."""

    def __init__(self, server: RunningServer) -> None:
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # lines end as psql writes them
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        quiet = ["-At", "--no-readline", "-v", "PROMPT1=", "-v", "PROMPT2=", "-q"]
        self.process = subprocess.Popen(
            command(server, *quiet), stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, end: str) -> str:
        """Read what psql prints up to this text, which must come."""
        deadline = time.monotonic() + 30
        while end not in self.shown:
            assert select.select([self._master], [], [], max(deadline - time.monotonic(), 0))[0], self.shown
            self.shown += os.read(self._master, 65_536).decode()
        found, _, self.shown = self.shown.partition(end)
        return found + end


def test_ctrl_c_ends_a_live_query_and_the_session_goes_on(server: RunningServer):
    psql(server, "-c", "CREATE STREAM live_c (ts TIMESTAMP, x INT)")
    with Terminal(server) as terminal:
        terminal.type("SELECT x FROM live_c EMIT APPEND;\n")
        server.wait_for_live_queries(1)
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read_until("user request\n")
        assert shown.endswith("Cancel request sent\nERROR:  canceling statement due to user request\n")
        terminal.type("SELECT 'still here';\n")
        assert terminal.read_until("still here\n") == "still here\n"
        server.wait_for_live_queries(0)


def test_ctrl_c_ends_a_long_ad_hoc_query_and_the_session_goes_on(server: RunningServer):
    with Terminal(server) as terminal:
        terminal.type("SELECT 'begun';\n")
        terminal.read_until("begun\n")
        terminal.type("SELECT count(*) FROM range(100000000) a(x), range(100000) b(y) WHERE (x * y) % 7 = 3;\n")
        until(lambda: server.log().count("range(100000000)"))
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("ERROR:  canceling statement due to user request\n")
        terminal.type("SELECT 'still here';\n")
        assert terminal.read_until("still here\n") == "still here\n"


def test_watch_runs_a_query_again_and_again_until_it_is_stopped(server: RunningServer):
    psql(server, "-c", "CREATE TABLE watched (n INT)", "-c", "INSERT INTO watched VALUES (7)")
    with Terminal(server) as terminal:
        terminal.type("SELECT n, 'seen' FROM watched \\watch 0.05\n")
        for _ in range(3):
            terminal.read_until("7|seen\n")
        terminal.process.send_signal(signal.SIGINT)
        terminal.type("SELECT 'still here';\n")
        assert terminal.read_until("still here\n").endswith("still here\n")


def test_a_query_is_described_kept_in_variables_and_run_from_rows(server: RunningServer):
    shown = psql(
        server, "-At", stdin="SELECT 1 AS one, 'x' AS two, 1.5::numeric(5,2) AS three \\gdesc\n"
        "SELECT 42 AS answer \\gset\nSELECT :answer + 1;\n"
        "SELECT 'SELECT ' || i FROM generate_series(1, 2) AS g(i) \\gexec\n",
    )  # fmt: skip
    assert shown == "one|integer\ntwo|text\nthree|numeric(5,2)\n43\n1\n2\n"


def test_a_query_is_copied_to_a_file(server: RunningServer, tmp_path: Path):
    file = tmp_path / "out.csv"
    shown = psql(
        server, "-c", rf"\copy (SELECT i, 'n' || i AS t FROM generate_series(1, 2) AS g(i)) to '{file}' csv header"
    )
    assert shown == "COPY 2\n"
    assert file.read_text() == "i,t\n1,n1\n2,n2\n"


def test_a_killed_psql_takes_its_live_query_along(server: RunningServer):
    psql(server, "-c", "CREATE STREAM live_k (ts TIMESTAMP, x INT)")
    with Terminal(server) as terminal:
        terminal.type("SELECT x FROM live_k EMIT APPEND;\n")
        server.wait_for_live_queries(1)
        terminal.process.kill()
        terminal.process.wait()
        server.wait_for_live_queries(0)


def test_a_live_query_with_a_limit_ends_by_itself(server: RunningServer):
    psql(
        server,
        "-c",
        "CREATE STREAM live_l (ts TIMESTAMP, x INT)",
        "-c",
        "INSERT INTO live_l SELECT '2024-01-01', i FROM range(5) AS r(i)",
    )
    assert plain(server, "SELECT x * 10 FROM live_l EMIT APPEND LIMIT 3") == ["0", "10", "20"]


def test_a_live_query_is_shown_as_its_rows_come(server: RunningServer):
    psql(server, "-c", "CREATE STREAM live_s (ts TIMESTAMP, k TEXT, x INT, WATERMARK FOR ts AS ts)")
    query = "SELECT window_start, k, sum(x) FROM live_s GROUP BY window(ts, '1 minute'), k EMIT APPEND LIMIT 2"
    client = subprocess.Popen(
        command(server, "-At", "-c", query),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    server.wait_for_live_queries(1)
    psql(server, "-c", "INSERT INTO live_s VALUES ('2024-01-01 00:00:10', 'a', 1), ('2024-01-01 00:00:20', 'a', 2)")
    psql(server, "-c", "INSERT INTO live_s VALUES ('2024-01-01 00:01:00', 'b', 5)")
    psql(server, "-c", "INSERT INTO live_s VALUES ('2024-01-01 00:02:00', 'c', 7)")
    shown, _ = client.communicate(timeout=60)
    assert shown == "2024-01-01 00:00:00|a|3\n2024-01-01 00:01:00|b|5\n"


def test_what_psql_says_of_the_connection_is_true(server: RunningServer):
    shown = psql(server, "-c", r"\conninfo")
    assert (
        shown
        == f'You are connected to database "streamsql" as user "tester" on host "127.0.0.1" at port "{server.port}".\n'
    )
    assert until(lambda: "application=test" in server.log())
