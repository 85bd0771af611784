import numpy as np
import pytest
import torch

from cliper.models.backbones.freedom import equal_edges
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.sparse import Edges, SparseMatrix, edge_weights, interaction_graph, propagate

NONE_FILLED = np.zeros(4, dtype=bool)


def dense(edges: Edges, *shape: int) -> np.ndarray:
    matrix = np.zeros(shape)
    np.add.at(matrix, (edges.rows, edges.columns), edges.values)
    return matrix


def test_edges_weigh_one_over_the_root_of_both_degrees():
    # LightGCN, equation 3. User 0 has 2 items, user 1 has 1; item 0 has 2 users, item 3 has 1.
    users, items = np.array([0, 0, 1]), np.array([0, 3, 0])
    expected = [1 / np.sqrt(2 * 2), 1 / np.sqrt(2 * 1), 1 / np.sqrt(1 * 2)]
    assert edge_weights(users, items) == pytest.approx(expected, rel=1e-6)


def test_propagation_averages_the_layers():
    # LightGCN, equations 3 and 8. One user with items 0 and 1 of 3, so each edge weighs 1/√2.
    graph = interaction_graph(np.array([0, 0]), np.array([0, 1]), n_users=1, n_items=3)
    users, items = propagate(graph, torch.tensor([[2.0]]), torch.tensor([[1.0], [3.0], [5.0]]), n_layers=2)
    # Layer 1: user (1 + 3)/√2, items 2/√2, 2/√2, 0. Layer 2: user (√2 + √2)/√2 = 2, items 4/√2/√2 = 2, 2, 0.
    r = np.sqrt(2)
    assert users.flatten().tolist() == pytest.approx([(2 + 4 / r + 2) / 3])
    assert items.flatten().tolist() == pytest.approx([(1 + r + 2) / 3, (3 + r + 2) / 3, 5 / 3])


def test_sparse_products_and_gradients_equal_dense_ones():
    generator = np.random.default_rng(1)
    edges = Edges(generator.integers(0, 5, 20), generator.integers(0, 8, 20), generator.random(20))  # some twice
    matrix, twin = SparseMatrix(edges, shape=(5, 8)), torch.tensor(dense(edges, 5, 8), dtype=torch.float32)
    for product, twin_product, n_rows in ((matrix, twin, 8), (matrix.transposed, twin.T, 5)):
        x = torch.randn(n_rows, 3, requires_grad=True)
        result = product(x)
        torch.testing.assert_close(result, twin_product @ x)
        weights = torch.randn_like(result)
        (gradient,) = torch.autograd.grad((result * weights).sum(), x)
        torch.testing.assert_close(gradient, twin_product.T @ weights)


def knn(features, is_left_out, k):
    return equal_edges(nearest_items(features, is_left_out, k), k)


def test_knn_links_each_item_to_itself_and_the_closest():
    # Cosines: 0-1 is .6, 0-2 is 0, 1-2 is .8, 3 points away from all; lengths do not matter.
    features = np.array([[5, 0], [0.6, 0.8], [0, 1], [-1, -1]], dtype=np.float32)
    edges = knn(features, NONE_FILLED, k=2)
    expected = [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5]]
    # Item 3 is as far from 0 as from 2 (cosine -1/√2): the tie goes to 0.
    assert dense(edges, 4, 4) == pytest.approx(np.array(expected), abs=1e-6)


def test_the_floor_under_degrees_changes_a_weight_by_less_than_a_ten_millionth():
    # MMRec has 1e-8 in SLMRec's graph, the authors nothing; a user and an item of one interaction are the worst case.
    users, items = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    exact = 1 / np.sqrt(np.bincount(users)[users] * np.bincount(items)[items])
    assert 0 < np.abs(edge_weights(users, items) / exact - 1).max() <= 1.0001e-7


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e20, 1e37])
def test_neighbours_do_not_depend_on_lengths_that_float32_cannot_square(scale):
    features, none = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32), np.zeros(9, dtype=bool)
    near, far = (nearest_items(features * factor, none, 3) for factor in (np.float32(1), np.float32(scale)))
    assert np.array_equal(near.nearest, far.nearest)
    np.testing.assert_allclose(near.closeness, far.closeness, rtol=1e-5)


def test_knn_breaks_ties_by_the_lower_item():
    edges = knn(np.ones((4, 3), dtype=np.float32), NONE_FILLED, k=2)
    assert edges.columns.tolist() == [0, 1] * 4


def test_knn_keeps_filled_and_zero_rows_out():
    features = np.array([[1, 0], [0, 0], [1, 0.1], [1, 0.05]], dtype=np.float32)
    edges = knn(features, np.array([False, False, False, True]), k=3)
    assert sorted(zip(edges.rows, edges.columns, strict=True)) == [(0, 0), (0, 2), (2, 0), (2, 2)]
    assert edges.values == pytest.approx([0.5] * 4)  # two are left to share the weight


def test_knn_of_no_usable_item_has_no_edge():
    edges = knn(np.zeros((4, 2), dtype=np.float32), NONE_FILLED, k=3)
    matrix = SparseMatrix(edges, shape=(4, 4))
    assert matrix(torch.ones(4, 2)).abs().sum() == 0


def test_knn_in_blocks_equals_a_full_sort(monkeypatch):
    monkeypatch.setattr("cliper.models.maths.nearest.BLOCK", 7)
    features = np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32)
    edges = knn(features, np.zeros(30, dtype=bool), k=4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit.T), axis=1, kind="stable")[:, :4]
    assert edges.columns.reshape(30, 4).tolist() == nearest.tolist()


def test_users_are_neighbours_by_the_items_they_share():
    # 0 has a b c, 1 has b c, 2 has c, 3 has d; 4 has nothing.
    users, items = np.array([0, 0, 0, 1, 1, 2, 3]), np.array([0, 1, 2, 1, 2, 2, 3])
    found = sharing_users(users, items, n_users=5, k=2)
    assert found.nearest.tolist() == [[1, 2], [0, 2], [0, 1], [-1, -1], [-1, -1]]
    assert found.closeness.tolist() == [[2, 1], [2, 1], [1, 1], [0, 0], [0, 0]]


def test_sharing_users_equals_the_sets_of_a_slow_twin():
    generator = np.random.default_rng(0)
    pairs = np.unique(generator.integers(0, [30, 40], size=(200, 2)), axis=0)
    found = sharing_users(pairs[:, 0], pairs[:, 1], n_users=30, k=5)
    owned = [set(pairs[pairs[:, 0] == user, 1]) for user in range(30)]
    for user in range(30):
        shared = [(-len(owned[user] & owned[other]), other) for other in range(30) if other != user]
        best = [(other, -count) for count, other in sorted(shared) if count][:5]
        ours = [(n, c) for n, c in zip(found.nearest[user], found.closeness[user], strict=True) if n >= 0]
        assert ours == best
