"""Write one table of the paper, as CSV, Markdown and LaTeX.

table1   In: counts.   Dataset statistics, with the paper's (section 4, Table 1)
table2   In: metrics.  Every dataset x backbone x arm, mean and standard deviation over seeds, with the paper's
search   In: trials and hindsight.  Every trial of the searches, and what choosing on test would have claimed
Out:     results/<name>/tabulate/<table>.csv, .md, .tex, .txt

The CSV has one row per number. Markdown and LaTeX have the paper's shape. The text fits a terminal: of table2 it shows
one cutoff, a row for each backbone and arm. Percent, rounded only when printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from cliper import files, log
from cliper.config import CONTENT_FREE, Cell, GivenFeatures, MadeFeatures, decides
from cliper.layout import At
from cliper.report.tables.grid import Grid
from cliper.report.tables.paper import paper_values, read_paper
from cliper.report.tables.trials import Searched, trials_grid, trials_long

N_QUANTITIES = 4  # rows of a dataset in Table 1
SHORT_K = 20  # cutoff of the text of Table 2, where the run has it
METRIC_TITLES = {"recall": "R@K", "ndcg": "N@K", "precision": "P@K", "map": "MAP@K"}


def summarise(metrics: pl.DataFrame, job: decides.Table2) -> pl.DataFrame:
    """Table 2 in long form: dataset, backbone, arm, metric, k, mean, sd, n_seeds, paper (percent).

    metrics   the metrics tables of all cells, one after the other
    sd        over seeds, with n - 1; null for one seed
    """
    shown = metrics.filter(
        (pl.col("split") == "test") & pl.col("metric").is_in(job.shown.metrics) & pl.col("k").is_in(job.shown.cutoffs)
    )
    cell = ["dataset", "backbone", "arm", "metric", "k"]
    percent = pl.col("value") * 100
    long = shown.group_by(cell).agg(mean=percent.mean(), sd=percent.std(), n_seeds=pl.len())
    order = {
        "dataset": list(job.titles),
        "backbone": list(job.backbones),
        "arm": [CONTENT_FREE, *job.widths],
        "metric": job.shown.metrics,
    }
    return (
        long.sort([pl.col(name).cast(pl.Enum(values)) for name, values in order.items()] + [pl.col("k")])
        .with_columns(
            titled=pl.col("dataset").replace_strict(job.titles),
            backbone_titled=pl.col("backbone").replace_strict(job.backbones),
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


def table2_grid(long: pl.DataFrame, job: decides.Table2) -> Grid:
    """Table 2 in the paper's shape: dataset, metric, K x backbone x arm, gains over the first arm."""
    texts_of = cell_texts(long, job)
    columns = list(dict.fromkeys(long.select("backbone", "arm").iter_rows()))
    heading = ["Dataset", "Metric", "K", *(_column_title(job.backbones[backbone], arm) for backbone, arm in columns)]
    rows = []
    for dataset, metric, k in dict.fromkeys(long.select("dataset", "metric", "k").iter_rows()):
        texts = [job.titles[dataset], METRIC_TITLES[metric], str(k)]
        texts += [texts_of.get((dataset, backbone, arm, metric, k), "nan") for backbone, arm in columns]
        rows.append(texts)
    return Grid(heading, rows, tuple(notes(job)))


def short_grid(long: pl.DataFrame, job: decides.Table2) -> Grid:
    """Table 2 at one cutoff, narrow: dataset x backbone x arm, gains over the first arm."""
    k = min(job.shown.cutoffs, key=lambda cutoff: abs(cutoff - SHORT_K))
    texts_of = cell_texts(long, job)
    titles = [METRIC_TITLES[metric].replace("K", str(k)) for metric in job.shown.metrics]
    rows = [
        [job.titles[dataset], job.backbones[backbone], _arm_title(arm)]
        + [texts_of.get((dataset, backbone, arm, metric, k), "nan") for metric in job.shown.metrics]
        for dataset, backbone, arm in dict.fromkeys(long.select("dataset", "backbone", "arm").iter_rows())
    ]
    first, *_ = notes(job)
    return Grid(["Dataset", "Backbone", "Arm", *titles], rows, (first,))


def cell_texts(long: pl.DataFrame, job: decides.Table2) -> dict[tuple[Any, ...], str]:
    """Mean, standard deviation and gain over the first arm, by dataset, backbone, arm, metric and k."""
    first_arm = next(iter(job.widths), CONTENT_FREE)
    means = {tuple(row[:5]): row[5] for row in long.iter_rows()}
    texts = dict[tuple[Any, ...], str]()
    for dataset, backbone, arm, metric, k, mean, sd, *_ in long.iter_rows():
        base = means.get((dataset, backbone, first_arm, metric, k), math.nan)
        gain = "" if arm in (CONTENT_FREE, first_arm) else improvement(mean, base)
        spread = "" if sd is None else f" ± {sd:.2f}"
        texts[dataset, backbone, arm, metric, k] = f"{mean:.2f}{spread}{gain}"
    return texts


def _column_title(backbone: str, arm: str) -> str:
    return backbone if arm == CONTENT_FREE else f"{backbone} {_arm_title(arm)}"


def _arm_title(arm: str) -> str:
    return {"cliper": "CLIPER", CONTENT_FREE: ""}.get(arm, arm)


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
    """Table 1 in the paper's shape; where the paper's number differs, it follows ours."""
    rows = []
    for dataset in long.iter_slices(N_QUANTITIES):  # two may have one title
        title, values = dataset["dataset"][0], {q: (v, p) for _, q, v, p in dataset.iter_rows()}
        counts = [_with_paper(*values[name], "{:,.0f}") for name in ("users", "items", "interactions")]
        rows.append([title, *counts, _with_paper(*values["density_percent"], "{:.3f}%")])
    return Grid(["Dataset", "# Users", "# Items", "# Interactions", "Density"], rows)


def _with_paper(value: float, paper: float | None, form: str) -> str:
    own, printed = form.format(value), form.format(paper) if paper is not None else None
    return own if printed in (None, own) else f"{own} (paper {printed})"


def notes(job: decides.Table2) -> Iterable[str]:
    """What a reader of Table 2 must know: how each arm's features were made, and which encoders replace the paper's."""
    n_seeds = len({Cell(*cell).seed for cell in job.cells})
    spread = f"mean ± standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    yield f"Percent on the test split; {spread}."
    if job.mask_valid:
        yield "Validation items are left out of the test ranking."
    for arm, d in job.widths.items():
        yield from _notes_on_arm(arm, d, job.features[arm], job.titles)
    yield from job.stand_ins


def _notes_on_arm(
    arm: str, d: int, features: Mapping[str, MadeFeatures | GivenFeatures], titles: Mapping[str, str]
) -> Iterable[str]:
    """How an arm's features were made.

    features  dataset -> how, for this dataset
    """
    made = {name: each for name, each in features.items() if isinstance(each, MadeFeatures)}
    if given := [titles[name] for name in features if name not in made]:
        yield f"{arm} on {', '.join(given)}: features as given with the data, d {d}."
    if own := [titles[name] for name, each in made.items() if each.given]:
        yield f"{arm} on {', '.join(own)}: the image features given with the data."
    if not made:
        return
    how = next((each for each in made.values() if each.image), next(iter(made.values())))
    fusion = how.fusion if how.temperature is None else f"{how.fusion} (τ {how.temperature:g})"
    policies = f"{how.vectors} vectors, missing field {how.missing_field}, missing image {how.missing_image}"
    policies += f", control {how.control}" if how.control else ""
    image = f"image {how.image}, " if how.image else ""
    prompts = f"{how.prompts} ({', '.join(how.views)})"
    yield f"{arm}: {image}text {how.text}, prompts {prompts}, {fusion}, {policies}, d {d}."


def read_search(at: At, dataset: str, backbone: str, arm: str) -> Searched:
    """Read the trials of one search, and what they are worth on test."""
    names = {"dataset": dataset, "backbone": backbone, "arm": arm}
    tables = (files.read_table(at(kind, **names), kind) for kind in ("trials", "hindsight"))
    return Searched(dataset, backbone, arm, *tables)


def run(job: decides.Table1 | decides.Table2 | decides.Trials, at: At) -> None:
    """Read the counts or the metrics of the whole run and write one table in all its forms."""
    if isinstance(job, decides.Table1):
        log.note(f"reads the counts of {len(job.titles)} datasets")
        counts = ((title, at("counts", dataset=dataset)) for dataset, title in job.titles.items())
        long = table1_long((title, files.read_table(path, "counts")) for title, path in counts)
        grid = short = table1_grid(long)
    elif isinstance(job, decides.Trials):
        log.note(f"reads the trials of {len(job.searches)} searches")
        long = trials_long(read_search(at, *names) for names in job.searches)
        grid = short = trials_grid(long, titles=job.titles, backbones=job.backbones, seed=job.seed)
    else:
        log.note(f"reads the metrics of {len(job.cells)} cells")
        paths = [at("metrics", **Cell(*cell)._asdict()) for cell in job.cells]
        long = summarise(pl.concat([files.read_table(path, "metrics") for path in paths]), job)
        grid, short = table2_grid(long, job), short_grid(long, job)
    forms = {"csv": long.write_csv(), "md": grid.as_markdown(), "tex": grid.as_latex(), "txt": short.as_text()}
    for form, text in forms.items():
        files.write_text(at("table", format=form), text)
    log.account(f"{at.names['table']}: {long.height} numbers")
