"""Where raw files are, what is published about them, and the sha256 that they had at their first fetch.

data/sources.csv lists the public files: kind, name (exact, or a pattern, which counts if no name is exact), mirrors in
the order in which they are tried, and size and sha256 if they are published. The lock file has the sha256 of every file
at its first fetch; keep it with the config.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from cliper import files, resources
from cliper.config import is_url
from cliper.errors import DataError, SourceError


class Place(NamedTuple):
    """One place to look for a file, and what is published about the file there."""

    mirror: str  # base URL or folder
    size_bytes: int | None
    sha256: str | None
    terms: str
    key: str  # of the file in the lock file: the same for all public mirrors

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine."""
        return not is_url(self.mirror)


def known_places(kind: str, file: str) -> list[Place]:
    """Rows of data/sources.csv for a raw file, in order: those with its name, else those with a pattern of it."""
    rows = [row for row in resources.read_csv("sources.csv") if row["kind"] == kind]
    fitting = [r for r in rows if r["file"] == file] or [r for r in rows if fnmatchcase(file, r["file"])]
    return [
        Place(r["mirror"], int(r["size_bytes"] or 0) or None, r["sha256"] or None, r["terms"], f"{kind}/{file}")
        for r in fitting
    ]


def find_places(kind: str, mirrors: tuple[str, ...] | None, file: str) -> list[Place]:
    """Where to look for a raw file: at the mirrors in the config if there are any, else at the known ones of its kind.

    A mirror in the config may have another file of this name, so what is published does not apply to it.
    """
    if not mirrors:
        return known_places(kind, file)
    return [Place(mirror, None, None, "as you know", f"{mirror.rstrip('/')}/{file}") for mirror in mirrors]


def check_lock(lock: Path, place: Place, digest: str) -> None:
    """Record a file's sha256 at its first fetch; later, raise SourceError if the sha256 differs."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock.with_name(f".{lock.name}.held")):  # downloads run side by side
        recorded = read_lock(lock)
        first = recorded.setdefault(place.key, {"sha256": digest, "mirror": place.mirror})
        if first["sha256"] != digest:
            raise SourceError(
                f"{place.key} from {place.mirror} has sha256 {digest}, but {lock} recorded {first['sha256']} from "
                f"{first['mirror']}; if it was meant to change, remove its entry there"
            )
        files.write_json(lock, dict(sorted(recorded.items())))


def read_lock(lock: Path) -> dict[str, dict[str, Any]]:
    """The lock file's entries by key; none without a file. Raises DataError if it is broken."""
    if not lock.exists():
        return {}
    entries = files.read_json(lock, made_by="download")
    if not isinstance(entries, dict) or not all(isinstance(e, dict) and "sha256" in e for e in entries.values()):
        raise DataError(f"{lock} is no lock file of cliper; move it away")
    return entries
