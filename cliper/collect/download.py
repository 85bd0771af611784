"""Fetch one raw file of a dataset.

In:   the dataset's mirrors (base URLs or local folders, from the config or from data/sources.csv)
Out:  the file as the mirror has it, below results/shared/download/; its name may contain folders

Mirrors are tried in order. A broken transfer continues where it stopped, in this run or the next. Size and sha256 are
checked where they are published. At the first fetch of a file, its sha256 is recorded in `download.lock`; from then on
it is checked. Files from a local folder are neither recorded nor checked: you may change them.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from cliper import files, log, web
from cliper.collect.sources.mirrors import Place, check_lock, find_places
from cliper.config import collect, decides
from cliper.errors import SourceError
from cliper.layout import At


def check(path: Path, place: Place) -> str:
    """Compare a fetched file with what is known of it and return its sha256. A wrong file is removed."""
    size, digest = path.stat().st_size, files.sha256(path)
    if not size:
        path.unlink()
        raise SourceError(f"{place.mirror}/{path.name} is empty")
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
            web.fetch(url, target, timeout_s=settings.timeout_s)
            return check(target, place)
        except SourceError as error:
            if isinstance(error, web.RefusedError) or attempt == settings.attempts:
                raise SourceError(f"{url}: {error}") from error
            time.sleep(2.0 ** (attempt - 2))
    raise AssertionError("attempts is at least 1")


def require_locked(place: Place, digest: str, target: Path, settings: collect.Download) -> None:
    """Check a file against the lock file. If it was another file before, removes it and raises SourceError."""
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
        log.note(f"asks {place.mirror} for {file}")
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
