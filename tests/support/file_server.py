"""A small web server for tests: files at plain addresses and as a repository of the Hub, and its failures."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # bytes from which on the Hub states a SHA-256


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # more at once would have to try again, seconds later


@dataclass
class FileServer:
    """Serves `files` (path to content) until it is closed; what it was asked is in `requests`.

    A path "/OWNER/NAME/resolve/REVISION/FILE" is a file of the repository OWNER/NAME, which the API lists.

    Attributes:
        breaks: after how many bytes of a path the next answer breaks off; once each.
        stalls: after how many bytes of a path the next answer falls silent until the server is closed.
        gates: after how many bytes of a path the next answer waits, and what for; once each.
        status: what a path is answered with instead.
        versions: ETag of a path; by default there is none.
        listed_sha256: what the API says of a path, where it is to be wrong.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    stalls: dict[str, int] = field(default_factory=dict)
    gates: dict[str, tuple[int, threading.Event]] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    listed_sha256: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.closed = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add_repository(self, repository: str, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self.files[f"/{repository}/resolve/{REVISION}/{name}"] = content

    def ranges(self, path: str) -> list[str]:
        """The ranges that a path was asked for, "" for the whole."""
        return [headers.get("range", "") for _, asked, headers in self.requests if asked == path]

    def listing(self, repository: str) -> dict[str, object]:
        """The answer of the API about a repository: https://huggingface.co/docs/hub/api."""
        start = f"/{repository}/resolve/{REVISION}/"
        siblings = []
        for path, content in self.files.items():
            if not path.startswith(start):
                continue
            sibling: dict[str, object] = {"rfilename": path.removeprefix(start), "size": len(content)}
            blob = b"blob %d\0" % len(content) + content
            sibling["blobId"] = hashlib.sha1(blob).hexdigest()
            if len(content) >= LARGE:
                digest = self.listed_sha256.get(path, hashlib.sha256(content).hexdigest())
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": repository, "sha": REVISION, "siblings": siblings}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                files.requests.append((self.command, path, headers))
                if path in files.status:
                    self.send_error(files.status[path])
                elif path.startswith("/api/models/"):
                    self._list(path.removeprefix("/api/models/").partition("/revision/")[0])
                elif path in files.files:
                    self._send(path, files.files[path], headers)
                else:
                    self.send_error(404)

            do_HEAD = do_GET

            def _list(self, repository: str) -> None:
                listing = files.listing(repository)
                if not listing["siblings"]:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = json.dumps(listing).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _send(self, path: str, content: bytes, headers: dict[str, str]) -> None:
                version = files.versions.get(path, "")
                first, _, last = headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
                start, whole = int(first), len(content)
                if headers.get("if-range", version) != version:
                    start = 0
                elif last:
                    content = content[: int(last) + 1]
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start or last else 200)
                if start or last:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{whole}")
                if version:
                    self.send_header("ETag", version)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if path in files.stalls:
                    self.wfile.write(content[start : files.stalls.pop(path)])
                    self.wfile.flush()
                    files.closed.wait()
                    return
                if path in files.gates:
                    at, gate = files.gates.pop(path)
                    self.wfile.write(content[start:at])
                    self.wfile.flush()
                    gate.wait()
                    start = at
                end = files.breaks.pop(path, len(content))
                self.wfile.write(content[start:end])
                if end < len(content):
                    self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler
