"""What every recorded scenario of every portal touches, written in roles.

`A` is a key; `A/P` a key and its port P, whose consumers are touched; `A/*` all of A's ports;
`~L` a legacy link that only the store can resolve; `resync` what nobody is named by. Empty:
nothing. On v2 one action is several events: theirs together.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import errors, model
from provisioner.domain import events
from tests import recorded

# Role -> the scenario that made it.
_ROLES = {
    "demo-0.4.2": {
        "A": "create_product_A",
        "B": "create_product_B",
        "C": "create_product_C",
        "U": "create_product_nonascii",
        "A2": "recreate_same_namespace",
        "P": "create_port_restricted",
        "Open": "create_port_open",
        "Private": "create_port_private",
        "OldA": "legacy_create_product_A",
        "OldB": "legacy_create_product_B",
        "OldP": "legacy_create_dataset",
        "L": "legacy_link_datasets",
    },
    "tag-0.4.2": {"A": "create_A", "B": "create_B", "L": "request", "L2": "request2"},
    "tag-0.5.1": {
        "A": "create_A",
        "B": "create_B",
        "P": "create_port",
        "Old": "legacy_create",
        "L": "legacy_request",
    },
    "tag-0.7.0": {"A": "create_A", "B": "create_B", "P": "create_port"},
    "main-2026-08": {
        "A": "create_product_A",
        "B": "create_product_B",
        "C": "create_product_C",
        "U": "create_product_nonascii",
        "W": "create_product_with_input_ports",
        "Z": "create_product_Z_slash_finalizer",
        "A2": "recreate_same_namespace",
        "P": "create_port_restricted",
        "Open": "create_port_open",
        "Private": "create_port_private",
        "Public": "create_port_public_new",
        "Timed": "create_port_time_bound",
        "X": "exploration_create",
        "Y": "exploration_create_with_input_ports",
    },
}
_EXPLORATIONS = {"X", "Y"}

_DEMO_0_4_2 = {
    "create_product_A": "A",
    "create_product_B": "B",
    "create_product_C": "C",
    "create_product_nonascii": "U",
    "create_product_duplicate_namespace_4xx": "",
    "create_product_invalid_422": "",
    "create_product_bad_json_422": "",
    "create_product_bad_namespace_4xx": "",
    "update_rename_A": "A/*",
    "update_nonascii_rename": "U/*",
    "update_namespace_A": "A/*",
    "update_namespace_A_back": "A/*",
    "update_namespace_conflict_4xx": "",
    "become_admin": "",
    "create_lifecycle_Ready": "",
    "update_lifecycle_A_Ready": "A/*",
    "update_noop_A": "A/*",
    "set_about_A": "A",
    "set_usage_A": "A",
    "set_status_A_archived": "A/*",
    "set_status_A_active": "A/*",
    "set_status_unknown_422": "",
    "create_port_restricted": "A/P",
    "create_port_open": "A/Open",
    "create_port_private": "A/Private",
    "update_port": "A/P",
    "port_about": "A/P",
    "port_status_archived": "A/P",
    "port_status_active": "A/P",
    "create_technical_asset": "A/*",
    "create_technical_asset_default_mapping": "A/*",
    "update_technical_asset": "A/*",
    "technical_asset_status_active": "A/*",
    "technical_asset_status_archived": "A/*",
    "technical_asset_status_active_2": "A/*",
    "link_asset_to_port": "A/P",
    "approve_asset_link": "A/P",
    "unlink_asset": "A/P",
    "link_asset_again": "A/P",
    "deny_asset_link": "A/P",
    "unlink_asset_2": "A/P",
    "link_asset_3": "A/P",
    "approve_asset_link_3": "A/P",
    "request_access_B_A": "B",
    "request_access_duplicate_4xx": "",
    "request_access_own_port_4xx": "",
    "approve_B_A": "A/P B",
    "approve_again_4xx": "",
    "approve_unknown_consumer_404": "",
    "deny_approved": "A/P",
    "approve_after_deny_4xx": "",
    "request_again_after_deny": "B",
    "remove_producer_side": "A/P",
    "request_access_C_A": "C",
    "deny_C_A": "A/P",
    "request_C_A_after_deny": "C",
    "unlink_consumer_side_denied": "C",
    "request_access_C_A_2": "",
    "approve_C_A_2": "A/P C",
    "unlink_consumer_side_approved": "C",
    "request_open_port_auto_approved": "B",
    "request_private_port": "B",
    "approve_private_port": "A/Private B",
    "change_port_access_type_open_to_restricted": "A/Open",
    "request_two_ports_at_once": "C",
    "approve_two_1": "A/P C",
    "approve_two_2": "A/Open C",
    "set_setting_true": "A",
    "set_setting_false": "A",
    "add_member_jane": "A",
    "modify_member_role": "",
    "remove_member": "",
    "request_member_role": "A",
    "decide_member_role": "A",
    "create_user": "",
    "create_tag": "",
    "create_domain": "",
    "port_curated_queries": "A",
    "unknown_product_404_put": "",
    "unknown_product_404_delete": "",
    "unknown_route_404_post": "",
    "method_not_allowed_405": "",
    "query_string_post": "",
    "post_missing_trailing_slash": "",
    "post_double_slash": "",
    "encoded_path": "",
    "auth_path_not_sent": "",
    "legacy_create_product_A": "OldA",
    "legacy_create_product_B": "OldB",
    "legacy_update_product": "OldA/*",
    "legacy_about": "OldA",
    "legacy_create_dataset": "resync",
    "legacy_create_data_output": "OldA/*",
    "legacy_link_datasets": "OldB",
    "legacy_approve": "~L",
    "legacy_deny_approved": "~L",
    "legacy_remove": "~L",
    "legacy_link_single": "OldB",
    "legacy_unlink": "OldB",
    "legacy_link_old_POST_then_v2_approve": "OldB OldA/OldP",
    "legacy_setting": "OldA",
    "legacy_delete_dataset": "resync",
    "legacy_delete_product_A": "OldA/*",
    "legacy_delete_product_B": "OldB/*",
    "delete_technical_asset_linked": "A/*",
    "delete_port_with_approved_link": "A/Open",
    "delete_consumer_C_with_approved_link": "C/*",
    "request_B_A_for_delete": "B A/P",
    "delete_producer_A": "A/*",
    "delete_again_404": "",
    "delete_B": "B/*",
    "delete_U": "U/*",
    "recreate_same_namespace": "A2",
    "revoke_admin": "",
}

_TAG_0_4_2 = {
    "create_A": "A",
    "create_B": "B",
    "rename_A": "A/*",
    "create_port": "resync",
    "request": "B",
    "approve": "~L",
    "deny_approved": "~L",
    "remove": "~L",
    "request2": "B",
    "approve2": "~L2",
    "setting": "A",
    "nonascii_422": "",
    "delete_A": "A/*",
    "delete_B": "B/*",
}

_TAG_0_5_1 = {
    "create_A": "A",
    "create_B": "B",
    "rename_A": "A/*",
    "create_port": "A/P",
    "request": "B",
    "approve": "A/P",
    "deny_approved": "A/P",
    "remove": "A/P",
    "request2": "B",
    "approve2": "A/P",
    "legacy_or_v2_member": "",
    "asset": "",
    "asset_other_slash": "",
    "legacy_create": "Old",
    "legacy_port": "resync",
    "legacy_request": "B",
    "legacy_approve": "~L",
    "legacy_delete": "Old/*",
    "setting": "A",
    "nonascii_422": "",
    "delete_A": "A/*",
    "delete_B": "B/*",
}

_TAG_0_7_0_V1 = {
    "create_A": "A",
    "create_B": "B",
    "rename_A": "A/*",
    "create_port": "A/P",
    "request": "B",
    "approve": "A/P",
    "deny_approved": "",
    "remove": "A/P",
    "request2": "B",
    "approve2": "A/P",
    "revoke": "A/P",
    "deprecated_link_input_ports": "",
    "legacy_or_v2_member": "A",
    "asset": "A/*",
    "asset_other_slash": "",
    "setting": "A",
    "nonascii_422": "",
    "add_finalizer": "A",
    "delete_202": "A/*",
    "remove_finalizer": "A/*",
    "delete_B": "B/*",
}

_TAG_0_7_0_V2 = {
    "create_A": "A/*",
    "create_B": "B/*",
    "rename_A": "A/*",
    "create_port": "A/P",
    "request": "B/*",
    "approve": "B",
    "remove": "B",
    "request2": "B/*",
    "approve2": "B",
    "revoke": "B",
    "legacy_or_v2_member": "A",
    "asset": "A/*",
    "setting": "A",
    "add_finalizer": "A/*",
    "delete_202": "A/*",
    "remove_finalizer": "A/* A/P B",
    "delete_B": "B/*",
}

_MAIN_2026_08 = {
    "create_product_A": "A/*",
    "create_product_B": "B/*",
    "create_product_C": "C/*",
    "create_product_nonascii": "U/*",
    "update_rename_A": "A/*",
    "update_nonascii_rename": "U/*",
    "update_namespace_A": "A/*",
    "update_namespace_A_back": "A/*",
    "update_lifecycle_A_Ready": "A/*",
    "update_noop_A": "A/*",
    "set_about_A": "A/*",
    "set_usage_A": "A/*",
    "set_status_A_archived": "A/*",
    "set_status_A_active": "A/*",
    "create_port_restricted": "A/P",
    "create_port_open": "A/Open",
    "create_port_private": "A/Private",
    "create_port_public_new": "A/Public",
    "update_port": "A/P",
    "port_about": "A/P",
    "port_status_archived": "A/P",
    "port_status_active": "A/P",
    "create_technical_asset": "A/*",
    "create_technical_asset_default_mapping": "A/*",
    "update_technical_asset": "A/*",
    "technical_asset_status_active": "A/*",
    "technical_asset_status_archived": "A/*",
    "technical_asset_status_active_2": "A/*",
    "link_asset_to_port": "A/* A/P",
    "approve_asset_link": "A/P",
    "unlink_asset": "A/* A/P",
    "link_asset_again": "A/* A/P",
    "deny_asset_link": "A/P",
    "unlink_asset_2": "A/* A/P",
    "link_asset_3": "A/* A/P",
    "approve_asset_link_3": "A/P",
    "request_access_B_A": "B/*",
    "approve_B_A": "B",
    "revoke_producer_side": "B",
    "renew_after_revoke": "B",
    "renew_after_cancel": "B",
    "deny_renewal": "B",
    "renew_3": "B",
    "approve_renewal": "B",
    "self_revoke_consumer_side": "B",
    "remove_producer_side": "B",
    "request_access_C_A": "C/*",
    "deny_C_A": "C",
    "unlink_consumer_side_denied": "C",
    "request_access_C_A_2": "C/*",
    "approve_C_A_2": "C",
    "unlink_consumer_side_approved": "C",
    "request_open_port_auto_approved": "B/*",
    "request_private_port": "B/*",
    "approve_private_port": "B",
    "change_port_access_type_open_to_restricted": "A/Open",
    "request_two_ports_at_once": "C/*",
    "approve_two_1": "C",
    "approve_two_2": "C",
    "create_port_time_bound": "A/Timed",
    "request_time_bound": "B/*",
    "approve_time_bound": "B",
    "renew_while_active": "B",
    "set_setting_true": "A",
    "set_setting_false": "A",
    "add_member_jane": "A",
    "modify_member_role": "A",
    "remove_member": "A",
    "request_member_role": "A",
    "decide_member_role": "A",
    "exploration_create": "X",
    "exploration_request_restricted": "X",
    "exploration_approve": "X",
    "exploration_revoke_consumer_side": "X",
    "exploration_unlink": "X",
    "exploration_create_with_input_ports": "Y",
    "exploration2_approve": "Y",
    "exploration2_add_finalizer": "Y",
    "exploration2_delete_202": "Y",
    "exploration2_remove_finalizer": "Y",
    "exploration_delete_plain": "X",
    "create_product_with_input_ports": "W/*",
    "delete_technical_asset_linked": "A/* A/P",
    "delete_port_with_approved_link": "A/Open B C",
    "delete_consumer_C_with_approved_link": "C/*",
    "request_B_A_for_delete": "B/*",
    "add_finalizer_A": "A/*",
    "add_finalizer_A_second": "A/*",
    "create_product_Z_slash_finalizer": "Z/*",
    "add_finalizer_Z_with_slash": "Z/*",
    "add_finalizer_empty": "Z/*",
    "delete_A_202": "A/*",
    "delete_A_again": "A/*",
    "delete_A_202_again": "A/*",
    "remove_finalizer_second": "A/*",
    "remove_finalizer_last": "A/* A/P A/Public A/Private A/Timed B W",
    "delete_B": "B/*",
    "delete_U": "U/*",
    "recreate_same_namespace": "A2/*",
}

_TABLES = {
    ("demo-0.4.2", "v1"): _DEMO_0_4_2,
    ("tag-0.4.2", "v1"): _TAG_0_4_2,
    ("tag-0.5.1", "v1"): _TAG_0_5_1,
    ("tag-0.7.0", "v1"): _TAG_0_7_0_V1,
    ("tag-0.7.0", "v2"): _TAG_0_7_0_V2,
    ("main-2026-08", "v2"): _MAIN_2026_08,
}


def messages(version: str, wire: str, scenario: str) -> list[dict[str, Any]]:
    return [
        one.message
        for one in recorded.webhooks(version)
        if (one.wire, one.scenario) == (wire, scenario)
    ]


def identity(version: str, role: str) -> str:
    """Find a role's id in the first delivery of the scenario that made it."""
    scenario = _ROLES[version][role]
    first = next(one for one in recorded.webhooks(version) if one.scenario == scenario).message
    made = json.loads(first["response"]) if "response" in first else first["data"]
    found = made["id"] if "id" in made else made["dataset_links"][0]
    assert isinstance(found, str)
    return found


def expectation(version: str, text: str) -> model.Touched:
    keys, ports, links = set(), set(), set()
    for word in set(text.split()) - {"resync"}:
        if word.startswith("~"):
            links.add(identity(version, word[1:]))
            continue
        owner, _, port = word.partition("/")
        kind = model.Kind.EXPLORATION if owner in _EXPLORATIONS else model.Kind.PRODUCT
        key = model.Key(kind, identity(version, owner))
        keys.add(key)
        if port:
            ports.add((key, port if port == "*" else identity(version, port)))
    return model.Touched(
        keys=frozenset(keys),
        ports=frozenset(ports),
        links=frozenset(links),
        resync="resync" in text.split(),
    )


def union(many: list[model.Touched]) -> model.Touched:
    return model.Touched(
        keys=frozenset().union(*(one.keys for one in many)),
        ports=frozenset().union(*(one.ports for one in many)),
        links=frozenset().union(*(one.links for one in many)),
        resync=any(one.resync for one in many),
    )


def touched(message: object) -> model.Touched:
    return events.touched(events.parse(message))


@pytest.mark.parametrize(
    ("version", "wire", "scenario"),
    [(*table, scenario) for table, rows in _TABLES.items() for scenario in rows],
)
def test_a_recorded_scenario_touches(version: str, wire: str, scenario: str) -> None:
    together = union([touched(message) for message in messages(version, wire, scenario)])

    assert together == expectation(version, _TABLES[version, wire][scenario])


@pytest.mark.parametrize(("version", "wire"), _TABLES)
def test_every_recorded_scenario_is_in_the_table(version: str, wire: str) -> None:
    scenarios = {one.scenario for one in recorded.webhooks(version) if one.wire == wire}

    assert set(_TABLES[version, wire]) == scenarios


def test_every_recorded_delivery_says_what_it_is_in_our_own_words() -> None:
    allowed = re.compile(
        r"other|(POST|PUT|DELETE) /api(/v2)?(/([a-z_]+|\{id\}|\{name\}|\*))+|[a-z_]+\.event"
    )
    subjects = {(one.version, events.parse(one.message).subject) for one in recorded.everything()}

    assert all(allowed.fullmatch(subject) for _, subject in subjects)
    assert {subject for _, subject in subjects} >= {"other", "PUT /api/v2/data_products/{id}"}


_A = "aaaaaaaa-0000-4000-8000-00000000000a"
_P = "bbbbbbbb-0000-4000-8000-00000000000b"
_X = "cccccccc-0000-4000-8000-00000000000c"
_PRODUCT = model.Key.product(_A)
_EXPLORATION = model.Key(model.Kind.EXPLORATION, _A)
_JUST_A = model.Touched(keys=frozenset({_PRODUCT}))
_ALL_OF_A = model.Touched(keys=frozenset({_PRODUCT}), ports=frozenset({(_PRODUCT, "*")}))
_PORT_OF_A = model.Touched(keys=frozenset({_PRODUCT}), ports=frozenset({(_PRODUCT, _P)}))
_JUST_X = model.Touched(keys=frozenset({model.Key(model.Kind.EXPLORATION, _X)}))
_RESYNC = model.Touched(resync=True)
_NOBODY = model.Touched()


def v1(method: str, url: str, response: str = "null", status_code: object = 200) -> dict[str, Any]:
    return {
        "method": method,
        "url": url,
        "query": "",
        "response": response,
        "status_code": status_code,
    }


def v2(kind: str, data: object) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "data-product-portal",
        "type": kind,
        "time": "2026-11-21T03:44:33.484106+00:00",
        "data": data,
    }


@pytest.mark.parametrize(
    ("method", "url", "response", "expected"),
    [
        # What the recordings do not hold
        ("POST", f"/api/v2/data_products/{_A}/input_ports/{_P}/revoke", "{}", _JUST_A),
        ("POST", f"/api/v2/data_products/{_A}/input_ports/{_P}/cancel", "{}", _JUST_A),
        ("POST", f"/api/v2/data_products/{_A}/input_ports/{_P}/renew", "{}", _JUST_A),
        ("POST", f"/api/v2/data_products/{_A}/output_ports/{_P}/settings/{_X}", "", _PORT_OF_A),
        ("POST", f"/api/v2/data_products/{_A}/technical_assets/", "{}", _ALL_OF_A),
        ("DELETE", f"/api/v2/data_products/{_A}/finalizers/a b", "", _ALL_OF_A),
        ("POST", "/api/v2/explorations", json.dumps({"id": _X, "name": "x"}), _JUST_X),
        ("POST", f"/api/v2/explorations/{_X}/input_ports", "{}", _JUST_X),
        ("POST", f"/api/v2/explorations/{_X}/input_ports/{_P}/revoke", "{}", _JUST_X),
        ("DELETE", f"/api/v2/explorations/{_X}/input_ports/{_P}", "", _JUST_X),
        ("DELETE", f"/api/v2/explorations/{_X}", "", _JUST_X),
        (
            "POST",
            f"/api/v2/data_products/{_A}/output_ports/{_P}/data_quality_summary",
            "{}",
            _JUST_A,
        ),
        ("DELETE", f"/api/v2/data_products/{_A}/output_ports/{_P}/query_stats", "", _JUST_A),
        ("PUT", f"/api/data_outputs/{_X}", "", _RESYNC),
        ("POST", f"/api/data_output_dataset_links/approve/{_X}", "null", _RESYNC),
        ("PUT", f"/api/datasets/{_P}/status", "", _RESYNC),
        ("PUT", f"/api/datasets/{_P}/usage/curated_queries", "", _NOBODY),
        ("POST", "/api/data_outputs/result_string", "", _NOBODY),
        ("PUT", "/api/v2/configuration/access_durations/explorations", "", _NOBODY),
        ("PUT", f"/api/v2/configuration/data_product_lifecycles/{_A}", "", _NOBODY),
        ("POST", "/mcp/", "event: message", _NOBODY),
        (
            "POST",
            "/api/v2/authz/role_assignments/output_port",
            json.dumps({"output_port": {"id": _P, "data_product_id": _A}}),
            _PORT_OF_A,
        ),
        (
            "POST",
            f"/api/role_assignments/dataset/request/{_X}",
            json.dumps({"dataset": {"id": _P, "data_product_id": _A}}),
            _PORT_OF_A,
        ),
        # Spellings
        ("PUT", f"/api/v2/data_products/{_A}/", "", _ALL_OF_A),
        ("PUT", f"/api/v2/data_products/{_A}?x=1&y=/", "", _ALL_OF_A),
        ("PUT", f"/api/v2/data_products/{_A.upper()}", "", _ALL_OF_A),
        ("PUT", f"/api/v2/data_products/{_A}/something/new", "", _ALL_OF_A),
        ("PUT", f"/api/v2/data_products/{_A.replace('-', '')}", "", _RESYNC),
        ("PUT", f"/api/v2/data_products/{_A}\n", "", _RESYNC),
        ("PUT", "/api/v2/data_products/../../etc/passwd", "", _RESYNC),
        ("PUT", f"//api/v2/data_products/{_A}", "", _NOBODY),
        ("PUT", f"/api/v3/data_products/{_A}", "", _NOBODY),
        ("PUT", f"data_products/{_A}", "", _NOBODY),
        ("put", f"/api/v2/data_products/{_A}", "", _NOBODY),
        ("PATCH", f"/api/v2/data_products/{_A}", "", _NOBODY),
        ("PUT", "/" * 100_000, "", _NOBODY),
        # Answers that do not say what was made
        ("POST", "/api/v2/data_products", "", _RESYNC),
        ("POST", "/api/v2/data_products", "null", _RESYNC),
        ("POST", "/api/v2/data_products", "<html>", _RESYNC),
        ("POST", "/api/v2/data_products", '{"id": "../../etc"}', _RESYNC),
        ("POST", "/api/v2/data_products", '{"id": 1}', _RESYNC),
        ("POST", "/api/v2/data_products", '{"id": 1' + "0" * 5000 + "}", _RESYNC),
        ("POST", "/api/v2/data_products", "[" * 100_000, _RESYNC),
        ("POST", "/api/v2/data_products", json.dumps({"id": _A.upper()}), _JUST_A),
        ("POST", f"/api/v2/data_products/{_A}/output_ports", "null", _ALL_OF_A),
        ("POST", f"/api/v2/data_products/{_A}/output_ports", json.dumps({"id": _P}), _PORT_OF_A),
        ("POST", "/api/v2/authz/role_assignments/data_product", '{"data_product": []}', _RESYNC),
    ],
    ids=itertools.count(),
)
def test_a_call_touches(method: str, url: str, response: str, expected: model.Touched) -> None:
    assert touched(v1(method, url, response)) == expected


@pytest.mark.parametrize(
    ("status_code", "expected"),
    [(200, _ALL_OF_A), (202, _ALL_OF_A), (299, _ALL_OF_A), (199, _NOBODY), (300, _NOBODY)]
    + [(code, _NOBODY) for code in (307, 400, 401, 403, 404, 405, 409, 422, 500)],
)
def test_only_success_touches(status_code: int, expected: model.Touched) -> None:
    message = v1("DELETE", f"/api/v2/data_products/{_A}", "", status_code)

    assert touched(message) == expected
    assert events.parse(message).status_code == status_code


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("exploration.created", {"after": {"id": _X}}, _JUST_X),
        ("exploration.updated", {"before": {"id": _X}, "after": {"id": _X}}, _JUST_X),
        ("exploration.deleted", {"before": {"id": _X}}, _JUST_X),
        ("exploration.deleted", {"before": {"id": _X}, "after": None}, _JUST_X),
        ("exploration.updated", {"id": _X}, _JUST_X),
        ("data_product.event", {"id": _A.upper()}, _ALL_OF_A),
        (
            "output_port_role_assignment.event",
            {"data_product_id": _A, "output_port_id": _P},
            _PORT_OF_A,
        ),
        ("user.event", {"id": _A}, _NOBODY),
        ("data_product.renamed", {"id": _A}, _NOBODY),
        ("", None, _NOBODY),
    ],
)
def test_a_cloud_event_touches(kind: str, data: object, expected: model.Touched) -> None:
    assert touched(v2(kind, data)) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("data_products", {_PRODUCT}),
        ("explorations", {_EXPLORATION}),
        ("notebooks", {_PRODUCT, _EXPLORATION}),
        (None, {_PRODUCT, _EXPLORATION}),
    ],
)
def test_a_consumer_of_a_kind_we_do_not_know_is_looked_for_among_all(
    kind: object, expected: set[model.Key]
) -> None:
    data = {
        "id": _P,
        "consuming_abstract_data_product_id": _A,
        "consuming_abstract_data_product_type": kind,
    }

    assert touched(v2("input_port.event", data)) == model.Touched(keys=frozenset(expected))


_NO_DATA: tuple[object, ...] = (None, [], _A, {}, {"id": None}, {"id": [_A]})
_GOOD_V1 = v1("PUT", f"/api/v2/data_products/{_A}", "")


@pytest.mark.parametrize(
    "message",
    [
        None,
        True,
        1,
        "text",
        [],
        [_GOOD_V1],
        {},
        {"method": "PUT"},
        *({k: v for k, v in _GOOD_V1.items() if k != name} for name in _GOOD_V1),
        *(_GOOD_V1 | {name: None} for name in _GOOD_V1),
        *(
            _GOOD_V1 | {"status_code": code}
            for code in (True, 200.0, "200", 0, 99, 600, -200, 10**30)
        ),
        {"specversion": "1.0"},
        {"specversion": "0.3", "type": "data_product.event", "data": {"id": _A}},
        {"specversion": 1.0, "type": "data_product.event", "data": {"id": _A}},
        {"specversion": "1.0", "type": ["data_product.event"], "data": {"id": _A}},
        *(v2("data_product.event", data) for data in _NO_DATA),
        *(
            v2("data_product.event", {"id": i})
            for i in ("", "../etc", _A + "\n", "{" + _A + "}", _A[1:])
        ),
        v2("output_port.event", {"id": _P}),
        v2("output_port.event", {"data_product_id": _A}),
        v2("input_port.event", {"id": _P}),
        v2("exploration.created", {"after": _X}),
    ],
    ids=repr,
)
def test_a_message_with_the_shape_of_neither_wire_is_refused(message: object) -> None:
    with pytest.raises(errors.PayloadError):
        events.parse(message)


def test_further_fields_are_no_reason_to_refuse() -> None:
    assert touched(_GOOD_V1 | {"request": "{}"}) == _ALL_OF_A
    assert touched(v2("data_product.event", {"id": _A, "name": "x"}) | {"x": 1}) == _ALL_OF_A


@given(st.text(), st.lists(st.text(alphabet=st.characters(blacklist_characters="/?"))))
def test_no_text_of_a_message_reaches_the_subject(method: str, segments: list[str]) -> None:
    event = events.parse(v1(method, "/" + "/".join(segments)))

    assert event.subject == "other"
    assert event.named == _NOBODY


@given(st.sampled_from(["PUT", "POST", "DELETE"]), st.lists(st.text(max_size=5), max_size=6))
def test_whatever_lies_below_a_product_touches_it(method: str, segments: list[str]) -> None:
    url = "/".join([f"/api/v2/data_products/{_A}", *segments])

    event = events.parse(v1(method, url))

    assert _PRODUCT in event.named.keys
    assert re.fullmatch(r"[A-Z]+ [a-z0-9_/{}*]+", event.subject)
