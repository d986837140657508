"""Run commands and services in forks of a process that has imported what they need.

SQLMesh takes two seconds to import, and we take one; each command still is a process of its own,
with its own arguments, folder, environment and streams. `stubs` makes the programs that users
call, to be put in front of the path; `start` makes a process that its starter can watch and kill.
Run as a program, this is the process they ask. What such a process shows of itself in /proc,
command line and environment, is what the one it was forked from was started with.

Set TEST_EVERYTHING=1, or measure coverage, and tests start every command anew.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

_STUB = """#!{python} -IS
import json, os, socket, sys
words = sys.argv[1:]
ours = "{name}" == "sqlmesh" or words[:1] in (["publish.py"], ["-m"])
if not ours and not (words[:1] == ["-c"] and ("sqlmesh" in words[1] or "publish" in words[1])):
    os.execv({python!r}, [{python!r}, *words])
asked = json.dumps(["{name}", words, os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    socket.send_fds(server, [asked], [0, 1, 2])
    server.recv(16)
    status = int(server.recv(16) or 70)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
_LARGEST = 128 * 1024
# What the service imports only once it needs it: nearly everything that starts one needs it.
_LATE = (
    "alembic.command",
    "alembic.config",
    "alembic.script",
    "botocore.auth",
    "botocore.httpsession",
    "botocore.session",
    "cookiecutter.generate",
    "cookiecutter.utils",
    "psycopg",
    "sqlalchemy.dialects.sqlite",
)


def wanted() -> bool:
    """Tell whether tests may use forks."""
    return not any(each == "TEST_EVERYTHING" or "COVERAGE_" in each for each in os.environ)


class Process:
    """A process that was forked; what of `subprocess.Popen` tests need to watch and end it."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.pid = int(server.recv(16))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raise `TimeoutExpired` where it runs for longer."""
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                told = self._server.recv(16)
            except (BlockingIOError, TimeoutError) as exc:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from exc
            self._server.close()
            self.returncode = int(told or 70)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


class Stubs:
    """A folder with the programs, and the address of the process that they ask."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self._address = address

    def start(
        self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[bytes]
    ) -> Process:
        """Start `python` with these words; all that it says goes into one file."""
        asked = json.dumps(["python", [*words], str(cwd), dict(env)]).encode()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.connect(self._address)
        with Path(os.devnull).open("rb") as nothing:
            streams = [nothing.fileno(), output.fileno(), output.fileno()]
            socket.send_fds(server, [asked], streams)
        return Process(server)


@contextlib.contextmanager
def stubs(folder: Path, environ: Mapping[str, str], package: str) -> Iterator[Stubs]:
    """Fill a folder with `sqlmesh` and `python`; they work until the block ends.

    They are quick with what needs `sqlmesh` or `provisioner`, whichever package is named.
    """
    address = f"\0warm-{uuid.uuid4().hex}"
    with subprocess.Popen(
        [sys.executable, __file__, address[1:], package],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        for name in ("sqlmesh", "python"):
            stub = folder / name
            stub.write_text(_STUB.format(python=sys.executable, name=name, address=address))
            stub.chmod(0o755)
        try:
            yield Stubs(folder, address)
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def _warm(package: str) -> None:
    """Import what commands of a package need."""
    if package == "provisioner":
        for found in pkgutil.walk_packages(
            importlib.import_module(package).__path__, "provisioner."
        ):
            if (
                not found.name.startswith("provisioner.migrations.")
                and "__main__" not in found.name
            ):
                importlib.import_module(found.name)
        for late in _LATE:
            importlib.import_module(late)
    else:
        importlib.import_module("sqlmesh.cli.main")
        for name in [name for name in sys.modules if f"{name}.".startswith("sqlmesh.cli.")]:
            del sys.modules[name]  # they keep the folder in which they were imported


def _serve(address: str) -> None:
    """Answer for ever; return only in a process that is to run a command."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0" + address)
        listener.listen()
        gc.collect()
        gc.freeze()  # a collection in a fork would copy all that it looks at
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, streams, _, _ = socket.recv_fds(connection, _LARGEST, 3)
    if command := os.fork():
        for stream in (0, 1, 2, *streams):
            os.close(stream)
        connection.send(str(command).encode())
        status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        connection.send(str(status).encode())
        os._exit(0)
    connection.close()
    _become(streams, *json.loads(asked))


def _become(
    streams: list[int], name: str, words: list[str], folder: str, environ: dict[str, str]
) -> None:
    """Take over what belongs to a command: its streams, folder, environment and arguments."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    tempfile.tempdir = None  # it belongs to the environment
    sys.argv = [name, *words] if name == "sqlmesh" else words
    if name == "python":
        sys.path[:0] = [folder if words[0] == "-m" or words[0].endswith(".py") else ""]


def _run(package: str) -> None:
    """Run the command that this process has become."""
    if package == "sqlmesh":
        importlib.reload(importlib.import_module("sqlmesh.core.analytics"))  # its thread is gone
    if sys.argv[0] == "sqlmesh":
        (program,) = metadata.entry_points(group="console_scripts", name="sqlmesh")
        sys.exit(program.load()())
    if sys.argv[0] == "-c":
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    elif sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


def _end_after(work: Callable[[], None]) -> None:
    """Work, and end as a program does, but for taking down all that was imported.

    That takes longer than many a command, since it copies what the fork shared until then.
    """
    status = 0
    try:
        work()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        status = ended.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    del sys.path[0]
    _, _address, _package = sys.argv
    _warm(_package)
    _serve(_address)
    _end_after(lambda: _run(_package))
