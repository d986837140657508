"""Keep the roles through which people sign in at AWS, one a product, over the IAM API.

A role below our path that is tagged with a product is ours; one of the same name without that mark
is somebody else's and stays untouched. What a role may do is kept by `holdings`, as for users.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from provisioner import errors, model
from provisioner.issuers import allowances, holdings, iam_api

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import RoleTypeDef

_ACCOUNT = re.compile(r"^arn:[a-z-]+:iam::([0-9]{12}):root$")
INLINE_LIMIT = 10_240
"""Characters of all inline policies of a role at AWS, white space not counted."""


class IamRoles:
    """Implement `ports.Roles`; `client` may be one that is made on its first use."""

    def __init__(self, client: IAMClient, *, path: str = iam_api.PATH) -> None:
        self._client = client
        self._path = path
        self._holdings = holdings.Holdings(
            client, "role", inline_limit=INLINE_LIMIT, path=path, stem="role-"
        )

    def ensure(self, role: model.Principal, trust: str) -> None:
        """Make the role with our mark, trusted so; `NotOurs` where one without it has the name."""
        made = iam_api.create_marked(
            self._client.create_role,
            role.product_id,
            tolerate=iam_api.THERE,
            RoleName=role.name,
            Path=self._path,
            AssumeRolePolicyDocument=trust,
        )
        if made is not None:
            return
        held = self._our_role(role)
        if held is None:
            raise errors.Conflict(
                "the role was deleted meanwhile",
                delay_seconds=iam_api.SOON_SECONDS,
                role=role.name,
            )
        if not _trusts(held, trust):
            iam_api.call(
                lambda: self._client.update_assume_role_policy(
                    RoleName=role.name, PolicyDocument=trust
                )
            )

    def _our_role(self, role: model.Principal) -> RoleTypeDef | None:
        """Return the role, None if there is none; `NotOurs` if it lacks path or tag."""
        answer = iam_api.call(
            lambda: self._client.get_role(RoleName=role.name), tolerate=iam_api.GONE
        )
        if answer is None:
            return None
        held = answer["Role"]
        if held.get("Path") != self._path:
            raise errors.NotOurs("a role of that name is not ours", role=role.name)
        mark = iam_api.product_id(held, lambda: self._client.list_role_tags(RoleName=role.name))
        if mark not in (None, role.product_id):
            raise errors.NotOurs("the role belongs to another product", role=role.name)
        return held

    def put_policy(self, role: model.Principal, document: Mapping[str, Any]) -> None:
        """Make this all that the role may do."""
        self._holdings.put(role, document)

    def holds(self, role: model.Principal, trust: str, document: Mapping[str, Any]) -> bool:
        """Tell whether the role is ours, trusted so, and may do exactly this."""
        try:
            held = self._our_role(role)
        except errors.NotOurs:
            return False
        if held is None or not _trusts(held, trust):
            return False
        return self._holdings.allowed(role.name) == allowances.read(document)

    def delete(self, role: model.Principal) -> None:
        """Delete policies and role; gone is success."""
        if self._our_role(role) is None:
            self._holdings.delete_parts(role.name)
            return
        self._holdings.clear(role.name)
        iam_api.call(lambda: self._client.delete_role(RoleName=role.name), tolerate=iam_api.GONE)


def _trusts(role: RoleTypeDef, trust: str) -> bool:
    """Compare trust policies as AWS means them: it writes accounts and lists in its own way."""
    return bool(_normal(role.get("AssumeRolePolicyDocument")) == _normal(json.loads(trust)))


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _normal(each) for name, each in value.items()}
    if isinstance(value, list):
        found = sorted((_normal(each) for each in value), key=json.dumps)
        return found[0] if len(found) == 1 else found
    return _ACCOUNT.sub(r"\1", value) if isinstance(value, str) else value
