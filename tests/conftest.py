"""Keep the environment of the machine out of every test."""

from __future__ import annotations

import os

import hypothesis
import pytest

# A busy machine is no defect: nothing here is timed.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_OURS = ("PROV_", "S3_", "IAM_", "AWS_", "WEBHOOK_")


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every setting that the machine may carry."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
