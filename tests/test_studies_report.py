"""Tables and figures of studies: what they compare, print and draw."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Config, decides
from cliper.report.tables import study
from cliper.report.tables.reading import NO_COMPARISON

SHOWN = {"metrics": ["recall", "ndcg"], "cutoffs": [10, 20]}


def config(studies: dict[str, Any], **run: Any) -> Config:
    own = {"datasets": ["baby", "clothing"], "backbones": ["freedom"], "seeds": [1, 2], **run}
    return toy.settings(name="toy", run=own, studies=studies, tabulate=SHOWN)


def of(vary: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"title": "A question", "arm": "cliper", "datasets": ["baby"], "backbones": ["freedom"], "vary": vary}
    return {"x": {**base, **more}}


def job_of(settings: Config) -> decides.Study:
    job = decides.of_tabulate(settings, table="x")
    assert isinstance(job, decides.Study)
    return job


def metrics(job: decides.Study, recall: dict[str, float]) -> pl.DataFrame:
    """Metrics of the variations by arm; seeds differ by 0.002. An arm that is not named was not run."""
    rows = {
        (each.dataset, each.backbone, each.arm, seed, "test", metric, k, recall[each.arm] + 0.001 * seed, 5)
        for each in job.variations
        if each.arm in recall
        for seed in job.seeds
        for metric in ("recall", "ndcg")
        for k in (10, 20)
    }
    columns = ["dataset", "backbone", "arm", "seed", "split", "metric", "k", "value", "n_users"]
    return pl.DataFrame(sorted(rows), schema=columns, orient="row").cast({"k": pl.Int32, "n_users": pl.Int32})


def comparisons(job: decides.Study, p: list[float]) -> pl.DataFrame:
    """One comparison for each pair, with this p at every metric and k."""
    effect = {"difference": -0.01, "low": -0.02, "high": -0.01, "gain": -0.1, "gain_low": -0.2, "gain_high": -0.1}
    rest = {"d_z": -0.1, "band": 0.005, "p_better": 0.0}
    rows = [
        {**dict(zip(pair._fields, pair, strict=True)), "metric": metric, "k": k, **effect, **rest, "p": value}
        for pair, value in zip(job.comparisons, p, strict=True)
        for metric in ("recall", "ndcg")
        for k in (10, 20)
    ]
    return pl.concat([NO_COMPARISON, pl.DataFrame(rows).cast({"k": pl.Int32})], how="diagonal")


VIEWS = of({"without": ["title", "brand"], "only": ["global"]})
ARMS = ["cliper", "cliper.without-title", "cliper.without-brand", "cliper.only-global"]


def test_a_study_has_a_row_for_each_variation_against_its_base() -> None:
    job = job_of(config(VIEWS))
    recall = dict(zip(ARMS, (0.10, 0.09, 0.08, 0.07), strict=True))
    long = study.long(metrics(job, recall), comparisons(job, [0.0001, 0.001, 0.9]), job)
    rows = long.filter(metric="recall", k=20)
    assert rows["variation"].to_list() == ["cliper (base)", "without title", "without brand", "only global"]
    assert rows["mean"].to_list() == pytest.approx([10.15, 9.15, 8.15, 7.15])  # of seeds 1 and 2
    assert rows["base"].to_list() == [None, "cliper", "cliper", "cliper"]
    assert rows["p_holm"].to_list() == pytest.approx([None, 0.0012, 0.008, 1.0])  # twelve tests in the table
    assert rows["established"].to_list() == [None, True, True, False]
    assert rows["paper"].to_list() == [10.26, None, None, None]  # Table 2, Baby, FREEDOM CLIPER
    grid = study.grid(long, job, cutoffs=(20,))
    assert [str(cell) for cell in grid.rows[2]] == [
        *("Baby · FREEDOM", "without title", "9.15 ± 0.07 (↓ 10.00%)†", "9.15 ± 0.07 (↓ 10.00%)†", "0.0012")
    ]
    assert grid.rows[1] == ["Baby · FREEDOM", "cliper (base), paper", "10.26", "4.48", ""]
    assert [cell.place for row in grid.rows for cell in row[2:3] if not isinstance(cell, str)] == [1, 2, 0, 0]
    assert any(sign.startswith("†") for sign in grid.signs)


def test_an_arm_without_results_is_a_row_that_says_so() -> None:
    job = job_of(config(VIEWS))
    long = study.long(metrics(job, {"cliper": 0.1}), NO_COMPARISON, job)
    assert long["n_seeds"].to_list() == [2] * 4 + [0] * 12
    assert {str(row[2]) for row in study.grid(long, job, cutoffs=(20,)).rows[2:]} == {"not run"}


def test_table3_has_the_papers_values_and_the_base_among_them() -> None:
    temperatures = [0.05, 0.1, 0.2]
    job = job_of(config(of({"temperature": temperatures}, datasets=["clothing"])))
    recall = {"cliper.temperature-0.05": 0.1, "cliper": 0.11, "cliper.temperature-0.2": 0.1}
    long = study.long(metrics(job, recall), NO_COMPARISON, job).filter(metric="recall", k=20)
    assert long["variation"].to_list() == ["τ = 0.05", "τ = 0.1 (base)", "τ = 0.2"]
    assert long["value"].to_list() == temperatures
    assert long["paper"].to_list() == [10.28, 10.37, 10.19]


def test_a_variation_stands_in_the_group_of_its_own_base() -> None:
    two = of({"backbone": ["lightgcn"]}, datasets=["baby", "clothing"])
    job = job_of(config(two, backbones=["freedom", "lightgcn"]))
    long = study.long(metrics(job, {"cliper": 0.1, "content_free": 0.05}), NO_COMPARISON, job)
    rows = long.filter(metric="recall", k=20).select("group", "variation", "dataset", "backbone", "base_backbone")
    assert rows.rows() == [
        ("Baby · FREEDOM", "cliper (base)", "baby", "freedom", None),
        ("Baby · FREEDOM", "LightGCN", "baby", "lightgcn", "freedom"),
        ("Clothing · FREEDOM", "cliper (base)", "clothing", "freedom", None),
        ("Clothing · FREEDOM", "LightGCN", "clothing", "lightgcn", "freedom"),
    ]


def test_two_datasets_of_one_title_are_two_groups() -> None:
    datasets = {"clothing": {"title": "Baby"}}
    settings = toy.settings(
        name="toy",
        run={"datasets": ["baby", "clothing"], "backbones": ["freedom"], "seeds": [1]},
        studies=of({"d": [64]}, datasets=["baby", "clothing"]),
        datasets=datasets,
        tabulate=SHOWN,
    )
    job = job_of(settings)
    groups = study.long(metrics(job, {"cliper": 0.1}), NO_COMPARISON, job)["group"]
    assert groups.unique(maintain_order=True).to_list() == ["Baby · FREEDOM (baby)", "Baby · FREEDOM (clothing)"]


def write_results(settings: Config, recall: dict[str, float], p: list[float]) -> None:
    job = job_of(settings)
    table = metrics(job, recall)
    for cell, rows in table.group_by("dataset", "backbone", "arm", "seed"):
        names = dict(zip(("dataset", "backbone", "arm", "seed"), cell, strict=True))
        own = rows.sort("dataset", "backbone", "arm", "seed", "split", "metric", "k")
        files.write_table(toy.path(settings, "metrics", **names), "metrics", own)
    found = comparisons(job, p).with_columns(pl.col(pl.Float64).fill_null(0.5), pl.col(pl.Int32).fill_null(5))
    for pair in job.comparisons:
        own = found.filter(arm=pair.arm).drop(pair._fields).sort("metric", "k")
        files.write_table(toy.path(settings, "comparison", **pair._asdict()), "comparison", own)


def test_the_figure_draws_what_the_table_says(workdir: Path) -> None:
    settings = config(VIEWS)
    write_results(settings, dict(zip(ARMS, (0.10, 0.09, 0.08, 0.07), strict=True)), [0.0001, 0.001, 0.9])
    toy.run("tabulate", settings, table="x")
    toy.run("plot", settings, figure="x")
    read = [
        list(csv.DictReader(Path(f"results/toy/{stage}/x.csv").read_text(encoding="utf-8").splitlines()))
        for stage in ("tabulate", "plot")
    ]
    table, drawn = read
    assert [row for row in table if row["k"] == "20"] != []
    assert drawn == [{name: row[name] for name in drawn[0]} for row in table if row["k"] == "20"]
    assert {path.name for path in Path("results/toy/plot").iterdir()} == {"x.svg", "x.pdf", "x.png", "x.csv"}


def test_a_study_in_latex_has_balanced_braces_and_equal_columns(workdir: Path) -> None:
    settings = config(VIEWS)
    write_results(settings, dict(zip(ARMS, (0.10, 0.09, 0.08, 0.07), strict=True)), [0.0001, 0.001, 0.9])
    toy.run("tabulate", settings, table="x")
    lines = Path("results/toy/tabulate/x.tex").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 6  # heading, four variations, the paper's
    columns = next(re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", line) for line in lines if "tabular" in line)
    assert columns is not None
    assert columns[1] == "llrrrrr"
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {6}
    bare = [re.sub(r"\\[{}]", "", line) for line in lines]
    assert all(line.count("{") == line.count("}") for line in bare)
