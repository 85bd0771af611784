"""Table 2 of the paper: every dataset x backbone x arm, with the paper's and other people's numbers.

Source: section 4, Table 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from cliper.arrays import Ints
from cliper.config import CONTENT_FREE, Cell, GivenFeatures, MadeFeatures, decides
from cliper.report.tables import lint
from cliper.report.tables.grid import Entry, Grid
from cliper.report.tables.numbers import AT, CELL, COMPARED, places, summarise, with_comparisons, with_verdicts
from cliper.report.tables.paper import by_our_names, paper_cells
from cliper.report.tables.printed import ESTABLISHED, entry, gain_text, metric_title, seeds_note, short_k
from cliper.report.tables.published import PAPERS_FAMILY, others_numbers, published_values

PLAIN = pl.DataFrame({"arm": ["vanilla", CONTENT_FREE]})  # arms of plain backbones, which others ran


def long(
    metrics: pl.DataFrame, comparisons: pl.DataFrame, job: decides.Table2, *, n_relevant: Mapping[str, Ints]
) -> pl.DataFrame:
    """One row a number, in percent.

    metrics      the metrics tables of all cells, one after the other
    comparisons  those of the arms with their base, see `with_comparisons`
    n_relevant   dataset -> (U,) number of test items of each user
    returns      dataset, backbone, arm, metric, k, mean, sd, n_seeds, paper, base, gain … established, verdict,
                 published, published_source, max_relevant, above_k (share of users with more than k test items)
    """
    cells = [Cell(*cell) for cell in job.cells]
    numbers = summarise(metrics, cells, names=job.shown.metrics, cutoffs=job.shown.cutoffs)
    pairs = pl.DataFrame(
        [tuple(pair) for pair in job.comparisons],
        schema=dict.fromkeys([*CELL, "base_backbone", "base"], pl.String),
        orient="row",
    )
    order = {"dataset": list(job.titles), "backbone": list(job.backbones), "arm": [CONTENT_FREE, *job.widths]}
    numbers = (
        numbers.join(paper_cells(job.titles, job.backbones), on=[*CELL, *AT], how="left", maintain_order="left")
        .join(pairs, on=CELL, how="left", maintain_order="left")
        .sort([pl.col(name).cast(pl.Enum(values)) for name, values in order.items()], maintain_order=True)
    )
    judged = with_verdicts(with_comparisons(numbers, comparisons), impossible_cells(job)).join(
        _published(job), on=[*CELL, *AT], how="left", maintain_order="left"
    )
    others = ["verdict", "published", "published_source"]
    shown = judged.select(*CELL, *AT, "mean", "sd", "n_seeds", "paper", "base", *COMPARED, *others)
    return lint.with_relevant(shown, n_relevant)


def _published(job: decides.Table2) -> pl.DataFrame:
    """Other people's numbers on the paper's split family: published, published_source, by dataset, backbone, arm …

    The last of those of a cell: the toolbox's own, which the paper repeats, come first.
    """
    family = published_values().filter(split_family=PAPERS_FAMILY)
    last = family.unique(["dataset", "backbone", *AT], keep="last", maintain_order=True)
    own = by_our_names(last, job.titles, job.backbones).join(PLAIN, how="cross")
    return own.select(*CELL, *AT, published="percent", published_source="source")


def impossible_cells(job: decides.Table2) -> set[tuple[str, str, str, int]]:
    """Cells of the paper's Table 2 that no run can have given: dataset, backbone, arm, k by our names."""
    found = lint.impossible()
    return {
        (dataset, backbone, arm, k)
        for dataset, title in job.titles.items()
        for backbone, backbone_title in job.backbones.items()
        for titled, backbone_titled, arm, k in found
        if (title, backbone_title) == (titled, backbone_titled)
    }


def grid(numbers: pl.DataFrame, job: decides.Table2) -> Grid:
    """The paper's shape: dataset, metric, K x backbone x arm, gains over the base."""
    entries = _entries(numbers)
    columns = list(dict.fromkeys(numbers.select("backbone", "arm").iter_rows()))
    rows: list[list[str | Entry]] = [
        [job.titles[dataset], metric_title(metric, "K"), str(k)]
        + [entries.get((dataset, backbone, arm, metric, k), Entry("not run")) for backbone, arm in columns]
        for dataset, metric, k in dict.fromkeys(numbers.select("dataset", *AT).iter_rows())
    ]
    return Grid(
        heading=["Dataset", "Metric", "K", *(arm_title(arm) for _, arm in columns)],
        rows=rows,
        notes=tuple(notes(job)),
        signs=_signs(numbers),
        labels=3,
        groups=("", "", "", *(job.backbones[backbone] for backbone, _ in columns)),
    )


def cells_grid(numbers: pl.DataFrame, job: decides.Table2) -> Grid:
    """A row for each number: ours, the paper's and other people's, the comparison with the base, the verdict."""
    others = by_our_names(others_numbers(), job.titles, job.backbones).join(PLAIN, how="cross")
    rows: list[list[str | Entry]] = [
        [
            *(job.titles[row["dataset"]], job.backbones[row["backbone"]], arm_title(row["arm"])),
            metric_title(row["metric"], row["k"]),
            Entry(str(entry({**row, "gain": None}, 0))),
            "" if row["paper"] is None else f"{row['paper']:.2f}",
            row["others"] or "",
            gain_text(row["gain"]).strip(" ()"),
            "" if row["gain_low"] is None else f"{row['gain_low']:.2f}% to {row['gain_high']:.2f}%",
            "" if row["p_holm"] is None else f"{row['p_holm']:.2g}",
            row["verdict"] or "",
        ]
        for row in numbers.join(others, on=[*CELL, *AT], how="left", maintain_order="left").iter_rows(named=True)
    ]
    heading = ["Dataset", "Backbone", "Arm", "Metric", "Ours", "Paper", "Others", "Gain", "95 %", "p (Holm)", "Verdict"]
    filled = [place for place, column in enumerate(zip(*rows, strict=True)) if any(cell != "" for cell in column)]
    return Grid([heading[place] for place in filled], [[row[place] for place in filled] for row in rows], labels=4)


def short_grid(numbers: pl.DataFrame, job: decides.Table2) -> Grid:
    """One cutoff, narrow: dataset x backbone x arm, gains over the base."""
    k, entries = short_k(job.shown.cutoffs), _entries(numbers)
    rows: list[list[str | Entry]] = [
        [job.titles[dataset], job.backbones[backbone], arm_title(arm)]
        + [entries.get((dataset, backbone, arm, metric, k), Entry("not run")) for metric in job.shown.metrics]
        for dataset, backbone, arm in dict.fromkeys(numbers.select(CELL).iter_rows())
    ]
    first, *_ = notes(job)
    titles = [metric_title(metric, k) for metric in job.shown.metrics]
    return Grid(["Dataset", "Backbone", "Arm", *titles], rows, (first,), _signs(numbers), labels=3)


def _entries(numbers: pl.DataFrame) -> dict[tuple[object, ...], Entry]:
    """Each number as printed, by dataset, backbone, arm, metric and k; the best arm of a backbone is marked."""
    placed = zip(numbers.iter_rows(named=True), places(numbers, ["dataset", "backbone", *AT]), strict=True)
    return {tuple(row[name] for name in [*CELL, *AT]): entry(row, place) for row, place in placed}


def _signs(numbers: pl.DataFrame) -> tuple[str, ...]:
    return (ESTABLISHED,) if numbers["established"].any() else ()


def arm_title(arm: str) -> str:
    """An arm's name in a table; none for that of backbones without features."""
    return {"cliper": "CLIPER", CONTENT_FREE: ""}.get(arm, arm)


def notes(job: decides.Table2) -> Iterable[str]:
    """What a reader must know: how each arm's features were made, and which encoders replace the paper's."""
    yield seeds_note(len({Cell(*cell).seed for cell in job.cells}))
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
