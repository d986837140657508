"""Run SQLMesh's commands in forks of one process that has imported it.

The import takes two seconds of every command; each still is a process of its own, with its own
arguments, folder, environment and streams. `stubs` makes the programs that users call, to be put
in front of the path; run as a program, this is the process they ask.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

_STUB = """#!{python} -IS
import json, os, socket, sys
words = sys.argv[1:]
ours = "{name}" == "sqlmesh" or words[:1] == ["publish.py"]
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


@contextlib.contextmanager
def stubs(folder: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Fill a folder with `sqlmesh` and `python`; they work until the block ends."""
    address = f"\0warm-{uuid.uuid4().hex}"
    with subprocess.Popen(
        [sys.executable, __file__, address[1:]],
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


def _serve(address: str) -> None:
    """Answer for ever; return only in a process that is to run a command."""
    sys.path[:1] = []
    import sqlmesh.cli.main  # noqa: F401

    for name in [name for name in sys.modules if f"{name}.".startswith("sqlmesh.cli.")]:
        del sys.modules[name]  # they keep the folder in which they were imported

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
    sys.path[:0] = [""] if words[:1] == ["-c"] else [folder] if name == "python" else []


def _run() -> None:
    """Run the command that this process has become."""
    import importlib
    from importlib import metadata

    from sqlmesh.core import analytics

    importlib.reload(analytics)  # its thread is not in a fork
    if sys.argv[0] == "sqlmesh":
        (program,) = metadata.entry_points(group="console_scripts", name="sqlmesh")
        sys.exit(program.load()())
    if sys.argv[0] == "-c":
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1])
    _run()
