"""Keep prefixes in an S3 bucket, and prove keys by using them: the owner of boto's S3."""

from __future__ import annotations

from provisioner.s3.client import connect
from provisioner.s3.prober import S3Prober
from provisioner.s3.published import S3PublishedFiles
from provisioner.s3.store import KEEP, MARKS, PROBE, S3Store
from provisioner.s3.trial import KeyTrial

__all__ = [
    "KEEP",
    "MARKS",
    "PROBE",
    "KeyTrial",
    "S3Prober",
    "S3PublishedFiles",
    "S3Store",
    "connect",
]
