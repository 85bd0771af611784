"""Connections for `fetch`, made by aiohttp: only to public addresses, and kept for the next request.

In: the crawl's settings. Out: aiohttp's responses, their bodies as the server sent them. TLS trusts the system's
certificates and Mozilla's, by certifi.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self

import aiohttp
from aiohttp import ClientHandlerType
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType, Connection
from yarl import URL

from cliper.config.collect import Crawl
from cliper.web import tls_context

HOLD_IPV4 = (ip_network("::/96"), ip_network("64:ff9b::/96"))  # an IPv4 address in the last 32 bits: RFC 4291 and 6052
LOCAL_NAT64 = ip_network("64:ff9b:1::/48")  # RFC 8215
MAX_HEADER_LINES = 100
KEPT_S = 2.0  # an idle connection is closed after this: with many hosts, the process would run out of open files
MAX_INTERIM = 20  # answers 1xx before the answer itself; without a limit one host could keep the event loop busy
BUFFER = 1 << 20  # bytes that may wait to be read; images come in one or two reads


class RefusedError(Exception):
    """A fault of a URL itself: no request for it is sent."""


class Connections:
    """Sends requests within one event loop; open it there by `async with`."""

    def __init__(self, settings: Crawl) -> None:
        self._settings = settings
        self._allowed = frozenset(host.lower() for host in settings.allow_hosts)

    async def __aenter__(self) -> Self:
        resolver = aiohttp.ThreadedResolver()  # the system's, also where aiodns is installed
        self._public = self._open(resolver, to_public=True)
        self._anywhere = self._open(resolver, to_public=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._public.close()
        await self._anywhere.close()

    def get(self, url: URL) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Request a URL; the response can be read in the block.

        Raises TimeoutError if the server sends nothing for too long, RefusedError for an address that is neither
        public nor allowed, and aiohttp.ClientError or another OSError for other failures.
        """
        is_allowed = bool({str(url.raw_host), f"{url.raw_host}:{url.port}"} & self._allowed)
        session = self._anywhere if is_allowed else self._public
        return session.get(url, allow_redirects=False, ssl=self._context if url.scheme == "https" else True)

    def _open(self, resolver: AbstractResolver, *, to_public: bool) -> aiohttp.ClientSession:
        silence_s = self._settings.timeout_s
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            limit=0,  # `Hosts` and the number of requests in flight are the limits
            keepalive_timeout=KEPT_S,
            happy_eyeballs_delay=None,  # one address after the other, so that a forbidden one ends the attempt
            socket_factory=open_public_socket if to_public else None,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._settings.user_agent, "Accept": "*/*", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=silence_s, sock_read=silence_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_headers=MAX_HEADER_LINES,
            read_bufsize=BUFFER,
            request_class=_Request,
            response_class=_Response,
            middlewares=(_ask_again_if_kept,),
        )

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """One TLS context for all connections."""
        return tls_context()


def open_public_socket(info: AddrInfoType) -> socket.socket:
    """Make the socket for an address that aiohttp is about to connect to. Raises RefusedError unless it is public."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise RefusedError(f"{address[0]} is no public address and not in crawl.allow_hosts")
    return socket.socket(family, kind, protocol)


def is_public(address: str) -> bool:
    """Whether an address is public: not private, loopback, link-local, shared or multicast.

    >>> is_public("192.0.43.7"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1"), is_public("224.0.0.1")
    (True, False, False, False)
    >>> is_public("64:ff9b::169.254.169.254"), is_public("64:ff9b::192.0.43.7"), is_public("fec0::1")
    (False, True, False)
    >>> is_public("::7f00:1"), is_public("2002:7f00:1::"), is_public("64:ff9b:1::c000:2b07")
    (False, False, False)
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.is_site_local or ip in LOCAL_NAT64:
            return False
        ip = _embedded_ipv4(ip) or ip
    return ip.is_global and not ip.is_multicast


def _embedded_ipv4(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: through NAT64, 6to4, or as an IPv4-compatible one."""
    if any(ip in network for network in HOLD_IPV4):
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.sixtofour


class _Guard(asyncio.Protocol):
    """Sits between a connection and aiohttp's parser, because the parser has four faults with broken answers.

    If a response's head and a fault arrive together (a body longer than its Content-Length), the parser loses the
    response: so the guard passes the head on first. If the parser cannot parse a body, the body's reader waits; if a
    body without a length is cut, the parser takes it as whole: in both cases the guard sends the error to the reader.
    The parser takes any number of interim answers: the guard closes the connection after `MAX_INTERIM` of them.
    """

    def __init__(self, handler: ResponseHandler) -> None:
        self._handler = handler
        self._body: aiohttp.StreamReader | None = None
        self._interim = 0  # interim answers since the last answer

    def watch(self, body: aiohttp.StreamReader) -> None:
        """Let this body fail if its data cannot be parsed or the connection ends early."""
        self._body = body
        self._interim = 0
        self._fail(self._handler.exception())

    def _fail(self, error: BaseException | None) -> None:
        if error is not None and self._body is not None and not self._body.is_eof():
            self._body.set_exception(aiohttp.ClientPayloadError(), error)

    def data_received(self, data: bytes) -> None:
        is_head = self._body is None or self._body.is_eof()
        while 4 <= (end := data.find(b"\r\n\r\n") + 4) < len(data):
            is_interim = is_head and data.startswith(b"HTTP/1.1 1")
            self._interim += is_interim
            if self._interim > MAX_INTERIM:
                self._handler.close()  # forgets an exception: so close first
                self._handler.set_exception(aiohttp.ClientConnectionError(f"more than {MAX_INTERIM} interim answers"))
                return
            self._handler.data_received(data[:end])
            data = data[end:]
            if not is_interim:
                break
        self._handler.data_received(data)
        self._fail(self._handler.exception())

    def eof_received(self) -> None:
        self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc)
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()


class _Request(aiohttp.ClientRequest):
    """A request that knows whether its connection was kept from an earlier request."""

    is_on_kept = False

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        assert conn.transport is not None and conn.protocol is not None
        self.is_on_kept = isinstance(conn.transport.get_protocol(), _Guard)
        if not self.is_on_kept:
            conn.transport.set_protocol(_Guard(conn.protocol))
        return await super().send(conn)


class _Response(aiohttp.ClientResponse):
    """A response whose body is watched by its connection's guard."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        guard = connection.transport and connection.transport.get_protocol()
        await super().start(connection)
        if isinstance(guard, _Guard):
            guard.watch(self.content)
        return self


async def _ask_again_if_kept(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request; send it again only if the server has closed a kept connection, which is no fault of the URL.

    The server may close it while we send: RFC 9112, section 9.3.1. aiohttp's own retry would also repeat requests on
    new connections, but not one on a kept connection that ends with junk.
    """
    assert isinstance(request, _Request)
    while True:
        request.is_on_kept = False
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError) as error:
            if not request.is_on_kept:
                raise ConnectionError(str(error)) from error  # aiohttp does not retry this class
