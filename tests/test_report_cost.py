"""The section "What the run cost" of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy
from toy_report import texts

from cliper import files
from cliper.benchmarks import read_benchmarks
from cliper.config import Config, decides
from cliper.layout import At, Layout
from cliper.report.pages import cost, rendering

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
RECORDS = [
    ("train", {"s": 3600.0, "cpu_time": 3000.0, "max_rss": 900.0, "io_in": 1.0, "io_out": 2.0}),
    ("fuse", {"s": 400.0, "cpu_time": 100.0, "max_rss": 2048.0, "io_in": 3.0, "io_out": 0.0}),
    ("train", {}),
    ("train", {"s": 0.3}),
]


def test_a_benchmark_keeps_the_measures_that_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"{HEAD}0.80\t0:00:00\t104.90\t673.89\t47.61\t63.86\t0.07\t0.00\t0.00\t0.48\n")
    assert read_benchmarks(path) == [{"s": 0.8, "cpu_time": 0.48, "max_rss": 104.9, "io_in": 0.07, "io_out": 0.0}]
    path.write_text(f"{HEAD}0.05\t0:00:00\tNA\t-\tNA\tNA\tNA\tNA\tNA\tNA\n")
    assert read_benchmarks(path) == [{"s": 0.05}]


@pytest.mark.parametrize("text", ["", HEAD])
def test_a_benchmark_file_that_is_empty_or_missing_has_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    assert read_benchmarks(tmp_path / "a.tsv") == []
    assert read_benchmarks(tmp_path / "b.tsv") == []


def test_times_add_up_and_memory_is_the_largest() -> None:
    assert cost.sums(RECORDS) == [
        ("4", "jobs"),
        ("1 h 7 min", "wall time of all jobs, one after the other"),
        ("51 min 40 s", "CPU time"),
        ("2.0 GiB", "peak memory of one job"),
    ]
    assert cost.sums([("train", {})]) == [("1", "job")]


def test_stages_stand_in_the_lines_order_and_count_all_their_jobs() -> None:
    assert texts(cost.stages_table([*RECORDS, ("plot", {})]).rows) == [
        ["fuse", "1", "6 min 40 s", "10.0%", "1 min 40 s", "2.0 GiB", "3 MiB", "0 MiB"],
        ["train", "3", "1 h 0 min", "90.0%", "50 min 0 s", "900 MiB", "1 MiB", "2 MiB"],
        ["plot", "1", "–", "–", "–", "–", "–", "–"],
    ]


def config() -> Config:
    run = {"datasets": ["baby"], "backbones": ["freedom", "lightgcn"], "arms": ["vanilla"], "seeds": [1, 2]}
    return toy.settings(name="toy", run=run)


def trained(cell: Any, seconds: float, **more: Any) -> dict[str, Any]:
    outcome = {"seconds": seconds, "epochs": 10, "peak_memory_mib": 800, "n_parameters": 1000, "device": "cpu x86_64"}
    return {**cell._asdict(), "config": {"d": 64}, **outcome, **more}


def test_training_is_the_mean_of_runs_and_the_largest_memory() -> None:
    cells = config().run_cells
    runs = [trained(cells[0], 10), trained(cells[1], 20, epochs=20, peak_memory_mib=2048), trained(cells[2], 6000)]
    assert texts(cost.training_table(runs, decides.of_report(config())).rows) == [
        ["Baby", "FREEDOM", "vanilla", "64", "1,000", "2", "15", "1 s", "15 s", "2.0 GiB"],
        ["Baby", "LightGCN", "no features", "64", "1,000", "1", "10", "10 min 0 s", "1 h 40 min", "800 MiB"],
    ]


@pytest.mark.usefixtures("workdir")
def test_jobs_without_record_are_counted_and_energy_is_not_guessed() -> None:
    settings = config()
    for cell in settings.run_cells:
        files.write_json(toy.path(settings, "run", **cell._asdict()), trained(cell, 1.0))
    layout = Layout(settings)
    first, own = next(layout.parts()), [part for part in layout.parts() if part.stage == "report"]
    for part in (first, *own):  # an old record of the page itself, which is made just now, does not count
        layout.benchmark_of(part).parent.mkdir(parents=True)
        layout.benchmark_of(part).write_text(f"{HEAD}90.0\t0:01:30\t10\t0\t0\t0\t0\t0\t0\t80\n")
    found = cost.section(decides.of_report(settings), At(layout, {}))
    n_jobs = len(list(layout.parts())) - 1
    assert found.values["totals"][:2] == [
        (f"{n_jobs}", "jobs"),
        ("1 min 30 s", "wall time of all jobs, one after the other"),
    ]
    assert found.values["n_without"] == n_jobs - 1
    html = rendering.render([found], title="t", headline="h")
    assert f"{n_jobs - 1} of the jobs have no record" in " ".join(html.split())
    assert "Energy was not measured" in html
