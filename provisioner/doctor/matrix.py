"""List the calls that tell whether keys are scoped: what is promised, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner import errors
from provisioner.domain.findings import Attempt

PORT = "daily"


class Trial(Protocol):
    """Make calls with one key; see `s3.KeyTrial`."""

    def lists(self, prefix: str | None) -> bool:
        """List below a prefix; None lists without naming one."""

    def reads(self, name: str) -> bool:
        """Read an object that is there."""

    def writes(self, name: str) -> bool:
        """Write an object."""

    def deletes(self, name: str) -> bool:
        """Delete an object."""

    def deletes_together(self, names: Sequence[str]) -> bool:
        """Delete objects in one batch."""

    def copies(self, source: str, name: str) -> bool:
        """Copy an object."""

    def copies_in_parts(self, source: str, name: str) -> bool:
        """Copy an object as a part of an upload."""

    def makes_a_bucket(self) -> bool:
        """Make a bucket of its own."""

    def reads_the_bucket_policy(self) -> bool:
        """Read the bucket's own policy."""

    def close(self) -> None:
        """Close its connections."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where one throw-away product is at home, and where it is not."""

    own: str
    other: str
    mark: str
    """The other one's ownership mark."""

    @property
    def port(self) -> str:
        """Name the other one's port."""
        return f"{self.other}{PORT}/"


@dataclass(frozen=True)
class Row:
    """One call; `promised` is what our policy says."""

    what: str
    promised: bool
    call: Callable[[Trial, Places], bool]


PRODUCER = (
    Row("write below its prefix", True, lambda key, at: key.writes(f"{at.own}x")),
    Row("write to its port", True, lambda key, at: key.writes(f"{at.own}{PORT}/x")),
    Row("read below its prefix", True, lambda key, at: key.reads(f"{at.own}x")),
    Row("list its prefix", True, lambda key, at: key.lists(at.own)),
    Row("list a name that begins like its own", False, lambda key, at: key.lists(at.other)),
    Row("write to a name like its own", False, lambda key, at: key.writes(f"{at.other}x")),
)
BEFORE = (
    Row("write below its prefix", True, lambda key, at: key.writes(f"{at.own}x")),
    Row(
        "delete own objects in a batch", True, lambda key, at: key.deletes_together([f"{at.own}x"])
    ),
    Row("read the producer's port", False, lambda key, at: key.reads(f"{at.port}x")),
    Row("list the producer's prefix", False, lambda key, at: key.lists(at.other)),
    Row("list with an empty prefix", False, lambda key, at: key.lists("")),
    Row("list without a prefix", False, lambda key, at: key.lists(None)),
    Row("delete what is the producer's", False, lambda key, at: key.deletes(f"{at.other}x")),
    Row("delete it in a batch", False, lambda key, at: key.deletes_together([f"{at.other}x"])),
    Row("copy it", False, lambda key, at: key.copies(f"{at.other}x", f"{at.own}copy")),
    Row(
        "copy it in parts", False, lambda key, at: key.copies_in_parts(f"{at.other}x", f"{at.own}p")
    ),
    Row("read an ownership mark", False, lambda key, at: key.reads(at.mark)),
    Row("write an ownership mark", False, lambda key, at: key.writes(f"{at.mark}.copy")),
    Row("make a bucket", False, lambda key, at: key.makes_a_bucket()),
    Row("look at the bucket's policy", False, lambda key, at: key.reads_the_bucket_policy()),
)
GRANTED = (
    Row("read the port", True, lambda key, at: key.reads(f"{at.port}x")),
    Row("list the port", True, lambda key, at: key.lists(at.port)),
    Row("copy from the port", True, lambda key, at: key.copies(f"{at.port}x", f"{at.own}copy")),
    Row("write to the port", False, lambda key, at: key.writes(f"{at.port}y")),
    Row("delete from the port", False, lambda key, at: key.deletes(f"{at.port}x")),
    Row("read beside the port", False, lambda key, at: key.reads(f"{at.other}x")),
    Row("list beside the port", False, lambda key, at: key.lists(at.other)),
    Row("write below its prefix", True, lambda key, at: key.writes(f"{at.own}x")),
)
REVOKED = (
    Row("read the port", False, lambda key, at: key.reads(f"{at.port}x")),
    Row("list the port", False, lambda key, at: key.lists(at.port)),
    Row("read below its prefix", True, lambda key, at: key.reads(f"{at.own}x")),
)
DEAD = (
    Row("read below its prefix", False, lambda key, at: key.reads(f"{at.own}x")),
    Row("list its prefix", False, lambda key, at: key.lists(at.own)),
    Row("write below its prefix", False, lambda key, at: key.writes(f"{at.own}y")),
)


def attempts(
    when: str, who: str, rows: Sequence[Row], trial: Trial, places: Places
) -> Iterator[Attempt]:
    """Make every call of a table; an answer that is neither yes nor no is told as it is."""
    for row in rows:
        allowed: bool | None = None
        told = ""
        try:
            allowed = row.call(trial, places)
        except (errors.PermanentError, errors.TemporaryError) as error:
            told = str(error)
        yield Attempt(
            when=when, who=who, what=row.what, promised=row.promised, allowed=allowed, told=told
        )
