"""A file server on the loopback device that misbehaves as told: for tests of downloads."""
from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server has and what it has seen.

    Args:
        files: contents by path (``/folder/name``), for a proxy by whole address.
        headers: headers to add to every answer, for example a hub's ETag.
        cuts: the next answers with a body end after so many bytes, one after the other.
        token: the bearer token without which access is refused.
        heads: whether HEAD is known.
        redirects: addresses by path, answered with status 302.
        delay: seconds before the body of an answer.
    """

    files: dict[str, bytes]
    headers: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    token: str | None = None
    heads: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    address: str = ''
    # ``(method, path, Range header)`` of every request, and its ``Authorization``
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    @property
    def downloads(self) -> list[str | None]:
        """The Range headers of the requests for contents."""
        return [span for method, _, span in self.requests if method == 'GET']


@contextmanager
def serve(files: dict[str, bytes], **options) -> Iterator[FileServer]:
    """Serves until the context ends."""
    state = FileServer(files, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body):
            state.requests.append((self.command, self.path, self.headers['Range']))
            state.tokens.append(self.headers['Authorization'])
            content = state.files.get(self.path.partition('?')[0])
            status = 200
            if not with_body and not state.heads:
                status, content = 405, b''
            elif state.token and self.headers['Authorization'] != f'Bearer {state.token}':
                status, content = 401, b''
            elif self.path in state.redirects:
                status, content = 302, b''
            elif content is None:
                status, content = 404, b''
            total, start = len(content), 0
            if status == 200 and self.headers['Range']:
                status, start = 206, int(re.match(r'bytes=(\d+)-', self.headers['Range'])[1])
            self.send_response(status)
            self.send_header('Content-Length', str(total - start))
            if status == 206:
                self.send_header('Content-Range', f'bytes {start}-{total - 1}/{total}')
            if status == 302:
                self.send_header('Location', state.redirects[self.path])
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                time.sleep(state.delay)
                body = content[start:]
                if status in (200, 206) and state.cuts:
                    body = body[:state.cuts.pop(0)]
                    self.close_connection = True
                self.wfile.write(body)

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    state.address = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
