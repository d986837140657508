"""The real program as its operators, its portal and its attackers see it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import signal
import socket
import socketserver
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from provisioner.demo import consumer, embedded_s3, stage
from provisioner.demo import portal as fake_portal
from tests import canned_server
from tests.acceptance import stand as stands
from tests.acceptance.stand import ADMIN_TOKEN, SECRET, Stand


def test_wrong_settings_stop_the_start_with_a_line_each_and_code_2(stand: Stand) -> None:
    done = stand.provisioner(
        "serve", PROV_DPP_API_URL="ftp://portal", WEBHOOK_SECRET="", PROV_WORKERS="none"
    )
    assert done.returncode == 2
    names = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert names == ["PROV_DPP_API_URL", "PROV_WEBHOOK_SECRET", "PROV_WORKERS"]
    assert "ftp" not in done.stderr
    assert done.stdout == ""


def test_half_an_oauth_client_stops_the_start(stand: Stand) -> None:
    done = stand.provisioner("serve", PROV_DPP_CLIENT_ID="id", PROV_DPP_SCOPE="hush")
    assert done.returncode == 2
    names = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert names == ["PROV_DPP_CLIENT_SECRET", "PROV_DPP_TOKEN_URL"]
    assert "hush" not in done.stderr


@pytest.mark.parametrize("given", ["good-token", "stolen-token"])
def test_the_portal_is_called_with_a_token_of_the_oauth_server(given: str, stand: Stand) -> None:
    portal = fake_portal.FakePortal(style="main", token="good-token")
    portal.state.create_product("sales")
    stand.running.portal = portal
    body = {"access_token": given, "token_type": "Bearer", "expires_in": 60}
    with canned_server.canned(200, json.dumps(body).encode(), "application/json") as url:
        oauth = {"CLIENT_ID": "id", "CLIENT_SECRET": "hushed", "TOKEN_URL": f"{url}/token"}
        done = stand.provisioner("plan", "--all", **{f"PROV_DPP_{k}": v for k, v in oauth.items()})
    assert (done.returncode == 0) is (given == "good-token"), done.stderr
    assert ("sales" in done.stdout) is (given == "good-token")
    assert not [secret for secret in ("hushed", given) if secret in done.stdout + done.stderr]


def test_a_product_becomes_a_workspace_and_follows_its_grants(stand: Stand) -> None:
    state = stand.portal.state
    with stand.service(), httpx.Client(base_url=f"{stand.running.url}/api/v2") as portal:
        sales = portal.post("data_products", json=a_product("sales")).json()["id"]
        port = portal.post(f"data_products/{sales}/output_ports", json=a_port("orders")).json()[
            "id"
        ]
        stand.until(lambda: stand.ready("sales"), "the first workspace")
        marketing = portal.post("data_products", json=a_product("marketing")).json()["id"]
        stand.until(lambda: stand.ready("marketing"), "the second workspace")
        owner = consumer.Workspace(stand.products / "sales")
        reader = consumer.Workspace(stand.products / "marketing")
        assert owner.put("sales/orders/data", expected=200).answer == 200
        assert reader.get("sales/orders/data", expected=403).answer == 403
        asked = {"output_ports": [port], "justification": "because"}
        portal.post(f"data_products/{marketing}/input_ports", json=asked).raise_for_status()
        decision = {"consuming_data_product_id": marketing, "decision_note": "noted"}
        decide = f"data_products/{sales}/output_ports/{port}/input_ports"
        portal.post(f"{decide}/approve", json=decision).raise_for_status()
        stand.until(lambda: reader.get("sales/orders/data", expected=200).as_expected, "the grant")
        assert reader.put("sales/orders/data", expected=403).answer == 403
        portal.post(f"{decide}/revoke", json=decision).raise_for_status()
        stand.until(
            lambda: reader.get("sales/orders/data", expected=403).as_expected, "the revocation"
        )
        assert portal.delete(f"data_products/{marketing}").status_code == 202
        stand.until(lambda: marketing not in state.products, "the portal's deletion")
        stand.until(lambda: not reader.folder.exists(), "the release")


def test_release_0_4_2_of_the_portal_is_followed_by_its_webhooks(
    tmp_path: Path, s3: embedded_s3.EmbeddedS3
) -> None:
    older = stands.stand(tmp_path, s3, style="tag-0.4.2")
    with older as stand, stand.service(PROV_RESYNC_SECONDS="3600"):
        portal = httpx.Client(base_url=f"{stand.running.url}/api")
        sales = portal.post("data_products", json=a_product("sales")).json()["id"]
        port_body = {"namespace": "orders", "name": "Orders", "data_product_id": sales}
        port = portal.post("datasets", json=port_body).json()["id"]
        stand.until(lambda: stand.ready("sales"), "the first workspace")
        marketing = portal.post("data_products", json=a_product("marketing")).json()["id"]
        stand.until(lambda: stand.ready("marketing"), "the second workspace")
        owner = consumer.Workspace(stand.products / "sales")
        reader = consumer.Workspace(stand.products / "marketing")
        assert owner.put("sales/orders/data", expected=200).answer == 200
        asked = {"dataset_ids": [port], "justification": "because"}
        answer = portal.post(f"data_products/{marketing}/link_datasets", json=asked).json()
        (link,) = answer["dataset_links"]
        portal.post(f"data_product_dataset_links/approve/{link}").raise_for_status()
        stand.until(lambda: reader.get("sales/orders/data", expected=200).as_expected, "the grant")
        lifecycle = stand.portal.state.lifecycles["Ready"]
        assert stand.portal.state.product(sales).lifecycle_id == lifecycle
        portal.post(f"data_product_dataset_links/deny/{link}").raise_for_status()
        stand.until(
            lambda: reader.get("sales/orders/data", expected=403).as_expected, "the revocation"
        )
        assets = [one.product_id for one in tuple(stand.portal.state.assets.values())]
        assert sorted(assets) == sorted([sales, marketing])
        assert portal.delete(f"data_products/{marketing}").status_code == 200
        stand.until(lambda: not reader.folder.exists(), "the release")
        portal.close()


def test_secret_files_are_private_and_secrets_are_nowhere_else(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales {{ 7*7 }}")
    stand.anew = True
    with stand.service() as process:
        stand.until(lambda: stand.ready("sales"), "the workspace")
        stand.until(lambda: stand.api("products").json()["products"] != [], "the record")
        folder = stand.products / "sales"
        for name in (".env", ".aws/credentials", ".aws/config"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / ".aws").stat().st_mode) == 0o700
        key = stand.env_of("sales")["S3_SECRET_KEY"]
        answers = [stand.api("products").text, stand.api("products/sales").text]
        answers += [stand.api("deliveries").text, httpx.get(f"{stand.url}/metrics").text]
        commands = subprocess.run(
            ["ps", "-p", str(process.pid), "-o", "args="],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    secrets = {key, SECRET, stand.s3.secret_key, ADMIN_TOKEN, sealing_key(stand)}
    seen = "\n".join([*answers, commands, stand.log.read_text()])
    assert not [secret for secret in secrets if secret in seen]
    database = b"".join(path.read_bytes() for path in (stand.folder / "var").iterdir())
    assert not [secret for secret in secrets if secret.encode() in database]
    elsewhere = {".env", "credentials"}
    for path in stand.folder.rglob("*"):
        if path.is_file() and path.name not in elsewhere:
            assert key.encode() not in path.read_bytes(), path
    assert not list(stand.folder.glob(".cookiecutter*"))


def sealing_key(stand: Stand) -> str:
    return (stand.folder / "secrets" / "sealing.key").read_text().strip()


def test_the_template_shows_the_portals_text_literally(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales", description="{{ 7*7 }} [[ 7*7 ]]")
    with stand.service():
        stand.until(lambda: stand.ready("sales"), "the workspace")
    assert "{{ 7*7 }} [[ 7*7 ]]" in (stand.products / "sales" / "README.md").read_text()


def test_an_acknowledged_delivery_survives_a_kill_and_is_worked_off(stand: Stand) -> None:
    product = stand.portal.state.create_product("sales", name="Sales")
    stand.portal.faults.append(every_call_fails())
    with stand.service() as process:
        assert deliver(stand, created(product)).status_code == 200
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert not stand.ready("sales")
    stand.portal.faults.clear()
    with stand.service():
        stand.until(lambda: stand.ready("sales"), "the workspace")
        rows = stand.api("deliveries").json()["deliveries"]
    assert [row["subject"] for row in rows][-1] == "POST /api/v2/data_products"


def test_forged_deliveries_change_nothing(stand: Stand) -> None:
    product = stand.portal.state.create_product("sales", name="Sales")
    stand.portal.faults.append(every_call_fails())
    with stand.service():
        body = created(product)
        assert httpx.post(stand.url, content=body).status_code == 401
        assert deliver(stand, body, secret="guessed").status_code == 401
        assert httpx.post(stand.url, content=b"{").status_code == 400
        assert httpx.post(stand.url, content=b"x" * (1024 * 1024 + 1)).status_code == 413
        assert stand.api("deliveries").json()["deliveries"] == []


def test_it_starts_while_portal_and_engine_are_down_and_catches_up(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    stand.portal.faults.append(every_call_fails())
    with stand.service():
        assert httpx.get(f"{stand.url}/healthz").status_code == 200
        stand.until(lambda: "resync failed" in stand.log.read_text(), "a failed resync")
        stand.portal.faults.clear()
        stand.until(lambda: stand.ready("sales"), "the workspace")


def test_it_starts_while_portal_s3_and_iam_are_all_down_and_works_once_they_are_there(
    stand: Stand,
) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    stand.portal.faults.append(every_call_fails())
    port = stage.free_port(0)
    with stand.service(S3_ENDPOINT=f"http://127.0.0.1:{port}", PROV_ISSUER="auto"):
        assert httpx.get(f"{stand.url}/healthz").status_code == 200
        stand.until(lambda: "resync failed" in stand.log.read_text(), "a failed resync")
        stand.portal.faults.clear()
        stand.until(lambda: conditions(stand) == ["StorageUnavailable"], "the condition")
        with forwarded(port, stand.s3.endpoint):
            stand.until(lambda: stand.ready("sales"), "the workspace")
            team = consumer.Workspace(stand.products / "sales")
            assert team.put("sales/x", expected=200).as_expected


@contextlib.contextmanager
def forwarded(port: int, endpoint: str) -> Iterator[None]:
    """Listen where nobody did, and pass on what comes."""
    target = httpx.URL(endpoint)

    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((target.host, target.port or 80)) as behind:
                back = threading.Thread(target=_pour, args=(behind, self.request))
                back.start()
                _pour(self.request, behind)
                back.join()

    class Forwarder(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Forwarder(("127.0.0.1", port), Passing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _pour(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            into.sendall(data)
        into.shutdown(socket.SHUT_WR)


def test_an_engine_that_is_down_is_a_condition_and_tried_again(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    with stand.service(S3_ENDPOINT="http://127.0.0.1:9", PROV_RESYNC_SECONDS="3600"):
        stand.until(lambda: conditions(stand) == ["StorageUnavailable"], "the condition")
        assert not (stand.products / "sales").exists()
    with stand.service():
        stand.until(lambda: stand.ready("sales"), "the workspace")
        stand.until(lambda: conditions(stand) == [], "the condition to go")


def test_a_template_that_does_not_render_is_a_condition(stand: Stand) -> None:
    broken = stand.folder / "template" / "{{cookiecutter.project_name}}"
    broken.mkdir(parents=True)
    (broken.parent / "cookiecutter.json").write_text('{"project_name": "x"}')
    (broken / "README.md").write_text("{{ cookiecutter.nobody_knows }}")
    stand.portal.state.create_product("sales", name="Sales")
    with stand.service(PROV_TEMPLATE_PATH=str(broken.parent)):
        stand.until(lambda: conditions(stand) == ["TemplateError"], "the condition")
        assert "README.md" in stand.api("products/sales").text
        assert not (stand.products / "sales").exists()
        (broken / "README.md").write_text("{{ cookiecutter.project_name }}")
        stand.provisioner("reconcile", "sales", PROV_TEMPLATE_PATH=str(broken.parent))
        stand.until(lambda: stand.ready("sales"), "the workspace")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_the_grace_period_whoever_does_not_answer(
    stand: Stand, number: signal.Signals
) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    with socket.create_server(("127.0.0.1", 0)) as engine:
        endpoint = f"http://127.0.0.1:{engine.getsockname()[1]}"
        with (
            stand.service(S3_ENDPOINT=endpoint, PROV_SHUTDOWN_SECONDS="1") as process,
            engine.accept()[0],
            socket.create_connection(("127.0.0.1", stand.port)) as sender,
        ):
            sender.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            process.send_signal(number)
            assert process.wait(8) == 0
    assert '"ended"' in stand.log.read_text()


def test_it_ends_in_the_middle_of_a_resync_long_before_the_grace_period(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    with stand.service():
        stand.until(lambda: stand.ready("sales"), "the workspace")
        stand.until(lambda: stand.api("products/sales").json()["next_at"], "the record")
    links = "/api/v2/data_products/{id}/input_ports"
    later = fake_portal.Fault(kind="status", status=429, retry_after=50, path=links)
    stand.portal.faults.append(later)
    stand.portal.requests.clear()
    with stand.service(PROV_SHUTDOWN_SECONDS="50") as process:
        stand.until(
            lambda: any(path.endswith("/input_ports") for _, path in list(stand.portal.requests)),
            "the resync",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "resync left in the middle" in stand.log.read_text()


def test_a_second_process_may_not_serve_the_same_store(stand: Stand) -> None:
    with stand.service():
        done = stand.provisioner("serve", PROV_PORT="1")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("PROV_DATABASE_URL:")


def test_a_service_that_cannot_listen_does_nothing_else(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    with socket.create_server(("127.0.0.1", stand.port)):
        done = stand.provisioner("serve")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("PROV_PORT:")
    assert {method for method, _ in stand.portal.requests} <= {"GET"}
    assert not stand.ready("sales")


def test_plan_reads_only_and_says_what_would_be_made(stand: Stand) -> None:
    product = stand.portal.state.create_product("sales", name="Sales")
    done = stand.provisioner("plan", "--all", WEBHOOK_SECRET="")
    assert done.returncode == 0, done.stderr
    assert "create-workspace" in done.stdout
    assert "Nothing was touched" in done.stdout
    assert product in stand.portal.state.products
    assert not (stand.folder / "var").exists()
    assert not stand.products.exists()
    assert not (stand.folder / "secrets").exists()
    assert {method for method, _ in stand.portal.requests} == {"GET"}


def test_reconcile_without_a_service_does_the_work_itself(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    done = stand.provisioner("reconcile", "sales")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stand.ready("sales")
    shown = json.loads(stand.provisioner("status", "sales", "--json").stdout)
    assert shown["namespace"] == "sales"
    assert shown["key_id"] == stand.env_of("sales")["S3_ACCESS_KEY"]
    assert stand.env_of("sales")["S3_SECRET_KEY"] not in json.dumps(shown)


def test_status_names_what_a_person_asks_for(stand: Stand) -> None:
    assert "knows no product yet" in stand.provisioner("status").stderr
    stand.portal.state.create_product("sales", name="Sales")
    assert "Reconciled" in stand.provisioner("reconcile", "sales").stdout
    shown = stand.provisioner("status", "sales").stdout
    assert stand.env_of("sales")["S3_ACCESS_KEY"] in shown
    assert " UTC" in shown
    assert "+00:00" not in shown
    planned = stand.provisioner("plan", "--all").stdout
    assert "1 product read: 0 to change, 1 in order." in planned


def test_a_product_that_is_blocked_is_not_counted_as_in_order(stand: Stand) -> None:
    stand.portal.state.create_product("..", name="Sales")
    planned = stand.provisioner("plan", "--all").stdout
    assert "1 product read: 0 to change, 0 in order, 1 with something in the way." in planned


def test_a_resync_is_asked_for_only_where_a_service_hears_it(stand: Stand) -> None:
    done = stand.provisioner("resync", "--confirm-deletions")
    assert done.returncode == 1
    assert "no service runs on this store" in done.stderr
    assert not (stand.folder / "var").exists()
    assert not (stand.folder / "secrets").exists()
    with stand.service():
        done = stand.provisioner("resync")
        assert done.returncode == 0, done.stderr
        stand.until(lambda: stand.log.read_text().count("resync done") > 1, "a second resync")
        queued = stand.provisioner("reconcile", "--all")
        assert queued.returncode == 0, queued.stderr


def test_render_says_in_a_line_where_it_cannot_write(stand: Stand) -> None:
    (stand.folder / "file").write_text("in the way")
    done = stand.provisioner("render", "file/x")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_restart_with_everything_in_order_touches_nothing(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    assert stand.provisioner("reconcile", "sales").returncode == 0
    before = mtimes(stand.products)
    stand.portal.requests.clear()
    with stand.service():
        stand.until(lambda: "resync done" in stand.log.read_text(), "the first resync")
        stand.until(lambda: httpx.get(f"{stand.url}/readyz").status_code == 200, "readiness")
    assert {method for method, _ in stand.portal.requests} == {"GET"}
    assert mtimes(stand.products) == before


def test_our_own_writes_come_back_as_events_and_settle(stand: Stand) -> None:
    body = a_product("sales")
    with stand.service(PROV_RESYNC_SECONDS="3600"):
        httpx.post(f"{stand.running.url}/api/v2/data_products", json=body).raise_for_status()
        stand.until(lambda: stand.ready("sales"), "the workspace")
        stand.until(lambda: at_rest(stand), "the end of all echoes")
        ours = {
            call: count
            for call, count in stand.portal.requests.items()
            if call[0] != "GET" and call != ("POST", "/api/v2/data_products")
        }
        heard = stand.api("deliveries").json()["deliveries"]
        assert len(heard) > len(ours) >= 3  # finalizer, lifecycle, asset; on both wires
        assert set(ours.values()) == {1}, ours
        before = reconciled(stand, "done")
        assert before <= len(heard) + 1
        stand.provisioner("reconcile", "sales")
        stand.until(lambda: reconciled(stand, "done") > before, "one more look")
        stand.until(lambda: at_rest(stand), "the end of what it caused")
        assert reconciled(stand, "done") == before + 1
        assert stand.api("deliveries").json()["deliveries"] == heard


def at_rest(stand: Stand) -> bool:
    """Tell whether every webhook was delivered and nothing waits or runs."""
    webhooks = stand.portal.webhooks
    with contextlib.closing(sqlite3.connect(stand.folder / "var/store.db")) as store:
        quiet = webhooks.wait_quiet(0.0)
        (queued,) = store.execute("SELECT count(*) FROM queue").fetchone()
        return quiet and queued == 0 and webhooks.wait_quiet(0.0)


def test_observing_touches_nothing(stand: Stand) -> None:
    stand.portal.state.create_product("sales", name="Sales")
    with stand.service(PROV_MODE="observe"):
        stand.until(lambda: reconciled(stand, "observed") > 0, "a look")
        tasks = httpx.get(f"{stand.url}/health").json()["tasks"]
        assert not {"sweep", "ports"} & tasks.keys()
    assert {method for method, _ in stand.portal.requests} == {"GET"}
    assert not (stand.products / "sales").exists()


def test_an_output_folder_that_cannot_be_used_is_a_condition_and_tried_again(stand: Stand) -> None:
    with stand.service():
        stand.products.write_text("a file where the folder should be")
        product = stand.portal.state.create_product("sales", name="Sales")
        assert deliver(stand, created(product)).status_code == 200
        stand.until(lambda: conditions(stand) == ["DiskUnavailable"], "the condition")
        stand.products.unlink()
        stand.provisioner("reconcile", "sales")
        stand.until(lambda: stand.ready("sales"), "the workspace")


def a_product(namespace: str) -> dict[str, object]:
    return {"name": namespace.title(), "namespace": namespace, "description": "d", "about": ""}


def a_port(namespace: str) -> dict[str, object]:
    return {"name": namespace, "namespace": namespace, "access_type": "restricted"}


def every_call_fails() -> fake_portal.Fault:
    return fake_portal.Fault(kind="status", status=503)


def created(product: str) -> bytes:
    message = {
        "method": "POST",
        "url": "/api/v2/data_products",
        "query": "",
        "response": json.dumps({"id": product}),
        "status_code": 200,
    }
    return json.dumps(message).encode()


def deliver(stand: Stand, body: bytes, *, secret: str = SECRET) -> httpx.Response:
    signed = json.dumps(json.loads(body)).encode()
    proof = hmac.new(secret.encode(), signed, hashlib.sha512).hexdigest()
    return httpx.post(stand.url, content=body, headers={"Sign": proof})


def conditions(stand: Stand) -> list[str] | None:
    answer = stand.api("products/sales")
    if answer.status_code != 200:
        return None
    return [condition["type"] for condition in answer.json()["conditions"]]


def reconciled(stand: Stand, status: str) -> float:
    text = httpx.get(f"{stand.url}/metrics").text
    wanted = f'provisioner_reconciles_total{{status="{status}"}} '
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(wanted)
    )


def mtimes(folder: Path) -> dict[str, int]:
    return {
        os.path.relpath(path, folder): path.lstat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
