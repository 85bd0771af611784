"""The runs behind a number: a card for each dataset, backbone and arm, with its seeds, settings, curves and inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cliper import files
from cliper.config import CONTENT_FREE, Cell, decides
from cliper.errors import DataError
from cliper.layout import At
from cliper.report.pages.inputs import read_run
from cliper.report.pages.rendering import Table, Value
from cliper.report.pages.values import compared, count, decimal, number, of_the_paper
from cliper.report.pages.words import lead, mean_text, metric_name, name_of_arm
from cliper.report.tables.numbers import CELL

SAID = ("config", "code", "best_epoch", "epochs", "n_parameters", "device", "seconds", "peak_memory_mib", "versions")
SPLITS = ("train", "valid", "test")
K = 20  # training stops by validation Recall@20, so every run has it
DIGITS = 5  # of a curve's values: more than a screen shows


def id_of(dataset: str, backbone: str, arm: str) -> str:
    """The id of a card on the page."""
    return f"cell-{dataset}-{backbone}-{arm}"


def cards(job: decides.Page, table: decides.Table2, long: pl.DataFrame, at: At) -> list[dict[str, Any]]:
    """A card for each cell of a table, in its order. Raises DataError if a file of a run is missing or broken.

    long  the table in long form
    """
    seeds = dict[tuple[str, str, str], list[Cell]]()
    for name in table.cells:
        cell = Cell(*name)
        seeds.setdefault(cell[:3], []).append(cell)
    inputs = dict[tuple[str, str], tuple[int, str]]()  # result, its folder's names -> rows, sha256
    found = []
    for key, part in long.group_by(CELL, maintain_order=True):
        dataset, backbone, arm = map(str, key)
        runs = [_run(cell, at) for cell in seeds[dataset, backbone, arm]]
        _require_one_config(runs)
        where = [table.titles[dataset]] * (len(table.titles) > 1)
        title = " · ".join((*where, table.backbones[backbone], name_of_arm(job, arm), *_width(table, arm)))
        rows = part.rows(named=True)
        config, search = runs[0]["config"], runs[0]["search"]
        found.append(
            {
                "id": id_of(dataset, backbone, arm),
                "title": title,
                "number": _main(rows, table),
                "place": at("run", **seeds[dataset, backbone, arm][0]._asdict()).parent.parent.as_posix(),
                "runs": _runs(runs, title),
                "curves": [each["curve"] for each in runs],
                "numbers": _numbers(rows, title),
                "settings": _settings(config, search, job.meanings[backbone], title),
                "search": search,
                "inputs": _inputs(dataset, arm, at, inputs),
                "facts": _facts(runs),
            }
        )
    return found


def _width(table: decides.Table2, arm: str) -> list[str]:
    """An arm's width, where arms differ in it."""
    return [f"d {table.widths[arm]}"] if arm in table.widths and len(set(table.widths.values())) > 1 else []


def _run(cell: Cell, at: At) -> dict[str, Any]:
    """What one run left behind: run.json, metrics on test, curves."""
    names, run = cell._asdict(), read_run(cell, at, SAID)
    history = files.read_table(at("history", **names), "history")
    test = files.read_table(at("metrics", **names), "metrics").filter(split="test", k=K)
    curve = {
        "seed": cell.seed,
        "best": run["best_epoch"],
        "epochs": history["epoch"].to_list(),
        "loss": [float(f"{value:.{DIGITS}g}") for value in history["loss"]],
        "recall": [float(f"{100 * value:.{DIGITS}g}") for value in history["valid_recall@20"]],
    }
    values = {metric: 100 * value for metric, value in test.select("metric", "value").iter_rows()}
    return {**run, "curve": curve, "test": values}


def _require_one_config(runs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse seeds that were trained with different settings: their mean is of nothing."""
    for run in runs[1:]:
        if run["config"] != runs[0]["config"]:
            raise DataError(
                f"seeds {runs[0]['seed']} and {run['seed']} of {' '.join(run[name] for name in CELL)} have different "
                f"settings. Run: python -m cliper train {run['options']}"
            )


def _main(rows: Sequence[Mapping[str, Any]], table: decides.Table2) -> str:
    """The number that a closed card shows."""
    metric, k = lead(table)
    row = next(row for row in rows if (row["metric"], row["k"]) == (metric, k))
    return f"{metric_name(metric, k)} {mean_text(row['mean'], row['sd'])}"


def _runs(runs: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A row for each seed."""
    heading = ["Seed", "Best epoch", "Epochs", f"Validation R@{K}", f"Test R@{K}", f"Test N@{K}", "Seconds", "Peak MiB"]
    rows = [
        [
            str(run["seed"]),
            count(run["best_epoch"]),
            count(run["epochs"]),
            decimal(100 * run["valid_recall@20"]),
            decimal(run["test"]["recall"]),
            decimal(run["test"]["ndcg"]),
            decimal(run["seconds"], ",.1f"),
            count(run["peak_memory_mib"]),
            run["device"],
        ]
        for run in runs
    ]
    note = "Metrics in percent. Seconds are those of training alone; the peak is of memory on the device."
    return Table(f"Runs · {title}", [*heading, "Device"], rows, notes=[note], is_sortable=False)


def _numbers(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A row for each metric and cutoff."""
    is_compared, is_printed = (any(row[name] is not None for row in rows) for name in ("gain", "paper"))
    heading = (
        ["Metric", "Mean"] + ["Gain", "95 % interval", "p (Holm)"] * is_compared + ["Paper", "Verdict"] * is_printed
    )
    shown = [
        [
            metric_name(row["metric"], row["k"]),
            number(row),
            *(compared(row) if is_compared else ()),
            *(of_the_paper(row) if is_printed else ()),
        ]
        for row in rows
    ]
    return Table(f"Metrics · {title}", heading, shown, is_sortable=False)


def _settings(
    config: Mapping[str, Any], search: Mapping[str, Any] | None, meanings: Mapping[str, str], title: str
) -> Table:
    """The settings of a cell in the words of their fields, and whether a search chose them."""
    chosen = set(search["settings"]) if search else set()
    if config["searched"] and config["searched"]["keeps_d"]:
        chosen -= {"d"}
    flat = {"d": config["d"], **config["train"], **config["backbone"]}
    rows = [
        [
            Value(name, kind="setting"),
            Value(_value(value), kind="number"),
            "search" if name in chosen else "config",
            Value(meanings.get(name, ""), kind="quiet"),
        ]
        for name, value in flat.items()
        if name not in ("kind", "class")
    ]
    return Table(f"Settings · {title}", ["Setting", "Value", "From", "Meaning"], rows, is_sortable=False)


def _value(value: Any) -> str:
    """A setting as the config writes it.

    >>> _value(0.005), _value(True), _value(None), _value("batch")
    ('0.005', 'true', 'null', 'batch')
    """
    return value if isinstance(value, str) else json.dumps(value)


def _inputs(
    dataset: str, arm: str, at: At, known: dict[tuple[str, str], tuple[int, str]]
) -> list[tuple[str, int, str]]:
    """File, number of rows and sha256 of what the runs have read."""
    wanted = [(kind, {"dataset": dataset}) for kind in SPLITS]
    if arm != CONTENT_FREE:
        wanted.insert(0, ("features", {"dataset": dataset, "arm": arm}))
    found = []
    for kind, names in wanted:
        path = at(kind, **names)
        key = (kind, str(path))
        if key not in known:
            known[key] = (files.count_rows(path, kind), files.sha256(path))
        found.append((path.name, *known[key]))
    return found


def _facts(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Code, kernels and versions; all of them where seeds differ."""

    def each(read: Any) -> str:
        return "; ".join(dict.fromkeys(str(read(run)) for run in runs))

    versions = dict.fromkeys(name for run in runs for name in run["versions"])
    return [
        ("Code of train", each(lambda run: run["code"])),
        ("Parameters", each(lambda run: f"{run['n_parameters']:,}")),
        ("Kernels", each(lambda run: run["kernels"])),
        ("Processor", each(lambda run: run["cpu"])),
        *((name, each(lambda run, name=name: run["versions"].get(name, "-"))) for name in versions),
    ]
