"""List everything at an engine that could open an object: users, keys, policies, roles.

It is listed by the engine's own calls, not by our issuers, and so sees what those overlook.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from provisioner import model
from provisioner.issuers.madmin import client, codec

if TYPE_CHECKING:
    from tests import engines

_GENERATION = re.compile(r"(?P<principal>dp-.+)\.g\d+")


@dataclass(frozen=True, kw_only=True)
class Census:
    """What there is, by name; `keys` by whom they belong to."""

    users: frozenset[str]
    keys: Mapping[str, frozenset[str]]
    policies: frozenset[str]

    def since(self, before: Census) -> Census:
        """Leave out what was there before."""
        keys = {
            user: found
            for user, held in self.keys.items()
            if (found := held - before.keys.get(user, frozenset()))
        }
        return Census(
            users=self.users - before.users, keys=keys, policies=self.policies - before.policies
        )


def expected(engine: engines.Engine, records: Iterable[model.Record]) -> Census:
    """Return what there should be of products at rest: one key each, and nothing besides."""
    held = [record.credentials for record in records if record.credentials.principal]
    assert all(each.current and not each.pending and not each.retiring for each in held)
    keys = {each.principal: frozenset({each.current.id}) for each in held if each.current}
    names = frozenset(keys)
    if engine.issuer_name == "rgw":  # a user for every key, which holds the policy
        holders = frozenset(f"{name}.g" for name in names)
        return Census(users=names | holders, keys=keys, policies=holders)
    return Census(users=names, keys=keys, policies=names)


def take(engine: engines.Engine) -> Census:
    """List what there is now."""
    if engine.issuer_name == "rgw":
        return _of_rgw(cast("engines.Rgw", engine))
    return _of_minio(engine) if engine.issuer_name == "minio" else _of_iam(engine)


def _of_iam(engine: engines.Engine) -> Census:
    iam = engine.iam()
    users = [
        user["UserName"]
        for page in iam.get_paginator("list_users").paginate()
        for user in page["Users"]
    ]
    keys = {
        user: frozenset(
            each["AccessKeyId"] for each in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        )
        for user in users
    }
    inline = {user for user in users if iam.list_user_policies(UserName=user)["PolicyNames"]}
    managed = {each["PolicyName"] for each in iam.list_policies(Scope="Local")["Policies"]}
    roles = {each["RoleName"] for each in iam.list_roles()["Roles"]}
    iam.close()
    return Census(
        users=frozenset(users) | roles,
        keys={user: held for user, held in keys.items() if held},
        policies=frozenset(inline | managed),
    )


def _of_rgw(engine: engines.Rgw) -> Census:
    """List users; one of a generation counts as its principal's, and how many of them there are."""
    records = {uid: engine.record(uid) for uid in engine.uids()}
    keys: dict[str, frozenset[str]] = {}
    for uid, record in records.items():
        held = frozenset(each["access_key"] for each in record["keys"])
        if held:
            owner = _principal(uid)
            keys[owner] = keys.get(owner, frozenset()) | held
    allowed = [uid for uid, record in records.items() if _has_policy(record)]
    return Census(users=_numbered(records), keys=keys, policies=_numbered(allowed))


def _principal(uid: str) -> str:
    found = _GENERATION.fullmatch(uid)
    return found["principal"] if found else uid


def _numbered(uids: Iterable[str]) -> frozenset[str]:
    """Name generations alike, `….g` and so on: which number is free is the issuer's affair."""
    seen: Counter[str] = Counter()
    found = set()
    for uid in uids:
        if _GENERATION.fullmatch(uid):
            uid = f"{_principal(uid)}.g"
            seen[uid] += 1
            uid = uid if seen[uid] == 1 else f"{uid} ({seen[uid]})"
        found.add(uid)
    return frozenset(found)


def _has_policy(record: Mapping[str, Any]) -> bool:
    return any("policy" in each["key"] for each in record.get("attrs", []))


def _of_minio(engine: engines.Engine) -> Census:
    calls = client.AdminClient(
        endpoint=engine.endpoint,
        region="us-east-1",
        admin=engine.admin,
        prefix="/minio/admin/v3",
        cipher=codec.Codec(engine.admin.secret),
    )
    users = frozenset(calls.read("list-users", encrypted=True))
    every = {"all": "true", "listType": "svcacc-only"}
    listed = calls.read("list-access-keys-bulk", every, encrypted=True)
    keys = {
        user: frozenset(each["accessKey"] for each in held["serviceAccounts"])
        for user, held in listed.items()
        if held.get("serviceAccounts")
    }
    policies = frozenset(calls.read("list-canned-policies"))
    groups = frozenset(calls.read("groups") or ())
    return Census(users=users | groups, keys=keys, policies=policies)
