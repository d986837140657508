"""Hold what a person asked for, until it is done."""

from __future__ import annotations

from enum import StrEnum


class Ask(StrEnum):
    """What can be asked for by name, of one product."""

    ROTATE = "rotate"
    """Replace the key."""
    COMPROMISED = "compromised"
    """Kill every key at once, then make a new one."""
    ADOPT = "adopt"
    """Take over a folder or prefix that is in the way."""
    PURGE = "purge"
    """Delete what a released product left."""
    UPGRADE = "upgrade"
    """Bring the workspace to the template as it is now."""
    VERIFY = "verify"
    """Read everything back from where it was made."""
