"""Fetch one raw file of a dataset.

In:   the dataset's mirrors (base URLs or local folders, from the config or from data/sources.csv)
Out:  download/<dataset>/<file>, as the mirror has it; a file's name may hold folders

Mirrors are tried in order. A broken transfer is continued where it stopped, within the run and by the next
run. Size and sha256 are checked where they are published. The sha256 of a file that is fetched for the first time is
recorded in `download.lock` and checked ever after; files of a folder of yours are not, they are yours to change.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import requests

from cliper import files, log
from cliper.collect.sources.mirrors import Place, check_lock, find_places
from cliper.config import collect, decides
from cliper.errors import SourceError
from cliper.layout import At

CHUNK = 1 << 20  # bytes


def fetch(url: str, target: Path, *, timeout_s: float) -> None:
    """Fetch a URL to `target`, continuing a half file that an earlier attempt left beside it.

    The half file is continued only if the server says that it still is the same file (If-Range).
    Raises requests.RequestException or SourceError; the half file stays.
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
            part.unlink(missing_ok=True)  # for example whole, where a run was killed before it was renamed
            raise SourceError(f"{url} does not continue the half file that was here; that is removed, run again")
        response.raise_for_status()
        start = have if continued else 0
        note.write_text(f"{url}\n{response.headers.get('ETag') or response.headers.get('Last-Modified', '')}")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        with part.open("ab" if continued else "wb") as out:
            for chunk in log.progress(
                response.iter_content(CHUNK), total=total and -(-(total - start) // CHUNK), what=target.name
            ):
                out.write(chunk)
    if total is not None and part.stat().st_size != total:
        raise SourceError(f"{url} gave {part.stat().st_size:,} of {total:,} bytes")
    part.replace(target)
    note.unlink()


def check(path: Path, place: Place) -> str:
    """Compare a fetched file with what is known of it and return its sha256. A wrong file is removed."""
    size, digest = path.stat().st_size, files.sha256(path)
    for what, found, wanted in (("bytes", size, place.size_bytes), ("sha256", digest, place.sha256)):
        if wanted is not None and found != wanted:
            path.unlink()
            raise SourceError(f"{place.mirror}/{path.name} has {what} {found}, expected {wanted}")
    return digest


def obtain(place: Place, file: str, target: Path, settings: collect.Download) -> str:
    """Get one file from one place, over http(s) or from a local folder, and return its sha256."""
    if place.is_folder:
        source = Path(place.mirror).expanduser() / file
        if not source.is_file():
            raise SourceError(f"{source} does not exist")
        with files.atomic(target) as temporary:
            shutil.copyfile(source, temporary)
        return check(target, place)
    url = f"{place.mirror.rstrip('/')}/{file}"
    for attempt in range(1, settings.attempts + 1):
        try:
            fetch(url, target, timeout_s=settings.timeout_s)
            return check(target, place)
        except (requests.RequestException, SourceError) as error:
            is_final = isinstance(error, requests.HTTPError) and error.response.status_code < 500
            if is_final or attempt == settings.attempts:
                raise SourceError(f"{url}: {_reason(error)}") from error
            time.sleep(2.0 ** (attempt - 2))
    raise AssertionError("attempts is at least 1")


def _reason(error: Exception) -> str:
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)


def require_locked(place: Place, digest: str, target: Path, settings: collect.Download) -> None:
    """Hold a file against the lock file. Raises SourceError, and removes it, if it once was another one."""
    if settings.lock is None or place.is_folder:
        return
    try:
        check_lock(Path(settings.lock), place, digest)
    except SourceError:
        target.unlink()
        raise


def run(job: decides.Download, at: At) -> None:
    """Fetch a raw file from the first mirror that has it."""
    dataset, file, target, failures = at.names["dataset"], at.names["file"], at("raw"), []
    for place in find_places(job.kind, job.mirrors, file):
        try:
            digest = obtain(place, file, target, job.how)
            require_locked(place, digest, target, job.how)
        except SourceError as error:
            failures.append(str(error))
            continue
        log.account(f"{file} from {place.mirror}: {target.stat().st_size:,} bytes, sha256 {digest}")
        return
    raise SourceError(
        f"{file} of {dataset} could not be fetched ({'; '.join(failures) or 'no mirror is known'}); "
        f"fetch it by hand and name its folder in datasets.{dataset}.source.mirrors"
    )
