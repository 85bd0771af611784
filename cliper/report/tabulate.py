"""Write one table of the paper, as CSV, Markdown and LaTeX.

table1   In: counts.   Dataset statistics beside the paper's (section 4, Table 1)
table2   In: metrics.  Every dataset x backbone x arm, mean and standard deviation over seeds beside the paper's

The CSV is long: one row a number. The other two have the paper's shape. Percent, rounded only when printed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from cliper import files, log, resources
from cliper.config import CONTENT_FREE, Config
from cliper.errors import ConfigError, unknown
from cliper.layout import locate

METRIC_TITLES = {"recall": "R@K", "ndcg": "N@K", "precision": "P@K", "map": "MAP@K"}
BACKBONE_TITLES = {
    "mmgcn": "MMGCN",
    "dualgnn": "DualGNN",
    "lattice": "LATTICE",
    "slmrec": "SLMRec",
    "freedom": "FREEDOM",
    "vbpr": "VBPR",
    "lightgcn": "LightGCN",
    "bpr": "BPR",
}
PAPER_METRICS = {"Recall": "recall", "NDCG": "ndcg"}
LATEX_SIGNS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$"}


class Grid(NamedTuple):
    """A table as it is printed: one heading, rows of texts."""

    heading: list[str]
    rows: list[list[str]]


def read_paper(table: str) -> list[dict[str, str]]:
    """Rows of one of the paper's tables, as in data/paper."""
    return resources.read_csv(f"paper/{table}.csv")


def paper_values() -> pl.DataFrame:
    """The paper's Table 2: dataset and backbone as titled there, arm, metric, k, paper (percent)."""
    rows = [
        (r["dataset"], r["backbone"], r["variant"], PAPER_METRICS[r["metric"]], int(r["k"]), float(r["percent"]))
        for r in read_paper("table2")
    ]
    return pl.DataFrame(rows, schema=["dataset", "backbone", "arm", "metric", "k", "paper"], orient="row")


def summarise(metrics: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Table 2 in long form: dataset, backbone, arm, metric, k, mean, sd, n_seeds, paper (percent).

    metrics   the metrics tables of all cells, one behind the other
    sd        over seeds, with n - 1; null for one seed
    """
    shown = metrics.filter(
        (pl.col("split") == "test")
        & pl.col("metric").is_in(config.tabulate.metrics)
        & pl.col("k").is_in(config.tabulate.cutoffs)
    )
    cell = ["dataset", "backbone", "arm", "metric", "k"]
    percent = pl.col("value") * 100
    long = shown.group_by(cell).agg(mean=percent.mean(), sd=percent.std(), n_seeds=pl.len())
    order = {
        "dataset": config.run.datasets,
        "backbone": config.run.backbones,
        "arm": (CONTENT_FREE, *config.run.arms),
        "metric": config.tabulate.metrics,
    }
    titles = {name: dataset.title for name, dataset in config.datasets.items()}
    return (
        long.sort([pl.col(name).cast(pl.Enum(values)) for name, values in order.items()] + [pl.col("k")])
        .with_columns(
            titled=pl.col("dataset").replace_strict(titles),
            backbone_titled=pl.col("backbone").replace_strict(BACKBONE_TITLES),
        )
        .join(
            paper_values().rename({"dataset": "titled", "backbone": "backbone_titled"}).cast({"k": pl.Int32}),
            on=["titled", "backbone_titled", "arm", "metric", "k"],
            how="left",
            maintain_order="left",
        )
        .select(*cell, "mean", "sd", "n_seeds", "paper")
    )


def improvement(value: float, base: float) -> str:
    """Relative gain over the first arm, as the paper prints it.

    >>> improvement(10.26, 9.92)
    ' (↑ 3.43%)'
    """
    if base == 0 or math.isnan(base):
        return ""
    gain = 100 * (value / base - 1)
    return f" ({'↑' if gain >= 0 else '↓'} {abs(gain):.2f}%)"


def table2_grid(long: pl.DataFrame, config: Config) -> Grid:
    """Table 2 in the paper's shape: dataset, metric, K x backbone x arm, gains over the first arm."""
    cells = {tuple(row[:5]): (row[5], row[6]) for row in long.iter_rows()}
    columns = list(dict.fromkeys(long.select("backbone", "arm").iter_rows()))
    heading = ["Dataset", "Metric", "K", *(_column_title(backbone, arm) for backbone, arm in columns)]
    rows = []
    for dataset, metric, k in dict.fromkeys(long.select("dataset", "metric", "k").iter_rows()):
        texts = [config.datasets[dataset].title, METRIC_TITLES[metric], str(k)]
        for backbone, arm in columns:
            mean, sd = cells.get((dataset, backbone, arm, metric, k), (math.nan, None))
            base = cells.get((dataset, backbone, config.run.arms[0], metric, k), (math.nan, None))[0]
            gain = "" if arm in (CONTENT_FREE, config.run.arms[0]) else improvement(mean, base)
            texts.append(f"{mean:.2f}{f' ± {sd:.2f}' if sd is not None else ''}{gain}")
        rows.append(texts)
    return Grid(heading, rows)


def _column_title(backbone: str, arm: str) -> str:
    title = BACKBONE_TITLES[backbone]
    return title if arm == CONTENT_FREE else f"{title} {'CLIPER' if arm == 'cliper' else arm}"


def table1_long(counts: Iterable[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """Table 1 in long form: dataset (as titled), quantity, value, paper."""
    printed = {row["dataset"]: row for row in read_paper("table1")}
    rows = []
    for title, steps in counts:
        kept = steps.filter(~pl.col("step").is_in(["train", "valid", "test"]))[-1]
        users, items, interactions = (kept[name].item() for name in ("users", "items", "interactions"))
        values = {
            "users": users,
            "items": items,
            "interactions": interactions,
            "density_percent": 100 * interactions / (users * items),
        }
        known = printed.get(title, {})
        rows += [(title, name, float(value), _number(known.get(name))) for name, value in values.items()]
    return pl.DataFrame(rows, schema=["dataset", "quantity", "value", "paper"], orient="row")


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def table1_grid(long: pl.DataFrame) -> Grid:
    """Table 1 in the paper's shape, the paper's own number behind ours where it differs."""
    rows = []
    for title in dict.fromkeys(long["dataset"]):
        values = {q: (v, p) for _, q, v, p in long.filter(pl.col("dataset") == title).iter_rows()}
        counts = [_beside(*values[name], "{:,.0f}") for name in ("users", "items", "interactions")]
        rows.append([title, *counts, _beside(*values["density_percent"], "{:.3f}%")])
    return Grid(["Dataset", "# Users", "# Items", "# Interactions", "Density"], rows)


def _beside(value: float, paper: float | None, form: str) -> str:
    own, printed = form.format(value), form.format(paper) if paper is not None else None
    return own if printed in (None, own) else f"{own} (paper {printed})"


def as_markdown(grid: Grid, below: list[str]) -> str:
    """A grid as a Markdown table with notes below it."""
    lines = [grid.heading, ["---"] * len(grid.heading), *grid.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n" + "".join(f"\n{note}\n" for note in below)


def as_latex(grid: Grid, below: list[str]) -> str:
    """A grid as a LaTeX tabular (package booktabs) with notes as comments."""
    signs = {
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "&": r"\&",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "±": r"$\pm$",
    }
    escape = str.maketrans(signs)
    body = [" & ".join(cell.translate(escape) for cell in row) + r" \\" for row in [grid.heading, *grid.rows]]
    top = [rf"\begin{{tabular}}{{{'l' * len(grid.heading)}}}", r"\toprule", body[0], r"\midrule"]
    return "\n".join([*top, *body[1:], r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in below)]) + "\n"


def _titles(config: Config, datasets: Iterable[str]) -> str:
    return ", ".join(config.datasets[dataset].title for dataset in datasets)


def notes(config: Config) -> list[str]:
    """What a reader of Table 2 must know: how each arm's features were made, and what only stands in for CLIP."""
    n_seeds = len(config.run.seeds)
    spread = f"mean ± standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    lines = [f"Percent on the test split; {spread}."]
    if config.evaluate.mask_valid:
        lines.append("Validation items are left out of the test ranking.")
    stand_ins = dict[str, str | None]()  # by kind of encoder
    for name in config.run.arms:
        arm = config.arms[name]
        made = [config.arm_of(dataset, name) for dataset in config.run.datasets]
        given = [d for d, each in zip(config.run.datasets, made, strict=True) if not each.text]
        if given:
            lines.append(f"{name} on {_titles(config, given)}: features as given with the data, d {arm.d}.")
        if len(given) == len(config.run.datasets):
            continue
        if own := [d for d, each in zip(config.run.datasets, made, strict=True) if each.text and not each.image]:
            lines.append(f"{name} on {_titles(config, own)}: the image features given with the data.")
        chosen = [config.encoder(encoder) for each in made for encoder in (each.image, each.text) if encoder]
        stand_ins |= {encoder.kind: encoder.settings.stands_in for encoder in chosen}
        fusion = arm.fusion if arm.temperature is None else f"{arm.fusion} (τ {arm.temperature:g})"
        views = "" if arm.views is None else f" ({', '.join(arm.views)})"
        policies = f"{arm.vectors} vectors, missing field {arm.missing_field}, missing image {arm.missing_image}"
        how = f"image {arm.image}, text {arm.text}, prompts {arm.prompts}{views}, {fusion}, {policies}"
        lines.append(f"{name}: {how}, d {arm.d}.")
    return lines + [sentence for _, sentence in sorted(stand_ins.items()) if sentence]


def run(config: Config, *, table: str) -> None:
    """Read the counts or the metrics of the whole run and write one table in three forms."""
    began, below = time.monotonic(), list[str]()
    if table == "table1":
        long = table1_long(
            (config.datasets[d].title, files.read_table(locate(config.root, "counts", dataset=d), "counts"))
            for d in config.run.datasets
        )
        grid = table1_grid(long)
    elif table == "table2":
        paths = [
            locate(config.root, "metrics", dataset=dataset, backbone=backbone, arm=arm, seed=seed)
            for dataset, backbone, arm, seed in config.cells
        ]
        long = summarise(pl.concat([files.read_table(path, "metrics") for path in paths]), config)
        grid, below = table2_grid(long, config), notes(config)
    else:
        raise ConfigError(unknown("table", table, ["table1", "table2"]))
    forms = {"csv": long.write_csv(), "md": as_markdown(grid, below), "tex": as_latex(grid, below)}
    for form, text in forms.items():
        files.write_text(locate(config.root, "table", table=table, format=form), text)
    log.account(f"{table}: {long.height} numbers, {time.monotonic() - began:.1f} s")
