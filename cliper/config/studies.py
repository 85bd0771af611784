"""Section `studies`: what is varied, one thing at a time, and the arms and datasets that follow from it.

A derived name says how a thing differs from its base: `cliper.temperature-0.05`, `baby.split-user_time`. It may stand
wherever a name of an arm or a dataset may stand. A derived arm that equals an arm with a name of its own is that arm:
both share their cells.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from pydantic import Field

from cliper.config.features import FusionName, MissingImage
from cliper.features.encoders.base_settings import Policy
from cliper.settings import Derived, Distinct, Name, Positive, Seed, Settings, Text, Width

PART = re.compile(r"\.(?=[a-z_]+-)")
OF_DATASET = ("split", "split_seed")  # what is varied of a dataset; all else is of an arm


class Vary(Settings):
    """What a study varies: each value of each key gives one variation of its base."""

    arm: Distinct[Derived] | None = Field(None, description="other arms, as they are")
    backbone: Distinct[Name] | None = Field(None, description="other backbones; those without features as references")
    temperature: Distinct[Positive] | None = Field(None, description="τ of equation 2")
    d: Distinct[Width] | None = Field(None, description="width of the backbone's embeddings")
    without: Distinct[Name] | None = Field(None, description="views, each left out")
    only: Distinct[Name] | None = Field(None, description="views, each alone")
    fusion: Distinct[FusionName] | None = Field(None, description="how views become one text feature")
    encoder: Distinct[Name] | None = Field(None, description="encoders of both images and texts")
    prompts: Distinct[Name] | None = Field(None, description="prompt sets")
    missing_image: Distinct[MissingImage] | None = Field(None, description="what replaces a missing image")
    overflow: Distinct[Policy] | None = Field(None, description="how a text longer than the context is encoded")
    split: Distinct[Literal["random", "user_time", "global_time"]] | None = Field(
        None, description="which interactions are held out"
    )
    split_seed: Distinct[Seed] | None = Field(None, description="seeds of the split")


class Study(Settings):
    """One arm on some datasets and backbones, and what of it is varied."""

    title: Text = Field(description="what the study asks, above its table and figure")
    arm: Derived = Field(description="the base, from which each variation differs in one thing")
    datasets: Distinct[Derived] = Field(
        description="which of `datasets`; the study belongs to the run if all are in run.datasets"
    )
    backbones: Distinct[Name] = Field(description="which of `backbones`")
    seeds: Distinct[Seed] | None = Field(None, description="default: run.seeds")
    vary: Vary = Field(description="what is varied, see below")

    @property
    def changes(self) -> list[tuple[str, Any]]:
        """Key and value of each variation."""
        return [(key, value) for key, values in self.vary for value in values or ()]


class Variation(NamedTuple):
    """Where the cells of one variation lie, and in what it differs from the base."""

    key: str  # "": the base itself
    value: str
    dataset: str
    backbone: str
    arm: str


class Comparison(NamedTuple):
    """Two arms whose results are compared, on the same interactions and seeds."""

    dataset: str
    backbone: str
    arm: str
    base_backbone: str
    base: str


def base_of(name: str) -> str:
    """The name that a derived name starts from.

    >>> base_of("cliper.temperature-0.05"), base_of("cliper")
    ('cliper', 'cliper')
    """
    return PART.split(name)[0]


def parent_of(name: str) -> tuple[str, str, str]:
    """What a derived name starts from before its last change, and that change's key and value.

    >>> parent_of("cliper.d-64.temperature-0.05")
    ('cliper.d-64', 'temperature', '0.05')
    """
    *before, last = PART.split(name)
    key, _, value = last.partition("-")
    return ".".join(before), key, value


def derived(name: str, key: str, value: Any) -> str:
    """The name of what differs in one thing.

    >>> derived("cliper", "temperature", 0.05)
    'cliper.temperature-0.05'
    """
    return f"{name}.{key}-{f'{value:.12g}' if isinstance(value, float) else value}"
