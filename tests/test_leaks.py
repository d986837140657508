from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner import model
from provisioner.steps import keypair
from tests import leaks


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that the search after the last test does not see."""
    with tempfile.TemporaryDirectory(prefix="leaks-") as path:
        yield Path(path)


def test_a_secret_is_found_as_it_is_and_in_every_encoding(folder: Path) -> None:
    needles = leaks.spellings(f"k/+{secrets.token_hex(16)}")
    for number, spelt in enumerate(sorted(needles)):
        (folder / str(number)).write_bytes(b"x" * number + spelt + b"y")
    assert [path.name for path, body in leaks.files(folder) if any(n in body for n in needles)]
    assert all(any(n in body for n in needles) for _, body in leaks.files(folder))
    assert len(needles) == 6


@pytest.fixture
def noted() -> set[bytes]:
    """Return what is noted while three pairs are made, of which one is drawn."""
    found: set[bytes] = set()
    forget = leaks.remember_keys(found)
    try:
        drawn = keypair.choose()
        model.AccessKey("AKIATEST", "a" * 40)
        model.AccessKey("AKIATEST", "short")
    finally:
        forget()
    keypair.choose()
    assert found == {drawn.secret.encode()}
    return found


@pytest.mark.parametrize("text", [b"%s", b"key=%s\n", b'{"secret": "%s"}', b"S3 %s."])
def test_a_noted_secret_is_found_in_a_text(text: bytes, noted: set[bytes]) -> None:
    (secret,) = noted
    assert leaks.tokens(text % secret, noted) == {secret}
    assert leaks.tokens(text % secret[1:], noted) == set()


def test_secrets_may_stand_where_they_belong_and_nowhere_else(
    folder: Path, noted: set[bytes]
) -> None:
    issued = keypair.choose().secret
    (folder / ".env").write_text(f"S3_ACCESS_KEY=AKIA\nS3_SECRET_KEY={issued}\n")
    texts = [("a test's log", b"nothing"), ("another's", b"made %s" % issued.encode())]
    assert leaks.search(folder, texts, noted) == ["another's"]
    (folder / "log").write_bytes(b'"%s"' % next(iter(noted)))
    (folder / "minio0").mkdir()
    (folder / "minio0" / "format").write_text(issued)
    (folder / "answers").write_bytes(b"Bearer %s" % leaks.MARKED[0])
    found = leaks.search(folder, texts, noted)
    assert found == [str(folder / "answers"), str(folder / "log"), "another's"]
    assert issued not in repr(found)
