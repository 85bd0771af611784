"""Fetch one large file over HTTP: raw data for `download`, weights for `weights`.

In: a URL. Out: the file, whole or not at all. A partial file stays next to it, and the next attempt continues it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from cliper import log
from cliper.errors import SourceError

if TYPE_CHECKING:
    from aiohttp import ClientResponse

CHUNK = 1 << 20  # bytes
SLOWEST = 1_000  # bytes a second; a server that sends fewer would hold a run for days


class RefusedError(SourceError):
    """The server refuses the file: another attempt does not help."""


def fetch(url: str, target: Path, *, timeout_s: float) -> None:
    """Fetch a URL to `target`, continuing a partial file that an earlier attempt left next to it.

    timeout_s  longest time until an answer begins, and for each SLOWEST x timeout_s bytes of it

    The partial file is continued only if the server says that the file is still the same (If-Range).
    Raises SourceError; the partial file stays.
    """
    part = target.with_name(f".{target.name}.part")
    note = target.with_name(f".{target.name}.part.txt")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() and note.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    noted_url, _, validator = note.read_text(encoding="utf-8").partition("\n") if have else ("", "", "")
    if have and noted_url == url and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with asyncio.Runner() as runner, _answer(runner, url, headers, timeout_s) as response:
        continued = response.status == HTTPStatus.PARTIAL_CONTENT
        is_fitting = "Range" in headers and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if (continued and not is_fitting) or response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # it may be whole: a run was killed before it renamed the file
            raise SourceError(f"{url} does not continue the partial file that was here; it is removed now, run again")
        if response.status >= HTTPStatus.BAD_REQUEST:
            kind = RefusedError if response.status < HTTPStatus.INTERNAL_SERVER_ERROR else SourceError
            raise kind(f"{response.status} {response.reason}")
        start = have if continued else 0
        note.write_text(f"{url}\n{response.headers.get('ETag') or response.headers.get('Last-Modified', '')}")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        chunks = _chunks(runner, response, timeout_s)
        with part.open("ab" if continued else "wb") as out:
            n_chunks = total and -(-(total - start) // CHUNK)
            for chunk in log.progress(chunks, what=f"MiB of {target.name}", total=n_chunks):
                out.write(chunk)
    if total is not None and part.stat().st_size != total:
        raise SourceError(f"{url} gave {part.stat().st_size:,} of {total:,} bytes")
    part.replace(target)
    note.unlink()


def tls_context() -> ssl.SSLContext:
    """A TLS context that trusts the system's certificates and Mozilla's. Making one takes 30 ms of CPU."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@contextmanager
def _answer(runner: asyncio.Runner, url: str, headers: Mapping[str, str], timeout_s: float) -> Iterator[ClientResponse]:
    """The beginning of an answer; the rest can be read in the block. Raises SourceError, in the block too."""
    import aiohttp  # 0.2 s, and few jobs fetch anything

    async def ask() -> ClientResponse:
        async with asyncio.timeout(timeout_s):
            return await session.get(url, headers=headers)

    async def open_session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=tls_context())
        unlimited = aiohttp.ClientTimeout(total=None)  # the limits are ours
        return aiohttp.ClientSession(connector=connector, timeout=unlimited, auto_decompress=False, trust_env=True)

    session = runner.run(open_session())
    try:
        with closing(runner.run(ask())) as response:
            yield response
    except TimeoutError:
        raise SourceError(f"less than {SLOWEST:,} bytes a second for {timeout_s:g} s") from None
    except aiohttp.ClientConnectionError as error:
        raise SourceError("no connection") from error
    except aiohttp.ClientError as error:
        raise SourceError(" ".join(str(error).split())[:200]) from error
    finally:
        runner.run(session.close())


def _chunks(runner: asyncio.Runner, response: ClientResponse, timeout_s: float) -> Iterator[bytes]:
    """The body in pieces of CHUNK bytes. Raises TimeoutError if it comes too slowly, or what aiohttp raises."""

    async def read() -> bytes:
        body = bytearray()
        while len(body) < CHUNK and not response.content.at_eof():
            async with asyncio.timeout(timeout_s):
                body += await _read_up_to(response, max(1, int(SLOWEST * timeout_s)))
        return bytes(body)

    while chunk := runner.run(read()):
        yield chunk


async def _read_up_to(response: ClientResponse, size: int) -> bytes:
    """Bytes of the body: `size` of them, or fewer at its end."""
    try:
        return await response.content.readexactly(size)
    except asyncio.IncompleteReadError as error:
        return error.partial
