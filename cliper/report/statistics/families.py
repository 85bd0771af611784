"""Many tests at once: corrected p, and what may be called established.

Sources: Holm 1979 (errors of the whole table), Benjamini and Hochberg 1995 (share of false finds); Ihemelandu and
Ekstrand, ECIR 2024, on both in recommendation. The paper has no tests.
"""

from __future__ import annotations

import numpy as np

from cliper.arrays import Bools, Floats

LEVEL = 0.05


def holm(p: Floats) -> Floats:
    """Holm's corrected p over a family; NaN stays and is not counted.

    >>> holm(np.array([0.01, np.nan, 0.04, 0.03]))
    array([0.03,  nan, 0.06, 0.06])
    """
    return _correct(p, "holm")


def benjamini_hochberg(p: Floats) -> Floats:
    """Benjamini and Hochberg's corrected p over a family; NaN stays and is not counted.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.04, 0.04])
    """
    return _correct(p, "fdr_bh")


def _correct(p: Floats, method: str) -> Floats:
    from statsmodels.stats.multitest import multipletests  # it takes half a second

    corrected = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    if known.any():
        corrected[known] = multipletests(p[known], method=method)[1]
    return corrected


def established(p_holm: Floats, low: Floats, high: Floats, band: Floats) -> Bools:
    """Whether differences are established: Holm's p below 0.05, and the interval wholly beyond the seed-and-split band.

    All (M,). NaN, as of a band from one run, establishes nothing.

    >>> p, low = np.array([0.01, 0.01, 0.2, 0.01]), np.array([0.2, 0.05, 0.2, 0.2])
    >>> established(p, low, low + 1, np.array([0.1, 0.1, 0.1, np.nan]))
    array([ True, False, False, False])
    """
    beyond: Bools = (p_holm < LEVEL) & ((low > band) | (high < -band))
    return beyond
