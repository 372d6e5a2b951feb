"""A hub of one model for tests, as the real one's client sees it: it counts what is fetched, and takes its time."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, COMMIT = "some/model", "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "model.safetensors": bytes(range(256)) * 8192,
    "pytorch_model.bin": b"never wanted",
    "consolidated.safetensors": b"never wanted either",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fetched: Counter[str]

    def do_HEAD(self) -> None:
        self._file(send=False)

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in FILES]
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": _tag(data)} for name, data in FILES.items()
            ]
            about = {"_id": "1", "id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": siblings}
            self._send(
                json.dumps(tree if "/tree/" in self.path else about).encode(), {"content-type": "application/json"}
            )
        else:
            self._file(send=True)

    def _file(self, send: bool) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if name not in FILES:
            self.send_error(404)
            return
        if send:
            self.fetched[name] += 1
            time.sleep(0.2)
        self._send(FILES[name], {"x-repo-commit": COMMIT, "etag": f'"{_tag(FILES[name])}"'}, body=send)

    def _send(self, data: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(200)
        for key, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def local_hub() -> Iterator[tuple[str, Counter[str]]]:
    """The hub's address, and how often each file was fetched."""
    handler = type("Handler", (_Handler,), {"fetched": Counter()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.fetched  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
