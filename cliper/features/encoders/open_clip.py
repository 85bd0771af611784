"""CLIP models of open_clip: texts and images into one space; as in the paper, features are not normalised.

The weights go into a checkpoint of open_clip's own kind (`local-dir:FOLDER`): a folder with open_clip_config.json
for architecture and preprocessing, the weights, and a tokenizer if the model has its own. So they load without a
network, and the folder may be moved. A checkpoint of that kind in another folder is copied.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.hf_model import HFTextEncoder, MeanPooler
from open_clip.transformer import text_global_pool
from safetensors import SafetensorError
from torch import Tensor, nn

from cliper.errors import ConfigError, DataError, SourceError, unknown
from cliper.features.encoders.base import EncoderKind, ImageTower, TextTower, Weights, cut_tokens
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.encoders.open_clip_settings import LOCAL, OpenClipSettings
from cliper.files import first_line, read_json, sha256, write_json

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
ORIGIN = ".origin.json"  # next to fetched weights; decides nothing, so weights.json does not note it
PAD = 0  # token id
S = TypeVar("S", bound=EncoderSettings)


class Checkpoint(EncoderKind[S]):
    """Encoders whose weights are prepared as a checkpoint of open_clip's own kind."""

    def load(
        self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype
    ) -> tuple[TextTower, ImageTower]:
        """Load the checkpoint in a folder. Raises DataError if a file in it is not the one that was noted."""
        for name, digest in weights.files.items():
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                raise DataError(
                    f"{folder / name} is missing or was changed. Delete {folder} and run: python -m cliper weights"
                )
        return _open(_checkpoint(folder, weights), device, dtype)

    def load_counter(self, folder: Path, weights: Weights) -> Callable[[list[str]], list[int]]:
        """Return a counter of texts' tokens for the checkpoint in a folder."""
        tokenizer = open_clip.get_tokenizer(f"{LOCAL}{_checkpoint(folder, weights)}")
        return lambda texts: [len(row) for row in _ids(tokenizer, texts)]


class OpenClip(Checkpoint[OpenClipSettings]):
    """A model of open_clip with a tag's weights, or a checkpoint from a folder."""

    Settings = OpenClipSettings

    def prepare(self, folder: Path) -> Weights:
        """Fetch the weights of a tag, unless they are in the folder already, and check that they load.

        Raises ConfigError for settings that do not fit each other, SourceError if the weights cannot be fetched or
        are not those of the architecture.
        """
        settings = self.settings
        if settings.folder is not None:
            return _prepare_local(settings, Path(settings.folder).expanduser(), folder)
        assert settings.pretrained, "the settings ask for it"
        model, tag = _look_up(settings.architecture, settings.pretrained)
        _check_fit(settings, model, tag)
        checkpoint = folder / f"{settings.architecture}-{settings.pretrained}"  # of its own: tags never mix
        path = _fetch(tag, checkpoint, settings.revision)
        require_digest(path, settings.sha256)
        _fetch_tokenizer(settings.architecture, model, checkpoint)
        preprocessing = {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode")}
        write_json(checkpoint / CONFIG, {"model_cfg": model, "preprocess_cfg": preprocessing})
        _try(path, settings.architecture)
        origin = read_json(checkpoint / ORIGIN, made_by="weights") if (checkpoint / ORIGIN).is_file() else {}
        licences = {settings.pretrained: f"see {_repository(tag)}"}
        return describe(checkpoint, settings.architecture, licences, {"source": _repository(tag), **origin})


def _prepare_local(settings: OpenClipSettings, source: Path, folder: Path) -> Weights:
    """Copy a checkpoint of open_clip's own kind, and check that it loads."""
    if not (source / CONFIG).is_file():
        raise SourceError(
            f"{source} has no {CONFIG}, so it is no checkpoint of open_clip; correct encoders.*.architecture"
        )
    model = read_json(source / CONFIG, made_by="weights")["model_cfg"]
    if settings.context != _context(model):
        raise ConfigError(f"{source} reads {_context(model)} tokens, not {settings.context}; set its context")
    checkpoint = folder / "local"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir()
    for path in filter(Path.is_file, source.iterdir()):
        shutil.copyfile(path, checkpoint / path.name)
    if not (weights := _weights_in(checkpoint)):
        raise SourceError(f"{source} has no weights, neither *.safetensors nor *.bin; put them there")
    require_digest(weights[0], settings.sha256)
    _try(weights[0], settings.architecture)
    # its id holds no path: the same weights in another folder are the same
    return describe(checkpoint, "local-dir", {"local-dir": f"see {source}"}, {"source": str(source)})


def describe(checkpoint: Path, architecture: str, licences: dict[str, str], origin: dict[str, str]) -> Weights:
    """Describe a checkpoint for weights.json."""
    model = read_json(checkpoint / CONFIG, made_by="weights")["model_cfg"]
    names = sorted(path.name for path in checkpoint.iterdir() if not path.name.startswith("."))
    return Weights(
        architecture=architecture,
        files={f"{checkpoint.name}/{name}": sha256(checkpoint / name) for name in names},
        licences=licences,
        text_dim=model["embed_dim"],
        image_dim=model["embed_dim"],
        context=_context(model),
        origin=origin,
    )


def _checkpoint(folder: Path, weights: Weights) -> Path:
    return (folder / next(iter(weights.files))).parent


def _look_up(architecture: str, pretrained: str) -> tuple[dict[str, Any], dict[str, Any]]:
    model = open_clip.get_model_config(architecture)
    if model is None:
        raise ConfigError(unknown("architecture of open_clip", architecture, open_clip.list_models()))
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tag:
        known = open_clip.list_pretrained_tags_by_model(architecture)
        raise ConfigError(unknown(f"pretrained tag of {architecture}", pretrained, known))
    return model, tag


def _check_fit(settings: OpenClipSettings, model: dict[str, Any], tag: dict[str, Any]) -> None:
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


def require_digest(path: Path, digest: str | None) -> str:
    """The file's sha256. Raises SourceError if the config asks for another one."""
    found = sha256(path)
    if digest not in (None, found):
        raise SourceError(f"{path} has the sha256 {found}, not {digest} as the config asks; delete it and run again")
    return found


def _weights_in(checkpoint: Path) -> list[Path]:
    return sorted([*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.bin")])


def _fetch(tag: dict[str, Any], checkpoint: Path, revision: str | None) -> Path:
    """Path of the weights in the checkpoint. Raises SourceError saying which file to put where by hand."""
    if there := _weights_in(checkpoint):
        return there[0]
    checkpoint.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=checkpoint, prefix=".") as cache:  # a file that was fetched in part never looks whole
        try:
            repository, _, name = tag["hf_hub"].rpartition("/")
            fetched = Path(open_clip.pretrained.download_pretrained_from_hf(repository, name or None, revision, cache))
        except OSError as error:
            raise SourceError(
                f"cannot fetch the weights ({first_line(error)}); by hand, put "
                f"{_repository(tag)}/resolve/{revision or 'main'}/{name or WEIGHTS} into {checkpoint} and run again"
            ) from error
        if fetched.parents[1].name == "snapshots":  # the hub's cache names its folders after commits
            write_json(checkpoint / ORIGIN, {"revision": fetched.parent.name})
        return Path(shutil.move(fetched.resolve(), checkpoint / fetched.name))


def _fetch_tokenizer(architecture: str, model: dict[str, Any], checkpoint: Path) -> None:
    """Put a tokenizer of Hugging Face next to the weights; open_clip's own needs no files."""
    if name := model["text_cfg"].get("hf_tokenizer_name"):
        try:
            open_clip.get_tokenizer(architecture).save_pretrained(checkpoint)
        except OSError as error:
            raise SourceError(f"cannot fetch the tokenizer {name}; run again where there is a network") from error


def _try(path: Path, architecture: str) -> None:
    """Load the weights at `path` in their checkpoint. Raises SourceError if they are broken or another model's."""
    try:
        model, _ = _load_model(path.parent, torch.device("cpu"))
        check_state(load_state_dict(path), model)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise SourceError(
            f"{path} does not fit {architecture} ({first_line(error)}); delete it and run again"
        ) from error


def check_state(state: dict[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError if position embeddings have another length than the model's, or a value is not finite.

    open_clip stretches such embeddings without a warning.
    """
    wanted = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("positional_embedding") and len(tensor) != len(wanted.get(name, tensor)):
            what = "images" if name.startswith("visual") else "texts"
            raise ValueError(f"its {what} have {len(tensor)} tokens, not {len(wanted[name])}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has values that are not finite")


def _load_model(checkpoint: Path, device: torch.device) -> tuple[Any, Any]:
    """The model in a checkpoint, ready for use, and its preprocessing."""
    config = read_json(checkpoint / CONFIG, made_by="weights")["model_cfg"]
    override = {}
    if "hf_model_name" in config["text_cfg"]:  # its config.json lies in the checkpoint, wherever that is now
        override["text_cfg"] = {**config["text_cfg"], "hf_model_name": str(checkpoint)}
    model, preprocess = open_clip.create_model_from_pretrained(f"{LOCAL}{checkpoint}", device=device, **override)
    return model.eval(), preprocess


def _open(checkpoint: Path, device: torch.device, dtype: torch.dtype) -> tuple[TextTower, ImageTower]:
    model, preprocess = _load_model(checkpoint, device)
    model.to(dtype)  # all of it: on a CPU autocast is 10 times slower than fp32
    tokenizer = open_clip.get_tokenizer(f"{LOCAL}{checkpoint}")
    dim = read_json(checkpoint / CONFIG, made_by="weights")["model_cfg"]["embed_dim"]
    embed, can_cut = _text_encoder(model, tokenizer)
    tokenise = partial(_tokenise, tokenizer, can_cut=can_cut)
    text = TextTower(dim, tokenizer.context_length, PAD, tokenise, embed, can_cut)
    return text, ImageTower(dim, preprocess, lambda pixels: model.encode_image(pixels.to(dtype)))


def _tokenise(tokenizer: Any, texts: list[str], *, can_cut: bool) -> tuple[list[list[int]], list[int]]:
    ids = _ids(tokenizer, texts)
    lengths = [len(row) for row in ids]
    if can_cut:
        return [cut_tokens(row, tokenizer.context_length) for row in ids], lengths
    return tokenizer(texts).tolist(), lengths  # some pad or mark in their own ways


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of texts, not truncated, with the marks of start and end."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return [[tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id] for text in texts]
    ids: list[list[int]] = tokenizer.tokenizer([tokenizer.clean_fn(text) for text in texts], verbose=False)["input_ids"]
    return ids


def _text_encoder(model: Any, tokenizer: Any) -> tuple[Any, bool]:
    """Return what embeds texts, and whether it is exact when the padding is cut off."""
    if isinstance(model, open_clip.CLIP):
        is_openai_like = isinstance(tokenizer, open_clip.SimpleTokenizer) and model.text_pool_type == "argmax"
        can_cut = is_openai_like and model.attn_mask is not None
        return (partial(encode_text_cut, model) if can_cut else model.encode_text), can_cut
    is_masked = isinstance(model.text, HFTextEncoder) and isinstance(model.text.pooler, MeanPooler)
    is_plain = is_masked and not (tokenizer.strip_sep_token or tokenizer.tokenizer_mode)
    return model.encode_text, is_plain and tokenizer.tokenizer.pad_token_id == PAD


def encode_text_cut(model: Any, tokens: Tensor) -> Tensor:
    """Encode texts as `model.encode_text` does, but with fewer tokens than the context: (B, L) -> (B, D).

    Exact for a causal text tower that is read at its end mark: no token sees those after it.
    """
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]  # (B, L, width)
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    pooled = text_global_pool(hidden, tokens, "argmax")  # the end mark has the highest id
    embedding: Tensor = pooled @ model.text_projection  # (B, width) -> (B, D)
    return embedding
