"""The lint finds what cannot be, and nothing in what a run gave."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.__main__ import main
from cliper.arrays import Ints
from cliper.models.maths.metrics import METRICS, hits_by_user
from cliper.report.tables import lint

CUTOFFS = (10, 20, 50)
PAPER = toy.REPOSITORY / "cliper/data/paper/table2.csv"


def random_metrics(
    rng: np.random.Generator, *, most: int, n_users: int = 40, n_items: int = 200
) -> tuple[pl.DataFrame, Ints]:
    """Recall and NDCG of random rankings that favour relevant items (metric, k, value), and users' numbers of these."""
    n_relevant = rng.integers(1, most + 1, n_users)
    pairs = [(user, item) for user, n in enumerate(n_relevant) for item in rng.choice(n_items, n, replace=False)]
    users, items = np.array(pairs).T
    scores = rng.random((n_users, n_items))
    scores[users, items] += rng.random()
    _, counts, hits = hits_by_user(np.argsort(-scores)[:, :50], users, items)
    rows = [(name, k, METRICS[name](hits, counts, k).mean()) for name in ("recall", "ndcg") for k in CUTOFFS]
    return pl.DataFrame(rows, schema={"metric": pl.String, "k": pl.Int64, "value": pl.Float64}, orient="row"), counts


def column(
    numbers: Mapping[tuple[str, int], float | None], *, dataset: str = "baby", arm: str = "cliper"
) -> pl.DataFrame:
    rows = [(dataset, "freedom", arm, metric, k, mean) for (metric, k), mean in numbers.items()]
    schema = dict.fromkeys(lint.KEY, pl.String) | {"k": pl.Int64, "mean": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def said(table: pl.DataFrame, **how: float) -> list[str]:
    return [str(each) for each in lint.check(table, **how)[0]]


FREEDOM = {("recall", 20): 9.41, ("recall", 50): 14.8, ("ndcg", 20): 4.20, ("ndcg", 50): 5.30}


@pytest.mark.parametrize("most", [1, 2, 9, 15, 60])
def test_no_ranking_is_found_impossible(most: int) -> None:
    rng = np.random.default_rng(most)
    for _ in range(40):
        metrics, counts = random_metrics(rng, most=most)
        numbers = {(metric, k): 100 * value for metric, k, value in metrics.iter_rows()}
        table = lint.with_relevant(column(numbers, dataset="toy"), {"toy": counts})
        assert said(table) == []
        assert said(table.with_columns(pl.col("mean").round(1)), half_digit=0.05) == []


def test_the_bounds_are_reached() -> None:
    """One user whose only test item comes at rank 20 rises least, at rank 11 most."""
    for rank, bound in (
        (20, lint.least_rise(100, 10, 20, above_a=0)),
        (11, lint.largest_rise(100, 10, 20, max_relevant=1)),
    ):
        assert bound == pytest.approx(100 / np.log2(rank + 1))
    # two users with 11 test items, all at the top: at 11 their list is as ideal as at 10, so nothing is lost
    assert lint.least_rise(100 / 11, 10, 11, above_a=1) < 0


@pytest.mark.parametrize("path", [toy.SHARED / "paper/table2.csv", PAPER])
def test_the_paper_has_one_impossible_column_pair(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not path.exists():
        pytest.skip("the folder of the project's sources is elsewhere")
    assert main(["lint", str(path)]) == 1
    shown = capsys.readouterr()
    # R rises by 12.00 - 9.41 = 2.59, less 0.01 of rounding, over log2(51) = 5.672: 0.4548
    assert shown.out == (
        "Clothing FREEDOM vanilla at K = 50: N rises by 0.24 from K = 20, but R's 2.59 are worth 0.4548 or more\n"
    )
    assert "the largest rise of N" in shown.err
    assert lint.impossible() == {("Clothing", "FREEDOM", "vanilla", 50)}


def test_a_plausible_value_in_its_place_is_not_found(tmp_path: Path) -> None:
    text = PAPER.read_text(encoding="utf-8")
    text = text.replace("Clothing,Recall,50,FREEDOM,vanilla,12.00", "Clothing,Recall,50,FREEDOM,vanilla,14.80")
    (tmp_path / "table.csv").write_text(text.replace("FREEDOM,vanilla,4.44", "FREEDOM,vanilla,5.30"), encoding="utf-8")
    assert main(["lint", str(tmp_path / "table.csv")]) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({("ndcg", 50): 4.44}, "N rises by 0.24 from K = 20, but R's 5.39 are worth 0.9502 or more"),
        ({("ndcg", 50): 4.10}, "N rises by -0.1 from K = 20, but R's 5.39 are worth"),
        ({("ndcg", 20): 2.0, ("ndcg", 50): 3.1}, "N rises by 2 from K = 0, but R's 9.41 are worth 2.142 or more"),
        ({("recall", 50): 9.30}, "R falls by 0.11 from K = 20"),
        ({("ndcg", 50): float("nan")}, "ndcg is nan, which is no percentage"),
        ({("recall", 50): 100.2, ("ndcg", 50): 50.0}, "recall is 100.2, which is no percentage"),
    ],
)
def test_a_cell_that_cannot_be_is_named(change: dict[tuple[str, int], float], expected: str) -> None:
    (line,) = said(column(FREEDOM | change))
    assert line.startswith("baby freedom cliper at K = ")
    assert expected in line


def test_rounding_is_allowed_for_and_unrounded_numbers_get_no_allowance() -> None:
    least = 2.59 / np.log2(51)
    table = column({("recall", 20): 9.41, ("recall", 50): 12.0, ("ndcg", 20): 4.2, ("ndcg", 50): 4.2 + least - 0.011})
    assert said(table, half_digit=0.005) == []
    assert len(said(table)) == 1


def test_with_one_test_item_a_user_ndcg_may_not_rise_too_far_either() -> None:
    table = column(FREEDOM | {("ndcg", 50): 5.50})
    assert said(table) == []
    # 5.39 / log2(22) = 1.2087
    assert (
        "R's 5.39 are worth 1.209 or less" in said(lint.with_relevant(table, {"baby": np.ones(9, dtype=np.int64)}))[0]
    )


def test_where_users_have_many_test_items_the_answer_is_not_checkable() -> None:
    table = column(FREEDOM | {("ndcg", 50): 4.10}, dataset="films")
    faults, unknown = lint.check(table)
    assert (faults, len(unknown)) == ([], 2)
    assert "films freedom cliper at K = 50: not checkable: unknown how many users" in str(unknown[0])
    known = lint.with_relevant(table, {"films": np.array([1, 30, 60])})
    faults, unknown = lint.check(known)
    assert faults == []
    assert "not checkable: 66.7% of the users have more than 20 test items" in str(unknown[0])
    few = lint.with_relevant(table, {"films": np.array([1, 2, 20])})
    assert len(lint.check(few)[0]) == 1


def test_a_cutoff_below_ten_is_not_checkable_where_users_items_are_not_counted() -> None:
    table = column({("recall", 5): 5.0, ("recall", 10): 7.0, ("ndcg", 5): 3.0, ("ndcg", 10): 3.0})
    assert said(table) == []
    assert len(said(lint.with_relevant(table, {"baby": np.array([1, 2])}))) == 1


def test_gaps_repeated_rows_and_equal_arms_are_named() -> None:
    table = pl.concat([column(FREEDOM, arm="vanilla"), column(FREEDOM)])
    assert said(table) == ["baby freedom cliper: has the numbers of vanilla in all 4 cells"]
    assert said(table[:-1]) == ["baby freedom cliper at K = 50: ndcg is missing"]
    assert said(pl.concat([table[:4], table[:1]])) == ["baby freedom vanilla at K = 20: recall has 2 rows"]


def test_a_number_that_the_paper_did_not_print_is_named() -> None:
    table = column({("recall", 20): 9.92}).with_columns(paper=pl.lit(10.26))
    assert said(table) == []
    assert said(table.with_columns(arm=pl.lit("vanilla"))) == [
        "baby freedom vanilla at K = 20: the paper's recall is 9.92, not 10.26"
    ]


def test_a_cell_that_was_not_run_is_no_fault_but_an_empty_one_is() -> None:
    absent = [column(dict.fromkeys(FREEDOM), arm=arm) for arm in ("text_only", "noise")]
    run = column(FREEDOM).with_columns(n_seeds=3, sd=0.1)
    assert (
        said(pl.concat([run, *(each.with_columns(n_seeds=0, sd=None) for each in absent)], how="vertical_relaxed"))
        == []
    )
    empty = pl.concat([run, absent[0].with_columns(n_seeds=3, sd=0.1)], how="vertical_relaxed")
    assert said(empty)[0] == "baby freedom text_only at K = 20: recall is missing or no number"


def test_a_gain_that_the_means_do_not_give_is_named() -> None:
    base, arm = column({("recall", 20): 8.0}, arm="vanilla"), column({("recall", 20): 8.8})
    gains = {"gain": pl.lit(10.0), "gain_low": pl.lit(4.0), "gain_high": pl.lit(16.0)}
    table = pl.concat(
        [
            base.with_columns(base=None, gain=None, gain_low=None, gain_high=None),
            arm.with_columns(base=pl.lit("vanilla"), **gains),
        ],
        how="vertical_relaxed",
    )
    assert said(table) == []
    swapped = table.with_columns(mean=pl.col("mean").reverse())
    assert said(swapped) == [
        "baby freedom cliper: recall@20 is said to gain 10.00 % over vanilla, its means give -9.09 %"
    ]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A run's folder: Table 2 of two arms and three seeds, with the metrics that it is made of."""
    rng, parts = np.random.default_rng(1), []
    for arm in ("vanilla", "cliper"):
        for seed in (1, 2, 3):
            labels = {
                "dataset": pl.lit("baby"),
                "backbone": pl.lit("freedom"),
                "arm": pl.lit(arm),
                "seed": pl.lit(seed),
            }
            parts.append(
                random_metrics(rng, most=1)[0].with_columns(**labels, split=pl.lit("test"), n_users=pl.lit(40))
            )
            place = tmp_path.joinpath("evaluate", "baby", "freedom", arm, str(seed), "metrics.parquet")
            files.write_table(place, "metrics", parts[-1].sort("split", "metric", "k"))
    percent = pl.col("value") * 100
    long = (
        pl.concat(parts).group_by(lint.KEY).agg(mean=percent.mean(), sd=percent.std(), n_seeds=pl.len()).sort(lint.KEY)
    )
    files.write_text(tmp_path / "tabulate/table2.csv", long.with_columns(paper=None).write_csv())
    return tmp_path


def table_of(results: Path) -> pl.DataFrame:
    return pl.read_csv(results / "tabulate/table2.csv")


def swap(arm: pl.Expr) -> pl.Expr:
    return pl.when(arm == "cliper").then(pl.lit("vanilla")).otherwise(pl.lit("cliper")).alias("arm")


def set_to(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change one number: NDCG@50 of cliper."""
    where = (pl.col("arm") == "cliper") & (pl.col("metric") == "ndcg") & (pl.col("k") == 50)
    return lambda table: table.with_columns(pl.when(where).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


MUTATIONS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], list[str]]] = {
    "none": (lambda table: table, []),
    "impossible cell": (
        set_to("mean", 1.0),
        ["baby freedom cliper at K = 50: N rises", "1 of 6 numbers are not those"],
    ),
    "swapped arms": (
        lambda table: table.with_columns(swap(pl.col("arm"))),
        ["baby freedom vanilla: has the numbers of cliper", "baby freedom cliper: has the numbers of vanilla"],
    ),
    "missing seed": (
        lambda table: table.with_columns(n_seeds=pl.when(pl.col("arm") == "cliper").then(2).otherwise(3)),
        ["baby freedom", "means of 2 seeds, but its cells are of 1, 2, 3"],
    ),
    "NaN": (set_to("mean", float("nan")), ["baby freedom cliper at K = 50: ndcg is nan", "1 of 6 numbers"]),
    "NaN spread": (set_to("sd", float("nan")), ["baby freedom cliper at K = 50: sd of ndcg over 3 seeds is nan"]),
    "missing row": (lambda table: table[1:], ["baby freedom cliper at K = 10: ndcg is missing"]),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_of_a_table_are_caught_and_named(
    name: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mutate, expected = MUTATIONS[name]
    path = results / "tabulate/table2.csv"
    files.write_text(path, mutate(table_of(results)).write_csv())
    assert main(["lint", str(path)]) == (1 if expected else 0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line


def test_a_seed_whose_cell_is_gone_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(results / "evaluate/baby/freedom/cliper/2")
    assert main(["lint", str(results / "tabulate/table2.csv")]) == 1
    assert capsys.readouterr().out == "baby freedom cliper: means of 3 seeds, but its cells are of 1, 3\n"


def test_exchanged_folders_of_cells_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = results / "evaluate/baby/freedom"
    for old, new in (("vanilla", "kept"), ("cliper", "vanilla"), ("kept", "cliper")):
        (cells / old).rename(cells / new)
    assert main(["lint", str(results / "tabulate/table2.csv")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "evaluate/baby/freedom/cliper/1 holds the metrics of baby/freedom/vanilla/1" in lines[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cannot be read as CSV"),
        ("dataset,users\nBaby,9\n", "it has no column backbone, arm, metric, k, mean"),
        ("dataset,backbone,arm,metric,k,mean\n", "it has no rows"),
        ("dataset,backbone,arm,metric,k,mean\na,b,c,recall,ten,1\n", "a row whose k is no whole number"),
    ],
)
def test_what_is_no_such_table_is_refused(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    assert main(["lint", str(path)]) == 2
    assert expected in capsys.readouterr().err
    assert main(["lint", str(tmp_path)]) == 2
    assert main(["lint", str(tmp_path / "nothing.csv")]) == 2
