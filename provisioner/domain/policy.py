"""Write the policy of one principal: its own prefixes, what was granted, and nothing else.

Strict on purpose. A listing is allowed for `prefix/*` alone, so that `sales/` never shows
`sales-eu/`; no `StringLikeIfExists`, which lets a listing without a prefix through; no
`ListAllMyBuckets`; nothing on ACLs, tags or old versions. Buckets and prefixes enter a resource
only from an alphabet in which no character is live in a policy: `*`, `?` and `${...}` are, and
`..` is in engines that clean paths.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from provisioner import errors, model, names

_READ = ("s3:GetObject",)
_WRITE = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
_PREFIX = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9+=,.@_-]*/)+")


def document(
    *,
    bucket: str,
    own: Sequence[str],
    grants: Sequence[model.Grant],
) -> dict[str, Any]:
    """Build the policy document of a principal; the same input in any order gives the same one.

    `own` are prefixes in `bucket`. Raise `NameRejected` for a bucket or prefix that could match
    more than it says.
    """
    home = [_checked(model.Location(bucket=bucket, prefix=check_prefix(prefix))) for prefix in own]
    mine = _minimal(home, ())
    writable = _minimal(_granted(grants, model.Access.WRITE), mine)
    readable = _minimal(_granted(grants, model.Access.READ), (*mine, *writable))
    reachable = _minimal((*mine, *writable, *readable), ())
    statements = [
        *_objects("Own", _WRITE, mine),
        *_objects("Granted", _READ, readable),
        *_objects("GrantedWrite", _WRITE, writable),
        *_listings(bucket, reachable),
        *_on_buckets("Loc", "s3:GetBucketLocation", reachable),
    ]
    return {"Version": "2012-10-17", "Statement": statements or [_nothing()]}


def with_batch_delete(document: Mapping[str, Any]) -> dict[str, Any]:
    """Allow DeleteObject also on the buckets in which the document allows it on objects.

    Ceph before 19 asks for it where a batch is deleted, and still checks each key.
    """
    writes = [each for each in document["Statement"] if "s3:DeleteObject" in each["Action"]]
    buckets = sorted({arn.split("/", 1)[0] for each in writes for arn in each["Resource"]})
    batch = [_allow("Batch", ["s3:DeleteObject"], buckets)] if buckets else []
    return {**document, "Statement": [*document["Statement"], *batch]}


def with_versions(document: Mapping[str, Any]) -> dict[str, Any]:
    """Allow reading a version of whatever object the document allows reading.

    rustfs asks for it on a bucket that keeps versions, even where none is named.
    """
    return {**document, "Statement": [_versioned(each) for each in document["Statement"]]}


def _versioned(statement: Mapping[str, Any]) -> dict[str, Any]:
    actions = list(statement["Action"])
    if "s3:GetObject" in actions:
        actions.append("s3:GetObjectVersion")
    return {**statement, "Action": actions}


def text(document: Mapping[str, Any]) -> str:
    """Write a document as compact JSON: spaces count at some engines and break others.

    A plus, which can only stand within a string, is escaped: Ceph 16 reads a bare one as a space.
    """
    compact = json.dumps(document, separators=(",", ":"), sort_keys=True)
    return compact.replace("+", r"\u002b")


def digest(document: Mapping[str, Any]) -> str:
    """Digest a document: equal exactly where the documents are."""
    return hashlib.sha256(text(document).encode()).hexdigest()


def check_prefix(prefix: str) -> str:
    """Return the prefix, or raise `NameRejected` where it could reach beyond itself.

    It ends in `/`, no segment is empty or starts with a dot, and nothing in it is a wildcard.
    """
    if not _PREFIX.fullmatch(prefix):
        raise errors.NameRejected("the prefix is not safe in a policy", prefix=ascii(prefix)[:160])
    return prefix


def is_safe(location: model.Location) -> bool:
    """Tell whether a place reaches nothing beyond itself: of any other a document is refused."""
    return names.is_bucket(location.bucket) and _PREFIX.fullmatch(location.prefix) is not None


def _checked(location: model.Location) -> model.Location:
    if not names.is_bucket(location.bucket):
        raise errors.NameRejected(
            "the bucket is not safe in a policy", bucket=ascii(location.bucket)[:80]
        )
    check_prefix(location.prefix)
    return location


def _granted(grants: Iterable[model.Grant], access: model.Access) -> list[model.Location]:
    return [
        _checked(place) for grant in grants if grant.access is access for place in grant.locations
    ]


def _minimal(
    locations: Iterable[model.Location], wider: Iterable[model.Location]
) -> tuple[model.Location, ...]:
    """Sort, and drop what lies within another one of them or within a wider access."""
    kept = list(wider)
    given = len(kept)
    for location in sorted(set(locations)):
        if not any(_covers(other, location) for other in kept):
            kept.append(location)
    return tuple(kept[given:])


def _covers(outer: model.Location, inner: model.Location) -> bool:
    return outer.bucket == inner.bucket and inner.prefix.startswith(outer.prefix)


def _objects(
    sid: str, actions: Sequence[str], locations: Sequence[model.Location]
) -> list[dict[str, Any]]:
    resources = [f"{_arn(place.bucket)}/{place.prefix}*" for place in locations]
    return [_allow(sid, actions, resources)] if resources else []


def _listings(home: str, locations: Sequence[model.Location]) -> list[dict[str, Any]]:
    """Allow listing in a statement for each bucket: one for all would mix their prefixes."""
    statements = []
    for number, bucket in enumerate(_buckets(locations, first=home), start=1):
        patterns = [f"{place.prefix}*" for place in locations if place.bucket == bucket]
        statement = _allow(
            "List" if number == 1 else f"List{number}", ["s3:ListBucket"], [_arn(bucket)]
        )
        statement["Condition"] = {"StringLike": {"s3:prefix": patterns}}
        statements.append(statement)
    return statements


def _on_buckets(sid: str, action: str, locations: Sequence[model.Location]) -> list[dict[str, Any]]:
    resources = [_arn(bucket) for bucket in _buckets(locations)]
    return [_allow(sid, [action], resources)] if resources else []


def _buckets(locations: Iterable[model.Location], first: str = "") -> list[str]:
    return sorted({place.bucket for place in locations}, key=lambda name: (name != first, name))


def _arn(bucket: str) -> str:
    return f"arn:aws:s3:::{bucket}"


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _nothing() -> dict[str, Any]:
    """Deny everything: a policy without any statement is refused by engines, `*` alone by one."""
    return {"Sid": "Nothing", "Effect": "Deny", "Action": ["s3:*"], "Resource": [_arn("*")]}
