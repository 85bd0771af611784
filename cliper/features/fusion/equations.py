"""Weigh an item's views and fuse them into one vector (paper section 3, equations 2 and 3).

All functions take arrays: text (I, V, D) has the items' views, weights (I, V) the share of each view in its item's
feature. A row of weights sums to 1. Weight 0 leaves a view out; a row of zeros leaves all views of an item out. A zero
vector has similarity 0 with every other vector, stays zero when vectors are scaled to length 1, and adds nothing.

A row of `rows.FUSIONS` names one function of WEIGHTS and one of JOINS. Departs from the paper: nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cliper.arrays import Bools, Int16s, Vectors, bring_near_one

FLOOR = 1e-8  # of each length, as in torch's cosine_similarity, which the released code uses
SEED = 0  # of the weights that nothing trains
SLOPE = 0.01  # of torch's LeakyReLU below 0


def normalise(vectors: Vectors) -> Vectors:
    """Scale vectors (…, D) of any length to length 1; a zero vector stays zero."""
    scaled, _ = bring_near_one(vectors)
    lengths = np.linalg.norm(scaled, axis=-1, keepdims=True)
    units: Vectors = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0)
    return units


def cosine_similarities(text: Vectors, image: Vectors) -> Vectors:
    """Cosine of each view with the item's image (the paper's sim, below equation 2).

    text      (I, V, D), any length
    image     (I, D)
    returns   (I, V); 0 where one of the two is a zero vector, less than the cosine where one is shorter than 1e-8
    """
    (text, text_lengths), (image, image_lengths) = (_with_lengths(vectors) for vectors in (text, image))
    products: Vectors = np.einsum("ivd,id->iv", text, image, optimize=True)
    similarities: Vectors = products / (text_lengths * image_lengths[:, None])
    return similarities


def _with_lengths(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """Vectors (…, D) as `bring_near_one` scales them, and their lengths (…) on that scale, at least the floor."""
    scaled, exponents = bring_near_one(vectors)
    floors = np.ldexp(np.float32(FLOOR), -exponents[..., 0])
    return scaled, np.maximum(np.linalg.norm(scaled, axis=-1), floors)


def uniform_weights(counts: Bools) -> Vectors:
    """The same weight for each view that counts: (I, V) -> (I, V); a row of zeros where none does.

    >>> uniform_weights(np.array([[True, True, False], [False, False, False]])).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    return _shares(counts.astype(np.float32))


def similarity_weights(similarities: Vectors, counts: Bools, *, temperature: float) -> Vectors:
    """Softmax of an item's similarities over its views that count (equation 2).

    similarities  (I, V)
    counts        (I, V) views that count
    temperature   > 0; small values favour the closest view
    returns       (I, V), each row sums to 1; a row of zeros where no view counts
    """
    let_in = np.where(counts, similarities, -np.inf).astype(np.float32)
    highest = np.where(counts.any(axis=1), let_in.max(axis=1), 0).astype(np.float32)
    return _shares(np.exp((let_in - highest[:, None]) / np.float32(temperature)))


def _shares(amounts: Vectors) -> Vectors:
    totals = amounts.sum(axis=1, keepdims=True)
    parts: Vectors = np.divide(amounts, totals, out=np.zeros_like(amounts), where=totals > 0)
    return parts


def rank_views(similarities: Vectors, counts: Bools) -> Int16s:
    """Rank an item's views by their similarity to its image: 1 is the closest, ties go to the earlier view.

    similarities  (I, V)
    counts        (I, V) views that are ranked
    returns       (I, V); 0 for views that are not

    >>> rank_views(np.array([[0.2, 0.9, 0.2, 0.5]]), np.array([[True, False, True, True]])).tolist()
    [[2, 0, 3, 1]]
    """
    order = np.where(counts, -similarities, np.inf).argsort(axis=1, kind="stable")
    ranks: Int16s = np.where(counts, order.argsort(axis=1) + 1, 0).astype(np.int16)
    return ranks


def fuse_sum(text: Vectors, weights: Vectors) -> Vectors:
    """Sum of an item's views (equation above 3), each that has a weight: (I, V, D), (I, V) -> (I, D)."""
    total: Vectors = _let_in(text, weights).sum(axis=1)
    return total


def fuse_concat(text: Vectors, weights: Vectors) -> Vectors:
    """An item's views one after the other (equation 3, Concat), zeros for a view without a weight.

    text, weights  (I, V, D), (I, V)
    returns        (I, V * D)
    """
    return _let_in(text, weights).reshape(len(text), -1)


def _let_in(text: Vectors, weights: Vectors) -> Vectors:
    chosen: Vectors = text * (weights > 0)[:, :, None]
    return chosen


def fuse_weighted(text: Vectors, weights: Vectors) -> Vectors:
    """Weighted sum of an item's views (equation 3, SA): (I, V, D), (I, V) -> (I, D)."""
    mixed: Vectors = np.einsum("ivd,iv->id", text, weights, optimize=True)
    return mixed


def fuse_randomly(text: Vectors, weights: Vectors) -> Vectors:
    """An item's views side by side, through one layer of random weights and LeakyReLU: (I, V, D), (I, V) -> (I, D).

    The layer is that of fusion `mlp`, drawn as torch draws it (uniform within ±1/√(V·D)) and never trained. Source: the
    released code, which evaluates it once, before training. Departs from it: the draw has a seed.
    """
    n_views, width = text.shape[1:]
    generator, limit = np.random.default_rng(SEED), (n_views * width) ** -0.5
    layer = generator.uniform(-limit, limit, (n_views * width, width)).astype(np.float32)
    bias = generator.uniform(-limit, limit, width).astype(np.float32)
    mixed = fuse_concat(text, weights) @ layer + bias
    activated: Vectors = np.where(mixed > 0, mixed, np.float32(SLOPE) * mixed)
    return activated


def _uniform(_similarities: Vectors, counts: Bools, _temperature: float | None) -> Vectors:
    return uniform_weights(counts)


def _by_similarity(similarities: Vectors, counts: Bools, temperature: float | None) -> Vectors:
    assert temperature is not None, "the config asks for one"
    return similarity_weights(similarities, counts, temperature=temperature)


# similarities (I, V), views that count (I, V), temperature -> weights (I, V)
WEIGHTS: dict[str, Callable[[Vectors, Bools, float | None], Vectors]] = {
    "uniform": _uniform,
    "by_similarity": _by_similarity,
}
# text (I, V, D), weights (I, V) -> (I, D), or (I, V * D)
JOINS: dict[str, Callable[[Vectors, Vectors], Vectors]] = {
    "sum": fuse_sum,
    "concat": fuse_concat,
    "weighted_sum": fuse_weighted,
    "random_layer": fuse_randomly,
}
