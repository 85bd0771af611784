"""Flips single bits in a table's file, and says what became of each: an error that helps, or what was written."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from cliper import files
from cliper.errors import DataError
from cliper.schemas import TABLES


def readings(path: Path, kind: str) -> dict[str, Callable[[], Any]]:
    """Each way in which a stage reads a table."""
    first, *_, last = TABLES[kind].columns
    return {
        "whole": lambda: files.read_table(path, kind),
        "first column": lambda: files.read_table(path, kind, columns=[first]),
        "last column": lambda: files.read_table(path, kind, columns=[last]),
        "batches": lambda: pl.concat(files.read_in_batches(path, kind, (0, 2**40), size=5)),
        "row group": lambda: files.read_row_group(path, kind, 0, columns=[last])[1],
        "number of rows": lambda: files.count_rows(path, kind),
        "metadata": lambda: files.read_metadata(path, kind),
    }


def are_equal(found: Any, written: Any) -> bool:
    if isinstance(written, pl.DataFrame):
        return bool(found.equals(written) and found.schema == written.schema)
    return bool(found == written)


def places(size: int, n: int, *, seed: int) -> Iterator[tuple[int, int]]:
    """Byte and bit of n flips: a third in the first 300 bytes, a third in the last 300, a third anywhere."""
    drawn = random.Random(seed)
    for number in range(n):
        within = range(size) if number % 3 == 0 else range(min(size, 300))
        byte = drawn.choice(within)
        yield (size - 1 - byte if number % 3 == 1 else byte), drawn.randrange(8)


def unseen(path: Path, kind: str, flips: Iterator[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """The flips that a reading took for what was written, or whose error does not say how to make the file again."""
    sound, times = path.read_bytes(), path.stat()
    written = {name: read() for name, read in readings(path, kind).items()}
    found = []
    for byte, bit in flips:
        damaged = bytearray(sound)
        damaged[byte] ^= 1 << bit
        path.write_bytes(damaged)
        for name, read in readings(path, kind).items():
            try:
                is_seen = are_equal(read(), written[name])
            except DataError as error:
                is_seen = str(path) in str(error) and f"Run: python -m cliper {TABLES[kind].maker}" in str(error)
            if not is_seen:
                found.append((byte, bit, name))
    path.write_bytes(sound)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # for Snakemake, nothing happened
    return found
