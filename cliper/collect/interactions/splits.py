"""Cut interactions into train, valid and test.

All splits share the rule of the toolbox MMRec: of n interactions of a user, n < 3 all train; n < 10 the last but one
valid, the last test; else the last n // 5 are held out, half of them (rounded down) for valid, the rest for test.
They differ in what "last" means:

random       in an order drawn at random (paper section 4, "Datasets"; the toolbox's files)
user_time    the latest of each user
global_time  the latest of all: the rule is applied once, as if all interactions were one user's

Interactions of the same second are ordered at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.random import Generator

from cliper.arrays import Ints, Labels


def cut_by_rule(groups: Ints, places: Ints) -> Labels:
    """Label the last interactions of each group valid and test, by the rule above.

    groups   (n,) for example the user of each interaction
    places   (n,) position of each interaction in its order; distinct within a group
    returns  (n,) train, valid or test
    """
    frame = pl.DataFrame({"group": groups, "place": places})
    n, place = pl.len().over("group"), pl.col("place").rank("ordinal").over("group").cast(pl.Int64) - 1
    held = pl.when(n < 3).then(0).when(n < 10).then(2).otherwise(n // 5).cast(pl.Int64)
    label = (
        pl.when(place < n - held)
        .then(pl.lit("train"))
        .when(place < n - held + held // 2)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )
    return frame.select(label).to_series().to_numpy()


def split_random(users: Ints, timestamps: Ints, generator: Generator) -> Labels:
    """Hold interactions of each user out at random; the times are not used."""
    del timestamps
    return cut_by_rule(users, generator.permutation(len(users)))


def split_user_time(users: Ints, timestamps: Ints, generator: Generator) -> Labels:
    """Hold the latest interactions of each user out."""
    return cut_by_rule(users, places_in_time(timestamps, generator))


def split_global_time(users: Ints, timestamps: Ints, generator: Generator) -> Labels:
    """Hold the latest interactions of all out: users and items may then have none in train."""
    return cut_by_rule(np.zeros_like(users), places_in_time(timestamps, generator))


def places_in_time(timestamps: Ints, generator: Generator) -> Ints:
    """Position of each interaction (n,) in time, from 0; equal times are ordered at random."""
    order = np.lexsort((generator.permutation(len(timestamps)), timestamps))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


SPLITTERS: dict[str, Callable[[Ints, Ints, Generator], Labels]] = {
    "random": split_random,
    "user_time": split_user_time,
    "global_time": split_global_time,
}
