"""A small reverse proxy, as nginx stands before a server: it has another name, and says who came."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer")


@contextmanager
def proxied(upstream: str, scheme: str = "https") -> Iterator[str]:
    """The address of a proxy before a server; it says that clients came by `scheme`."""
    target = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            headers |= {"x-forwarded-for": self.client_address[0], "x-forwarded-proto": scheme}
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=300)
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            sized = answer.getheader("content-length") is not None or answer.status == 204
            if not sized:
                self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while part := answer.read1(65536):  # as it comes
                self.wfile.write(part if sized else b"%x\r\n%s\r\n" % (len(part), part))
            if not sized:
                self.wfile.write(b"0\r\n\r\n")
            connection.close()

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = do_any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
