import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Config
from cliper.errors import DataError
from cliper.models import evaluate

CELL = {"dataset": "toy", "backbone": "freedom", "arm": "vanilla", "seed": 3}
INTERACTIONS = {"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Int64}
PAIRS = {"user": pl.Int32, "item": pl.Int32}
# Three users, five items, lists of three; user 1's list ends after one item.
TOPK = pl.DataFrame(
    [
        (0, 1, 4, 0.9),
        (0, 2, 1, 0.5),
        (0, 3, 0, 0.1),
        (1, 1, 2, 0.3),
        (2, 1, 0, 0.7),
        (2, 2, 3, 0.7),
        (2, 3, 4, 0.2),
    ],
    schema={"user": pl.Int32, "rank": pl.Int16, "item": pl.Int32, "score": pl.Float32},
    orient="row",
)
VALID = pl.DataFrame([(0, 1, None), (1, 3, None)], schema=INTERACTIONS, orient="row")
TEST = pl.DataFrame([(0, 0, None), (0, 2, None), (2, 0, None)], schema=INTERACTIONS, orient="row")


@pytest.fixture
def settings(workdir) -> Config:
    settings = toy.settings(**toy.dataset(workdir), evaluate={"cutoffs": [1, 3, 20]}, tabulate={"cutoffs": [20]})
    for kind, table in {"topk": TOPK, "valid": VALID, "test": TEST}.items():
        files.write_table(toy.path(settings, kind, **CELL), kind, table)
    return settings


def value(metrics: pl.DataFrame, split: str, metric: str, k: int) -> float:
    return metrics.filter(split=split, metric=metric, k=k)["value"].item()


def test_metrics_average_over_the_users_of_each_split(settings):
    toy.run("evaluate", settings, **CELL)
    metrics = files.read_table(toy.path(settings, "metrics", **CELL), "metrics")
    # test: user 0 has items 0 (rank 3) and 2 (not listed), user 2 has item 0 (rank 1); user 1 has none.
    assert value(metrics, "test", "recall", 1) == (0 + 1) / 2
    assert value(metrics, "test", "recall", 3) == (1 / 2 + 1) / 2
    assert value(metrics, "test", "precision", 3) == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert value(metrics, "test", "ndcg", 3) == pytest.approx((0.5 / (1 + 1 / np.log2(3)) + 1) / 2)
    assert value(metrics, "test", "map", 3) == pytest.approx((1 / 3 / 2 + 1) / 2)
    # valid: user 0 finds item 1 at rank 2, user 1 does not find item 3.
    assert value(metrics, "valid", "recall", 3) == 1 / 2
    assert metrics.filter(split="valid")["n_users"].unique().to_list() == [2]
    assert len(metrics) == 2 * 4 * 3
    assert metrics.select(*CELL).unique().rows(named=True) == [CELL]


def test_user_metrics_hold_the_test_split_and_average_to_the_metrics(settings):
    toy.run("evaluate", settings, **CELL)
    users = files.read_table(toy.path(settings, "user_metrics", **CELL), "user_metrics")
    metrics = files.read_table(toy.path(settings, "metrics", **CELL), "metrics").filter(split="test")
    assert users["user"].unique().to_list() == [0, 2]
    means = users.group_by("metric", "k").agg(pl.col("value").mean()).sort("metric", "k")
    assert means["value"].to_list() == pytest.approx(metrics["value"].to_list())


def test_a_user_whose_list_is_empty_counts_as_missed():
    split = pl.DataFrame({"user": [0, 5], "item": [4, 4]})
    measured = evaluate.measure(TOPK, split, (3,)).filter(metric="recall")
    assert dict(measured.select("user", "value").iter_rows()) == {0: 1.0, 5: 0.0}


def test_evaluation_repeats_byte_by_byte(settings):
    path = toy.path(settings, "metrics", **CELL)
    toy.run("evaluate", settings, **CELL)
    first = path.read_bytes()
    toy.run("evaluate", settings, **CELL)
    assert path.read_bytes() == first


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_split_without_interactions_is_a_data_error(settings, split):
    files.write_table(toy.path(settings, split, **CELL), split, TEST.clear())
    with pytest.raises(DataError, match=f"the {split} split of dataset toy has no interactions"):
        toy.run("evaluate", settings, **CELL)


def test_evaluation_before_training_names_the_stage_to_run(settings):
    with pytest.raises(DataError, match=r"topk\.parquet is missing\. Run: python -m cliper train"):
        toy.run("evaluate", settings, **CELL | {"seed": 4})


def test_validation_items_stay_in_the_test_ranking_unless_masked(settings):
    # User 0's list is 4, 1, 0 with validation item 1; test item 0 moves from rank 3 to 2. The valid split is as before.
    measured = {}
    for mask_valid in (False, True):
        chosen = toy.changed(settings, "evaluate", cutoffs=(1, 2, 20), mask_valid=mask_valid)
        note = {"mask_valid": True} if mask_valid else {}
        files.write_table(toy.path(settings, "topk", **CELL), "topk", TOPK, metadata=note)
        toy.run("evaluate", chosen, **CELL)
        measured[mask_valid] = files.read_table(toy.path(settings, "metrics", **CELL), "metrics")
    assert [value(measured[False], "test", "recall", k) for k in (1, 2, 20)] == [1 / 2, 1 / 2, (1 / 2 + 1) / 2]
    assert [value(measured[True], "test", "recall", k) for k in (1, 2, 20)] == [1 / 2, (1 / 2 + 1) / 2, (1 / 2 + 1) / 2]
    ndcg = (1 / np.log2(3) / (1 + 1 / np.log2(3)) + 1) / 2
    assert value(measured[True], "test", "ndcg", 20) == pytest.approx(ndcg)
    valid = [table.filter(split="valid") for table in measured.values()]
    assert valid[0].equals(valid[1])


def test_what_is_left_out_closes_its_gap_for_its_user_only():
    left = evaluate.leave_out(TOPK, pl.DataFrame({"user": [0, 2, 2, 1], "item": [4, 0, 4, 0]}, schema=PAIRS))
    assert left.select("user", "rank", "item").rows() == [(0, 1, 1), (0, 2, 0), (1, 1, 2), (2, 1, 3)]
    assert left.schema == TOPK.schema


def test_a_ranking_without_room_for_masking_is_refused(settings):
    masked = toy.changed(settings, "evaluate", mask_valid=True)
    with pytest.raises(DataError, match=r"topk\.parquet was made with evaluate\.mask_valid: false\. Run: .* train"):
        toy.run("evaluate", masked, **CELL)
