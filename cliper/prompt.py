"""Write one view's prompt of every item (paper section 3, "Semantic View Extraction"; section 4, "Prompt Design").

In:   items
Out:  prompt/<dataset>/<prompts>/<view>.parquet: item, view, text, is_missing

A view is a sentence about one or more fields, or other views of its set joined by one space (the paper's
"global" view). Departs from the paper: nothing it states; it leaves open how categories are written (here
the distinct names of all paths in their order, joined by ", ") and what stands for a missing field (here the
set's own sentence with "Missing", as in the released code).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import polars as pl

from cliper import files, log
from cliper.config import Config, View
from cliper.errors import ConfigError, unknown
from cliper.layout import locate

BLANK = "___"


def field_text(field: str, value: str | list[list[str]] | None) -> str:
    """One metadata field as text on one line; empty when it is missing.

    >>> field_text("categories", [["Baby", "Strollers"], ["Baby", "Travel Systems"]])
    'Baby, Strollers, Travel Systems'
    """
    if isinstance(value, list):
        value = ", ".join(dict.fromkeys(name.strip() for path in value for name in path if name.strip()))
    return " ".join((value or "").split())


def render(views: Mapping[str, View], view: str, item: Mapping[str, str]) -> tuple[str, bool]:
    """Render one view of one item.

    views      the prompt set
    item       field -> text, empty when missing
    returns    the prompt, and whether every field behind it is missing

    >>> views = {"brand": View("By ___.", "By Missing.", ("brand",)), "all": View("It: ___", views=("brand",))}
    >>> render(views, "all", {"brand": ""})
    ('It: By Missing.', True)
    """
    template = views[view]
    if template.views is not None:
        parts = [render(views, part, item) for part in template.views]
        return template.prompt.replace(BLANK, " ".join(text for text, _ in parts)), all(m for _, m in parts)
    value = " ".join(filter(None, (item[field] for field in template.fields or ())))
    if not value:
        return template.missing or "", True
    return template.prompt.replace(BLANK, value), False


def render_items(items: pl.DataFrame, views: Mapping[str, View], view: str) -> pl.DataFrame:
    """The prompts table of one view: a row for every item."""
    fields = ("title", "brand", "categories", "description")
    rendered = [
        (row["item"], view, *render(views, view, {field: field_text(field, row[field]) for field in fields}))
        for row in items.iter_rows(named=True)
    ]
    return pl.DataFrame(rendered, schema=["item", "view", "text", "is_missing"], orient="row")


def run(config: Config, *, dataset: str, prompts: str, view: str) -> None:
    """Render a view of all items and write its table."""
    began, views = time.monotonic(), config.prompt_set(prompts)
    if view not in views:
        raise ConfigError(unknown(f"view of {prompts}", view, views))
    items = files.read_table(locate(config.root, "items", dataset=dataset), "items")
    table = render_items(items, views, view)
    path = locate(config.root, "prompts", dataset=dataset, prompts=prompts, view=view)
    files.write_table(path, "prompts", table)
    log.account(
        f"{dataset}, {prompts}, {view}: {table.height:,} items, {table['text'].n_unique():,} distinct texts, "
        f"{table['is_missing'].sum():,} missing, {time.monotonic() - began:.1f} s"
    )
