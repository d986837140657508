"""Answer what is said beforehand, as what may not be the engine one hoped for."""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def canned(status: int, body: bytes, content_type: str = "text/html") -> Iterator[str]:
    """Serve one answer on the loopback and yield the URL."""
    with _serving(lambda path: (status, body), content_type) as url:
        yield url


@contextlib.contextmanager
def canned_by_path(answers: Mapping[str, bytes]) -> Iterator[str]:
    """Serve an answer for each path, and 404 without a body for every other one."""

    def find(path: str) -> tuple[int, bytes]:
        found = answers.get(path.partition("?")[0])
        return (404, b"") if found is None else (200, found)

    with _serving(find, "application/json") as url:
        yield url


@contextlib.contextmanager
def canned_raw(answer: bytes) -> Iterator[str]:
    """Send these very bytes to whoever connects and asks, and hang up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _serving(find: Callable[[str], tuple[int, bytes]], content_type: str) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = find(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
