"""Provision what the Data Product Portal describes: workspaces, prefixes and scoped credentials.

New here? Read `ports`, then `model`, `plan`, `reconciler`, `assembly` and `app`, in that order.
"""

__version__ = "0.1.0"
