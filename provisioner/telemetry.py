"""Log constant events with keys, and count: one place for both.

An event is a constant sentence, what varies rides beside it as keys; `bound` adds keys to
everything logged within it, across `await` and threads started by `asyncio.to_thread`.
Metrics have few labels and never an id.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_context: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar(
    "telemetry", default=MappingProxyType({})
)
_ROOT = "provisioner"


class Log:
    """Log constant events with keys under a module's name."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **keys: object) -> None:
        """Say what only a developer wants to know."""
        self._emit(logging.DEBUG, event, keys)

    def info(self, event: str, **keys: object) -> None:
        """Say what happened."""
        self._emit(logging.INFO, event, keys)

    def info_each(self, event: str, each: Sequence[Mapping[str, object]]) -> None:
        """Say what happened several times: a line for each, all of them written at once."""
        if each:
            self._emit(logging.INFO, event, *each)

    def warning(self, event: str, **keys: object) -> None:
        """Say what a person may have to look at."""
        self._emit(logging.WARNING, event, keys)

    def error(self, event: str, **keys: object) -> None:
        """Say what a person must look at."""
        self._emit(logging.ERROR, event, keys)

    def exception(self, event: str, **keys: object) -> None:
        """Say that something we did not foresee was raised, with its traceback."""
        self._emit(logging.ERROR, event, keys, exc_info=True)

    def _emit(
        self, level: int, event: str, *each: Mapping[str, object], exc_info: bool = False
    ) -> None:
        logger = self._logger
        if logger.isEnabledFor(level):
            raised = sys.exc_info() if exc_info else None
            bound = _context.get()
            said = [{**bound, **keys} for keys in each]
            logger.handle(_Record(logger.name, level, event, said, raised))


class _Record(logging.LogRecord):
    """Hold what a format of ours shows, and of all else that a record knows only the names.

    `each` holds the keys of a line, of one or more that differ in nothing else.

    Deliveries are logged by the thousand, and finding out about file, line, thread and process
    takes longer than writing the line.
    """

    def __init__(
        self, name: str, level: int, event: str, each: Sequence[Mapping[str, object]], raised: Any
    ) -> None:
        self.__dict__ = {
            **_UNSAID,
            "name": name,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": event,
            "exc_info": raised,
            "created": time.time(),
            "each": each,
        }


_UNSAID: dict[str, Any] = {
    **dict.fromkeys(vars(logging.makeLogRecord({}))),
    "args": (),
    **dict.fromkeys(("pathname", "filename", "module"), ""),
    **dict.fromkeys(("lineno", "msecs", "relativeCreated"), 0),
}


@contextlib.contextmanager
def bound(**keys: object) -> Iterator[None]:
    """Add keys to everything logged within."""
    token = _context.set({**_context.get(), **keys})
    try:
        yield
    finally:
        _context.reset(token)


def _each(record: logging.LogRecord) -> Sequence[Mapping[str, object]]:
    """Return the keys of each line of a record; those of other libraries have one, without any."""
    each: Sequence[Mapping[str, object]] = getattr(record, "each", ({},))
    return each


class _JsonFormatter(logging.Formatter):
    """Write one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        raised = record.exc_info
        more = {"traceback": self.formatException(raised)} if raised else {}
        return "\n".join(
            json.dumps({**line, **{k: str(v) for k, v in keys.items()}, **more})
            for keys in _each(record)
        )


class _TextFormatter(logging.Formatter):
    """Write a line for a person at a terminal; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()}"
        lines = []
        for keys in _each(record):
            shown = " ".join(f"{k}={str(v)!a}" for k, v in keys.items())
            lines.append(f"{line}  {shown}" if shown else line)
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return "\n".join(lines)


def configure(level: str, style: str, stream: TextIO = sys.stderr) -> None:
    """Send our log to a stream: `style` is `text`, `json`, or `auto` (text on a terminal)."""
    as_text = style == "text" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextFormatter() if as_text else _JsonFormatter())
    for name in (_ROOT, "uvicorn", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper() if name == _ROOT else logging.WARNING)
    # It warns of everything that is no HTTP: anybody could fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class Metrics:
    """Count what operators alert on; one instance a process, passed by argument."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "provisioner_deliveries_total",
            "Deliveries by wire and the answer they got.",
            ["wire", "status"],
            registry=self.registry,
        )
        self.acknowledge_seconds = Histogram(
            "provisioner_acknowledge_seconds",
            "Time from a delivery's first byte to its durable acknowledgement.",
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
        )
        self.reconciles = Counter(
            "provisioner_reconciles_total",
            "Reconciles by how they ended.",
            ["status"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "provisioner_reconcile_seconds", "Time of one reconcile.", registry=self.registry
        )
        self.step_seconds = Histogram(
            "provisioner_step_seconds", "Time of one step.", ["step"], registry=self.registry
        )
        self.actions = Counter(
            "provisioner_actions_total",
            "Actions applied, by step and verb.",
            ["step", "verb"],
            registry=self.registry,
        )
        self.drift = Counter(
            "provisioner_drift_total",
            "Differences that deep looks found, by step.",
            ["step"],
            registry=self.registry,
        )
        self.foreign_principals = Gauge(
            "provisioner_foreign_principals",
            "Principals at the engine that bear our mark and belong to no product here.",
            registry=self.registry,
        )
        self.workspaces = Gauge(
            "provisioner_workspaces",
            "Workspaces by how they stand to the template as it is now.",
            ["template"],
            registry=self.registry,
        )
        self.ports = Gauge(
            "provisioner_ports",
            "Output ports by how what they publish was last seen.",
            ["state"],
            registry=self.registry,
        )
        self.bugs = Counter(
            "provisioner_unexpected_errors_total",
            "Errors that no code foresaw; each has a traceback in the log.",
            registry=self.registry,
        )
        self.queue = Gauge(
            "provisioner_queue_keys", "Keys in the queue.", ["state"], registry=self.registry
        )
        self.hearing = Gauge(
            "provisioner_wake_ups_heard",
            "1 while other replicas can wake the workers of this one.",
            registry=self.registry,
        )
        self.resyncs = Counter(
            "provisioner_resyncs_total",
            "Resyncs by how they ended.",
            ["status"],
            registry=self.registry,
        )
