"""The base of all encoders: a text tower, an image tower, and how batches pass through them.

Texts of similar length are padded to the same width. All batches of one width have the same shape, since the last one
is filled up. So a vector depends on its text or image alone, never on the rest of its batch.

Source: paper, section 3, equation 1. Departs from it: nothing; for long texts see `overflow`.
"""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cliper import log
from cliper.arrays import Bools, Int32s, Vectors
from cliper.errors import ConfigError, FeatureError
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.encoders.overflow import Overflow

T = TypeVar("T")
S = TypeVar("S", bound=EncoderSettings)


@dataclass(frozen=True, slots=True)
class Weights:
    """What `weights.json` says about an encoder that is ready for use, in addition to its settings."""

    architecture: str
    files: dict[str, str]  # name -> sha256; in the encoder's folder or, for packaged models, in the package
    licences: dict[str, str]  # part -> licence
    text_dim: int | None = None
    image_dim: int | None = None
    context: int | None = None  # tokens
    origin: dict[str, str] = field(default_factory=dict)  # where the weights come from: source, revision, sha256

    @property
    def id(self) -> str:
        """Hash of the architecture and of all files: what decides the embeddings."""
        return hashlib.sha256(json.dumps([self.architecture, self.files]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TextTower:
    """A text encoder in parts.

    tokenise  n texts -> n lists of at most `context` token ids, and the n lengths before truncation
    embed     (B, L) token ids, padded with `pad` -> (B, D), with L = context
    can_cut   padding does not change the output, so L may be shorter than the context
    """

    dim: int
    context: int
    pad: int
    tokenise: Callable[[list[str]], tuple[list[list[int]], list[int]]]
    embed: Callable[[Tensor], Tensor]
    can_cut: bool

    def width(self, n_tokens: int) -> int:
        """Tokens to which a text is padded: a function of its length, in steps of about a tenth of it.

        >>> tower = TextTower(1, 77, 0, ..., ..., can_cut=True)
        >>> [tower.width(n) for n in (2, 17, 33, 76, 300)]
        [2, 18, 36, 77, 77]
        """
        step = max(2, 2 ** (n_tokens.bit_length() - 4))
        return min(-(-n_tokens // step) * step, self.context) if self.can_cut else self.context


@dataclass(frozen=True, slots=True)
class ImageTower:
    """An image encoder in parts: a picture to pixels (3, height, width), pixels (B, …) to (B, D)."""

    dim: int
    preprocess: Callable[[Image.Image], Tensor]
    embed: Callable[[Tensor], Tensor]


class EncoderKind(ABC, Generic[S]):
    """One kind of encoders: how its weights are prepared and loaded.

    Settings  class of the settings of such an encoder
    settings  the config's settings of this one
    """

    Settings: ClassVar[type[EncoderSettings]] = EncoderSettings

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def prepare(self, folder: Path) -> Weights:
        """Prepare the weights, in the encoder's own folder or where a package has them, and record their sha256.

        Raises ConfigError for settings that do not fit each other, SourceError if the weights cannot be fetched or are
        not those that the settings ask for.
        """

    @abstractmethod
    def load(
        self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype
    ) -> tuple[TextTower | None, ImageTower | None]:
        """Load what `prepare` prepared, without a network; None for a tower that this kind does not have."""

    def load_counter(self, folder: Path, weights: Weights) -> Callable[[list[str]], list[int]]:
        """Return a counter of texts' tokens before truncation. Raises ConfigError if this kind encodes no texts."""
        if not self.Settings.encodes_texts:
            raise ConfigError("this encoder encodes no texts; choose another one for arms.*.text")
        text, _ = self.load(folder, weights, torch.device("cpu"), torch.float32)
        assert text is not None, "its settings say that it encodes texts"
        return lambda texts: text.tokenise(texts)[1]


class Store(Protocol):
    """Vectors kept from earlier runs, by the sha256 of their texts or images."""

    def find(self, digests: list[str]) -> Iterator[tuple[list[int], Vectors]]:
        """Find vectors. Yields places in `digests` and the vectors of these places; each place at most once."""

    def add(self, digests: list[str], vectors: Vectors) -> None:
        """Add vectors."""


class Texts(NamedTuple):
    """Encoded texts, in the order they were given."""

    embedding: Vectors
    n_tokens: Int32s  # (n,) of the whole text, marks of start and end included
    n_chunks: Int32s  # (n,) slices in which it was encoded
    truncated: Bools  # (n,) whether a part of it was cut off
    n_encoded: int  # distinct texts and slices that were encoded now
    n_found: int  # those whose vectors were in the store


class Forward:
    """Runs a tower on batches. If a batch does not fit into a GPU's memory, this and later batches are run in parts."""

    def __init__(self) -> None:
        self.n_parts = 1

    def __call__(self, embed: Callable[[Tensor], Tensor], batch: Tensor, device: torch.device) -> Vectors:
        """(B, …) on the CPU -> (B, D). Raises ConfigError if the memory does not hold one row."""
        while True:
            try:
                return np.concatenate([_to_numpy(embed(_send(part, device))) for part in batch.chunk(self.n_parts)])
            except torch.OutOfMemoryError as error:  # of CUDA alone
                if self.n_parts >= len(batch):
                    raise ConfigError(
                        "the GPU's memory does not hold one text or image; write encode.device: cpu"
                    ) from error
            self.n_parts *= 2
            torch.cuda.empty_cache()
            log.warn(
                f"the GPU's memory is too small for a whole batch; from here on each is run in {self.n_parts} parts, "
                "which may change a vector's last bits. Smaller encode.batch_tokens or batch_size avoid that"
            )


@dataclass(frozen=True, slots=True)
class Encoder:
    """An image-text encoder, or only one of its towers. Embeddings are as the model returns them, in float32."""

    text: TextTower | None
    image: ImageTower | None
    batch_size: int  # images
    batch_tokens: int  # texts times their width
    device: torch.device
    precision: str  # fp32 | bf16 | fp16
    _forward: Forward = field(init=False, repr=False, default_factory=Forward)

    def encode_texts(
        self,
        texts: list[str],
        *,
        overflow: Overflow | None = None,
        store: Store | None = None,
        advance: Callable[[int], object] = lambda _: None,
    ) -> Texts:
        """Encode each distinct text once, texts of similar length together.

        overflow  how texts longer than the context are encoded; without it they are cut
        store     keeps vectors between runs
        advance   is called with the number of texts of each batch

        Raises ConfigError if the encoder has no text tower, FeatureError if a value is not finite.
        """
        tower = self._texts()
        tokens = _tokenise(tower, sorted(set(texts)))
        slices = {text: [text] for text in tokens}
        if overflow is not None:
            slices |= {text: overflow.slices(text) for text, (_, n) in tokens.items() if n > tower.context}
            tokens |= _tokenise(tower, sorted({part for parts in slices.values() for part in parts} - tokens.keys()))
        pieces = sorted({part for parts in slices.values() for part in parts})
        vectors, n_found = self._embed_texts(pieces, [tokens[piece][0] for piece in pieces], store, advance)
        row = {piece: i for i, piece in enumerate(pieces)}
        embedding = vectors[[row[slices[text][0]] for text in texts]]
        for i, text in enumerate(texts):
            if len(slices[text]) > 1:
                assert overflow is not None
                embedding[i] = overflow.join(vectors[[row[part] for part in slices[text]]])
        return Texts(
            embedding,
            np.array([tokens[text][1] for text in texts], np.int32),
            np.array([len(slices[text]) for text in texts], np.int32),
            np.array([any(tokens[part][1] > tower.context for part in slices[text]) for text in texts]),
            len(pieces) - n_found,
            n_found,
        )

    @torch.inference_mode()
    def _embed_texts(
        self, texts: list[str], tokens: list[list[int]], store: Store | None, advance: Callable[[int], object]
    ) -> tuple[Vectors, int]:
        """Vectors of distinct texts, and how many of them were in the store. Long texts are encoded first."""
        tower = self._texts()
        vectors = np.empty((len(texts), tower.dim), np.float32)
        digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        missing = set(range(len(texts)))
        for places, found in store.find(digests) if store else ():
            vectors[places] = found
            missing.difference_update(places)
        n_found = len(texts) - len(missing)
        order = sorted(missing, key=lambda i: (-len(tokens[i]), i))  # memory runs out in the first batch or never
        for width, batch in self._batches(order, tokens):
            rows = [tokens[i] + [tower.pad] * (width - len(tokens[i])) for i in _fill(batch, self._height(width))]
            vectors[batch] = self._forward(tower.embed, torch.tensor(rows), self.device)[: len(batch)]
            _require_finite(vectors[batch], [repr(texts[i]) for i in batch])
            if store:
                store.add([digests[i] for i in batch], vectors[batch])
            advance(len(batch))
        return vectors, n_found

    def _batches(self, order: list[int], tokens: list[list[int]]) -> list[tuple[int, list[int]]]:
        """Cut texts, sorted by length, into batches of one width: the width, and places of the texts."""
        buckets = dict[int, list[int]]()
        for i in order:
            buckets.setdefault(self._texts().width(len(tokens[i])), []).append(i)
        return [
            (width, bucket[start : start + self._height(width)])
            for width, bucket in buckets.items()
            for start in range(0, len(bucket), self._height(width))
        ]

    def _height(self, width: int) -> int:
        return max(1, self.batch_tokens // width)

    @property
    def image_dim(self) -> int:
        """Width D of image embeddings. Raises ConfigError if the encoder has no image tower."""
        return self._images().dim

    def read_image(self, data: bytes) -> Tensor:
        """Decode a picture and resize it for the model: (3, height, width). Raises what Pillow raises."""
        with Image.open(io.BytesIO(data)) as image:
            return self._images().preprocess(image)

    @torch.inference_mode()
    def encode_images(self, pixels: list[Tensor]) -> Vectors:
        """Encode at most `batch_size` images, as `read_image` returns them: (n, D).

        Raises ConfigError if the encoder has no image tower, FeatureError if a value is not finite.
        """
        batch = torch.stack(_fill(pixels, self.batch_size))
        vectors = self._forward(self._images().embed, batch, self.device)[: len(pixels)]
        _require_finite(vectors, [f"image {i} of the batch" for i in range(len(pixels))])
        return vectors

    def _texts(self) -> TextTower:
        if self.text is None:
            raise ConfigError("this encoder encodes no texts; choose another one for arms.*.text")
        return self.text

    def _images(self) -> ImageTower:
        if self.image is None:
            raise ConfigError("this encoder encodes no images; choose another one for arms.*.image")
        return self.image


def few_at_a_time(embed: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """On a CPU, run a convolutional network on 4 pictures at a time, channels last.

    Its activations then stay in the cache: EfficientNet-Lite0 takes 23 ms a picture, 73 in batches of 32 (one thread).
    """
    if device.type != "cpu":
        return embed
    return lambda pixels: torch.cat([embed(few) for few in pixels.to(memory_format=torch.channels_last).split(4)])


def cut_tokens(ids: list[int], context: int) -> list[int]:
    """Cut token ids to the context; the mark of the text's end is kept.

    >>> cut_tokens([1, 7, 8, 9, 2], 3)
    [1, 7, 2]
    """
    return ids if len(ids) <= context else [*ids[: context - 1], ids[-1]]


def _tokenise(tower: TextTower, texts: list[str]) -> dict[str, tuple[list[int], int]]:
    """Text -> its token ids, cut to the context, and its length before truncation."""
    ids, lengths = tower.tokenise(texts) if texts else ([], [])
    return {text: (row, n) for text, row, n in zip(texts, ids, lengths, strict=True)}


def _fill(values: list[T], size: int) -> list[T]:
    """Repeat the first value until there are `size`."""
    return values + values[:1] * (size - len(values))


def _send(batch: Tensor, device: torch.device) -> Tensor:
    """Copy a batch to the device; to a GPU from pinned memory, without waiting for the copy."""
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch


def _to_numpy(embedding: Tensor) -> Vectors:
    array: Vectors = embedding.float().cpu().numpy()
    return array


def _require_finite(vectors: Vectors, names: list[str]) -> None:
    is_finite = np.isfinite(vectors).all(axis=1)
    if not is_finite.all():
        name = names[int(np.argmin(is_finite))]
        raise FeatureError(f"the encoder gave a value that is not finite for {name}; check its weights")
