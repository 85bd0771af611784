"""Connections for `fetch`: to public addresses only, kept for the next request, never read past their deadline.

In: the crawl's settings. Out: answers of the standard library's http.client, which takes two thirds of the time of
urllib3's pools on top of it (DECISIONS.md). TLS trusts the system's certificates and Mozilla's, by certifi.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from ipaddress import ip_address
from typing import Any, NamedTuple

import certifi
from urllib3.util import wait_for_read

from cliper.config import Crawl

BUFFER = 65_536  # bytes; most cover images come in one or two reads


class Origin(NamedTuple):
    """Who is asked."""

    scheme: str  # http or https
    host: str  # in ASCII, an IPv6 address without brackets
    port: int | None


class Connections:
    """Lends connections to threads, one request at a time; those idle for longest are closed."""

    def __init__(self, settings: Crawl) -> None:
        self._silence_s = settings.timeout_s
        self._allowed = frozenset(host.lower() for host in settings.allow_hosts)
        self._n_idle = settings.threads
        self._lock = threading.Lock()
        self._idle: list[tuple[Origin, _Connection]] = []  # the one used last at the end

    @contextmanager
    def get(
        self, origin: Origin, target: str, headers: Mapping[str, str], *, left_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for a target; the answer's body can be read in the block, up to the deadline in so many seconds.

        Raises OSError (TimeoutError at the deadline or after long silence), http.client.HTTPException, and ValueError
        for an address that is neither public nor allowed.
        """
        connection = self._take(origin)
        try:
            connection.mind(self._silence_s, left_s)
            connection.request("GET", target, headers=dict(headers))
            with connection.getresponse() as response:
                yield response
                is_whole = response.isclosed() and not response.will_close
        except BaseException:
            connection.close()
            raise
        self._give_back(origin, connection, is_whole=is_whole)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """One for all: a new one costs 30 ms of CPU."""
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context

    def close(self) -> None:
        """Close the connections that are idle."""
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    def _take(self, origin: Origin) -> _Connection:
        while True:
            with self._lock:
                places = [place for place, (kept, _) in enumerate(self._idle) if kept == origin]
                if not places:
                    break
                _, connection = self._idle.pop(places[-1])
            if not wait_for_read(connection.sock, timeout=0):  # else it has ended, or said what nobody asked
                return connection
            connection.close()
        is_tls = origin.scheme == "https"
        where = origin.host, origin.port
        connection = _TLSConnection(*where, context=self._context) if is_tls else _Connection(*where)
        connection.allowed = self._allowed
        return connection

    def _give_back(self, origin: Origin, connection: _Connection, *, is_whole: bool) -> None:
        if not is_whole:
            connection.close()
            return
        with self._lock:
            self._idle.append((origin, connection))
            too_many = self._idle[: -self._n_idle]
            del self._idle[: -self._n_idle]
        for _, oldest in too_many:
            oldest.close()


def is_public(address: str) -> bool:
    """Whether an address is anybody's: not private, loopback, link-local, shared or multicast.

    >>> is_public("192.0.43.7"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1"), is_public("224.0.0.1")
    (True, False, False, False)
    """
    ip = ip_address(address)
    return ip.is_global and not ip.is_multicast


class _Connection(http.client.HTTPConnection):
    """A connection that checks its peer and whose answers mind the clock."""

    allowed: frozenset[str] = frozenset()  # hosts that may be anywhere

    def mind(self, silence_s: float, left_s: float) -> None:
        """Let the next request's connecting, sending and each wait for bytes take so long, and all reading so long."""
        self.timeout = min(silence_s, left_s)
        if self.sock is not None:
            _wait(self.sock, self.timeout)
        deadline = time.monotonic() + left_s
        self.response_class = partial(_Response, silence_s=silence_s, deadline=deadline)  # type: ignore[assignment]

    def connect(self) -> None:
        """Connect, and refuse before a byte is sent: names and redirects can lead anywhere."""
        super().connect()
        address = self.sock.getpeername()[0]
        if not is_public(address) and not {self.host, f"{self.host}:{self.port}"} & self.allowed:
            raise ValueError(f"{address} is no public address and not in crawl.allow_hosts")


class _TLSConnection(http.client.HTTPSConnection, _Connection):
    """The same; the check comes before the handshake."""


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, silence_s: float, deadline: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Clocked(sock, silence_s, deadline), BUFFER)


class _Clocked(io.RawIOBase):
    """A socket's bytes, none read after the deadline: a plain timeout starts anew with each byte that drips."""

    def __init__(self, sock: socket.socket, silence_s: float, deadline: float) -> None:
        self._socket, self._silence_s, self._deadline = sock, silence_s, deadline
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        _wait(self._socket, min(self._silence_s, left_s))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _wait(sock: socket.socket, seconds: float) -> None:
    if sock.gettimeout() != seconds:  # to set it is a call of the system, and a turn of the interpreter's lock
        sock.settimeout(seconds)
