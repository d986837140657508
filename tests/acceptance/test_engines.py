"""Run the whole service against a real engine, which it has to recognise by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from provisioner import model

if TYPE_CHECKING:
    from tests import engines
    from tests.acceptance.stand import Stand

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


def may_put(engine: engines.Engine, key: model.AccessKey, bucket: str, name: str) -> bool:
    try:
        engine.s3(key).put_object(Bucket=bucket, Key=name, Body=b"")
    except ClientError:
        return False
    return True


@pytest.mark.parametrize("kind", ["rgw", "minio"])
def test_a_product_gets_a_key_is_rotated_and_loses_it(
    stand: Stand, request: pytest.FixtureRequest, kind: str
) -> None:
    engine: engines.Engine = request.getfixturevalue(kind)
    changes = {
        "PROV_ISSUER": "auto",
        "S3_ENDPOINT": engine.endpoint,
        "S3_ACCESS_KEY": engine.admin.id,
        "S3_SECRET_KEY": engine.admin.secret,
    }
    product = stand.portal.state.create_product("sales", name="Sales")
    seen: list[model.AccessKey] = []
    for command in (("reconcile",), ("rotate", "--compromised")):
        done = stand.provisioner(*command, "sales", **changes)
        assert done.returncode == 0, done.stderr
        env = stand.env_of("sales")
        key = model.AccessKey(env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"])
        assert may_put(engine, key, stand.bucket, "sales/x")
        assert not may_put(engine, key, stand.bucket, "hr/x")
        assert not any(may_put(engine, old, stand.bucket, "sales/x") for old in seen)
        assert not any(secret in done.stderr for secret in (key.secret, engine.admin.secret))
        seen.append(key)
    stand.portal.state.delete_product(product)
    assert stand.provisioner("reconcile", "sales", **changes).returncode == 0
    assert not any(may_put(engine, key, stand.bucket, "sales/x") for key in seen)
    assert len({key.id for key in seen}) == 2


def test_the_issuer_that_was_recognised_is_shown(stand: Stand, rgw: engines.Rgw) -> None:
    changes = {
        "PROV_ISSUER": "auto",
        "S3_ENDPOINT": rgw.endpoint,
        "S3_ACCESS_KEY": rgw.admin.id,
        "S3_SECRET_KEY": rgw.admin.secret,
    }
    with stand.service(**changes):
        assert stand.ready_facts()["issuer"] == "auto"
    stand.portal.state.create_product("sales", name="Sales")
    with stand.service(**changes):
        stand.until(lambda: stand.ready("sales"), "a workspace")
        assert stand.ready_facts()["issuer"] == "rgw"
