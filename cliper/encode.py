"""Encode texts or cover images with one encoder.

encode-text   In:  the prompts of one view
              Out: an embedding for each item, its length in tokens, in how many slices it was encoded, whether
              something of it was not read; and the view's token report, one row
encode-image  In:  the images of crawl
              Out: an embedding for each item; without an image it is the mean of the others', and is_fallback says so;
                   default_image: the embedding of cliper/data/default_image.png, for arms that put it in their place

Both read the weights.json of the encoder and note in the file's metadata which weights and libraries made it.
Each distinct text and image is encoded once, and only if `encode.store` does not hold its vector from before.
Embeddings are as the model gives them: CLIP's are not normalised, MiniLM's have length 1.

Source: paper, section 3, equation 1. Departs from the released code: texts longer than the context are cut unless
`overflow` says otherwise; missing images get the mean, where it encodes a picture that it does not ship.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from importlib.resources import files as package_files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cliper import encoders, files, log
from cliper.config import Config
from cliper.encoders.base import Encoder, Store, Texts
from cliper.encoders.overflow import find as find_overflow
from cliper.errors import FeatureError
from cliper.imagestore import read_images
from cliper.layout import locate
from cliper.stages import code_id
from cliper.vectorstore import VectorStore

T = TypeVar("T")
LIBRARIES = ("open_clip_torch", "pillow", "timm", "torch", "torchvision", "transformers")
NO_ITEM = -1  # whose image the default one is
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on broken images


class Images(NamedTuple):
    """Encoded images, and why others could not be decoded."""

    row: dict[str, int]  # sha256 of an image -> its row in embedding
    embedding: NDArray[np.float32]  # (n, D)
    broken: dict[str, str]
    n_found: int  # that were kept from before


def text_table(prompts: pl.DataFrame, encoded: Texts) -> pl.DataFrame:
    """Lay embeddings beside the items and views that they are of."""
    return prompts.select("item", "view", "is_missing").with_columns(
        embedding=pl.Series(encoded.embedding),
        n_tokens=pl.Series(encoded.n_tokens),
        n_chunks=pl.Series(encoded.n_chunks),
        truncated=pl.Series(encoded.truncated),
    )


def token_report(view: str, texts: pl.Series, encoded: Texts) -> pl.DataFrame:
    """Count a view's texts and their tokens: one row."""
    n = encoded.n_tokens
    row = {
        "view": view,
        "n_items": len(texts),
        "n_distinct": texts.n_unique(),
        "min_tokens": int(n.min()),
        "median_tokens": float(np.median(n)),
        "max_tokens": int(n.max()),
        "n_truncated": int(encoded.truncated.sum()),
        "n_chunked": int((encoded.n_chunks > 1).sum()),
    }
    return pl.DataFrame([row])


def encode_images(
    items: Mapping[str, int],
    read: Callable[[list[int]], Iterable[tuple[int, bytes]]],
    encoder: Encoder,
    store: Store | None,
) -> Images:
    """Encode images in batches, while one thread decodes the next batch.

    items  sha256 of each distinct image -> an item that has it
    read   gives the images of some items, with the item
    """
    row, embeddings, broken = dict[str, int](), list[NDArray[np.float32]](), dict[str, str]()
    digests = list(items)
    for places, vectors in store.find(digests) if store else ():
        row |= {digests[place]: len(row) + i for i, place in enumerate(places)}
        embeddings.append(vectors)
    n_found = len(row)
    missing = {item: digest for digest, item in items.items() if digest not in row}
    images = ((missing[item], data) for item, data in read(list(missing)))
    batches = in_thread(in_batches(decode(images, encoder.read_image), encoder.batch_size))
    n_batches = -(-len(missing) // encoder.batch_size)
    for batch in log.progress(batches, total=n_batches, what="batches of images"):
        whole = {digest: pixels for digest, pixels in batch if isinstance(pixels, Tensor)}
        broken |= {digest: why for digest, why in batch if isinstance(why, str)}
        if whole:
            row |= {digest: len(row) + i for i, digest in enumerate(whole)}
            embeddings.append(encoder.encode_images(list(whole.values())))
            if store:
                store.add(list(whole), embeddings[-1])
    return Images(row, np.concatenate(embeddings or [np.empty((0, 0), np.float32)]), broken, n_found)


def decode(images: Iterable[tuple[str, bytes]], read: Callable[[bytes], Tensor]) -> Iterator[tuple[str, Tensor | str]]:
    """Decode one image after the other; one that cannot be decoded becomes the reason."""
    for name, data in images:
        try:
            yield name, read(data)
        except BROKEN as error:
            yield name, f"{type(error).__name__}: {error}"


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


def image_table(images: pl.DataFrame, encoded: Images) -> pl.DataFrame:
    """The embeddings of all items. Raises FeatureError if no item has one.

    images  item, and sha256 of its image, null without one
    """
    rows = [encoded.row.get(digest) for digest in images["sha256"]]
    items = images["item"].to_numpy()
    present = [int(item) for item, row in zip(items, rows, strict=True) if row is not None]
    embedding = encoded.embedding[[row for row in rows if row is not None]]
    filled, is_fallback = fill_missing(items, present, embedding)
    return images.select("item").with_columns(embedding=pl.Series(filled), is_fallback=pl.Series(is_fallback))


def run_text(config: Config, *, dataset: str, encoder: str, prompts: str, view: str) -> None:
    """Encode one view. Raises DataError if its prompts or the weights are missing."""
    started = time.perf_counter()
    names = {"dataset": dataset, "prompts": prompts, "view": view}
    table = files.read_table(locate(config.root, "prompts", **names), "prompts")
    loaded, note = _load(config, encoder)
    overflow = find_overflow(config.overflow(encoder), config.slice_prefix(prompts, view))
    with _open_store(config, encoder, note, loaded.device, batch_tokens=config.encode.batch_tokens) as store:
        encoded = loaded.encode_texts(table["text"].to_list(), overflow=overflow, store=store)
    note["overflow"] = config.overflow(encoder)
    counts = token_report(view, table["text"], encoded)
    report = locate(config.root, "token_report", encoder=encoder, **names)
    files.write_table(report, "token_report", counts, metadata=note)
    path = locate(config.root, "text_embeddings", encoder=encoder, **names)
    files.write_table(path, "text_embeddings", text_table(table, encoded), metadata=note)
    log.account(
        f"{dataset}, {encoder}, {prompts}, {view}: {_account(counts)}; {encoded.n_encoded} encoded, "
        f"{encoded.n_found} found in the store, {time.perf_counter() - started:.1f} s"
    )


def run_image(config: Config, *, dataset: str, encoder: str) -> None:
    """Encode the images of a dataset. Raises DataError if they or the weights are missing, FeatureError without any."""
    started = time.perf_counter()
    manifest = locate(config.root, "images", dataset=dataset)
    images = files.read_table(manifest, "images", columns=["item", "status", "sha256"])
    images = images.with_columns(sha256=pl.when(status="ok").then("sha256"))
    first = dict(images.drop_nulls().reverse().select("sha256", "item").iter_rows())  # the first of equal images
    picture = package_files("cliper").joinpath("data/default_image.png").read_bytes()
    default = hashlib.sha256(picture).hexdigest()
    first.setdefault(default, NO_ITEM)

    def read(items: list[int]) -> Iterator[tuple[int, bytes]]:
        yield from [(NO_ITEM, picture)] if NO_ITEM in items else []
        yield from read_images(manifest, items=items)

    loaded, note = _load(config, encoder)
    with _open_store(config, encoder, note, loaded.device, batch_size=config.encode.batch_size) as store:
        encoded = encode_images(first, read, loaded, store)
    broken = images.filter(pl.col("sha256").is_in(list(encoded.broken))).select("item", "sha256").rows()
    for item, digest in broken[:1]:
        why = encoded.broken[digest]
        log.warn(f"{len(broken)} images cannot be decoded and get the mean (first: item {item}, {why})")
    table = image_table(images, encoded)
    of_default = pl.DataFrame({"item": [NO_ITEM], "embedding": encoded.embedding[[encoded.row[default]]]})
    for kind, written in (("image_embeddings", table), ("default_image", of_default)):
        files.write_table(locate(config.root, kind, dataset=dataset, encoder=encoder), kind, written, metadata=note)
    log.account(
        f"{dataset}, {encoder}: {len(table)} items, {table['is_fallback'].sum()} without an image; "
        f"{len(encoded.row) - encoded.n_found} distinct images (the default too) encoded, "
        f"{encoded.n_found} found in the store, {time.perf_counter() - started:.1f} s"
    )


def _account(counts: pl.DataFrame) -> str:
    """A token report as a part of a sentence."""
    return (
        "{n_items} items, {n_distinct} distinct texts, tokens {min_tokens} to {max_tokens} (median {median_tokens:g}), "
        "{n_truncated} truncated, {n_chunked} in slices".format(**counts.row(0, named=True))
    )


def _open_store(
    config: Config, encoder: str, note: Mapping[str, Any], device: torch.device, **shape: int
) -> AbstractContextManager[Store | None]:
    """The store of vectors for an encoder as it is run here; None without one.

    shape  of the batches: the last bits of a vector depend on it
    """
    if config.encode.store is None:
        return nullcontext()
    kind = config.encoder(encoder).kind
    how = {"threads": config.encode.threads, "device": device.type, **shape}
    decides = {key: note[key] for key in ("weights", "context", "precision", "versions")}
    return VectorStore(Path(config.encode.store), {**decides, **how, "code": code_id("weights", kind)})


def _load(config: Config, encoder: str) -> tuple[Encoder, dict[str, Any]]:
    """The encoder, and what is noted in the files it makes."""
    path = locate(config.root, "weights", encoder=encoder)
    loaded, weights = encoders.load(config.encoder(encoder), path, config.encode)
    return loaded, {
        "encoder": encoder,
        "weights": weights.id,
        "files": weights.files,
        "origin": weights.origin,
        "architecture": weights.architecture,
        "context": weights.context,
        "precision": "fp32",
        "versions": {library: version(library) for library in LIBRARIES},
    }
