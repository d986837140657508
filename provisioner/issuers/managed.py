"""Make, rewrite and delete managed policies of ours; who they are attached to is not seen here.

Those of one owner are numbered: the first has the owner's name, others the name and a number. They
lie below a path of that owner's own, which is our mark and finds all of them in one call, and are
tagged with its product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner import errors, model, telemetry
from provisioner.domain import policy
from provisioner.issuers import allowances, arrangement, iam_api

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_MOST_VERSIONS = 5
_log = telemetry.Log(__name__)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A managed policy of ours."""

    arn: str
    version: str
    """The default one, which counts."""


class ManagedPolicies:
    """Keep managed policies; `stem` keeps those of roles apart from those of users."""

    def __init__(self, client: IAMClient, *, path: str, stem: str) -> None:
        self._client = client
        self._path = path
        self._stem = stem

    def is_ours(self, owner: str, arn: str) -> bool:
        """Tell whether a policy was made for this owner."""
        return f":policy{self._folder(owner)}" in arn

    def find(self, owner: str) -> dict[int, Part] | None:
        """Return the owner's parts by number; None where the engine has no managed policies."""
        listed = iam_api.pages(
            self._client,
            "list_policies",
            "Policies",
            tolerate=iam_api.UNKNOWN_CALL,
            Scope="Local",
            PathPrefix=self._folder(owner),
        )
        if listed is None:
            return None
        numbers = {self._name(owner, each): each for each in range(1, arrangement.MOST_PARTS + 1)}
        return {
            numbers[each["PolicyName"]]: Part(arn=each["Arn"], version=each["DefaultVersionId"])
            for each in listed
            if each["PolicyName"] in numbers
        }

    def read(self, part: Part) -> frozenset[allowances.Allowance]:
        """Return what a part allows; nothing where it is gone."""
        answer = iam_api.call(
            lambda: self._client.get_policy_version(PolicyArn=part.arn, VersionId=part.version),
            tolerate=iam_api.GONE,
        )
        return allowances.read(answer["PolicyVersion"].get("Document")) if answer else frozenset()

    def create(
        self, owner: model.Principal, number: int, document: Mapping[str, Any]
    ) -> Part | None:
        """Make a part, attached to nobody yet; None where the account has no room for it."""
        try:
            made = iam_api.create_marked(
                self._client.create_policy,
                owner.product_id,
                tolerate=iam_api.FULL,
                PolicyName=self._name(owner.name, number),
                Path=self._folder(owner.name),
                PolicyDocument=policy.text(document),
            )
        except errors.Conflict as exc:
            if exc.attributes.get("code") not in iam_api.THERE:
                raise
            # A listing that lags behind shows it soon, somebody else's it never shows: backoff.
            raise errors.Conflict(
                "a managed policy of that name is there, and not found below our path",
                delay_seconds=None,
                principal=owner.name,
            ) from exc
        if made is None:
            return None
        return Part(arn=made["Policy"]["Arn"], version=made["Policy"]["DefaultVersionId"])

    def rewrite(self, arn: str, document: Mapping[str, Any]) -> None:
        """Replace what a part allows; where there are five versions the oldest goes first."""
        versions = self._versions(arn)
        for old in versions[: max(0, len(versions) + 1 - _MOST_VERSIONS)]:
            self._drop_version(arn, old)
        iam_api.call(
            lambda: self._client.create_policy_version(
                PolicyArn=arn, PolicyDocument=policy.text(document), SetAsDefault=True
            )
        )

    def delete(self, arn: str) -> None:
        """Delete a part with all its versions; left where somebody attached it elsewhere."""
        for old in self._versions(arn)[:-1]:
            self._drop_version(arn, old)
        try:
            iam_api.call(lambda: self._client.delete_policy(PolicyArn=arn), tolerate=iam_api.GONE)
        except errors.Conflict as exc:
            if exc.attributes.get("code") != "DeleteConflict":
                raise
            _log.warning("a policy of ours is attached to somebody else", policy=arn)

    def _versions(self, arn: str) -> list[str]:
        """List the versions, the oldest first and the default one last."""
        found = iam_api.pages(self._client, "list_policy_versions", "Versions", PolicyArn=arn) or []
        found.sort(key=lambda each: (each["IsDefaultVersion"], int(each["VersionId"][1:])))
        return [each["VersionId"] for each in found]

    def _drop_version(self, arn: str, version: str) -> None:
        iam_api.call(
            lambda: self._client.delete_policy_version(PolicyArn=arn, VersionId=version),
            tolerate=iam_api.GONE,
        )

    def _name(self, owner: str, number: int) -> str:
        return f"{self._stem}{owner}" if number == 1 else f"{self._stem}{owner}-{number}"

    def _folder(self, owner: str) -> str:
        return f"{self._path}{self._stem}{owner}/"
