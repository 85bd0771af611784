"""Is one arm better than another for the same users: a test, a second test, and intervals of three effects.

All functions take users' values of several metrics at once and resample the users once for all of them. With tens of
thousands of users Wilcoxon's and the sign test exceed their error rate, so neither is here; the paired t-test, the
bootstrap and the randomisation test keep it. Nearly every difference is then significant: read the effect first.

Sources: Ihemelandu and Ekstrand, SIGIR 2023 (arXiv 2305.02461) and ECIR 2024; Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, equations 14.9 to 14.15. The paper has no tests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cliper.arrays import Floats, Ints

CONFIDENCE = 0.95
ROUNDING = 1e-12  # differences of shares that vary by less are equal: float64 leaves about 1e-16
BATCH = 2_000_000  # users drawn at once, over all resamples of a batch: 16 MB an array


class Estimate(NamedTuple):
    """An effect and the limits of its interval, (M,) each; NaN where it is not defined."""

    value: Floats
    low: Floats
    high: Floats


class Effects(NamedTuple):
    """By how much an arm differs from its base.

    difference  of the means
    gain        difference over the base's mean
    d_z         difference over the users' standard deviation of it
    """

    difference: Estimate
    gain: Estimate
    d_z: Estimate


def paired_t(values: Floats, base: Floats) -> Floats:
    """Two-sided p of the paired t-test.

    values, base  (M, U) users' values of M metrics
    returns       (M,)   NaN for one user; 1 where all differences are 0, 0 where all are the same other number

    >>> paired_t(np.array([[0.3, 0.2, 0.6], [0.1, 0.1, 0.1]]), np.array([[0.1, 0.1, 0.3], [0.1, 0.1, 0.1]])).round(3)
    array([0.074, 1.   ])
    """
    p = np.full(len(values), np.nan)
    if values.shape[1] < 2:
        return p
    differences = values - base
    varies = differences.std(axis=1) > ROUNDING
    p[~varies] = np.abs(differences[~varies].mean(axis=1)) <= ROUNDING
    if varies.any():
        p[varies] = stats.ttest_rel(values[varies], base[varies], axis=1).pvalue
    return p


def randomised(values: Floats, base: Floats, *, resamples: int, rng: np.random.Generator) -> Floats:
    """Two-sided p of the paired randomisation test of the mean difference.

    values, base  (M, U) users' values of M metrics
    resamples     random exchanges of the arms within users
    returns       (M,)   NaN for one user; never below 1 / (resamples + 1)

    Exchanging the two values of a user turns the sign of the difference, so one draw of signs serves all metrics. It is
    scipy's `permutation_test` of type "samples", which a test compares: that shuffles pair by pair and takes 20 times
    as long, more than a minute for 40,000 users.
    """
    n_metrics, n = values.shape
    if n < 2:
        return np.full(n_metrics, np.nan)
    differences = (values - base).T  # (U, M)
    observed = np.abs(differences.sum(axis=0)) * (1 - ROUNDING)  # equal sums may differ in their last bits
    n_as_far = np.zeros(n_metrics, dtype=np.int64)
    batch = max(1, BATCH // n)
    for begin in range(0, resamples, batch):
        signs = 2.0 * rng.integers(0, 2, (min(batch, resamples - begin), n), dtype=np.int8) - 1
        n_as_far += (np.abs(signs @ differences) >= observed).sum(axis=0)
    p: Floats = (n_as_far + 1) / (resamples + 1)
    return p


def effects(values: Floats, base: Floats, *, resamples: int, rng: np.random.Generator) -> Effects:
    """Difference, relative gain and d_z, each with its 95 % BCa bootstrap interval; users are drawn in pairs.

    values, base  (M, U) users' values of M metrics

    scipy draws the resamples. Its own BCa leaves each user out by building a sample of U - 1 for it, so its cost grows
    with the square of U (40,000 users: 25 s). The effects are functions of means, which lose a user by subtraction;
    a test compares the intervals with scipy's.
    """
    n_metrics, n = values.shape
    differences = values - base
    centre = differences.mean(axis=1)
    moments = np.concatenate([differences, base, (differences - centre[:, None]) ** 2]).T  # (U, 3M)
    means = moments.mean(axis=0)
    observed = _effects_of(means[None], centre, n)
    if n < 2:
        nothing = np.full(n_metrics, np.nan)
        return Effects(*(Estimate(value[0], nothing, nothing) for value in observed))
    drawn = _effects_of(_draw_means(moments, resamples, rng), centre, n)
    left_out = _effects_of((n * means - moments) / (n - 1), centre, n - 1)
    found = zip(observed, drawn, left_out, strict=True)
    return Effects(*(Estimate(value[0], *bca(value[0], many, fewer)) for value, many, fewer in found))


def _draw_means(moments: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of each resample of the users, (R, 3M)."""
    n = len(moments)

    def mean(users: Ints, axis: int) -> Any:
        counts = np.array([np.bincount(row, minlength=n) for row in np.atleast_2d(users)], dtype=np.float64)
        drawn = (counts @ moments / n).T
        return drawn if users.ndim == 2 else drawn[:, 0]

    found = stats.bootstrap(
        (np.arange(n),),
        mean,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH // n),
        method="percentile",
        rng=rng,
    )
    means: Floats = found.bootstrap_distribution.T
    return means


def _effects_of(means: Floats, centre: Floats, n: int) -> tuple[Floats, Floats, Floats]:
    """Difference, gain and d_z, (R, M) each, from means of difference, base and squared deviation.

    means   (R, 3M)
    centre  (M,) which the deviations are measured from: near the mean, so that nothing cancels
    n       users
    """
    difference, base, square = np.split(means, 3, axis=1)
    variance = np.maximum(square - (difference - centre) ** 2, 0) * n / max(n - 1, 1)
    deviation = np.where(variance > ROUNDING**2, np.sqrt(variance), 0)
    return difference, _ratio(difference, base, of_nothing=np.nan), _ratio(difference, deviation, of_nothing=0)


def _ratio(above: Floats, below: Floats, *, of_nothing: float) -> Floats:
    """A quotient; NaN where only the divisor is 0, `of_nothing` where both are."""
    quotient = np.where(np.abs(above) <= ROUNDING, of_nothing, np.nan)
    return np.divide(above, below, out=quotient, where=below != 0)


def bca(observed: Floats, drawn: Floats, left_out: Floats) -> tuple[Floats, Floats]:
    """Bias-corrected and accelerated limits; NaN where a value is not defined.

    observed  (M,)   the effects
    drawn     (R, M) the same in each resample
    left_out  (U, M) the same without one user
    """
    share_below = ((drawn < observed).mean(axis=0) + (drawn <= observed).mean(axis=0)) / 2
    edge = 0.5 / len(drawn)  # the farthest that R resamples can tell from an end
    bias = stats.norm.ppf(share_below.clip(edge, 1 - edge))
    pull = left_out.mean(axis=0) - left_out
    spread = (pull**2).sum(axis=0) ** 1.5
    acceleration = np.divide((pull**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
    limits = []
    for z in stats.norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]):
        levels = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        columns = zip(drawn.T, levels, np.isfinite(drawn).all(axis=0) & np.isfinite(levels), strict=True)
        limits.append(np.array([np.quantile(column, level) if ok else np.nan for column, level, ok in columns]))
    return limits[0], limits[1]
