"""What seeds and splits alone do to a mean: the yardstick of every difference.

Source: Bouthillier et al., MLSys 2021 (arXiv 2103.03098): vary seeds and splits, report P(A > B). The paper has one run
of each cell.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cliper.arrays import Floats

CONFIDENCE = 0.95


def deviation(runs: Floats) -> Floats:
    """Standard deviation over runs, with n - 1; NaN for one run.

    runs     (n, M) means of each run
    returns  (M,)
    """
    found: Floats = runs.std(axis=0, ddof=1) if len(runs) > 1 else np.full(runs.shape[1], np.nan)
    return found


def band(runs: Floats, base_runs: Floats) -> Floats:
    """How far the means of n runs of two equal arms differ, in 95 of 100 cases, by seed and split alone.

    runs, base_runs  (n, M) means of each run
    returns          (M,)   t(.975, 2(n - 1)) x sqrt((sd² + base_sd²) / n); NaN for one run

    >>> band(np.array([[0.10], [0.12]]), np.array([[0.09], [0.11]])).round(4)  # 4.303 x sqrt((.0002 + .0002) / 2)
    array([0.0608])
    """
    n = len(runs)
    if n < 2:
        return deviation(runs)
    error: Floats = np.sqrt((deviation(runs) ** 2 + deviation(base_runs) ** 2) / n)
    return error * float(stats.t.ppf((1 + CONFIDENCE) / 2, 2 * (n - 1)))


def better(runs: Floats, base_runs: Floats) -> Floats:
    """P(A > B): share of the runs in which the arm beats its base on the same data and seed; ties count half.

    >>> better(np.array([[2.0], [3.0], [1.0], [1.0]]), np.array([[1.0], [1.0], [1.0], [2.0]]))
    array([0.625])
    """
    shares: Floats = ((runs > base_runs).mean(axis=0) + (runs >= base_runs).mean(axis=0)) / 2
    return shares
