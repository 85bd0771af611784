"""What a dataset consists of, as tables of the page: sizes, pictures, texts, missing values. Frames in, tables out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from cliper.config import decides
from cliper.report.pages.rendering import Table, Value
from cliper.report.pages.values import count

SPLITS = ("train", "valid", "test")
COLD = ("cold_users", "cold_items")
SIZES = ("interactions", "users", "items")
SIDES = ("width", "height")
KINDS = ("usable", "absent", "failed", "passing")  # of outcomes, in the order in which they are shown
STEPS = {"raw": "as read", "given": "as given with the data", "with metadata": "items with metadata"}
HELD_OUT = {
    "random": "each user's held-out items are drawn at random (seed {seed})",
    "user_time": "each user's latest items are held out",
    "global_time": "the latest interactions of all users are held out",
    "given": "the split came with the data",
}
STATUSES = {  # of images: what became of an item's picture
    "ok": "usable",
    "no_url": "the metadata names no picture",
    "placeholder": "the shop's own “no image” picture",
    "no_file": "the image folder has no file for the item",
    "http_error": "the server answered with an error",
    "timeout": "no answer in time",
    "connection_error": "the connection failed",
    "given_up": "not asked, because its server had stopped answering",
    "refused": "not allowed, so not fetched",
    "too_large": "too many bytes or pixels",
    "too_small": "too few pixels",
    "not_an_image": "the file is no picture",
    "truncated": "the file is cut off",
    "undecodable": "the file cannot be decoded",
}
NEVER_THERE = ("no_url", "placeholder", "no_file")  # nothing could be fetched
MAY_PASS = ("timeout", "connection_error", "given_up")  # another try may end otherwise
REPLACED_BY = {  # policy -> what stands in the place of a picture, or of a text
    "mean": "the mean of the other items' image features",
    "zero": "zeros",
    "default_image": "the features of one default picture",
    "drop_item": "nothing: the item is left out",
    "sentence": "a sentence that says it is missing",
    "mask": "nothing: the text has no weight",
    "as given": "zeros, as given with the data",
}
CLEANING = {
    "reading": "missing in the metadata",
    "entities": "HTML entities decoded",
    "tags": "HTML tags removed",
    "control_characters": "control characters removed",
    "white_space": "white space evened out",
    "line_breaks": "line breaks removed",
    "noise": "values that mean “none” removed",
    "csv_missing": "values that a CSV reader takes for missing removed",
    "min_length": "too short",
}
LENGTHS = (
    "Lengths are in tokens, the pieces of words that encoders read. Cut off: items whose text was not read to its end."
)


class Status(NamedTuple):
    """One outcome of the items' pictures.

    kind  of its look: usable, absent (nothing could be fetched), passing (may end otherwise) or failed
    """

    words: str
    n: int
    share: str
    kind: str


class Pictures(NamedTuple):
    """The account of a dataset's pictures."""

    n_items: int
    n_usable: int
    statuses: list[Status]
    facts: list[tuple[str, str]]


def share(n: float, of: float) -> str:
    """A part of a whole, in percent; small ones keep two digits, and only the whole is 100%.

    >>> share(389, 428), share(1, 428), share(0, 428), share(428, 428), share(9_999, 10_000), share(3, 0)
    ('90.9%', '0.23%', '0%', '100%', '> 99.9%', '–')
    """
    if not of:
        return "–"
    percent = 100 * n / of
    if 99.95 <= percent < 100:
        return "> 99.9%"
    return "0%" if not n else f"{percent:.2g}%" if percent < 1 else f"{percent:.1f}%".replace(".0%", "%")


def in_words(catalogue: decides.Catalogue) -> str:
    """How a dataset was filtered and split, in one sentence."""
    held_out = HELD_OUT[catalogue.split].format(seed=catalogue.split_seed)
    parts = [
        f"ratings below {catalogue.min_rating:g} were dropped" if catalogue.min_rating is not None else "",
        "items without metadata were dropped" if catalogue.drop_items_without_metadata else "",
        f"every user and item has at least {catalogue.k_core} interactions" if (catalogue.k_core or 0) > 1 else "",
        held_out,
    ]
    text = "; ".join(filter(None, parts))
    return f"{text[0].upper()}{text[1:]}."


def sizes(counts: pl.DataFrame) -> list[tuple[str, str]]:
    """Users, items, interactions and density after the last step before the split."""
    kept = counts.filter(~pl.col("step").is_in(SPLITS)).sort("order").row(-1, named=True)
    named = [(name.capitalize(), f"{kept[name]:,}") for name in ("users", "items", "interactions")]
    return [*named, ("Density", f"{100 * kept['density']:.3f}%")]


def steps_table(counts: pl.DataFrame) -> Table:
    """Every step from the raw data to what is split, with what it dropped."""
    heading = ["Step", "Interactions", "Users", "Items", "Density", "Dropped"]
    rows, before = list[list[str | Value]](), None
    for row in counts.filter(~pl.col("step").is_in(SPLITS)).sort("order").iter_rows(named=True):
        left = [row[name] for name in SIZES]
        gone = [old - new for old, new in zip(before or left, left, strict=True)]
        lost = ", ".join(f"{n:,} {name[: None if n > 1 else -1]}" for n, name in zip(gone, SIZES, strict=True) if n)
        density = Value(f"{100 * row['density']:.3f}%", row["density"], "number")
        said = (lost or "nothing") if before else ""
        rows.append([STEPS.get(row["step"], row["step"]), *map(count, left), density, said])
        before = left
    return Table("From raw data to what is split", heading, rows, is_sortable=False)


def splits_table(counts: pl.DataFrame) -> Table:
    """The three parts of the split; cold users and items have no interaction in train."""
    parts = counts.filter(pl.col("step").is_in(SPLITS)).sort("order")
    total = int(parts["interactions"].sum())
    rows = [
        [
            row["step"],
            count(row["interactions"]),
            Value(share(row["interactions"], total), row["interactions"], "number"),
            *(count(row[name]) for name in ("users", "items")),
            *(Value("–", -1, "number") if row["step"] == "train" else count(row[name] or 0) for name in COLD),
        ]
        for row in parts.iter_rows(named=True)
    ]
    heading = ["Part", "Interactions", "Share", "Users", "Items", "Cold users", "Cold items"]
    return Table("The split", heading, rows, notes=["Cold: not in train."], is_sortable=False)


def is_passing(status: str, http_code: int | None) -> bool:
    """Whether another try may end otherwise, as crawl sees it."""
    busy = status == "http_error" and http_code is not None and (http_code == 429 or http_code >= 500)
    return busy or status in MAY_PASS


def pictures(images: pl.DataFrame) -> Pictures:
    """Count what became of each item's picture; of each kind, the most frequent outcome first."""
    n_items, found = images.height, Counter(_outcome(*row) for row in images.select("status", "http_code").iter_rows())
    statuses = [Status(words, n, share(n, n_items), kind) for (kind, words), n in found.items()]
    statuses.sort(key=lambda each: (KINDS.index(each.kind), -each.n, each.words))
    usable = images.filter(status="ok")
    return Pictures(n_items, usable.height, statuses, describe_pictures(usable))


def _outcome(status: str, http_code: int | None) -> tuple[str, str]:
    """Kind and words of a status."""
    words = STATUSES[status] + (f" ({http_code})" if status == "http_error" and http_code else "")
    if is_passing(status, http_code):
        return "passing", words
    return "usable" if status == "ok" else "absent" if status in NEVER_THERE else "failed", words


def describe_pictures(usable: pl.DataFrame) -> list[tuple[str, str]]:
    """How many usable pictures differ, their formats and sizes; nothing where there is none."""
    if usable.is_empty():
        return []
    formats = usable["format"].drop_nulls().value_counts(sort=True).sort(["count", "format"], descending=[True, False])
    short, long = usable.select(short=pl.min_horizontal(SIDES), long=pl.max_horizontal(SIDES))
    n_animated = int(usable["is_animated"].sum() or 0)
    n_turned = int((usable["orientation"].fill_null(1) != 1).sum())
    n_distinct = usable["sha256"].n_unique()
    facts = [
        ("Distinct pictures", f"{n_distinct:,} of {usable.height:,}"),
        ("Formats", ", ".join(f"{name} {n:,}" for name, n in formats.iter_rows())),
        ("Shorter side", _range(short)),
        ("Longer side", _range(long)),
        ("Animated", f"{n_animated:,}, read at their first frame" if n_animated else ""),
        ("Turned by EXIF", f"{n_turned:,}, read as stored" if n_turned else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _range(sides: pl.Series) -> str:
    low, middle, high = (int(number) for number in np.quantile(sides.to_numpy(), [0, 0.5, 1]))
    return f"{low:,} px" if low == high else f"{low:,} to {high:,} px, median {middle:,}"


def tokens_table(reports: Sequence[tuple[str, pl.DataFrame]], limits: Mapping[str, int | None]) -> Table:
    """How long the texts of each arm's views are.

    reports  arms, and their token_report
    limits   encoder -> the most tokens that it reads; None where weights.json has none
    """
    rows = [
        [
            arms,
            row["view"],
            count(row["n_distinct"]),
            *(count(round(row[name])) for name in ("min_tokens", "median_tokens", "max_tokens")),
            *(_of_items(row[name], row["n_items"]) for name in ("n_truncated", "n_chunked")),
        ]
        for arms, report in reports
        for row in report.iter_rows(named=True)
    ]
    known = [f"{name} reads at most {n:,} tokens" for name, n in limits.items() if n is not None]
    reads = [f"{'; '.join(known)}."] if known else []
    heading = ["Arm", "View", "Distinct texts", "Shortest", "Median", "Longest", "Cut off", "Read in slices"]
    return Table("Texts", heading, rows, labels=2, notes=[LENGTHS, *reads])


def _of_items(n: int, n_items: int) -> Value:
    return Value(f"{n:,} ({share(n, n_items)})" if n else "0", n, "number odd" if n else "number")


def missing_table(accounts: Sequence[tuple[str, pl.DataFrame]], n_items: int) -> Table:
    """What items lack, and what stands in its place; what none lacks is left out.

    accounts  arms, and their fallbacks
    """
    what = {"cover image": "picture", "every view": "all texts"}
    rows = [
        [
            arms,
            what.get(row["missing"], row["missing"]),
            count(row["n_items"]),
            Value(share(row["n_items"], n_items), row["n_items"], "number"),
            REPLACED_BY[row["policy"]],
        ]
        for arms, account in accounts
        for row in account.sort(~pl.col("missing").is_in(list(what)), "missing").iter_rows(named=True)
        if row["n_items"]
    ]
    heading = ["Arm", "Missing", "Items", "Share", "In its place"]
    return Table("What is missing, and what stands in its place", heading, rows, labels=2)


def cleaning_table(accounts: Sequence[tuple[str, pl.DataFrame]]) -> Table:
    """What reading and cleaning did to the fields; steps without any effect are left out.

    accounts  prompt set, and the table cleaning of one of its views
    """
    frames = [frame.with_columns(prompts=pl.lit(prompts)) for prompts, frame in accounts]
    every = pl.concat(frames).unique(["prompts", "view", "field", "order"], maintain_order=True)
    did = every.filter((pl.col("n_changed") > 0) | (pl.col("n_emptied") > 0))
    rows = [
        [
            row["prompts"],
            row["field"] if row["field"] == row["view"] else f"{row['field']} in {row['view']}",
            CLEANING[row["step"]],
            count(row["n_changed"]),
            count(row["n_emptied"]),
        ]
        for row in did.sort("prompts", "view", "field", "order").iter_rows(named=True)
    ]
    n_idle = every["step"].n_unique() - did["step"].n_unique()
    heading = ["Prompts", "Field", "Step", "Changed", "Left empty"]
    idle = [f"{n_idle} other steps changed nothing."] if n_idle > 1 else ["One other step changed nothing."] * n_idle
    return Table("How values were read and cleaned", heading, rows, labels=2, notes=idle)
