"""A quick server of JPEGs for the crawl benchmark, on 127.0.0.1, in a process of its own.

    python -m benchmarks.mirror CERTIFICATE KEY

It prints its port for http and its port for https. `/50/7.jpg` is picture 7, sent after 50 ms; numbers beyond the last
picture start again from 0. `/account` says how many pictures were fetched since the last account, over how many
connections, and the time between the first and the last.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import sys
import time

import numpy as np
from numpy.random import Generator
from PIL import Image

N_PICTURES = 250
SEED = 1


def draw_picture(generator: Generator, kind: str = "JPEG") -> bytes:
    """Draw a picture of 300 x 300 pixels and, as a JPEG, about 9 kB: smooth colours."""
    coarse = Image.fromarray(generator.integers(0, 255, (9, 9, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((300, 300), Image.Resampling.BICUBIC).save(file, kind, quality=80)
    return file.getvalue()


class Account:
    """What was asked for."""

    def __init__(self) -> None:
        self.connections = 0
        self.times: list[float] = []

    def close(self) -> bytes:
        """Return the account as JSON and start a new one."""
        seconds = max(self.times, default=0.0) - min(self.times, default=0.0)
        account = {"pictures": len(self.times), "connections": self.connections, "seconds": seconds}
        self.connections, self.times = 0, []
        return json.dumps(account).encode()


class Connection(asyncio.Protocol):
    """Answers the requests of one connection, one after the other."""

    def __init__(self, pictures: list[bytes], account: Account) -> None:
        self._pictures = pictures
        self._account = account
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._account.connections += 1

    def data_received(self, data: bytes) -> None:
        """Take a request; its answer waits as long as the path says."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            is_last = b"connection: close" in head.lower()
            path = head.split(b" ", 2)[1].decode()
            if path == "/account":
                self._send(self._account.close(), is_last=is_last)
                continue
            self._account.times.append(time.monotonic())
            _, delay_ms, name = path.split("/")
            picture = self._pictures[int(name.removesuffix(".jpg")) % len(self._pictures)]
            asyncio.get_running_loop().call_later(int(delay_ms) / 1000, lambda: self._send(picture, is_last=is_last))  # noqa: B023

    def _send(self, body: bytes, *, is_last: bool) -> None:
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)
        if is_last:
            self._transport.close()


async def main(certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    generator, account = np.random.default_rng(SEED), Account()
    pictures = [draw_picture(generator) for _ in range(N_PICTURES)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    for tls in (None, context):
        server = await loop.create_server(lambda: Connection(pictures, account), "127.0.0.1", 0, ssl=tls, backlog=1024)
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
