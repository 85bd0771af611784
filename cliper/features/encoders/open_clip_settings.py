"""Settings of open_clip's models."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cliper.features.encoders.base_settings import EncoderSettings, Sha256, size_of
from cliper.settings import Width, fault

HUB = "https://huggingface.co"
LOCAL = "local-dir:"  # open_clip's own prefix


class OpenClipSettings(EncoderSettings):
    """Which model of open_clip, with which weights."""

    architecture: str = Field(
        description="open_clip's name of the model, or local-dir:FOLDER with a checkpoint of open_clip's own kind"
    )
    pretrained: str | None = Field(None, description="open_clip's tag of the weights")
    revision: str | None = Field(
        None, description="commit or branch of the repository that holds a tag's weights; without it the main branch"
    )
    sha256: Sha256 | None = Field(None, description="of the file of weights as it comes; another file is refused")
    context: Width = Field(description="tokens")

    @model_validator(mode="after")
    def _name_weights(self) -> Self:
        if self.folder is None and self.pretrained is None:
            raise fault("pretrained is missing (open_clip's tag of the weights); only a local-dir: has its own weights")
        return self

    @property
    def folder(self) -> str | None:
        """The folder of a checkpoint; None where the weights are a tag's."""
        return self.architecture.removeprefix(LOCAL) if self.architecture.startswith(LOCAL) else None

    @property
    def origin(self) -> str:
        """The checkpoint's folder, or the hub."""
        return HUB if self.folder is None else self.folder

    @property
    def size(self) -> str:
        """See the base class."""
        return size_of(self.architecture, self.context)
