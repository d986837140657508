"""Name the things the provisioner talks about: frozen values, validated where they enter.

What the portal says (`portal`), what follows from it (`desired`), what we have done so far
(`record`), and what arrives and is worked on (`queue`); `identity` names them all. Datetimes are
aware and UTC; `_seconds` are durations; `_digest` are hex SHA-256.
"""

from provisioner.model.access import AccessLog, EndedAccess, EndReason, HeldAccess
from provisioner.model.ask import Ask
from provisioner.model.contract import Audit, Column, Contract, PortState, SeenPort
from provisioner.model.desired import Access, Action, Condition, Desired, Grant, Location, Phase
from provisioner.model.identity import Key, Kind, Principal
from provisioner.model.portal import (
    Asset,
    Link,
    LinkStatus,
    OutputPort,
    PortalView,
    Product,
    ProductStatus,
)
from provisioner.model.queue import Delivery, Lease, Outcome, Priority, Touched, Wire
from provisioner.model.record import (
    AccessKey,
    Credentials,
    FileChange,
    Finding,
    Former,
    Pending,
    Record,
    RepositoryState,
    Retiring,
    RoleState,
    Upgrade,
    WorkspaceState,
    Writeback,
)

__all__ = [
    "Access",
    "AccessKey",
    "AccessLog",
    "Action",
    "Ask",
    "Asset",
    "Audit",
    "Column",
    "Condition",
    "Contract",
    "Credentials",
    "Delivery",
    "Desired",
    "EndReason",
    "EndedAccess",
    "FileChange",
    "Finding",
    "Former",
    "Grant",
    "HeldAccess",
    "Key",
    "Kind",
    "Lease",
    "Link",
    "LinkStatus",
    "Location",
    "Outcome",
    "OutputPort",
    "Pending",
    "Phase",
    "PortState",
    "PortalView",
    "Principal",
    "Priority",
    "Product",
    "ProductStatus",
    "Record",
    "RepositoryState",
    "Retiring",
    "RoleState",
    "SeenPort",
    "Touched",
    "Upgrade",
    "Wire",
    "WorkspaceState",
    "Writeback",
]
