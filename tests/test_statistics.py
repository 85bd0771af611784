"""Tests and intervals of the difference between two arms, against scipy, by hand, and by simulation."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from cliper.arrays import Floats
from cliper.report.statistics import families, paired, spread, verdicts


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def two_arms(better_by: float, *, n: int = 400) -> tuple[Floats, Floats]:
    """One metric of n users; most of a user's value is the user's own."""
    users = rng().random(n)
    return (users + better_by + 0.1 * rng(2).standard_normal(n))[None], users[None]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_better_arm_gets_the_small_p_and_an_interval_on_its_side_of_zero(sign: int) -> None:
    values, base = two_arms(sign * 0.05)
    assert paired.paired_t(values, base)[0] < 1e-6
    assert paired.randomised(values, base, resamples=999, rng=rng())[0] < 0.01
    for value, low, high in paired.effects(values, base, resamples=999, rng=rng()):
        assert low[0] < value[0] < high[0]
        assert sign * low[0] > 0 < sign * high[0]


def test_equal_arms_get_a_large_p_and_intervals_around_zero() -> None:
    values, base = two_arms(0.0)
    assert paired.paired_t(values, base)[0] > 0.1
    assert paired.randomised(values, base, resamples=999, rng=rng())[0] > 0.1
    for _, low, high in paired.effects(values, base, resamples=999, rng=rng()):
        assert low[0] < 0 < high[0]


def test_the_t_test_takes_pairs_not_groups() -> None:
    values, base = two_arms(0.05)
    assert paired.paired_t(values, base[:, ::-1])[0] > 0.001


def test_intervals_are_those_of_scipys_bca() -> None:
    values, base = rng(3).random((1, 30)) ** 3, rng(4).random((1, 30)) ** 2

    def d_z(a: Floats, b: Floats, axis: int) -> Floats:
        return (a - b).mean(axis=axis) / (a - b).std(axis=axis, ddof=1)

    def gain(a: Floats, b: Floats, axis: int) -> Floats:
        return a.mean(axis=axis) / b.mean(axis=axis) - 1

    def difference(a: Floats, b: Floats, axis: int) -> Floats:
        return a.mean(axis=axis) - b.mean(axis=axis)

    ours = paired.effects(values, base, resamples=999, rng=rng(5))
    for own, statistic in zip(ours, (difference, gain, d_z), strict=True):
        theirs = stats.bootstrap(
            (values[0], base[0]), statistic, paired=True, n_resamples=999, method="BCa", rng=rng(5)
        )
        np.testing.assert_allclose(own.value[0], statistic(values[0], base[0], 0), rtol=1e-12)
        np.testing.assert_allclose([own.low[0], own.high[0]], theirs.confidence_interval, rtol=1e-9)


def test_the_randomised_p_is_near_the_exact_one() -> None:
    values, base = rng(3).random((2, 12)), rng(4).random((2, 12)) * 0.7
    ours = paired.randomised(values, base, resamples=9_999, rng=rng())
    for own, a, b in zip(ours, values, base, strict=True):
        exact = stats.permutation_test((a, b), lambda x, y: x.mean() - y.mean(), permutation_type="samples")
        assert len(exact.null_distribution) == 2**12
        assert own == pytest.approx(exact.pvalue, abs=4 * np.sqrt(exact.pvalue / 9_999))


def test_resamples_in_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, base = two_arms(0.01)
    whole = paired.effects(values, base, resamples=99, rng=rng())
    monkeypatch.setattr(paired, "BATCH", 7 * values.shape[1])
    assert paired.effects(values, base, resamples=99, rng=rng()) == whole


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 300 draws of 80 users whose skewed differences have the mean 0.2; 95 % +- 3 standard errors of 1.3 %
    draw = rng(6)
    n_covered = 0
    for _ in range(300):
        base = draw.random((1, 80))
        values = base + draw.exponential(0.4, (1, 80)) - 0.2
        low, high = paired.effects(values, base, resamples=199, rng=draw).difference[1:]
        n_covered += bool(low[0] <= 0.2 <= high[0])
    assert 0.90 <= n_covered / 300 <= 0.985


def test_p_is_uniform_where_no_arm_is_better() -> None:
    # most users have no hit, as with NDCG: 500 tables of 200 users; 3 standard errors are at most 0.067
    draw = rng(7)
    values, base = (draw.binomial(1, 0.3, (500, 200)) * draw.random((500, 200)) for _ in range(2))
    for p in (paired.paired_t(values, base), paired.randomised(values, base, resamples=499, rng=draw)):
        below = [(p < level).mean() for level in (0.05, 0.25, 0.5, 0.75)]
        np.testing.assert_allclose(below, [0.05, 0.25, 0.5, 0.75], atol=0.07)


def test_users_that_never_differ_leave_nothing_to_find() -> None:
    values = base = rng().random((1, 50))
    assert paired.paired_t(values, base) == 1
    assert paired.randomised(values, base, resamples=99, rng=rng()) == 1
    assert [[x.item() for x in each] for each in paired.effects(values, base, resamples=99, rng=rng())] == [
        [0, 0, 0]
    ] * 3


def test_users_that_all_differ_alike_have_no_d_z() -> None:
    base = rng().random((1, 50))
    difference, gain, d_z = paired.effects(base + 0.25, base, resamples=99, rng=rng())
    assert paired.paired_t(base + 0.25, base) == 0
    np.testing.assert_allclose(difference, [[0.25]] * 3, rtol=1e-12)
    assert 0 < gain.low < gain.value < gain.high
    assert np.isnan(d_z).all()


def test_over_a_base_of_zero_there_is_no_gain() -> None:
    values = rng().random((1, 50))
    difference, gain, d_z = paired.effects(values, np.zeros((1, 50)), resamples=99, rng=rng())
    assert difference.low > 0 < d_z.low
    assert np.isnan(gain).all()


def test_a_base_that_may_be_zero_in_a_resample_has_a_gain_without_interval() -> None:
    base = np.zeros((1, 20))
    base[0, 0] = 1
    gain = paired.effects(base + 0.1 * rng().random((1, 20)), base, resamples=99, rng=rng()).gain
    assert gain.value > 0
    assert np.isnan([gain.low, gain.high]).all()


def test_one_user_has_a_difference_and_nothing_else() -> None:
    values, base = np.array([[0.5]]), np.array([[0.25]])
    assert np.isnan(paired.paired_t(values, base))
    assert np.isnan(paired.randomised(values, base, resamples=9, rng=rng()))
    difference, gain, d_z = paired.effects(values, base, resamples=9, rng=rng())
    assert (difference.value, gain.value) == (0.25, 1)
    assert np.isnan([difference.low, difference.high, gain.low, d_z.value]).all()


def test_metrics_are_compared_each_for_itself() -> None:
    values, base = rng(3).random((3, 40)), rng(4).random((3, 40))
    together = paired.effects(values, base, resamples=99, rng=rng())
    for metric in range(3):
        alone = paired.effects(values[[metric]], base[[metric]], resamples=99, rng=rng())
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose([part[metric] for part in many], np.ravel(one), rtol=1e-9)


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p = np.array([0.04, 0.001, 0.02, 0.5])
    # sorted .001 .02 .04 .5: Holm x 4, 3, 2, 1, never falling; BH x 4/1, 4/2, 4/3, 4/4
    np.testing.assert_allclose(families.holm(p), [0.08, 0.004, 0.06, 0.5])
    np.testing.assert_allclose(families.benjamini_hochberg(p), [0.04 * 4 / 3, 0.004, 0.04, 0.5])
    assert families.holm(np.array([])).tolist() == []


def test_established_in_either_direction() -> None:
    low, high = np.array([0.02, -0.05, -0.01]), np.array([0.05, -0.02, 0.05])
    assert families.established(np.full(3, 0.01), low, high, np.full(3, 0.01)).tolist() == [True, True, False]


def test_user_and_seed_variance_are_told_apart() -> None:
    """Users who differ much under seeds that do nothing, and seeds that move all users alike."""
    users = rng().standard_normal((1, 500))
    only_users, only_seeds = np.repeat(users, 3, axis=0), np.arange(3.0)[:, None] + np.zeros((3, 500))
    assert spread.deviation(only_users.mean(axis=1, keepdims=True))[0] == pytest.approx(0)
    assert spread.deviation(only_seeds.mean(axis=1, keepdims=True))[0] == 1
    assert only_users.mean(axis=0).std() > 0.9
    assert only_seeds.mean(axis=0).std() == 0


def test_equal_arms_differ_by_more_than_the_band_in_5_of_100_cases() -> None:
    draw = rng(8)
    runs, base = draw.standard_normal((3, 4_000)), draw.standard_normal((3, 4_000))
    beyond = np.abs(runs.mean(axis=0) - base.mean(axis=0)) > spread.band(runs, base)
    assert beyond.mean() == pytest.approx(0.05, abs=0.012)
    assert np.isnan(spread.band(runs[:1], base[:1])).all()


@pytest.mark.parametrize(
    ("paper", "mean", "sd", "n_runs", "expected"),
    [
        # t(.975, 2) = 4.303; x 0.1 x sqrt(4/3) = 0.497
        (9.92, 9.43, 0.1, 3, "reproduced"),
        (9.92, 9.419, 0.1, 3, "reproduced"),  # by the rounding of the printed number
        (9.92, 9.41, 0.1, 3, "within noise"),
        (9.92, 8.90, 0.1, 3, "not reproduced"),
        (9.92, 9.92, None, 1, "within noise"),
        (9.92, 9.41, None, 1, "not reproduced"),
        (9.92, None, None, 0, "not run"),
    ],
)
def test_the_verdict_on_a_printed_cell(
    paper: float, mean: float | None, sd: float | None, n_runs: int, expected: str
) -> None:
    assert verdicts.verdict(paper, mean, sd, n_runs) == expected
    assert verdicts.verdict(paper, mean, sd, n_runs, is_impossible=True) == "impossible"


@pytest.mark.slow
def test_forty_thousand_users_take_seconds_and_little_memory() -> None:
    values, base = rng(1).random((12, 40_000)), rng(2).random((12, 40_000))
    tracemalloc.start()
    began = time.process_time()
    paired.effects(values, base, resamples=9_999, rng=rng())
    paired.randomised(values, base, resamples=9_999, rng=rng())
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"12 metrics of 40,000 users: {seconds:.0f} s of CPU, {peak / 1e6:.0f} MB")  # about 12 s, 70 MB
    assert peak < 2e9
    assert seconds < 60
