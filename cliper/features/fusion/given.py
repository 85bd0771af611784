"""Features that come with a dataset: matrices as the toolbox MMRec takes them, one row an item."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cliper.arrays import Bools, Vectors
from cliper.errors import FeatureError

ADVICE = "write it with numpy.save, a row an item in the order of itemID"


def read_given(path: Path, n_items: int) -> Vectors:
    """Read a matrix written by `numpy.save`, row i for item i: (I, D) float32.

    Raises FeatureError if the file holds anything else, or a value that float32 does not hold. Pickles are refused,
    not opened. Rows in another order than the items go unnoticed.
    """
    try:
        stored = np.lib.format.open_memmap(path, mode="r")  # of the formats that numpy reads, the one without pickles
    except Exception as error:  # numpy lets through what Python's parser and its memory say of a header
        raise FeatureError(f"{path} is no array of numpy's ({error}); {ADVICE}") from error
    if stored.ndim != 2 or not stored.shape[1] or stored.dtype.kind not in "fiu":
        raise FeatureError(
            f"{path} has shape {stored.shape} of {stored.dtype}, not (items, width) of numbers; {ADVICE}"
        )
    if len(stored) != n_items:
        raise FeatureError(f"{path} has {len(stored)} rows, but there are {n_items} items; {ADVICE}")
    with np.errstate(over="ignore"):  # a value that becomes infinite is refused below
        vectors: Vectors = np.array(stored, dtype=np.float32, order="C")
    require_finite(str(path), vectors, advice="repair the file")
    return vectors


def are_zero(vectors: Vectors) -> Bools:
    """Which rows (I, D) hold zeros alone: (I,)."""
    found: Bools = np.all(vectors == 0, axis=1)
    return found


def require_finite(what: str, vectors: Vectors, *, advice: str) -> None:
    """Raise FeatureError naming the first item whose vector holds NaN or infinity, and what to do about it."""
    broken = ~np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    if broken.any():
        raise FeatureError(f"{what}: item {broken.argmax()} has values that are not finite; {advice}")
