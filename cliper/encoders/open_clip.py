"""CLIP models of open_clip: texts and images into one space; features as the paper takes them, not normalised.

The weights go into a checkpoint of open_clip's own kind (`local-dir:FOLDER`): a folder with open_clip_config.json
for architecture and preprocessing, the weights, and a tokenizer where the model has its own. So they load without
a network and wherever they are moved.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.hf_model import HFTextEncoder, MeanPooler
from open_clip.transformer import text_global_pool
from safetensors import SafetensorError
from torch import Tensor

from cliper.config import Encoder as Settings
from cliper.encoders.base import ImageTower, TextTower, Weights
from cliper.errors import ConfigError, DataError, SourceError, unknown
from cliper.files import read_json, sha256, write_json

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


def prepare(settings: Settings, folder: Path) -> Weights:
    """Fetch the weights of a tag, unless they lie in the folder already, and try them.

    Raises ConfigError for settings that do not fit each other, SourceError if the weights cannot be fetched or
    are not those of the architecture.
    """
    assert settings.architecture and settings.pretrained, "the schema of the config asks for both"
    model, tag = _look_up(settings.architecture, settings.pretrained)
    _check_fit(settings, model, tag)
    checkpoint = folder / f"{settings.architecture}-{settings.pretrained}"  # of its own: tags never mix
    path = _fetch(tag, checkpoint)
    _fetch_tokenizer(settings.architecture, model, checkpoint)
    preprocessing = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    write_json(checkpoint / CONFIG, {"model_cfg": model, "preprocess_cfg": preprocessing})
    try:
        _check_context(path, settings.context)
        _open(checkpoint, torch.device("cpu"))
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise SourceError(
            f"{path} does not fit {settings.architecture} ({str(error).splitlines()[0]}); delete it and run again"
        ) from error
    return describe(checkpoint, settings.architecture, {settings.pretrained: f"see {_repository(tag)}"})


def describe(checkpoint: Path, architecture: str, licences: dict[str, str]) -> Weights:
    """Note what a checkpoint holds."""
    model = read_json(checkpoint / CONFIG, made_by="weights")["model_cfg"]
    names = sorted(path.name for path in checkpoint.iterdir() if not path.name.startswith("."))
    return Weights(
        architecture=architecture,
        files={f"{checkpoint.name}/{name}": sha256(checkpoint / name) for name in names},
        licences=licences,
        text_dim=model["embed_dim"],
        image_dim=model["embed_dim"],
        context=_context(model),
    )


def load(folder: Path, weights: Weights, device: torch.device) -> tuple[TextTower, ImageTower]:
    """Load the checkpoint in a folder. Raises DataError if a file in it is not the one that was noted."""
    for name, digest in weights.files.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise DataError(
                f"{folder / name} is missing or was changed. Run: python -m cliper weights --encoder {folder.name}"
            )
    return _open((folder / next(iter(weights.files))).parent, device)


def _look_up(architecture: str, pretrained: str) -> tuple[dict[str, Any], dict[str, Any]]:
    model = open_clip.get_model_config(architecture)
    if model is None:
        raise ConfigError(unknown("architecture of open_clip", architecture, open_clip.list_models()))
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tag:
        known = open_clip.list_pretrained_tags_by_model(architecture)
        raise ConfigError(unknown(f"pretrained tag of {architecture}", pretrained, known))
    return model, tag


def _check_fit(settings: Settings, model: dict[str, Any], tag: dict[str, Any]) -> None:
    if "hf_model_name" in model["text_cfg"]:
        raise ConfigError(f"{settings.architecture} takes its text tower from elsewhere; choose another architecture")
    if bool(model.get("quick_gelu")) != bool(tag.get("quick_gelu")):  # open_clip only warns
        raise ConfigError(
            f"{settings.architecture} and its weights {settings.pretrained} differ in their activation, QuickGELU "
            "or GELU; add -quickgelu to the architecture or take it away"
        )
    if settings.context != (context := _context(model)):
        raise ConfigError(f"{settings.architecture} reads {context} tokens, not {settings.context}; set its context")


def _context(model: dict[str, Any]) -> int:
    return int(model["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH))


def _repository(tag: dict[str, Any]) -> str:
    return f"https://huggingface.co/{tag['hf_hub'].rpartition('/')[0]}"


def _fetch(tag: dict[str, Any], checkpoint: Path) -> Path:
    """Path of the weights in the checkpoint. Raises SourceError saying which file to put where by hand."""
    if there := sorted([*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.bin")]):
        return there[0]
    checkpoint.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=checkpoint, prefix=".") as cache:  # a file that was fetched in part never looks whole
        try:
            fetched = Path(open_clip.download_pretrained(tag, cache_dir=cache))
        except OSError as error:
            name = tag["hf_hub"].rpartition("/")[2] or WEIGHTS
            raise SourceError(
                f"cannot fetch the weights ({str(error).splitlines()[0]}); by hand, put "
                f"{_repository(tag)}/resolve/main/{name} into {checkpoint} and run again"
            ) from error
        return Path(shutil.move(fetched.resolve(), checkpoint / fetched.name))


def _fetch_tokenizer(architecture: str, model: dict[str, Any], checkpoint: Path) -> None:
    """Put a tokenizer of Hugging Face beside the weights; open_clip's own needs no files."""
    if name := model["text_cfg"].get("hf_tokenizer_name"):
        try:
            open_clip.get_tokenizer(architecture).save_pretrained(checkpoint)
        except OSError as error:
            raise SourceError(f"cannot fetch the tokenizer {name}; run again where there is a network") from error


def _check_context(path: Path, context: int | None) -> None:
    """open_clip stretches position embeddings of another length without a word."""
    state = load_state_dict(path)
    positions = state.get("positional_embedding", state.get("text.positional_embedding"))
    if positions is not None and len(positions) != context:
        raise ValueError(f"its texts have {len(positions)} tokens, not {context}")


def _open(checkpoint: Path, device: torch.device) -> tuple[TextTower, ImageTower]:
    config = read_json(checkpoint / CONFIG, made_by="weights")["model_cfg"]
    override = {}
    if "hf_model_name" in config["text_cfg"]:  # its config.json lies beside, wherever the folder is now
        override["text_cfg"] = {**config["text_cfg"], "hf_model_name": str(checkpoint)}
    name = f"local-dir:{checkpoint}"
    model, preprocess = open_clip.create_model_from_pretrained(name, device=device, **override)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    embed, can_cut = _text_encoder(model, tokenizer)
    dim = config["embed_dim"]
    text = TextTower(dim, tokenizer.context_length, partial(_tokenise, tokenizer), embed, can_cut)
    return text, ImageTower(dim, preprocess, model.encode_image)


def _tokenise(tokenizer: Any, texts: list[str]) -> tuple[Tensor, list[int]]:
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return tokenizer(texts), [len(tokenizer.encode(text)) + 2 for text in texts]
    whole = tokenizer.tokenizer([tokenizer.clean_fn(text) for text in texts], verbose=False)
    return tokenizer(texts), [len(ids) for ids in whole["input_ids"]]


def _text_encoder(model: Any, tokenizer: Any) -> tuple[Any, bool]:
    """How texts are embedded, and whether that is exact when the padding is cut away."""
    if isinstance(model, open_clip.CLIP):
        is_openai_like = isinstance(tokenizer, open_clip.SimpleTokenizer) and model.text_pool_type == "argmax"
        can_cut = is_openai_like and model.attn_mask is not None
        return (partial(encode_text_cut, model) if can_cut else model.encode_text), can_cut
    is_masked = isinstance(model.text, HFTextEncoder) and isinstance(model.text.pooler, MeanPooler)
    return model.encode_text, is_masked


def encode_text_cut(model: Any, tokens: Tensor) -> Tensor:
    """What `model.encode_text` does, for fewer tokens than the context: (B, L) -> (B, D).

    Exact for a causal text tower that is read at its end mark: no token sees those after it.
    """
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]  # (B, L, width)
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    pooled = text_global_pool(hidden, tokens, "argmax")  # the end mark has the highest id
    embedding: Tensor = pooled @ model.text_projection  # (B, width) -> (B, D)
    return embedding
