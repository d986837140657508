"""Keep the environment of the machine, and what other tests set up, out of every test."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import hypothesis
import pytest

from tests import longest_first

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# A busy machine is no defect: nothing here is timed.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_OURS = ("PROV_", "S3_", "IAM_", "AWS_", "WEBHOOK_")
_END = "-----END CERTIFICATE-----\n"
_said: list[tuple[str, bytes]] = []
_measured: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Trust one authority: every HTTP client loads all it trusts, for 40 ms, and none uses TLS."""
    if hasattr(config, "workerinput"):  # it has the environment of who started it
        return
    folder = tempfile.TemporaryDirectory()
    one = Path(folder.name) / "authority.pem"
    one.write_text(certifi.contents().partition(_END)[0] + _END)
    os.environ["SSL_CERT_FILE"] = str(one)
    config.add_cleanup(folder.cleanup)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes longest begin first."""
    items[:] = longest_first.arranged(items)


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


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Search what all tests wrote, logged and printed for every secret that there was."""
    from tests import leaks

    secrets: set[bytes] = set()
    forget = leaks.remember_keys(secrets)
    yield
    forget()
    found = leaks.search(tmp_path_factory.getbasetemp(), _said, secrets)
    if found:
        pytest.fail("a secret stands in:\n" + "\n".join(found), pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test said, for the search; and what it measured, for the summary."""
    texts = [content for _, content in report.sections] + [report.longreprtext]
    _said.extend((report.nodeid, text.encode()) for text in texts if text)
    if report.when == "call":
        _measured.extend(str(value) for name, value in report.user_properties if name == "measured")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what tests measured."""
    if _measured:
        terminalreporter.section("measured")
        for line in sorted(_measured):
            terminalreporter.write_line(line)
