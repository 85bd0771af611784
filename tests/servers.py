"""Loopback HTTP servers for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def serve(answer: Callable[[BaseHTTPRequestHandler], None], *, method: str = "GET") -> Iterator[str]:
    """Answer requests of one method with `answer` on a free port of 127.0.0.1; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
