"""Examine a set-up before it is trusted: every part, and what the live engine really enforces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from provisioner import errors, s3
from provisioner.doctor import checks, scoping
from provisioner.domain.findings import Attempt, Finding, Report, Verdict

if TYPE_CHECKING:
    from provisioner import assembly

__all__ = ["Attempt", "Finding", "Report", "Verdict", "examine"]
_NEEDED = frozenset({"S3 engine", "issuer"})


def examine(
    parts: assembly.Parts,
    *,
    proves_scoping: bool = True,
    tell: Callable[[Finding | Attempt], None] = lambda each: None,
) -> Report:
    """Look at everything, telling each finding as it is made; nothing of it stays behind.

    Scoping is proved with two throw-away products, where engine and issuer answer.
    """
    findings: list[Finding] = []
    attempts: list[Attempt] = []
    for finding in checks.run(parts):
        findings.append(finding)
        tell(finding)
    if proves_scoping:
        last = _prove(parts, findings, attempts, tell)
        findings.append(last)
        tell(last)
    return Report(findings=tuple(findings), attempts=tuple(attempts))


def _prove(
    parts: assembly.Parts,
    findings: list[Finding],
    attempts: list[Attempt],
    tell: Callable[[Finding | Attempt], None],
) -> Finding:
    bad = {each.about for each in findings if each.verdict is Verdict.BAD}
    if bad & _NEEDED:
        return _scoping(Verdict.SKIPPED, "engine or issuer do not answer")
    try:
        for attempt in _examination(parts).run():
            attempts.append(attempt)
            tell(attempt)
    except errors.ProvisionerError as error:
        return _scoping(Verdict.BAD, f"stopped: {error}")
    broken = sum(1 for each in attempts if not each.as_promised)
    if broken:
        return _scoping(Verdict.BAD, f"{broken} of {len(attempts)} calls were not as promised")
    return _scoping(Verdict.GOOD, f"all {len(attempts)} calls were as promised")


def _scoping(verdict: Verdict, told: str) -> Finding:
    return Finding(about="scoping", verdict=verdict, told=told)


def _examination(parts: assembly.Parts) -> scoping.Examination:
    read = parts.settings
    return scoping.Examination(
        issuer=parts.issuer,
        prober=parts.prober,
        objects=parts.objects,
        bucket=read.s3_bucket,
        trial=lambda key: s3.KeyTrial(
            key, endpoint=read.s3_endpoint, region=read.s3_region, bucket=read.s3_bucket
        ),
    )
