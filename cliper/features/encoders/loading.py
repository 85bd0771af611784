"""An encoder as the config chooses it: prepared once, then loaded by every job that encodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from cliper.device import PRECISIONS, choose_device, choose_precision, compute_with
from cliper.errors import DataError
from cliper.features.encoders.base import Encoder, EncoderKind, Weights
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.files import read_json
from cliper.settings import plain
from cliper.variants import Variant


def prepare(chosen: Variant[EncoderSettings], folder: Path, *, threads: int, kernels: str = "fastest") -> Weights:
    """Prepare an encoder's weights in a folder. Raises as its kind does."""
    compute_with(threads=threads, kernels_are=kernels)
    folder.mkdir(parents=True, exist_ok=True)
    return _kind(chosen).prepare(folder)


def note(chosen: Variant[EncoderSettings], weights: Weights) -> dict[str, Any]:
    """The content of weights.json."""
    return {"id": weights.id, "settings": plain(chosen), **asdict(weights)}


def read_weights(chosen: Variant[EncoderSettings], path: Path, *, name: str) -> Weights:
    """Read an encoder's weights.json.

    name  of the encoder in the config, for messages

    Raises DataError if it is missing, was changed or was made for other settings.
    """
    made_by = f"weights --encoder {name}"
    noted = read_json(path, made_by=made_by)
    weights = Weights(**{field.name: noted.get(field.name) for field in fields(Weights)})
    if noted.get("id") != weights.id:
        raise DataError(f"{path} was changed after it was written. Run: python -m cliper {made_by}")
    if plain(noted.get("settings")) != plain(chosen):  # plain: version 0.1 noted absent settings as null
        raise DataError(f"{path} was made for other settings than the config's. Run: python -m cliper {made_by}")
    return weights


def load_counter(chosen: Variant[EncoderSettings], path: Path, *, name: str) -> Callable[[list[str]], list[int]]:
    """How an encoder counts the tokens of texts, before truncation. Raises as `read_weights`."""
    return _kind(chosen).load_counter(path.parent, read_weights(chosen, path, name=name))


def load(
    chosen: Variant[EncoderSettings],
    path: Path,
    *,
    name: str,
    threads: int,
    device: str,
    precision: str,
    kernels: str = "fastest",
    batch_size: int = 1,
    batch_tokens: int = 1,
) -> tuple[Encoder, Weights]:
    """Load an encoder from its weights.json, for batches of images or of texts. Raises as `read_weights`."""
    weights = read_weights(chosen, path, name=name)
    compute_with(threads=threads, kernels_are=kernels)
    torch.backends.cudnn.allow_tf32 = False  # convolutions would round to 10 bits on newer GPUs
    where = choose_device(device, setting="encode.device")
    rounded = choose_precision(precision, where)
    text, image = _kind(chosen).load(path.parent, weights, where, PRECISIONS[rounded])
    return Encoder(text, image, batch_size, batch_tokens, where, rounded), weights


def _kind(chosen: Variant[EncoderSettings]) -> EncoderKind[Any]:
    made: EncoderKind[Any] = chosen.load()(chosen.settings)
    return made
