"""Share one embedded S3 among the acceptance tests; each has its own bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.demo import embedded_s3
from tests import warm
from tests.acceptance import stand as stands


@pytest.fixture(scope="session")
def s3() -> Iterator[embedded_s3.EmbeddedS3]:
    with embedded_s3.EmbeddedS3() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def quick_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let stands run commands and services without importing everything anew."""
    if not warm.wanted():
        yield
        return
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("stubs")
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with warm.stubs(folder, environ, "provisioner") as stubs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stands.Stand, "python", str(folder / "python"))
        patch.setattr(stands.Stand, "stubs", stubs)
        yield


@pytest.fixture
def stand(tmp_path: Path, s3: embedded_s3.EmbeddedS3) -> Iterator[stands.Stand]:
    with stands.stand(tmp_path, s3) as made:
        yield made
