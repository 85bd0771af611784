"""The whole config with all its sections, and what follows from several of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import Field

from cliper.collect.sources.base_settings import GivenFeatures as GivenFiles
from cliper.config.collect import Crawl, Dataset, Download
from cliper.config.features import Arm, Encode, Encoder, Fuse, MadeArm, Prompt, View
from cliper.config.models import Backbones, Evaluate, Neighbours, Search, Train
from cliper.config.report import Tabulate
from cliper.config.trials import slots_of, trials_of
from cliper.config.tuning import base_of, varies
from cliper.errors import ConfigError, unknown
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Distinct, Name, Seed, Settings
from cliper.variants import Variant

T = TypeVar("T")
CONTENT_FREE = "content_free"  # the arm of backbones that use no features
Views = Annotated[dict[Name, View], Field(min_length=1)]


class Cell(NamedTuple):
    """One training job."""

    dataset: str
    backbone: str
    arm: str
    seed: int


class Run(Settings):
    """What to run: every dataset x backbone x arm x seed is one cell."""

    datasets: Distinct[Name] = Field(description="which of `datasets`")
    backbones: Distinct[Name] = Field(description="which of `backbones`")
    arms: Distinct[Name] = Field(description="which of `arms`, for backbones that use features")
    seeds: Distinct[Seed] = Field(description="everything random in a cell comes from its seed")


@dataclass(frozen=True, slots=True)
class MadeFeatures:
    """How an arm's features are made for a dataset: the whole arm except d."""

    image: str | None  # encoder; None: the image features come with the dataset
    given: str | None  # file of given image features
    text: str  # encoder
    prompts: str
    views: tuple[str, ...]  # in the order in which they are fused
    fusion: str
    temperature: float | None
    vectors: str
    missing_field: str
    missing_image: str

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders that read images or texts."""
        return tuple(dict.fromkeys(name for name in (self.image, self.text) if name))


@dataclass(frozen=True, slots=True)
class GivenFeatures:
    """Image and text features that come with a dataset and are used as they are."""

    image: str  # file
    text: str  # file


@dataclass(frozen=True, slots=True)
class Searched:
    """Whose selected settings a cell takes: those of the names that its own derive from."""

    dataset: str
    arm: str
    keeps_d: bool  # the cell's arm varies d, so it keeps its own


class Config(Settings):
    """The whole config."""

    name: Name = Field(description="name of the run; its cells and tables are below results/<name>/")
    run: Run
    datasets: dict[Name, Dataset]
    download: Download
    crawl: Crawl
    prompt: Prompt
    prompts: dict[Name, Views] = Field(description="prompt sets, laid over those of cliper/data/prompts.yaml")
    encoders: dict[Name, Encoder]
    encode: Encode
    fuse: Fuse
    arms: dict[Name, Arm]
    neighbours: Neighbours
    train: Train
    backbones: Backbones
    search: Search
    evaluate: Evaluate
    tabulate: Tabulate
    kernels: Literal["fastest", "portable"] = Field(
        description="what computes on a CPU. fastest: what the libraries choose; portable: the same bits on every "
        "x86-64 with AVX2"
    )

    def arms_of(self, backbone: str) -> tuple[str, ...]:
        """Arms that a backbone is run with."""
        return self.run.arms if self.backbone(backbone).settings.uses_features else (CONTENT_FREE,)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the run."""
        return [
            Cell(dataset, backbone, arm, seed)
            for dataset in self.run.datasets
            for backbone in self.run.backbones
            for arm in self.arms_of(backbone)
            for seed in self.run.seeds
        ]

    @property
    def arms_in_use(self) -> tuple[str, ...]:
        """Arms of the run whose features some cell trains on; none if no backbone uses features."""
        uses_features = any(self.backbone(name).settings.uses_features for name in self.run.backbones)
        return self.run.arms if uses_features else ()

    def searched(self, dataset: str, backbone: str, arm: str) -> Searched | None:
        """Whose selected settings a cell takes; None if no search concerns it."""
        base = base_of(arm)
        is_searched = base in (self.search.spaces or {}).get(backbone, {})
        return Searched(base_of(dataset), base, varies(arm, "d")) if is_searched else None

    @property
    def searches(self) -> list[tuple[str, str, str]]:
        """Dataset, backbone and arm of every search that a cell takes settings from."""
        found = [(self.searched(*cell[:3]), cell.backbone) for cell in self.cells]
        return list(dict.fromkeys((each.dataset, backbone, each.arm) for each, backbone in found if each))

    def trials(self, backbone: str, arm: str) -> list[dict[str, Any]]:
        """The trials of a search, each as flat settings. Raises ConfigError if there is no such search."""
        space = (self.search.spaces or {}).get(backbone, {}).get(arm)
        if space is None:
            raise ConfigError(f"search.spaces has nothing for {backbone} with {arm}; name it there")
        return trials_of(space, seed=self.search.seed)

    def slots(self, backbone: str, arm: str) -> list[tuple[int, int]]:
        """Rung and number of each slot of a search."""
        counts = slots_of(self.search, len(self.trials(backbone, arm)))
        return [(rung, slot) for rung, count in enumerate(counts) for slot in range(count)]

    def features(self, dataset: str, arm: str) -> MadeFeatures | GivenFeatures:
        """How an arm's features are made for a dataset. Features that come with the dataset replace the arm's encoders.

        Raises ConfigError if the arm names no encoders and the dataset has no features for it.
        """
        given, chosen = self.dataset(dataset).given(arm), self.arm(arm)
        if given is not None and given.text is not None:
            return GivenFeatures(given.image, given.text)
        if not isinstance(chosen, MadeArm):
            raise ConfigError(f"arm {arm!r} names no encoders, and dataset {dataset!r} has no features for it")
        return _made(chosen, given, tuple(self.prompt_set(chosen.prompts)))

    def dataset(self, name: str) -> Dataset:
        """Look a dataset up. Raises ConfigError with the known names, like its siblings below."""
        return _look_up("dataset", self.datasets, name)

    def arm(self, name: str) -> Arm:
        """Look an arm up."""
        return _look_up("arm", self.arms, name)

    def backbone(self, name: str) -> Variant[BackboneSettings]:
        """Look a backbone up."""
        return _look_up("backbone", self.backbones, name)

    def encoder(self, name: str) -> Variant[EncoderSettings]:
        """Look an encoder up."""
        return _look_up("encoder", self.encoders, name)

    def prompt_set(self, name: str) -> dict[str, View]:
        """Look a prompt set up: view -> its templates, in the set's order."""
        return _look_up("prompt set", self.prompts, name)

    def view(self, prompts: str, name: str) -> View:
        """Look a view of a prompt set up."""
        return _look_up(f"view of {prompts}", self.prompt_set(prompts), name)


def _look_up(kind: str, named: Mapping[str, T], name: str) -> T:
    if name not in named:
        raise ConfigError(unknown(kind, name, named))
    return named[name]


def _made(arm: MadeArm, given: GivenFiles | None, views: tuple[str, ...]) -> MadeFeatures:
    return MadeFeatures(
        image=None if given else arm.image,
        given=given.image if given else None,
        text=arm.text,
        prompts=arm.prompts,
        views=arm.views or views,
        fusion=arm.fusion,
        temperature=arm.temperature,
        vectors=arm.vectors,
        missing_field=arm.missing_field,
        missing_image=arm.missing_image,
    )
