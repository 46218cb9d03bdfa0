"""A process that has imported the server, and forks one for each request: tests start hundreds, and an import takes 1.5 s.

A program, which `tests.forked` runs with a socket as its stdin. A request is one message: JSON with `arguments` of the command
line, `environment` and `folder`, and three descriptors: stdout and stderr of the new server, and a pipe into which its process
id is written, and when it has ended, its return code as `subprocess` tells it. The end of the socket ends this process, and
that kills all servers that still run.

From the fork on a server does what ``python -m streamsql`` does: `cli.program` with its own arguments, environment, folder and
descriptors, and an end as any program's. There is no thread here but those of C libraries that are safe to fork; hash seeds
and what is computed at import are the same in all servers of one process of tests.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from typing import Any

from streamsql import cli
from streamsql.base import faults

CONTROL = 0
REQUEST_BYTES_MAX = 1 << 18
DESCRIPTORS = 3
PR_SET_PDEATHSIG = 1


def import_server() -> None:
    """Import what `cli.program` imports, as it does: without what it hides, and out of sight of the collector of cycles."""
    hiding = cli._Hiding()
    sys.meta_path.insert(0, hiding)
    gc.disable()
    importlib.import_module("streamsql.server.running")
    gc.freeze()
    gc.enable()
    sys.meta_path.remove(hiding)


def forked() -> dict[str, Any] | None:
    """Fork on each request. Returns in each new process with its request, and here with None when there are no more."""
    control = socket.socket(fileno=os.dup(CONTROL))
    poll = select.poll()
    poll.register(control, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its id, and where to tell of its end
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                pid, told = running.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                _tell(told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(told)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, DESCRIPTORS)
            if not message:
                return None
            output, log, told = descriptors
            parent = os.getpid()
            with warnings.catch_warnings():  # of threads, from Python 3.12 on
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                control.detach()
                _settle(json.loads(message), parent, output, log)
                return dict(json.loads(message))
            os.close(output)
            os.close(log)
            _tell(told, pid)
            process = os.pidfd_open(pid)
            running[process] = pid, told
            poll.register(process, select.POLLIN)


def _tell(told: int, number: int) -> None:
    try:
        os.write(told, b"%d\n" % number)
    except BrokenPipeError:  # nobody wants to know
        pass


def _settle(request: dict[str, Any], parent: int, output: int, log: int) -> None:
    """Make the forked process what a new one would be."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((null, 0), (output, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.closerange(3, max(int(name) for name in os.listdir("/proc/self/fd")) + 1)
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    importlib.reload(faults)  # it reads the environment where it is imported


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: it is for the tests, whose end ends this
    import_server()
    request = forked()
    gc.unfreeze()
    if request is not None:
        sys.argv[1:] = request["arguments"]
        cli.program()


if __name__ == "__main__":
    main()
