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

    path  where it lies while the run goes on
    key   identifies the run: settings, seed, code and inputs
    """

    def __init__(self, path: Path, *, key: str) -> None:
        self._path = path
        self._key = key
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state of the last write, or None. A damaged or foreign file is reported and removed."""
        if not self._path.exists():
            return None
        content = memoryview(self._path.read_bytes())
        if content[:4] != _checksum(content[4:]):
            log.warn(f"{self._path} is damaged; training starts over")
        else:
            kept = torch.load(io.BytesIO(content[4:]), map_location="cpu", weights_only=True)
            if kept["key"] == self._key:
                log.note(f"continues from {self._path}")
                state: dict[str, Any] = kept["state"]
                return state
            log.warn(f"{self._path} is of a run with other settings, code or inputs; training starts over")
        self.remove()
        return None

    def save_if_due(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, whole or not at all, if the last write was EVERY_S ago."""
        if time.monotonic() - self._written < EVERY_S:
            return
        content = io.BytesIO()
        torch.save({"key": self._key, "state": state()}, content)
        with files.atomic(self._path) as temporary, temporary.open("wb") as out:
            out.write(_checksum(content.getbuffer()))
            out.write(content.getbuffer())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the run is over."""
        self._path.unlink(missing_ok=True)


def _checksum(content: memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(4)
