"""Lines of the log: one each, whatever is written together."""

from __future__ import annotations

import io
import json
import logging

import pytest

from provisioner import telemetry


class RecordingStream(io.StringIO):
    """Remember what each call wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        """Remember it."""
        self.writes.append(text)
        return len(text)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> RecordingStream:
    """Return what our log is written to; it goes back to where it went before."""
    for name in ("provisioner", "uvicorn", "uvicorn.error", "alembic"):
        logger = logging.getLogger(name)
        for attribute in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, attribute, getattr(logger, attribute))
    return RecordingStream()


def test_what_is_said_together_is_one_write_of_a_line_each(stream: RecordingStream) -> None:
    telemetry.configure("info", "json", stream)

    with telemetry.bound(key="k"):
        telemetry.Log("provisioner.t").info_each("it came", [{"n": 1}, {"n": 2, "more": "\n"}])

    (written,) = stream.writes
    lines = [json.loads(line) for line in written.splitlines()]
    said = [{k: v for k, v in line.items() if k not in {"at", "level"}} for line in lines]
    same = {"event": "it came", "logger": "provisioner.t", "key": "k"}
    assert said == [same | {"n": "1"}, same | {"n": "2", "more": "\n"}]


def test_a_person_reads_a_line_each_too(stream: RecordingStream) -> None:
    telemetry.configure("info", "text", stream)

    telemetry.Log("provisioner.t").info_each("it came", [{"n": 1}, {"n": "2\n"}])

    (written,) = stream.writes
    said = [line.partition(" ")[2] for line in written.splitlines()]
    assert said == ["info    it came  n='1'", "info    it came  n='2\\n'"]


def test_nothing_said_is_nothing_written(stream: RecordingStream) -> None:
    telemetry.configure("info", "json", stream)

    telemetry.Log("provisioner.t").info_each("it came", [])

    assert stream.writes == []
