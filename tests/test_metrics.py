import ir_measures
import numpy as np
import pytest
import torch
from toy import SHARED

from cliper.models.maths.metrics import METRICS, average_precision, find_hits, hits_by_user, ndcg, precision, recall
from cliper.models.maths.ranking import top_k

# Ranks 1 and 3 of 4 hold relevant items; the user has 3 relevant items. A second user misses all of its 5.
HITS = np.array([[True, False, True, False], [False] * 4])
N_RELEVANT = np.array([3, 5])


def test_recall_divides_by_all_relevant_items():
    assert recall(HITS, N_RELEVANT, 1).tolist() == [1 / 3, 0]
    assert recall(HITS, N_RELEVANT, 4).tolist() == [2 / 3, 0]


def test_ndcg_divides_by_the_best_list_of_k():
    gain_of_1, gain_of_2, gain_of_3 = 1, 1 / np.log2(3), 1 / 2
    expected = (gain_of_1 + gain_of_3) / (gain_of_1 + gain_of_2 + gain_of_3)
    assert ndcg(HITS, N_RELEVANT, 4).tolist() == pytest.approx([expected, 0])
    assert ndcg(HITS, N_RELEVANT, 2).tolist() == pytest.approx([1 / (1 + gain_of_2), 0])


def test_precision_divides_by_k_also_beyond_the_end_of_the_list():
    assert precision(HITS, N_RELEVANT, 4).tolist() == [2 / 4, 0]
    assert precision(HITS, N_RELEVANT, 10).tolist() == [2 / 10, 0]


def test_average_precision_divides_by_the_hits_that_could_be():
    # Precision is 1 at rank 1 and 2/3 at rank 3.
    assert average_precision(HITS, N_RELEVANT, 4).tolist() == pytest.approx([(1 + 2 / 3) / 3, 0])
    assert average_precision(HITS, N_RELEVANT, 1).tolist() == [1, 0]


def test_hits_equal_a_search_pair_by_pair():
    generator = np.random.default_rng(0)
    ranking = np.array([generator.permutation(20)[:6] for _ in range(9)])
    ranking[3, 4:] = -1
    users, items = np.repeat(np.arange(1, 9), 4), np.concatenate([generator.permutation(20)[:4] for _ in range(8)])
    pairs = {*zip(users.tolist(), items.tolist(), strict=True)}
    slow = [[(user, item) in pairs for item in row] for user, row in enumerate(ranking.tolist())]
    assert find_hits(ranking, users, items).tolist() == slow


def test_an_ended_list_is_no_hit_on_the_last_item_of_the_user_before():
    assert not find_hits(np.array([[0], [-1]]), np.array([0]), np.array([1])).any()


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/golden")
@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_equal_mmrec_golden(split):
    golden = np.load(SHARED / "golden/metrics/metrics.npz")
    user, item, label = golden["inter"].T
    scores = torch.tensor(golden["scores"])
    scores[user[label == 0], item[label == 0]] = -torch.inf
    _, ranking = top_k(scores, 50)
    users, items = (column[label == ("train", "valid", "test").index(split)] for column in (user, item))
    known, n_relevant = np.unique(users, return_counts=True)
    assert sorted(golden[f"{split}_eval_users"]) == known.tolist()
    hits = find_hits(ranking.numpy(), users, items)[known]
    for name, metric in METRICS.items():
        for k in (5, 10, 20, 50):
            assert abs(metric(hits, n_relevant, k).mean() - golden[f"{split}_{name}@{k}"]) <= 1e-12


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("name", METRICS)
def test_metrics_equal_those_of_ir_measures(name: str, k: int) -> None:
    """On random rankings of 12 of 60 items, of users with 1 to 30 relevant items; lists end before the cut-off 20.

    Recall, NDCG and precision are defined alike. Average precision is not: trec_eval, which ir_measures asks, divides
    by all relevant items; ours, as MMRec's, by the hits that a list of k can have, so that the best list has 1.
    """
    generator = np.random.default_rng(k)
    ranking = np.array([generator.permutation(60)[:12] for _ in range(40)])
    relevant = [generator.permutation(60)[: generator.integers(1, 31)] for _ in ranking]
    users, items = np.repeat(np.arange(40), [len(each) for each in relevant]), np.concatenate(relevant)
    _, n_relevant, hits = hits_by_user(ranking, users, items)
    ours = METRICS[name](hits, n_relevant, k)

    measure = ir_measures.parse_measure({"recall": "R", "ndcg": "nDCG", "precision": "P", "map": "AP"}[name] + f"@{k}")
    wanted = [ir_measures.Qrel(f"{user:02}", str(item), 1) for user, item in zip(users, items, strict=True)]
    lists = [
        ir_measures.ScoredDoc(f"{user:02}", str(item), 100.0 - rank)
        for user, row in enumerate(ranking)
        for rank, item in enumerate(row)
    ]
    theirs = {each.query_id: each.value for each in ir_measures.iter_calc([measure], wanted, lists)}
    expected = np.array([theirs[user] for user in sorted(theirs)])
    if name == "map":
        expected *= n_relevant / np.minimum(n_relevant, k)
    assert len(expected) == 40
    assert 0 < ours.mean() < 1
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
