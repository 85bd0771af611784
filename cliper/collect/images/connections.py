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
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import certifi
from urllib3.util import wait_for_read

from cliper.config.collect import Crawl

NAT64 = ip_network("64:ff9b::/96")  # RFC 6052
BUFFER = 65_536  # bytes; most cover images come in one or two reads


class Origin(NamedTuple):
    """Who is asked."""

    scheme: str  # http or https
    host: str  # in ASCII, an IPv6 address without brackets
    port: int


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
        self, origin: Origin, target: str, headers: Mapping[str, str], *, deadline: float
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for a target; the answer's body can be read in the block, up to the deadline (time.monotonic()).

        Raises OSError (TimeoutError at the deadline or after long silence), http.client.HTTPException, and ValueError
        for an address that is neither public nor allowed.
        """
        clock = _Clock(self._silence_s, deadline)
        connection, answer = self._ask(origin, target, headers, clock)
        try:
            with answer as response:
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
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _ask(
        self, origin: Origin, target: str, headers: Mapping[str, str], clock: _Clock
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        if kept := self._take(origin):
            # The server may end it just as we ask; that is no fault of the URL (RFC 9112, section 9.3.1)
            with suppress(ConnectionError, ssl.SSLError, http.client.BadStatusLine):
                return kept, kept.ask(target, headers, clock)
        new = self._open(origin)
        return new, new.ask(target, headers, clock)

    def _take(self, origin: Origin) -> _Connection | None:
        while True:
            with self._lock:
                places = [place for place, (kept, _) in enumerate(self._idle) if kept == origin]
                if not places:
                    return None
                _, connection = self._idle.pop(places[-1])
            if not wait_for_read(connection.sock, timeout=0):  # else it has ended, or said what nobody asked
                return connection
            connection.close()

    def _open(self, origin: Origin) -> _Connection:
        is_tls, where = origin.scheme == "https", (origin.host, origin.port)
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
    >>> is_public("64:ff9b::169.254.169.254"), is_public("64:ff9b::192.0.43.7"), is_public("fec0::1")
    (False, True, False)
    """
    ip = ip_address(address)
    if ip in NAT64:
        ip = ip_address(int(ip) & 0xFFFF_FFFF)  # the IPv4 address that it leads to
    return ip.is_global and not ip.is_multicast and not getattr(ip, "is_site_local", False)


class _Clock(NamedTuple):
    """How long a request may take: a plain timeout starts anew with each byte that drips."""

    silence_s: float
    deadline: float  # time.monotonic()

    def wait_s(self) -> float:
        """Longest wait for the next thing to happen. Raises TimeoutError at the deadline."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return min(self.silence_s, left_s)


class _Connection(http.client.HTTPConnection):
    """A connection that checks its peer and whose answers mind the clock."""

    allowed: frozenset[str] = frozenset()  # hosts that may be anywhere
    clock: _Clock

    def ask(self, target: str, headers: Mapping[str, str], clock: _Clock) -> http.client.HTTPResponse:
        """Ask for a target; the connection is closed where there is no answer."""
        self.clock = clock
        self.response_class = partial(_Response, clock=clock)  # type: ignore[assignment]
        try:
            if self.sock is not None:
                _wait(self.sock, clock.wait_s())
            self.request("GET", target, headers=dict(headers))
            return self.getresponse()
        except BaseException:
            self.close()
            raise

    def connect(self) -> None:
        """Connect to the first address that answers, and to none that is not public: names can lead anywhere."""
        is_allowed = bool({self.host, f"{self.host}:{self.port}"} & self.allowed)
        failure = OSError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            if not is_allowed and not is_public(str(address[0])):
                raise ValueError(f"{address[0]} is no public address and not in crawl.allow_hosts")
            self.sock = socket.socket(family, kind, protocol)
            try:
                _wait(self.sock, self.clock.wait_s())
                self.sock.connect(address)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _wait(self.sock, self.clock.wait_s())  # for the handshake and the request
                return
            except OSError as error:
                self.close()
                failure = error
        raise failure


class _TLSConnection(http.client.HTTPSConnection, _Connection):
    """The same; the check comes before the handshake."""


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, clock: _Clock, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Clocked(sock, clock), BUFFER)

    def begin(self) -> None:
        """Read the head; those of answers in between (103, RFC 9110, section 15.2) are passed over."""
        super().begin()
        while 100 < self.status < 200:
            self.headers = None  # type: ignore[assignment]  # else nothing is read
            super().begin()


class _Clocked(io.RawIOBase):
    """A socket's bytes, none read after the deadline."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._socket, self._clock = sock, clock
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _wait(self._socket, self._clock.wait_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _wait(sock: socket.socket, seconds: float) -> None:
    if sock.gettimeout() != seconds:  # to set it is a call of the system, and a turn of the interpreter's lock
        sock.settimeout(seconds)
