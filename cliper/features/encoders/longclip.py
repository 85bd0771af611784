"""Long-CLIP's own files (.pt) as checkpoints of open_clip: texts of 248 tokens.

The names in a file are open_clip's, except those of the position embeddings. A file has two tables of them: rows 0 to
19 stay as CLIP trained them, Long-CLIP learned rows 20 to 247.

    positional_embedding      (248, width)  used for rows 0 to 19
    positional_embedding_res  (248, width)  used for rows 20 to 247

Long-CLIP's code rounds the weights of products to float16 before it computes, on a CPU too: `weights: fp16_rounded`
does the same, `as_stored` does not. With unrounded weights the embeddings differ by about 2e-3.

Source: Long-CLIP (Zhang et al. 2024), model/model_longclip.py; the golden numbers come from running it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from torch import Tensor

from cliper import web
from cliper.errors import ConfigError, SourceError, unknown
from cliper.features.encoders.base import Weights
from cliper.features.encoders.checkpoint_files import CONFIG
from cliper.features.encoders.longclip_settings import LongClipSettings
from cliper.features.encoders.open_clip import WEIGHTS, Checkpoint, check_state, describe, reason, require_digest
from cliper.files import atomic, write_json

TIMEOUT_S = 60  # of silence, while the file is fetched
KEPT = 20  # position embeddings that stay as CLIP trained them
ROUNDED = re.compile(
    r"(visual\.conv1|.*\.attn\.out_proj|.*\.mlp\.c_fc|.*\.mlp\.c_proj)\.(weight|bias)"
    r"|.*\.attn\.in_proj_(weight|bias)|text_projection|visual\.proj"
)
PREPROCESSING = {
    "mean": list(OPENAI_DATASET_MEAN),
    "std": list(OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


class LongClip(Checkpoint[LongClipSettings]):
    """A file of Long-CLIP, converted to a checkpoint of open_clip's kind."""

    Settings = LongClipSettings

    def prepare(self, folder: Path) -> Weights:
        """Fetch the file unless it is here already, check it, and write it as a checkpoint of open_clip.

        Raises ConfigError for settings that do not fit each other, SourceError if the file cannot be fetched, is not
        the one that the config asks for, or does not have this architecture's weights.
        """
        settings = self.settings
        config = _model_config(settings)
        path = _obtain(settings.source, folder)
        digest = require_digest(path, settings.sha256)
        try:
            state = to_open_clip(
                torch.load(path, map_location="cpu", weights_only=True), rounds=settings.weights == "fp16_rounded"
            )
            _check_fit(state, config)
        except Exception as error:  # of torch.load on bytes that may be anything
            raise SourceError(
                f"{path} does not hold Long-CLIP's weights for {settings.architecture} ({reason(error)}); "
                "put the right file there, or correct encoders.*.source"
            ) from error
        checkpoint = folder / f"{settings.architecture}-longclip-{settings.weights}"
        checkpoint.mkdir(exist_ok=True)
        with atomic(checkpoint / WEIGHTS) as temporary:
            save_file(state, temporary)
        write_json(checkpoint / CONFIG, {"model_cfg": config, "preprocess_cfg": PREPROCESSING})
        origin = {"source": settings.source, "sha256": digest}
        return describe(checkpoint, settings.architecture, {"Long-CLIP": "Apache-2.0 (beichenzbc/Long-CLIP)"}, origin)


def to_open_clip(state: Any, *, rounds: bool) -> dict[str, Tensor]:
    """Convert the content of a file of Long-CLIP to the form of open_clip's CLIP, in float32.

    rounds  whether to round to float16 the weights that the reference computes with in float16

    Raises ValueError if it is something else.
    """
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it is no mapping of names to tensors")
    if not {"positional_embedding", "positional_embedding_res"} <= state.keys():
        raise ValueError("it lacks positional_embedding_res, so it is no Long-CLIP")
    found = {name: tensor.float() for name, tensor in state.items()}
    base, stretched = found["positional_embedding"], found.pop("positional_embedding_res")
    if base.shape != stretched.shape:
        raise ValueError(f"its two tables of positions have {len(base)} and {len(stretched)} tokens")
    found["positional_embedding"] = torch.cat([base[:KEPT], stretched[KEPT:]])
    if rounds:
        found |= {name: tensor.half().float() for name, tensor in found.items() if ROUNDED.fullmatch(name)}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _model_config(settings: LongClipSettings) -> dict[str, Any]:
    """Config of the architecture with the longer context. Raises ConfigError unless it is one with QuickGELU."""
    model = open_clip.get_model_config(settings.architecture)
    if model is None:
        raise ConfigError(unknown("architecture of open_clip", settings.architecture, open_clip.list_models()))
    if not model.get("quick_gelu"):
        raise ConfigError(f"Long-CLIP computes with QuickGELU; add -quickgelu to {settings.architecture}")
    return {**model, "text_cfg": {**model["text_cfg"], "context_length": settings.context}}


def _check_fit(state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Raise RuntimeError or ValueError unless names and shapes are the model's and all values finite."""
    with torch.device("meta"):  # no memory for weights that are thrown away
        model = open_clip.CLIP(**config)
    check_state(state, model)
    model.load_state_dict(state, assign=True)


def _obtain(source: str, folder: Path) -> Path:
    """Path of the file: the one in the config, or one fetched into the encoder's folder."""
    if not source.startswith(("https://", "http://")):
        path = Path(source).expanduser()
        if not path.is_file():
            raise SourceError(f"there is no file {path}; put it there, or correct encoders.*.source")
        return path
    path = folder / source.rpartition("/")[2]
    if not path.is_file():
        try:
            web.fetch(source, path, timeout_s=TIMEOUT_S)
        except SourceError as error:
            raise SourceError(
                f"cannot fetch the weights ({error}); by hand, put {source} into {folder} and run again"
            ) from error
    return path
