"""Answer as the sources of rustfs say that its admin API does; no rustfs has run here.

It keeps policies, users and service accounts in memory, and differs from MinIO where the sources
do: nothing is encrypted, refusals are XML, a policy that is not there is an internal error, and
policies come back in an envelope with every field filled in. `keys` lets a test use what was made.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from provisioner import model
from tests import policy_evaluator

PREFIX = "/rustfs/admin/v3/"
_STATEMENT: dict[str, Any] = {"Sid": "", "NotAction": [], "NotResource": [], "Condition": {}}


class Refused(Exception):
    """Answer with a status and a code."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


@dataclass
class Rustfs:
    """What the engine holds, and every request it was sent."""

    version: str = "refs/tags/1.0.0"
    policies: dict[str, Any] = field(default_factory=dict)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    endpoint: str = ""
    admin: model.AccessKey = field(
        default_factory=lambda: model.AccessKey("rustfsadmin", "r" * 40), repr=False
    )

    def allowed(self, key: model.AccessKey, action: str, resource: str) -> bool:
        """Tell what a service account may do by its parent's policy."""
        account = self.accounts.get(key.id)
        if account is None or account["secretKey"] != key.secret:
            return False
        held = self.policies.get(self.users[account["parent"]]["policyName"], {"Statement": []})
        statements = [
            {name: value for name, value in each.items() if value} for each in held["Statement"]
        ]
        return policy_evaluator.allowed({"Statement": statements}, action, resource)

    def answer(self, method: str, route: str, query: Mapping[str, str], body: bytes) -> Any:
        """Return what a call answers, None for nothing."""
        said = json.loads(body) if body else None
        self.requests.append((method, route, dict(query), said))
        call: Callable[[Mapping[str, str], Any], Any] | None = {
            "GET info": self._info,
            "GET list-canned-policies": lambda q, b: dict(self.policies),
            "GET info-canned-policy": self._policy,
            "PUT add-canned-policy": self._add_policy,
            "DELETE remove-canned-policy": lambda q, b: self.policies.pop(q["name"], None) and None,
            "GET list-users": lambda q, b: {name: dict(each) for name, each in self.users.items()},
            "GET user-info": self._user,
            "PUT add-user": self._add_user,
            "PUT set-user-status": self._set_status,
            "PUT set-user-or-group-policy": self._attach,
            "PUT update-group-members": self._leave,
            "DELETE remove-user": self._remove_user,
            "GET list-service-accounts": self._accounts,
            "PUT add-service-accounts": self._add_account,
            "DELETE delete-service-account": self._remove_account,
        }.get(f"{method} {route}")
        if call is None:
            raise Refused(501, "NotImplemented")
        return call(query, said)

    def _info(self, query: Mapping[str, str], body: Any) -> Any:
        server = {"state": "online", "version": self.version, "rustfs_env_vars": {}}
        return {"mode": "online", "servers": [server]}

    def _policy(self, query: Mapping[str, str], body: Any) -> Any:
        if query["name"] not in self.policies:
            raise Refused(500, "InternalError", "policy not found")
        return {
            "Version": 1,
            "Policy": self.policies[query["name"]],
            "CreateDate": "2026-01-02T03:04:05Z",
            "UpdateDate": "2026-01-02T03:04:05Z",
        }

    def _add_policy(self, query: Mapping[str, str], body: Any) -> None:
        for each in body["Statement"]:
            resources = each.get("Resource")
            if not resources or not all(arn.startswith("arn:aws:s3:::") for arn in resources):
                raise Refused(400, "InvalidRequest", "invalid resource")
            if len({action.split(":")[0] for action in each["Action"]}) > 1:
                raise Refused(400, "InvalidRequest", "actions of two kinds")
        filled = [{**_STATEMENT, **each} for each in reversed(body["Statement"])]
        self.policies[query["name"]] = {"ID": "", "Version": body["Version"], "Statement": filled}

    def _user(self, query: Mapping[str, str], body: Any) -> Any:
        user = self.users.get(query["accessKey"])
        if user is None:
            raise Refused(404, "NoSuchResource", "user not found")
        return {key: value for key, value in user.items() if value} | {"updatedAt": None}

    def _add_user(self, query: Mapping[str, str], body: Any) -> None:
        kept = self.users.get(query["accessKey"], {"policyName": "", "memberOf": []})
        assert len(body["secretKey"]) >= 8
        self.users[query["accessKey"]] = {**kept, "status": body["status"]}

    def _set_status(self, query: Mapping[str, str], body: Any) -> None:
        self.users[query["accessKey"]]["status"] = query["status"]

    def _attach(self, query: Mapping[str, str], body: Any) -> None:
        if query["userOrGroup"] not in self.users:
            raise Refused(400, "InvalidArgument", "user not exist")
        self.users[query["userOrGroup"]]["policyName"] = query["policyName"]

    def _leave(self, query: Mapping[str, str], body: Any) -> None:
        assert body["isRemove"]
        assert body["groupStatus"] == "enabled"
        for name in body["members"]:
            self.users[name]["memberOf"].remove(body["group"])

    def _remove_user(self, query: Mapping[str, str], body: Any) -> None:
        name = query["accessKey"]
        if self.users.pop(name, None) is None:
            raise Refused(500, "InternalError", "failed to query temporary user state")
        for key in [key for key, each in self.accounts.items() if each["parent"] == name]:
            del self.accounts[key]

    def _accounts(self, query: Mapping[str, str], body: Any) -> Any:
        listed = [
            {
                "parentUser": each["parent"],
                "accountStatus": each["status"],
                "impliedPolicy": each["policy"] is None,
                "accessKey": key,
                "name": each["name"],
                "description": each["description"],
                "expiration": None,
            }
            for key, each in self.accounts.items()
            if each["parent"] == query["user"]
        ]
        return {"accounts": listed}

    def _add_account(self, query: Mapping[str, str], body: Any) -> Any:
        if body["targetUser"] not in self.users:
            raise Refused(400, "InvalidRequest", "target user not exist")
        if body["accessKey"] in self.accounts:
            raise Refused(500, "InternalError", "create service account failed")
        assert "expiration" in body, "releases before alpha.80 miss it otherwise"
        assert len(body["name"]) <= 32
        assert body["name"][0].isalpha()
        assert len(body["description"]) <= 256
        self.accounts[body["accessKey"]] = {
            "parent": body["targetUser"],
            "secretKey": body["secretKey"],
            "status": "on",
            "policy": None,
            "name": body["name"],
            "description": body["description"],
        }
        pair = {"accessKey": body["accessKey"], "secretKey": body["secretKey"]}
        return {"credentials": pair}

    def _remove_account(self, query: Mapping[str, str], body: Any) -> None:
        if self.accounts.pop(query["accessKey"], None) is None:
            raise Refused(400, "InvalidRequest", "service account not exist")


@contextlib.contextmanager
def serve(engine: Rustfs, *, prefix: str = PREFIX) -> Iterator[Rustfs]:
    """Serve an engine on the loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            scope = f"Credential={engine.admin.id}/"
            try:
                if scope not in self.headers.get("Authorization", ""):
                    raise Refused(403, "AccessDenied")
                if not parts.path.startswith(prefix):
                    raise Refused(404, "NoSuchBucket")
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                said = engine.answer(self.command, parts.path.removeprefix(prefix), query, body)
                self._send(200, b"" if said is None else json.dumps(said).encode())
            except Refused as exc:
                code, message = exc.code, exc.message
                text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                self._send(exc.status, text.encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _handle

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        engine.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
