"""Change things by hand at a real engine, and have a deep look find and repair them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from provisioner import assembly, model, operations, settings
from provisioner.demo import portal as fake_portal
from provisioner.loop import sweep
from provisioner.steps import keypair

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
EVERYTHING = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
)
POLICY = "the policy was changed, or the principal disabled or gone"
GONE, DISABLED = "the key in .env was gone", "the key in .env was disabled"
STRAY = "a key that the store does not know was found"


class IamHands:
    """Do at an IAM API what an admin may do there by hand."""

    issuer = "iam"

    def __init__(self, engine: engines.Engine) -> None:
        self.iam = engine.iam()

    def widen(self, user: str) -> None:
        self.iam.put_user_policy(UserName=user, PolicyName="dp", PolicyDocument=EVERYTHING)

    def delete_policy(self, user: str) -> None:
        self.iam.delete_user_policy(UserName=user, PolicyName="dp")

    def delete_key(self, user: str, key: str) -> None:
        self.iam.delete_access_key(UserName=user, AccessKeyId=key)

    def disable_key(self, user: str, key: str) -> None:
        self.iam.update_access_key(UserName=user, AccessKeyId=key, Status="Inactive")

    def attach(self, user: str) -> None:
        self.iam.put_user_policy(UserName=user, PolicyName="more", PolicyDocument=EVERYTHING)

    def add_key(self, user: str) -> None:
        self.iam.create_access_key(UserName=user)

    def delete_user(self, user: str) -> None:
        for key in self.keys(user):
            self.delete_key(user, key)
        self.delete_policy(user)
        self.iam.delete_user(UserName=user)

    def keys(self, user: str) -> list[str]:
        listed = self.iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        return [each["AccessKeyId"] for each in listed]


class RgwHands:
    """Do at a Ceph before 19 what an admin may do there by hand: each key has a user of its own."""

    issuer = "rgw"

    def __init__(self, engine: engines.Rgw) -> None:
        self._engine = engine

    def users(self, user: str) -> list[str]:
        there = self._engine.uids()
        return [uid for uid in (user, *(f"{user}.g{n}" for n in range(1, 5))) if uid in there]

    def holder(self, user: str, key: str = "") -> str:
        """Name the user of a key, or of the newest."""
        held = [uid for uid in self.users(user)[1:] if not key or key in self._engine.keys(uid)]
        return held[-1]

    def widen(self, user: str) -> None:
        self._engine.put_policy(self.holder(user), EVERYTHING)

    def delete_policy(self, user: str) -> None:
        self._engine.iam().delete_user_policy(UserName=self.holder(user), PolicyName="dp")

    def delete_key(self, user: str, key: str) -> None:
        self._engine.delete_user(self.holder(user, key))

    def disable_key(self, user: str, key: str) -> None:
        self._suspend(self.holder(user, key))

    def disable_user(self, user: str) -> None:
        self._suspend(user)

    def _suspend(self, uid: str) -> None:
        name = self._engine.record(uid)["display_name"]
        self._engine.modify(uid, **{"suspended": "true", "display-name": name})

    def attach(self, user: str) -> None:
        self._engine.iam().put_user_policy(
            UserName=self.holder(user), PolicyName="more", PolicyDocument=EVERYTHING
        )

    def add_key(self, user: str) -> None:
        key = keypair.choose()
        self._engine.modify(
            self.holder(user), "key", **{"access-key": key.id, "secret-key": key.secret}
        )

    def delete_user(self, user: str) -> None:
        for uid in self.users(user):
            self._engine.delete_user(uid)

    def keys(self, user: str) -> list[str]:
        return [key for uid in self.users(user) for key in self._engine.keys(uid)]


class MinioHands:
    """Do at a MinIO what an admin may do there by hand."""

    issuer = "minio"

    def __init__(self, engine: engines.Minio) -> None:
        self._calls = engine.calls()

    def widen(self, user: str) -> None:
        document = self._calls.policy(user)
        document["Statement"] += json.loads(EVERYTHING)["Statement"]
        self._calls.put_policy(user, json.dumps(document).encode())

    def delete_policy(self, user: str) -> None:
        self._calls.attach("readonly", user)
        self._calls.delete_policy(user)

    def delete_key(self, user: str, key: str) -> None:
        self._calls.delete_account(user, key)

    def disable_key(self, user: str, key: str) -> None:
        self._write("POST", "update-service-account", {"accessKey": key}, {"newStatus": "off"})

    def disable_user(self, user: str) -> None:
        self._write("PUT", "set-user-status", {"accessKey": user, "status": "disabled"}, None)

    def _write(self, method: str, call: str, query: dict[str, str], body: Any) -> None:
        if body is None:
            self._calls._client.write(method, call, query)
        else:
            text = json.dumps(body).encode()
            self._calls._client.write(method, call, query, text, encrypted=True)

    def attach(self, user: str) -> None:
        self._calls.attach("readwrite", user)

    def add_key(self, user: str) -> None:
        self._calls.add_account(user, keypair.choose(), "made by hand")

    def delete_user(self, user: str) -> None:
        self._calls.delete_user(user)

    def keys(self, user: str) -> list[str]:
        return [each.id for each in self._calls.accounts(user)]


HANDS: dict[str, Any] = {"moto": IamHands, "rgw": RgwHands, "minio": MinioHands}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One product on a real engine, and somebody with the admin's key."""

    read: settings.Settings
    engine: engines.Engine
    hands: Any

    def parts(self, *, later: timedelta = timedelta()) -> assembly.Parts:
        return assembly.assemble(self.read, clock=lambda: assembly.utc_now() + later)

    def known(self) -> model.Record:
        """Return what the store knows of the product."""
        parts = self.parts()
        try:
            (record,) = operations.records(parts, "sales")
            return record
        finally:
            parts.close()

    def look(
        self, *, deep: bool = True, later: timedelta = timedelta(), settles: bool = True
    ) -> model.Record:
        """Reconcile the product as the command does, and return what is known of it."""
        parts = self.parts(later=later)
        try:
            (outcome,) = operations.reconcile(parts, "sales", _straight, verify=deep)
            assert outcome.status == "done" or not settles, outcome
            (record,) = operations.records(parts, "sales")
            return record
        finally:
            parts.close()

    @property
    def folder(self) -> Path:
        return self.read.template_output_path / "sales"

    @property
    def key(self) -> model.AccessKey:
        """Return the key in `.env`."""
        lines = (self.folder / ".env").read_text().splitlines()
        env = dict(line.split("=", 1) for line in lines)
        return model.AccessKey(env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])

    def may_put(self, name: str, key: model.AccessKey | None = None) -> bool:
        client = self.engine.s3(key or self.key)
        try:
            client.put_object(Bucket=self.read.s3_bucket, Key=name, Body=b"x")
        except ClientError:
            return False
        return True

    def holds(self, name: str) -> bool:
        client = self.engine.s3()
        listed = client.list_objects_v2(Bucket=self.read.s3_bucket, Prefix=name)
        return name in [each["Key"] for each in listed.get("Contents", [])]

    def edit(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def drop(self, name: str) -> None:
        self.engine.s3().delete_object(Bucket=self.read.s3_bucket, Key=name)


def _straight(keys: Iterable[model.Key], title: str, total: int) -> Iterator[model.Key]:
    yield from keys


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.engine) for name in ("moto", "rgw", "minio")]
)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    engine: engines.Engine = request.getfixturevalue(request.param)
    hands = HANDS[request.param](engine)
    inside = tmp_path / "template" / "{{cookiecutter.project_name}}"
    inside.mkdir(parents=True)
    (tmp_path / "template" / "cookiecutter.json").write_text('{"project_name": ""}')
    (inside / "README.md").write_text("small")
    with fake_portal.RunningPortal(fake_portal.FakePortal(style="main")) as running:
        running.portal.state.create_product("sales", name="Sales")
        environ = {
            "PROV_DPP_API_URL": running.url,
            "PROV_ISSUER": hands.issuer,
            "S3_ENDPOINT": engine.endpoint,
            "S3_BUCKET": engine.name("drift"),
            "S3_ACCESS_KEY": engine.admin.id,
            "S3_SECRET_KEY": engine.admin.secret,
            "PROV_TEMPLATE_PATH": str(tmp_path / "template"),
            "PROV_DUCKDB_EXTENSION_DIRECTORY": "not-filled",
        }
        read = settings.load(environ, cwd=tmp_path, serving=False)
        made = Service(read=read, engine=engine, hands=hands)
        made.look(deep=False)
        assert made.may_put("sales/x")
        yield made


def drift_of(record: model.Record) -> list[str]:
    return [each.message for each in record.conditions if each.type == "Drifted"]


def user(record: model.Record) -> str:
    return record.credentials.principal


BROKEN: dict[str, tuple[Callable[[Service, str], None], tuple[str, ...]]] = {
    "policy widened": (lambda s, user: s.hands.widen(user), (POLICY,)),
    "policy deleted": (lambda s, user: s.hands.delete_policy(user), (POLICY,)),
    "key deleted": (lambda s, user: s.hands.delete_key(user, s.key.id), (GONE,)),
    "key disabled": (lambda s, user: s.hands.disable_key(user, s.key.id), (DISABLED,)),
    "user deleted": (lambda s, user: s.hands.delete_user(user), (POLICY, GONE)),
    "user disabled": (lambda s, user: s.hands.disable_user(user), (POLICY,)),
    "policy attached": (lambda s, user: s.hands.attach(user), (POLICY,)),
    "mark deleted": (
        lambda s, user: s.drop(".provisioner/owners/sales.json"),
        ("the ownership mark of the prefix was gone",),
    ),
    "keep deleted": (lambda s, user: s.drop("sales/.keep"), ("the .keep of the prefix was gone",)),
    ".env edited": (
        lambda s, user: s.edit(".env", "S3_ACCESS_KEY=mine\n"),
        ("files of ours in the workspace were changed or gone",),
    ),
    "folder deleted": (
        lambda s, user: shutil.rmtree(s.folder),
        ("the workspace was gone",),
    ),
}


UNKNOWN = {"iam": ("user disabled",)}


@pytest.mark.parametrize("change", BROKEN)
def test_what_is_changed_by_hand_is_found_and_repaired(service: Service, change: str) -> None:
    break_it, sentences = BROKEN[change]
    if change in UNKNOWN.get(service.hands.issuer, ()):
        pytest.skip("this engine has no such thing")
    before = service.known()
    assert drift_of(before) == []
    break_it(service, user(before))
    record = service.look()
    (drifted,) = drift_of(record)
    assert drifted.startswith("found and repaired: ")
    assert all(sentence in drifted for sentence in sentences)
    assert service.may_put("sales/x")
    assert not service.may_put("hr/x")
    assert service.holds("sales/.keep")
    mark = service.engine.s3().get_object(
        Bucket=service.read.s3_bucket, Key=".provisioner/owners/sales.json"
    )
    assert json.loads(mark["Body"].read())["product_id"] == record.key.id
    assert (service.folder / "README.md").read_text() == "small"
    assert drift_of(service.look()) == []


def test_a_widened_policy_lets_through_what_the_repair_closes_again(service: Service) -> None:
    key, name = service.key, user(service.known())
    assert not service.may_put("hr/x", key)
    service.hands.widen(name)
    assert service.may_put("hr/x", key)
    service.look()
    assert not service.may_put("hr/x", key)
    assert service.may_put("sales/x", key)
    assert service.key == key


def test_a_key_that_is_added_by_hand_is_said_and_dies_after_its_minute(service: Service) -> None:
    name, key = user(service.known()), service.key
    service.hands.add_key(name)
    assert len(service.hands.keys(name)) == 2
    other = next(each for each in service.hands.keys(name) if each != key.id)
    # A Ceph before 19 has no principal in order as long as a user of it has two keys.
    record = service.look(settles=False)
    assert f"{STRAY}; it is let die ({other})" in drift_of(record)[0]
    record = service.look(deep=False, later=timedelta(seconds=90))
    assert drift_of(record)[0].startswith("found and repaired: ")
    assert service.hands.keys(name) == [key.id]
    assert service.may_put("sales/x")


def test_a_principal_of_a_lost_store_is_reported_and_left(service: Service) -> None:
    record = service.known()
    parts = service.parts()
    try:
        swept = sweep.Sweep(
            parts.issuer,
            records=parts.store.records,
            flags=parts.store.flags,
            clock=parts.clock,
            hours=24,
            metrics=parts.metrics,
            turns=parts.store.turns,
        )
        assert user(record) not in swept.run()
        lost = "99999999-0000-4000-8000-000000000000"
        stranger = model.Principal(name="dp-lost-99999999", product_id=lost)
        parts.issuer.ensure_principal(stranger)
        assert stranger.name in swept.run()
        assert stranger in parts.issuer.principals()
        parts.issuer.delete_principal(stranger)
        assert stranger.name not in swept.run()
    finally:
        parts.close()
