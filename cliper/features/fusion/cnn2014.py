"""The CNN features of Amazon-2014 (McAuley et al. 2015): image_features_<Category>.b.

One record per item, without a header: the asin in 10 bytes, then 4096 float32, little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliper import log
from cliper.arrays import Bools, Vectors
from cliper.errors import SourceError

D = 4096
RECORD = np.dtype([("asin", "S10"), ("features", "<f4", (D,))])
BLOCK = 256  # records at a time, 4 MiB


def read_image_features(path: Path, rows: Mapping[str, int], n_items: int) -> tuple[Vectors, Bools]:
    """Read the features of the wanted items.

    rows     asin -> row of the result
    returns  (I, 4096), zeros where the file does not have the item; (I,) whether it has

    Streams: the result and one block are in memory. Of several records of one asin the first counts. Raises SourceError
    if the file is cut, or a wanted value is not finite.
    """
    vectors: Vectors = np.zeros((n_items, D), dtype=np.float32)
    is_there: Bools = np.zeros(n_items, dtype=bool)
    n_blocks = -(-path.stat().st_size // (BLOCK * RECORD.itemsize))
    for block in log.progress(_read_records(path), what=f"blocks of {path.name}", total=n_blocks):
        for place, name in enumerate(block["asin"].tolist()):
            row = rows.get(name.decode("ascii", "replace"))
            if row is not None and not is_there[row]:
                vectors[row], is_there[row] = block["features"][place], True
    broken: Bools = ~np.all(np.isfinite(vectors), axis=1)
    if broken.any():
        asin = next(asin for asin, row in rows.items() if broken[row])
        raise SourceError(f"{path}: {asin} has values that are not finite; fetch the file again")
    return vectors, is_there


def _read_records(path: Path) -> Iterator[NDArray[Any]]:
    """The file's records, in blocks."""
    size = path.stat().st_size
    if not size or size % RECORD.itemsize:
        raise SourceError(
            f"{path} has {size:,} bytes, no whole number of {RECORD.itemsize:,}: it is cut; fetch it again"
        )
    with path.open("rb") as file:
        while block := file.read(BLOCK * RECORD.itemsize):
            yield np.frombuffer(block, dtype=RECORD)
