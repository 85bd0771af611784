"""Weigh and fuse an item's views into one text feature (paper section 3, equations 2 and 3), or take given features.

In:   image_embeddings, and text_embeddings of every view of the arm;
      default_image, if the arm asks for it;
      if the dataset comes with features for the arm: those files, and items (image features alone replace
      image_embeddings)
Out:  features: image and text feature of every item, with the flags of filled rows;
      view_weights: similarity to the image, weight and rank of every view of every item; no row for given features;
      fallbacks: how many items lack an image or a view's fields, and what replaces it;
      token_report: how long each view's texts are, and how many were cut or sliced; no row for given features

missing_field says what happens to a view whose fields are missing: it counts with its sentence (sentence), or has
weight 0 (mask). missing_image says what replaces a missing image:
mean           the mean embedding of the other items' images, over all ranges; the views get uniform weights
zero           a vector of zeros; the views get uniform weights
default_image  the embedding of cliper/data/default_image.png; the views are weighed by it too (as released)
drop_item      as mean; the item keeps its number, but backbones neither learn from it nor recommend it

The arm's control, if it has one, is applied here (see `fusion.controls`); fallbacks still counts what the data lack.

Departs from the paper: the uniform weights, since similarities to the mean image are not the item's own. Given features
are used as they are, whatever fusion the arm names. Their rows of zeros are flagged as filled; other filled rows among
them look like real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cliper import files, log
from cliper.arrays import Bools, Int16s, Int32s, Vectors
from cliper.config import GivenFeatures, MadeFeatures, decides
from cliper.errors import DataError, FeatureError
from cliper.features.embeddings.ranges import TOKENS, read_ranges, token_report
from cliper.features.fusion import equations
from cliper.features.fusion.cnn2014 import read_image_features
from cliper.features.fusion.controls import control_features, control_images
from cliper.features.fusion.given import are_zero, read_given, require_finite
from cliper.features.fusion.rows import FUSIONS
from cliper.layout import At

SETTINGS = ("fusion", "temperature", "vectors", "missing_field", "missing_image", "control")  # noted in the files


class Weighed(NamedTuple):
    """Similarity, weight and rank of each view of each item, all (I, V)."""

    similarity: Vectors | None  # None where image and text lie in different spaces
    weight: Vectors
    rank: Int16s  # 0 for a view that is not ranked


class Views(NamedTuple):
    """The embeddings of an arm's views."""

    names: tuple[str, ...]
    text: Vectors  # (I, V, D)
    is_missing: Bools  # (I, V) every field of the view is
    tokens: pl.DataFrame  # their token report


class Fused(NamedTuple):
    """What the stage writes."""

    item: Int32s  # (I,)
    image: Vectors  # (I, D)
    text: Vectors  # (I, D')
    image_is_filled: Bools  # (I,)
    text_is_filled: Bools  # (I,)
    view_weights: pl.DataFrame
    fallbacks: pl.DataFrame
    tokens: pl.DataFrame
    note: dict[str, Any]  # how it was made


def weigh(views: Views, image: Vectors, image_is_filled: Bools, made: MadeFeatures) -> Weighed:
    """Weigh the views as the arm says.

    image            (I, D)
    image_is_filled  (I,) items without an image of their own

    Raises FeatureError if the fusion compares texts and images whose widths differ.
    """
    fusion, widths = FUSIONS[made.fusion], (views.text.shape[2], image.shape[1])
    if fusion.compares_image and widths[0] != widths[1]:
        raise FeatureError(
            f"encoder {made.text} gives texts of width {widths[0]} and images of width {widths[1]}, "
            f"which {made.fusion} cannot compare; choose another fusion for this arm"
        )
    counts = ~views.is_missing if made.missing_field == "mask" else np.ones_like(views.is_missing)
    if fusion.n_views is not None:
        counts[:, fusion.n_views :] = False
    weights, ranks = equations.uniform_weights(counts), np.zeros(counts.shape, dtype=np.int16)
    if made.image != made.text or widths[0] != widths[1]:
        return Weighed(None, weights, ranks)
    similarities = equations.cosine_similarities(views.text, image)
    ranks = equations.rank_views(similarities, counts & ~image_is_filled[:, None])
    by = np.ones_like(image_is_filled) if made.missing_image == "default_image" else ~image_is_filled
    weights[by] = equations.WEIGHTS[fusion.weigh](similarities[by], counts[by], made.temperature)
    return Weighed(similarities, weights, ranks)


def fill_images(present: Vectors, is_missing: Bools, default: Vectors | None) -> Vectors:
    """Fill in missing images.

    present     (P, D) embeddings of the items that have an image
    is_missing  (I,)   the other items
    default     (D,)   fills their rows; without it, the mean of `present` does
    returns     (I, D)

    Raises FeatureError if no item has an image.
    """
    if not len(present):
        raise FeatureError("no item has an image that could be encoded; see status in the table images of crawl")
    filled = np.empty((len(is_missing), present.shape[1]), np.float32)
    filled[~is_missing] = present
    filled[is_missing] = present.mean(axis=0, dtype=np.float64) if default is None else default
    return filled


def read_views(at: At, made: MadeFeatures, n_ranges: int) -> Views:
    """Read the embeddings of an arm's views. Raises FeatureError if their tables do not list the same items."""
    names = {"encoder": made.text, "prompts": made.prompts}
    paths = [at.ranges("text_embeddings", n_ranges, view=view, **names) for view in made.views]
    tables = [read_ranges(each, "text_embeddings") for each in paths]
    for view, table in zip(made.views, tables, strict=True):
        if not table["item"].equals(tables[0]["item"]):
            raise FeatureError(
                f"{at.names['dataset']}: view {view} lists other items than {made.views[0]}; encode the views again"
            )
    text, is_missing = (
        np.stack([table[column].to_numpy() for table in tables], axis=1) for column in ("embedding", "is_missing")
    )
    return Views(made.views, text, is_missing, token_report([table.select(TOKENS) for table in tables]))


def read_images(at: At, made: MadeFeatures, n_ranges: int) -> tuple[Int32s, Vectors, Bools]:
    """Items (I,), embeddings of their images (I, D), missing ones filled in, and which were missing (I,)."""
    images = read_ranges(at.ranges("image_embeddings", n_ranges, encoder=made.image), "image_embeddings")
    is_missing = (images["status"] != "ok").to_numpy()
    present: Vectors = images.filter(status="ok")["embedding"].to_numpy()
    default = None
    if made.missing_image == "zero":
        default = np.zeros(present.shape[1:], np.float32)
    if made.missing_image == "default_image":
        path = at("default_image", encoder=made.image)
        default = files.read_table(path, "default_image")["embedding"].to_numpy()[0]
    return images["item"].to_numpy(), fill_images(present, is_missing, default), is_missing


def read_image_file(at: At, made: MadeFeatures, name: str) -> tuple[Int32s, Vectors, Bools]:
    """As `read_images`, from the features by asin of Amazon-2014. Raises FeatureError if no item has any."""
    items = files.read_table(at("items"), "items", columns=["item", "asin"])
    rows = {asin: row for row, asin in enumerate(items["asin"].to_list()) if asin}
    path = require_raw(at, name)
    image, is_there = read_image_features(path, rows, items.height)
    if not is_there.any():
        raise FeatureError(f"{path} has no item of {at.names['dataset']}; name the file of its category")
    default = np.zeros(image.shape[1], np.float32) if made.missing_image == "zero" else None
    return items["item"].to_numpy(), fill_images(image[is_there], ~is_there, default), ~is_there


def require_raw(at: At, name: str) -> Path:
    """Path of a raw file. Raises DataError if it is not there."""
    path = at("raw", file=name)
    if not path.is_file():
        dataset = at.names["dataset"]
        raise DataError(f"{path} is missing. Run: python -m cliper download --dataset {dataset} --file {name}")
    return path


def long_weights(names: tuple[str, ...], weighed: Weighed) -> pl.DataFrame:
    """The view_weights table: a row for every item and view."""
    n_items = len(weighed.weight)
    similarity = [None] * weighed.weight.size if weighed.similarity is None else weighed.similarity.reshape(-1)
    return (
        pl.DataFrame(
            {
                "item": np.repeat(np.arange(n_items, dtype=np.int32), len(names)),
                "view": [*names] * n_items,
                "similarity": similarity,
                "weight": weighed.weight.reshape(-1),
                "rank": weighed.rank.reshape(-1),
            },
            schema_overrides={"similarity": pl.Float32},
        )
        .with_columns(rank=pl.when(pl.col("rank") > 0).then("rank"))
        .sort("item", "view")
    )


def count_fallbacks(image_is_filled: Bools, views: Views, made: MadeFeatures) -> pl.DataFrame:
    """The fallbacks table: how many items lack what, and which policy applies to them."""
    field = made.missing_field
    rows = [
        ("cover image", made.missing_image, image_is_filled.sum()),
        ("every view", field, views.is_missing.all(axis=1).sum()),
        *((name, field, n) for name, n in zip(views.names, views.is_missing.sum(axis=0), strict=True)),
    ]
    return pl.DataFrame(rows, schema=["missing", "policy", "n_items"], orient="row").sort("missing")


def fuse_views(at: At, made: MadeFeatures, n_ranges: int, kinds: Mapping[str, str]) -> Fused:
    """Weigh and fuse the embeddings of an arm's views.

    kinds  encoder -> its kind, for the record

    Raises FeatureError if they cannot be used.
    """
    dataset = at.names["dataset"]
    item, image, image_is_filled = (
        read_image_file(at, made, made.given) if made.given else read_images(at, made, n_ranges)
    )
    views = read_views(at, made, n_ranges)
    if len(image) != len(views.text):
        raise FeatureError(f"{dataset} has {len(image)} images, but its views {len(views.text)} rows; encode again")
    log.note(f"fuses {', '.join(views.names)} of {len(image):,} items")
    require_finite(f"image embeddings of {dataset}", image, advice="encode it again")
    require_finite(f"text embeddings of {dataset}", views.text, advice="encode it again")
    if made.vectors == "normalised":
        image, views = equations.normalise(image), views._replace(text=equations.normalise(views.text))
    fallbacks = count_fallbacks(image_is_filled, views, made)
    image, image_is_filled = control_images(made.control, image, image_is_filled)
    weighed = weigh(views, image, image_is_filled, made)
    text = equations.JOINS[FUSIONS[made.fusion].join](views.text, weighed.weight)
    lacks_all: Bools = np.all(views.is_missing, axis=1)
    image, text, text_is_filled = control_features(made.control, image, text, lacks_all)
    named = {"image": made.image, "text": made.text}
    encoders = {what: f"{name} ({kinds[name]})" if name else made.given for what, name in named.items()}
    return Fused(
        item,
        image,
        text,
        image_is_filled,
        text_is_filled,
        long_weights(views.names, weighed),
        fallbacks,
        views.tokens,
        {"encoders": encoders, **{key: getattr(made, key) for key in SETTINGS}},
    )


def take_given(at: At, given: GivenFeatures) -> Fused:
    """Take the features that come with a dataset, image and text. Raises FeatureError if they cannot be used."""
    items = files.read_table(at("items"), "items", columns=["item"])
    image, text = (read_given(require_raw(at, name), items.height) for name in (given.image, given.text))
    log.note(f"takes {given.image} and {given.text} of {items.height:,} items")
    none = np.empty((items.height, 0))
    no_weights = long_weights((), Weighed(None, none.astype(np.float32), none.astype(np.int16)))
    no_image, no_text = are_zero(image), are_zero(text)
    fallbacks = pl.DataFrame(
        [("cover image", "as given", no_image.sum()), ("every view", "as given", no_text.sum())],
        schema=["missing", "policy", "n_items"],
        orient="row",
    )
    note = {"given": {"image": given.image, "text": given.text}}
    no_tokens = token_report([])
    return Fused(items["item"].to_numpy(), image, text, no_image, no_text, no_weights, fallbacks, no_tokens, note)


def run(job: decides.Fuse, at: At) -> None:
    """Read an arm's embeddings or the given features, write features and weights."""
    if isinstance(job.features, GivenFeatures):
        fused = take_given(at, job.features)
    else:
        fused = fuse_views(at, job.features, job.ranges, job.kinds)
    features = pl.DataFrame(
        {
            "item": fused.item,
            "image": fused.image,
            "text": fused.text,
            "image_is_filled": fused.image_is_filled,
            "text_is_filled": fused.text_is_filled,
        }
    )
    tables = {"features": features, "view_weights": fused.view_weights, "fallbacks": fused.fallbacks}
    for kind, table in (tables | {"token_report": fused.tokens}).items():
        files.write_table(at(kind), kind, table, metadata=fused.note)
    log.account(
        f"{at.names['dataset']}, {at.names['arm']}: {features.height:,} items; "
        f"missing {what_is_missing(fused.fallbacks)}; {how_made(fused)}"
    )


def what_is_missing(fallbacks: pl.DataFrame) -> str:
    """The account's words on what is missing and what replaces it."""
    return ", ".join(f"{missing} {n_items:,} ({policy})" for missing, policy, n_items in fallbacks.iter_rows())


def how_made(fused: Fused) -> str:
    """The account's words on where the features come from."""
    if fused.view_weights.is_empty():
        return "as given"
    means = fused.view_weights.group_by("view", maintain_order=True).agg(pl.col("weight").mean())
    return "mean weights " + ", ".join(f"{view} {mean:.3f}" for view, mean in means.iter_rows())
