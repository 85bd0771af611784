"""What the views of a few items say, word by word, and how they were weighed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import polars as pl

from cliper import files
from cliper.config import MadeFeatures, decides
from cliper.errors import FeatureError
from cliper.features.embeddings.ranges import read_ranges
from cliper.features.encoders import loading
from cliper.features.exploring.reading import rows_of
from cliper.features.exploring.words import count_words
from cliper.layout import At
from cliper.media import line

ENCODED = ["item", "view", "is_missing", "n_tokens", "n_chunks", "truncated"]
Row = dict[str, Any]


def gather(
    job: decides.Explore, at: At, arms: Mapping[str, MadeFeatures], items: Collection[int]
) -> dict[str, dict[int, list[Row]]]:
    """The views of items in each arm, in the order in which they are fused: arm -> item -> a row a view.

    Raises FeatureError if an encoder counts other tokens than it encoded.
    """
    counters = {
        name: loading.load_counter(chosen, at("weights", encoder=name), name=name)
        for name, chosen in job.encoders.items()
    }
    texts, found = dict[tuple[str, str, str], dict[int, Row]](), dict[str, dict[int, list[Row]]]()
    for arm, made in arms.items():
        table = files.read_table(at("view_weights", arm=arm), "view_weights").filter(pl.col("item").is_in(list(items)))
        weights = {(row["item"], row["view"]): _weighed(row) for row in table.iter_rows(named=True)}
        keys = {view: (made.text, made.prompts, view) for view in made.views}
        for view, key in keys.items():
            if key not in texts:
                texts[key] = _read_texts(at, made, view, job.ranges, items, counters[made.text])
        found[arm] = {item: [weights[item, view] | texts[key][item] for view, key in keys.items()] for item in items}
    return found


def read_encoded(at: At, made: MadeFeatures, view: str, n_ranges: int) -> pl.DataFrame:
    """What is noted of the encoded texts of a view, a row an item: ENCODED."""
    paths = at.ranges("text_embeddings", n_ranges, encoder=made.text, prompts=made.prompts, view=view)
    return read_ranges(paths, "text_embeddings", columns=ENCODED)


def _weighed(row: Row) -> Row:
    similarity = row["similarity"]
    return {
        "view": row["view"],
        "similarity": None if similarity is None else round(similarity, 4),
        "weight": round(row["weight"], 4),
        "rank": row["rank"],
    }


def _read_texts(
    at: At,
    made: MadeFeatures,
    view: str,
    n_ranges: int,
    items: Collection[int],
    count: Callable[[list[str]], list[int]],
) -> dict[int, Row]:
    """Of each item the words of a view and their tokens, and how many of them the encoder read.

    Of a text in slices of which one was cut, it read at least the words that would fit without slices.
    """
    names = {"encoder": made.text, "prompts": made.prompts, "view": view}
    path = at("text_embeddings", range=0, ranges=n_ranges, **names)
    context = files.read_metadata(path, "text_embeddings")["context"]
    prompts = rows_of(at("prompts", **names), "prompts", items).select("item", "text")
    rows = read_encoded(at, made, view, n_ranges).join(prompts, on="item", maintain_order="right")
    found = {}
    for row, counted in zip(
        rows.iter_rows(named=True), count_words(rows["text"].to_list(), count, context=context), strict=True
    ):
        is_cut = row["truncated"] if row["n_chunks"] > 1 else counted.n_tokens > context
        if (counted.n_tokens, is_cut) != (row["n_tokens"], row["truncated"]):
            raise FeatureError(
                f"{path.parent}: item {row['item']} has {row['n_tokens']} tokens, but {made.text} counts "
                f"{counted.n_tokens} in its prompt; encode it again"
            )
        found[row["item"]] = {
            **{name: row[name] for name in ("is_missing", "n_tokens", "n_chunks", "truncated")},
            "words": [[line(word), n] for word, n in counted.words],
            "n_words": counted.n_words,
            "n_read": counted.n_fitting if row["truncated"] else counted.n_words,
        }
    return found
