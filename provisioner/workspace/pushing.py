"""Push the first commits of workspaces to a git remote, as often as it takes.

git runs in the copy that waits in our own part of the output folder, never in a workspace. Nothing
is pushed by force, and nothing after the first commit.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from provisioner import errors, names, telemetry
from provisioner.workspace import claims, ground, program, repository

_log = telemetry.Log(__name__)

_PUSH_SECONDS = 30.0
_LONG_SECONDS = 8.0
"""A push that fails after so long was waited for: others would hold up their workers, too."""
_LEFT_ALONE_SECONDS = 300.0
_LEAVE_SECONDS = 2.0
"""How long who leaves waits for pushes to have been ended."""

_OTHER_HISTORY = "[rejected]"
_MEANINGS = (
    ("[remote rejected]", "the remote refuses the commit"),
    (_OTHER_HISTORY, "the remote has another history"),
    ("Authentication failed", "the remote refuses who asks"),
    ("could not read", "the remote refuses who asks"),
    ("Permission denied", "the remote refuses who asks"),
    ("403", "the remote refuses who asks"),
    ("not found", "there is no such remote repository"),
    ("does not appear to be a git repository", "there is no such remote repository"),
)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Where first commits go."""

    pattern: str
    """A URL with `{namespace}`; it holds no password."""
    basic_auth: str | None = field(default=None, repr=False)
    """`user:password` for a remote over HTTP."""

    def url(self, namespace: str) -> str:
        """Return the address of a product's repository."""
        return self.pattern.replace("{namespace}", names.check_namespace(namespace))

    def has(self, url: str) -> bool:
        """Tell whether an address is one of these, whosever."""
        before, after = self.pattern.split("{namespace}")
        named = url.removeprefix(before).removesuffix(after)
        return names.is_namespace(named) and self.url(named) == url


class GitRemotes:
    """Push first commits; what waits lies in the output folder, in the part that is ours alone."""

    def __init__(
        self, *, output: Path, remote: Remote | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._output = output.absolute()
        self._remote = remote
        self._clock = clock
        self._left_alone_until: float | None = None
        self._ends = False
        self._pushes = 0
        self._changed = threading.Condition()

    def waits(self, product_id: str) -> bool:
        """Tell whether a product's first commit is still to be pushed."""
        if self._remote is None:
            return False
        try:
            with self._record(product_id) as record:
                return record.holds(repository.UNPUSHED)
        except (OSError, ground.ChangedByUser):
            return False

    def close(self) -> None:
        """End every push that is under way, and take no other."""
        with self._changed:
            self._ends = True
            self._changed.wait_for(lambda: not self._pushes, _LEAVE_SECONDS)

    def push(
        self, namespace: str, product_id: str, heed: Callable[[], None] = lambda: None
    ) -> None:
        """Push the first commit, and forget it; nothing that waits is success.

        Never by force: in a remote that has another history, of an earlier workspace or of users
        who were faster, the commit becomes a branch of its own. What `heed` raises ends the push.
        """
        if self._remote is None or not self.waits(product_id):
            return
        with self._record(product_id) as record:
            with (
                record.folder(repository.UNPUSHED) as waiting,
                self._unless_it_hangs(),
                self._counted(),
            ):
                url = _origin(waiting)
                if not self._remote.has(url):  # it was made for remotes that are elsewhere now
                    url = self._remote.url(namespace)
                push = functools.partial(
                    _push, waiting, url, self._remote.basic_auth, lambda: self._heed(heed)
                )
                branch, said = repository.BRANCH, push(repository.BRANCH)
                if said is not None and _OTHER_HISTORY in said:
                    branch = _beside(waiting)
                    said = push(branch)
                if said is not None:
                    raise errors.RemoteRefused(_meaning(said))
            record.remove_all(repository.UNPUSHED)
        _log.info("pushed the first commit", namespace=namespace, branch=branch)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Have whoever closes wait for this push to have ended."""
        with self._changed:
            if self._ends:
                raise errors.LeaseLost("the service ends")
            self._pushes += 1
        try:
            yield
        finally:
            with self._changed:
                self._pushes -= 1
                self._changed.notify_all()

    def _heed(self, heed: Callable[[], None]) -> None:
        if self._ends:
            raise errors.LeaseLost("the service ends")
        heed()

    @contextlib.contextmanager
    def _unless_it_hangs(self) -> Iterator[None]:
        """Leave a remote that was waited for in vain alone for a while, whoever's turn it is.

        Every product that waits for it would hold a worker for as long, one after another, and
        no revocation could be carried out meanwhile.
        """
        began = self._clock()
        if self._left_alone_until is not None and began < self._left_alone_until:
            raise errors.RemoteRefused("the remote did not answer in time a moment ago")
        try:
            yield
        except errors.RemoteRefused:
            now = self._clock()
            if now - began >= _LONG_SECONDS:
                self._left_alone_until = now + _LEFT_ALONE_SECONDS
            raise

    def _record(self, product_id: str) -> ground.Tree:
        with (
            ground.open_tree(self._output) as root,
            root.own_folder(claims.PRIVATE, make=False) as private,
        ):
            return private.folder(product_id)


def _origin(waiting: ground.Tree) -> str:
    """Return the address that the workspace has for its remote; a rename does not change it."""
    for line in _text(waiting, "config").splitlines():
        name, _, value = line.strip().partition(" = ")
        if name == "url":
            return value
    return ""


def _text(waiting: ground.Tree, path: str) -> str:
    file = waiting.read(path)
    return file.data.decode() if file else ""


def _beside(waiting: ground.Tree) -> str:
    """Name a branch that nobody else has: by the commit."""
    return f"{repository.HEADS}dpp/{_text(waiting, repository.BRANCH)[:12]}"


def _push(
    folder: ground.Tree,
    url: str,
    basic_auth: str | None,
    heed: Callable[[], None],
    branch: str,
) -> str | None:
    """Push the first commit to a branch; return what git says where that fails."""
    git = program.found()
    if git is None:
        raise errors.RemoteRefused("there is no git to push with")
    environment = {
        "GIT_DIR": ".",
        "GIT_ALLOW_PROTOCOL": urlsplit(url).scheme,
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=10",
        **_settings(basic_auth if url.startswith("http") else None),
    }
    command = [git, "push", "--quiet", url, f"{repository.BRANCH}:{branch}"]
    return program.run(command, folder, environment, seconds=_PUSH_SECONDS, heed=heed)


def _settings(basic_auth: str | None) -> dict[str, str]:
    """Pass settings in the environment: the command line of a process is for all to see."""
    settings = {
        "http.followRedirects": "false",
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": "15",
        "credential.helper": "",
    }
    if basic_auth:
        token = base64.b64encode(basic_auth.encode()).decode()
        settings["http.extraHeader"] = f"Authorization: Basic {token}"
    pairs: dict[str, str] = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        pairs |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return pairs


def _meaning(said: str) -> str:
    """Return a constant sentence for what git says: it quotes addresses and the remote's words."""
    for mark, meaning in _MEANINGS:
        if mark in said:
            return meaning
    return "the remote does not answer as a git remote does"
