"""Settings of BPR."""

from __future__ import annotations

from typing import ClassVar

from cliper.models.backbones.base_settings import BackboneSettings


class BprSettings(BackboneSettings):
    """BPR: plain matrix factorisation; no graph, no features."""

    title: ClassVar[str] = "BPR"
