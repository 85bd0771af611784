"""Fetch files over HTTP for `crawl`: politely, within limits, and from public addresses only.

In: URLs as they stand in the metadata. Out: one `Answer` a URL; no fault of a URL, server or network raises.
Not bounded by the deadline: the system's name look-up.
"""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from urllib3 import Retry, exceptions
from urllib3.util import parse_url

from cliper.collect.images import robots
from cliper.collect.images.connections import Connections, Origin
from cliper.collect.images.hosts import Hosts
from cliper.config.collect import Crawl

PORTS = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
FIRST_PAUSE_S = 0.5  # before the second attempt; doubles with each further one
CHUNK = 65_536  # bytes
FORBIDDEN = b"User-agent: *\nDisallow: /"  # taken for a robots.txt that is too large to be read
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex"})  # as img2dataset
VALUED_DIRECTIVES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Answer(NamedTuple):
    """What became of one URL; `body` stands where status is "ok"."""

    status: str  # ok, http_error, timeout, connection_error, given_up, refused or too_large
    http_code: int | None = None
    detail: str | None = None
    body: bytes | None = None
    final_url: str | None = None  # where redirects led
    retry_after_s: float = 0.0


def is_transient(status: str, http_code: int | None) -> bool:
    """Whether another try may end otherwise.

    >>> is_transient("http_error", 503), is_transient("http_error", 404), is_transient("timeout", None)
    (True, False, True)
    """
    if status == "http_error":
        return http_code is not None and (http_code == http.client.TOO_MANY_REQUESTS or http_code >= 500)
    return status in ("timeout", "connection_error", "given_up")


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


def locate(url: str) -> tuple[Origin, str]:
    """Take a URL apart: who is asked, and for what path and query. Raises ValueError if it is no http or https URL.

    >>> locate("http://Shop.test:81/I/51%2bZ/../a b.jpg?x=%2F#top")
    (Origin(scheme='http', host='shop.test', port=81), '/I/51%2bZ/../a%20b.jpg?x=%2F')
    >>> locate("https://[2001:db8::1]")
    (Origin(scheme='https', host='2001:db8::1', port=443), '/')
    """
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return _origin(parts.scheme, parts.netloc), quote(f"{parts.path or '/'}{query}", safe=robots.KEPT)


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> Origin:
    if scheme not in PORTS:
        raise ValueError("no http or https URL")
    try:
        where = parse_url(f"{scheme}://{netloc}")
    except exceptions.LocationParseError:
        raise ValueError("no URL") from None
    if not where.host:
        raise ValueError("no http or https URL")
    # The dot that may end a name stands in no certificate; without a port http.client takes 2001:db8::1 for port 1
    return Origin(scheme, where.host.strip("[]").rstrip("."), PORTS[scheme] if where.port is None else where.port)


class Fetcher:
    """Fetches URLs for many threads: one set of pools, one account of the hosts."""

    def __init__(self, settings: Crawl) -> None:
        self._settings = settings
        self._agent = re.split(r"[/\s]", settings.user_agent, maxsplit=1)[0].lower()
        self._headers = {"User-Agent": settings.user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._hosts = Hosts(settings)
        self._connections = Connections(settings)
        self._is_closed = threading.Event()
        self._lock = threading.Lock()
        self._locks = defaultdict[Origin, threading.Lock](threading.Lock)
        self._robots: dict[Origin, list[robots.Rule]] = {}

    def close(self) -> None:
        """Close the connections kept open; what is being fetched meanwhile is not tried again."""
        self._is_closed.set()
        self._connections.close()

    def fetch(self, url: str) -> Answer:
        """Fetch one URL, again after a pause where that may help, all before its deadline."""
        try:
            host = locate(url)[0].host
        except ValueError as error:
            return Answer("refused", detail=str(error))
        if why := self._hosts.why_given_up(host):
            return Answer("given_up", detail=why)
        answer = self._persist(url, host)
        failed = is_transient(answer.status, answer.http_code)
        self._hosts.note(host, f"{answer.status} ({answer.detail})" if failed else None)
        return answer

    def _persist(self, url: str, host: str) -> Answer:
        deadline = _Deadline(time.monotonic() + self._settings.deadline_s)
        for attempt in range(self._settings.attempts):
            answer = self._attempt(url, deadline)
            if not is_transient(answer.status, answer.http_code):
                break
            jitter = random.uniform(0.5, 1)  # noqa: S311 - spreads the retries, decides no result
            pause_s = max(answer.retry_after_s, FIRST_PAUSE_S * 2**attempt * jitter)
            if attempt + 1 == self._settings.attempts or pause_s > deadline.left_s():
                break
            if answer.retry_after_s:
                self._hosts.pause(host, answer.retry_after_s)
            if self._is_closed.wait(pause_s):
                break
        return answer

    def _attempt(self, url: str, deadline: _Deadline) -> Answer:
        try:
            return self._follow(url, deadline)
        except TimeoutError:
            return Answer("timeout", detail="no whole answer in time")
        except (OSError, http.client.HTTPException) as error:
            return Answer("connection_error", detail=_reason(error))
        except ValueError as error:  # an address that is not public, or no URL that can be asked
            return Answer("refused", detail=_reason(error))

    def _follow(self, asked: str, deadline: _Deadline, *, is_robots_txt: bool = False) -> Answer:
        url = asked
        for _ in range(1 + MAX_REDIRECTS):
            if not is_robots_txt and (refusal := self._refusal(url, deadline)):
                return refusal
            with self._get(url, deadline) as response:
                if (location := _location(response)) is None:
                    answer = self._read_rules(response) if is_robots_txt else self._read_file(response)
                    return answer if url == asked else answer._replace(final_url=url)
            url = urljoin(url, location)
        return Answer("http_error", response.status, f"more than {MAX_REDIRECTS} redirects")

    @contextmanager
    def _get(self, url: str, deadline: _Deadline) -> Iterator[http.client.HTTPResponse]:
        origin, target = locate(url)
        with self._hosts.turn(origin.host) as waited_s:
            deadline.at += waited_s  # a URL does not pay for the queue before it
            with self._connections.get(origin, target, self._headers, deadline=deadline.at) as response:
                yield response

    def _read_file(self, response: http.client.HTTPResponse) -> Answer:
        directive = opt_out(response.headers.get_all("X-Robots-Tag", []), agent=self._agent)
        if directive and response.status == http.client.OK:
            return Answer("refused", response.status, f"X-Robots-Tag: {directive}")
        return _read(response, self._settings.max_bytes)

    def _read_rules(self, response: http.client.HTTPResponse) -> Answer:
        """Take a robots.txt: what is said of it as a file does not lift its rules, nor does a small max_bytes."""
        return _read(response, max(self._settings.max_bytes, robots.MAX_CHARACTERS))

    def _refusal(self, url: str, deadline: _Deadline) -> Answer | None:
        """Say why robots.txt keeps us from a URL, or None. A robots.txt that fails in passing fails the URL."""
        if not self._settings.robots_txt:
            return None
        (origin, target), rules = locate(url), urljoin(url, "/robots.txt")
        with self._lock:
            lock = self._locks[origin]
        with lock:
            if origin not in self._robots:
                answer = self._follow(rules, deadline, is_robots_txt=True)
                if is_transient(answer.status, answer.http_code):
                    return answer._replace(detail=f"robots.txt: {answer.detail}")
                body = FORBIDDEN if answer.status == "too_large" else answer.body or b""
                self._robots[origin] = robots.parse(body.decode("utf-8-sig", "replace"), agent=self._agent)
        is_allowed = robots.is_allowed(self._robots[origin], target)
        return None if is_allowed else Answer("refused", detail="robots.txt")


def _read(response: http.client.HTTPResponse, max_bytes: int) -> Answer:
    """Take what the config allows of an answer that is no redirect."""
    code, headers = response.status, response.headers
    if code != http.client.OK:
        reason = http.client.responses.get(code, "unknown code")
        return Answer("http_error", code, reason, retry_after_s=_retry_after_s(headers))
    if response.length is not None and response.length <= max_bytes:
        return Answer("ok", code, body=response.read())  # fails if it is shorter than told
    body = bytearray()
    # read1, because read takes a chunk whose size is told as -1 for one without an end
    while response.length is None and len(body) <= max_bytes and (chunk := response.read1(CHUNK)):
        body += chunk
    if response.length is None and len(body) <= max_bytes:
        return Answer("ok", code, body=bytes(body))
    return Answer("too_large", code, f"more than {max_bytes} bytes")


def _location(response: http.client.HTTPResponse) -> str | None:
    location = response.headers.get("Location") if response.status in REDIRECTS else None
    return location and location.encode("latin-1").decode(
        errors="replace"
    )  # headers are read as Latin-1, meant as UTF-8


def _retry_after_s(headers: Message) -> float:
    with suppress(exceptions.InvalidHeader, ValueError, OverflowError):  # the last two: impossible dates
        return Retry().parse_retry_after(headers.get("Retry-After", "0"))
    return 0.0


def _reason(error: BaseException) -> str:
    """The innermost error in words; the outer ones name objects by their address in memory."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    words = str(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]
    return "".join(sign if sign.isprintable() else " " for sign in words)  # some repeat what the server sent


@dataclass
class _Deadline:
    at: float  # time.monotonic()

    def left_s(self) -> float:
        return self.at - time.monotonic()
