import numpy as np
import pytest

from cliper.errors import DataError
from cliper.models.maths.sampling import sample_edges, sample_negatives, sample_triples

USERS, ITEMS = np.array([0, 0, 1, 2, 2]), np.array([0, 4, 1, 1, 4])  # items 2 and 3 are not in train


def test_triples_hold_every_interaction_once_in_a_new_order_each_epoch():
    shuffle, negatives = np.random.default_rng(0), np.random.default_rng(1)
    users, items = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8) + np.repeat(np.arange(8), 5)
    first = sample_triples(users, items, np.unique(items), shuffle=shuffle, negatives=negatives)
    second = sample_triples(users, items, np.unique(items), shuffle=shuffle, negatives=negatives)
    for epoch in (first, second):
        assert sorted(zip(*epoch[:2], strict=True)) == sorted(zip(users, items, strict=True))
    assert not np.array_equal(first, second)


def test_negatives_are_spread_evenly_over_the_train_items_the_user_does_not_have():
    in_train = np.unique(ITEMS)
    many = np.concatenate([sample_negatives(USERS, ITEMS, in_train, np.random.default_rng(i)) for i in range(900)])
    users = np.tile(USERS, 900)
    assert set(many[users == 0]) == {1}  # has 0 and 4 of 0, 1, 4
    assert set(many[users == 2]) == {0}
    # User 1 has item 1: 900 draws from 0 and 4, five standard deviations are 75.
    assert np.bincount(many[users == 1], minlength=5) == pytest.approx([450, 0, 0, 0, 450], abs=75)


def test_negatives_are_spread_evenly_over_the_candidates_the_user_does_not_have():
    candidates = np.array([0, 1, 2, 4])
    many = np.concatenate([sample_negatives(USERS, ITEMS, candidates, np.random.default_rng(i)) for i in range(900)])
    users = np.tile(USERS, 900)
    # Users 0 and 2 (1,800 draws each): two of the four; user 1 (900): three. Five standard deviations are 107 and 71.
    assert np.bincount(many[users == 0], minlength=5) == pytest.approx([0, 900, 900, 0, 0], abs=107)
    assert np.bincount(many[users == 1], minlength=5) == pytest.approx([300, 0, 300, 0, 300], abs=71)
    assert np.bincount(many[users == 2], minlength=5) == pytest.approx([900, 0, 900, 0, 0], abs=107)


def test_a_user_with_every_item_is_a_data_error():
    with pytest.raises(DataError, match="user 1 has all 2 items"):
        sample_negatives(np.array([0, 1, 1]), np.array([5, 3, 5]), np.array([3, 5]), np.random.default_rng(0))


def test_edges_are_drawn_as_one_by_one_without_replacement():
    # Weights 3, 1, 1; two kept. P(edge 0 is left out) = P(1 then 2) + P(2 then 1) = 2 (1/5) (1/4) = 1/10.
    weights, generator = np.array([3.0, 1.0, 1.0]), np.random.default_rng(0)
    drawn = [sample_edges(weights, 2, generator).tolist() for _ in range(4000)]
    assert all(first < second for first, second in drawn)
    n_without_0 = drawn.count([1, 2])
    assert n_without_0 == pytest.approx(400, abs=95)  # five standard deviations


def test_keeping_all_edges_keeps_all():
    assert sample_edges(np.array([0.1, 2.0, 1.0]), 3, np.random.default_rng(0)).tolist() == [0, 1, 2]
