"""Choose key pairs where the engine lets us; they look like AWS's, which every client knows."""

from __future__ import annotations

import secrets
import string

from provisioner import model

_ID = string.ascii_uppercase + "234567"
_SECRET = string.ascii_letters + string.digits + "/+"


def choose() -> model.AccessKey:
    """Return a new pair: `AKIA` and 16 characters, and 40 of `[A-Za-z0-9/+]`."""
    identity = "".join(secrets.choice(_ID) for _ in range(16))
    return model.AccessKey(f"AKIA{identity}", "".join(secrets.choice(_SECRET) for _ in range(40)))
