from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from provisioner import errors, model, names
from provisioner.domain import policy
from provisioner.issuers import madmin
from provisioner.steps import keypair
from tests import canned_server, rustfs_shapes

DOCUMENT = policy.document(bucket="lake", own=["sales/"], grants=[])
PRODUCT = str(uuid.uuid4())
PRINCIPAL = model.Principal(name=names.principal("sales", PRODUCT), product_id=PRODUCT)


@pytest.fixture
def rustfs() -> Iterator[rustfs_shapes.Rustfs]:
    with rustfs_shapes.serve(rustfs_shapes.Rustfs()) as engine:
        yield engine


class Bucket:
    """Count who asks whether the bucket keeps versions, and the time."""

    def __init__(self, *, versioned: bool = False) -> None:
        self.versioned = versioned
        self.asked = 0
        self.now = datetime(2026, 1, 2, tzinfo=UTC)

    def keeps_versions(self) -> bool:
        self.asked += 1
        return self.versioned


def issuer_of(rustfs: rustfs_shapes.Rustfs, bucket: Bucket | None = None) -> madmin.RustfsIssuer:
    bucket = bucket or Bucket()
    return madmin.RustfsIssuer(
        endpoint=rustfs.endpoint,
        region="us-east-1",
        admin=rustfs.admin,
        versioned=bucket.keeps_versions,
        clock=lambda: bucket.now,
    )


def issue(issuer: madmin.RustfsIssuer) -> model.AccessKey:
    issuer.ensure_principal(PRINCIPAL)
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    return issuer.create_key(PRINCIPAL, keypair.choose(), DOCUMENT)


def test_the_mark_is_written_before_the_user_is_made(rustfs: rustfs_shapes.Rustfs) -> None:
    issue(issuer_of(rustfs))
    written = [f"{method} {route}" for method, route, _, _ in rustfs.requests if method == "PUT"]
    assert written == [
        "PUT add-canned-policy",
        "PUT add-user",
        "PUT set-user-or-group-policy",
        "PUT add-canned-policy",
        "PUT add-service-accounts",
    ]


def test_no_statement_mixes_administration_and_objects(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    issue(issuer)
    kinds = [
        {action.split(":")[0] for action in each["Action"]}
        for each in rustfs.policies[PRINCIPAL.name]["Statement"]
    ]
    assert {"admin"} in kinds
    assert {"admin", "s3"} not in kinds
    assert issuer.holds(PRINCIPAL, DOCUMENT)


def test_nobody_keeps_the_secret_of_a_parent(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    issue(issuer)
    rustfs.users.clear()
    issuer.ensure_principal(PRINCIPAL)
    secrets = [body["secretKey"] for _, route, _, body in rustfs.requests if route == "add-user"]
    assert len(set(secrets)) == 2
    assert all(len(secret) == 40 for secret in secrets)


def test_a_bucket_with_versions_lets_versions_be_read_and_is_asked_once_in_five_minutes(
    rustfs: rustfs_shapes.Rustfs,
) -> None:
    bucket = Bucket(versioned=True)
    issuer = issuer_of(rustfs, bucket)
    issue(issuer)
    assert issuer.holds(PRINCIPAL, DOCUMENT)
    actions = {a for each in rustfs.policies[PRINCIPAL.name]["Statement"] for a in each["Action"]}
    assert "s3:GetObjectVersion" in actions
    assert bucket.asked == 1
    bucket.versioned = False
    bucket.now += timedelta(minutes=6)
    assert not issuer.holds(PRINCIPAL, DOCUMENT)
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    assert issuer.holds(PRINCIPAL, DOCUMENT)
    assert bucket.asked == 2


def test_a_user_that_was_changed_by_hand_is_seen_and_repaired(
    rustfs: rustfs_shapes.Rustfs,
) -> None:
    issuer = issuer_of(rustfs)
    issue(issuer)
    rustfs.users[PRINCIPAL.name].update(policyName="readwrite", status="disabled", memberOf=["g"])
    assert not issuer.holds(PRINCIPAL, DOCUMENT)
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    assert issuer.holds(PRINCIPAL, DOCUMENT)


def test_a_key_that_got_a_policy_of_its_own_is_seen(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    key = issue(issuer)
    rustfs.accounts[key.id]["policy"] = DOCUMENT
    assert not issuer.holds(PRINCIPAL, DOCUMENT)
    issuer.put_policy(PRINCIPAL, DOCUMENT)
    assert not issuer.holds(PRINCIPAL, DOCUMENT)


def test_a_failure_is_not_taken_for_absence(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    issue(issuer)
    made = rustfs.policies.pop(PRINCIPAL.name)

    class Failing(dict[str, object]):
        """List the policy, and fail to show it."""

        def __contains__(self, name: object) -> bool:
            return False

    rustfs.policies = Failing({PRINCIPAL.name: made})
    with pytest.raises(errors.IssuerUnavailable):
        issuer.ensure_principal(PRINCIPAL)
    with pytest.raises(errors.IssuerUnavailable):
        issuer.holds(PRINCIPAL, DOCUMENT)


def test_what_is_gone_meanwhile_is_deleted_already(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    issue(issuer)
    rustfs.users.clear()
    rustfs.accounts.clear()
    issuer.delete_principal(PRINCIPAL)
    assert rustfs.policies == {}


def test_a_key_for_a_user_that_is_gone_is_a_conflict(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    issue(issuer)
    rustfs.users.clear()
    with pytest.raises(errors.Conflict):
        issuer.create_key(PRINCIPAL, keypair.choose(), DOCUMENT)


def test_without_a_key_of_our_choice_none_is_made(rustfs: rustfs_shapes.Rustfs) -> None:
    with pytest.raises(errors.IssuerRejected):
        issuer_of(rustfs).create_key(PRINCIPAL, None, DOCUMENT)


def test_what_tells_of_no_servers_is_not_rustfs() -> None:
    with canned_server.canned(200, b"{}") as endpoint:
        issuer = madmin.RustfsIssuer(
            endpoint=endpoint,
            region="us-east-1",
            admin=model.AccessKey("admin", "a" * 40),
            versioned=lambda: False,
        )
        with pytest.raises(errors.IssuerRejected, match="not rustfs"):
            issuer.ask()


def test_a_key_that_is_there_already_is_made_by_us(rustfs: rustfs_shapes.Rustfs) -> None:
    issuer = issuer_of(rustfs)
    key = issue(issuer)
    assert issuer.create_key(PRINCIPAL, key, DOCUMENT) == key
    rustfs.accounts[key.id]["parent"] = "somebody-else"
    with pytest.raises(errors.IssuerUnavailable):
        issuer.create_key(PRINCIPAL, key, DOCUMENT)


@pytest.mark.parametrize("version", ["refs/tags/1.0.0-beta.11", "1.0.0-alpha.90"])
def test_a_release_in_which_keys_reach_their_parent_is_refused(
    rustfs: rustfs_shapes.Rustfs, version: str
) -> None:
    rustfs.version = version
    issuer = issuer_of(rustfs)
    for _ in range(2):
        with pytest.raises(errors.IssuerRejected) as caught:
            issuer.ensure_principal(PRINCIPAL)
        assert caught.value.attributes["fixed_in"] == "1.0.0-beta.12"
    assert rustfs.users == {}
    rustfs.version = "refs/tags/1.0.0"
    issuer.ensure_principal(PRINCIPAL)


@pytest.mark.parametrize(("version", "warned"), [("1.0.0", False), ("@deadbeef", True)])
def test_a_release_that_is_not_told_is_warned_about_once(
    rustfs: rustfs_shapes.Rustfs, caplog: pytest.LogCaptureFixture, version: str, warned: bool
) -> None:
    rustfs.version = version
    issuer = issuer_of(rustfs)
    for _ in range(2):
        issuer.ask()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned


def test_an_admin_key_that_may_not_ask_for_the_release_is_warned_about(
    rustfs: rustfs_shapes.Rustfs,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(query: object, body: object) -> None:
        raise rustfs_shapes.Refused(403, "AccessDenied")

    monkeypatch.setattr(rustfs, "_info", refuse)
    issuer_of(rustfs).ask()
    assert len(caplog.records) == 1


def test_rustfs_at_the_routes_of_minio_is_not_taken_for_it() -> None:
    with rustfs_shapes.serve(rustfs_shapes.Rustfs(), prefix="/minio/admin/v3/") as engine:
        issuer = madmin.MinioIssuer(
            endpoint=engine.endpoint, region="us-east-1", admin=engine.admin
        )
        with pytest.raises(errors.IssuerRejected, match="rustfs"):
            issuer.ask()


@pytest.mark.parametrize("named", ["minio", "rustfs"])
def test_an_engine_that_refuses_everything_is_taken_for_neither(named: str) -> None:
    body = b"<Error><Code>AccessDenied</Code></Error>"
    admin = model.AccessKey("admin", "a" * 40)
    with canned_server.canned(403, body) as endpoint:
        issuer: madmin.MinioIssuer | madmin.RustfsIssuer = madmin.MinioIssuer(
            endpoint=endpoint, region="us-east-1", admin=admin
        )
        if named == "rustfs":
            issuer = madmin.RustfsIssuer(
                endpoint=endpoint, region="us-east-1", admin=admin, versioned=lambda: False
            )
        with pytest.raises(errors.IssuerRejected):
            issuer.ask()
