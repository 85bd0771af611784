"""Prompts from templates: one view of one item, or of all.

`prompt` writes them; `prompt --preview` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cliper.config.features import JoinedView, View
from cliper.features.prompts.cleaning import Value, field_text

BLANK = "___"


def render(views: Mapping[str, View], view: str, item: Mapping[str, Value | None]) -> tuple[str, bool]:
    """Render one view of one item.

    views      the prompt set
    item       field -> value as in the items table
    returns    the prompt, and whether every field behind it is missing

    >>> from cliper.config.features import as_view
    >>> brand = {"fields": ("brand",), "prompt": "By ___.", "missing": "By Missing."}
    >>> cleaning = {"clean": (), "categories": "all_names", "min_length": 1}
    >>> every = {"views": ("brand",), "prompt": "It: ___"}
    >>> render({"brand": as_view(brand | cleaning), "all": as_view(every)}, "all", {"brand": None})
    ('It: By Missing.', True)
    """
    template = views[view]
    if isinstance(template, JoinedView):
        parts = [render(views, part, item) for part in template.views]
        return template.prompt.replace(BLANK, " ".join(text for text, _ in parts)), all(m for _, m in parts)
    value = " ".join(filter(None, (field_text(item[field], template) for field in template.fields)))
    if not value:
        return template.missing, True
    return template.prompt.replace(BLANK, value), False


def render_items(items: pl.DataFrame, views: Mapping[str, View], view: str) -> pl.DataFrame:
    """The prompts table of one view: a row for every item."""
    rendered = [(row["item"], view, *render(views, view, row)) for row in items.iter_rows(named=True)]
    return pl.DataFrame(rendered, schema=["item", "view", "text", "is_missing"], orient="row")
