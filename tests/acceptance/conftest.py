"""Share one embedded S3 among the acceptance tests; each has its own bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.demo import embedded_s3
from tests.acceptance import stand as stands


@pytest.fixture(scope="session")
def s3() -> Iterator[embedded_s3.EmbeddedS3]:
    with embedded_s3.EmbeddedS3() as running:
        yield running


@pytest.fixture
def stand(tmp_path: Path, s3: embedded_s3.EmbeddedS3) -> Iterator[stands.Stand]:
    with stands.stand(tmp_path, s3) as made:
        yield made
