"""Say what the application needs from the outside: one small Protocol a concern.

Every port has a real adapter and an in-memory twin that pass one contract suite; only the portal's
adapter is held against recordings instead. Methods block; the worker calls them in threads. They
raise the errors of `errors` and nothing else: temporary ones where waiting may help, permanent
ones where a person must act. Absence is a value.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from provisioner.ports.engine import IssuedKey, Issuer, ObjectStore, Prober, Roles
from provisioner.ports.portal import PortalReader, PortalWriter
from provisioner.ports.published import Found, PublishedFile, PublishedFiles
from provisioner.ports.store import (
    Asks,
    Contracts,
    Flags,
    History,
    Inbox,
    Links,
    Records,
    Turns,
    WakeUps,
    Workqueue,
)
from provisioner.ports.workspaces import (
    OpenConflicts,
    OwnedFiles,
    Repositories,
    TemplateVersion,
    UpgradeReport,
    Workspaces,
    WorkspaceSpec,
)

Clock = Callable[[], datetime]
"""Return the present as an aware UTC datetime."""

__all__ = [
    "Asks",
    "Clock",
    "Contracts",
    "Flags",
    "Found",
    "History",
    "Inbox",
    "IssuedKey",
    "Issuer",
    "Links",
    "ObjectStore",
    "OpenConflicts",
    "OwnedFiles",
    "PortalReader",
    "PortalWriter",
    "Prober",
    "PublishedFile",
    "PublishedFiles",
    "Records",
    "Repositories",
    "Roles",
    "TemplateVersion",
    "Turns",
    "UpgradeReport",
    "WakeUps",
    "Workqueue",
    "WorkspaceSpec",
    "Workspaces",
]
