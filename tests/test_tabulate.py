from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Config, decides, load
from cliper.config.studies import Comparison
from cliper.errors import ConfigError, DataError
from cliper.models.backbones import BACKBONES
from cliper.report.tables import table1, table2
from cliper.report.tables.numbers import places, with_verdicts
from cliper.report.tables.paper import paper_values
from cliper.report.tables.printed import ESTABLISHED

SHOWN = {"metrics": ["recall"], "cutoffs": [10, 20]}


def baby(seeds: list[int]) -> Config:
    return toy.settings(
        name="toy", run={"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "seeds": seeds}, tabulate=SHOWN
    )


def write_metrics(config: Config, values: dict[tuple[str, str], list[float]]) -> None:
    for dataset, backbone, arm, seed in config.run_cells:
        value = values[backbone, arm][config.run.seeds.index(seed)]
        rows = [
            (dataset, backbone, arm, seed, split, "recall", k, value * (1 if split == "test" else 9), 5)
            for split in ("test", "valid")
            for k in (5, 10, 20)
        ]
        table = pl.DataFrame(rows, schema=list(tabulate_columns()), orient="row")
        path = toy.path(config, "metrics", dataset=dataset, backbone=backbone, arm=arm, seed=seed)
        files.write_table(path, "metrics", table)
    for pair in config.comparisons_of("table2"):
        mean, base = (
            float(np.mean(values[pair.backbone, arm][: len(config.run.seeds)])) for arm in (pair.arm, pair.base)
        )
        write_comparison(config, pair, mean, base)
    test = pl.DataFrame({"user": [0, 0, 1], "item": [0, 1, 0], "timestamp": [None] * 3})
    files.write_table(toy.path(config, "test", dataset="baby"), "test", test)


def write_comparison(config: Config, pair: Comparison, mean: float, base: float, **changed: float) -> None:
    """What compare would write, if the difference were established at both cutoffs."""
    own = {"n_users": 5, "n_runs": 2, "mean": mean, "base_mean": base, "sd": 0.01, "base_sd": 0.01}
    own |= {"difference": mean - base, "low": 0.008, "high": 0.012, "d_z": 0.2, "d_z_low": 0.1, "d_z_high": 0.3}
    own |= {"gain": mean / base - 1, "gain_low": 0.08, "gain_high": 0.12, "user_sd": 0.05}
    own |= {"p": 0.01, "p_randomised": 0.01, "band": 0.005, "p_better": 0.75, **changed}
    rows = [{"metric": "recall", "k": k, **own} for k in (10, 20)]
    files.write_table(toy.path(config, "comparison", **pair._asdict()), "comparison", pl.DataFrame(rows))


def tabulate_columns() -> list[str]:
    return ["dataset", "backbone", "arm", "seed", "split", "metric", "k", "value", "n_users"]


VALUES = {
    ("freedom", "vanilla"): [0.09, 0.11],
    ("freedom", "cliper"): [0.11, 0.11],
    ("lightgcn", "content_free"): [0.05, 0.06],
}


def read_csv(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def test_table2_is_long_in_percent_with_spread_and_the_papers_numbers(workdir: Path) -> None:
    config = baby([1, 2])
    write_metrics(config, VALUES)
    toy.run("tabulate", config, table="table2")
    rows = read_csv("results/toy/tabulate/table2.csv")
    kept = ["dataset", "backbone", "arm", "metric", "k", "mean", "sd", "n_seeds", "paper"]
    compared = [
        "base",
        "gain",
        "gain_low",
        "gain_high",
        "low",
        "high",
        "p",
        "p_holm",
        "p_bh",
        "user_sd",
        "d_z",
        "band",
        "p_better",
    ]
    assert list(rows[0]) == [
        *kept,
        *compared,
        "established",
        "verdict",
        "published",
        "published_source",
        "max_relevant",
        "above_k",
    ]
    assert [(r["backbone"], r["arm"], r["k"]) for r in rows] == [
        *[("freedom", "vanilla", k) for k in ("10", "20")],
        *[("freedom", "cliper", k) for k in ("10", "20")],
        *[("lightgcn", "content_free", k) for k in ("10", "20")],
    ]
    assert float(rows[0]["mean"]) == pytest.approx(10)
    assert float(rows[0]["sd"]) == pytest.approx(2**0.5)  # of 9 and 11, with n - 1
    assert (rows[0]["n_seeds"], rows[0]["paper"]) == ("2", "6.27")  # Table 2, Baby, R@10, FREEDOM vanilla
    assert rows[3]["paper"] == "10.26"
    assert rows[4]["paper"] == rows[4]["gain"] == rows[4]["established"] == ""
    assert [row["published"] for row in rows] == ["6.27", "9.9", "", "", "4.79", "7.54"]
    assert [row["published_source"].rpartition("/")[2] for row in rows[:2]] == ["README.md", "MMRec-Ours"]
    of_cliper = {name: rows[3][name] for name in ("base", "p", "p_holm", "p_bh", "established", "max_relevant")}
    assert of_cliper == {  # two tests in the table
        "base": "vanilla",
        "p": "0.01",
        "p_holm": "0.02",
        "p_bh": "0.01",
        "established": "true",
        "max_relevant": "2",
    }
    assert float(rows[3]["gain"]) == pytest.approx(10)
    assert (float(rows[3]["low"]), float(rows[3]["band"])) == pytest.approx((0.8, 0.5))  # percentage points
    assert [row["verdict"] for row in rows] == ["reproduced"] * 2 + ["not reproduced"] * 2 + [""] * 2


def test_table2_has_the_papers_shape_with_gains_over_vanilla(workdir: Path) -> None:
    config = baby([1])
    write_metrics(config, VALUES)
    toy.run("tabulate", config, table="table2")
    lines = Path("results/toy/tabulate/table2.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| Dataset | Metric | K | FREEDOM vanilla | FREEDOM CLIPER | LightGCN |"
    assert lines[2] == "| Baby | R@K | 10 | 9.00 | **11.00** (↑ 22.22%)† | 5.00 |"
    assert (
        "| Baby | FREEDOM | CLIPER | R@10 | 11.00† | 6.58 |  | ↑ 22.22% | 8.00% to 12.00% | 0.02 | not reproduced |"
        in lines
    )
    assert "| Baby | FREEDOM | vanilla | R@20 | 9.00 | 9.92 | 9.92, 9.90 |  |  |  | not reproduced |" in lines
    assert lines[5].startswith("† established: Holm-corrected p < 0.05".replace("<", r"\<"))
    latex = Path("results/toy/tabulate/table2.tex").read_text(encoding="utf-8").splitlines()
    assert latex[2:9] == [
        r"\toprule",
        r" &  &  & \multicolumn{2}{c}{FREEDOM} & \multicolumn{1}{c}{LightGCN} \\",
        r"\cmidrule(lr){4-5}\cmidrule(lr){6-6}",
        r"Dataset & Metric & K & vanilla & CLIPER &  \\",
        r"\midrule",
        r"Baby & R@K & 10 & 9.00 & \textbf{11.00} ($\uparrow$ 22.22\%)$^{\dagger}$ & 5.00 \\",
        r" &  & 20 & 9.00 & \textbf{11.00} ($\uparrow$ 22.22\%)$^{\dagger}$ & 5.00 \\",
    ]


def test_the_text_of_table2_fits_a_terminal(workdir: Path) -> None:
    config = baby([1, 2])
    write_metrics(config, VALUES)
    toy.run("tabulate", config, table="table2")
    assert Path("results/toy/tabulate/table2.txt").read_text(encoding="utf-8").splitlines() == [
        "Dataset  Backbone  Arm      R@20",
        "-------  --------  -------  ------------------------",
        "Baby     FREEDOM   vanilla  10.00 ± 1.41",
        "Baby     FREEDOM   CLIPER   11.00 ± 0.00 (↑ 10.00%)†",
        "Baby     LightGCN           5.50 ± 0.71",
        ESTABLISHED,
        "Percent on the test split; mean ± standard deviation over 2 seeds.",
    ]


def test_the_demos_text_is_narrower_than_a_hundred_columns(workdir: Path) -> None:
    config = load([toy.REPOSITORY / name for name in ("config.yaml", "cliper/data/demo.yaml")])
    job = decides.of_tabulate(config, table="table2")
    rows = [
        (*cell[:3], metric, k, 99.99, 99.99, 99.99, True)
        for cell in config.run_cells
        for metric in config.tabulate.metrics
        for k in config.tabulate.cutoffs
    ]
    columns = ["dataset", "backbone", "arm", "metric", "k", "mean", "sd", "gain", "established"]
    long = pl.DataFrame(rows, schema=columns, orient="row").unique(maintain_order=True)
    text = table2.short_grid(long, job).as_text()
    assert len(text.splitlines()) == 2 + 11 + 2
    assert max(map(len, text.splitlines()[:-2])) <= 100
    assert {"R@20", "N@20"} <= set(text.split())


def notes(**overlay: Any) -> list[str]:
    """What is said below Table 2 of a config."""
    return list(table2.notes(decides.of_tabulate(toy.settings(**overlay), table="table2")))


def test_table2_says_what_stands_in_for_clip(workdir: Path) -> None:
    stand_in = "bridge is a small training-free stand-in"
    assert sum(stand_in in note for note in notes(arms={"cliper": {"image": "bridge", "text": "bridge"}})) == 1
    assert not any("bridge" in note for note in notes())


def test_a_spread_is_named_for_several_seeds_alone() -> None:
    one, two = (notes(run={"seeds": seeds})[0] for seeds in ([1], [1, 2]))
    assert one == "Percent on the test split; one seed."
    assert two == "Percent on the test split; mean ± standard deviation over 2 seeds."


def test_table2_says_when_validation_items_were_masked() -> None:
    masked = "Validation items are left out of the test ranking."
    assert masked not in notes()
    assert masked in notes(evaluate={"mask_valid": True})


def test_table2_says_where_features_were_given(workdir: Path) -> None:
    files = {"image": "i.npy", "text": "t.npy"}
    source = {"kind": "mmrec", "inter": "g.inter", "mirrors": ["."], "features": {"own": files, "vanilla": files}}
    overlay = {"datasets": {"g": {"title": "Mine", "source": source}}, "arms": {"own": {"d": 8}}}
    alone = notes(**overlay, run={"datasets": ["g"], "arms": ["own", "vanilla"]})
    assert alone[1:] == [
        "own on Mine: features as given with the data, d 8.",
        "vanilla on Mine: features as given with the data, d 64.",
    ]
    overlay["datasets"]["baby"] = {"source": {"features": None}}
    mixed = notes(**overlay, run={"datasets": ["g", "baby"], "arms": ["vanilla"]})
    assert mixed[1:3] == [
        "vanilla on Mine: features as given with the data, d 64.",
        "vanilla: image lite0, text minilm, prompts joined_fields (joined), concat, raw vectors, "
        "missing field sentence, missing image mean, d 64.",
    ]
    assert mixed[3].startswith("EfficientNet-Lite0 stands in")


def test_a_missing_cell_is_an_error_not_a_gap(workdir: Path) -> None:
    config = baby([1])
    write_metrics(config, VALUES)
    toy.path(config, "metrics", dataset="baby", backbone="freedom", arm="cliper", seed=1).unlink()
    with pytest.raises(DataError, match=r"freedom/cliper/1/metrics\.parquet is missing"):
        toy.run("tabulate", config, table="table2")


def test_table1_counts_the_kept_interactions_next_to_the_papers(workdir: Path) -> None:
    config = baby([1])
    steps = [("raw", 9, 9, 9), ("5-core, round 1", 160_792, 19_445, 7_051), ("train", 3, 3, 3), ("valid", 1, 1, 1)]
    rows = [(order, *step) for order, step in enumerate(steps)]
    counts = pl.DataFrame(rows, schema=["order", "step", "interactions", "users", "items"], orient="row").with_columns(
        density=0.1, cold_users=None, cold_items=None
    )
    files.write_table(toy.path(config, "counts", dataset="baby"), "counts", counts)
    toy.run("tabulate", config, table="table1")
    long = {row["quantity"]: row for row in read_csv("results/toy/tabulate/table1.csv")}
    assert (long["items"]["value"], long["items"]["paper"]) == ("7051.0", "7050.0")
    markdown = Path("results/toy/tabulate/table1.md").read_text(encoding="utf-8")
    assert "| Baby | 19,445 | 7,051 (paper 7,050) | 160,792 | 0.117% |" in markdown


def test_an_unknown_table_is_answered_with_the_known_ones(workdir: Path) -> None:
    with pytest.raises(ConfigError, match="unknown table 'table9'; known: table1, table2"):
        toy.run("tabulate", baby([1]), table="table9")


def test_every_backbone_has_a_title_of_its_own_and_the_papers_are_among_them() -> None:
    titles = [row.settings.title for row in BACKBONES.rows.values()]
    assert len(set(titles)) == len(titles) > 0
    printed = set(paper_values()["backbone"])
    assert len(printed) == 5
    assert printed <= set(titles)


def test_the_papers_table_is_complete() -> None:
    # 3 datasets x 5 backbones x 2 arms x 2 metrics x 3 cut-offs
    assert paper_values().height == 180


def test_table1_has_a_row_for_each_of_two_datasets_of_one_title() -> None:
    counts = [pl.DataFrame({"step": ["raw"], "users": [n], "items": [n], "interactions": [n]}) for n in (3, 4)]
    grid = table1.grid(table1.long([("Toy", each) for each in counts]))
    assert [row[:4] for row in grid.rows] == [["Toy", "3", "3", "3"], ["Toy", "4", "4", "4"]]


def test_seeds_of_another_cell_a_nan_and_a_missing_seed_are_refused(workdir: Path) -> None:
    config = baby([1, 2])
    write_metrics(config, VALUES)
    names = {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "seed": 2}
    path, other = (toy.path(config, "metrics", **{**names, "arm": arm}) for arm in ("cliper", "vanilla"))
    own = files.read_table(path, "metrics")
    for changed, refusal in [
        (
            own.with_columns(value=pl.when(pl.col("k") == 20).then(np.nan).otherwise("value")),
            r"recall@20 of baby freedom cliper 2 is nan, so no table is made",
        ),
        (own.filter(pl.col("split") == "valid"), r"recall@10 of baby freedom cliper: 1 of 2 seeds"),
        (
            files.read_table(other, "metrics"),
            r"has the metrics of baby freedom vanilla 2, not of baby freedom cliper 2",
        ),
    ]:
        files.write_table(path, "metrics", changed)
        with pytest.raises(DataError, match=refusal):
            toy.run("tabulate", config, table="table2")
    assert not Path("results/toy/tabulate").exists()


def test_a_difference_without_a_band_or_within_it_is_not_established(workdir: Path) -> None:
    config = baby([1, 2])
    write_metrics(config, VALUES)
    (pair,) = config.comparisons_of("table2")
    for changed in ({"band": None}, {"band": 0.009}, {"p": 0.03}):  # of two tests
        write_comparison(config, pair, 0.11, 0.10, **changed)
        toy.run("tabulate", config, table="table2")
        assert read_csv("results/toy/tabulate/table2.csv")[3]["established"] == "false"
        assert "†" not in Path("results/toy/tabulate/table2.md").read_text(encoding="utf-8")


def test_the_best_is_bold_where_several_arms_are_compared_and_equal_print_is_equal() -> None:
    means = {"a": [1.0, 2.001, 2.0, 1.5], "b": [3.0]}
    rows = [(group, mean) for group, values in means.items() for mean in values]
    assert places(pl.DataFrame(rows, schema=["group", "mean"], orient="row"), ["group"]) == [0, 1, 1, 2, 0]


def test_the_papers_impossible_cell_is_no_yardstick(workdir: Path) -> None:
    shown = {"metrics": ["recall", "ndcg"], "cutoffs": [20, 50]}
    config = toy.settings(
        name="toy", run={"datasets": ["clothing"], "backbones": ["freedom"], "seeds": [1]}, tabulate=shown
    )
    job = decides.of_tabulate(config, table="table2")
    assert isinstance(job, decides.Table2)
    assert table2.impossible_cells(job) == {("clothing", "freedom", "vanilla", 50)}
    rows = pl.DataFrame(
        [(*("clothing", "freedom", arm), "recall", 50, 12.0, None, 1, 12.0) for arm in ("vanilla", "cliper")],
        schema=["dataset", "backbone", "arm", "metric", "k", "mean", "sd", "n_seeds", "paper"],
        orient="row",
    )
    verdicts = with_verdicts(rows, table2.impossible_cells(job))["verdict"]
    assert verdicts.to_list() == ["impossible", "within noise"]


def test_a_table_that_cannot_be_is_not_written(workdir: Path) -> None:
    config = baby([1])
    write_metrics(config, VALUES)
    cell = {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "seed": 1}
    path = toy.path(config, "metrics", **cell)
    fallen = pl.when(pl.col("k") == 20).then(0.05).otherwise("value")
    files.write_table(path, "metrics", files.read_table(path, "metrics").with_columns(value=fallen))
    with pytest.raises(DataError, match=r"baby freedom cliper at K = 20: R falls by 6 from K = 10"):
        toy.run("tabulate", config, table="table2")
    assert not Path("results/toy/tabulate").exists()
