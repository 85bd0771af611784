import numpy as np
import torch

from cliper.models.maths.ranking import rank_items, top_k


def slow_top_k(scores: torch.Tensor, k: int) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda i: (-row[i], i))[:k] for row in scores.tolist()]


def test_top_k_equals_a_sort_by_score_and_index_also_with_many_ties():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (50, 20), generator=generator).float()
    scores[0] = -torch.inf
    scores[1, ::2] = -0.0  # equals 0
    for k in (1, 7, 20, 30):
        values, indices = top_k(scores, k)
        assert indices.tolist() == slow_top_k(scores, k)
        assert torch.equal(values, scores.gather(1, indices))


def test_ranking_leaves_train_items_out_and_ends_early_where_nothing_is_left():
    users, items = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [2.0], [3.0], [3.0]])
    train = np.array([0, 1, 1, 1]), np.array([2, 0, 1, 3])
    ranking = rank_items(users, items, train_users=train[0], train_items=train[1], k=3)
    assert ranking.items.tolist() == [[3, 1, 0], [2, -1, -1]]
    assert ranking.scores[:, 0].tolist() == [3.0, -3.0]


def test_ranking_recommends_nobody_what_is_left_out():
    users, items, none = (
        torch.tensor([[1.0], [-1.0]]),
        torch.tensor([[1.0], [2.0], [3.0]]),
        np.array([], dtype=np.int64),
    )
    ranking = rank_items(users, items, train_users=none, train_items=none, k=3, left_out=np.array([2, 0]))
    assert ranking.items.tolist() == [[1, -1, -1]] * 2


def test_ranking_goes_by_the_score_it_is_given():
    users, items, none = torch.tensor([[1.0]]), torch.tensor([[1.0], [-3.0], [2.0]]), np.array([], dtype=np.int64)
    ranking = rank_items(
        users, items, train_users=none, train_items=none, k=3, score=lambda users, items: (users @ items.T).square()
    )
    assert (ranking.items.tolist(), ranking.scores.tolist()) == ([[1, 2, 0]], [[9.0, 4.0, 1.0]])


def test_ranking_in_blocks_equals_ranking_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(9, 4, generator=generator), torch.randn(13, 4, generator=generator)
    train_users = np.repeat(np.arange(9), 3)
    train_items = np.concatenate([np.random.default_rng(u).permutation(13)[:3] for u in range(9)])

    def rank():
        return rank_items(users, items, train_users=train_users, train_items=train_items, k=5)

    at_once = rank()
    monkeypatch.setattr("cliper.models.maths.ranking.BLOCK", 30)
    assert np.array_equal(rank().items, at_once.items)
    assert not {*zip(np.repeat(np.arange(9), 5), at_once.items.ravel(), strict=True)} & {
        *zip(train_users, train_items, strict=True)
    }
