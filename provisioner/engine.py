"""Reach the S3 engine as its admin: the bucket, IAM, and the issuer that makes keys there.

Nothing is asked of it here: clients are made on their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner import ports, s3, telemetry
from provisioner.issuers import choose, signed
from provisioner.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

_log = telemetry.Log(__name__)


def iam(settings: Settings, endpoint: str | None) -> IAMClient:
    """Return a client for IAM at an endpoint, None for AWS's."""
    return s3.connect(
        endpoint=endpoint,
        region=settings.s3_region,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        service="iam",
    )


def _client(settings: Settings) -> S3Client:
    return s3.connect(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
    )


def published(settings: Settings) -> s3.S3PublishedFiles:
    """Return what reads what producers publish."""
    return s3.S3PublishedFiles(_client(settings), bucket=settings.s3_bucket)


def objects(settings: Settings) -> s3.S3Store:
    """Return the bucket."""
    return s3.S3Store(
        _client(settings),
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        create_bucket=settings.s3_create_bucket,
    )


def issuer(settings: Settings, bucket: s3.S3Store, *, clock: ports.Clock) -> ports.Issuer:
    """Return the issuer that the settings name; `auto` finds out when it is first used."""
    here = settings.s3_endpoint and choose.Engine(
        account=signed.Account(
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
        ),
        iam=iam(settings, settings.s3_endpoint),
        versioned=bucket.keeps_versions,
    )
    chosen, how = choose.choose(
        settings.issuer.value,
        client=iam(settings, settings.iam_endpoint),
        endpoint=settings.iam_endpoint,
        engine=here or None,
        clock=clock,
    )
    _log.info("issuer", chosen=how)
    return chosen
