"""Hold what an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How grave a finding is."""

    GOOD = "ok"
    DOUBTFUL = "warning"
    BAD = "failed"
    SKIPPED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    verdict: Verdict
    told: str
    """What was found; where it is not good, with what to do."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call with a throw-away key."""

    when: str
    who: str
    what: str
    promised: bool
    """What our policy says."""
    allowed: bool | None
    """What the engine did; None where it answered something else, which `told` tells."""
    told: str = ""

    @property
    def as_promised(self) -> bool:
        """Tell whether the engine keeps the promise."""
        return self.allowed is self.promised


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found; `well` decides the exit code."""

    findings: tuple[Finding, ...]
    attempts: tuple[Attempt, ...] = ()

    @property
    def well(self) -> bool:
        """Tell whether nothing failed and every call was answered as promised."""
        return all(each.verdict is not Verdict.BAD for each in self.findings) and all(
            attempt.as_promised for attempt in self.attempts
        )
