"""Every setting: its forms, its limits, and what is said when it is wrong."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner import errors, model, settings
from provisioner.domain import dotenv
from provisioner.settings import documents, rules, types

KEY = "A" * 43 + "="
OTHER_KEY = "b-_9" * 10 + "abc="
REQUIRED = {"PROV_DPP_API_URL": "http://portal:8080", "PROV_WEBHOOK_SECRET": "s3cr3t"}

_TABLE = """
PROV_DPP_API_URL PROV_DPP_API_KEY PROV_DPP_CLIENT_ID PROV_DPP_CLIENT_SECRET PROV_DPP_TOKEN_URL
PROV_DPP_SCOPE PROV_WEBHOOK_SECRET PROV_WEBHOOK_BASIC_AUTH PROV_ALLOW_UNSIGNED PROV_TEMPLATE_PATH
PROV_TEMPLATE_OUTPUT_PATH PROV_TEMPLATE_UPDATES PROV_TEMPLATE_CONTEXT PROV_WORKSPACE_ROOT
PROV_LOCAL_ROOT S3_LOCAL_ENDPOINT PROV_WORKSPACE_UID PROV_WORKSPACE_GID
PROV_GIT_REMOTE PROV_GIT_BASIC_AUTH PROV_DUCKDB_EXTENSION_DIRECTORY S3_ENDPOINT
S3_ACCESS_KEY S3_SECRET_KEY S3_PUBLIC_ENDPOINT IAM_ENDPOINT S3_BUCKET S3_REGION S3_CREATE_BUCKET
PROV_ISSUER PROV_GRANT_SCOPE PROV_ALLOWED_LOCATIONS PROV_ROLE_NAME PROV_ROLE_TRUST_POLICY
PROV_ROTATION_DAYS PROV_ROTATION_GRACE_SECONDS PROV_ROTATE_ON_GRANT PROV_READY_LIFECYCLE
PROV_ON_DELETE PROV_PURGE_DELAY_SECONDS PROV_DATABASE_URL PROV_SEALING_KEYS PROV_WORKERS
PROV_RESYNC_SECONDS PROV_VERIFY_HOURS PROV_PORTS_SECONDS PROV_HISTORY_DAYS PROV_MODE
PROV_SHUTDOWN_SECONDS PROV_ADMIN_TOKEN PROV_ADMIN_READ_TOKEN PROV_LOG_LEVEL PROV_LOG_FORMAT
PROV_HOST PROV_PORT
"""
ORDER = _TABLE.split()

TRUST = '{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}], "Version": "2012-10-17"}'

SAMPLES = {
    "PROV_DPP_API_URL": "https://portal.example/base",
    "PROV_DPP_API_KEY": "portal-key",
    "PROV_DPP_CLIENT_ID": "client",
    "PROV_DPP_CLIENT_SECRET": "client-secret",
    "PROV_DPP_TOKEN_URL": "https://id.example/token",
    "PROV_DPP_SCOPE": "portal/read",
    "PROV_WEBHOOK_SECRET": "one,two",
    "PROV_WEBHOOK_BASIC_AUTH": "user:pass:word",
    "PROV_ALLOW_UNSIGNED": "true",
    "PROV_TEMPLATE_UPDATES": "manual",
    "PROV_TEMPLATE_CONTEXT": "engine=ducklake, state_store=postgres",
    "PROV_TEMPLATE_OUTPUT_PATH": "/srv/products",
    "PROV_WORKSPACE_ROOT": "/workspace/products",
    "PROV_LOCAL_ROOT": "/home/ann/products",
    "S3_LOCAL_ENDPOINT": "http://localhost:9000",
    "PROV_WORKSPACE_UID": "1000",
    "PROV_WORKSPACE_GID": "1000",
    "PROV_GIT_REMOTE": "https://git.example/teams/{namespace}.git",
    "PROV_GIT_BASIC_AUTH": "pusher:pass:word",
    "PROV_DUCKDB_EXTENSION_DIRECTORY": "/opt/extensions",
    "S3_ENDPOINT": "http://rustfs:9000",
    "S3_ACCESS_KEY": "minioadmin",
    "S3_SECRET_KEY": "minioadmin-secret",
    "S3_PUBLIC_ENDPOINT": "http://s3.example:9000",
    "IAM_ENDPOINT": "http://iam.example:9000",
    "S3_BUCKET": "lake",
    "S3_REGION": "eu-west-1",
    "S3_CREATE_BUCKET": "false",
    "PROV_ISSUER": "iam",
    "PROV_GRANT_SCOPE": "product",
    "PROV_ALLOWED_LOCATIONS": "lake/raw/,other/*/open/",
    "PROV_ROLE_NAME": "portal-{namespace}",
    "PROV_ROLE_TRUST_POLICY": TRUST,
    "PROV_ROTATION_DAYS": "7",
    "PROV_ROTATION_GRACE_SECONDS": "0",
    "PROV_ROTATE_ON_GRANT": "off",
    "PROV_READY_LIFECYCLE": "In use",
    "PROV_ON_DELETE": "purge",
    "PROV_PURGE_DELAY_SECONDS": "60",
    "PROV_DATABASE_URL": "postgresql+psycopg://u:p@db/provisioner",
    "PROV_SEALING_KEYS": KEY,
    "PROV_WORKERS": "8",
    "PROV_RESYNC_SECONDS": "1",
    "PROV_VERIFY_HOURS": "1",
    "PROV_PORTS_SECONDS": "0",
    "PROV_HISTORY_DAYS": "1",
    "PROV_MODE": "observe",
    "PROV_SHUTDOWN_SECONDS": "1",
    "PROV_ADMIN_TOKEN": "admin-token",
    "PROV_ADMIN_READ_TOKEN": "read-one,read-two",
    "PROV_LOG_LEVEL": "debug",
    "PROV_LOG_FORMAT": "json",
    "PROV_HOST": "0.0.0.0",
    "PROV_PORT": "9999",
}


def machine(**changes: Any) -> rules.Machine:
    usual = rules.Machine(
        uid=1000,
        groups=frozenset({1000}),
        gives_files_away=False,
        opens_any_folder=False,
        shared_extensions=Path("/nowhere/extensions"),
    )
    return dataclasses.replace(usual, **changes)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "cookiecutter.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def load(tmp_path: Path, template: Path) -> Any:
    def load(serving: bool = True, on: Any = None, **environ: str) -> settings.Settings:
        base = {**REQUIRED, "PROV_TEMPLATE_PATH": str(template), **environ}
        given = {name: value for name, value in base.items() if value != "UNSET"}
        return settings.load(given, cwd=tmp_path, serving=serving, machine=on or machine())

    return load


@pytest.fixture
def problems(load: Any) -> Any:
    def problems(**changes: Any) -> tuple[str, ...]:
        with pytest.raises(errors.ConfigurationError) as caught:
            load(**changes)
        return caught.value.problems

    return problems


def test_the_table_has_every_setting_in_the_order_of_the_documentation() -> None:
    assert [each.name for each in settings.SETTINGS] == ORDER


def test_every_setting_is_an_attribute_in_the_same_order() -> None:
    attributes = [each.name for each in dataclasses.fields(settings.Settings)]
    assert attributes == [s.attribute for s in settings.SETTINGS] + ["sealing_key_file", "unknown"]


def test_defaults_are_those_of_the_documentation(load: Any, tmp_path: Path) -> None:
    loaded = load()
    assert {
        name: getattr(loaded, name)
        for name in vars(loaded)
        if name not in {"dpp_api_url", "webhook_secret", "template_path"}
    } == {
        "dpp_api_key": None,
        "dpp_client_id": None,
        "dpp_client_secret": None,
        "dpp_token_url": None,
        "dpp_scope": None,
        "webhook_basic_auth": None,
        "allow_unsigned": False,
        "template_output_path": tmp_path / "demo/products",
        "template_updates": "auto",
        "template_context": (),
        "workspace_root": tmp_path / "demo/products",
        "local_root": None,
        "s3_local_endpoint": None,
        "workspace_uid": None,
        "workspace_gid": None,
        "git_remote": None,
        "git_basic_auth": None,
        "duckdb_extension_directory": tmp_path / "demo/products/.provisioner/duckdb",
        "s3_endpoint": None,
        "s3_access_key": None,
        "s3_secret_key": None,
        "s3_public_endpoint": "https://s3.us-east-1.amazonaws.com",
        "iam_endpoint": None,
        "s3_bucket": "data-products",
        "s3_region": "us-east-1",
        "s3_create_bucket": True,
        "issuer": "auto",
        "grant_scope": "output_port",
        "allowed_locations": (),
        "role_name": None,
        "role_trust_policy": None,
        "rotation_days": 30,
        "rotation_grace_seconds": 86400,
        "rotate_on_grant": True,
        "ready_lifecycle": "Ready",
        "on_delete": "archive",
        "purge_delay_seconds": 86400,
        "database_url": f"sqlite:///{tmp_path}/var/provisioner.db",
        "sealing_keys": (),
        "workers": 4,
        "resync_seconds": 180,
        "verify_hours": 24,
        "ports_seconds": 300,
        "history_days": 30,
        "mode": "apply",
        "shutdown_seconds": 10,
        "admin_token": (),
        "admin_read_token": (),
        "log_level": "info",
        "log_format": "auto",
        "host": "127.0.0.1",
        "port": 8090,
        "sealing_key_file": tmp_path / "secrets/sealing.key",
        "unknown": (),
    }


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_setting_may_come_from_a_file(name: str, load: Any, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(SAMPLES[name] + "\n", encoding="utf-8")
    companions = dict.fromkeys([name], "UNSET")
    if name.startswith("PROV_DPP_") and name not in {"PROV_DPP_API_URL", "PROV_DPP_API_KEY"}:
        oauth = ("PROV_DPP_CLIENT_ID", "PROV_DPP_CLIENT_SECRET", "PROV_DPP_TOKEN_URL")
        companions |= {each: SAMPLES[each] for each in oauth if each != name}
    if name == "PROV_ROLE_NAME":
        companions |= {"PROV_ROLE_TRUST_POLICY": TRUST}
    if name.endswith("_KEY") and name.startswith("S3_"):
        companions |= {k: SAMPLES[k] for k in ("S3_ACCESS_KEY", "S3_SECRET_KEY") if k != name}
    attribute = name.removeprefix("PROV_").lower()

    from_file = load(**companions, **{f"{name}_FILE": "value"})
    plain = load(**{**companions, name: SAMPLES[name]})

    assert getattr(from_file, attribute) == getattr(plain, attribute)
    assert from_file.unknown == ()


def test_samples_and_a_template_cover_every_setting() -> None:
    assert {*SAMPLES, "PROV_TEMPLATE_PATH"} == set(ORDER)


@pytest.mark.parametrize(
    ("content", "secret"),
    [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (" abc ", " abc "), ("a=b c", "a=b c")],
)
def test_one_trailing_line_end_of_a_file_is_dropped(
    content: str, secret: str, load: Any, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    assert load(PROV_DPP_API_KEY_FILE=str(tmp_path / "key")).dpp_api_key == secret


def test_a_setting_and_its_file_are_never_both_given(problems: Any, tmp_path: Path) -> None:
    (tmp_path / "port").write_text("1234", encoding="utf-8")
    assert problems(PROV_PORT="1234", PROV_PORT_FILE="port") == (
        "PROV_PORT: expects either PROV_PORT or PROV_PORT_FILE, not both",
    )


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_cannot_be_used_is_named_by_its_setting_alone(
    content: bytes | None, problems: Any, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "hidden-name").write_bytes(content)
    (line,) = problems(PROV_DPP_API_KEY_FILE=str(tmp_path / "hidden-name"))
    assert line.startswith("PROV_DPP_API_KEY_FILE: expects the path of a")
    assert "hidden-name" not in line


def test_a_folder_is_no_file_of_a_setting(problems: Any, tmp_path: Path) -> None:
    (line,) = problems(PROV_SEALING_KEYS_FILE=str(tmp_path))
    assert line.startswith("PROV_SEALING_KEYS_FILE: expects")


@pytest.mark.parametrize("form", ["WEBHOOK_SECRET", "WEBHOOK_SECRET_FILE"])
def test_the_portals_own_name_of_the_secret_is_understood(
    form: str, load: Any, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("demo-secret-key\n", encoding="utf-8")
    value = "secret" if form.endswith("_FILE") else "demo-secret-key"
    loaded = load(PROV_WEBHOOK_SECRET="UNSET", **{form: value})
    assert loaded.webhook_secret == ("demo-secret-key",)


def test_our_own_name_goes_before_the_alias(load: Any) -> None:
    assert load(PROV_WEBHOOK_SECRET="ours", WEBHOOK_SECRET="theirs").webhook_secret == ("ours",)


def test_a_wrong_alias_is_named_as_it_was_given(problems: Any) -> None:
    (line,) = problems(PROV_WEBHOOK_SECRET="UNSET", WEBHOOK_SECRET="whsec_no base64")
    assert line.startswith("WEBHOOK_SECRET: expects")


@pytest.mark.parametrize("name", [n for n in ORDER if n != "PROV_READY_LIFECYCLE"])
def test_empty_is_the_same_as_unset(name: str, load: Any, problems: Any) -> None:
    if name in REQUIRED:
        (line,) = problems(**{name: ""})
        assert line.startswith(name)
    elif name != "PROV_TEMPLATE_PATH":
        assert vars(load(**{name: ""})) == vars(load())


@pytest.mark.parametrize("form", ["PROV_READY_LIFECYCLE", "PROV_READY_LIFECYCLE_FILE"])
def test_an_empty_lifecycle_leaves_the_portals_alone(form: str, load: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("", encoding="utf-8")
    value = "empty" if form.endswith("_FILE") else ""
    assert load(**{form: value}).ready_lifecycle == ""


def test_nothing_set_names_all_that_is_required(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        settings.load({}, cwd=tmp_path, machine=machine())
    lines = [line for line in caught.value.problems if "TEMPLATE_PATH" not in line]
    assert lines == [
        "PROV_DPP_API_URL: missing, expects an http or https URL without user, query or fragment",
        "PROV_WEBHOOK_SECRET: expects a secret, unless PROV_WEBHOOK_BASIC_AUTH is set"
        " or PROV_ALLOW_UNSIGNED is true",
    ]


BAD = "§ never-shown \x00 ${"


def test_every_problem_is_named_in_the_order_of_the_table_without_any_value(
    problems: Any,
) -> None:
    wrong = dict.fromkeys(reversed(ORDER), BAD) | {"PROV_TEMPLATE_PATH": "/nowhere/never-shown"}
    lines = problems(**wrong)
    assert [line.partition(":")[0] for line in lines] == ORDER
    assert not [line for line in lines if "never-shown" in line or "\n" in line]
    assert all(" expects " in line for line in lines)


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "On", " true "])
def test_words_for_yes(word: str, load: Any) -> None:
    assert load(PROV_ALLOW_UNSIGNED=word).allow_unsigned is True


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "OFF"])
def test_words_for_no(word: str, load: Any) -> None:
    assert load(S3_CREATE_BUCKET=word).s3_create_bucket is False


@pytest.mark.parametrize("word", ["maybe", "2", "tru", "y", "truefalse"])
def test_other_words_are_no_answer(word: str, problems: Any) -> None:
    assert problems(PROV_ROTATE_ON_GRANT=word) == ("PROV_ROTATE_ON_GRANT: expects true or false",)


@pytest.mark.parametrize(
    ("name", "value", "low", "high"),
    [
        ("PROV_PORT", "0", 1, 65535),
        ("PROV_PORT", "65536", 1, 65535),
        ("PROV_PORT", "80.0", 1, 65535),
        ("PROV_PORT", "+80", 1, 65535),
        ("PROV_PORT", "0x50", 1, 65535),
        ("PROV_PORT", "8_0", 1, 65535),
        ("PROV_PORT", "٨٠", 1, 65535),
        ("PROV_PORT", "9" * 5000, 1, 65535),
        ("PROV_WORKERS", "0", 1, 64),
        ("PROV_WORKERS", "-1", 1, 64),
        ("PROV_ROTATION_DAYS", "0", 1, 3650),
        ("PROV_RESYNC_SECONDS", "0", 1, 604800),
        ("PROV_WORKSPACE_UID", "4294967295", 0, 4294967294),
    ],
)
def test_numbers_have_limits(name: str, value: str, low: int, high: int, problems: Any) -> None:
    expected = f"{name}: expects a whole number from {low} to {high}"
    assert problems(**{name: value}) == (expected,)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("PROV_TEMPLATE_UPDATES", "auto, manual"),
        ("PROV_ISSUER", "auto, iam, rustfs, minio, rgw"),
        ("PROV_GRANT_SCOPE", "output_port, product"),
        ("PROV_ON_DELETE", "archive, purge"),
        ("PROV_MODE", "apply, observe"),
        ("PROV_LOG_LEVEL", "debug, info, warning, error"),
        ("PROV_LOG_FORMAT", "auto, text, json"),
    ],
)
def test_choices_are_listed_and_any_case_is_taken(
    name: str, choices: str, load: Any, problems: Any
) -> None:
    assert problems(**{name: "other"}) == (f"{name}: expects one of {choices}",)
    last = choices.rpartition(" ")[2]
    assert getattr(load(**{name: last.upper()}), name.removeprefix("PROV_").lower()) == last


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://portal", "http://portal"),
        ("https://portal:8443/", "https://portal:8443"),
        (" HTTP://Portal.example/base/path/ ", "http://Portal.example/base/path"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[::1]", "http://[::1]"),
        ("http://10.0.0.1:80/a%20b", "http://10.0.0.1:80/a%20b"),
    ],
)
def test_urls_that_are_taken(given: str, kept: str, load: Any) -> None:
    assert load(PROV_DPP_API_URL=given).dpp_api_url == kept


@pytest.mark.parametrize(
    "given",
    [
        "portal",
        "portal:8080",
        "ftp://portal",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user:hunter2@portal",
        "http://user@portal",
        "http://portal:",
        "http://portal:0",
        "http://portal:65536",
        "http://portal:80a",
        "http://portal/?q=1",
        "http://portal?",
        "http://portal/#part",
        "http://portal/#",
        "http://portal x",
        "http://por\ttal",
        "http://portal/\n",
        "http://portal\\@evil",
        "http://[::1",
        "http://pörtal",
        "http://portal/{x}",
        "http://-portal",
    ],
)
def test_urls_that_are_refused(given: str, problems: Any) -> None:
    text = f"{given}x" if given.endswith("\n") else given
    (line,) = problems(PROV_DPP_API_URL=text)
    assert line == (
        "PROV_DPP_API_URL: expects an http or https URL without user, query or fragment"
    )


@pytest.mark.parametrize(
    "name", ["S3_ENDPOINT", "S3_PUBLIC_ENDPOINT", "S3_LOCAL_ENDPOINT", "IAM_ENDPOINT"]
)
def test_endpoints_hold_no_path(name: str, load: Any, problems: Any) -> None:
    assert getattr(load(**{name: "http://s3:9000/"}), name.lower()) == "http://s3:9000"
    (line,) = problems(**{name: "http://s3:9000/path"})
    assert line.startswith(f"{name}: expects an http or https URL of a host and port")


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ("S3_ENDPOINT", "S3_PUBLIC_ENDPOINT"),
        ("S3_PUBLIC_ENDPOINT", "S3_PUBLIC_ENDPOINT"),
        ("S3_LOCAL_ENDPOINT", "S3_LOCAL_ENDPOINT"),
    ],
)
def test_endpoints_of_workspaces_hold_no_brackets(given: str, refused: str, problems: Any) -> None:
    (line,) = problems(**{given: "http://[::1]:9000"})
    assert line == f"{refused}: expects a host name or IPv4 address: it goes into .env"


@pytest.mark.parametrize("character", [chr(code) for code in range(32, 127)])
def test_paths_take_exactly_what_dotenv_takes(character: str) -> None:
    path = f"/a{character}b"
    place = dotenv.Place(
        endpoint="http://s3:9000", workspace_dir=path, extension_directory="/opt/x"
    )
    key = model.AccessKey("AKIAEXAMPLE", "secret")
    assert _taken(lambda: types.plain_path(path), types.Unfit) == _taken(
        lambda: dotenv.secret_files(bucket="b", prefix="p/", region="r", key=key, place=place),
        ValueError,
    )


def _taken(attempt: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        attempt()
    except refusal:
        return False
    return True


def test_a_token_endpoint_may_have_a_query(load: Any) -> None:
    loaded = load(
        PROV_DPP_CLIENT_ID="id",
        PROV_DPP_CLIENT_SECRET="secret",
        PROV_DPP_TOKEN_URL="https://id.example/token?p=policy",
    )
    assert loaded.dpp_token_url == "https://id.example/token?p=policy"


@pytest.mark.parametrize("given", ["::", "::1", "localhost", "0.0.0.0", "my_host.example"])
def test_hosts_that_are_taken(given: str, load: Any) -> None:
    assert load(PROV_HOST=given).host == given


@pytest.mark.parametrize("given", ["http://x", "a b", "x:80", "-x", "x/y"])
def test_hosts_that_are_refused(given: str, problems: Any) -> None:
    assert problems(PROV_HOST=given) == ("PROV_HOST: expects an IP address or host name",)


@pytest.mark.parametrize(
    ("given", "secrets"),
    [
        ("one", ("one",)),
        ("one,two", ("one", "two")),
        ("one\ntwo\n", ("one", "two")),
        (" one , , two ", ("one", "two")),
        ("plain,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None),
        ("sécret", ("sécret",)),
    ],
)
def test_webhook_secrets_are_a_list(given: str, secrets: tuple[str, ...], load: Any) -> None:
    expected = secrets or ("plain", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert load(PROV_WEBHOOK_SECRET=given).webhook_secret == expected


@pytest.mark.parametrize("given", ["whsec_", "whsec_a", "plain,whsec_%%%%", ",", "a\x01b"])
def test_webhook_secrets_that_could_never_match_are_refused(given: str, problems: Any) -> None:
    (line,) = problems(PROV_WEBHOOK_SECRET=given)
    assert line.startswith("PROV_WEBHOOK_SECRET: expects secrets")


@pytest.mark.parametrize("given", ["user", "user:", ":password", ":", "us\ner:pw"])
def test_basic_auth_needs_both_halves(given: str, problems: Any) -> None:
    assert problems(PROV_WEBHOOK_BASIC_AUTH=given) == (
        "PROV_WEBHOOK_BASIC_AUTH: expects user:password",
    )


def test_basic_auth_alone_is_a_proof(load: Any) -> None:
    loaded = load(PROV_WEBHOOK_SECRET="UNSET", PROV_WEBHOOK_BASIC_AUTH="user:pass")
    assert loaded.webhook_basic_auth == "user:pass"


def test_without_any_proof_the_service_does_not_start(problems: Any) -> None:
    (line,) = problems(PROV_WEBHOOK_SECRET="UNSET", PROV_ALLOW_UNSIGNED="false")
    assert line.startswith("PROV_WEBHOOK_SECRET: expects a secret, unless")


def test_unsigned_deliveries_are_taken_where_that_is_asked_for(load: Any) -> None:
    loaded = load(PROV_WEBHOOK_SECRET="UNSET", PROV_ALLOW_UNSIGNED="true")
    assert (loaded.webhook_secret, loaded.allow_unsigned) == ((), True)


def test_a_command_that_receives_nothing_needs_no_proof(load: Any) -> None:
    assert load(serving=False, PROV_WEBHOOK_SECRET="UNSET").webhook_secret == ()


def test_a_wrong_proof_is_named_once(problems: Any) -> None:
    lines = problems(PROV_WEBHOOK_SECRET="UNSET", PROV_WEBHOOK_BASIC_AUTH="user")
    assert lines == ("PROV_WEBHOOK_BASIC_AUTH: expects user:password",)


@pytest.mark.parametrize("missing", ["CLIENT_ID", "CLIENT_SECRET", "TOKEN_URL"])
def test_oauth_is_complete_or_absent(missing: str, problems: Any) -> None:
    names = ("PROV_DPP_CLIENT_ID", "PROV_DPP_CLIENT_SECRET", "PROV_DPP_TOKEN_URL")
    given = {name: SAMPLES[name] for name in names if not name.endswith(missing)}
    (line,) = problems(**given)
    assert line.startswith(f"PROV_DPP_{missing}: expects to be set, as PROV_DPP_")


def test_a_scope_alone_asks_for_the_rest(problems: Any) -> None:
    lines = problems(PROV_DPP_SCOPE="read")
    assert [line.partition(":")[0] for line in lines] == [
        "PROV_DPP_CLIENT_ID",
        "PROV_DPP_CLIENT_SECRET",
        "PROV_DPP_TOKEN_URL",
    ]


def test_an_api_key_and_oauth_exclude_each_other(problems: Any) -> None:
    names = ("PROV_DPP_API_KEY", "PROV_DPP_CLIENT_ID", "PROV_DPP_CLIENT_SECRET")
    given = {name: SAMPLES[name] for name in (*names, "PROV_DPP_TOKEN_URL")}
    assert problems(**given) == (
        "PROV_DPP_API_KEY: expects to be set alone, without PROV_DPP_CLIENT_ID",
    )


@pytest.mark.parametrize(
    ("given", "missing"), [("S3_ACCESS_KEY", "S3_SECRET_KEY"), ("S3_SECRET_KEY", "S3_ACCESS_KEY")]
)
def test_an_admin_key_has_two_halves(given: str, missing: str, problems: Any) -> None:
    assert problems(**{given: "half"}) == (f"{missing}: expects to be set, as {given} is",)


def test_the_endpoints_of_workspaces_and_iam_follow_the_engine(load: Any) -> None:
    loaded = load(S3_ENDPOINT="http://s3:9000")
    assert (loaded.s3_public_endpoint, loaded.iam_endpoint) == ("http://s3:9000",) * 2


def test_without_an_engine_workspaces_use_the_regions_endpoint(load: Any) -> None:
    loaded = load(S3_REGION="eu-west-1")
    assert loaded.s3_public_endpoint == "https://s3.eu-west-1.amazonaws.com"
    assert loaded.iam_endpoint is None


@pytest.mark.parametrize("given", ["Lake", "la", "-lake", "lake-", "la..ke", "la/ke", "l" * 64])
def test_buckets_have_bucket_names(given: str, problems: Any) -> None:
    (line,) = problems(S3_BUCKET=given)
    assert line.startswith("S3_BUCKET: expects a bucket name")


@pytest.mark.parametrize("given", ["lake/raw/", "lake/raw/*/,other-1/x=1/", "lake/r?w/a_b/"])
def test_locations_that_are_taken(given: str, load: Any) -> None:
    assert load(PROV_ALLOWED_LOCATIONS=given).allowed_locations == tuple(given.split(","))


@pytest.mark.parametrize(
    "given",
    [
        "lake/raw",
        "lake/",
        "*/raw/",
        "la?e/raw/",
        "lake/../raw/",
        "lake//",
        "s3://lake/raw/",
        "lake/.x/",
    ],
)
def test_locations_that_are_refused(given: str, problems: Any) -> None:
    (line,) = problems(PROV_ALLOWED_LOCATIONS=f"good/one/,{given}")
    assert line.startswith("PROV_ALLOWED_LOCATIONS: expects bucket/prefix/ patterns")


@pytest.mark.parametrize("given", ["lake/*/", "lake/r?w/x/", "other/x/,lake/team-*/open/"])
def test_in_our_own_bucket_the_first_folder_is_named(given: str, load: Any, problems: Any) -> None:
    (line,) = problems(S3_BUCKET="lake", PROV_ALLOWED_LOCATIONS=given)
    assert line == "PROV_ALLOWED_LOCATIONS: expects no wildcard in the first folder of S3_BUCKET"
    assert load(S3_BUCKET="other-lake", PROV_ALLOWED_LOCATIONS=given).allowed_locations
    assert load(S3_BUCKET="lake", PROV_ALLOWED_LOCATIONS="lake/raw/*/").allowed_locations


@pytest.mark.parametrize("given", ["role", "r-{name}", "{namespace}{namespace}", "r {namespace}"])
def test_a_role_name_holds_the_namespace_once(given: str, problems: Any) -> None:
    (line,) = problems(PROV_ROLE_NAME=given, PROV_ROLE_TRUST_POLICY=TRUST)
    assert line.startswith("PROV_ROLE_NAME: expects a role name with {namespace}")


@pytest.mark.parametrize(
    "given",
    [
        "arn:aws:iam::123456789012:root",
        "[]",
        "null",
        "{}",
        '{"Statement": []}',
        '{"Statement": [{}]}',
        '{"Statement": ["x"]}',
        '{"Statement": "x"}',
        "[" * 5000,
        f'{{"Statement": {"9" * 5000}}}',
    ],
    ids=range(10),
)
def test_a_trust_policy_is_an_object_with_a_statement(given: str, problems: Any) -> None:
    (line,) = problems(PROV_ROLE_NAME="{namespace}", PROV_ROLE_TRUST_POLICY=given)
    assert line == "PROV_ROLE_TRUST_POLICY: expects a JSON object with a Statement"


def test_a_trust_policy_is_kept_compact(load: Any) -> None:
    loaded = load(PROV_ROLE_NAME="{namespace}", PROV_ROLE_TRUST_POLICY=f"\n {TRUST}\n")
    assert loaded.role_trust_policy == (
        '{"Statement":[{"Action":"sts:AssumeRole","Effect":"Allow"}],"Version":"2012-10-17"}'
    )


def test_roles_need_somebody_who_may_assume_them(problems: Any) -> None:
    (line,) = problems(PROV_ROLE_NAME="{namespace}")
    assert line == "PROV_ROLE_TRUST_POLICY: expects to be set, as PROV_ROLE_NAME is"


@pytest.mark.parametrize(
    "given",
    [
        "https://git.example/{namespace}.git",
        "http://127.0.0.1:8080/teams/{namespace}",
        "ssh://git@git.example/~teams/{namespace}.git",
        "file:///srv/git/{namespace}.git",
    ],
)
def test_a_git_remote_is_a_url_with_the_namespace_in_it(given: str, load: Any) -> None:
    assert load(PROV_GIT_REMOTE=given).git_remote == given


@pytest.mark.parametrize(
    "given",
    [
        "https://git.example/one.git",
        "https://git.example/{namespace}/{namespace}",
        "https://git.example/{project}/{namespace}",
        "https://user:secret@git.example/{namespace}",
        "https://token@git.example/{namespace}",
        "https://git.example/../{namespace}",
        "ext::sh -c id {namespace}",
        "--upload-pack=id{namespace}",
        "git@git.example:{namespace}",
        "https://git.example/{namespace} x",
    ],
)
def test_what_is_no_plain_git_remote_is_refused(given: str, problems: Any) -> None:
    (line,) = problems(PROV_GIT_REMOTE=given)
    assert line.startswith("PROV_GIT_REMOTE: expects an https, http, ssh or file URL")
    assert "secret" not in line


def test_a_git_remote_needs_git(problems: Any) -> None:
    (line,) = problems(PROV_GIT_REMOTE="https://git.example/{namespace}", on=machine(git=False))
    assert line == "PROV_GIT_REMOTE: expects the program git on this machine"


@pytest.mark.parametrize("issuer", ["rustfs", "minio", "rgw"])
def test_only_iam_keeps_roles(issuer: str, problems: Any) -> None:
    (line,) = problems(
        PROV_ROLE_NAME="{namespace}", PROV_ROLE_TRUST_POLICY=TRUST, PROV_ISSUER=issuer
    )
    assert line == "PROV_ROLE_NAME: expects PROV_ISSUER to be iam, or auto that finds it"


@pytest.mark.parametrize(
    "given",
    [
        f"{KEY},{OTHER_KEY}",
        f"# new\n{KEY}\n\n# old\n{OTHER_KEY}\n",
        f"  {KEY}  \n #{KEY}\n,{OTHER_KEY},",
    ],
)
def test_sealing_keys_are_a_list_with_comments(given: str, load: Any) -> None:
    assert load(PROV_SEALING_KEYS=given).sealing_keys == (KEY, OTHER_KEY)


def test_the_file_of_sealing_keys_is_known_unless_they_are_set_as_text(
    load: Any, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n", encoding="utf-8")
    named = load(PROV_SEALING_KEYS_FILE="keys")
    assert (named.sealing_keys, named.sealing_key_file) == ((KEY,), tmp_path / "keys")
    text = load(PROV_SEALING_KEYS=KEY)
    assert (text.sealing_keys, text.sealing_key_file) == ((KEY,), None)


@pytest.mark.parametrize(
    "given",
    [
        "short",
        KEY + "=",
        KEY + OTHER_KEY,
        f"{KEY} {OTHER_KEY}",
        KEY[:-1],
        "A" * 42 + "+=",
        f"{KEY},bad",
        "# only a comment",
        ",",
    ],
)
def test_sealing_keys_have_exactly_44_characters(given: str, problems: Any) -> None:
    (line,) = problems(PROV_SEALING_KEYS=given)
    assert line.startswith("PROV_SEALING_KEYS: expects Fernet keys of exactly 44")


@pytest.mark.parametrize("given", ["two words", "tökén", "a\x7fb", ","])
def test_tokens_fit_into_a_header(given: str, problems: Any) -> None:
    (line,) = problems(PROV_ADMIN_TOKEN=given)
    assert line.startswith("PROV_ADMIN_TOKEN: expects tokens")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("sqlite:///state.db", "sqlite:///{cwd}/state.db"),
        ("sqlite:////srv/../srv/state.db", "sqlite:////srv/state.db"),
        ("postgresql+psycopg://u:p@h:5432/db?sslmode=require", None),
    ],
)
def test_stores_that_are_taken(given: str, kept: str | None, load: Any, tmp_path: Path) -> None:
    expected = (kept or given).format(cwd=tmp_path)
    assert load(PROV_DATABASE_URL=given).database_url == expected


@pytest.mark.parametrize(
    "given",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "postgresql://u:p@h/db",
        "mysql://u:p@h/db",
        "provisioner.db",
        "postgresql+psycopg://u:p@h/d b",
    ],
)
def test_stores_that_are_refused(given: str, problems: Any) -> None:
    (line,) = problems(PROV_DATABASE_URL=given)
    assert line.startswith("PROV_DATABASE_URL: expects sqlite:///")


def test_relative_paths_become_absolute_at_the_start(load: Any, tmp_path: Path) -> None:
    loaded = load(
        PROV_TEMPLATE_PATH="./x/../template",
        PROV_TEMPLATE_OUTPUT_PATH="out",
        PROV_WORKSPACE_ROOT="seen",
        PROV_DUCKDB_EXTENSION_DIRECTORY="ext",
    )
    assert loaded.template_path == tmp_path / "template"
    assert loaded.template_output_path == tmp_path / "out"
    assert loaded.workspace_root == tmp_path / "seen"
    assert loaded.duckdb_extension_directory == tmp_path / "ext"


def test_a_template_folder_holds_a_cookiecutter_file(problems: Any, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    assert problems(PROV_TEMPLATE_PATH="bare") == (
        "PROV_TEMPLATE_PATH: expects a folder that holds cookiecutter.json",
    )


def test_without_a_setting_the_shipped_template_is_used() -> None:
    checkout = Path(__file__).resolve().parents[1]
    assert rules.shipped_template() == checkout / "templates" / "sqlmesh"


def test_a_file_cannot_be_the_output_folder(problems: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    (line,) = problems(PROV_TEMPLATE_OUTPUT_PATH="taken")
    assert line.startswith("PROV_TEMPLATE_OUTPUT_PATH: expects a folder")


@pytest.mark.parametrize("given", ["/with space", "/quote'", "/do$llar", "/hash#", "/back\\slash"])
@pytest.mark.parametrize(
    "name", ["PROV_WORKSPACE_ROOT", "PROV_LOCAL_ROOT", "PROV_DUCKDB_EXTENSION_DIRECTORY"]
)
def test_paths_that_go_into_dotenv_are_plain(name: str, given: str, problems: Any) -> None:
    (line,) = problems(**{name: given})
    assert line.startswith(f"{name}: expects a path of letters")


def test_an_output_folder_with_a_space_needs_a_plain_workspace_root(
    load: Any, problems: Any
) -> None:
    lines = problems(PROV_TEMPLATE_OUTPUT_PATH="/my products")
    assert [line.partition(":")[0] for line in lines] == [
        "PROV_WORKSPACE_ROOT",
        "PROV_DUCKDB_EXTENSION_DIRECTORY",
    ]
    loaded = load(
        PROV_TEMPLATE_OUTPUT_PATH="/my products",
        PROV_WORKSPACE_ROOT="/workspace/products",
        PROV_DUCKDB_EXTENSION_DIRECTORY="/opt/x",
    )
    assert loaded.workspace_root == Path("/workspace/products")


def test_an_empty_folder_for_shared_extensions_is_not_used(load: Any, tmp_path: Path) -> None:
    loaded = load(on=machine(shared_extensions=tmp_path))
    assert loaded.duckdb_extension_directory != tmp_path


def test_shared_extensions_are_used_where_they_are(load: Any, tmp_path: Path) -> None:
    (tmp_path / "httpfs.duckdb_extension").touch()
    loaded = load(on=machine(shared_extensions=tmp_path))
    assert loaded.duckdb_extension_directory == tmp_path
    assert not loaded.extensions_are_ours
    assert load().extensions_are_ours


@pytest.mark.parametrize(
    ("uid", "gid", "gives_away", "opens_any"),
    [("1000", "1000", False, False), ("5", "6", True, True), ("1000", "7", True, False)],
)
def test_owners_to_whom_files_can_be_given(
    uid: str, gid: str, gives_away: bool, opens_any: bool, load: Any
) -> None:
    on = machine(gives_files_away=gives_away, opens_any_folder=opens_any)
    loaded = load(on=on, PROV_WORKSPACE_UID=uid, PROV_WORKSPACE_GID=gid)
    assert (loaded.workspace_uid, loaded.workspace_gid) == (int(uid), int(gid))


@pytest.mark.parametrize("name", ["PROV_WORKSPACE_UID", "PROV_WORKSPACE_GID"])
def test_owners_to_whom_files_cannot_be_given(name: str, problems: Any) -> None:
    (line,) = problems(on=machine(opens_any_folder=True), **{name: "1001"})
    assert line.startswith(f"{name}: expects ")
    assert line.endswith("of this process, which lacks CAP_CHOWN")


def test_an_owner_whose_folders_cannot_be_opened(problems: Any) -> None:
    (line,) = problems(on=machine(gives_files_away=True), PROV_WORKSPACE_UID="1001")
    assert line.endswith("the uid of this process, which lacks CAP_DAC_OVERRIDE")


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ("CapEff:\t000001ffffffffff", True),
        ("CapEff:\t0000000000000001", True),
        ("CapEff:\t0000000000000002", False),
        ("CapEff:\t0", False),
    ],
)
def test_the_capability_is_read_from_the_kernel(line: str, held: bool, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tpython\n{line}\n", encoding="ascii")
    assert rules._has(rules._CAP_CHOWN, status) is held


def test_without_a_kernels_word_only_root_gives_files_away(tmp_path: Path) -> None:
    is_root = os.geteuid() == 0
    assert rules._has(rules._CAP_CHOWN, tmp_path / "missing") is is_root


def test_this_machine_is_described_by_its_process() -> None:
    found = rules.this_machine()
    assert (found.uid, os.getegid() in found.groups) == (os.geteuid(), True)


def test_what_may_not_be_looked_at_is_no_folder_and_is_taken(problems: Any) -> None:
    # A name too long for the file system raises like a folder that is closed to us, root or not.
    lines = problems(PROV_TEMPLATE_OUTPUT_PATH="/" + "x" * 300, PROV_TEMPLATE_PATH="y" * 300)
    assert [line.partition(":")[0] for line in lines] == [
        "PROV_TEMPLATE_PATH",
        "PROV_TEMPLATE_OUTPUT_PATH",
    ]


def test_typing_errors_are_named(load: Any) -> None:
    loaded = load(PROV_WORKER="4", PROV_PORT_FIEL="x", PROVIDER="x", S3_OTHER="x")
    assert loaded.unknown == ("PROV_PORT_FIEL", "PROV_WORKER")


def test_typing_errors_are_named_beside_what_is_missing(problems: Any) -> None:
    assert problems(PROV_DPP_API_URL="UNSET", PROV_DPP_API_ULR="https://portal.example")[-2:] == (
        "PROV_DPP_API_URL: missing, expects an http or https URL without user, query or fragment",
        "PROV_DPP_API_ULR: nothing reads a setting of this name",
    )


def test_no_secret_reaches_a_repr(load: Any) -> None:
    secrets = {
        "PROV_DPP_CLIENT_SECRET": "never-1",
        "PROV_DPP_CLIENT_ID": "id",
        "PROV_DPP_TOKEN_URL": "https://id.example",
        "PROV_WEBHOOK_SECRET": "never-2",
        "PROV_WEBHOOK_BASIC_AUTH": "never-3:never-4",
        "S3_ACCESS_KEY": "never-5",
        "S3_SECRET_KEY": "never-6",
        "PROV_DATABASE_URL": "postgresql+psycopg://u:never-7@h/db",
        "PROV_SEALING_KEYS": KEY,
        "PROV_ADMIN_TOKEN": "never-8",
        "PROV_ADMIN_READ_TOKEN": "never-9",
    }
    shown = repr(load(**secrets))
    assert "never-" not in shown
    assert KEY not in shown
    assert "port=8090" in shown


def test_choices_for_the_template_are_pairs_in_order(load: Any) -> None:
    given = "state_store=postgres,\nengine=ducklake,url=http://x:1/?a=b&c"
    assert load(PROV_TEMPLATE_CONTEXT=given).template_context == (
        ("engine", "ducklake"),
        ("state_store", "postgres"),
        ("url", "http://x:1/?a=b&c"),
    )


@pytest.mark.parametrize(
    "given",
    [
        "engine",
        "engine=",
        "=x",
        "_name=x",
        "Engine=x",
        "engine=a,engine=b",
        "engine={{x}}",
        "engine=[[x]]",
        "engine=a b",
        *(f"{key}=x" for key in sorted(documents.SERVICES_OWN)),
    ],
)
def test_choices_for_the_template_that_are_refused(given: str, problems: Any) -> None:
    (line,) = problems(PROV_TEMPLATE_CONTEXT=given)
    assert line.startswith("PROV_TEMPLATE_CONTEXT: expects key=value pairs")
    assert given not in line
