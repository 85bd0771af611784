"""Encoders by kind. Adding one: a file with `prepare` and `load`, a line here, its name in the config's schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cliper.config import Encode
from cliper.config import Encoder as Settings
from cliper.device import choose_device
from cliper.encoders import bridge, cnn, longclip, open_clip, sentence
from cliper.encoders.base import Encoder, ImageTower, TextTower, Weights
from cliper.errors import DataError
from cliper.files import read_json


class Kind(NamedTuple):
    """How encoders of one kind are made ready and loaded."""

    prepare: Callable[[Settings, Path], Weights]
    load: Callable[[Path, Weights, torch.device], tuple[TextTower | None, ImageTower | None]]


KINDS: dict[str, Kind] = {
    "open_clip": Kind(open_clip.prepare, open_clip.load),
    "longclip": Kind(longclip.prepare, open_clip.load),
    "bridge": Kind(bridge.prepare, bridge.load),
    "sentence": Kind(sentence.prepare, sentence.load),
    "cnn": Kind(cnn.prepare, cnn.load),
}


def prepare(settings: Settings, folder: Path, *, threads: int) -> Weights:
    """Make an encoder's weights ready in a folder. Raises as its kind does."""
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    return KINDS[settings.kind].prepare(settings, folder)


def note(settings: Settings, weights: Weights) -> dict[str, Any]:
    """What weights.json says."""
    return {"id": weights.id, "settings": asdict(settings), **asdict(weights)}


def load(settings: Settings, path: Path, how: Encode) -> tuple[Encoder, Weights]:
    """Load an encoder in float32 from its weights.json. Raises DataError if that was made for other settings."""
    again = f"weights --encoder {path.parent.name}"
    noted = read_json(path, made_by=again)
    if noted["settings"] != asdict(settings):
        raise DataError(f"{path} was made for other settings than the config's. Run: python -m cliper {again}")
    weights = Weights(**{field.name: noted[field.name] for field in fields(Weights)})
    torch.set_num_threads(how.threads)
    torch.backends.cudnn.allow_tf32 = False  # convolutions would round to 10 bits on newer GPUs
    device = choose_device(how.device, setting="encode.device")
    text, image = KINDS[settings.kind].load(path.parent, weights, device)
    return Encoder(text, image, how.batch_size, how.batch_tokens, device), weights
