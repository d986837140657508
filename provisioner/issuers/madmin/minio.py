"""What MinIO asks for: bodies that are encrypted, and a look at its release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner import errors, model, ports, telemetry
from provisioner.issuers.madmin import admin as api
from provisioner.issuers.madmin import issuer, versions

_POLICY_LIMIT = 20 << 10
_log = telemetry.Log(__name__)


class MinioIssuer(issuer.MadminIssuer):
    """Implement `ports.Issuer` at MinIO."""

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        admin: model.AccessKey,
        clock: ports.Clock = issuer.now,
    ) -> None:
        calls = api.Admin(api.MINIO, endpoint=endpoint, region=region, admin=admin)
        super().__init__("minio", admin=calls, engine=_Minio(), clock=clock)


class _Minio:
    policy_limit = _POLICY_LIMIT
    resets_accounts = True

    def judge(self, info: Any) -> None:
        """Refuse another engine, and warn of a release that may be unsafe.

        The advisory lets a service account with a policy of its own outgrow it. Ours have none.
        """
        if info is not None and not versions.is_info(info):
            raise errors.IssuerRejected("what answers is not MinIO")
        if info is not None and versions.is_rustfs(info):
            raise errors.IssuerRejected("what answers is rustfs, not MinIO")
        named = versions.named(info)
        if {versions.of_minio(each) for each in named} != {versions.Verdict.SAFE}:
            _log.warning(
                "this MinIO is not known to have the fix for an advisory",
                version=", ".join(named) or "not told",
                advisory=versions.MINIO_ADVISORY,
                fixed_in=versions.MINIO_SINCE,
            )

    def refined(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the document as it is."""
        return document
