"""What a result was made of, and which edit made it stale."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import toy
from history import digest, do, find, jobs_of, make, record_of, settings, write

from cliper import files
from cliper.config import Config
from cliper.errors import DataError
from cliper.layout import Layout
from cliper.tools import why as tool

EDIT = "prompts.as_described.title.prompt: 'The product title is ___.' → 'Title: ___.'"
CELL = {"dataset": "toy", "backbone": "freedom", "arm": "cliper", "seed": 1}


@pytest.fixture
def config(workdir: Path) -> Config:
    config = settings()
    make(config)
    return config


@pytest.fixture
def edited(config: Config) -> Config:
    return settings(prompts={"as_described": {"title": {"prompt": "Title: ___."}}})


def why(capsys: pytest.CaptureFixture[str], config: Config, result: str | Path, *, whole: bool = False) -> list[str]:
    tool.run(Layout(config), result=str(result), settings=whole)
    return capsys.readouterr().out.splitlines()


def line_of(lines: list[str], words: str) -> str:
    return next(line.strip() for line in lines if line.strip().startswith(words))


def test_a_result_up_to_date_is_a_tree_down_to_the_raw_files(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict, empty, *tree = why(capsys, config, "table2")
    assert (verdict, empty) == ("results/toy/tabulate/table2.csv: up to date", "")
    depths = {line.split()[0]: len(line) - len(line.lstrip()) for line in reversed(tree)}
    order = ["tabulate", "evaluate", "train", "fuse", "encode-text", "prompt"]
    assert [depths[stage] for stage in order] == [0, 2, 4, 6, 8, 10]
    assert line_of(tree, "raw/ratings_Toy.csv") == "raw/ratings_Toy.csv: a file of yours"
    assert line_of(tree, "train toy freedom").startswith("train toy freedom cliper, seed 1, 2 (done 1970-01-01 ")
    assert sum(line.strip().startswith("catalogue toy (done") for line in tree) == 1
    assert "catalogue toy: see above" in map(str.strip, tree)


def test_a_stale_result_names_the_edit(edited: Config, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(capsys, edited, Path("results/toy/tabulate/table2.csv").absolute())
    assert lines[:3] == ["results/toy/tabulate/table2.csv: STALE: inputs are made again", "because of:", f"  {EDIT}"]
    assert line_of(lines, "prompt toy as_described title").endswith(f"STALE: {EDIT}")
    assert line_of(lines, "prompt toy as_described brand").endswith(": up to date")
    assert why(capsys, edited, "table1")[0] == "results/toy/tabulate/table1.csv: up to date"


def test_results_of_before_the_edit_are_still_known(
    config: Config, edited: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    old = toy.path(config, "prompts", dataset="toy", prompts="as_described", view="title")
    assert why(capsys, edited, old)[0] == f"{old}: STALE: {EDIT}"


def test_a_view_left_out_is_of_the_past(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(
        capsys, settings(arms={"cliper": {"image": "bridge", "text": "bridge", "views": ["title", "brand"]}}), "table2"
    )
    assert (
        "arms.cliper.views: ['title', 'brand', 'categories', 'description', 'global'] → ['title', 'brand']" in lines[2]
    )
    assert any(line.endswith("of a config of the past") for line in lines)


def test_settings_are_those_that_differ_from_the_shipped_ones_or_all(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    few, whole = (why(capsys, config, "table2", whole=each) for each in (False, True))
    assert "datasets.toy.source.category: 'Toy'" in "\n".join(few)
    assert not any("train.learning_rate" in line for line in few)
    assert any(line.strip() == f"train.learning_rate: {config.train.learning_rate}" for line in whole)


def test_what_an_edit_changed_is_shown_as_it_was(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    shown = settings(backbones={"freedom": {"k": 7}})
    lines = why(capsys, shown, toy.path(shown, "metrics", **CELL))
    assert lines[1:3] == ["because of:", "  backbones.freedom.k: 10 → 7"]
    do(find(jobs_of(shown), "train toy freedom cliper 1"), second=99)
    lines = why(capsys, config, toy.path(config, "topk", **CELL))
    assert "backbones.freedom.k: 7" in lines[lines.index("") + 2]


def test_without_a_record_the_cells_own_run_json_is_compared(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    node = find(jobs_of(config), "train toy freedom cliper 1")
    run = toy.path(config, "run", **CELL)
    said = {"config": {**node.settings, "d": 7}, "code": node.code}
    write(run, json.dumps(said), second=50)
    for path in node.writes:
        record_of(path).unlink()
    lines = why(capsys, config, run)
    assert lines[0].startswith(f"{run}: DIFFERS: arms.cliper.d: 7 → ")
    assert f"no record: it was made by hand or elsewhere; run.json says code {node.code}" in map(str.strip, lines)


def test_without_a_record_a_table_says_what_it_knows(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = toy.path(config, "metrics", **CELL)
    rows = [{**CELL, "split": "test", "metric": "recall", "k": 10, "value": 0.5, "n_users": 3}]
    metrics.unlink()
    files.write_table(metrics, "metrics", pl.DataFrame(rows), metadata={"tool": "another one"})
    record_of(metrics.as_posix()).unlink()
    assert "the file says: tool another one" in map(str.strip, why(capsys, config, metrics))


def test_a_missing_result_says_so(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    toy.path(config, "page").unlink()
    assert why(capsys, config, "results/toy/report/index.html")[0].endswith("index.html: MISSING: results are missing")


def test_what_is_no_result_is_refused_with_the_names(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        DataError, match=r"^README.md is no result .*name a file below results/, or one of table1, table2"
    ):
        tool.run(Layout(config), result="README.md", settings=False)


def test_nothing_is_written(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: digest(str(path)) for path in Path().rglob("*") if path.is_file()}
    why(capsys, config, "table2")
    assert {path: digest(str(path)) for path in Path().rglob("*") if path.is_file()} == before


def test_the_report_is_known_by_its_name(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    page = toy.path(config, "page")
    assert why(capsys, config, "report")[0].startswith(f"{page}: ")
