"""Weigh and fuse an item's views into one text feature (paper section 3, equations 2 and 3), or take given features.

In:   image_embeddings, and text_embeddings of every view of the arm's prompt set;
      where the dataset comes with features for the arm: those files, and items
Out:  features: image and text feature of every item, with the flags of filled rows;
      view_weights: similarity to the image and weight of every view of every item; no row for given features

Departs from the paper: an item without an image of its own gets uniform weights, since its similarities would
be those of the mean image. Given features are not fused, whatever the arm says; their rows of zeros are flagged as
filled, and other filled rows cannot be told from real ones.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cliper import files, log
from cliper.config import Arm, Config, Encoder, GivenFeatures
from cliper.errors import DataError, FeatureError
from cliper.layout import locate

Vectors = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Fused(NamedTuple):
    """What the stage writes."""

    item: NDArray[np.int32]  # (I,)
    image: Vectors  # (I, D)
    text: Vectors  # (I, D')
    image_is_filled: Bools  # (I,)
    text_is_filled: Bools  # (I,)
    view_weights: pl.DataFrame
    note: dict[str, Any]  # how it was made


def cosine_similarities(text: Vectors, image: Vectors) -> Vectors:
    """Cosine of each view with the item's image (the paper's sim, below equation 2).

    text      (I, V, D)
    image     (I, D)
    returns   (I, V); 0 where one of the two is a zero vector
    """
    floor = 1e-8  # that of torch's cosine_similarity, which the released code uses
    lengths = np.maximum(np.linalg.norm(text, axis=2) * np.linalg.norm(image, axis=1)[:, None], floor)
    products: Vectors = np.einsum("ivd,id->iv", text, image, optimize=True)
    similarities: Vectors = products / lengths
    return similarities


def similarity_weights(similarities: Vectors, *, temperature: float) -> Vectors:
    """Softmax of an item's similarities over its views (equation 2).

    similarities  (I, V)
    temperature   > 0; small values favour the closest view
    returns       (I, V), each row sums to 1
    """
    scaled = (similarities - similarities.max(axis=1, keepdims=True)) / np.float32(temperature)
    powers = np.exp(scaled)
    weights: Vectors = powers / powers.sum(axis=1, keepdims=True)
    return weights


def fuse_sum(text: Vectors) -> Vectors:
    """Sum of an item's views (equation above 3): (I, V, D) -> (I, D)."""
    total: Vectors = text.sum(axis=1)
    return total


def fuse_concat(text: Vectors) -> Vectors:
    """An item's views one behind the other (equation 3, Concat): (I, V, D) -> (I, V * D)."""
    return text.reshape(len(text), -1)


def fuse_weighted(text: Vectors, weights: Vectors) -> Vectors:
    """Weighted sum of an item's views (equation 3, SA): (I, V, D), (I, V) -> (I, D)."""
    mixed: Vectors = np.einsum("ivd,iv->id", text, weights, optimize=True)
    return mixed


def weigh(text: Vectors, image: Vectors, is_filled: Bools, arm: Arm) -> tuple[Vectors | None, Vectors]:
    """Similarities (where image and text share a space) and weights of the views.

    Weights are uniform unless the arm's fusion is sa, and uniform for items without an image of their own.
    """
    n_items, n_views = text.shape[:2]
    similarities = cosine_similarities(text, image) if arm.image == arm.text else None
    weights = np.full((n_items, n_views), 1 / n_views, dtype=np.float32)
    if similarities is not None and arm.temperature is not None:
        weights[~is_filled] = similarity_weights(similarities[~is_filled], temperature=arm.temperature)
    return similarities, weights


def fuse(text: Vectors, weights: Vectors, fusion: str | None) -> Vectors:
    """Apply the fusion that the arm names."""
    match fusion:
        case "sum":
            return fuse_sum(text)
        case "concat" | "mlp":  # the MLP is learned with the backbone, from the views side by side
            return fuse_concat(text)
    return fuse_weighted(text, weights)


def read_views(config: Config, dataset: str, arm: Arm) -> tuple[list[str], Vectors, Bools]:
    """Views of the arm's prompt set in their order, their embeddings (I, V, D), and which items lack every field.

    Raises FeatureError if the views' tables do not list the same items.
    """
    names = {"dataset": dataset, "encoder": str(arm.text), "prompts": str(arm.prompts)}
    views = list(config.prompt_set(str(arm.prompts)))
    paths = [locate(config.root, "text_embeddings", **names, view=view) for view in views]
    tables = [files.read_table(path, "text_embeddings") for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if not table["item"].equals(tables[0]["item"]):
            raise FeatureError(f"{path} lists other items than {paths[0].name}; encode the views again")
    text = np.stack([table["embedding"].to_numpy() for table in tables], axis=1)
    lacks_all: Bools = np.all([table["is_missing"].to_numpy() for table in tables], axis=0)
    return views, text, lacks_all


def require_finite(what: str, vectors: Vectors, *, mend: str) -> None:
    """Raise FeatureError naming the first item whose vector holds NaN or infinity, and how to mend it."""
    broken = ~np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    if broken.any():
        raise FeatureError(f"{what}: item {broken.argmax()} has values that are not finite; {mend}")


def long_weights(views: list[str], similarities: Vectors | None, weights: Vectors) -> pl.DataFrame:
    """The view_weights table: a row for every item and view."""
    n_items = len(weights)
    similarity = [None] * weights.size if similarities is None else similarities.reshape(-1)
    return pl.DataFrame(
        {
            "item": np.repeat(np.arange(n_items, dtype=np.int32), len(views)),
            "view": views * n_items,
            "similarity": similarity,
            "weight": weights.reshape(-1),
        },
        schema_overrides={"similarity": pl.Float32},
    ).sort("item", "view")


def fuse_views(config: Config, dataset: str, arm: Arm) -> Fused:
    """Weigh and fuse the embeddings of an arm's views. Raises FeatureError if they cannot be used."""
    image_path = locate(config.root, "image_embeddings", dataset=dataset, encoder=str(arm.image))
    images = files.read_table(image_path, "image_embeddings")
    views, text, text_is_filled = read_views(config, dataset, arm)
    image, image_is_filled = images["embedding"].to_numpy(), images["is_fallback"].to_numpy()
    if len(image) != len(text):
        raise FeatureError(f"{image_path} has {len(image)} items, the views have {len(text)}; encode again")
    require_finite(f"image embeddings of {dataset}", image, mend="encode it again")
    require_finite(f"text embeddings of {dataset}", text, mend="encode it again")
    similarities, weights = weigh(text, image, image_is_filled, arm)
    note = {"encoders": encoders(config, arm), "fusion": arm.fusion, "temperature": arm.temperature}
    view_weights = long_weights(views, similarities, weights)
    item, fused = images["item"].to_numpy(), fuse(text, weights, arm.fusion)
    return Fused(item, image, fused, image_is_filled, text_is_filled, view_weights, note)


def encoders(config: Config, arm: Arm) -> dict[str, str]:
    """Kind of the arm's two encoders, for the record."""

    def kind(name: str | None) -> str:
        encoder: Encoder = config.encoder(str(name))
        return f"{name} ({encoder.kind})"

    return {"image": kind(arm.image), "text": kind(arm.text)}


def read_given(path: Path, n_items: int) -> Vectors:
    """Read features as the toolbox MMRec takes them: a matrix written by `numpy.save`, row i for item i.

    returns  (I, D) float32

    Raises FeatureError if the file holds anything else, or a value that float32 does not hold. Pickles are refused,
    not opened. That the rows are in another order than the items cannot be seen.
    """
    how = "write it with numpy.save, a row an item in the order of itemID"
    try:
        stored = np.lib.format.open_memmap(path, mode="r")  # of the formats that numpy reads, the one without pickles
    except (ValueError, EOFError, OSError) as error:
        raise FeatureError(f"{path} is no array of numpy's ({error}); {how}") from error
    if stored.ndim != 2 or not stored.shape[1] or stored.dtype.kind not in "fiu":
        raise FeatureError(f"{path} has shape {stored.shape} of {stored.dtype}, not (items, width) of numbers; {how}")
    if len(stored) != n_items:
        raise FeatureError(f"{path} has {len(stored)} rows, but there are {n_items} items; {how}")
    with np.errstate(over="ignore"):  # what becomes infinite is told next
        vectors: Vectors = np.array(stored, dtype=np.float32)
    require_finite(str(path), vectors, mend="mend the file")
    return vectors


def are_zero(vectors: Vectors) -> Bools:
    """Which rows (I, D) hold zeros alone: (I,)."""
    found: Bools = np.all(vectors == 0, axis=1)
    return found


def take_given(config: Config, dataset: str, given: GivenFeatures) -> Fused:
    """Take the features that come with a dataset. Raises FeatureError if they cannot be used."""
    items = files.read_table(locate(config.root, "items", dataset=dataset), "items", columns=["item"])
    paths = {name: locate(config.root, "raw", dataset=dataset, file=name) for name in (given.image, given.text)}
    for name, path in paths.items():
        if not path.is_file():
            raise DataError(f"{path} is missing. Run: python -m cliper download --dataset {dataset} --file {name}")
    image, text = (read_given(paths[name], items.height) for name in (given.image, given.text))
    no_weights = long_weights([], None, np.empty((items.height, 0), dtype=np.float32))
    note = {"given": {"image": given.image, "text": given.text}}
    return Fused(items["item"].to_numpy(), image, text, are_zero(image), are_zero(text), no_weights, note)


def run(config: Config, *, dataset: str, arm: str) -> None:
    """Read an arm's embeddings or the given features, write features and weights."""
    began, given = time.monotonic(), config.dataset(dataset).given(arm)
    fused = take_given(config, dataset, given) if given else fuse_views(config, dataset, config.arm(arm))
    features = pl.DataFrame(
        {
            "item": fused.item,
            "image": fused.image,
            "text": fused.text,
            "image_is_filled": fused.image_is_filled,
            "text_is_filled": fused.text_is_filled,
        }
    )
    for kind, table in (("features", features), ("view_weights", fused.view_weights)):
        files.write_table(locate(config.root, kind, dataset=dataset, arm=arm), kind, table, metadata=fused.note)
    log.account(
        f"{dataset}, {arm}: {features.height:,} items, {int(fused.image_is_filled.sum())} without an image, "
        f"{int(fused.text_is_filled.sum())} without a text; {how_made(fused)}; {time.monotonic() - began:.1f} s"
    )


def how_made(fused: Fused) -> str:
    """The account's words on where the features come from."""
    if fused.view_weights.is_empty():
        return "as given"
    means = fused.view_weights.group_by("view", maintain_order=True).agg(pl.col("weight").mean())
    return "mean weights " + ", ".join(f"{view} {mean:.3f}" for view, mean in means.iter_rows())
