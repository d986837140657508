"""Run commands in forks of a process that has imported what they need.

SQLMesh takes two seconds to import, and we take one; each command still is a process of its own,
with its own arguments, folder, environment and streams. `stubs` makes the programs that users
call, to be put in front of the path; run as a program, this is the process they ask.

Set TEST_EVERYTHING=1, or measure coverage, and tests start every command anew.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

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
    status = int(server.recv(16) or 70)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
_LARGEST = 128 * 1024


def wanted() -> bool:
    """Tell whether tests may use forks."""
    return not any(each == "TEST_EVERYTHING" or "COVERAGE_" in each for each in os.environ)


@contextlib.contextmanager
def stubs(folder: Path, environ: Mapping[str, str], package: str) -> Iterator[Path]:
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
            yield folder
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
    else:
        importlib.import_module("sqlmesh.cli.main")
        for name in [name for name in sys.modules if f"{name}.".startswith("sqlmesh.cli.")]:
            del sys.modules[name]  # they keep the folder in which they were imported


def _serve(address: str) -> None:
    """Answer for ever; return only in a process that is to run a command."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0" + address)
        listener.listen()
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


if __name__ == "__main__":
    del sys.path[0]
    _, _address, _package = sys.argv
    _warm(_package)
    _serve(_address)
    _run(_package)
