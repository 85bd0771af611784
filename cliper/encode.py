"""Encode texts or cover images with one encoder.

encode-text   In:  the prompts of one view
              Out: an embedding for each item, its length in tokens, whether it was longer than the encoder reads
encode-image  In:  the images of crawl
              Out: an embedding for each item; without an image it is the mean of the others', and is_fallback says so;
                   default_image: the embedding of cliper/data/default_image.png, for arms that put it in their place

Both read the weights.json of the encoder and note in the file's metadata which weights and libraries made it.
Embeddings are as the model gives them: CLIP's are not normalised, MiniLM's have length 1.

Source: paper, section 3, equation 1. Departs from the released code: texts longer than the context are cut, where
it sums slices of them; missing images get the mean, where it encodes a picture that it does not ship.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.resources import files as package_files
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cliper import encoders, files, log
from cliper.config import Config
from cliper.encoders.base import Encoder, Texts
from cliper.errors import FeatureError
from cliper.imagestore import read_images
from cliper.layout import locate

T = TypeVar("T")
LIBRARIES = ("open_clip_torch", "pillow", "timm", "torch", "torchvision", "transformers")
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on broken images


class Images(NamedTuple):
    """Encoded images, and why others could not be decoded."""

    item: list[int]
    embedding: NDArray[np.float32]  # (n, D)
    broken: dict[int, str]


def text_table(prompts: pl.DataFrame, encoded: Texts) -> pl.DataFrame:
    """Lay embeddings beside the items and views that they are of."""
    return prompts.select("item", "view", "is_missing").with_columns(
        embedding=pl.Series(encoded.embedding),
        n_tokens=pl.Series(encoded.n_tokens),
        n_chunks=pl.lit(1, pl.Int32),
        truncated=pl.Series(encoded.truncated),
    )


def encode_images(images: Iterable[tuple[int, bytes]], encoder: Encoder, *, total: int) -> Images:
    """Encode images in batches, while one thread decodes the next batch.

    images  (item, encoded bytes); total is their number, for the log
    """
    batches = in_thread(in_batches(decode(images, encoder.read_image), encoder.batch_size))
    item, embeddings, broken = list[int](), list[NDArray[np.float32]](), dict[int, str]()
    for batch in log.progress(batches, total=-(-total // encoder.batch_size), what="batches of images"):
        whole = {i: pixels for i, pixels in batch if isinstance(pixels, Tensor)}
        broken |= {i: why for i, why in batch if isinstance(why, str)}
        if whole:
            item += whole
            embeddings.append(encoder.encode_images(list(whole.values())))
    return Images(item, np.concatenate(embeddings or [np.empty((0, 0), np.float32)]), broken)


def decode(images: Iterable[tuple[int, bytes]], read: Callable[[bytes], Tensor]) -> Iterator[tuple[int, Tensor | str]]:
    """Decode one image after the other; one that cannot be decoded becomes the reason."""
    for item, data in images:
        try:
            yield item, read(data)
        except BROKEN as error:
            yield item, f"{type(error).__name__}: {error}"


def in_batches(values: Iterator[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of `size`; the last may be shorter.

    >>> list(in_batches(iter("abcde"), 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    while batch := list(islice(values, size)):
        yield batch


def in_thread(values: Iterator[list[T]]) -> Iterator[list[T]]:
    """The same lists, each made in a thread while the one before is used. An empty list ends the stream."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(lambda: next(values, []))
        while value := coming.result():
            coming = thread.submit(lambda: next(values, []))
            yield value


def fill_missing(
    item: NDArray[np.int32], present: list[int], embedding: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Give items without an embedding the mean of the others'.

    item       (I,)    all items, sorted
    present    (P,)    those with an embedding, sorted
    embedding  (P, D)
    returns    (I, D) embeddings, (I,) whether each is such a mean

    Raises FeatureError if no item has one.
    """
    if not present:
        raise FeatureError("no item has an image to encode; see status in the images table of crawl")
    is_fallback = ~np.isin(item, present)
    filled = np.empty((len(item), embedding.shape[1]), np.float32)
    filled[~is_fallback] = embedding
    filled[is_fallback] = embedding.mean(axis=0, dtype=np.float64)
    return filled, is_fallback


def run_text(config: Config, *, dataset: str, encoder: str, prompts: str, view: str) -> None:
    """Encode one view. Raises DataError if its prompts or the weights are missing."""
    started = time.perf_counter()
    names = {"dataset": dataset, "prompts": prompts, "view": view}
    table = files.read_table(locate(config.root, "prompts", **names), "prompts")
    loaded, note = _load(config, encoder)
    encoded = loaded.encode_texts(table["text"].to_list())
    path = locate(config.root, "text_embeddings", encoder=encoder, **names)
    files.write_table(path, "text_embeddings", text_table(table, encoded), metadata=note)
    n = encoded.n_tokens
    log.account(
        f"{dataset}, {encoder}, {prompts}, {view}: {len(table)} items, {table['text'].n_unique()} distinct texts, "
        f"tokens {n.min()} to {n.max()} (median {np.median(n):g}), {encoded.truncated.sum()} truncated, "
        f"{time.perf_counter() - started:.1f} s"
    )


def run_image(config: Config, *, dataset: str, encoder: str) -> None:
    """Encode the images of a dataset. Raises DataError if they or the weights are missing, FeatureError without any."""
    started = time.perf_counter()
    manifest = locate(config.root, "images", dataset=dataset)
    rows = files.read_table(manifest, "images", columns=["item", "status"])
    loaded, note = _load(config, encoder)
    encoded = encode_images(read_images(manifest), loaded, total=int((rows["status"] == "ok").sum()))
    for item, why in islice(encoded.broken.items(), 1):
        log.warn(f"{len(encoded.broken)} images cannot be decoded and get the mean (first: item {item}, {why})")
    embedding, is_fallback = fill_missing(rows["item"].to_numpy(), encoded.item, encoded.embedding)
    picture = package_files("cliper").joinpath("data/default_image.png").read_bytes()
    default = pl.DataFrame({"item": [-1], "embedding": loaded.encode_images([loaded.read_image(picture)])})
    table = rows.select("item").with_columns(embedding=pl.Series(embedding), is_fallback=pl.Series(is_fallback))
    for kind, written in (("image_embeddings", table), ("default_image", default)):
        files.write_table(locate(config.root, kind, dataset=dataset, encoder=encoder), kind, written, metadata=note)
    seconds = time.perf_counter() - started
    log.account(f"{dataset}, {encoder}: {len(rows)} items, {is_fallback.sum()} without an image, {seconds:.1f} s")


def _load(config: Config, encoder: str) -> tuple[Encoder, dict[str, Any]]:
    """The encoder, and what is noted in the files it makes."""
    path = locate(config.root, "weights", encoder=encoder)
    loaded, weights = encoders.load(config.encoder(encoder), path, config.encode)
    return loaded, {
        "encoder": encoder,
        "weights": weights.id,
        "architecture": weights.architecture,
        "context": weights.context,
        "precision": "fp32",
        "versions": {library: version(library) for library in LIBRARIES},
    }
