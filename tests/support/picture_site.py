"""A web site of pictures on this machine, good-mannered or not as its paths say."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from support.planted import packed, photograph


class PictureSite:
    """Serves /N.jpg as a photograph of seed N; other paths behave as `_answer` says.

    Attributes:
        robots: what /robots.txt says; None is status 404, a number that status.
        asked: how often each path was asked for.
        agents: the User-Agent headers that came.
    """

    def __init__(self) -> None:
        self.robots: str | int | None = None
        self.asked = Counter[str]()
        self.agents = set[str]()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._server.server_port

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}/{path}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.lstrip("/")
                with site._lock:
                    site.asked[path] += 1
                    site.agents.add(self.headers["User-Agent"])
                    site.at_once += 1
                    site.most_at_once = max(site.most_at_once, site.at_once)
                try:
                    self._answer(path)
                except ConnectionError:
                    self.close_connection = True
                finally:
                    with site._lock:
                        site.at_once -= 1

            def _answer(self, path: str) -> None:
                name, _, rest = path.partition("/")
                if path == "robots.txt":
                    robots = site.robots
                    status = 404 if robots is None else robots if isinstance(robots, int) else 200
                    self._send(status, str(robots).encode() if status == 200 else b"")
                elif name == "to":
                    self._send(302, b"", {"Location": rest})
                elif name == "status":
                    self._send(int(rest), b"")
                elif name == "busy":  # the third time it answers
                    calm = site.asked[path] > 2
                    self._send(200 if calm else 503, packed(photograph(9)), {"Retry-After": "0"})
                elif name == "tagged":
                    header, _, value = rest.partition("=")
                    self._send(200, packed(photograph(1)), {header: value.replace("%20", " ")})
                elif name == "endless":
                    self._endless(chunk=b"x" * 1000)
                elif name == "slow":
                    self._endless(chunk=b"x", pause=0.05)
                elif name == "cut":
                    self._send(200, b"x", {"Content-Length": "9"})
                    self.close_connection = True
                elif name == "tall":
                    self._send(200, packed(photograph(int(rest), 40, 200)))
                else:
                    time.sleep(0.01)
                    self._send(200, packed(photograph(int(name.removesuffix(".jpg")))))

            def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def _endless(self, chunk: bytes, pause: float = 0.0) -> None:
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                for _ in range(100_000):
                    self.wfile.write(chunk)
                    time.sleep(pause)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler
