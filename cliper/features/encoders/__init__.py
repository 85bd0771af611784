"""Encoders by kind. Adding one: a file with `prepare` and `load`, a line here, its name in the config's schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cliper.config import Encode
from cliper.config import Encoder as Settings
from cliper.device import PRECISIONS, choose_device, choose_precision
from cliper.errors import DataError
from cliper.features.encoders import bridge, cnn, longclip, open_clip, sentence
from cliper.features.encoders.base import Encoder, ImageTower, TextTower, Weights
from cliper.files import read_json


class Kind(NamedTuple):
    """How encoders of one kind are made ready and loaded."""

    prepare: Callable[[Settings, Path], Weights]
    load: Callable[[Path, Weights, torch.device, torch.dtype], tuple[TextTower | None, ImageTower | None]]
    load_counter: Callable[[Path, Weights], Callable[[list[str]], list[int]]]  # of the tokens of texts


KINDS: dict[str, Kind] = {
    "open_clip": Kind(open_clip.prepare, open_clip.load, open_clip.load_counter),
    "longclip": Kind(longclip.prepare, open_clip.load, open_clip.load_counter),
    "bridge": Kind(bridge.prepare, bridge.load, open_clip.load_counter),
    "sentence": Kind(sentence.prepare, sentence.load, sentence.load_counter),
    "cnn": Kind(cnn.prepare, cnn.load, cnn.load_counter),
}


def prepare(settings: Settings, folder: Path, *, threads: int) -> Weights:
    """Make an encoder's weights ready in a folder. Raises as its kind does."""
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    return KINDS[settings.kind].prepare(settings, folder)


def note(settings: Settings, weights: Weights) -> dict[str, Any]:
    """What weights.json says."""
    return {"id": weights.id, "settings": asdict(settings), **asdict(weights)}


def read_weights(settings: Settings, path: Path) -> Weights:
    """Read an encoder's weights.json. Raises DataError if it is missing or was made for other settings."""
    again = f"weights --encoder {path.parent.name}"
    noted = read_json(path, made_by=again)
    if noted["settings"] != asdict(settings):
        raise DataError(f"{path} was made for other settings than the config's. Run: python -m cliper {again}")
    return Weights(**{field.name: noted[field.name] for field in fields(Weights)})


def load_counter(settings: Settings, path: Path) -> Callable[[list[str]], list[int]]:
    """How an encoder counts the tokens of texts, uncut; its weights are not loaded. Raises as `read_weights` does."""
    return KINDS[settings.kind].load_counter(path.parent, read_weights(settings, path))


def load(settings: Settings, path: Path, how: Encode) -> tuple[Encoder, Weights]:
    """Load an encoder from its weights.json. Raises as `read_weights` does."""
    weights = read_weights(settings, path)
    torch.set_num_threads(how.threads)
    torch.backends.cudnn.allow_tf32 = False  # convolutions would round to 10 bits on newer GPUs
    device = choose_device(how.device, setting="encode.device")
    precision = choose_precision(how.precision, device)
    text, image = KINDS[settings.kind].load(path.parent, weights, device, PRECISIONS[precision])
    return Encoder(text, image, how.batch_size, how.batch_tokens, device, precision), weights
