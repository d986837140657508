from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from provisioner import errors, model, portviews, telemetry
from provisioner.edge import admin as admin_api
from provisioner.edge import status
from tests import memory_store, published

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_IDS = [f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in range(5)]
_SALES = model.Key.product(_IDS[0])
_STUDY = model.Key(model.Kind.EXPLORATION, _IDS[4])
_UNKNOWN = "bbbbbbbb-0000-4000-8000-000000000000"
_WRITE = {"authorization": "Bearer admin-token"}
_READ = {"authorization": "Bearer read-token"}

_RECORD = model.Record(
    key=_SALES,
    namespace="sales",
    name="Sales",
    finalizer=True,
    prefix=True,
    credentials=model.Credentials(
        principal="dp-sales-aaaaaaaa",
        generation=3,
        current=model.AccessKey(id="AKIACURRENT", secret="hidden-current"),
        issued_at=_NOW - timedelta(hours=1),
        pending=model.Pending(
            intent_at=_NOW, key=model.AccessKey(id="AKIAPENDING", secret="hidden-pending")
        ),
        retiring=(model.Retiring(key_id="AKIAOLD", delete_after=_NOW + timedelta(days=1)),),
    ),
    workspace=model.WorkspaceState(
        rendered=True, template_digest="digest-of-template", published_key_id="AKIACURRENT"
    ),
    writeback=model.Writeback(lifecycle="Ready", asset_id="asset"),
    grants=(
        model.Grant(
            producer_id=_IDS[1],
            producer_namespace="orders",
            port_id=_IDS[2],
            port_namespace="open",
            access=model.Access.READ,
            locations=(model.Location(bucket="data-products", prefix="orders/open/"),),
            valid_until=date(2026, 12, 31),
        ),
    ),
    conditions=(model.Condition(type="NotOurs", message="a foreign folder", since=_NOW),),
    next_at=_NOW + timedelta(days=30),
)


@dataclass
class MemoryStore:
    """Records, history, queue and flags in one; down where told to, and never in the loop."""

    records: dict[model.Key, model.Record] = field(default_factory=dict)
    touched: list[tuple[model.Key, model.Priority]] = field(default_factory=list)
    asked: list[tuple[model.Key, model.Ask]] = field(default_factory=list)
    flags: dict[str, str | None] = field(default_factory=dict)
    down: bool = False

    def _enter(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        if self.down:
            raise errors.StoreUnavailable("the store is away")

    def load(self, key: model.Key) -> model.Record | None:
        self._enter()
        return self.records.get(key)

    def by_namespace(self, namespace: str) -> model.Record | None:
        self._enter()
        return next((r for r in self.records.values() if r.namespace == namespace), None)

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        self._enter()
        behind = [key for key in sorted(self.records, key=str) if str(key) > str(after or "")]
        return tuple(self.records[key] for key in behind[:limit])

    def deliveries(self, *, limit: int, before: int | None = None) -> Sequence[Mapping[str, Any]]:
        self._enter()
        rows = range((before or 6) - 1, 0, -1)
        return [
            {"row_id": row, "id": f"d-{row}", "received_at": _NOW, "wire": "v1"} for row in rows
        ][:limit]

    def outcomes(self, key: model.Key, *, limit: int) -> Sequence[Mapping[str, Any]]:
        self._enter()
        return [{"row_id": 1, "at": _NOW, "status": "done", "actions": ("create-key",)}][:limit]

    def prune(self, before: datetime) -> int:
        raise NotImplementedError

    def touch(
        self, keys: Iterable[model.Key], priority: model.Priority, *, ports: Iterable[str] = ()
    ) -> None:
        self._enter()
        self.touched += [(key, priority) for key in keys]

    def ask(self, keys: Iterable[model.Key], what: model.Ask) -> None:
        self._enter()
        self.asked += [(key, what) for key in keys]

    def of(self, key: model.Key) -> Mapping[model.Ask, datetime]:
        raise NotImplementedError

    def forget(self, done: Mapping[model.Ask, datetime], lease: model.Lease) -> None:
        raise NotImplementedError

    def waiting(self, what: model.Ask) -> frozenset[model.Key]:
        raise NotImplementedError

    def get(self, name: str) -> str | None:
        self._enter()
        return self.flags.get(name)

    def put(self, name: str, value: str | None) -> None:
        self._enter()
        self.flags[name] = value


class MemoryQueue(MemoryStore):
    def lease(self, owner: str) -> model.Lease | None:
        raise NotImplementedError

    def heartbeat(self, lease: model.Lease) -> model.Lease:
        raise NotImplementedError

    def done(
        self, lease: model.Lease, outcome: model.Outcome, *, rest_seconds: float = 0.0
    ) -> None:
        raise NotImplementedError

    def retry(
        self,
        lease: model.Lease,
        outcome: model.Outcome,
        delay_seconds: float,
        *,
        rest_seconds: float = 0.0,
    ) -> None:
        raise NotImplementedError

    def reap(self, *, all_owners: bool = False) -> int:
        raise NotImplementedError

    def depth(self) -> tuple[int, int]:
        raise NotImplementedError


class Desk:
    """The routes over a store in memory, and who asks."""

    def __init__(
        self,
        *,
        admin: tuple[str, ...] = ("other-admin", "admin-token"),
        read: tuple[str, ...] = ("read-token",),
        well: bool = True,
        observes: bool = False,
    ) -> None:
        self.store = MemoryQueue(records={_SALES: _RECORD})
        for number, name in ((1, "orders"), (2, "stock")):
            key = model.Key.product(_IDS[number])
            self.store.records[key] = model.Record(key=key, namespace=name)
        self.store.records[_STUDY] = model.Record(key=_STUDY, namespace="study")
        self.contracts = memory_store.MemoryStore(clock=lambda: _NOW).contracts
        self.metrics = telemetry.Metrics()
        self.woken = 0
        self._app = Starlette(
            routes=[
                *status.routes(
                    health=lambda: (well, {"tasks": {"receiver": well}}),
                    ready=self._ready if well else lambda: (False, {"store": False}),
                    metrics=self.metrics,
                ),
                *admin_api.routes(
                    records=self.store,
                    history=self.store,
                    queue=self.store,
                    asks=self.store,
                    flags=self.store,
                    views=portviews.PortViews(
                        self.contracts, bucket="lake", endpoint="http://s3.example"
                    ),
                    clock=lambda: _NOW,
                    admin_tokens=admin,
                    read_tokens=read,
                    wake=self._wake,
                    observes=observes,
                ),
            ]
        )

    def _ready(self) -> tuple[bool, Mapping[str, object]]:
        self.store.get("mass_deletion")
        return True, {"store": True}

    def _wake(self) -> None:
        self.woken += 1

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[bytes, bytes]] = _WRITE,
    ) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(run())


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
@pytest.mark.parametrize(("well", "code", "word"), [(True, 200, "ok"), (False, 503, "failing")])
def test_a_probe_says_how_the_service_is(path: str, well: bool, code: int, word: str) -> None:
    answer = Desk(well=well).ask("GET", path, {})

    assert (answer.status_code, answer.json()["status"]) == (code, word)
    assert len(answer.json()) == 2


def test_a_store_that_is_away_makes_the_service_unready_and_leaves_it_healthy() -> None:
    desk = Desk()
    desk.store.down = True

    assert desk.ask("GET", "/readyz", {}).status_code == 503
    assert desk.ask("GET", "/health", {}).status_code == 200


def test_metrics_are_prometheus_text() -> None:
    desk = Desk()
    desk.metrics.deliveries.labels("v1", "200").inc()

    answer = desk.ask("GET", "/metrics", {})

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'provisioner_deliveries_total{status="200",wire="v1"} 1.0' in answer.text


_GETS = ["/api/v1/products", f"/api/v1/products/{_SALES.id}", "/api/v1/deliveries"]
_POSTS = ["/api/v1/products/sales/reconcile", "/api/v1/resync"] + [
    f"/api/v1/products/sales/{verb}" for verb in ("rotate", "upgrade", "adopt", "purge")
]
_CONTRACT = "/api/v1/products/sales/ports/open/contract"
_CALLS = [("GET", path) for path in [*_GETS, _CONTRACT]] + [("POST", path) for path in _POSTS]


@pytest.mark.parametrize(("method", "path"), _CALLS)
def test_without_any_token_configured_the_api_is_not_there(method: str, path: str) -> None:
    answer = Desk(admin=(), read=("",)).ask(method, path, {"authorization": "Bearer "})

    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


@pytest.mark.parametrize(("method", "path"), _CALLS)
@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer admin-toke",
        b"Bearer admin-token2",
        b"Bearer admin-token read-token",
        b"Bearer \xe9\xff",
        b"Basic admin-token",
        b"admin-token",
    ],
)
def test_a_wrong_token_is_refused(method: str, path: str, value: bytes | None) -> None:
    desk = Desk()

    answer = desk.ask(method, path, [] if value is None else [(b"authorization", value)])

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (desk.store.touched, desk.store.flags) == ([], {})


def test_a_token_given_twice_is_refused() -> None:
    twice = [(b"authorization", b"Bearer admin-token")] * 2

    assert Desk().ask("GET", "/api/v1/products", twice).status_code == 401


@pytest.mark.parametrize("path", _POSTS)
def test_a_read_token_changes_nothing(path: str) -> None:
    desk = Desk()

    assert desk.ask("POST", path, _READ).status_code == 403
    assert (desk.store.touched, desk.store.flags, desk.woken) == ([], {}, 0)


@pytest.mark.parametrize("path", _GETS)
@pytest.mark.parametrize("headers", [_READ, _WRITE, {"authorization": "bearer other-admin"}])
def test_either_token_reads(path: str, headers: dict[str, str]) -> None:
    answer = Desk().ask("GET", path, headers)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


def test_products_are_listed_page_by_page() -> None:
    desk = Desk()
    seen: list[list[str]] = []
    after = ""

    while True:
        page = desk.ask("GET", f"/api/v1/products?limit=3{after}").json()
        seen.append([product["namespace"] for product in page["products"]])
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert seen == [["study", "sales", "orders"], ["stock"]]


def test_a_full_last_page_has_no_next() -> None:
    page = Desk().ask("GET", "/api/v1/products?limit=4").json()

    assert (len(page["products"]), page["next"]) == (4, None)


@pytest.mark.parametrize("name", [_SALES.id, _SALES.id.upper(), "sales"])
def test_a_product_is_shown_by_id_or_namespace(name: str) -> None:
    shown = Desk().ask("GET", f"/api/v1/products/{name}", _READ).json()

    assert shown["id"] == _SALES.id
    assert shown["conditions"] == [
        {"type": "NotOurs", "message": "a foreign folder", "since": "2026-11-21T12:00:00+00:00"}
    ]
    assert shown["grants"] == [
        {
            "producer_id": _IDS[1],
            "producer_namespace": "orders",
            "port_id": _IDS[2],
            "port_namespace": "open",
            "access": "read",
            "locations": ["s3://data-products/orders/open/"],
            "valid_until": "2026-12-31",
        }
    ]
    assert shown["workspace"]["template_digest"] == "digest-of-template"
    assert shown["history"] == [
        {
            "row_id": 1,
            "at": "2026-11-21T12:00:00+00:00",
            "status": "done",
            "actions": ["create-key"],
        }
    ]


def test_keys_are_shown_by_id_and_age() -> None:
    keys = Desk().ask("GET", "/api/v1/products/sales").json()["keys"]

    assert keys == {
        "principal": "dp-sales-aaaaaaaa",
        "generation": 3,
        "current": {
            "id": "AKIACURRENT",
            "issued_at": "2026-11-21T11:00:00+00:00",
            "age_seconds": 3600,
        },
        "pending": {"id": "AKIAPENDING", "intent_at": "2026-11-21T12:00:00+00:00"},
        "retiring": [{"id": "AKIAOLD", "delete_after": "2026-11-22T12:00:00+00:00"}],
    }


def test_a_product_without_keys_is_shown_without_them() -> None:
    keys = Desk().ask("GET", "/api/v1/products/orders").json()["keys"]

    assert (keys["current"], keys["pending"], keys["retiring"]) == (None, None, [])


def test_an_exploration_is_shown_by_its_id() -> None:
    assert Desk().ask("GET", f"/api/v1/products/{_STUDY.id}").json()["kind"] == "exploration"


@pytest.mark.parametrize("path", ["/api/v1/products", "/api/v1/products/sales"])
def test_no_answer_holds_a_secret(path: str) -> None:
    assert "hidden" not in Desk().ask("GET", path).text


@pytest.mark.parametrize("name", [_UNKNOWN, "nobody", "..", ".env", "%2e%2e", "A B", "%00"])
def test_an_unknown_product_is_not_found(name: str) -> None:
    assert Desk().ask("GET", f"/api/v1/products/{name}").status_code == 404


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sales", _SALES),
        (_SALES.id, _SALES),
        (_STUDY.id, _STUDY),
        (_UNKNOWN, model.Key.product(_UNKNOWN)),
    ],
)
def test_a_reconcile_is_queued_as_urgent(name: str, key: model.Key) -> None:
    desk = Desk()

    answer = desk.ask("POST", f"/api/v1/products/{name}/reconcile")

    assert (answer.status_code, answer.json()["key"]) == (202, str(key))
    assert desk.store.touched == [(key, model.Priority.EVENT)]
    assert desk.woken == 1


def test_a_deep_look_is_asked_for() -> None:
    desk = Desk()
    answer = desk.ask("POST", "/api/v1/products/sales/reconcile?verify=true")
    assert (answer.status_code, answer.json()["verify"]) == (202, True)
    assert desk.store.asked == [(_SALES, model.Ask.VERIFY)]
    assert (desk.store.touched, desk.woken) == ([], 1)


@pytest.mark.parametrize(("observes", "text", "code"), [(True, "true", 409), (False, "yes", 400)])
def test_a_deep_look_that_makes_no_sense_is_refused(observes: bool, text: str, code: int) -> None:
    desk = Desk(observes=observes)
    answer = desk.ask("POST", f"/api/v1/products/sales/reconcile?verify={text}")
    assert answer.status_code == code
    assert (desk.store.asked, desk.store.touched) == ([], [])


def test_a_reconcile_of_an_unknown_namespace_is_not_found() -> None:
    desk = Desk()

    assert desk.ask("POST", "/api/v1/products/nobody/reconcile").status_code == 404
    assert (desk.store.touched, desk.woken) == ([], 0)


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("", model.Ask.ROTATE),
        ("?compromised=false", model.Ask.ROTATE),
        ("?compromised=true", model.Ask.COMPROMISED),
    ],
)
@pytest.mark.parametrize("name", ["sales", _SALES.id])
def test_a_new_key_is_asked_for(name: str, query: str, what: model.Ask) -> None:
    desk = Desk()
    answer = desk.ask("POST", f"/api/v1/products/{name}/rotate{query}")
    assert (answer.status_code, answer.json()["key"]) == (202, str(_SALES))
    assert (desk.store.asked, desk.woken) == ([(_SALES, what)], 1)


def test_an_upgrade_is_asked_for_where_there_is_a_workspace() -> None:
    desk = Desk()
    assert desk.ask("POST", "/api/v1/products/sales/upgrade").status_code == 202
    assert desk.store.asked == [(_SALES, model.Ask.UPGRADE)]
    desk.store.records[_SALES] = dataclasses.replace(_RECORD, workspace=model.WorkspaceState())
    assert desk.ask("POST", "/api/v1/products/sales/upgrade").status_code == 409


def test_what_new_versions_of_the_template_did_is_shown() -> None:
    desk = Desk()
    upgrade = model.Upgrade(
        at=_NOW,
        before="1.0 (a)",
        after="1.1 (b)",
        files=(("a.sql", model.FileChange.CONFLICT),),
        changed=1,
    )
    state = dataclasses.replace(_RECORD.workspace, conflicts=("a.sql",), upgrades=(upgrade,))
    desk.store.records[_SALES] = dataclasses.replace(_RECORD, workspace=state)
    shown = desk.ask("GET", "/api/v1/products/sales", _READ).json()["workspace"]
    assert shown["conflicts"] == ["a.sql"]
    assert shown["upgrades"] == [
        {
            "at": _NOW.isoformat(),
            "before": "1.0 (a)",
            "after": "1.1 (b)",
            "changed": 1,
            "files": {"a.sql": "conflict"},
        }
    ]


@pytest.mark.parametrize(
    ("phase", "released_at"), [(model.Phase.ARCHIVED, None), (model.Phase.GONE, _NOW)]
)
def test_a_product_without_keys_has_none_to_rotate(
    phase: model.Phase, released_at: datetime | None
) -> None:
    desk = Desk()
    desk.store.records[_SALES] = dataclasses.replace(_RECORD, phase=phase, released_at=released_at)
    assert desk.ask("POST", "/api/v1/products/sales/rotate").status_code == 409
    assert desk.store.asked == []


def test_who_only_observes_takes_no_wishes() -> None:
    desk = Desk(observes=True)
    assert desk.ask("POST", "/api/v1/products/sales/rotate").status_code == 409
    assert desk.store.asked == []


@pytest.mark.parametrize(
    ("path", "code"), [("nobody/rotate", 404), ("sales/rotate?compromised=perhaps", 400)]
)
def test_a_rotation_that_makes_no_sense_is_refused(path: str, code: int) -> None:
    desk = Desk()
    assert desk.ask("POST", f"/api/v1/products/{path}").status_code == code
    assert desk.store.asked == []


@pytest.mark.parametrize(
    ("verb", "what", "fits", "not_so"),
    [
        ("adopt", model.Ask.ADOPT, {}, {"conditions": ()}),
        ("adopt", model.Ask.ADOPT, {}, {"released_at": _NOW}),
        ("purge", model.Ask.PURGE, {"released_at": _NOW}, {}),
        ("purge", model.Ask.PURGE, {"released_at": _NOW}, {"purged_at": _NOW}),
    ],
)
@pytest.mark.parametrize("name", ["sales", _SALES.id])
def test_what_a_product_left_is_adopted_or_purged_where_it_fits(
    name: str,
    verb: str,
    what: model.Ask,
    fits: dict[str, object],
    not_so: dict[str, object],
) -> None:
    desk = Desk()
    fitting: Any = fits
    desk.store.records[_SALES] = dataclasses.replace(_RECORD, **fitting)
    answer = desk.ask("POST", f"/api/v1/products/{name}/{verb}")
    assert (answer.status_code, answer.json()["key"]) == (202, str(_SALES))
    assert (desk.store.asked, desk.woken) == ([(_SALES, what)], 1)
    unfitting: Any = not_so
    desk.store.records[_SALES] = dataclasses.replace(_RECORD, **unfitting)
    answer = desk.ask("POST", f"/api/v1/products/{name}/{verb}")
    assert (answer.status_code, list(answer.json())) == (409, ["error"])
    assert len(desk.store.asked) == 1


@pytest.mark.parametrize(
    ("query", "flags"),
    [
        ("", {"resync_wanted": "yes"}),
        ("?confirm_deletions=false", {"resync_wanted": "yes"}),
        (
            "?confirm_deletions=true",
            {"deletions_confirmed": "yes", "resync_wanted": "yes"},
        ),
    ],
)
def test_a_resync_is_asked_for(query: str, flags: dict[str, str]) -> None:
    desk = Desk()

    answer = desk.ask("POST", f"/api/v1/resync{query}")

    assert answer.status_code == 202
    assert list(desk.store.flags.items()) == list(flags.items())
    assert desk.woken == 1


def test_a_confirmation_that_is_neither_yes_nor_no_is_refused() -> None:
    desk = Desk()

    assert desk.ask("POST", "/api/v1/resync?confirm_deletions=maybe").status_code == 400
    assert desk.store.flags == {}


def test_deliveries_are_listed_newest_first_page_by_page() -> None:
    desk = Desk()

    first = desk.ask("GET", "/api/v1/deliveries?limit=3").json()
    second = desk.ask("GET", f"/api/v1/deliveries?limit=3&before={first['next']}").json()

    assert [row["row_id"] for row in first["deliveries"]] == [5, 4, 3]
    assert [row["row_id"] for row in second["deliveries"]] == [2, 1]
    assert second["next"] is None


@pytest.mark.parametrize(
    "path",
    [f"products?limit={text}" for text in ("0", "-1", "501", "x", "", "9" * 5000, "%D9%A1")]
    + [f"deliveries?limit={text}" for text in ("0", "501")]
    + [f"deliveries?before={text}" for text in ("0", "x", "9223372036854775808")]
    + [f"products?after={text}" for text in ("", "x", "product:x", "team:" + _UNKNOWN)],
)
def test_odd_pages_are_refused(path: str) -> None:
    answer = Desk().ask("GET", f"/api/v1/{path}")

    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize(("method", "path"), _CALLS)
def test_a_store_that_is_away_is_said_in_json(method: str, path: str) -> None:
    desk = Desk()
    desk.store.down = True
    answer = desk.ask(method, path)

    assert answer.status_code == 503
    assert "error" in answer.json()


def test_a_product_is_shown_with_its_ports_and_an_output_port_with_its_contract() -> None:
    desk = Desk()
    contract = published.a_contract()
    seen = published.a_port(
        producer=_SALES, port="open", contract=contract, state=model.PortState.STALE, version="1.2"
    )
    granted = published.a_port(port_id=_IDS[2], producer=model.Key.product(_IDS[1]))
    desk.contracts.ports = {each.port_id: each for each in (seen, granted)}

    shown = desk.ask("GET", "/api/v1/products/sales", _READ).json()["ports"]
    answer = desk.ask("GET", _CONTRACT, _READ)

    (output,), (read,) = shown["outputs"], shown["inputs"]
    assert (output["state"], output["rows"], output["columns"]) == ("stale", contract.rows, 2)
    assert (read["state"], read["name"], "rows" in read) == ("unknown", "sales__orders", False)
    assert (answer.status_code, answer.json()["version"]) == (200, "1.2.0")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["sales/ports/none", "sales/ports/silent", "nobody/ports/open"])
def test_what_has_no_contract_is_not_found(path: str) -> None:
    desk = Desk()
    silent = published.a_port(producer=_SALES, port="silent")
    desk.contracts.ports = {silent.port_id: silent}

    assert desk.ask("GET", f"/api/v1/products/{path}/contract", _READ).status_code == 404
