from __future__ import annotations

import base64
import concurrent.futures
import stat
from pathlib import Path

import pytest
from cryptography import fernet
from hypothesis import given
from hypothesis import strategies as st

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
    assert line.startswith("PROV_SEALING_KEYS: expects a key that opens what the store holds")
    assert "provisioner serve --lost-sealing-key" in line


def test_the_library_would_take_the_first_of_two_keys_and_say_nothing() -> None:
    both = fernet.Fernet(f"{NEW},{OLD}")
    assert both.decrypt(fernet.Fernet(NEW).encrypt(b"x")) == b"x"
    with pytest.raises(fernet.InvalidToken):
        both.decrypt(fernet.Fernet(OLD).encrypt(b"x"))


@pytest.mark.parametrize("glue", [",", "\n", "", " ", ";", "\t"])
def test_a_seal_refuses_keys_that_were_glued_together(glue: str) -> None:
    with pytest.raises(ValueError, match="key 2") as caught:
        seal.Seal([OTHER, f"{NEW}{glue}{OLD}"])
    assert NEW[2:-1] not in repr(caught.value)


def test_a_seal_needs_a_key() -> None:
    with pytest.raises(ValueError, match="no key"):
        seal.Seal([])


@pytest.mark.parametrize(
    ("sealer", "expected"), [(NEW, 0), (OLD, 1), (OTHER, None)], ids=["first", "second", "none"]
)
def test_which_key_opens_is_found_with_each_key_alone(sealer: str, expected: int | None) -> None:
    token = seal.Seal([sealer]).seal("x")
    assert seal.Seal([NEW, OLD]).position(token) == expected


def test_a_key_given_twice_is_harmless() -> None:
    twice = seal.Seal(fernet_keys.parse(f"{NEW},{NEW}\n{OLD},{NEW}"))
    assert twice.position(twice.seal("x")) == 0
    assert twice.position(seal.Seal([OLD]).seal("x")) == 2


def test_nothing_about_a_seal_shows_its_keys() -> None:
    held = seal.Seal([NEW])
    assert NEW[2:-1] not in repr(held)
    with pytest.raises(errors.ConfigurationError) as caught:
        held.open(seal.Seal([OLD]).seal("hush"))
    assert NEW[2:-1] not in str(caught.value)


@given(st.from_regex(r"\A[A-Za-z0-9_-]{43}=\Z"))
def test_whatever_is_taken_for_a_key_is_32_bytes(text: str) -> None:
    assert fernet_keys.parse(text) == (text,)
    assert len(base64.urlsafe_b64decode(text)) == 32


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
        f"{NEW}{OLD}",
        f"{NEW};{OLD}",
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
    (line,) = caught.value.problems
    assert line.startswith("PROV_SEALING_KEYS: expects the key file that sealed")
    assert "provisioner serve --lost-sealing-key" in line
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


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o620, True), (0o700, False)],
    ids=oct,
)
def test_a_key_file_that_others_may_open_is_noticed(
    tmp_path: Path, mode: int, expected: bool
) -> None:
    path = tmp_path / "sealing.key"
    path.touch()
    path.chmod(mode)
    assert seal.is_open_to_others(path) is expected


def test_a_key_file_that_is_not_there_is_open_to_nobody(tmp_path: Path) -> None:
    assert not seal.is_open_to_others(tmp_path / "sealing.key")
