from __future__ import annotations

import base64
import concurrent.futures
import stat
from pathlib import Path

import pytest

from provisioner import errors, fernet_keys, seal

OLD, NEW, OTHER = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in (101, 202, 7))


def test_what_is_sealed_opens_again() -> None:
    sealed = seal.Seal([NEW]).seal("häuslich ☃")
    assert "haus" not in sealed
    assert seal.Seal([NEW]).open(sealed) == "häuslich ☃"


def test_the_first_key_seals_and_every_key_opens() -> None:
    both = seal.Seal([NEW, OLD])
    assert both.open(seal.Seal([OLD]).seal("old")) == "old"
    assert seal.Seal([NEW]).open(both.seal("new")) == "new"


@pytest.mark.parametrize(
    "token", ["", "rubbish", pytest.param(seal.Seal([OTHER]).seal("x"), id="another key's")]
)
def test_what_no_key_opens_names_the_setting(token: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        seal.Seal([NEW, OLD]).open(token)
    (line,) = caught.value.problems
    assert line.startswith("PROV_SEALING_KEYS: expects ")


@pytest.mark.parametrize(
    "text",
    [
        f"{NEW},{OLD}",
        f"{NEW}\n{OLD}\n",
        f"# first, the new one\r\n {NEW} ,\r\n\r\n  # then\r\n{OLD}\r\n",
    ],
)
def test_keys_are_separated_by_commas_or_newlines(text: str) -> None:
    assert fernet_keys.parse(text) == (NEW, OLD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only this",
        " , ,\n",
        NEW[:-1],
        f"{NEW}=",
        f"={NEW[1:]}",
        f"+/{NEW[2:]}",
        f"é{NEW[1:]}",
        f"{NEW} {OLD}",
        f"{NEW} # mine",
        f"{NEW},{OLD[:-1]}",
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        fernet_keys.parse(text)
    assert NEW[2:-1] not in repr(caught.value)
    assert OLD[2:-1] not in repr(caught.value)


def test_a_missing_key_file_is_made_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "sealing.key"
    sealed = seal.load_or_create(path, may_create=True).seal("x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert seal.load_or_create(path, may_create=True).open(sealed) == "x"
    assert seal.load_or_create(path, may_create=False).open(sealed) == "x"


def test_first_starts_that_race_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        seals = list(pool.map(lambda _: seal.load_or_create(path, may_create=True), range(16)))
    sealed = seals[0].seal("x")
    assert {each.open(sealed) for each in seals} == {"x"}


def test_a_missing_key_file_is_not_made_where_something_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        seal.load_or_create(tmp_path / "sealing.key", may_create=False)
    assert caught.value.problems[0].startswith("PROV_SEALING_KEYS: expects ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", [b"", b"\xff\xfe", NEW[:-1].encode()])
def test_a_key_file_that_holds_something_else_is_refused(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "sealing.key"
    path.write_bytes(held)
    with pytest.raises(errors.ConfigurationError) as caught:
        seal.load_or_create(path, may_create=True)
    assert "PROV_SEALING_KEYS" in str(caught.value)
    assert NEW[:10] not in str(caught.value)
    assert path.read_bytes() == held


def test_a_key_file_in_an_impossible_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigurationError):
        seal.load_or_create(tmp_path / "file" / "sealing.key", may_create=True)
