"""Show the prompts of a dataset's first items, with their lengths in tokens.

In:   items; the weights.json of the arms' text encoders, as far as they are prepared
Out:  lines on standard output

Tokens are counted by the text encoders of the run's arms that read the prompt set; if none does, by those of all arms.
Only their tokenizers are loaded, no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from cliper import files, log
from cliper.config import MadeFeatures, decides
from cliper.features.encoders import loading
from cliper.features.prompts.templates import render_items
from cliper.layout import Layout


def run(layout: Layout, *, rows: int, dataset: str | None, prompts: str | None, view: str | None) -> None:
    """Print the prompts of a dataset's first items; those of the run's arms, or of one set, or one view of it."""
    config = layout.config
    dataset = dataset or config.run.datasets[0]
    items = files.read_table(layout.path("items", dataset=dataset), "items").head(rows)
    made = [f for arm in config.run.arms if isinstance(f := config.features(dataset, arm), MadeFeatures)]
    counters = {encoder: load_counter(layout, encoder) for encoder in dict.fromkeys(each.text for each in made)}
    for name in [prompts] if prompts else dict.fromkeys(each.prompts for each in made):
        views = config.prompt_set(name)
        if view:
            config.view(name, view)
        rendered = pl.concat([render_items(items, views, each) for each in ([view] if view else views)])
        readers = [each.text for each in made if each.prompts == name] or list(counters)
        texts = rendered["text"].to_list()
        n_tokens = {encoder: counters[encoder](texts) for encoder in dict.fromkeys(readers)}
        log.show(shown(name, items, rendered, {key: n for key, n in n_tokens.items() if n}))


def load_counter(layout: Layout, encoder: str) -> Callable[[list[str]], list[int]]:
    """Return a counter of texts' tokens; if the encoder's weights are not prepared, it counts none and says why."""
    path = layout.path("weights", encoder=encoder)
    if not path.exists():
        advice = f"{path} is missing. Run: python -m cliper weights --encoder {encoder}"
        log.warn(f"tokens of {encoder} are not counted: {advice}")
        return lambda texts: []
    return loading.load_counter(decides.of_weights(layout.config, encoder=encoder).encoder, path, name=encoder)


def shown(prompts: str, items: pl.DataFrame, rendered: pl.DataFrame, n_tokens: dict[str, list[int]]) -> Iterator[str]:
    """Rendered prompts as lines, item by item.

    rendered  item, view, text, is_missing
    n_tokens  encoder -> the lengths of these texts
    """
    for item, asin in items.select("item", "asin").iter_rows():
        yield f"{prompts}, item {item} ({asin or 'without an asin'})"
        for row in rendered.with_row_index().filter(item=item).iter_rows(named=True):
            counted = ", ".join(f"{encoder} {counts[row['index']]}" for encoder, counts in n_tokens.items())
            tokens = f" [{counted} tokens]" if counted else ""
            yield f"  {row['view']}{tokens}{' (missing)' if row['is_missing'] else ''}: {row['text']}"
