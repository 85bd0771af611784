"""Types of arrays by what they hold, and vectors of any length brought to where float32 can square them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]  # numbers of users and items, counts
Int32s = NDArray[np.int32]  # numbers and counts as tables hold them
Int16s = NDArray[np.int16]  # ranks as tables hold them
Floats = NDArray[np.float64]  # metrics and weights of edges
Scores = NDArray[np.float32]  # one value a pair: what is ranked by
Vectors = NDArray[np.float32]  # (n, D) embeddings and features
Labels = NDArray[np.str_]

SQUARABLE = 40  # values between 2^-40 and 2^40: their squares, and sums of many, lie in float32's range


def bring_near_one(vectors: Vectors) -> tuple[Vectors, Int32s]:
    """Scale vectors that are too long or too short for float32 to square, by powers of two, which round nothing.

    vectors  (…, D)
    returns  (…, D) ordinary vectors as they are, of others the largest value in [0.5, 1); (…, 1) the exponents:
             vectors are the scaled ones times 2 to these

    >>> scaled, exponents = bring_near_one(np.array([[2**100, 2**99], [3, 4]], dtype=np.float32))
    >>> scaled.tolist(), exponents.tolist()
    ([[0.5, 0.25], [3.0, 4.0]], [[101], [0]])
    """
    largest = np.maximum(vectors.max(axis=-1, keepdims=True), -vectors.min(axis=-1, keepdims=True))
    exponents: Int32s = np.frexp(largest)[1]
    exponents[np.abs(exponents) <= SQUARABLE] = 0
    return (np.ldexp(vectors, -exponents) if exponents.any() else vectors), exponents
