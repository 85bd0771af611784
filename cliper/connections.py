"""Connections for `fetch`: to public addresses only, and never read past their deadline.

In: the crawl's settings. Out: urllib3's pools. TLS trusts the system's certificates and those that come with requests.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from ipaddress import ip_address
from typing import Any

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from cliper.config import Crawl

BUFFER = 65_536  # bytes; most cover images come in one or two reads


def open_pools(settings: Crawl) -> urllib3.PoolManager:
    """Pools of kept connections, one a host, and one TLS context for all: a new one costs 30 ms of CPU."""
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    pools = urllib3.PoolManager(
        num_pools=max(settings.threads, 10), maxsize=settings.connections_per_host, ssl_context=context
    )
    pools.pool_classes_by_scheme = _guarded(settings)
    return pools


def is_public(address: str) -> bool:
    """Whether an address is anybody's: not private, loopback, link-local, shared or multicast.

    >>> is_public("192.0.43.7"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1"), is_public("224.0.0.1")
    (True, False, False, False)
    """
    ip = ip_address(address)
    return ip.is_global and not ip.is_multicast


def _guarded(settings: Crawl) -> dict[str, Any]:
    """urllib3's pools by scheme, with connections that check their peer and mind the clock."""
    allowed = {host.lower() for host in settings.allow_hosts}

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp.close()
            self.fp = io.BufferedReader(_Clocked(sock, settings.timeout_s), BUFFER)

    class Connection(urllib3.connection.HTTPConnection):
        response_class = Response

        def _new_conn(self) -> socket.socket:
            """Connect, and refuse before a byte is sent: names and redirects can lead anywhere."""
            sock = super()._new_conn()
            address = sock.getpeername()[0]
            if not is_public(address) and not {self.host, f"{self.host}:{self.port}"} & allowed:
                sock.close()
                raise ValueError(f"{address} is no public address and not in crawl.allow_hosts")
            return sock

    class TLSConnection(Connection, urllib3.connection.HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class TLSPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = TLSConnection

    return {"http": Pool, "https": TLSPool}


class _Clocked(io.RawIOBase):
    """A socket's bytes, none read after the deadline: a plain timeout starts anew with each byte that drips.

    The deadline is the socket's timeout at the start, which is what `fetch` asked for as read timeout.
    """

    def __init__(self, sock: socket.socket, silence_s: float) -> None:
        self._socket = sock
        self._silence_s = silence_s
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(min(self._silence_s, left_s))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
