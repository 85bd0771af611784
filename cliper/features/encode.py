"""Encode texts or cover images with one encoder.

encode-text   In:  the prompts of one view
              Out: for each item an embedding, the sha256 of its text, its length in tokens, the number of slices in
              which it was encoded, and whether a part of it was cut off
encode-image  In:  the images of crawl
              Out: for each item a status and an embedding, null unless the status is ok
encode-default-image
              Out: the embedding of cliper/data/default_image.png, which replaces missing images in arms that ask for it

All three read the encoder's weights.json. The metadata of each file they write says which weights and libraries made
it. `encode.ranges` cuts the items into equal ranges; each is one job and one file. --range names one; without it, all
are encoded. A range is read, encoded and written in chunks of 4,096 items, so memory does not grow with their number.

Each distinct text of a view, and each distinct image, is encoded once per range, and only if `encode.store` does not
have its vector yet. With a store, a killed job loses at most one chunk. Embeddings are as the model returns them:
CLIP's are not normalised, MiniLM's have length 1.

Source: paper, section 3, equation 1. Departs from the released code: texts longer than the context are cut unless
`overflow` says otherwise; a picture that cannot be decoded gets a status (the released code encodes another picture in
its place, which it does not ship).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from torch import Tensor

from cliper import files, log, resources
from cliper.arrays import Vectors
from cliper.broken import BROKEN_IMAGE
from cliper.codeid import code_id
from cliper.collect.images.shards import read_bytes
from cliper.config import decides
from cliper.errors import ConfigError
from cliper.features.embeddings.ranges import TOKENS, span, token_report
from cliper.features.embeddings.store import VectorStore
from cliper.features.encoders import loading
from cliper.features.encoders.base import Encoder, Store, Texts
from cliper.features.encoders.overflow import find as find_overflow
from cliper.layout import At
from cliper.schemas import EMBEDDING_STATUSES

T = TypeVar("T")
Encode = Callable[[pl.DataFrame, Store, Callable[[int], object]], "Rows"]
CHUNK = 4_096  # items in memory; the last batch of each width is half empty, so smaller chunks cost time
LIBRARIES = ("open_clip_torch", "pillow", "timm", "torch", "torchvision", "transformers")
NO_ITEM = -1  # item of the default image


class Ready(NamedTuple):
    """A loaded encoder, and the tables that it is used for."""

    encoder: Encoder
    source: str  # table that is read
    target: str  # table that is made
    note: dict[str, Any]  # in the files' metadata
    facts: dict[str, Any]  # all that decides a vector, except its text or image


class Rows(NamedTuple):
    """Rows of embeddings."""

    table: pl.DataFrame
    n_encoded: int  # distinct texts or images that were not in the store


class Images(NamedTuple):
    """Encoded images, and the reasons why others could not be decoded."""

    row: dict[str, int]  # sha256 of an image -> its row in embedding
    embedding: Vectors  # (n, D)
    broken: dict[str, str]  # sha256 of an image -> why it could not be decoded
    n_encoded: int  # now; the others were in the store


def text_table(prompts: pl.DataFrame, encoded: Texts) -> pl.DataFrame:
    """Join embeddings with their items and views."""
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in prompts["text"]]
    return prompts.select("item", "view", "is_missing").with_columns(
        text_sha256=pl.Series(digests),
        embedding=pl.Series(encoded.embedding),
        n_tokens=pl.Series(encoded.n_tokens),
        n_chunks=pl.Series(encoded.n_chunks),
        truncated=pl.Series(encoded.truncated),
    )


def encode_images(
    digests: list[str],
    read: Callable[[list[str]], Iterable[tuple[str, bytes]]],
    encoder: Encoder,
    store: Store | None,
    advance: Callable[[int], object],
) -> Images:
    """Encode images in batches, while one thread decodes the next batch.

    digests  sha256 of distinct images
    read     returns the bytes of some of them, each with its digest
    advance  is called with the number of images of each batch
    """
    row, broken = dict[str, int](), dict[str, str]()
    embeddings = [np.empty((0, encoder.image_dim), np.float32)]
    for places, vectors in store.find(digests) if store else ():
        row |= {digests[place]: len(row) + i for i, place in enumerate(places)}
        embeddings.append(vectors)
    n_found = len(row)
    missing = [digest for digest in digests if digest not in row]
    batches = in_thread(in_batches(decode(read(missing), encoder.read_image), encoder.batch_size))
    for batch in batches:
        whole = {digest: pixels for digest, pixels in batch if isinstance(pixels, Tensor)}
        broken |= {digest: why for digest, why in batch if isinstance(why, str)}
        if whole:
            row |= {digest: len(row) + i for i, digest in enumerate(whole)}
            embeddings.append(encoder.encode_images(list(whole.values())))
            if store:
                store.add(list(whole), embeddings[-1])
        advance(len(batch))
    return Images(row, np.concatenate(embeddings), broken, len(row) - n_found)


def decode(images: Iterable[tuple[str, bytes]], read: Callable[[bytes], Tensor]) -> Iterator[tuple[str, Tensor | str]]:
    """Decode one image after the other. Yields the reason for one that cannot be decoded."""
    for digest, data in images:
        try:
            yield digest, read(data)
        except BROKEN_IMAGE as error:
            yield digest, f"{type(error).__name__}: {error}"


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


def image_table(images: pl.DataFrame, encoded: Images) -> pl.DataFrame:
    """A status and an embedding for each row of the manifest, whose sha256 is null without an image."""
    digests = images["sha256"]
    status = ["no_image" if not digest else "undecodable" if digest in encoded.broken else "ok" for digest in digests]
    rows = pl.Series([encoded.row.get(digest) for digest in digests], dtype=pl.Int32)
    return images.select("item").with_columns(
        status=pl.Series(status), embedding=pl.Series(encoded.embedding).gather(rows)
    )


def encode_ranges(
    job: decides.EncodeText | decides.EncodeImage, at: At, ready: Ready, encode: Encode
) -> Iterator[tuple[Path, str]]:
    """Encode ranges of a table's rows in chunks. Yields the file of each range, and its part of the account.

    encode  makes rows of embeddings from rows of the table, and calls its last argument with numbers of rows done

    Raises DataError if the table is missing or broken, ConfigError if there is no such range.
    """
    source, asked, n_ranges = at(ready.source), at.names.get("range"), job.ranges
    if asked is not None and not 0 <= int(asked) < n_ranges:
        numbers = f"ranges are numbered from 0 to {n_ranges - 1}"
        raise ConfigError(f"--range {asked}: encode.ranges is {n_ranges}, so {numbers}")
    n_items = files.count_rows(source, ready.source)
    for number in range(n_ranges) if asked is None else [int(asked)]:
        n_encoded = n_done = 0
        start, stop = span(n_items, number, n_ranges)
        log.note(f"encodes {stop - start:,} items")
        chunks = files.read_in_batches(source, ready.source, (start, stop), size=CHUNK)
        path = at(ready.target, range=number, ranges=n_ranges)
        with (
            _open_store(job.store, ready) as store,
            files.table_writer(path, ready.target, metadata=ready.note) as write,
            log.Progress("items", stop - start) as shown,
        ):
            for chunk in chunks:
                rows = encode(chunk, store, shown.advance)
                n_done += chunk.height
                shown.reach(n_done)
                write(rows.table)
                store.flush()
                n_encoded += rows.n_encoded
        which = f" (range {number} of {n_ranges})" if n_ranges > 1 else ""
        yield path, f"{n_encoded} encoded, {store.n_found} found in the store{which}"


def run_text(job: decides.EncodeText, at: At) -> None:
    """Encode one view. Raises DataError if its prompts or the weights are missing."""
    ready = _load(job, at, "prompts", "text_embeddings", batch_tokens=job.batch_tokens)
    ready.note["overflow"] = job.overflow
    overflow = find_overflow(job.overflow, job.slice_prefix)

    def encode(rows: pl.DataFrame, store: Store, advance: Callable[[int], object]) -> Rows:
        texts = rows["text"].to_list()
        encoded = ready.encoder.encode_texts(texts, overflow=overflow, store=store, advance=advance)
        return Rows(text_table(rows, encoded), encoded.n_encoded)

    what = ", ".join(at.names[name] for name in ("dataset", "encoder", "prompts", "view"))
    for path, counted in encode_ranges(job, at, ready, encode):
        report = token_report([files.read_table(path, "text_embeddings", columns=list(TOKENS))])
        log.account(f"{what}: {_account(report)}; {counted}")


def run_image(job: decides.EncodeImage, at: At) -> None:
    """Encode the images of a dataset. Raises DataError if they or the weights are missing."""
    ready = _load(job, at, "images", "image_embeddings", batch_size=job.batch_size)
    manifest = at("images")

    def encode(rows: pl.DataFrame, store: Store, advance: Callable[[int], object]) -> Rows:
        images = rows.with_columns(sha256=pl.when(status="ok").then("sha256"))
        encoded = encode_rows(manifest, images, ready.encoder, store, advance)
        return Rows(image_table(images, encoded), encoded.n_encoded)

    for path, counted in encode_ranges(job, at, ready, encode):
        status = files.read_table(path, "image_embeddings", columns=["status"])["status"]
        without = ", ".join(f"{(status == name).sum()} {name}" for name in EMBEDDING_STATUSES[1:])
        what = f"{at.names['dataset']}, {at.names['encoder']}"
        log.account(f"{what}: {len(status)} items, {without}; distinct images: {counted}")


def encode_rows(
    manifest: Path, images: pl.DataFrame, encoder: Encoder, store: Store, advance: Callable[[int], object]
) -> Images:
    """Encode the distinct images of some rows of the manifest, whose sha256 is null without an image."""
    first = images.drop_nulls("sha256").unique("sha256", keep="first", maintain_order=True)

    def read(digests: list[str]) -> Iterator[tuple[str, bytes]]:
        rows = first.filter(pl.col("sha256").is_in(digests))
        yield from zip(rows["sha256"], read_bytes(manifest, rows), strict=True)

    encoded = encode_images(first["sha256"].to_list(), read, encoder, store, advance)
    broken = images.filter(pl.col("sha256").is_in(list(encoded.broken))).select("item", "sha256").rows()
    for item, digest in broken[:1]:
        log.warn(f"{len(broken)} images cannot be decoded (first: item {item}, {encoded.broken[digest]})")
    return encoded


def run_default_image(job: decides.EncodeImage, at: At) -> None:
    """Encode the picture that may replace missing ones. Raises DataError if the weights are missing."""
    ready = _load(job, at, "images", "default_image", batch_size=job.batch_size)
    picture = resources.read_bytes("default_image.png")
    embedding = ready.encoder.encode_images([ready.encoder.read_image(picture)])
    table = pl.DataFrame({"item": [NO_ITEM], "embedding": embedding})
    files.write_table(at("default_image"), "default_image", table, metadata=ready.note)
    log.account(f"{at.names['encoder']}: the default image is encoded")


def _account(report: pl.DataFrame) -> str:
    """The account's words on a token report."""
    return (
        "{n_items} items, {n_distinct} distinct texts, tokens {min_tokens} to {max_tokens} (median {median_tokens:g}), "
        "{n_truncated} truncated, {n_chunked} in slices".format(**report.row(0, named=True))
    )


@contextmanager
def _open_store(store: str | None, ready: Ready) -> Iterator[VectorStore]:
    """Open the store of vectors for this encoder; if the config names none, a temporary one."""
    with ExitStack() as opened:
        folder = store or opened.enter_context(TemporaryDirectory(prefix="cliper-vectors-"))
        yield opened.enter_context(VectorStore(Path(folder), ready.facts))


def _load(job: decides.EncodeText | decides.EncodeImage, at: At, source: str, target: str, **shape: int) -> Ready:
    """Load an encoder.

    source, target  tables that are read and made
    shape           of the batches: the last bits of a vector depend on it
    """
    name = at.names["encoder"]
    loaded, weights = loading.load(
        job.encoder,
        at("weights"),
        name=name,
        threads=job.threads,
        kernels=job.kernels,
        device=job.device,
        precision=job.precision,
        **shape,
    )
    log.note(f"{name}: {weights.architecture} on {loaded.device}, {loaded.precision}, {job.threads} threads")
    note = {
        "encoder": name,
        "weights": weights.id,
        "files": weights.files,
        "origin": weights.origin,
        "architecture": weights.architecture,
        "context": weights.context,
        "precision": loaded.precision,
        "kernels": job.kernels,
        "versions": {library: version(library) for library in LIBRARIES},
    }
    own = {"settings": decides.deciding(job.encoder)} if job.encoder.is_own else {}
    how = {"threads": job.threads, "device": loaded.device.type, **shape}
    decided = {key: note[key] for key in ("weights", "context", "precision", "kernels", "versions")}
    facts = {
        **decided,
        **how,
        **own,
        "code": code_id("weights", job.encoder.place, "cliper.features.encoders.loading:load"),
    }
    return Ready(loaded, source, target, note, facts)
