"""What only Ceph's RGW before version 19 does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from provisioner import errors, model, s3
from provisioner.domain import policy
from provisioner.issuers import choose
from tests.lake import allowed

if TYPE_CHECKING:
    from tests import engines

pytest_plugins = ["tests.engines"]
pytestmark = pytest.mark.engine


def test_without_the_batch_statement_a_batch_deletes_nothing(rgw: engines.Rgw) -> None:
    bucket = rgw.bucket()
    rgw.s3().put_object(Bucket=bucket, Key="sales/x", Body=b"")
    _, key = rgw.user(policy.text(policy.document(bucket=bucket, own=["sales/"], grants=[])))
    batch: Any = {"Objects": [{"Key": "sales/x"}]}
    assert not allowed(lambda: rgw.s3(key).delete_objects(Bucket=bucket, Delete=batch))
    assert rgw.s3().list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_an_rgw_before_the_iam_api_is_refused_by_name(rgw: engines.Rgw) -> None:
    client = s3.connect(
        endpoint=rgw.endpoint,
        region="us-east-1",
        access_key=rgw.admin.id,
        secret_key=rgw.admin.secret,
        service="iam",
    )
    issuer, _ = choose.choose("auto", client=client, endpoint=rgw.endpoint)
    product = "6f1e2d3c-0000-4000-8000-000000000001"
    principal = model.Principal(name="dp-sales-6f1e2d3c", product_id=product)
    with pytest.raises(errors.IssuerRejected, match="rgw"):
        issuer.ensure_principal(principal)
