"""Answer as real portals did: recordings of five versions behind an httpx transport.

Where the recording has no page of a product, a port or a list, the answer is put together from
what it does have: a product's entry in the list, the port inside a link, an empty list.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
from collections import Counter
from typing import Any

import httpx

_DIRECTORY = pathlib.Path(__file__).parent / "recordings" / "api"
VERSIONS = ("0.4.2", "0.5.1", "0.7.0", "main")
"""Those with the newer API; `LEGACY` is release 0.4.2, which has the older one alone."""
LEGACY = "tag-0.4.2"
_SLASHED: dict[str, tuple[str, ...]] = {
    LEGACY: (),
    "0.4.2": (),
    "0.5.1": (),
    "0.7.0": ("/output_ports/{id}/input_ports",),
    "main": ("/output_ports/{id}/input_ports", "/technical_assets"),
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OLD_PRODUCT = re.compile(rf"/api/data_products/{_UUID.pattern}")
_OLD_PORT = re.compile(rf"/api/datasets/{_UUID.pattern}")
_PRODUCT = re.compile(r"/api/v2/data_products/([^/]+)")
_PORT = re.compile(r"/api/v2/data_products/[^/]+/output_ports/([^/]+)")
_LIST = re.compile(r"/api/v2/data_products/[^/]+/(output_ports|technical_assets|input_ports)/?")


@functools.cache
def rows(version: str) -> tuple[dict[str, Any], ...]:
    lines = (_DIRECTORY / f"{version}.jsonl").read_text().splitlines()
    return tuple(json.loads(line) for line in lines)


def row(version: str, scenario: str, *, ending: str = "", last: bool = False) -> dict[str, Any]:
    """Find one recorded call by its scenario and the end of its path."""
    found = [
        one
        for one in rows(version)
        if one["scenario"] == scenario and one["path"].rstrip("/").endswith(ending)
    ]
    return found[-1 if last else 0]


class RecordedPortal:
    """Handle requests for `httpx.MockTransport`; rows given come before all others."""

    def __init__(self, version: str, *first: dict[str, Any]) -> None:
        self.version = version
        self.requests: list[httpx.Request] = []
        self._rows = (*first, *rows(version))

    @property
    def calls(self) -> Counter[tuple[str, str]]:
        return Counter((one.method, _UUID.sub("{id}", one.url.path)) for one in self.requests)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if (other := self._other_spelling(path)) is not None:
            return httpx.Response(307, headers={"location": str(request.url.copy_with(path=other))})
        for one in self._rows:
            if (one["method"], one["path"]) == (request.method, path):
                return httpx.Response(one["status"], json=one["response_json"])
        body = self._composed(path) if request.method == "GET" else None
        if body is None:
            return httpx.Response(404, json={"correlation_id": "", "detail": self._absence(path)})
        return httpx.Response(200, json=body)

    def _absence(self, path: str) -> str:
        """Say 404 as the older API does of what it does not have, else as the router does."""
        if self.version == LEGACY and _OLD_PRODUCT.fullmatch(path):
            return "Data Product not found"
        if self.version == LEGACY and _OLD_PORT.fullmatch(path):
            return "Dataset not found"
        return "Not Found"

    def _other_spelling(self, path: str) -> str | None:
        if self.version == LEGACY and "/v2/" in path:
            return None
        template = _UUID.sub("{id}", path.rstrip("/"))
        if template.endswith(_SLASHED[self.version]) == path.endswith("/"):
            return None
        return path.rstrip("/") if path.endswith("/") else f"{path}/"

    def _composed(self, path: str) -> dict[str, Any] | None:
        if self.version == LEGACY:
            return None
        if named := _PRODUCT.fullmatch(path):
            return next((one for one in self._listed() if one["id"] == named[1]), None)
        if named := _PORT.fullmatch(path):
            return self._port(named[1])
        if named := _LIST.fullmatch(path):
            return {named[1]: []}
        return None

    def _listed(self) -> list[dict[str, Any]]:
        found = (one for one in self._rows if one["path"] == "/api/v2/data_products")
        entries: list[dict[str, Any]] = next(found)["response_json"]["data_products"]
        return entries

    def _port(self, identity: str) -> dict[str, Any] | None:
        for one in self._rows:
            content = one["response_json"]
            for link in content.get("input_ports", []) if isinstance(content, dict) else []:
                port = link.get("output_port", link.get("input_port"))
                if port is not None and port["id"] == identity:
                    return {**port, "technical_asset_links": []}
        return None
