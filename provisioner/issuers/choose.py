"""Choose the issuer for an engine; nothing is asked before the issuer is first used.

The engine may be down when the service starts, so `auto` asks it on first use, and again until it
has answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from provisioner import errors, model, ports, telemetry
from provisioner.issuers import iam

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_AWS_SETTLE_SECONDS = 10.0
_LATER = frozenset({"rustfs", "minio", "rgw"})
_log = telemetry.Log(__name__)


def choose(name: str, *, client: IAMClient, endpoint: str | None) -> tuple[ports.Issuer, str]:
    """Return the issuer that PROV_ISSUER names, and how it was chosen.

    `client` speaks to `endpoint`, None for AWS. Raise `ConfigurationError` for an issuer that this
    release does not have.
    """
    issuer = iam.IamIssuer(client, settle_seconds=_AWS_SETTLE_SECONDS if _is_aws(endpoint) else 0.0)
    if name == "iam":
        return issuer, "iam, as PROV_ISSUER says"
    if name == "auto" and _is_aws(endpoint):
        return issuer, "iam, since the endpoint is AWS's"
    if name == "auto":
        return AskingIssuer(issuer), "iam, if the endpoint answers as the IAM API on first use"
    if name in _LATER:
        raise errors.ConfigurationError(
            (f"PROV_ISSUER: {name} comes in a later release; this one has iam and auto",)
        )
    raise errors.ConfigurationError(("PROV_ISSUER: expects auto or iam",))


def _is_aws(endpoint: str | None) -> bool:
    host = urlsplit(endpoint or "https://iam.amazonaws.com").hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


class AskingIssuer:
    """Implement `ports.Issuer` over IAM once the endpoint has answered as the IAM API does."""

    def __init__(self, issuer: iam.IamIssuer) -> None:
        self.name = issuer.name
        self.chooses_key_ids = issuer.chooses_key_ids
        self.settle_seconds = issuer.settle_seconds
        self._issuer = issuer
        self._answered = False

    def _asked(self) -> iam.IamIssuer:
        """Ask until there was an answer; raise `IssuerRejected` where it is not IAM's."""
        if not self._answered:
            try:
                self._issuer.ask()
            except errors.IssuerRejected as exc:
                raise errors.IssuerRejected(
                    "the endpoint does not let us use an IAM API: set IAM_ENDPOINT to where it is"
                    " (PROV_ISSUER: iam; rustfs, minio and rgw come in a later release)",
                    **exc.attributes,
                ) from exc
            self._answered = True
            _log.info("issuer chosen", issuer=self.name, how="the endpoint answered ListUsers")
        return self._issuer

    def ensure_principal(self, principal: model.Principal) -> None:
        """Make the principal with our mark."""
        self._asked().ensure_principal(principal)

    def put_policy(self, principal: model.Principal, document: Mapping[str, Any]) -> None:
        """Replace the principal's one policy."""
        self._asked().put_policy(principal, document)

    def holds(self, principal: model.Principal, document: Mapping[str, Any]) -> bool:
        """Read the policy back."""
        return self._asked().holds(principal, document)

    def create_key(
        self,
        principal: model.Principal,
        wanted: model.AccessKey | None,
        document: Mapping[str, Any],
    ) -> model.AccessKey:
        """Make a key."""
        return self._asked().create_key(principal, wanted, document)

    def list_keys(self, principal: model.Principal) -> tuple[ports.IssuedKey, ...]:
        """List the principal's keys."""
        return self._asked().list_keys(principal)

    def delete_key(self, principal: model.Principal, key_id: str) -> None:
        """Deactivate and delete a key."""
        self._asked().delete_key(principal, key_id)

    def delete_principal(self, principal: model.Principal) -> None:
        """Delete keys, policies and the principal."""
        self._asked().delete_principal(principal)

    def principals(self) -> tuple[model.Principal, ...]:
        """List every principal that bears our mark."""
        return self._asked().principals()
