"""Prove a key by using it, with nothing but the key itself.

One client proves every key, so that connections are kept from one to the next.
"""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from provisioner import errors, model
from provisioner.domain import policy
from provisioner.s3 import client as s3_client
from provisioner.s3.store import PROBE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

_BODY = b"provisioner"
_PROBE_NAME = re.compile(rf"{re.escape(PROBE)}[0-9a-f]{{16}}")
_PLACES = 3
_STALE_AFTER = timedelta(minutes=10)
"""No prober that still runs has a probe of that age."""
_MOST_STALE = 20
"""How many a round looks at; what there is more is for the next."""
_NOT_YET = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchKey"})


class S3Prober:
    """Implement `ports.Prober`."""

    def __init__(
        self,
        *,
        endpoint: str | None,
        region: str,
        bucket: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._sleep = sleep
        self._proving = threading.local()
        self._client: S3Client = s3_client.made_on_first_use(
            lambda: s3_client.borrowing_client(
                endpoint=endpoint, region=region, key=lambda: self._proving.key
            )
        )

    def prove(
        self,
        key: model.AccessKey,
        prefix: str | None,
        *,
        rounds: int,
        pause_seconds: float,
        readable: Sequence[model.Location] = (),
    ) -> bool:
        """List, put, get and delete a probe below the prefix, `rounds` times in a row.

        Without a prefix of its own, list the first of the `readable` places in our bucket; where
        there is none either, the engine must know the key, whatever it then refuses. False where
        the engine refuses the key or a call; raise `StorageUnavailable` where it does not answer.
        Nothing is left behind, unless the engine refuses that as well or the process is killed;
        what that left some time ago is deleted.
        """
        # What lies in other buckets may be gone or closed by its owner: no fault of the key.
        places = [place.prefix for place in readable if place.bucket == self._bucket][:_PLACES]
        for each in places if prefix is None else [prefix]:
            policy.check_prefix(each)
        self._proving.key = key
        try:
            for turn in range(rounds):
                if turn:
                    self._sleep(pause_seconds)
                if not self._works(prefix, places):
                    return False
            return rounds > 0
        finally:
            del self._proving.key

    def _works(self, prefix: str | None, places: Sequence[str]) -> bool:
        try:
            if prefix is not None:
                return s3_client.call(lambda: self._round(prefix)) is True
            if not places:
                # No policy of ours allows this, and a key that is known hears so.
                s3_client.call(lambda: self._client.list_buckets(), tolerate={"AccessDenied"})
            for place in places:
                s3_client.call(functools.partial(self._list, place))
        except errors.PermanentError as exc:
            if _refuses_key(exc):
                return False
            raise
        return True

    def _list(self, prefix: str) -> None:
        self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=1)

    def _round(self, prefix: str) -> bool:
        client = self._client
        name = f"{prefix}{PROBE}{secrets.token_hex(8)}"
        # Begun where probes lie, the list that proves the key also shows what a kill left of them.
        listed = client.list_objects_v2(
            Bucket=self._bucket,
            Prefix=prefix,
            StartAfter=f"{prefix}{PROBE}",
            MaxKeys=_MOST_STALE,
        )
        for stale in _stale(listed, prefix):
            with contextlib.suppress(Exception):  # it proves nothing
                client.delete_object(Bucket=self._bucket, Key=stale)
        try:
            client.put_object(Bucket=self._bucket, Key=name, Body=_BODY)
            body = client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        except BaseException:
            # A put that was not answered may have been carried out all the same.
            with contextlib.suppress(Exception):
                client.delete_object(Bucket=self._bucket, Key=name)
            raise
        client.delete_object(Bucket=self._bucket, Key=name)
        return body == _BODY


def _stale(listed: ListObjectsV2OutputTypeDef, prefix: str) -> list[str]:
    """Return probes of ours that nobody deletes any more, by the engine's own clock.

    What its users may have named alike stays.
    """
    told = listed["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not told:
        return []
    before = parsedate_to_datetime(told) - _STALE_AFTER
    return [
        each["Key"]
        for each in listed.get("Contents", [])
        if _PROBE_NAME.fullmatch(each["Key"].removeprefix(prefix))
        and each["Size"] == len(_BODY)
        and each["LastModified"] < before
    ]


def _refuses_key(exc: errors.PermanentError) -> bool:
    """Tell a refused key from a refusal that another key would meet as well."""
    code, status = exc.attributes.get("code"), exc.attributes.get("status")
    return code in _NOT_YET or (status in (401, 403) and code != "RequestTimeTooSkewed")
