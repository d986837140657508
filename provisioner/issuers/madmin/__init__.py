"""Issue keys over the admin API that MinIO has and rustfs took over.

The order of reading: `issuer` says what both have in common, `minio` and `rustfs` what each asks
for besides, `admin` names the calls, `client` makes them, `codec` encrypts them.
"""

from __future__ import annotations

from provisioner.issuers.madmin.minio import MinioIssuer
from provisioner.issuers.madmin.rustfs import RustfsIssuer

__all__ = ["MinioIssuer", "RustfsIssuer"]
