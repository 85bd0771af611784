"""What training draws at random: batches of triples and the edges of an epoch."""

from __future__ import annotations

import numpy as np

from cliper.arrays import Floats, Ints
from cliper.errors import DataError


def sample_triples(
    users: Ints, items: Ints, candidates: Ints, *, shuffle: np.random.Generator, negatives: np.random.Generator
) -> Ints:
    """Draw the triples of one epoch: every interaction once, in random order, with one negative item.

    users, items  (n,)   the train interactions
    candidates    (m,)   as below
    returns       (3, n) user, positive item, negative item
    """
    order = shuffle.permutation(len(users))
    return np.stack([users, items, sample_negatives(users, items, candidates, negatives)])[:, order]


def sample_negatives(users: Ints, items: Ints, candidates: Ints, generator: np.random.Generator) -> Ints:
    """Draw an item for each interaction that its user does not have in train.

    users, items  (n,) the train interactions, no pair twice
    candidates    (m,) items that may be negatives, in ascending order; those of train are among them
    returns       (n,) uniform over the candidates that are not the user's

    Raises DataError if a user has every candidate.
    Source: MMRec's sampler, which the paper follows. Departs from it: nothing, where candidates are the items of train.
    """
    if (n_owned := np.bincount(users)).max() == len(candidates):
        raise DataError(
            f"user {n_owned.argmax()} has all {len(candidates)} items, so no negative item is left; "
            "remove the user or raise k_core of the dataset"
        )
    n_items = candidates[-1] + 1
    owned = np.append(np.sort(users * n_items + items), np.iinfo(np.int64).max)
    negatives = generator.choice(candidates, size=len(users))
    redraw = np.arange(len(users))
    while len(redraw):
        drawn = users[redraw] * n_items + negatives[redraw]
        redraw = redraw[owned[np.searchsorted(owned, drawn)] == drawn]
        negatives[redraw] = generator.choice(candidates, size=len(redraw))
    return negatives


def sample_edges(weights: Floats, n_kept: int, generator: np.random.Generator) -> Ints:
    """Draw edges without replacement, each draw in proportion to the weights of those still there.

    weights  (n,) > 0
    returns  (n_kept,) indices in ascending order

    Each edge's clock rings at an exponential time with the weight as its rate: the first n_kept to ring have this
    distribution.
    """
    rings = generator.exponential(size=len(weights)) / weights
    return np.sort(np.argpartition(rings, n_kept - 1)[:n_kept])
