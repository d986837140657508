"""Serve an empty application as the service is served: what the server alone can do.

`python -m benchmarks.empty PORT`; ends with SIGTERM.
"""

from __future__ import annotations

import contextlib
import sys

from starlette import applications, requests, responses, routing

from provisioner.edge import listener


async def answer(request: requests.Request) -> responses.Response:
    """Read the body, and say the same as the service."""
    await request.body()
    return responses.JSONResponse({"status": "accepted"})


def main() -> None:
    """Serve until SIGTERM."""
    application = applications.Starlette(routes=[routing.Route("/", answer, methods=["POST"])])
    with contextlib.closing(listener.take("127.0.0.1", int(sys.argv[1]))) as listening:
        listener.listen(application, listening, drain_seconds=1)


if __name__ == "__main__":
    main()
