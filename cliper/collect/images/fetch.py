"""Fetch files over HTTP for `crawl`: politely, within limits, and from public addresses only.

In: URLs as the metadata has them. Out: one `Answer` per URL; faults of URLs, servers and the network raise nothing.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from http import HTTPStatus
from http.client import responses as reasons
from typing import NamedTuple, Self
from urllib.parse import quote, urljoin, urlsplit

from aiohttp import ClientError, ClientResponse, InvalidURL
from protego import Protego
from yarl import URL

from cliper.collect.images.connections import Connections, RefusedError
from cliper.collect.images.hosts import Hosts
from cliper.config.collect import Crawl

SAFE = "%/:?@!$&'()*+,;=~"  # kept in paths and queries: RFC 3986, section 3.3, and % of existing escapes
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
FIRST_PAUSE_S = 0.5  # before the second attempt; doubles with each further one
MAX_ROBOTS_TXT = 500 * 1024  # bytes; RFC 9309, section 2.5: a crawler must read at least this much
FORBIDDEN = b"User-agent: *\nDisallow: /"  # used instead of a robots.txt that is too large
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex"})  # as img2dataset
VALUED_DIRECTIVES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Answer(NamedTuple):
    """The outcome of one URL; `body` is set if status is "ok"."""

    status: str  # ok, http_error, timeout, connection_error, given_up, refused or too_large
    http_code: int | None = None
    detail: str | None = None
    body: bytes | None = None
    final_url: str | None = None  # the URL after redirects
    retry_after_s: float = 0.0


def is_transient(status: str, http_code: int | None) -> bool:
    """Whether another try may end otherwise.

    >>> is_transient("http_error", 503), is_transient("http_error", 404), is_transient("timeout", None)
    (True, False, True)
    """
    if status == "http_error":
        return http_code is not None and (http_code == HTTPStatus.TOO_MANY_REQUESTS or http_code >= 500)
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


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the parsers of URLs raise into RefusedError, so that no other ValueError counts as a fault of a URL."""
    try:
        yield
    except ValueError as error:
        raise RefusedError(str(error)) from error


@lru_cache(maxsize=1024)  # called in each attempt
def parse_url(url: str) -> URL:
    """The URL to request: path and query unchanged, no fragment. Raises RefusedError unless it is http or https.

    >>> str(parse_url("http://me:secret@Shop.test.:81/I/51%2bZ/../a b.jpg?x=%2F#top"))
    'http://shop.test:81/I/51%2bZ/../a%20b.jpg?x=%2F'
    >>> str(parse_url("https://[2001:db8::1]"))
    'https://[2001:db8::1]/'
    """
    with _refusing():
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return URL(_origin(parts.scheme, parts.netloc) + quote(target, safe=SAFE), encoded=True)


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> str:
    if scheme not in ("http", "https"):
        raise ValueError("no http or https URL")
    origin = URL(f"{scheme}://{netloc}").origin()
    assert origin.host is not None
    whole = origin.with_host(origin.host.rstrip("."))  # certificates lack the dot that may end a name
    str(whole.raw_host).encode("idna")  # as the resolver does; raises if a label is empty or too long
    return str(whole)


class Fetcher:
    """Fetches URLs within one event loop and keeps the hosts' limits; open it there by `async with`."""

    def __init__(self, settings: Crawl) -> None:
        self._settings = settings
        self._agent = re.split(r"[/\s]", settings.user_agent, maxsplit=1)[0].lower()
        self._hosts = Hosts(settings)
        self._connections = Connections(settings)
        self._locks = defaultdict[URL, asyncio.Lock](asyncio.Lock)
        self._rules: dict[URL, Protego] = {}  # origin -> its robots.txt

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def fetch(self, url: str) -> Answer:
        """Fetch one URL; after a transient failure, wait and try again until the deadline."""
        try:
            host = str(parse_url(url).raw_host)
        except RefusedError as error:
            return Answer("refused", detail=_reason(error))
        if why := self._hosts.why_given_up(host):
            return Answer("given_up", detail=why)
        answer = await self._persist(url, host)
        failed = is_transient(answer.status, answer.http_code)
        self._hosts.note(host, f"{answer.status} ({answer.detail})" if failed else None)
        return answer

    async def _persist(self, url: str, host: str) -> Answer:
        deadline = _Deadline(time.monotonic() + self._settings.deadline_s)
        for attempt in range(self._settings.attempts):
            answer = await self._attempt(url, deadline)
            if not is_transient(answer.status, answer.http_code):
                break
            jitter = random.uniform(0.5, 1)  # noqa: S311 - spreads the retries, decides no result
            pause_s = max(answer.retry_after_s, FIRST_PAUSE_S * 2**attempt * jitter)
            if attempt + 1 == self._settings.attempts or pause_s > deadline.left_s():
                break
            if answer.retry_after_s:
                self._hosts.pause(host, answer.retry_after_s)
            await asyncio.sleep(pause_s)
        return answer

    async def _attempt(self, url: str, deadline: _Deadline) -> Answer:
        try:
            return await self._follow(url, deadline)
        except TimeoutError:
            return Answer("timeout", detail="no whole answer in time")
        except (RefusedError, InvalidURL) as error:
            return Answer("refused", detail=_reason(error))
        except (OSError, ClientError) as error:
            return Answer("connection_error", detail=_reason(error))

    async def _follow(self, asked: str, deadline: _Deadline, *, is_robots_txt: bool = False) -> Answer:
        url = asked
        for _ in range(1 + MAX_REDIRECTS):
            parsed = parse_url(url)
            if not is_robots_txt and (refusal := await self._refusal(parsed, deadline)):
                return refusal
            async with self._hosts.turn(str(parsed.raw_host)) as waited_s:
                deadline.at += waited_s  # waiting for a turn does not count
                async with asyncio.timeout_at(deadline.at), self._connections.get(parsed) as response:
                    if (location := _location(response)) is None:
                        answer = await (self._read_rules(response) if is_robots_txt else self._read_file(response))
                        return answer if url == asked else answer._replace(final_url=url)
            with _refusing():
                url = urljoin(url, location)
        return Answer("http_error", response.status, f"more than {MAX_REDIRECTS} redirects")

    async def _read_file(self, response: ClientResponse) -> Answer:
        directive = opt_out(response.headers.getall("X-Robots-Tag", []), agent=self._agent)
        if directive and response.status == HTTPStatus.OK:
            return Answer("refused", response.status, f"X-Robots-Tag: {directive}")
        return await _read(response, self._settings.max_bytes)

    async def _read_rules(self, response: ClientResponse) -> Answer:
        """Read a robots.txt: neither an X-Robots-Tag on it nor a small max_bytes lifts its rules."""
        return await _read(response, max(self._settings.max_bytes, MAX_ROBOTS_TXT))

    async def _refusal(self, url: URL, deadline: _Deadline) -> Answer | None:
        """The refusal if robots.txt forbids the URL, else None. If robots.txt fails transiently, so does the URL."""
        if not self._settings.robots_txt:
            return None
        origin = url.origin()
        async with self._locks[origin]:
            if origin not in self._rules:
                answer = await self._follow(f"{origin}/robots.txt", deadline, is_robots_txt=True)
                if is_transient(answer.status, answer.http_code):
                    return answer._replace(detail=f"robots.txt: {answer.detail}")
                body = FORBIDDEN if answer.status == "too_large" else answer.body or b""
                self._rules[origin] = Protego.parse(body.decode("utf-8-sig", "replace")[:MAX_ROBOTS_TXT])
        is_allowed = self._rules[origin].can_fetch(str(url), self._agent)
        return None if is_allowed else Answer("refused", detail="robots.txt")


async def _read(response: ClientResponse, max_bytes: int) -> Answer:
    """Read an answer that is not a redirect, within the config's limits."""
    code = response.status
    if code != HTTPStatus.OK:
        retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""))
        return Answer("http_error", code, reasons.get(code, "unknown code"), retry_after_s=retry_after_s)
    body, is_fitting = bytearray(), (response.content_length or 0) <= max_bytes
    if is_fitting:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                break
    if not is_fitting or len(body) > max_bytes:
        return Answer("too_large", code, f"more than {max_bytes} bytes")
    return Answer("ok", code, body=bytes(body))


def _location(response: ClientResponse) -> str | None:
    location = response.headers.get("Location") if response.status in REDIRECTS else None
    return location and location.encode(errors="surrogateescape").decode(errors="replace")


def _retry_after_s(value: str) -> float:
    """Seconds that a `Retry-After` asks for, as a number or a date; 0 if it is neither."""
    with suppress(ValueError, OverflowError):
        if value.isdecimal():
            return float(value)
        if date := parsedate_tz(value):
            return max(0.0, mktime_tz(date) - time.time())
    return 0.0


def _reason(error: BaseException) -> str:
    """The innermost error in words; the outer ones name objects by their address in memory."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    message = getattr(error, "strerror", None) or getattr(error, "message", None)  # the latter is aiohttp's parser's
    words = str(message or str(error) or type(error).__name__)[:200]
    printable = "".join(sign if sign.isprintable() else " " for sign in words)  # some repeat the server's bytes
    return " ".join(printable.split())


@dataclass
class _Deadline:
    at: float  # time.monotonic(), which is the event loop's clock too

    def left_s(self) -> float:
        return self.at - time.monotonic()
