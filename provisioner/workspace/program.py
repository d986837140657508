"""Run the git program in folders of ours, and end it with its helpers when nobody waits for it.

It has nobody's configuration, and a session of its own: what it starts is ended with it, whether it
took too long, whoever asked for it lost the right to, or the service ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

from provisioner import errors
from provisioner.workspace import ground

NAME, EMAIL = "Provisioner", "provisioner@noreply.invalid"
_LOOK_SECONDS = 0.2
"""How often it is asked whether to go on."""


def found() -> str | None:
    """Return the git program; None where there is none."""
    return shutil.which("git")


def run(
    command: list[str],
    folder: ground.Tree,
    environment: Mapping[str, str],
    given: bytes = b"",
    *,
    seconds: float,
    heed: Callable[[], None] = lambda: None,
) -> str | None:
    """Run git; return what it says of its failure, None where it succeeded.

    `heed` is called now and then, and what it raises ends git at once. `RemoteRefused` where it
    does not come to an end in time. What it was told and says holds secrets: it stays with us.
    """
    process = subprocess.Popen(
        command,
        cwd=folder.path,
        env={
            "PATH": os.defpath,
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            # Or its log of references would name the service's user and host.
            "GIT_COMMITTER_NAME": NAME,
            "GIT_COMMITTER_EMAIL": EMAIL,
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said = _heard(process, given, time.monotonic() + seconds, heed)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its helpers too
        process.communicate()
        raise
    return said.decode(errors="replace") if process.returncode else None


def _heard(
    process: subprocess.Popen[bytes], given: bytes, until: float, heed: Callable[[], None]
) -> bytes:
    """Wait for its end, asking now and then whether to."""
    while True:
        left = until - time.monotonic()
        try:
            _, said = process.communicate(given or None, max(0.0, min(left, _LOOK_SECONDS)))
        except subprocess.TimeoutExpired as exc:
            if left <= _LOOK_SECONDS:
                raise errors.RemoteRefused("git did not come to an end") from exc
            given = b""
            heed()
        else:
            return said
