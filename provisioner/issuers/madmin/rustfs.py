"""What rustfs asks for: another prefix, plain bodies, rights to versions, and a safe release.

Written from its sources, and held in the tests against the shapes that these describe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from provisioner import errors, model, ports, telemetry
from provisioner.domain import policy
from provisioner.issuers.madmin import admin as api
from provisioner.issuers.madmin import issuer, versions

_POLICY_LIMIT = 1 << 20
_TOLD_FOR = timedelta(minutes=5)
_log = telemetry.Log(__name__)


class RustfsIssuer(issuer.MadminIssuer):
    """Implement `ports.Issuer` at rustfs; `versioned` tells whether the bucket keeps versions."""

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        admin: model.AccessKey,
        versioned: Callable[[], bool],
        clock: ports.Clock = issuer.now,
    ) -> None:
        calls = api.Admin(api.RUSTFS, endpoint=endpoint, region=region, admin=admin)
        super().__init__("rustfs", admin=calls, engine=_Rustfs(versioned, clock), clock=clock)


class _Rustfs:
    policy_limit = _POLICY_LIMIT
    resets_accounts = False  # newer releases let nobody but the parent change an account

    def __init__(self, versioned: Callable[[], bool], clock: ports.Clock) -> None:
        self._versioned = versioned
        self._clock = clock
        self._told: tuple[bool, datetime] | None = None

    def judge(self, info: Any) -> None:
        """Refuse another engine, and a release in which keys reach beyond themselves."""
        if info is not None and not versions.is_info(info):
            raise errors.IssuerRejected("what answers is not rustfs")
        verdicts = {each: versions.of_rustfs(each) for each in versions.named(info)}
        unsafe = [each for each, said in verdicts.items() if said is versions.Verdict.UNSAFE]
        if unsafe:
            raise errors.IssuerRejected(
                "this rustfs lets a key change the secret of its parent",
                version=", ".join(unsafe),
                fixed_in=versions.RUSTFS_SINCE,
            )
        if set(verdicts.values()) != {versions.Verdict.SAFE}:
            _log.warning(
                "this rustfs is not known to be a safe release",
                version=", ".join(verdicts) or "not told",
                safe_since=versions.RUSTFS_SINCE,
            )

    def refined(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let what may read objects read versions of them, where the bucket keeps versions."""
        return policy.with_versions(document) if self._keeps_versions() else document

    def _keeps_versions(self) -> bool:
        now = self._clock()
        if self._told is None or now - self._told[1] > _TOLD_FOR:
            self._told = (self._versioned(), now)
        return self._told[0]
