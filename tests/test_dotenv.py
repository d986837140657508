from __future__ import annotations

import configparser
import dataclasses
import json
import os
import shutil
import subprocess
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import dotenv as python_dotenv
import pytest

from provisioner import errors, model
from provisioner.domain import dotenv

_KEY = model.AccessKey("AKIA0123456789ABCDEF", "abc/DEF+" + "x" * 31 + "=")
_PLACE = dotenv.Place(
    endpoint="http://rustfs:9000",
    workspace_dir="/workspace/products/sales",
    extension_directory="/opt/duckdb/extensions",
)
_EXPECTED = {
    "S3_ENDPOINT": "http://rustfs:9000",
    "S3_BUCKET": "data-products",
    "S3_PREFIX": "sales/",
    "S3_ACCESS_KEY": _KEY.id,
    "S3_SECRET_KEY": _KEY.secret,
    "S3_REGION": "us-east-1",
    "WORKSPACE_DIR": "/workspace/products/sales",
    "DUCKDB_EXTENSION_DIRECTORY": "/opt/duckdb/extensions",
    "AWS_SHARED_CREDENTIALS_FILE": "/workspace/products/sales/.aws/credentials",
    "AWS_CONFIG_FILE": "/workspace/products/sales/.aws/config",
    "AWS_PROFILE": "workspace",
    "AWS_ENDPOINT_URL_S3": "http://rustfs:9000",
}


def _files(
    *,
    bucket: str = "data-products",
    prefix: str = "sales/",
    region: str = "us-east-1",
    key: model.AccessKey = _KEY,
    place: dotenv.Place = _PLACE,
    local: dotenv.Place | None = None,
) -> dict[str, str]:
    return dotenv.secret_files(
        bucket=bucket, prefix=prefix, region=region, key=key, place=place, local=local
    )


def _input(name: str = "crm__customers", **changes: object) -> dotenv.Input:
    made = dotenv.Input(
        name=name,
        producer="crm",
        port="customers",
        url="s3://data-products/crm/customers/",
        mode=model.Access.READ,
        valid_until=date(2031, 5, 6),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def _by_dotenv(path: Path) -> dict[str, str | None]:
    return dict(python_dotenv.dotenv_values(path))


def _by_shell(path: Path) -> dict[str, str | None]:
    return _printed(["sh", "-c", "set -a; . ./.env; env -0"], path)


def _by_r(path: Path) -> dict[str, str | None]:
    if shutil.which("Rscript") is None:
        missing = "Rscript is missing: apt-get install r-base-core"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    script = "readRenviron('.env'); system2('env', '-0')"
    found = _printed(["Rscript", "--vanilla", "-e", script], path)
    # An empty value is no variable to R, but Sys.getenv answers "" for either.
    return {name: found.get(name, "") for name in _EXPECTED}


def _printed(command: list[str], path: Path) -> dict[str, str | None]:
    printed = subprocess.run(
        command, cwd=path.parent, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True
    )
    pairs = (line.split("=", 1) for line in printed.stdout.decode().split("\0") if "=" in line)
    return {name: value for name, value in pairs if name in _EXPECTED}


@pytest.mark.parametrize("read", [_by_dotenv, _by_shell, _by_r])
@pytest.mark.parametrize("prefix", ["sales/", "a+b=c,d.e@f_g-h/", "_x/", ""])
def test_every_reader_reads_the_same(read: object, prefix: str, tmp_path: Path) -> None:
    assert callable(read)
    (tmp_path / ".env").write_text(_files(prefix=prefix)[".env"])

    assert read(tmp_path / ".env") == {**_EXPECTED, "S3_PREFIX": prefix}


def test_the_lines_come_in_the_order_that_users_know() -> None:
    lines = _files()[".env"].splitlines()

    assert lines == [f"{name}={value}" for name, value in _EXPECTED.items()]


def test_the_files_come_in_the_order_of_publication() -> None:
    assert list(_files(local=_PLACE)) == [
        ".aws/config",
        ".aws/credentials",
        ".env.local",
        ".env",
    ]


def test_the_host_gets_its_own_file_only_where_asked() -> None:
    local = dotenv.Place(
        endpoint="http://localhost:9000",
        workspace_dir="/home/me/products/sales",
        extension_directory="/home/me/duckdb",
    )
    files = _files(local=local)

    assert ".env.local" not in _files()
    assert files[".env"] == _files()[".env"]
    assert "S3_ENDPOINT=http://localhost:9000\n" in files[".env.local"]
    assert "AWS_CONFIG_FILE=/home/me/products/sales/.aws/config\n" in files[".env.local"]
    assert "rustfs" not in files[".env.local"]


def test_boto3_follows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = dataclasses.replace(_PLACE, workspace_dir=str(tmp_path))
    (tmp_path / ".aws").mkdir()
    for path, text in _files(place=place).items():
        (tmp_path / path).write_text(text)
    for name, value in python_dotenv.dotenv_values(tmp_path / ".env").items():
        monkeypatch.setenv(name, value or "")

    session = boto3.Session()
    credentials = session.get_credentials()
    url = session.client("s3").generate_presigned_url(
        "get_object", Params={"Bucket": "data-products", "Key": "sales/a"}
    )

    assert credentials is not None
    assert (credentials.access_key, credentials.secret_key) == (_KEY.id, _KEY.secret)
    assert session.region_name == "us-east-1"
    assert url.startswith("http://rustfs:9000/data-products/sales/a?")
    assert urlsplit(session.client("s3").meta.endpoint_url).netloc == "rustfs:9000"


def test_the_profile_names_its_endpoint_itself() -> None:
    read = configparser.RawConfigParser()
    read.read_string(_files()[".aws/config"])
    read.read_string(_files()[".aws/credentials"])

    assert {name: dict(read[name]) for name in read.sections()} == {
        "profile workspace": {"region": "us-east-1", "endpoint_url": "http://rustfs:9000"},
        "workspace": {"aws_access_key_id": _KEY.id, "aws_secret_access_key": _KEY.secret},
    }


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "a'b",
        'a"b',
        "a\\b",
        "a$b",
        "a`b",
        "a#b",
        "~/a",
        "a\nb",
        "a;b",
        "a&b",
        "é",
        "a|b",
        "*",
    ],
)
def test_a_value_that_readers_disagree_on_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ValueError, match="S3_BUCKET holds") as caught:
        _files(bucket=value)
    assert value not in str(caught.value).replace("S3_BUCKET", "")

    with pytest.raises(ValueError, match="WORKSPACE_DIR holds"):
        _files(place=dataclasses.replace(_PLACE, workspace_dir=f"/{value}"))
    with pytest.raises(ValueError, match="aws_secret_access_key holds") as secret:
        _files(key=model.AccessKey("AKIA", f"hidden{value}"))
    assert "hidden" not in str(secret.value)


@pytest.mark.parametrize("name", ["bucket", "region"])
def test_an_empty_value_is_refused(name: str) -> None:
    empty = {"bucket": "data-products", "region": "us-east-1", name: ""}

    with pytest.raises(ValueError, match="holds what not every reader"):
        _files(**empty)  # type: ignore[arg-type]


def test_ports_are_listed_in_a_stable_order() -> None:
    first, second = _input("crm__customers"), _input("crm__orders", port="orders", valid_until=None)

    text = dotenv.ports_json(["z", "a"], [second, first])

    assert text == dotenv.ports_json(["a", "z", "a"], [first, second])
    assert json.loads(text) == {
        "outputs": ["a", "z"],
        "inputs": [
            {
                "name": "crm__customers",
                "producer": "crm",
                "port": "customers",
                "url": "s3://data-products/crm/customers/",
                "mode": "read",
                "valid_until": "2031-05-06",
            },
            {
                "name": "crm__orders",
                "producer": "crm",
                "port": "orders",
                "url": "s3://data-products/crm/customers/",
                "mode": "read",
                "valid_until": None,
            },
        ],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a.b"},
        {"name": "a`b"},
        {"name": ""},
        {"producer": ".."},
        {"producer": "a|b"},
        {"port": "a/b"},
        {"url": "s3://b/a'b/"},
        {"url": "https://b/a/"},
        {"url": "s3://b/a"},
    ],
)
def test_an_input_that_could_be_more_than_a_name_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="an input"):
        _input(**changes)


def test_an_output_that_is_no_name_is_refused() -> None:
    with pytest.raises(errors.NameRejected):
        dotenv.ports_json(["../x"], [])


def test_two_inputs_do_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="one name"):
        dotenv.ports_json([], [_input(), _input()])
