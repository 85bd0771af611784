"""Neighbours and rankings as tables and back."""

import numpy as np
import polars as pl
import pytest

from cliper.models.maths.tables import (
    Neighbours,
    Ranking,
    neighbours_from_table,
    neighbours_to_table,
    ranked_items_from_table,
    ranking_to_table,
)

SEEDS = range(30)


def ragged_lists(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of 0 to 5 of 50 in a matrix, with a value of at least 1 each; every fifth seed draws empty lists only."""
    generator = np.random.default_rng(seed)
    n_rows = int(generator.integers(1, 9))
    lengths = generator.integers(0, 6 if seed % 5 else 1, size=n_rows)
    width = max(1, lengths.max())
    drawn = np.stack([generator.permutation(50)[:width] for _ in range(n_rows)])
    is_there = np.arange(width) < lengths[:, None]
    values = generator.random((n_rows, width), dtype=np.float32) + 1
    return np.where(is_there, drawn, -1), np.where(is_there, values, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_come_back_from_their_table(seed):
    neighbours = Neighbours(*ragged_lists(seed))
    back = neighbours_from_table(neighbours_to_table(neighbours, "item", "similarity"))
    for ours, expected in zip(back, neighbours, strict=True):
        assert np.array_equal(ours, expected) and ours.dtype == expected.dtype


@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_of_neighbours_comes_back_from_its_matrix_in_whatever_order_its_lines_are(seed):
    table = neighbours_to_table(Neighbours(*ragged_lists(seed)), "user", "n_shared")
    shuffled = table.sample(fraction=1, shuffle=True, seed=seed)
    assert neighbours_to_table(neighbours_from_table(shuffled), "user", "n_shared").equals(table)


@pytest.mark.parametrize("seed", SEEDS)
def test_ranked_items_come_back_from_their_table(seed):
    items, scores = ragged_lists(seed)
    table = ranking_to_table(Ranking(items, scores))
    back = ranked_items_from_table(table, n_users=len(items))
    if (items >= 0).any():
        assert np.array_equal(back, items)
    else:
        assert back.shape == (len(items), 0)
    assert table["score"].to_list() == scores[items >= 0].tolist()


def test_a_table_of_neighbours_has_a_line_a_place_and_one_of_rank_0_for_an_empty_list():
    # Item 0 has two neighbours, item 1 none, item 2 itself.
    neighbours = Neighbours(np.array([[2, 0], [-1, -1], [2, -1]]), np.array([[0.9, 0.1], [0, 0], [1, 0]], np.float32))
    assert neighbours_to_table(neighbours, "item", "similarity").rows() == [
        (0, 1, 2, pytest.approx(0.9)),
        (0, 2, 0, pytest.approx(0.1)),
        (1, 0, -1, 0.0),
        (2, 1, 2, 1.0),
    ]


def test_users_at_the_end_without_a_ranking_get_empty_lists():
    table = pl.DataFrame({"user": [0, 0, 2], "rank": [1, 2, 1], "item": [4, 1, 3]})
    assert ranked_items_from_table(table, n_users=4).tolist() == [[4, 1], [-1, -1], [3, -1], [-1, -1]]
    assert ranked_items_from_table(table, n_users=1).tolist() == [[4, 1], [-1, -1], [3, -1]]
