"""The state of a training run in a file: a killed run continues where it stopped and ends in the same bytes.

The file carries a checksum, since torch reads flipped bits without a word, and a key of all that decides the run. A
checkpoint that is damaged or has another key is not used.
"""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cliper import files, log

EVERY_S = 60  # seconds between two writes


class Checkpoint:
    """One run's checkpoint file.

    path   where it lies while the run goes on
    key    identifies the run: settings, seed, code and inputs
    begin  a file of this class that an earlier part of the run has left, to begin from if there is none at `path`
    """

    def __init__(self, path: Path, *, key: str, begin: Path | None = None) -> None:
        self._path = path
        self._key = key
        self._begin = begin
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state of the last write, or None. A damaged or foreign file is reported, and removed from `path`."""
        for path in filter(None, (self._path, self._begin)):
            if path.exists() and (state := self._read(path)) is not None:
                return state
            self.remove()
        return None

    def _read(self, path: Path) -> dict[str, Any] | None:
        content = memoryview(path.read_bytes())
        if content[:4] != _checksum(content[4:]):
            log.warn(f"{path} is damaged; training starts over")
            return None
        kept = torch.load(io.BytesIO(content[4:]), map_location="cpu", weights_only=True)
        if kept["key"] != self._key:
            log.warn(f"{path} is of a run with other settings, code or inputs; training starts over")
            return None
        log.note(f"continues from {path}")
        state: dict[str, Any] = kept["state"]
        return state

    def save_if_due(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, whole or not at all, if the last write was EVERY_S ago."""
        if time.monotonic() - self._written >= EVERY_S:
            self.save(state())

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, whole or not at all."""
        content = io.BytesIO()
        torch.save({"key": self._key, "state": state}, content)
        with files.atomic(self._path) as temporary, temporary.open("wb") as out:
            out.write(_checksum(content.getbuffer()))
            out.write(content.getbuffer())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the run is over."""
        self._path.unlink(missing_ok=True)


def _checksum(content: memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(4)
