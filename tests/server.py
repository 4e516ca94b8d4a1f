"""A real HTTP server on 127.0.0.1, and the good and bad answers that it can give."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from tests.helpers import jpeg

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Serves `files` (path → bytes, or a function that answers) and counts the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Answer | None] = {}
        self.requests: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.delay = 0.0  # seconds before each answer
        self.connections = 0
        self.at_once = self.most_at_once = 0  # requests that are, were being answered
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_GET(self) -> None:
                path = unquote(self.path)
                with lock:
                    outer.requests[path] += 1
                    outer.agents.add(self.headers["User-Agent"])
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                time.sleep(outer.delay)
                with lock:
                    outer.at_once -= 1
                content = outer.files.get(path)
                if callable(content):
                    content(self)
                else:
                    send(self, 404 if content is None else 200, content or b"")

            def do_CONNECT(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass  # a client that was killed

        self._server = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class FailingFirst:
    """Gives bad answers, one after the other, before it gives the file."""

    def __init__(self, content: bytes, *answers: Answer) -> None:
        self.content, self.answers = content, list(answers)
        self.times: list[float] = []  # of the requests

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.times.append(time.monotonic())
        if self.answers:
            self.answers.pop(0)(handler)
        else:
            send(handler, 200, self.content)


def send(handler: BaseHTTPRequestHandler, code: int, content: bytes = b"", **headers: str) -> None:
    """Send a complete answer. An underscore in a header's name stands for a hyphen."""
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(content)))
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int, reason: str | None = None, **headers: str) -> Answer:
    """Return an answer without content."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code, reason)
        handler.send_header("Content-Length", "0")
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()

    return answer


def raw(head: str, body: bytes = b"", close: bool = False) -> Answer:
    """Return an answer of exactly these lines and bytes. `close`: the connection ends with it."""
    content = head.replace("\n", "\r\n").encode() + body

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(content)
        handler.close_connection = close

    return answer


def page(handler: BaseHTTPRequestHandler) -> None:
    """A web page with status 200, as a server that is too busy gives it."""
    send(handler, 200, b"<html>busy, come again</html>")


def compressed(handler: BaseHTTPRequestHandler) -> None:
    """A compressed file, which nobody has asked for."""
    send(handler, 200, gzip.compress(jpeg()), Content_Encoding="gzip")


def truncated(handler: BaseHTTPRequestHandler) -> None:
    """600 of 5,678 announced bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5678")
    handler.end_headers()
    handler.wfile.write(jpeg()[:600])
    handler.close_connection = True


def truncated_without_length(handler: BaseHTTPRequestHandler) -> None:
    """A part of a file whose length is not announced."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(jpeg((500, 500))[:1500])
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    """The connection is reset."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


def silent(handler: BaseHTTPRequestHandler) -> None:
    """No answer for longer than a timeout of one second."""
    time.sleep(1.5)
    handler.close_connection = True


def stalls(handler: BaseHTTPRequestHandler) -> None:
    """65,536 bytes of a longer file, and then silence."""
    handler.send_response(200)
    handler.send_header("Content-Length", "70000")
    handler.end_headers()
    handler.wfile.write(bytes(65536))
    handler.wfile.flush()
    silent(handler)


def trickles(handler: BaseHTTPRequestHandler) -> None:
    """A byte every tenth of a second, for ten seconds."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    _trickle(handler)


def trickles_headers(handler: BaseHTTPRequestHandler) -> None:
    """The same in the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _trickle(handler)


def _trickle(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


def announces_too_much(handler: BaseHTTPRequestHandler) -> None:
    """The announcement of a huge file."""
    handler.send_response(200)
    handler.send_header("Content-Length", "99999999999")
    handler.end_headers()
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A file without an end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))
