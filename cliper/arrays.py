"""Types of arrays by what they hold."""

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
