"""Weigh and fuse an item's views into one text feature (paper section 3, equations 2 and 3).

In:   image_embeddings, and text_embeddings of every view of the arm's prompt set
Out:  features: image and text feature of every item, with the flags of filled rows;
      view_weights: similarity to the image and weight of every view of every item

Departs from the paper: an item without an image of its own gets uniform weights, since its similarities would
be those of the mean image.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cliper import files, log
from cliper.config import Arm, Config, Encoder
from cliper.errors import FeatureError
from cliper.layout import locate

Vectors = NDArray[np.float32]


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


def weigh(text: Vectors, image: Vectors, is_filled: NDArray[np.bool_], arm: Arm) -> tuple[Vectors | None, Vectors]:
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


def read_views(config: Config, dataset: str, arm: Arm) -> tuple[list[str], Vectors, NDArray[np.bool_]]:
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
    lacks_all: NDArray[np.bool_] = np.all([table["is_missing"].to_numpy() for table in tables], axis=0)
    return views, text, lacks_all


def require_finite(what: str, vectors: Vectors) -> None:
    """Raise FeatureError naming the first item whose vector holds NaN or infinity."""
    broken = ~np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    if broken.any():
        raise FeatureError(f"{what}: item {broken.argmax()} has values that are not finite; encode it again")


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


def run(config: Config, *, dataset: str, arm: str) -> None:
    """Read an arm's embeddings, fuse them, write features and weights."""
    began, settings = time.monotonic(), config.arm(arm)
    image_path = locate(config.root, "image_embeddings", dataset=dataset, encoder=str(settings.image))
    images = files.read_table(image_path, "image_embeddings")
    views, text, text_is_filled = read_views(config, dataset, settings)
    image, image_is_filled = images["embedding"].to_numpy(), images["is_fallback"].to_numpy()
    if len(image) != len(text):
        raise FeatureError(f"{image_path} has {len(image)} items, the views have {len(text)}; encode again")
    require_finite(f"image embeddings of {dataset}", image)
    require_finite(f"text embeddings of {dataset}", text)
    similarities, weights = weigh(text, image, image_is_filled, settings)
    features = pl.DataFrame(
        {
            "item": images["item"],
            "image": image,
            "text": fuse(text, weights, settings.fusion),
            "image_is_filled": image_is_filled,
            "text_is_filled": text_is_filled,
        }
    )
    note = {"encoders": encoders(config, settings), "fusion": settings.fusion, "temperature": settings.temperature}
    files.write_table(locate(config.root, "features", dataset=dataset, arm=arm), "features", features, metadata=note)
    weights_path = locate(config.root, "view_weights", dataset=dataset, arm=arm)
    files.write_table(weights_path, "view_weights", long_weights(views, similarities, weights), metadata=note)
    means = ", ".join(f"{view} {mean:.3f}" for view, mean in zip(views, weights.mean(axis=0), strict=True))
    log.account(
        f"{dataset}, {arm}: {len(image):,} items, {int(image_is_filled.sum())} without an image, "
        f"{int(text_is_filled.sum())} without a text; mean weights {means}; {time.monotonic() - began:.1f} s"
    )


def encoders(config: Config, arm: Arm) -> dict[str, str]:
    """Kind of the arm's two encoders, for the record."""

    def kind(name: str | None) -> str:
        encoder: Encoder = config.encoder(str(name))
        return f"{name} ({encoder.kind})"

    return {"image": kind(arm.image), "text": kind(arm.text)}
