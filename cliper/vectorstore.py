"""Vectors of texts and images, kept between runs: each is found again by the sha256 of what it is of.

The folder is named in the config (`encode.store`). Below it lies a folder for everything that decides a vector's
bytes beside its text or image (weights, precision, context, shape of the batches, threads, device, versions, code), and
in it Parquet files that are written once and never changed. A file is named after its content, so several jobs
may write at once, and a file that does not hold what its name says is ignored. All of it is safe to delete.

`encode` reads and writes it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cliper import files, log
from cliper.errors import DataError

FLUSH_S = 60  # a killed job loses what it encoded since
FLUSH_ROWS = 8_192


class VectorStore:
    """The vectors made under one set of facts. Use as a context: what was added is written at its end.

    folder  of all stores
    facts   what decides a vector's bytes, beside the text or image
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self._folder, self._facts = folder / key, facts
        self._digests, self._vectors = list[str](), list[NDArray[np.float32]]()
        self._flushed = time.monotonic()

    def find(self, digests: list[str]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Places in `digests` whose vectors are kept, and these vectors; each place once.

        digests  distinct
        """
        wanted = {digest: place for place, digest in enumerate(digests)}
        for path in sorted(self._folder.glob("*.parquet")) if wanted else ():
            try:
                table = _read(path)
            except DataError as error:
                log.warn(f"{error}; it is ignored")
                continue
            rows = [row for row, digest in enumerate(table["sha256"]) if digest in wanted]
            if rows:
                yield [wanted.pop(table["sha256"][row]) for row in rows], table["embedding"][rows].to_numpy()

    def add(self, digests: list[str], vectors: NDArray[np.float32]) -> None:
        """Keep some vectors (n, D); they are written now and then, and at the end."""
        self._digests += digests
        self._vectors.append(vectors)
        if len(self._digests) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what was added since."""
        self._flushed = time.monotonic()
        if self._digests:
            table = pl.DataFrame({"sha256": self._digests, "embedding": np.concatenate(self._vectors)}).sort("sha256")
            path = self._folder / f"{_content(table)}.parquet"
            files.write_table(path, "vectors", table, metadata=self._facts)
            self._digests, self._vectors = [], []

    def __enter__(self) -> VectorStore:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.flush()


def _read(path: Path) -> pl.DataFrame:
    """Raises DataError if the file is broken or does not hold what its name says."""
    table = files.read_table(path, "vectors")
    if _content(table) != path.stem:
        raise DataError(f"{path} was changed after it was written; delete it")
    return table


def _content(table: pl.DataFrame) -> str:
    """Hash of the digests and vectors of a table."""
    digest = hashlib.sha256("".join(table["sha256"]).encode())
    digest.update(np.ascontiguousarray(table["embedding"].to_numpy()).data)
    return digest.hexdigest()[:32]
