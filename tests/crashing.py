"""Stop a process before any of its effects on the disk, or look on at each of them."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator

import pytest

_EFFECTS = frozenset(
    {
        *("fcntl.flock", "os.chmod", "os.chown", "os.link"),
        *("os.mkdir", "os.remove", "os.rename", "os.rmdir"),
    }
)
FORKS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
Watch = Callable[[str, object], None]
_watches: list[Watch] = []
_hooked: list[bool] = []


def crash_before(number: int, action: Callable[[], object]) -> bool:
    """Do something in a child that dies before its n-th effect; tell whether it got that far."""
    child = os.fork()
    if child == 0:
        gc.disable()  # a collection would copy all that is shared with the parent
        left = number

        def _count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            makes = (
                event == "open" and isinstance(flags := arguments[2], int) and flags & os.O_CREAT
            )
            if event in _EFFECTS or makes:
                left -= 1
                if left == 0:
                    os._exit(9)

        try:
            sys.addaudithook(_count)
            action()
        except BaseException:
            os._exit(99)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 9


def crashes(
    action: Callable[[], object], reset: Callable[[], None], *, step: int = 1
) -> Iterator[int]:
    """Yield after a crash before every effect of an action, or every n-th, from one start."""
    number = 1
    reset()
    while crash_before(number, action):
        yield number
        number += step
        reset()


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Call back before each file that is made, linked or renamed in this thread's process."""
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_tell)
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)


def _tell(event: str, arguments: tuple[object, ...]) -> None:
    makes = event == "open" and isinstance(flags := arguments[2], int) and flags & os.O_CREAT
    if makes or event in ("os.link", "os.rename"):
        for watch in _watches:
            watch(event, arguments[0])
