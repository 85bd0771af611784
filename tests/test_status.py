"""What of a run is done, what runs, what is left: from the files that stages and Snakemake write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy

from cliper.config import Config
from cliper.layout import Layout

HEAVY = {"torch", "numpy", "polars", "pyarrow", "requests"}
CELL = {"dataset": "toy", "backbone": "freedom", "arm": "cliper", "seed": 1}
EPOCHS = (
    "cliper train: epochs: 12 of 1,000, 1.2 s each, 19:46 left; loss 0.5; best validation Recall@20 0.2094 at epoch 9"
)


@pytest.fixture
def settings(workdir: Path) -> Config:
    overlay = toy.dataset(Path("raw")) | {"arms": {"cliper": {"image": "bridge", "text": "bridge"}}}
    overlay["run"] |= {"backbones": ["freedom", "lightgcn"], "arms": ["cliper"], "seeds": [1, 2]}
    return toy.settings(**overlay, encode={"ranges": 3})


def write(path: Path, text: str = "", *, age: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)


def lines(settings: Config, capsys: pytest.CaptureFixture[str]) -> list[str]:
    toy.run("status", settings)
    *shown, meaning = capsys.readouterr().out.splitlines()
    assert meaning.startswith("done: results are there")
    assert len(meaning) <= 100
    return shown


def test_a_run_that_has_not_begun_lists_its_jobs_by_stage(settings: Config, capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(settings, capsys)
    assert shown[0] == "toy: 0 of 46 jobs are done"
    counts = {line.split()[0]: int(line.split()[-1]) for line in shown[1:]}
    assert counts == {
        "download": 2,
        "catalogue": 1,
        "crawl": 1,
        "prompt": 5,
        "weights": 1,
        "encode-text": 5 * 3,
        "encode-image": 3,
        "fuse": 1,
        "neighbours-items": 1,
        "train": 4,
        "evaluate": 4,
        "tabulate": 3,
        "plot": 3,
        "explore": 1,
        "report": 1,
    }


def test_a_job_is_done_when_all_its_results_are_there(settings: Config, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("history", "topk"):
        write(toy.path(settings, name, **CELL))
    assert "train                    0 of     4" in lines(settings, capsys)
    write(toy.path(settings, "run", **CELL))
    write(toy.path(settings, "image_embeddings", dataset="toy", encoder="bridge", range=1, ranges=3))
    shown = lines(settings, capsys)
    assert "train                    1 of     4" in shown
    assert "encode-image             1 of     3" in shown
    assert shown[0].startswith("toy: 2 of")


def test_the_time_left_is_that_of_the_missing_jobs(settings: Config, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(settings)
    for name in ("history", "topk", "run"):
        write(layout.path(name, **CELL))
    write(layout.benchmark("train", layout.place("train", **CELL)), "s\th:m:s\tmax_rss\n60000.5\t16:40:00\t900\n")
    assert "train                    1 of     4   about 50:00:01 left" in lines(settings, capsys)
    write(layout.benchmark("train", layout.place("train", **CELL)))  # a record that is being written
    assert "train                    1 of     4" in lines(settings, capsys)


@pytest.mark.parametrize(
    ("text", "age", "state"),
    [
        (EPOCHS, 5, "runs"),
        (EPOCHS, 1750, "runs"),
        (EPOCHS, 9000, "STOPPED"),
        (f"{EPOCHS}\nTrainingError: the loss of epoch 13 is nan; lower train.learning_rate", 5, "STOPPED"),
        (f"{EPOCHS}\ntrain was stopped", 5, "STOPPED"),
    ],
)
def test_a_job_that_is_not_done_is_shown_with_the_last_line_of_its_log(
    settings: Config, capsys: pytest.CaptureFixture[str], text: str, age: float, state: str
) -> None:
    layout = Layout(settings)
    write(layout.log("train", layout.place("train", **CELL)), f"cliper train: begins\n{text}\n", age=age)
    *_, head, line = lines(settings, capsys)
    assert head.startswith(f"{state}: train toy freedom cliper 1, ")
    assert line.strip() == text.splitlines()[-1].removeprefix("cliper train: ")


def test_the_log_of_a_job_that_is_done_is_not_shown(settings: Config, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(settings)
    write(layout.log("train", layout.place("train", **CELL)), EPOCHS)
    for name in ("history", "topk", "run"):
        write(layout.path(name, **CELL))
    assert not [line for line in lines(settings, capsys) if "epochs" in line]


def test_a_log_cannot_write_to_the_terminal(settings: Config, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(settings)
    write(layout.log("train", layout.place("train", **CELL)), "cliper train: \x1b[2Jgone\n")
    assert lines(settings, capsys)[-1] == r"    \x1b[2Jgone"


def test_it_answers_at_once(workdir: Path) -> None:
    """For the paper's 1,337 jobs, without a library that computes."""
    code = (
        "import sys, time; from cliper.__main__ import main\n"
        f"assert main(['status', '--config', {str(toy.REPOSITORY / 'config.yaml')!r}]) == 0\n"
        f"assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)\n"
        "print(time.process_time())"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    head, *_, seconds = ran.stdout.splitlines()
    assert head == "paper: 0 of 2,032 jobs are done"
    print(f"{seconds} s of CPU")  # about 0.35
    assert float(seconds) < 1.5
