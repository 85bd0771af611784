"""Fetch one raw file of a dataset.

In:   the dataset's mirrors (base URLs or local folders, from the config or from data/sources.csv)
Out:  download/<dataset>/<file>, as the mirror has it; a file's name may hold folders

Mirrors are tried in order. A broken transfer is continued where it stopped, within the run and by the next
run; size and, where known, sha256 are checked before the file gets its name.
"""

from __future__ import annotations

import csv
import shutil
import time
from fnmatch import fnmatch
from importlib.resources import files as package_files
from pathlib import Path
from typing import NamedTuple

import requests

from cliper import config as configuration
from cliper import files, log
from cliper.config import Config, Dataset
from cliper.errors import ConfigError, SourceError, unknown
from cliper.layout import locate

CHUNK = 1 << 20  # bytes


class Known(NamedTuple):
    """What data/sources.csv says of a file: where it lies and what it must be."""

    mirror: str
    size_bytes: int | None
    sha256: str | None


def known_sources(kind: str, file: str) -> list[Known]:
    """Rows of data/sources.csv for a raw file, in their order."""
    text = package_files("cliper").joinpath("data/sources.csv").read_text(encoding="utf-8")
    rows = [r for r in csv.DictReader(text.splitlines()) if r["kind"] == kind and fnmatch(file, r["file"])]
    return [Known(r["mirror"], int(r["size_bytes"] or 0) or None, r["sha256"] or None) for r in rows]


def places(dataset: Dataset, file: str) -> list[Known]:
    """Where to look for a raw file: the config's mirrors if it names any, else the known ones."""
    known = known_sources(dataset.source.kind, file)
    if not dataset.source.mirrors:
        return known
    check = known[0] if known else Known("", None, None)
    return [Known(mirror, check.size_bytes, check.sha256) for mirror in dataset.source.mirrors]


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
        response.raise_for_status()
        continued = response.status_code == requests.codes.partial_content
        start = have if continued else 0
        note.write_text(f"{url}\n{response.headers.get('ETag') or response.headers.get('Last-Modified', '')}")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("ab" if continued else "wb") as out:
            for chunk in log.progress(
                response.iter_content(CHUNK), total=total and -(-(total - start) // CHUNK), what=target.name
            ):
                out.write(chunk)
    if total is not None and part.stat().st_size != total:
        raise SourceError(f"{url} gave {part.stat().st_size:,} of {total:,} bytes")
    part.replace(target)
    note.unlink()


def check(path: Path, place: Known) -> str:
    """Compare a fetched file with what is known of it and return its sha256. A wrong file is removed."""
    size, digest = path.stat().st_size, files.sha256(path)
    for what, found, wanted in (("bytes", size, place.size_bytes), ("sha256", digest, place.sha256)):
        if wanted is not None and found != wanted:
            path.unlink()
            raise SourceError(f"{place.mirror}/{path.name} has {what} {found}, expected {wanted}")
    return digest


def obtain(place: Known, file: str, target: Path, settings: configuration.Download) -> str:
    """Get one file from one place, over http(s) or from a local folder, and return its sha256."""
    if not place.mirror.startswith(("http://", "https://")):
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


def run(config: Config, *, dataset: str, file: str) -> None:
    """Fetch a raw file from the first mirror that has it."""
    began = time.monotonic()
    settings = config.dataset(dataset)
    if file not in (known := settings.raw_files(config.arms)):
        raise ConfigError(unknown(f"file of {dataset}", file, known))
    target = locate(config.root, "raw", dataset=dataset, file=file)
    failures = []
    for place in places(settings, file):
        try:
            digest = obtain(place, file, target, config.download)
        except SourceError as error:
            failures.append(str(error))
            continue
        log.account(
            f"{file} from {place.mirror}: {target.stat().st_size:,} bytes, sha256 {digest}, "
            f"{time.monotonic() - began:.1f} s"
        )
        return
    raise SourceError(
        f"{file} of {dataset} could not be fetched ({'; '.join(failures) or 'no mirror is known'}); "
        f"fetch it by hand and name its folder in datasets.{dataset}.source.mirrors"
    )
