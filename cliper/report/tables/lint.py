"""Find what no run can have given: arithmetic that every table of Recall and NDCG obeys, gaps, arms with wrong numbers.

A table is in the long form of Table 2: dataset, backbone, arm, metric, k, mean (percent). It may also have:

n_seeds       runs behind a mean; 0 for a cell that was not run, which has no mean
sd            over these runs
paper         the number that the paper printed
base, gain, gain_low, gain_high  the arm that it is compared with, the relative gain in percent and its interval
max_relevant  largest number of test items that a user of the dataset has
above_k       share of the dataset's users who have more than k test items

The bounds follow from the definitions in `cliper.models.maths.metrics`. A hit at rank r adds 1/T to a user's Recall,
where T is the number of test items, and 1/(log2(r + 1) I) to NDCG, where I is the gain of the ideal list; I <= T. So
Recall never falls from a cut-off a to b > a, and bounds what NDCG rises by: see `least_rise` and `largest_rise`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import polars as pl

from cliper.arrays import Ints
from cliper.report.tables.paper import paper_values

COLUMN = ["dataset", "backbone", "arm"]
KEY = [*COLUMN, "metric", "k"]
EXACT = 1e-9  # half a digit of numbers that were not rounded: float64 leaves about 1e-14 of a percentage
PRINTED = 0.005  # half a digit of the paper's
KNOWN_FEW = {"baby", "sports", "clothing"}  # Amazon-2014: 1.05 to 1.12 test items a user, for a handful more than FEW
FEW = 10


class Finding(NamedTuple):
    """A fault, or what cannot be checked. Without k it concerns all cut-offs, without an arm all arms."""

    dataset: str
    backbone: str
    arm: str
    k: int | None
    said: str

    def __str__(self) -> str:
        at = "" if self.k is None else f" at K = {self.k}"
        return f"{' '.join(filter(None, self[:3]))}{at}: {self.said}"


def ideal_gain(n: int) -> float:
    """Gain of a list that begins with n hits.

    >>> round(ideal_gain(2), 4)  # 1 + 1 / log2(3)
    1.6309
    """
    return sum(1 / math.log2(rank + 1) for rank in range(1, n + 1))


def least_rise(recall_rise: float, a: int, b: int, *, above_a: float) -> float:
    """Least rise of NDCG from cut-off a to b, in percent: each further hit is at rank b or better.

    above_a  share of users with more than a test items; their ideal list is longer at b, which takes away
             1 - ideal(a) / ideal(b) at most. From a = 0 on there is nothing to take away, so it is 0 there
    """
    return recall_rise / math.log2(b + 1) - 100 * above_a * (1 - ideal_gain(a) / ideal_gain(b))


def largest_rise(recall_rise: float, a: int, b: int, *, max_relevant: int) -> float:
    """Largest rise of NDCG from cut-off a to b, in percent: each further hit is at rank a + 1 or worse.

    With one test item a user it is the rise of Recall over log2(a + 2).
    """
    return recall_rise / math.log2(a + 2) * max_relevant / ideal_gain(min(max_relevant, b))


def with_relevant(long: pl.DataFrame, counts: Mapping[str, Ints]) -> pl.DataFrame:
    """Add the columns max_relevant and above_k.

    counts  dataset -> (U,) number of test items of each user
    """
    known = pl.DataFrame(
        [
            (dataset, k, int(n.max()), float((n > k).mean()))
            for dataset, n in counts.items()
            for k in long["k"].unique().sort()
        ],
        schema={"dataset": pl.String, "k": long.schema["k"], "max_relevant": pl.Int64, "above_k": pl.Float64},
        orient="row",
    )
    return long.join(known, on=["dataset", "k"], how="left", maintain_order="left")


def check(long: pl.DataFrame, *, half_digit: float = EXACT) -> tuple[list[Finding], list[Finding]]:
    """Faults of a table in long form, and what of it cannot be checked.

    half_digit  half a unit of the last digit printed
    """
    faults = [fault for find in FINDERS for fault in find(long)]
    unknown = list[Finding]()
    for key, column in long.group_by(COLUMN, maintain_order=True):
        dataset, backbone, arm = map(str, key)
        for k, said, is_fault in _steps(dataset, column, half_digit):
            (faults if is_fault else unknown).append(Finding(dataset, backbone, arm, k, said))
    return faults, unknown


@cache
def of_paper() -> tuple[Finding, ...]:
    """What in the paper's Table 2 no run can have given, cell by cell; datasets and backbones as titled there."""
    faults, _ = check(paper_values().rename({"paper": "mean"}), half_digit=PRINTED)
    return tuple(each for each in faults if each.k is not None)


def impossible() -> set[tuple[str, str, str, int]]:
    """Cells of the paper's Table 2 that no run can have given: dataset, backbone, arm, k."""
    return {(each.dataset, each.backbone, each.arm, each.k) for each in of_paper() if each.k is not None}


def compare_with_cells(long: pl.DataFrame, metrics: pl.DataFrame, *, half_digit: float = EXACT) -> list[Finding]:
    """Where a table does not have the means of the cells that it was made of.

    metrics  metrics tables of cells, one after the other; a column without cells among them is not compared
    """
    test = metrics.filter(split="test")
    cells = test.group_by(KEY).agg(own=pl.col("value").mean() * 100, seeds=pl.col("seed").sort()).sort(KEY)
    own = dict[tuple[object, ...], dict[tuple[str, int], float]]()
    for *column_key, metric, k, mean, _ in cells.iter_rows():
        own.setdefault(tuple(column_key), {})[metric, k] = mean
    found = []
    for key, column in long.join(cells, on=KEY, maintain_order="left").group_by(COLUMN, maintain_order=True):
        means = {(metric, k): mean for metric, k, mean in column.select("metric", "k", "mean").iter_rows()}
        seeds = column["seeds"][0].to_list()
        said = None
        if "n_seeds" in column.columns and column["n_seeds"][0] != len(seeds):
            said = f"means of {column['n_seeds'][0]} seeds, but its cells are of {', '.join(map(str, seeds))}"
        elif differing := _differing(means, own[key], half_digit):
            others = [
                other[2] for other in own if other[:2] == key[:2] and not _differing(means, own[other], half_digit)
            ]
            metric, k = differing[0]
            first = f"first: {metric}@{k} is {means[metric, k]}, its cells have {own[key].get((metric, k))}"
            said = f"{len(differing)} of {len(means)} numbers are not those of its cells ({first})"
            said = f"has the numbers of {others[0]}: arms are swapped" if others else said
        if said:
            dataset, backbone, arm = map(str, key)
            found.append(Finding(dataset, backbone, arm, None, said))
    return found


def _differing(
    means: Mapping[tuple[str, int], float | None], own: Mapping[tuple[str, int], float], half_digit: float
) -> list[tuple[str, int]]:
    """Which numbers of a column are not those of cells."""
    return [
        number
        for number, mean in means.items()
        if mean is None or number not in own or not abs(mean - own[number]) <= half_digit + EXACT
    ]


def _steps(dataset: str, column: pl.DataFrame, half_digit: float) -> Iterator[tuple[int | None, str, bool]]:
    """Cut-off, sentence, and whether it is a fault, of what a column's steps from cut-off to cut-off show."""
    known = column.filter(pl.col("mean").is_finite())
    values = {(metric, k): mean for metric, k, mean in known.select("metric", "k", "mean").iter_rows()}
    values |= {("recall", 0): 0.0, ("ndcg", 0): 0.0}
    above = dict(column.select("k", "above_k").iter_rows()) if "above_k" in column.columns else {}
    above[0] = 0.0
    largest = column["max_relevant"][0] if "max_relevant" in column.columns else None
    is_few = dataset.casefold() in KNOWN_FEW
    slack = 2 * half_digit
    for a, b in pairwise(sorted({k for metric, k in values if metric == "recall"})):
        recall = values["recall", b] - values["recall", a]
        if recall < -slack:
            yield b, f"R falls by {-recall:.4g} from K = {a}", True
            continue
        if not {("ndcg", a), ("ndcg", b)} <= values.keys():
            continue
        ndcg = values["ndcg", b] - values["ndcg", a]
        said = f"N rises by {ndcg:.4g} from K = {a}, but R's {recall:.4g} are worth"
        above_a = above.get(a, 0.0 if is_few and a >= FEW else None)
        if above_a is None:
            yield b, f"not checkable: unknown how many users have more than {a} test items", False
        elif above_a > 0 and least_rise(recall, a, b, above_a=above_a) <= 0:
            yield b, f"not checkable: {above_a:.1%} of the users have more than {a} test items", False
        elif ndcg + slack < (least := least_rise(recall - slack, a, b, above_a=above_a)):
            yield b, f"{said} {least:.4g} or more", True
        if largest and ndcg - slack > (most := largest_rise(recall + slack, a, b, max_relevant=largest)):
            yield b, f"{said} {most:.4g} or less", True
    if largest is None and any(metric == "ndcg" and k for metric, k in values):
        yield None, "not checkable: the largest rise of N, as the largest number of test items is unknown", False


def _repeated(long: pl.DataFrame) -> Iterator[Finding]:
    groups = ["group"] if "group" in long.columns else []  # of a study; two may have one cell
    for (dataset, backbone, arm, metric, k, *_), n in Counter(long.select(*KEY, *groups).iter_rows()).items():
        if n > 1:
            yield Finding(dataset, backbone, arm, k, f"{metric} has {n} rows")


def _values(long: pl.DataFrame) -> Iterator[Finding]:
    """Values that are missing, no numbers, or no percentages."""
    n_seeds = long["n_seeds"] if "n_seeds" in long.columns else [None] * long.height
    for (dataset, backbone, arm, metric, k, mean), n in zip(
        long.select(*KEY, "mean").iter_rows(), n_seeds, strict=True
    ):
        if mean is None and n != 0:
            yield Finding(dataset, backbone, arm, k, f"{metric} is missing or no number")
        elif mean is not None and not 0 <= mean <= 100:
            yield Finding(dataset, backbone, arm, k, f"{metric} is {mean:.6g}, which is no percentage")
    if {"sd", "n_seeds"} <= set(long.columns):
        for dataset, backbone, arm, metric, k, sd, n in long.select(*KEY, "sd", "n_seeds").iter_rows():
            if (sd is None and n not in (0, 1)) or (sd is not None and not 0 <= sd <= 100):
                yield Finding(dataset, backbone, arm, k, f"sd of {metric} over {n} seeds is {sd}")


def _gaps(long: pl.DataFrame) -> Iterator[Finding]:
    """Numbers that other columns of the dataset have."""
    for (dataset,), part in long.group_by("dataset", maintain_order=True):
        wanted = dict.fromkeys(part.select("metric", "k").iter_rows())
        for (backbone, arm), column in part.group_by("backbone", "arm", maintain_order=True):
            there = set(column.select("metric", "k").iter_rows())
            for metric, k in wanted:
                if (metric, k) not in there:
                    yield Finding(str(dataset), str(backbone), str(arm), k, f"{metric} is missing")


def _seeds(long: pl.DataFrame) -> Iterator[Finding]:
    """Columns whose means are of another number of seeds than most."""
    if "n_seeds" not in long.columns:
        return
    run = long.filter(pl.col("n_seeds") > 0)
    usual = Counter(run["n_seeds"]).most_common(1)
    for dataset, backbone, arm, n in dict.fromkeys(run.select(*COLUMN, "n_seeds").iter_rows()):
        if n != usual[0][0]:
            yield Finding(dataset, backbone, arm, None, f"means of {n} seeds where others are of {usual[0][0]}")


def _equal_arms(long: pl.DataFrame) -> Iterator[Finding]:
    """Arms whose numbers are another's, to the last digit."""
    known = long.filter(pl.col("mean").is_finite())
    for (dataset, backbone), part in known.group_by("dataset", "backbone", maintain_order=True):
        first = dict[frozenset[object], str]()
        for (arm,), column in part.group_by("arm", maintain_order=True):
            numbers = frozenset(column.select("metric", "k", "mean").iter_rows())
            other = first.setdefault(numbers, str(arm))
            if other != arm and len(numbers) > 1:
                said = f"has the numbers of {other} in all {len(numbers)} cells"
                yield Finding(str(dataset), str(backbone), str(arm), None, said)


def _gains(long: pl.DataFrame) -> Iterator[Finding]:
    """Gains that the means do not give; their own interval is allowed, as they may be of more seeds than the means."""
    if not {"base", "gain", "gain_low", "gain_high"} <= set(long.columns):
        return
    base_backbone = pl.col("base_backbone") if "base_backbone" in long.columns else pl.col("backbone")
    means = {tuple(key): mean for *key, mean in long.select(*KEY, "mean").iter_rows()}
    compared = long.select(*KEY, "mean", base_backbone.alias("base_backbone"), "base", "gain", "gain_low", "gain_high")
    found = dict[tuple[str, str, str], str]()
    for dataset, backbone, arm, metric, k, mean, *base_column, gain, low, high in compared.drop_nulls().iter_rows():
        if base := means.get((dataset, *base_column, metric, k)):
            given = 100 * (mean / base - 1)
            if not abs(gain - given) <= (high - low) / 2 + EXACT:
                said = f"{metric}@{k} is said to gain {gain:.2f} % over {base_column[1]}, its means give {given:.2f} %"
                found.setdefault((dataset, backbone, arm), said)
    for column, said in found.items():
        yield Finding(*column, None, said)


def _papers(long: pl.DataFrame) -> Iterator[Finding]:
    """Numbers of the column `paper` that the paper did not print there."""
    if "paper" not in long.columns:
        return
    printed = {
        (dataset.casefold(), backbone.casefold(), *more): value
        for dataset, backbone, *more, value in paper_values().iter_rows()
    }
    for dataset, backbone, arm, metric, k, value in long.select(*KEY, "paper").iter_rows():
        known = printed.get((dataset.casefold(), backbone.casefold(), arm, metric, k))
        if value is not None and known is not None and value != known:
            yield Finding(dataset, backbone, arm, k, f"the paper's {metric} is {known}, not {value}")


FINDERS = (_repeated, _values, _gaps, _seeds, _equal_arms, _gains, _papers)
