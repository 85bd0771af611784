"""A stand-in for CLIP that needs no training and no download: two small packages from PyPI, joined by words.

EfficientNet-Lite0 says which of ImageNet's 1,000 classes a picture shows; the sentence encoder all-MiniLM-L6-v2
places the names of these classes, and any text, in one space. Mapping the classifier's logits onto the vectors of
the class names therefore aligns pictures with texts. The result is a checkpoint like any of open_clip.

It knows object nouns and little else. It is not OpenAI's CLIP, and results with it are not the paper's.
Source: ConSE (Norouzi et al. 2014). Departs from it: a soft threshold on logits in place of the best few classes.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from open_clip import CustomTextCLIP
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from cliper.features.encoders import cnn, sentence
from cliper.features.encoders.base import Encoder, ImageTower, TextTower, Weights, few_at_a_time
from cliper.features.encoders.bridge_settings import BridgeSettings
from cliper.features.encoders.checkpoint_files import CONFIG, TEXT_MODEL, TOKENIZER, TOKENS
from cliper.features.encoders.open_clip import CPU, WEIGHTS, Checkpoint, describe
from cliper.features.encoders.packages import find_package
from cliper.files import atomic, write_json

D = 512  # width of the shared space, as in CLIP ViT-B/32
CONTEXT = 77  # tokens, as in CLIP
THRESHOLD = 2.0  # smaller logits vanish in the GELU between the two layers that map logits to vectors
TEMPLATES = ("a photo of a {}.", "{}", "a picture showing a {}")
MODEL: dict[str, Any] = {
    "embed_dim": D,
    "custom_text": True,
    "vision_cfg": {
        "timm_model_name": cnn.TIMM_NAME,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "mlp",
        "timm_drop": 0.0,
        "timm_drop_path": 0.0,
        "image_size": 224,
    },
    "text_cfg": {
        "hf_model_name": "sentence-transformers/all-MiniLM-L6-v2",
        "hf_tokenizer_name": "sentence-transformers/all-MiniLM-L6-v2",
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        "context_length": CONTEXT,
    },
}


class Bridge(Checkpoint[BridgeSettings]):
    """The bridge, a checkpoint that is assembled here."""

    Settings = BridgeSettings

    def prepare(self, folder: Path) -> Weights:
        """Assemble the checkpoint; equal bytes each time. Raises SourceError without the two packages."""
        packages = {name: find_package(name) for name in (cnn.MODEL, sentence.MODEL)}
        minilm = packages[sentence.MODEL].find().parent
        checkpoint = folder / "bridge"
        checkpoint.mkdir(exist_ok=True)
        for name in (TEXT_MODEL, TOKENIZER, TOKENS):
            shutil.copyfile(minilm / name, checkpoint / name)
        preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3}
        write_json(checkpoint / CONFIG, {"model_cfg": MODEL, "preprocess_cfg": preprocessing})
        with atomic(checkpoint / WEIGHTS) as temporary:
            save_file(assemble(minilm), temporary)
        architecture = f"{cnn.MODEL} + {sentence.MODEL}"
        origin = {name: f"{package.package}=={package.version}" for name, package in packages.items()}
        return describe(checkpoint, architecture, {name: package.licence for name, package in packages.items()}, origin)

    def load(
        self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype
    ) -> tuple[TextTower, ImageTower]:
        """Load the checkpoint as open_clip does, with its convolutions arranged for a CPU."""
        text, image = super().load(folder, weights, device, dtype)
        return text, replace(image, embed=few_at_a_time(image.embed, device))


@torch.inference_mode()
def assemble(minilm: Path) -> dict[str, Tensor]:
    """State of the joined model; the folder of MiniLM says how its transformer is built."""
    text_cfg = {**MODEL["text_cfg"], "hf_model_name": str(minilm)}
    model = CustomTextCLIP(D, MODEL["vision_cfg"], text_cfg)
    classifier = cnn.load_lite0()
    model.text.transformer.load_state_dict(sentence.load_minilm().state_dict())
    model.visual.trunk.load_state_dict(
        {name: tensor for name, tensor in classifier.state_dict().items() if not name.startswith("classifier.")}
    )
    classes = class_vectors()
    to_space = isometry(classes.shape[1], D) @ without_direction(classes.mean(0))  # (D, 384)
    model.text.proj.weight.copy_(to_space)
    set_image_head(model.visual.head.mlp, classifier.classifier, to_space @ classes.T)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def class_vectors() -> Tensor:
    """Unit vectors of the names of ImageNet's classes, each the mean over the templates: (1000, 384)."""
    tower = sentence.load_text_tower(CPU, torch.float32)
    encoder = Encoder(tower, None, batch_size=1, batch_tokens=1024, device=CPU, precision="fp32")
    prompts = [template.format(name) for template in TEMPLATES for name in IMAGENET_CLASSNAMES]
    vectors = torch.from_numpy(encoder.encode_texts(prompts).embedding)
    return normalize(vectors.view(len(TEMPLATES), len(IMAGENET_CLASSNAMES), -1).sum(0), dim=-1)


def isometry(width: int, wider: int) -> Tensor:
    """A fixed map (wider, width) that keeps all lengths and angles."""
    random = torch.randn(wider, width, generator=torch.Generator().manual_seed(0))
    orthonormal: Tensor = torch.linalg.qr(random)[0]
    return orthonormal


def without_direction(direction: Tensor) -> Tensor:
    """Projection that removes one direction, here the one that all class names share.

    >>> without_direction(torch.tensor([2.0, 0.0])) @ torch.tensor([5.0, 3.0])
    tensor([0., 3.])
    """
    unit = normalize(direction, dim=0)
    return torch.eye(len(unit)) - torch.outer(unit, unit)


def set_image_head(head: Any, classifier: nn.Linear, class_vectors: Tensor) -> None:
    """Make the two layers of the image head give sum over classes c of GELU(logit_c - THRESHOLD) * vector_c.

    head           fc1 (1280 -> 1024), GELU, fc2 (1024 -> D, no bias); 24 of its hidden units stay unused
    class_vectors  (D, 1000)
    """
    n_classes = classifier.out_features
    for parameter in head.parameters():
        parameter.zero_()
    head.fc1.weight[:n_classes] = classifier.weight
    head.fc1.bias[:n_classes] = classifier.bias - THRESHOLD
    head.fc2.weight[:, :n_classes] = class_vectors
