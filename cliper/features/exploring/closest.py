"""The items that are closest to a few, by their image and by their text features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from cliper.arrays import Bools, Int32s, Scores, Vectors
from cliper.features.fusion.equations import normalise

Closest = dict[int, list[tuple[int, float]]]  # item -> its closest items and their cosines, the closest first
MODALITIES = ("image", "text")
DIGITS = 6  # float32's cosines are exact to about 1e-7: of equal vectors, the rounded ones are equal too


def find_closest(own: pl.DataFrame, batches: Iterable[pl.DataFrame], n: int) -> dict[str, Closest]:
    """Find the n closest items of some items, without themselves; ties go to the smaller item.

    own      rows of the features table: of the S items that are asked about
    batches  all its rows, some at a time
    returns  for image and text

    Filled rows and rows of zeros are no neighbours and have none. Holds S cosines for each item.
    """
    asked = {name: _units(own, name) for name in MODALITIES}
    cosines: dict[str, list[Scores]] = {name: [] for name in MODALITIES}
    items = list[Int32s]()
    for batch in batches:
        items.append(batch["item"].to_numpy())
        for name, (units, is_own) in asked.items():
            others, are_own = _units(batch, name)
            pairs = is_own[:, None] & are_own
            cosines[name].append(np.where(pairs, units @ others.T, -np.inf).astype(np.float32))
    number = np.concatenate(items)
    return {
        name: {
            item: _first(number, np.where(number == item, -np.inf, row), n)
            for item, row in zip(own["item"].to_list(), np.concatenate(parts, axis=1), strict=True)
        }
        for name, parts in cosines.items()
    }


def _units(features: pl.DataFrame, name: str) -> tuple[Vectors, Bools]:
    """Features (n, D) of length 1, and which rows are an item's own (n,)."""
    vectors: Vectors = features[name].to_numpy()
    return normalise(vectors), ~features[f"{name}_is_filled"].to_numpy() & vectors.any(axis=1)


def _first(items: Int32s, cosines: Scores, n: int) -> list[tuple[int, float]]:
    rounded = np.round(cosines.astype(np.float64), DIGITS)
    order = np.argsort(-rounded, kind="stable")[:n]
    return [(int(items[place]), round(float(rounded[place]), 4)) for place in order if np.isfinite(rounded[place])]
