"""Fetch one large file over HTTP: raw data for `download`, weights for `weights`.

In: a URL. Out: the file, whole or not at all. A partial file stays next to it, and the next attempt continues it.
"""

from __future__ import annotations

from pathlib import Path

import requests

from cliper import log
from cliper.errors import SourceError

CHUNK = 1 << 20  # bytes


def fetch(url: str, target: Path, *, timeout_s: float) -> None:
    """Fetch a URL to `target`, continuing a partial file that an earlier attempt left next to it.

    The partial file is continued only if the server says that the file is still the same (If-Range).
    Raises requests.RequestException or SourceError; the partial file stays.
    """
    part = target.with_name(f".{target.name}.part")
    note = target.with_name(f".{target.name}.part.txt")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() and note.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    noted_url, _, validator = note.read_text(encoding="utf-8").partition("\n") if have else ("", "", "")
    if have and noted_url == url and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
        continued = response.status_code == requests.codes.partial_content
        is_fitting = "Range" in headers and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if (continued and not is_fitting) or response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)  # it may be whole: a run was killed before it renamed the file
            raise SourceError(f"{url} does not continue the partial file that was here; it is removed now, run again")
        response.raise_for_status()
        start = have if continued else 0
        note.write_text(f"{url}\n{response.headers.get('ETag') or response.headers.get('Last-Modified', '')}")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        with part.open("ab" if continued else "wb") as out:
            n_chunks = total and -(-(total - start) // CHUNK)
            for chunk in log.progress(response.iter_content(CHUNK), what=f"MiB of {target.name}", total=n_chunks):
                out.write(chunk)
    if total is not None and part.stat().st_size != total:
        raise SourceError(f"{url} gave {part.stat().st_size:,} of {total:,} bytes")
    part.replace(target)
    note.unlink()


def reason(error: requests.RequestException | SourceError) -> str:
    """What `fetch` raised, in words for a user."""
    return "no connection" if isinstance(error, requests.ConnectionError) else str(error)
