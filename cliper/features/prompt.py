"""Write one view's prompt of every item (paper section 3, "Semantic View Extraction"; section 4, "Prompt Design").

In:   items
Out:  prompts: item, view, text, is_missing;
      cleaning: how many values each step of cleaning changed and emptied

A view is a sentence about one or more fields, or other views of its set joined by one space (the paper's "global"
view). With --preview N nothing is written: it prints the prompts of the first N items, with their lengths in tokens.
Then --dataset, --prompts and --view are optional. By default it shows all views of the prompt sets that the run's arms
use, for the run's first dataset.

Departs from the paper: nothing. The paper does not say how fields are cleaned, how categories are written, and what
replaces a missing field. The prompt set as_released has the strings of the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import polars as pl

from cliper import files, log
from cliper.config import decides
from cliper.config.features import FieldView, View
from cliper.features.prompts.cleaning import Value, field_text, steps_of, write
from cliper.features.prompts.templates import render_items
from cliper.layout import At


def parts_of(views: Mapping[str, View], view: str) -> Iterator[tuple[str, FieldView]]:
    """The views of fields in a view, by name: the view itself, or those that it joins."""
    template = views[view]
    if isinstance(template, FieldView):
        yield view, template
    else:
        for part in template.views:
            yield from parts_of(views, part)


def count_cleaning(items: pl.DataFrame, views: Mapping[str, View], view: str) -> pl.DataFrame:
    """The cleaning table of one view: what each step did to the values of each field."""
    counts = [
        pl.DataFrame(count_steps(items[field].to_list(), template)).with_columns(view=pl.lit(part), field=pl.lit(field))
        for part, template in dict(parts_of(views, view)).items()
        for field in template.fields
    ]
    return pl.concat(counts).sort("view", "field", "order")


def count_steps(values: list[Value | None], template: FieldView) -> list[dict[str, int | str]]:
    """Count the values of one field that each step changed, and those that it emptied.

    The first step, "reading", counts the values that the metadata lacks; the last, "min_length", those that are too
    short. So n_emptied of all steps adds up to the field's missing values.
    """
    names = ("reading", *template.clean, "min_length")
    n_changed, n_emptied = [0] * len(names), [0] * len(names)
    for value in values:
        texts = [*(write(state, template) for state in steps_of(value or "", template)), field_text(value, template)]
        n_emptied[0] += not texts[0]
        for order, (before, after) in enumerate(pairwise(texts), start=1):
            n_changed[order] += after not in ("", before)
            n_emptied[order] += before != "" and after == ""
    return [
        {"order": order, "step": step, "n_changed": n_changed[order], "n_emptied": n_emptied[order]}
        for order, step in enumerate(names)
    ]


def describe_cleaning(cleaning: pl.DataFrame) -> str:
    """The account's words on cleaning: each field with the steps that changed or emptied values."""
    words: dict[str, list[str]] = {}
    for field, step, *counts in cleaning.select("field", "step", "n_changed", "n_emptied").iter_rows():
        did = [f"{step} {verb} {n:,}" for verb, n in zip(("changed", "emptied"), counts, strict=True) if n]
        words.setdefault(field, []).extend(did)
    return "; ".join(f"{field}: {', '.join(did)}" for field, did in words.items() if did) or "nothing to clean"


def run(job: decides.Prompt, at: At) -> None:
    """Render a view of all items; write the tables prompts and cleaning."""
    dataset, prompts, view = (at.names[name] for name in ("dataset", "prompts", "view"))
    items = files.read_table(at("items"), "items")
    log.note(f"writes the prompts of {items.height:,} items")
    table, cleaning = render_items(items, job.views, view), count_cleaning(items, job.views, view)
    for kind, rows in (("prompts", table), ("cleaning", cleaning)):
        files.write_table(at(kind), kind, rows)
    log.account(
        f"{dataset}, {prompts}, {view}: {table.height:,} items, {table['text'].n_unique():,} distinct texts, "
        f"{table['is_missing'].sum():,} missing; {describe_cleaning(cleaning)}"
    )
