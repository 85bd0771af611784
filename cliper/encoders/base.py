"""What all encoders share: two towers, and how texts and images pass through them.

Source: paper, section 3, equation 1. Departs from the released code: a text longer than the context is cut, where
it encodes the text in slices and adds these up.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cliper import log
from cliper.errors import ConfigError, FeatureError


@dataclass(frozen=True, slots=True)
class Weights:
    """What `weights.json` notes about an encoder that is ready for use, beside its settings."""

    architecture: str
    files: dict[str, str]  # name -> sha256; in the encoder's folder or, for packaged models, in the package
    licences: dict[str, str]  # part -> licence
    text_dim: int | None = None
    image_dim: int | None = None
    context: int | None = None  # tokens

    @property
    def id(self) -> str:
        """Hash of the architecture and of all files: what decides the embeddings."""
        return hashlib.sha256(json.dumps([self.architecture, self.files]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TextTower:
    """A text encoder in parts.

    tokenise  n texts -> (n, context) token ids, padded or cut, and the n lengths that they have uncut
    embed     (B, L) token ids -> (B, D), with L = context
    can_cut   padding decides nothing, so L may be the length of the batch's longest text
    """

    dim: int
    context: int
    tokenise: Callable[[list[str]], tuple[Tensor, list[int]]]
    embed: Callable[[Tensor], Tensor]
    can_cut: bool


@dataclass(frozen=True, slots=True)
class ImageTower:
    """An image encoder in parts: a picture to pixels (3, height, width), pixels (B, …) to (B, D)."""

    dim: int
    preprocess: Callable[[Image.Image], Tensor]
    embed: Callable[[Tensor], Tensor]


class Texts(NamedTuple):
    """Encoded texts, in the order they were given."""

    embedding: NDArray[np.float32]  # (n, D)
    n_tokens: NDArray[np.int32]  # (n,) of the whole text, marks of start and end included
    truncated: NDArray[np.bool_]  # (n,) longer than the context


@dataclass(frozen=True, slots=True)
class Encoder:
    """One image-text encoder, or one half of one. Embeddings are as the model gives them, in float32."""

    text: TextTower | None
    image: ImageTower | None
    batch_size: int
    device: torch.device

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Texts:
        """Encode each distinct text once, those of like length together.

        Batches are cut from the sorted distinct texts, so the order of `texts` decides no vector; padding
        goes where the tower allows that. Raises ConfigError if the encoder has no text tower, FeatureError
        if a value is not finite.
        """
        tower = self.text
        if tower is None:
            raise ConfigError("this encoder encodes no texts; choose another one for arms.*.text")
        distinct = sorted(set(texts))
        tokens, lengths = tower.tokenise(distinct)
        n_tokens = np.array(lengths, np.int32)
        order = np.argsort(-n_tokens, kind="stable")  # longest first: memory runs out at once or never
        embedding = np.empty((len(distinct), tower.dim), np.float32)
        for start in log.progress(range(0, len(order), self.batch_size), what="batches of texts"):
            batch = order[start : start + self.batch_size]
            width = min(int(n_tokens[batch[0]]), tower.context) if tower.can_cut else tower.context
            embedding[batch] = _to_numpy(tower.embed(tokens[batch, :width].to(self.device)))
        row = {text: i for i, text in enumerate(distinct)}
        rows = [row[text] for text in texts]
        return Texts(_finite(embedding[rows]), n_tokens[rows], n_tokens[rows] > tower.context)

    def read_image(self, data: bytes) -> Tensor:
        """Decode a picture and bring it to the model's size: (3, height, width). Raises what Pillow raises."""
        with Image.open(io.BytesIO(data)) as image:
            return self._images().preprocess(image)

    @torch.inference_mode()
    def encode_images(self, pixels: list[Tensor]) -> NDArray[np.float32]:
        """Encode one batch of what `read_image` gives: (B, D).

        Raises ConfigError if the encoder has no image tower, FeatureError if a value is not finite.
        """
        return _finite(_to_numpy(self._images().embed(torch.stack(pixels).to(self.device))))

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


def choose_device(name: str) -> torch.device:
    """Device of a name in the config: auto is cuda where there is one. Raises ConfigError without the one asked for."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError("encode.device: cuda, but torch finds no GPU here; write auto or cpu")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def _to_numpy(embedding: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = embedding.float().cpu().numpy()
    return array


def _finite(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(embedding).all():
        row = int(np.argmin(np.isfinite(embedding).all(axis=1)))
        raise FeatureError(f"the encoder gave a value that is not finite (first in row {row}); check its weights")
    return embedding
