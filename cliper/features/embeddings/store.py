"""A store of vectors that are kept between runs; the sha256 of a text or an image finds its vector.

The config names the folder (`encode.store`). It has a subfolder for each set of facts that decides a vector's bytes,
apart from its text or image: weights, precision, context, shape of the batches, threads, device, versions, code. A
subfolder has Parquet files that are written once and never changed. A file is named after its content, so several jobs
may write at once, and a file whose content does not match its name is ignored. All of it is safe to delete.

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

from cliper import files, log
from cliper.arrays import Vectors
from cliper.errors import DataError

FLUSH_S = 60  # a killed job loses what it encoded after the last write
FLUSH_ROWS = 8_192  # rows of a file, about; it is read whole for any vector in it
INDEX = {"digest": pl.Binary, "file": pl.Int32, "row": pl.Int32}


class VectorStore:
    """The vectors of one set of facts. Use it as a context manager: at its end, added vectors are written.

    folder  of all sets of facts
    facts   all that decides a vector's bytes, except the text or image

    Holds in memory the digests of all files that exist when it is opened, and the vectors of one file.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self._folder, self._facts = folder / key, facts
        self._digests, self._vectors = list[str](), list[Vectors]()
        self._flushed = time.monotonic()
        self._paths = sorted(self._folder.glob("*.parquet"))
        parts = [_index(path, number) for number, path in enumerate(self._paths)]
        self._index = pl.concat([pl.DataFrame(schema=INDEX), *parts])  # one row a vector
        self._is_found = np.zeros(self._index.height, bool)  # which of these have been asked for

    @property
    def n_found(self) -> int:
        """Number of vectors found that were there before this store was opened."""
        return int(self._is_found.sum())

    def find(self, digests: list[str]) -> Iterator[tuple[list[int], Vectors]]:
        """Find vectors. Yields places in `digests` and the vectors of these places; each place at most once.

        digests  distinct
        """
        self.flush()
        wanted = pl.DataFrame({"digest": digests}, schema={"digest": pl.String}).with_row_index("place")
        yield from self._find(wanted.with_columns(pl.col("digest").str.decode("hex")))

    def _find(self, wanted: pl.DataFrame) -> Iterator[tuple[list[int], Vectors]]:
        entries = self._index.with_row_index("entry")
        kept = wanted.join(entries, on="digest", maintain_order="left_right")
        hits = kept.unique("place", keep="first", maintain_order=True)
        broken = list[int]()
        for (number,), rows in hits.group_by("file", maintain_order=True):
            try:
                vectors = _read(self._paths[number])[rows["row"].to_numpy()]
            except DataError:
                _ignore(self._paths[number])
                broken.append(number)
                continue
            entry = rows["entry"].to_numpy()
            self._is_found[entry[entry < len(self._is_found)]] = True  # the others were added by this job
            yield rows["place"].to_list(), vectors
        if broken:  # another file may hold the same vectors
            lost = hits.filter(pl.col("file").is_in(broken))
            self._index = self._index.with_columns(digest=pl.when(~pl.col("file").is_in(broken)).then("digest"))
            yield from self._find(lost.select("place", "digest"))

    def add(self, digests: list[str], vectors: Vectors) -> None:
        """Add vectors (n, D); they are written from time to time, and at the end."""
        self._digests += digests
        self._vectors.append(vectors)
        if len(self._digests) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the vectors added since the last write."""
        self._flushed = time.monotonic()
        if self._digests:
            table = pl.DataFrame({"sha256": self._digests, "embedding": np.concatenate(self._vectors)}).sort("sha256")
            path = self._folder / f"{_name(table['sha256'], table['embedding'].to_numpy())}.parquet"
            files.write_table(path, "vectors", table, metadata=self._facts)
            self._index = pl.concat([self._index, _entries(table["sha256"], len(self._paths))])
            self._paths.append(path)
            self._digests, self._vectors = [], []

    def __enter__(self) -> VectorStore:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.flush()


def _index(path: Path, number: int) -> pl.DataFrame:
    """Index of the vectors in a file; empty if the file is broken."""
    try:
        digests = files.read_table(path, "vectors", columns=["sha256"])["sha256"]
        _require(_name_of(digests), path.stem.partition("-")[0], path)
        return _entries(digests, number)
    except DataError:
        _ignore(path)
        return pl.DataFrame(schema=INDEX)


def _entries(digests: pl.Series, number: int) -> pl.DataFrame:
    """Rows of the index for a file that holds these digests."""
    row = np.arange(len(digests), dtype=np.int32)
    return pl.DataFrame({"digest": digests.str.decode("hex"), "file": number, "row": row}, schema=INDEX)


def _read(path: Path) -> Vectors:
    """Vectors of a file (n, D). Raises DataError if it is broken or does not hold what its name says."""
    table = files.read_table(path, "vectors")
    vectors: Vectors = table["embedding"].to_numpy()
    _require(_name(table["sha256"], vectors), path.stem, path)
    return vectors


def _require(found: str, wanted: str, path: Path) -> None:
    if found != wanted:
        raise DataError(f"{path} does not hold what its name says")


def _ignore(path: Path) -> None:
    log.warn(f"{path} was changed after it was written, so it is ignored; delete it")


def _name(digests: pl.Series, vectors: Vectors) -> str:
    """Name of a file: a hash of its digests, which is checked first, and a hash of its vectors."""
    return f"{_name_of(digests)}-{hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()[:16]}"


def _name_of(digests: pl.Series) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
