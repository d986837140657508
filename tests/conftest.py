"""Keep the environment of the machine, and what other tests set up, out of every test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command that ran in this process made of our log."""
    loggers = [logging.getLogger(name) for name in ("provisioner", "uvicorn", "alembic")]
    before = [(each.handlers[:], each.propagate, each.level) for each in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
