"""A server that misbehaves on purpose, on loopback: each page has its own answer. For tests and the fault table."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


def picture(kind: str = "JPEG", *, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    """Draw grey noise; `options` go to Pillow's writer."""
    file = io.BytesIO()
    noise = Image.effect_noise(size, 80).convert(mode)
    noise.save(file, kind, **options)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A black 1-bit PNG: 400 megapixels in 0.2 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + -(-side // 8)) * side), level=1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def scans(count: int, *, side: int = 40) -> bytes:
    """A grey progressive JPEG with `count` more scans, which change nothing; a few bytes each."""
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True)
    image = file.getvalue()
    last = image.rindex(b"\xff\xda")
    return image[:last] + image[last:-2] * (1 + count) + image[-2:]


def chunks(count: int) -> bytes:
    """A PNG with `count` chunks without meaning before its image: 2 to 3 s of CPU a million."""
    image, head = picture("PNG"), 33  # bytes of the signature and the first chunk
    chunk = struct.pack(">I", 0) + b"prIv" + struct.pack(">I", zlib.crc32(b"prIv"))
    return image[:head] + chunk * count + image[head:]


JPEG = picture()
Behaviour = Callable[[BaseHTTPRequestHandler], None]


def answer(body: bytes = JPEG, *, code: int = 200, **headers: str) -> Behaviour:
    """Send a body with these headers, `_` standing for `-`."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        lengths = {} if "Content_Length" in headers else {"Content-Length": str(len(body))}
        for name, value in {**lengths, **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def drip(before: bytes) -> Behaviour:
    """Send a start, then a byte every 20 ms for a minute: never silent, never done."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(before)
        for _ in range(3000):
            handler.wfile.write(b"x")
            time.sleep(0.02)

    return behave


def flood(before: bytes, again: bytes) -> Behaviour:
    """Send a start, then the same bytes until the other side hangs up."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(before)
        while True:
            handler.wfile.write(again)

    return behave


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing until the other side hangs up."""
    handler.close_connection = True
    handler.connection.recv(1)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Reset the connection, as a server that crashes does."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def answer_once(then: Behaviour) -> Behaviour:
    """Answer the first request of each connection, and do `then` at its second."""
    answered = list[BaseHTTPRequestHandler]()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        (then if handler in answered else answer())(handler)
        answered.append(handler)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour per request; the last one stays."""
    left = list(behaviours)

    def behave(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return behave


class Shop:
    """A server with given answers that remembers its requests."""

    def __init__(self, address: str, port: int) -> None:
        self.pages: dict[str, Behaviour] = {}
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.most_at_once = 0
        self.is_dead = False
        self._at_once = 0
        shop, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with lock:
                    shop.asked.append(self.path)
                    shop.headers = dict(self.headers)
                    shop._at_once += 1
                    shop.most_at_once = max(shop.most_at_once, shop._at_once)
                try:
                    page = hang_up if shop.is_dead else shop.pages.get(self.path, answer(b"gone", code=404))
                    page(self)
                except OSError:
                    self.close_connection = True  # the crawler hung up, as it should
                with lock:
                    shop._at_once -= 1

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((address, port), Handler)
        self.url = f"http://{address}:{self.server.server_port}"


@contextmanager
def serve(address: str, *, port: int = 0) -> Iterator[Shop]:
    """Serve on an address while the block runs; port 0 takes a free one."""
    shop = Shop(address, port)
    thread = threading.Thread(target=shop.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shop
    finally:
        shop.server.shutdown()
        thread.join()
        shop.server.server_close()
