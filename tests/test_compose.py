"""The composed demo agrees with the code, with its images and with itself.

No Docker is needed: the files are read as compose reads them. The scripts are run by
`test_demo_scripts`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import provisioner
from provisioner import cli, settings
from provisioner.settings import Settings, types
from provisioner.workspace import claims
from tests import dockerfiles
from tests.dockerfiles import CODER_IMAGE, IMAGES, ROOT, SERVICE_IMAGE
from tests.prepared_demo import DEMO, OWNERS, SERVICES, Prepared, init_environment, mounts, prepare

COMPOSE = dockerfiles.compose("compose.yaml")
SERVICE = SERVICES["provisioner"]
SHARED_EDITORS = ["coder", "rstudio"]
ISOLATED = dockerfiles.compose("compose.isolated.yaml")["services"]
ISOLATED_EDITORS = {name: each for name, each in ISOLATED.items() if name not in SHARED_EDITORS}
DEFAULTS = {each.name: each.default for each in settings.SETTINGS}


def published(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a service publishes on this machine, and the port inside."""
    pairs = []
    for each in service.get("ports", []):
        host, outside, inside = each.split(":")
        assert host == "127.0.0.1"
        pairs.append((outside, inside))
    return pairs


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(tmp_path / "demo")


def loaded(prepared: Prepared, cwd: Path, **exported: str) -> Settings:
    """Load the service's settings as its container would, from the files that init has made."""
    environment = dict(SERVICE_IMAGE.environment)
    for name, value in SERVICE["environment"].items():
        environment[name] = dockerfiles.resolved(value, exported).replace(
            "/run/secrets", str(prepared.secrets / "provisioner")
        )
    environment["PROV_TEMPLATE_PATH"] = str(ROOT / "templates" / "sqlmesh")
    return settings.load(environment, cwd=cwd)


# what is where


def test_the_services_are_those_that_the_demo_knows() -> None:
    started = {name for name, each in SERVICES.items() if "profiles" not in each}
    assert started == {"init", "rustfs", "provisioner", "coder", "rstudio", "postgresql"}
    assert set(SERVICES) - started == {"portal"}
    assert SERVICES["portal"]["profiles"] == ["portal"]


def test_everything_is_published_where_it_is_known_and_on_this_machine_alone() -> None:
    outside = {name: [port for port, _ in published(each)] for name, each in SERVICES.items()}
    assert {name: ports for name, ports in outside.items() if ports} == {
        "portal": ["8080"],
        "provisioner": ["8090"],
        "coder": ["8443"],
        "rstudio": ["8787"],
        "rustfs": ["9000", "9001"],
    }


@pytest.mark.parametrize("name", ["provisioner", "coder", "rstudio"])
def test_what_is_published_is_what_the_image_listens_on(name: str) -> None:
    image = IMAGES[SERVICES[name]["image"].partition(":")[0]]
    assert [inside for _, inside in published(SERVICES[name])] == [image.last("EXPOSE")]


def test_our_images_are_built_here_in_this_version_and_others_are_pinned() -> None:
    for each in (*SERVICES.values(), *ISOLATED_EDITORS.values()):
        name, _, tag = each["image"].rpartition(":")
        if name in IMAGES:
            assert tag == provisioner.__version__
            build = each["build"]
            build = {"context": build} if isinstance(build, str) else build
            context = (DEMO / build["context"]).resolve()
            assert context / build.get("dockerfile", "Dockerfile") == IMAGES[name].path
        else:
            assert re.match(r"[0-9]+\.[0-9]+\.[0-9]+", tag)
            assert "build" not in each


def test_rustfs_is_new_enough() -> None:
    tag = SERVICES["rustfs"]["image"].partition(":")[2]
    version = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", tag)  # no alpha, beta or rc
    assert version is not None
    assert tuple(int(part) for part in version.groups()) >= (1, 0, 0)


def test_what_is_mounted_from_this_folder_lies_in_it() -> None:
    for each in SERVICES.values():
        for mount in mounts(each).values():
            if mount["type"] == "bind":
                assert (DEMO / mount["source"]).exists()
                assert mount.get("read_only") or mount["source"] == "./products"


def test_named_volumes_are_declared_and_used() -> None:
    used = {
        mount["source"]
        for each in SERVICES.values()
        for mount in mounts(each).values()
        if mount["type"] == "volume"
    }
    assert used == set(COMPOSE["volumes"])


def test_volumes_of_the_provisioner_are_those_of_its_image() -> None:
    own = {target for target in mounts(SERVICE) if target != "/run/secrets"}
    assert own == set(json.loads(SERVICE_IMAGE.last("VOLUME")))


# who waits for whom


def test_only_what_can_become_healthy_is_waited_for() -> None:
    checked = {name for name, each in SERVICES.items() if "test" in each.get("healthcheck", {})}
    checked |= {
        name
        for name, each in SERVICES.items()
        if each["image"].partition(":")[0] in IMAGES and "healthcheck" not in each
    }
    assert set(SERVICES) - checked == {"init"}
    for each in (*SERVICES.values(), *ISOLATED_EDITORS.values()):
        for name, wait in each.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if name == "init" else "service_healthy"
            assert wait == {"condition": wanted}
            # What is waited for is started without a profile.
            assert "profiles" not in SERVICES[name]


def test_whoever_mounts_what_init_makes_waits_for_it() -> None:
    def waits(name: str) -> bool:
        needed = SERVICES[name].get("depends_on", {})
        return "init" in needed or any(waits(each) for each in needed)

    made = {mount["source"] for mount in mounts(SERVICES["init"]).values()}
    for name, each in SERVICES.items():
        if name != "init" and made & {mount["source"] for mount in mounts(each).values()}:
            assert waits(name)


def test_health_checks_ask_what_is_served() -> None:
    asked = " ".join(SERVICES["rustfs"]["healthcheck"]["test"])
    port = SERVICES["rustfs"]["environment"]["RUSTFS_ADDRESS"].rpartition(":")[2]
    assert f"http://127.0.0.1:{port}/health" in asked
    assert ("8080", "5050") in published(SERVICES["portal"])
    assert "http://127.0.0.1:5050/api/v2/version" in SERVICES["portal"]["healthcheck"]["test"]
    assert "--port 5050" in (DEMO / "portal.sh").read_text(encoding="utf-8")
    # By TCP: the server that sets the databases up listens on a socket alone.
    assert SERVICES["postgresql"]["healthcheck"]["test"][1:4] == ["pg_isready", "-h", "127.0.0.1"]


def test_the_provisioner_gets_longer_to_stop_than_it_takes_itself() -> None:
    granted = int(SERVICE["stop_grace_period"].removesuffix("s"))
    assert granted > int(DEFAULTS["PROV_SHUTDOWN_SECONDS"] or "0")


# what is set


def test_the_provisioners_variables_are_settings() -> None:
    names = {re.sub("_FILE$", "", name) for name in SERVICE["environment"]}
    assert names - dockerfiles.KNOWN == set()


def test_the_provisioner_can_be_set_up_with_what_init_makes(
    prepared: Prepared, tmp_path: Path
) -> None:
    found = loaded(prepared, tmp_path)
    assert found.unknown == ()
    assert found.webhook_secret == ("demo-secret-key",)
    assert found.webhook_basic_auth == "portal:demo-secret-key"
    assert (found.s3_access_key, found.s3_secret_key) == ("minioadmin", "minioadmin")
    assert found.s3_bucket == "data-products"
    assert found.issuer is types.Issuer.RUSTFS
    assert found.grant_scope is types.GrantScope.PRODUCT
    assert str(found.template_output_path) == "/products"
    assert str(found.workspace_root) == "/workspace/products"
    assert str(found.duckdb_extension_directory) == "/opt/duckdb/extensions"
    assert (found.dpp_api_key, found.local_root) == (None, None)
    assert len(found.admin_token) == 1


def test_a_key_for_the_portal_reaches_the_provisioner_as_a_file(
    prepared: Prepared, tmp_path: Path
) -> None:
    exported = {"PROV_DPP_API_KEY": "a key", "WEBHOOK_SECRET": "another secret"}
    prepared.run(**init_environment(**exported))
    found = loaded(prepared, tmp_path, **exported)
    assert (found.dpp_api_key, found.webhook_secret) == ("a key", ("another secret",))


def test_services_reach_each_other_by_name_at_the_right_port(
    prepared: Prepared, tmp_path: Path
) -> None:
    found = loaded(prepared, tmp_path)
    assert found.s3_endpoint == found.s3_public_endpoint == "http://rustfs:9000"
    assert found.s3_local_endpoint is None
    local = loaded(prepared, tmp_path, PROV_LOCAL_ROOT="/here/products").s3_local_endpoint
    assert local == f"http://127.0.0.1:{published(SERVICES['rustfs'])[0][0]}"
    assert found.dpp_api_url == f"http://portal:{published(SERVICES['portal'])[0][1]}"
    webhook = SERVICES["portal"]["environment"]["WEBHOOK_URL"]
    assert webhook == f"http://provisioner:{found.port}/"
    for each in (*(SERVICES[name] for name in SHARED_EDITORS), SERVICES["portal"]):
        environment = each["environment"]
        assert environment.get("PGHOST", environment.get("POSTGRES_SERVER")) == "postgresql"
        assert environment.get("PGPORT", environment.get("POSTGRES_PORT")) == "5432"


def test_a_portal_on_this_machine_can_be_reached(prepared: Prepared, tmp_path: Path) -> None:
    assert SERVICE["extra_hosts"] == ["host.docker.internal:host-gateway"]
    url = "http://host.docker.internal:8080"
    assert f"PROV_DPP_API_URL={url} docker compose up" in (DEMO / "compose.yaml").read_text(
        encoding="utf-8"
    )
    assert loaded(prepared, tmp_path, PROV_DPP_API_URL=url).dpp_api_url == url


def test_no_secret_is_in_a_service_but_the_logins_that_everybody_knows() -> None:
    known = {"coder": {"PASSWORD": "coder"}, "rstudio": {"PASSWORD": "rstudio"}}
    known["portal"] = dict.fromkeys(("CONVEYOR_API_KEY", "CONVEYOR_SECRET"), "unused")
    for name, each in SERVICES.items():
        environment = each.get("environment", {})
        found = {
            key: value
            for key, value in environment.items()
            if key in dockerfiles.SECRETS or re.search("PASSWORD|SECRET|TOKEN|_KEY", key)
        }
        plain = {key: value for key, value in found.items() if not key.endswith("_FILE")}
        # init is told what it writes down, and is gone at once.
        assert plain == known.get(name, {}) or name == "init"
        assert all(
            re.fullmatch(r"(\$\{\w+:\+)?/run/secrets/\w+\}?", value)
            for key, value in found.items()
            if key.endswith("_FILE")
        )


def test_containers_hold_no_rights_they_do_not_need() -> None:
    added = {}
    for name, each in {**SERVICES, **ISOLATED_EDITORS}.items():
        if name == "rstudio":  # starts as root, and its own init gives that up
            continue
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        added[name] = each.get("cap_add")
    assert {name for name, rights in added.items() if rights} == {"init", "postgresql"}
    assert added["init"] == ["CHOWN", "DAC_OVERRIDE"]
    assert SERVICES["init"]["network_mode"] == "none"


# who sees what


def test_each_reader_sees_its_own_secrets_and_cannot_write_them(prepared: Prepared) -> None:
    written = {
        mount["source"]: target.removeprefix("/secrets/")
        for target, mount in mounts(SERVICES["init"]).items()
        if target.startswith("/secrets/")
    }
    assert set(written.values()) == set(OWNERS)
    readers: dict[str, set[str]] = {}
    for name, each in SERVICES.items():
        mount = mounts(each).get("/run/secrets")
        if mount is not None:
            assert mount["read_only"]
            readers.setdefault(written[mount["source"]], set()).add(name)
    assert readers == {
        "rustfs": {"rustfs"},
        "provisioner": {"provisioner"},
        "postgresql": {"postgresql"},
        "portal": {"portal"},
        "editors": {"coder", "rstudio"},
    }
    assert {name.partition("/")[0] for name in prepared.texts} == set(OWNERS)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "init"])
def test_every_secret_that_a_service_reads_is_made(name: str, prepared: Prepared) -> None:
    reader = "editors" if name in SHARED_EDITORS else name
    text = json.dumps(SERVICES[name]["environment"])
    if name in {"portal", "postgresql"}:
        text += (
            (DEMO / f"{name}.sh").read_text(encoding="utf-8").replace("$secrets", "/run/secrets")
        )
    named = set(re.findall(r"/run/secrets/(\w+)", text)) - {"dpp_api_key"}
    made = {each.partition("/")[2] for each in prepared.texts if each.startswith(f"{reader}/")}
    assert named
    assert named <= made
    assert made == named


@pytest.mark.parametrize("name", SHARED_EDITORS)
def test_no_editor_sees_the_folder_that_is_the_provisioners_own(name: str) -> None:
    products = SERVICE["environment"]["PROV_WORKSPACE_ROOT"]
    found = mounts(SERVICES[name])
    assert found[products]["source"] == mounts(SERVICE)["/products"]["source"]
    assert found[products]["bind"] == {"create_host_path": False}
    mask = found[f"{products}/{claims.PRIVATE}"]
    assert (mask["type"], mask["read_only"], mask["volume"]) == ("volume", True, {"nocopy": True})
    # It is empty for ever, because nobody can write it.
    others = [
        mount
        for each in SERVICES.values()
        for mount in mounts(each).values()
        if mount["source"] == mask["source"]
    ]
    assert all(mount["read_only"] for mount in others)
    assert set(found) == {products, f"{products}/{claims.PRIVATE}", "/run/secrets"}


def test_the_products_are_one_file_system_for_the_provisioner() -> None:
    assert [target for target in mounts(SERVICE) if target.startswith("/products")] == ["/products"]


def test_only_the_editors_the_provisioner_and_init_see_products() -> None:
    seen = {
        name
        for name, each in SERVICES.items()
        if any(mount["source"].startswith("./products") for mount in mounts(each).values())
    }
    assert seen == {*SHARED_EDITORS, "provisioner", "init"}


# one editor a product


@pytest.mark.parametrize("name", ISOLATED_EDITORS)
def test_an_isolated_editor_sees_its_product_alone(name: str) -> None:
    product = name.removeprefix("coder-")
    each = ISOLATED_EDITORS[name]
    folder = f"{SERVICE['environment']['PROV_WORKSPACE_ROOT']}/{product}"
    assert mounts(each) == {
        folder: {
            "type": "bind",
            "source": f"./products/{product}",
            "target": folder,
            # Docker must not make it: the provisioner swaps a workspace in whole.
            "bind": {"create_host_path": False},
        }
    }
    assert each["command"] == [folder]
    assert each["image"] == SERVICES["coder"]["image"]
    # Nothing of it is shared but the network: a password of its own, no role in PostgreSQL.
    assert set(each["environment"]) == {"PASSWORD"}
    assert re.fullmatch(
        rf"\$\{{{product.upper()}_PASSWORD:\?.*\}}", each["environment"]["PASSWORD"]
    )


def test_isolated_editors_have_ports_of_their_own_and_start_when_named() -> None:
    ports = [pair for each in ISOLATED_EDITORS.values() for pair in published(each)]
    outside = [port for port, _ in ports]
    assert len(ISOLATED_EDITORS) == len(set(outside)) == 2
    assert {inside for _, inside in ports} == {CODER_IMAGE.last("EXPOSE")}
    taken = {port for each in SERVICES.values() for port, _ in published(each)}
    assert taken & set(outside) == set()
    assert {profile for each in ISOLATED.values() for profile in each["profiles"]} == {
        "shared",
        "isolated",
    }
    assert {name for name, each in ISOLATED.items() if each["profiles"] == ["shared"]} == set(
        SHARED_EDITORS
    )


# what is written down


PAGE = (DEMO / "README.md").read_text(encoding="utf-8")


def test_the_demos_page_names_every_address_and_login() -> None:
    for each in (*SERVICES.values(), *ISOLATED_EDITORS.values()):
        for outside, _ in published(each):
            assert f"http://localhost:{outside}" in PAGE
    for login in ("`coder`", "`rstudio` / `rstudio`", "`minioadmin` / `minioadmin`"):
        assert login in PAGE


def test_the_demos_page_names_only_what_there_is() -> None:
    services = {*SERVICES, *ISOLATED_EDITORS}
    named = re.findall(r"docker compose (?:exec|logs|restart) (?:-T )?([a-z-]+)", PAGE)
    assert named
    assert set(named) <= services
    commands = re.findall(r"exec provisioner provisioner ([a-z]+)(?: [a-z<>]+)?( --[a-z-]+)?", PAGE)
    for command, option in commands:
        known = {each for one in cli.cli.commands[command].params for each in one.opts}
        assert {option.strip()} - {""} <= known
    conditions = set(re.findall(r"^\| `([A-Z][a-z]+[A-Z][A-Za-z]+)` \|", PAGE, re.MULTILINE))
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "provisioner").rglob("*.py")
    )
    assert conditions >= {"NotOurs", "MassDeletion"}
    assert {name for name in conditions if name not in sources} == set()
    variables = set(re.findall(r"\b(?:PROV|S3|WEBHOOK)_[A-Z0-9_]+", PAGE))
    portals = {"WEBHOOK_URL", "WEBHOOK_V2_URL"}
    assert variables - dockerfiles.KNOWN == portals


def test_the_demos_page_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
    files = set(re.findall(r"`(compose[a-z.]*\.yaml)`", PAGE))
    assert files == {path.name for path in DEMO.glob("compose*.yaml")}
