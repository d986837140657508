"""Speak Ceph's admin operations as far as keys need them: users, read and written as records.

A record is what `radosgw-admin metadata get user:<uid>` shows. It is how a key is made and taken
away here, and for two reasons no other call is used for that. The operations on keys and users
take the secret in the address, which RGW itself and every proxy write into their access logs; a
record travels in the body. And before their repair (https://github.com/ceph/ceph/pull/53750) they
forget the policy of the user they change, without a word; a record carries it along.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioner import errors, model
from provisioner.issuers import signed

_PAGE = "1000"
_FULL = "read, write, delete"
_MARK = re.compile(r"provisioner (\S+)(?: (\S+))?")
_THROTTLED = frozenset({"SlowDown", "RequestLimitExceeded", "Throttling"})


def mark(product_id: str, made_at: str = "") -> str:
    """Return the display name that says that a user is ours."""
    return f"provisioner {product_id} {made_at}".rstrip()


@dataclass(frozen=True, kw_only=True)
class User:
    """A user as the engine keeps it, policy and secrets included."""

    uid: str
    record: Mapping[str, Any] = field(repr=False)

    @property
    def _data(self) -> Mapping[str, Any]:
        data: Mapping[str, Any] = self.record["data"]
        return data

    @property
    def product_id(self) -> str | None:
        """Return the product that our mark names; None without a mark."""
        found = _MARK.fullmatch(str(self._data.get("display_name", "")))
        return found[1] if found else None

    @property
    def made_at(self) -> str:
        """Return the time that our mark names."""
        found = _MARK.fullmatch(str(self._data.get("display_name", "")))
        return (found and found[2]) or ""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Return its access keys."""
        return tuple(each["access_key"] for each in self._data.get("keys", []))

    @property
    def suspended(self) -> bool:
        """Tell whether the engine refuses every key of it."""
        return bool(self._data.get("suspended"))

    @property
    def plain(self) -> bool:
        """Tell whether it can do what its policy says, and nothing else."""
        return self.mended().record == self.record

    def mended(self) -> User:
        """Return it awake, without rights of its own, and with the policy it has."""
        record = copy.deepcopy(dict(self.record))
        data = record["data"]
        for right in ("system", "admin"):  # may do everything, whatever the policy says
            if data.get(right) not in (None, False, "false"):
                data[right] = False
        data.update(suspended=0, max_buckets=-1, op_mask=_FULL)
        for right in ("caps", "subusers", "swift_keys"):
            data[right] = []
        return User(uid=self.uid, record=record)

    def without(self, access_key: str) -> User:
        """Return it without a key, and with the policy it has."""
        record = copy.deepcopy(dict(self.record))
        kept = [each for each in record["data"]["keys"] if each["access_key"] != access_key]
        record["data"]["keys"] = kept
        return User(uid=self.uid, record=record)

    def sibling(self, uid: str, display_name: str, key: model.AccessKey) -> User:
        """Return a user that is not there yet, in the shape in which this engine keeps users."""
        data = copy.deepcopy(dict(self._data))
        data.update(user_id=uid, display_name=display_name, email="", attrs=[])
        data["keys"] = [{"user": uid, "access_key": key.id, "secret_key": key.secret}]
        return User(uid=uid, record={"key": f"user:{uid}", "data": data}).mended()


class AdminOps:
    """Read, write and list users."""

    def __init__(self, caller: signed.Caller) -> None:
        self._caller = caller

    def knows_us(self) -> bool:
        """Ask for the user that has our own key: only admin operations answer with it."""
        ours = self._caller.access_key
        answer = self._call("GET", "/admin/user", {"access-key": ours})
        keys = answer.get("keys") if isinstance(answer, dict) else None
        return isinstance(keys, list) and any(
            isinstance(key, dict) and key.get("access_key") == ours for key in keys
        )

    def user(self, uid: str) -> User | None:
        """Return a user; None where there is none."""
        record = self._call("GET", "/admin/metadata/user", {"key": uid}, tolerate={"NoSuchKey"})
        if record is None:
            return None
        if not (isinstance(record, dict) and isinstance(record.get("data"), dict)):
            raise _strange()
        return User(uid=uid, record=record)

    def write(self, user: User) -> None:
        """Write a user whole; `Conflict` where a key of it is another user's."""
        body = json.dumps(user.record).encode()
        self._call("PUT", "/admin/metadata/user", {"key": user.uid}, body)

    def create_without_keys(self, uid: str, display_name: str) -> bool:
        """Make a user that can make no buckets; False where there is one."""
        asked = {"uid": uid, "display-name": display_name}
        asked |= {"generate-key": "false", "max-buckets": "-1"}
        made = self._call("PUT", "/admin/user", asked, tolerate={"UserAlreadyExists"})
        return made is not None

    def delete(self, uid: str) -> None:
        """Delete a user with its keys and policies; one that is gone is success."""
        self._call("DELETE", "/admin/user", {"uid": uid}, tolerate={"NoSuchUser"})

    def uids(self) -> frozenset[str]:
        """List every user there is."""
        found: set[str] = set()
        asked = {"max-entries": _PAGE}
        while True:
            page = self._call("GET", "/admin/metadata/user", asked)
            if not (isinstance(page, dict) and isinstance(page.get("keys"), list)):
                raise _strange()
            found.update(map(str, page["keys"]))
            if str(page.get("truncated")).lower() != "true":
                return frozenset(found)
            asked["marker"] = str(page["marker"])

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes = b"",
        *,
        tolerate: Collection[str] = (),
    ) -> Any:
        """Return the answer's JSON, None where it is a code that is tolerated."""
        answer = self._caller.send(method, path, query, body)
        said = _json(answer.body)
        if 200 <= answer.status < 300:
            if answer.body and said is None:
                raise _strange()
            return said or {}
        code = str(said.get("Code", "")) if isinstance(said, dict) else ""
        if code in tolerate:
            return None
        raise meaning(code=code, status=answer.status, call=f"{method} {path}")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _strange() -> errors.IssuerGarbled:
    return errors.IssuerGarbled("what answers does not speak Ceph's admin operations")


def meaning(*, code: str, status: int, call: str) -> errors.ReconcileError:
    """Return the error that an answer stands for."""
    said: Any = {"code": code, "status": status, "call": call}
    if code in _THROTTLED or status == 429:
        return errors.RateLimited("Ceph asked us to slow down", **said)
    if status == 409:
        return errors.Conflict("somebody else changed the user meanwhile", **said)
    if status >= 500 and status != 501:
        return errors.IssuerUnavailable("Ceph's admin operations failed", **said)
    if status == 403:
        return errors.IssuerRejected(
            "Ceph refused: the admin needs the caps users, metadata and user-policy", **said
        )
    return errors.IssuerRejected("Ceph refused an admin operation", **said)
