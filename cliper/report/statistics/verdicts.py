"""What a cell of ours says of the same cell of the paper."""

from __future__ import annotations

import math
from typing import Literal

from scipy import stats

Verdict = Literal["impossible", "not run", "reproduced", "within noise", "not reproduced"]
CONFIDENCE = 0.95
HALF_DIGIT = 0.005  # the paper prints two digits of a percentage
SPLIT_NOISE = 0.05  # two random splits of one author differ by up to 4.8 % (MMRec's README, LATTICE on Sports)


def verdict(paper: float, mean: float | None, sd: float | None, n_runs: int, *, is_impossible: bool = False) -> Verdict:
    """Compare a printed number with our runs; all in percent.

    sd             over runs, with n - 1; None for one run
    is_impossible  the lint says that no run can give the printed cell

    "reproduced": the printed number lies where one further run of ours would, in 95 of 100 cases (prediction interval,
    its rounding allowed for). "within noise": there, or no farther from it than 5 % of the printed number. One run
    predicts nothing, so "within noise" is the best that it can say.

    >>> verdict(9.92, 9.80, 0.10, 3)
    'reproduced'
    >>> verdict(9.92, 9.80, None, 1)
    'within noise'
    """
    if is_impossible:
        return "impossible"
    if mean is None:
        return "not run"
    reach = HALF_DIGIT
    if sd is not None:
        reach += float(stats.t.ppf((1 + CONFIDENCE) / 2, n_runs - 1)) * sd * math.sqrt(1 + 1 / n_runs)
    distance = abs(paper - mean)
    if sd is not None and distance <= reach:
        return "reproduced"
    return "within noise" if distance <= reach + SPLIT_NOISE * paper else "not reproduced"
