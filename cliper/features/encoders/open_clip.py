"""CLIP models of open_clip: texts and images into one space; as in the paper, features are not normalised.

The weights go into a checkpoint of open_clip's own kind (`local-dir:FOLDER`): a folder with open_clip_config.json
for architecture and preprocessing, the weights, and a tokenizer if the model has its own. So they load without a
network, and the folder may be moved. Of a checkpoint of that kind in another folder, the weights and those small files
are copied that the model needs. Nothing in it is run: see `checkpoint_files`.
"""

from __future__ import annotations

import logging
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import open_clip
import torch
from open_clip.factory import load_checkpoint, load_state_dict
from open_clip.hf_model import HFTextEncoder, MeanPooler
from open_clip.tokenizer import HFTokenizer, get_clean_fn
from open_clip.transformer import text_global_pool
from PIL import Image
from torch import Tensor, nn

from cliper.errors import CliperError, ConfigError, DataError, SourceError, unknown
from cliper.features.encoders import checkpoint_files
from cliper.features.encoders.base import Encoder, EncoderKind, ImageTower, TextTower, Weights, cut_tokens
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.encoders.checkpoint_files import CONFIG, TEXT_MODEL, TOKENIZER, TOKENS
from cliper.features.encoders.open_clip_settings import LOCAL, OpenClipSettings
from cliper.files import first_line, read_json, sha256, write_json

WEIGHTS = "open_clip_model.safetensors"
ORIGIN = ".origin.json"  # next to fetched weights; decides nothing, so weights.json does not note it
CPU = torch.device("cpu")
PAD = 0  # token id
PROBE = "a photo of a cat"  # each model is tried on it before it is ready
S = TypeVar("S", bound=EncoderSettings)


class Checkpoint(EncoderKind[S]):
    """Encoders whose weights are prepared as a checkpoint of open_clip's own kind."""

    def load(
        self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype
    ) -> tuple[TextTower, ImageTower]:
        """Load the checkpoint in a folder. Raises DataError if a file in it is not the one that was noted."""
        checkpoint = _checkpoint(folder, weights, list(weights.files))
        with _complaints(checkpoint, advice=f"delete {folder} and run: python -m cliper weights"):
            return _open(checkpoint, device, dtype)

    def load_counter(self, folder: Path, weights: Weights) -> Callable[[list[str]], list[int]]:
        """Return a counter of texts' tokens for the checkpoint in a folder."""
        small = [name for name in weights.files if not name.endswith(checkpoint_files.WEIGHTS)]
        tokenizer = _load_tokenizer(_checkpoint(folder, weights, small))
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
        _try(checkpoint, advice=f"delete {path}, run again")
        origin = read_json(checkpoint / ORIGIN, made_by="weights") if (checkpoint / ORIGIN).is_file() else {}
        licences = {settings.pretrained: f"see {_repository(tag)}"}
        return describe(checkpoint, settings.architecture, licences, {"source": _repository(tag), **origin})


def _prepare_local(settings: OpenClipSettings, source: Path, folder: Path) -> Weights:
    """Copy what is needed of a checkpoint of open_clip's own kind, and check that it loads."""
    if not (source / CONFIG).is_file():
        raise SourceError(
            f"{source} has no {CONFIG}, so it is no checkpoint of open_clip; correct encoders.*.architecture"
        )
    text = _read(source).text_cfg
    if settings.context != (context := _context(text.context_length)):
        raise ConfigError(f"{source} reads {context} tokens, not {settings.context}; set its context")
    if (path := _weights_in(source)) is None:
        raise SourceError(f"{source} has no weights, neither {', nor '.join(checkpoint_files.WEIGHTS)}; put them there")
    names = [CONFIG, path.name]
    names += [TOKENIZER, TOKENS] if text.hf_tokenizer_name else []
    names += [TEXT_MODEL] if text.hf_model_name else []
    for name in names:
        if (source / name).is_symlink() or not (source / name).is_file():
            raise SourceError(f"{source} needs {name} as a file, not as a link; copy it there, for example by cp -rL")
    checkpoint = folder / "local"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir()
    for name in names:
        shutil.copyfile(source / name, checkpoint / name)
    require_digest(checkpoint / path.name, settings.sha256)
    _try(checkpoint, advice=f"correct {source}, run again")
    # its id holds no path: the same weights in another folder are the same
    return describe(checkpoint, "local-dir", {"local-dir": f"see {source}"}, {"source": str(source)})


def describe(checkpoint: Path, architecture: str, licences: dict[str, str], origin: dict[str, str]) -> Weights:
    """Describe a checkpoint for weights.json."""
    model = _read(checkpoint)
    names = sorted(path.name for path in checkpoint.iterdir() if not path.name.startswith("."))
    return Weights(
        architecture=architecture,
        files={f"{checkpoint.name}/{name}": sha256(checkpoint / name) for name in names},
        licences=licences,
        text_dim=model.embed_dim,
        image_dim=model.embed_dim,
        context=_context(model.text_cfg.context_length),
        origin=origin,
    )


def _read(checkpoint: Path) -> checkpoint_files.Model:
    return checkpoint_files.read(checkpoint / CONFIG, checkpoint_files.CheckpointConfig).model_cfg


def _checkpoint(folder: Path, weights: Weights, names: list[str]) -> Path:
    """The checkpoint in an encoder's folder. Raises DataError if one of these files is not the one that was noted."""
    for name in names:
        if not (folder / name).is_file() or sha256(folder / name) != weights.files[name]:
            raise DataError(
                f"{folder / name} is missing or was changed. Delete {folder} and run: python -m cliper weights"
            )
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
    if settings.context != (context := _context(model["text_cfg"].get("context_length"))):
        raise ConfigError(f"{settings.architecture} reads {context} tokens, not {settings.context}; set its context")


def _context(context_length: int | None) -> int:
    return context_length or int(open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)


def _repository(tag: dict[str, Any]) -> str:
    return f"https://huggingface.co/{tag['hf_hub'].rpartition('/')[0]}"


def require_digest(path: Path, digest: str | None) -> str:
    """The file's sha256. Raises SourceError if the config asks for another one."""
    found = sha256(path)
    if digest not in (None, found):
        raise SourceError(f"{path} has the sha256 {found}, not {digest} as the config asks; delete it and run again")
    return found


def _weights_in(checkpoint: Path) -> Path | None:
    """The file that open_clip loads. Raises SourceError if there are several: it would take one by its name."""
    found = sorted(path for path in checkpoint.glob("*") if path.name.endswith(checkpoint_files.WEIGHTS))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SourceError(f"{checkpoint} has {len(found)} files of weights: {names}; leave one of them there")
    return found[0] if found else None


def _fetch(tag: dict[str, Any], checkpoint: Path, revision: str | None) -> Path:
    """Path of the weights in the checkpoint. Raises SourceError saying which file to put where by hand."""
    if there := _weights_in(checkpoint):
        return there
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
            fetched = open_clip.get_tokenizer(architecture, trust_remote_code=False).tokenizer
        except OSError as error:
            raise SourceError(f"cannot fetch the tokenizer {name}; run again where there is a network") from error
        fetched.backend_tokenizer.save(str(checkpoint / TOKENIZER))
        sides = {side: getattr(fetched, side) for side in ("padding_side", "truncation_side")}
        write_json(checkpoint / TOKENS, fetched.special_tokens_map | sides)


def _try(checkpoint: Path, *, advice: str) -> None:
    """Encode a text and a picture. Raises SourceError if the checkpoint's files are broken or do not fit each other."""
    with _complaints(checkpoint, advice=advice):
        _check_fit_of_state(checkpoint)
        text, image = _open(checkpoint, CPU, torch.float32)
        encoder = Encoder(text, image, batch_size=1, batch_tokens=1, device=CPU, precision="fp32")
        encoder.encode_texts([PROBE])
        encoder.encode_images([image.preprocess(Image.new("RGB", (8, 8)))])


@contextmanager
def _complaints(checkpoint: Path, *, advice: str) -> Iterator[None]:
    """If a checkpoint cannot be built, loaded or used, raise SourceError."""
    try:
        yield
    except CliperError:
        raise
    except Exception as error:  # of open_clip, timm, transformers, torch: they check little before they compute
        path = _weights_in(checkpoint)
        raise SourceError(f"{path} does not fit its {CONFIG} ({reason(error)}); {advice}") from error


def reason(error: Exception) -> str:
    """Why weights cannot be loaded, from what torch or a model says of it."""
    if isinstance(error, pickle.UnpicklingError):  # torch says how to run the code
        return "it is cut, or would run code"
    return " ".join(line.strip() for line in str(error).splitlines()[:3]) or type(error).__name__


def _check_fit_of_state(checkpoint: Path) -> None:
    """Raise unless the file has the model's names and shapes. No memory is taken for a model that is thrown away."""
    path = _weights_in(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is copied
        with torch.device("meta"):
            model = _create(
                checkpoint, open_clip.create_model, device="meta", load_weights=False, pretrained_text=False
            )
        check_state(load_state_dict(path), model)
        load_checkpoint(model, path)


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


class FolderTokenizer(HFTokenizer):  # type: ignore[misc] # open_clip has no types
    """open_clip's tokenizer of Hugging Face, read from a folder as data."""

    def __init__(self, folder: Path, text: checkpoint_files.TextTower) -> None:
        options = text.tokenizer_kwargs or checkpoint_files.TokenizerOptions()
        self.tokenizer = checkpoint_files.load_tokenizer(folder)
        self.tokenizer_mode = text.tokenizer_mode or ""
        self.context_length = _context(text.context_length)
        self.clean_fn = get_clean_fn(options.clean or "whitespace")
        self.strip_sep_token = bool(options.strip_sep_token)


def _load_tokenizer(checkpoint: Path) -> Any:
    text = _read(checkpoint).text_cfg
    if text.hf_tokenizer_name:
        return FolderTokenizer(checkpoint, text)
    clean = (text.tokenizer_kwargs and text.tokenizer_kwargs.clean) or "lower"
    return open_clip.SimpleTokenizer(context_length=_context(text.context_length), clean=clean)


def _create(checkpoint: Path, create: Callable[..., Any], **how: Any) -> Any:
    """Let open_clip build a checkpoint's model, all from its folder. Raises SourceError as `checkpoint_files.read`."""
    text = _read(checkpoint).text_cfg
    if text.hf_model_name is not None:
        checkpoint_files.read(checkpoint / TEXT_MODEL, checkpoint_files.TextModel)
        here = {"hf_model_name": str(checkpoint), "hf_model_pretrained": False}
        how["text_cfg"] = text.model_dump(exclude_unset=True) | here
    logging.disable(logging.WARNING)  # open_clip's lines on which file of weights it takes: there is one
    try:
        return create(f"{LOCAL}{checkpoint}", **how)
    finally:
        logging.disable(logging.NOTSET)


def _open(checkpoint: Path, device: torch.device, dtype: torch.dtype) -> tuple[TextTower, ImageTower]:
    _weights_in(checkpoint)  # one at most
    model, preprocess = _create(checkpoint, open_clip.create_model_from_pretrained, device=device)
    model.eval().to(dtype)  # all of it: on a CPU autocast is 10 times slower than fp32
    tokenizer, dim = _load_tokenizer(checkpoint), _read(checkpoint).embed_dim
    embed, can_cut = _text_encoder(model, tokenizer)
    n_ids = getattr(model, "text", model).vocab_size
    tokenise = partial(_tokenise, tokenizer, n_ids=n_ids, can_cut=can_cut)
    text = TextTower(dim, tokenizer.context_length, PAD, tokenise, embed, can_cut)
    return text, ImageTower(dim, preprocess, lambda pixels: model.encode_image(pixels.to(dtype)))


def _tokenise(tokenizer: Any, texts: list[str], *, n_ids: int, can_cut: bool) -> tuple[list[list[int]], list[int]]:
    whole = _ids(tokenizer, texts)
    cut = [cut_tokens(row, tokenizer.context_length) for row in whole]
    rows = cut if can_cut else tokenizer(texts).tolist()  # some pad or mark in their own ways
    if (highest := max(map(max, filter(None, rows)), default=0)) >= n_ids:
        raise SourceError(f"the tokenizer gives token {highest}, and the model knows {n_ids}; correct the checkpoint")
    return rows, [len(row) for row in whole]


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of texts, not truncated, with the marks of start and end."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return [[tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id] for text in texts]
    try:
        ids: list[list[int]] = tokenizer.tokenizer(list(map(tokenizer.clean_fn, texts)), verbose=False)["input_ids"]
    except Exception as error:  # the tokenizers library has no class of its own
        raise SourceError(f"the tokenizer cannot read a text ({first_line(error)}); correct the checkpoint") from error
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
