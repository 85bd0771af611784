"""The whole config with all its sections, and what follows from several of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler

from cliper.collect.sources.base_settings import GivenFeatures as GivenFiles
from cliper.config.collect import Crawl, Dataset, Download
from cliper.config.features import Arm, Encode, Encoder, Fuse, MadeArm, Prompt, View
from cliper.config.models import Backbones, Evaluate, Neighbours, Search, Space, Train
from cliper.config.report import Compare, Explore, Tabulate
from cliper.config.studies import OF_DATASET, Comparison, Study, Variation, base_of, derived, parent_of
from cliper.config.trials import slots_of, trials_of
from cliper.config.tuning import CellSettings, Tuned, tune
from cliper.errors import ConfigError, unknown
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Derived, Distinct, Name, Seed, Settings
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

    datasets: Distinct[Derived] = Field(description="which of `datasets`")
    backbones: Distinct[Name] = Field(description="which of `backbones`")
    arms: Distinct[Derived] = Field(
        description="which of `arms`, for backbones that use features; the first is the base"
    )
    seeds: Distinct[Seed] = Field(description="everything random in a cell comes from its seed")
    split_seeds: Distinct[Seed] | None = Field(
        None, description="more random splits of each dataset, on which all cells are run too; null: none"
    )


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
    control: str | None

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
    keeps_d: bool  # the cell's arm has another d than that arm, and keeps it


def _without_null(studies: Any) -> Any:
    """Null removes a study of the files below, or all of them."""
    named = {} if studies is None else studies
    return {name: study for name, study in named.items() if study is not None} if isinstance(named, Mapping) else named


class _SchemaOfStudies:
    """JSON schema of the section: null may stand for all of it, or for one study."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found, null = handler(schema), {"type": "null"}
        named = {form: {"anyOf": [study, null]} for form, study in found["patternProperties"].items()}
        return {"anyOf": [{**found, "patternProperties": named}, null]}


class Config(Settings):
    """The whole config."""

    name: Name = Field(description="name of the run; its cells and tables are below results/<name>/")
    run: Run
    studies: Annotated[dict[Name, Study], BeforeValidator(_without_null), _SchemaOfStudies()] = Field(
        description="what is varied, one thing at a time; null: none, whatever the files below say"
    )
    datasets: dict[Derived, Dataset]
    download: Download
    crawl: Crawl
    prompt: Prompt
    prompts: dict[Name, Views] = Field(description="prompt sets, laid over those of cliper/data/prompts.yaml")
    encoders: dict[Derived, Encoder]
    encode: Encode
    fuse: Fuse
    arms: dict[Derived, Arm]
    neighbours: Neighbours
    train: Train
    backbones: Backbones
    search: Search
    evaluate: Evaluate
    tuned: Tuned = Field(description="settings of single cells: dataset, backbone, arm (or any) -> flat keys")
    compare: Compare
    tabulate: Tabulate
    explore: Explore
    kernels: Literal["fastest", "portable"] = Field(
        description="what computes on a CPU. fastest: what the libraries choose; portable: the same bits on every "
        "x86-64 with AVX2"
    )

    def __copy__(self) -> Self:
        """A copy may get other values: it keeps nothing that was computed from these."""
        copied = super().__copy__()
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def arms_of(self, backbone: str, arms: Iterable[str]) -> tuple[str, ...]:
        """Those arms that a backbone is run with."""
        return tuple(arms) if self.backbone(backbone).settings.uses_features else (CONTENT_FREE,)

    @cached_property
    def fair_arms(self) -> dict[int, tuple[str, ...]]:
        """Each width d of the run's arms -> all its arms at that width, in their order."""
        arms = self.run.arms
        widths = dict.fromkeys(self.arm(arm).d for arm in arms)
        return {d: tuple(self.same_arm(derived(arm, "d", d)) for arm in arms) for d in widths}

    @cached_property
    def studies_of_run(self) -> dict[str, Study]:
        """The studies whose datasets are all in the run."""
        known = {base_of(name) for name in self.run.datasets}
        return {name: study for name, study in self.studies.items() if {base_of(d) for d in study.datasets} <= known}

    def variations(self, name: str) -> list[Variation]:
        """What a study runs: for each dataset and backbone the base, then each variation."""
        study = _look_up("study", self.studies, name)
        found = []
        for dataset in study.datasets:
            for backbone in study.backbones:
                (arm,) = self.arms_of(backbone, [self.same_arm(study.arm)])
                found.append(Variation("", "", dataset, backbone, arm))
                found += [self._vary(key, value, dataset, backbone, arm) for key, value in study.changes]
        return found

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """Seeds of a study's cells."""
        return _look_up("study", self.studies, name).seeds or self.run.seeds

    def _vary(self, key: str, value: Any, dataset: str, backbone: str, arm: str) -> Variation:
        if key == "backbone":
            backbone, arm = value, self.arms_of(value, [arm])[0]
        elif key in OF_DATASET:
            dataset = self.same_dataset(derived(dataset, key, value))
        else:
            arm = self.same_arm(value if key == "arm" else derived(arm, key, value))
        return Variation(key, f"{value:g}" if isinstance(value, float) else str(value), dataset, backbone, arm)

    def same_dataset(self, name: str) -> str:
        """The dataset of a derived name: its base, if the change changes nothing."""
        return name if name in self.datasets or name == base_of(name) else self.same_dataset(parent_of(name)[0])

    def same_arm(self, name: str) -> str:
        """The first arm that equals this one: an arm of the run, or one with a name of its own, if there is one."""
        if name not in self.arms and name != base_of(name):
            return self.same_arm(parent_of(name)[0])
        self.arm(name)
        return self._first_equal.get(name, name)

    @cached_property
    def _first_equal(self) -> dict[str, str]:
        """Each arm with features -> the first that equals it: the run's before the others, own names before derived.

        The order of the config's sections decides nothing: Snakemake reads them in another.
        """
        firsts, found = dict[str, Any](), dict[str, str]()
        others = sorted(self.arms, key=lambda name: (name != base_of(name), name))
        for name in dict.fromkeys((*self.run.arms, *others)):
            if name in self.arms and name != CONTENT_FREE:
                given = [self.given(dataset, name) for dataset in self.datasets]
                own = ({**dict(self.arms[name]), "extends": None}, given)
                found[name] = next((first for first, known in firsts.items() if known == own), name)
                firsts.setdefault(found[name], own)
        return found

    @cached_property
    def run_cells(self) -> list[Cell]:
        """The cells of Table 2."""
        return [
            Cell(dataset, backbone, arm, seed)
            for dataset in self.run.datasets
            for backbone in self.run.backbones
            for arm in self.arms_of(backbone, self.run.arms)
            for seed in self.run.seeds
        ]

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell, once: of the run at each width and on each split, and of its studies."""
        arms = dict.fromkeys([*self.run.arms, *(arm for each in self.fair_arms.values() for arm in each)])
        found = [
            Cell(split, backbone, arm, seed)
            for dataset in self.run.datasets
            for split in self.splits_of(dataset)
            for backbone in self.run.backbones
            for arm in self.arms_of(backbone, arms)
            for seed in self.run.seeds
        ]
        for name in self.studies_of_run:
            found += cells_of(self.variations(name), self.seeds_of(name))
        return list(dict.fromkeys(found))

    @cached_property
    def arms_in_use(self) -> tuple[str, ...]:
        """Arms whose features some cell trains on."""
        return tuple(dict.fromkeys(cell.arm for cell in self.cells if cell.arm != CONTENT_FREE))

    def splits_of(self, dataset: str) -> tuple[str, ...]:
        """A dataset, and its other random splits."""
        if not self.run.split_seeds or self.dataset(dataset).split != "random":
            return (dataset,)
        others = (self.same_dataset(derived(dataset, "split_seed", seed)) for seed in self.run.split_seeds)
        return tuple(dict.fromkeys((dataset, *others)))

    def comparisons_of(self, table: str) -> list[Comparison]:
        """Pairs of arms that a table compares: with the first arm of its width, or with a study's base."""
        if table in self.studies:
            found, base = [], Variation("", "", "", "", "")
            for each in self.variations(table):
                base = base if each.key else each
                if each.dataset == base.dataset:
                    found.append(Comparison(*each[2:], base.backbone, base.arm))
            return [each for each in dict.fromkeys(found) if each[1:3] != each[3:]]
        groups = {"table2": [self.run.arms], "table2_fair": list(self.fair_arms.values())}.get(table, [])
        return [
            Comparison(dataset, backbone, arm, backbone, arms[0])
            for dataset in self.run.datasets
            for backbone in self.run.backbones
            if self.backbone(backbone).settings.uses_features
            for arms in groups
            for arm in arms[1:]
        ]

    def runs_of(self, comparison: Comparison) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
        """Cells of the two arms that are compared, in pairs of one split and seed; the dataset's own split first."""
        dataset, backbone, arm, base_backbone, base = comparison
        cells = set(self.cells)
        seeds = dict.fromkeys(cell.seed for cell in self.cells if cell.dataset == dataset)
        pairs = [
            (Cell(split, backbone, arm, seed), Cell(split, base_backbone, base, seed))
            for split in self.splits_of(dataset)
            for seed in seeds
        ]
        both = [pair for pair in pairs if cells.issuperset(pair)]
        return tuple(own for own, _ in both), tuple(base for _, base in both)

    def cell_settings(self, dataset: str, backbone: str, arm: str) -> CellSettings:
        """Settings of a backbone on a dataset with an arm: the config's, changed by what `tuned` says for them."""
        given = CellSettings(self.backbone(backbone), self.arm(arm).d, self.train)
        return tune(given, self.tuned, dataset=dataset, backbone=backbone, lineage=self.lineage(arm))

    def lineage(self, arm: str) -> dict[str, bool]:
        """An arm, the one that it extends or derives from, and so on -> whether the arm's own d is another."""
        found, own = {arm: False}, self.arm(arm)
        while own.extends is not None:
            arm, own = own.extends, self.arm(own.extends)
            found[arm] = own.d != self.arm(next(iter(found))).d
        return found

    def given(self, dataset: str, arm: str) -> GivenFiles | None:
        """Features that come with a dataset for an arm, or for the one that it extends.

        An arm takes image features of the one that it extends if both name one image encoder; images with texts, which
        are used as they are, if they differ in nothing but d.
        """
        found, own = self.dataset(dataset).given(arm), self.arms.get(arm)
        if found is not None or own is None or own.extends is None:
            return found
        inherited, base = self.given(dataset, own.extends), dict(self.arm(own.extends))
        differ = {key for key, value in own if base.get(key) != value} - {"d", "extends"}
        takes = not differ if inherited is None or inherited.text else "image" not in differ
        return inherited if takes else None

    def raw_files(self, dataset: str, arms: Iterable[str]) -> list[str]:
        """Names of all raw files of a dataset that a run with these arms reads."""
        return self.dataset(dataset).raw_files(filter(None, (self.given(dataset, arm) for arm in arms)))

    def searched(self, dataset: str, backbone: str, arm: str) -> Searched | None:
        """Whose selected settings a cell takes: the nearest arm's of its lineage; None if no search concerns it."""
        spaces, dataset = self._spaces(dataset, backbone), base_of(dataset)
        return next((Searched(dataset, *each) for each in self.lineage(arm).items() if each[0] in spaces), None)

    def _spaces(self, dataset: str, backbone: str) -> Mapping[str, Space]:
        return (self.search.spaces or {}).get(base_of(dataset), {}).get(backbone, {})

    @cached_property
    def searches(self) -> list[tuple[str, str, str]]:
        """Dataset, backbone and arm of every search that a cell takes settings from."""
        found = [(self.searched(*cell[:3]), cell.backbone) for cell in self.cells]
        return list(dict.fromkeys((each.dataset, backbone, each.arm) for each, backbone in found if each))

    @cached_property
    def trained(self) -> list[tuple[str, str, str]]:
        """Dataset, backbone and arm of every cell and of every search."""
        return list(dict.fromkeys([*(cell[:3] for cell in self.cells), *self.searches]))

    def trials(self, dataset: str, backbone: str, arm: str) -> list[dict[str, Any]]:
        """The trials of a search, each as flat settings. Raises ConfigError if there is no such search."""
        space = self._spaces(dataset, backbone).get(arm)
        if space is None:
            raise ConfigError(f"search.spaces has nothing for {dataset}, {backbone} with {arm}; name it there")
        return trials_of(space, seed=self.search.seed)

    def slots(self, dataset: str, backbone: str, arm: str) -> list[tuple[int, int]]:
        """Rung and number of each slot of a search."""
        counts = slots_of(self.search, len(self.trials(dataset, backbone, arm)))
        return [(rung, slot) for rung, count in enumerate(counts) for slot in range(count)]

    def features(self, dataset: str, arm: str) -> MadeFeatures | GivenFeatures:
        """How an arm's features are made for a dataset. Features that come with the dataset replace the arm's encoders.

        Raises ConfigError if the arm names no encoders and the dataset has no features for it.
        """
        given, chosen = self.given(dataset, arm), self.arm(arm)
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


def cells_of(variations: Iterable[Variation], seeds: Iterable[int]) -> list[Cell]:
    """The cells of a study, each once."""
    return list(dict.fromkeys(Cell(*varied[2:], seed) for varied in variations for seed in seeds))


def _look_up(kind: str, named: Mapping[str, T], name: str) -> T:
    if name not in named:
        raise ConfigError(unknown(kind, name, [each for each in named if each == base_of(each)]))
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
        control=arm.control,
    )
