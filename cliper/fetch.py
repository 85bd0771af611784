"""Fetch files over HTTP for `crawl`: politely, within limits, and from public addresses only.

In: URLs as they stand in the metadata. Out: one `Answer` a URL; no fault of a URL, server or network raises.
Not bounded by the deadline: the system's name look-up and a TLS handshake whose bytes drip.
"""

from __future__ import annotations

import http.client
import io
import random
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from cliper.config import Crawl

MAX_REDIRECTS = 5
FIRST_PAUSE_S = 0.5  # before the second attempt; doubles with each further one
CHUNK = 65_536  # bytes
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex"})  # as img2dataset
VALUED_DIRECTIVES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Answer(NamedTuple):
    """What became of one URL; `body` stands where status is "ok"."""

    status: str  # ok, http_error, timeout, connection_error, refused or too_large
    http_code: int | None = None
    detail: str | None = None
    body: bytes | None = None
    retry_after_s: float = 0.0


def is_transient(status: str, http_code: int | None) -> bool:
    """Whether another try may end otherwise.

    >>> is_transient("http_error", 503), is_transient("http_error", 404), is_transient("timeout", None)
    (True, False, True)
    """
    if status == "http_error":
        return http_code is not None and (http_code == http.client.TOO_MANY_REQUESTS or http_code >= 500)
    return status in ("timeout", "connection_error")


def opt_out(lines: Iterable[str], *, agent: str) -> str | None:
    """First directive of `X-Robots-Tag` lines that forbids us the file: unscoped, or for our agent's name.

    >>> opt_out(["otherbot: noai, noindex", "max-snippet: 5, noimageai"], agent="cliper")
    'noimageai'
    """
    for line in lines:
        scope = ""
        for part in line.lower().split(","):
            name, colon, rest = (word.strip() for word in part.partition(":"))
            if colon and name not in VALUED_DIRECTIVES:
                scope, name = name, rest
            if name in OPT_OUTS and scope in ("", agent):
                return name
    return None


class Fetcher:
    """Fetches URLs for many threads: one pool of connections, one account of turns per host."""

    def __init__(self, settings: Crawl) -> None:
        self._settings = settings
        self._hosts = _Hosts(settings.connections_per_host, settings.requests_per_s)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: the address checked is the address asked
        self._session.headers = {"User-Agent": settings.user_agent, "Accept-Encoding": "identity"}
        adapter = HTTPAdapter(pool_connections=settings.threads, pool_maxsize=settings.threads)
        adapter.poolmanager.pool_classes_by_scheme = _guarded_pools(settings)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        """Close the connections kept open."""
        self._session.close()

    def fetch(self, url: str) -> Answer:
        """Fetch one URL, again after a pause where that may help, all before its deadline."""
        deadline = _Deadline(time.monotonic() + self._settings.deadline_s)
        for attempt in range(self._settings.attempts):
            answer = self._attempt(url, deadline)
            if not is_transient(answer.status, answer.http_code):
                break
            jitter = random.uniform(0.5, 1)  # noqa: S311 - spreads the retries, decides no result
            pause_s = max(answer.retry_after_s, FIRST_PAUSE_S * 2**attempt * jitter)
            if attempt + 1 == self._settings.attempts or pause_s > deadline.left_s():
                break
            time.sleep(pause_s)
        return answer

    def _attempt(self, url: str, deadline: _Deadline) -> Answer:
        try:
            for _ in range(1 + MAX_REDIRECTS):
                with self._get(url, deadline) as response:
                    location = self._session.get_redirect_target(response)
                    if location is None:
                        return _read(response, self._settings)
                url = urljoin(url, location)
        except ValueError as error:  # an address that is not public, or a URL that requests cannot use
            return Answer("refused", detail=_reason(error))
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            return Answer("timeout", detail="no whole answer in time")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return Answer("connection_error", detail=_reason(error))
        return Answer("http_error", response.status_code, f"more than {MAX_REDIRECTS} redirects")

    @contextmanager
    def _get(self, url: str, deadline: _Deadline) -> Iterator[requests.Response]:
        request = self._session.prepare_request(requests.Request("GET", url))
        request.url = url  # as it stands: requests would decode escapes such as %7E
        # not session.send: it reads the bodies of redirects whole, whatever their length
        adapter = self._session.get_adapter(url)
        with self._hosts.turn(urlsplit(url).hostname or "") as waited_s:
            deadline.at += waited_s  # a URL does not pay for the queue before it
            left_s = deadline.left_s()
            if left_s <= 0:
                raise requests.Timeout
            timeout = (min(self._settings.timeout_s, left_s), left_s)
            with adapter.send(request, stream=True, timeout=timeout) as response:
                yield response


def _read(response: requests.Response, settings: Crawl) -> Answer:
    """Take what the config allows of an answer that is no redirect."""
    code, headers = response.status_code, response.raw.headers
    if code != http.client.OK:
        reason = http.client.responses.get(code, "unknown code")
        return Answer("http_error", code, reason, retry_after_s=_retry_after_s(headers))
    agent = re.split(r"[/\s]", settings.user_agent, maxsplit=1)[0].lower()
    if directive := opt_out(headers.getlist("X-Robots-Tag"), agent=agent):
        return Answer("refused", code, f"X-Robots-Tag: {directive}")
    too_large = Answer("too_large", code, f"more than {settings.max_bytes} bytes")
    length = headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > settings.max_bytes:
        return too_large
    body = bytearray()
    for chunk in response.raw.stream(CHUNK, decode_content=False):
        body += chunk
        if len(body) > settings.max_bytes:
            return too_large
    return Answer("ok", code, body=bytes(body))


def _retry_after_s(headers: urllib3.HTTPHeaderDict) -> float:
    with suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # the last two: impossible dates
        return urllib3.Retry().parse_retry_after(headers.get("Retry-After", "0"))
    return 0.0


def _reason(error: BaseException) -> str:
    """The innermost error in words; the outer ones name objects by their address in memory."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


@dataclass
class _Deadline:
    at: float  # time.monotonic()

    def left_s(self) -> float:
        return self.at - time.monotonic()


class _Hosts:
    """Lets each host be asked by so many at once and so often a second."""

    def __init__(self, connections: int, requests_per_s: float) -> None:
        self._interval_s = 1 / requests_per_s
        self._lock = threading.Lock()
        self._slots = defaultdict[str, threading.Semaphore](lambda: threading.Semaphore(connections))
        self._next = defaultdict[str, float](float)

    @contextmanager
    def turn(self, host: str) -> Iterator[float]:
        """Wait for a turn and hold it; gives the seconds waited."""
        asked = time.monotonic()
        with self._lock:
            slot = self._slots[host]
        with slot:
            with self._lock:
                start = max(self._next[host], time.monotonic())
                self._next[host] = start + self._interval_s
            time.sleep(max(0.0, start - time.monotonic()))
            yield time.monotonic() - asked


def _guarded_pools(settings: Crawl) -> dict[str, Any]:
    """urllib3's pools by scheme, with connections that check their peer and mind the clock."""
    allowed = {host.lower() for host in settings.allow_hosts}

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp.close()
            self.fp = io.BufferedReader(_Clocked(sock, settings.timeout_s))

    class Connection(urllib3.connection.HTTPConnection):
        response_class = Response

        def _new_conn(self) -> socket.socket:
            """Connect, and refuse before a byte is sent: names and redirects can lead anywhere."""
            sock = super()._new_conn()
            address = sock.getpeername()[0]
            if not ip_address(address).is_global and not {self.host, f"{self.host}:{self.port}"} & allowed:
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

    The deadline is the socket's timeout at the start, which is what `_get` asked for as read timeout.
    """

    def __init__(self, sock: socket.socket, silence_s: float) -> None:
        self._socket = sock
        self._silence_s = silence_s
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = _Deadline(time.monotonic() + (sock.gettimeout() or 0.0))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline.left_s()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(min(self._silence_s, left_s))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
