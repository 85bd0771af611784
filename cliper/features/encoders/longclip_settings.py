"""Settings of Long-CLIP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cliper.features.encoders.base_settings import EncoderSettings, Sha256, size_of
from cliper.settings import Text


class LongClipSettings(EncoderSettings):
    """Which file of Long-CLIP, and how its weights are rounded."""

    architecture: str = Field(description="open_clip's name of the model")
    source: Text = Field(description="URL or path of the original .pt file")
    sha256: Sha256 | None = Field(None, description="of the file of weights as it comes; another file is refused")
    weights: Literal["as_stored", "fp16_rounded"] = Field(
        description="fp16_rounded computes with the weights that Long-CLIP's own code computes with"
    )
    context: Literal[248] = Field(description="tokens")

    @property
    def origin(self) -> str:
        """The original file."""
        return self.source

    @property
    def size(self) -> str:
        """See the base class."""
        return size_of(self.architecture, self.context)
