from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Config, decides, load
from cliper.errors import ConfigError, DataError
from cliper.models.backbones import BACKBONES
from cliper.report import tabulate
from cliper.report.tables.paper import paper_values

SHOWN = {"metrics": ["recall"], "cutoffs": [10, 20]}


def baby(seeds: list[int]) -> Config:
    return toy.settings(
        name="toy", run={"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "seeds": seeds}, tabulate=SHOWN
    )


def write_metrics(config: Config, values: dict[tuple[str, str], list[float]]) -> None:
    for dataset, backbone, arm, seed in config.cells:
        value = values[backbone, arm][config.run.seeds.index(seed)]
        rows = [
            (dataset, backbone, arm, seed, split, "recall", k, value * (1 if split == "test" else 9), 5)
            for split in ("test", "valid")
            for k in (5, 10, 20)
        ]
        table = pl.DataFrame(rows, schema=list(tabulate_columns()), orient="row")
        path = toy.path(config, "metrics", dataset=dataset, backbone=backbone, arm=arm, seed=seed)
        files.write_table(path, "metrics", table)


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
    assert list(rows[0]) == ["dataset", "backbone", "arm", "metric", "k", "mean", "sd", "n_seeds", "paper"]
    assert [(r["backbone"], r["arm"], r["k"]) for r in rows] == [
        *[("freedom", "vanilla", k) for k in ("10", "20")],
        *[("freedom", "cliper", k) for k in ("10", "20")],
        *[("lightgcn", "content_free", k) for k in ("10", "20")],
    ]
    assert float(rows[0]["mean"]) == pytest.approx(10)
    assert float(rows[0]["sd"]) == pytest.approx(2**0.5)  # of 9 and 11, with n - 1
    assert (rows[0]["n_seeds"], rows[0]["paper"]) == ("2", "6.27")  # Table 2, Baby, R@10, FREEDOM vanilla
    assert rows[3]["paper"] == "10.26"
    assert rows[4]["paper"] == ""


def test_table2_has_the_papers_shape_with_gains_over_vanilla(workdir: Path) -> None:
    config = baby([1])
    write_metrics(config, VALUES)
    toy.run("tabulate", config, table="table2")
    lines = Path("results/toy/tabulate/table2.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| Dataset | Metric | K | FREEDOM vanilla | FREEDOM CLIPER | LightGCN |"
    assert lines[2] == "| Baby | R@K | 10 | 9.00 | 11.00 (↑ 22.22%) | 5.00 |"
    latex = Path("results/toy/tabulate/table2.tex").read_text(encoding="utf-8")
    assert r"Baby & R@K & 10 & 9.00 & 11.00 ($\uparrow$ 22.22\%) & 5.00 \\" in latex


def test_the_text_of_table2_fits_a_terminal(workdir: Path) -> None:
    config = baby([1, 2])
    write_metrics(config, VALUES)
    toy.run("tabulate", config, table="table2")
    assert Path("results/toy/tabulate/table2.txt").read_text(encoding="utf-8").splitlines() == [
        "Dataset  Backbone  Arm      R@20",
        "-------  --------  -------  -----------------------",
        "Baby     FREEDOM   vanilla  10.00 ± 1.41",
        "Baby     FREEDOM   CLIPER   11.00 ± 0.00 (↑ 10.00%)",
        "Baby     LightGCN           5.50 ± 0.71",
        "Percent on the test split; mean ± standard deviation over 2 seeds.",
    ]


def test_the_demos_text_is_narrower_than_a_hundred_columns(workdir: Path) -> None:
    config = load([toy.REPOSITORY / name for name in ("config.yaml", "cliper/data/demo.yaml")])
    rows = [
        (*cell[:3], metric, k, 99.99, 99.99, 2, None)
        for cell in config.cells
        for metric in config.tabulate.metrics
        for k in config.tabulate.cutoffs
    ]
    columns = ["dataset", "backbone", "arm", "metric", "k", "mean", "sd", "n_seeds", "paper"]
    long = pl.DataFrame(rows, schema=columns, orient="row").unique(maintain_order=True)
    text = tabulate.short_grid(long, decides.of_tabulate(config, table="table2")).as_text()
    assert len(text.splitlines()) == 2 + 11 + 1
    assert max(map(len, text.splitlines())) <= 100
    assert {"R@20", "N@20"} <= set(text.split())


def notes(**overlay: Any) -> list[str]:
    """What is said below Table 2 of a config."""
    return list(tabulate.notes(decides.of_tabulate(toy.settings(**overlay), table="table2")))


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
    grid = tabulate.table1_grid(tabulate.table1_long([("Toy", each) for each in counts]))
    assert [row[:4] for row in grid.rows] == [["Toy", "3", "3", "3"], ["Toy", "4", "4", "4"]]
