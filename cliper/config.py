"""The config: YAML files laid over each other, checked by a JSON schema, as frozen dataclasses.

All faults are told at once, each with its place. Values come from `config.yaml` alone: nothing here has a
second default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import cattrs
import jsonschema
import yaml
from pydantic import ValidationError

from cliper import resources, settings
from cliper.collect.sources import SOURCES
from cliper.collect.sources.base_settings import GivenFeatures, SourceSettings
from cliper.errors import ConfigError, unknown
from cliper.features.encoders import ENCODERS
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.variants import Variant, Variants

T = TypeVar("T")
S = TypeVar("S", bound=settings.Settings)
noise_values, placeholders = resources.noise_values, resources.placeholders  # for the workflow

CONTENT_FREE = "content_free"  # the arm of backbones that use no features
CONTENT_FREE_BACKBONES = frozenset({"lightgcn", "bpr"})
ITEM_GRAPH_BACKBONES = frozenset({"lattice", "freedom"})  # they read the neighbours of items, or of users
USER_GRAPH_BACKBONES = frozenset({"dualgnn"})
MADE_BY = ("image", "text", "prompts", "fusion")  # what an arm says whose features are made here


@dataclass(frozen=True, slots=True)
class Run:
    """What is run: every dataset x backbone x arm x seed is one cell."""

    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]


class Source(Variant[SourceSettings]):
    """A chosen source whose settings the workflow asks without a detour."""

    files = property(lambda self: self.settings.files)
    mirrors = property(lambda self: self.settings.mirrors)
    columns = property(lambda self: plain(getattr(self.settings, "columns", None)))


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset: where it comes from and how it is cut."""

    title: str
    source: Source
    split: str  # random | user_time | global_time | given
    min_rating: float | None = None
    k_core: int | None = None
    split_seed: int | None = None
    image_folder: str | None = None  # images of one's own, named by item, in the place of URLs

    def given(self, arm: str) -> GivenFeatures | None:
        """Features that come with the dataset for an arm; None where they are made here."""
        return self.source.settings.given_features.get(arm)

    def raw_files(self, arms: Iterable[str]) -> list[str]:
        """Names of all raw files that a run with these arms reads."""
        given = [found for arm in arms if (found := self.given(arm))]
        return [*self.source.settings.files.values(), *(n for found in given for n in (found.image, found.text) if n)]


@dataclass(frozen=True, slots=True)
class Download:
    """How raw files are fetched."""

    timeout_s: float
    attempts: int
    lock: str | None = None  # file of checksums at first sight


@dataclass(frozen=True, slots=True)
class Crawl:
    """How images are fetched and which are kept."""

    user_agent: str
    allow_hosts: tuple[str, ...]
    threads: int
    connections_per_host: int
    requests_per_s: float
    timeout_s: float
    deadline_s: float
    attempts: int
    give_up_after: int
    robots_txt: bool
    max_bytes: int
    max_pixels: int
    min_side_px: int
    shard_size: int
    min_ok: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """How values of the metadata are written, where a view does not say otherwise."""

    clean: tuple[str, ...]  # names of cliper.cleaning.STEPS, in the order in which they are taken
    categories: str  # all_names | first_path
    min_length: int  # characters; a shorter value counts as missing


@dataclass(frozen=True, slots=True)
class FieldView:
    """A view that is a sentence about fields of the metadata."""

    fields: tuple[str, ...]
    prompt: str  # ___ stands for the value
    missing: str  # the whole text when every field is missing
    clean: tuple[str, ...]
    categories: str
    min_length: int
    slice_prefix: str | None = None  # before the later slices of an overlong text; else what stands before ___


@dataclass(frozen=True, slots=True)
class JoinedView:
    """A view that joins the prompts of other views."""

    views: tuple[str, ...]
    prompt: str  # ___ stands for the prompts
    slice_prefix: str | None = None


View = FieldView | JoinedView


@dataclass(frozen=True, slots=True)
class Encode:
    """How encoders are run."""

    batch_size: int  # images
    batch_tokens: int  # texts times the tokens they are padded to
    threads: int
    device: str
    precision: str  # fp32 | bf16 | fp16 | auto
    overflow: str  # truncate | chunk_mean | chunk_sum_as_released
    shards: int  # ranges of items, each a job and a file
    store: str | None = None  # folder of vectors that all runs share


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of making features, and the width of the backbones that use them."""

    d: int
    image: str | None = None
    text: str | None = None
    prompts: str | None = None
    fusion: str | None = None
    temperature: float | None = None
    views: tuple[str, ...] | None = None  # of the prompt set, in this order; else all of them in the set's
    vectors: str | None = None  # these three are those of section fuse, where the arm does not say otherwise
    missing_field: str | None = None
    missing_image: str | None = None


@dataclass(frozen=True, slots=True)
class Fuse:
    """How views are fused, where an arm does not say otherwise."""

    vectors: str  # raw | normalised
    missing_field: str  # sentence | mask
    missing_image: str  # mean | zero | default_image | drop_item


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How many neighbours are found for backbones that use graphs."""

    items: int
    users: int


@dataclass(frozen=True, slots=True)
class Train:
    """How a backbone is trained."""

    behaviour: str  # as_published | as_mmrec
    learning_rate: float
    weight_decay: float
    weight_decay_on: str  # batch | parameters
    batch_size: int
    max_epochs: int
    patience: int
    threads: int
    device: str


@dataclass(frozen=True, slots=True)
class Freedom:
    """Settings of FREEDOM."""

    n_ui_layers: int
    n_item_layers: int
    k: int
    image_weight: float
    edge_dropout: float
    reg_weight: float


@dataclass(frozen=True, slots=True)
class Lightgcn:
    """Settings of LightGCN."""

    n_layers: int


@dataclass(frozen=True, slots=True)
class Mmgcn:
    """Settings of MMGCN."""

    n_layers: int
    image_width: int  # width to which image features are projected before the first layer
    reg_weight: float


@dataclass(frozen=True, slots=True)
class Dualgnn:
    """Settings of DualGNN."""

    n_layers: int
    hidden_width: int  # of the two-layer projection of features
    n_neighbours: int  # users a user is mixed with
    reg_weight: float


@dataclass(frozen=True, slots=True)
class Lattice:
    """Settings of LATTICE."""

    n_ui_layers: int
    n_item_layers: int
    k: int
    frozen_weight: float  # λ: share of the graph of raw features
    reg_weight: float
    learning_rate_decay: float  # γ: the rate is multiplied by γ in 50 epochs


@dataclass(frozen=True, slots=True)
class Slmrec:
    """Settings of SLMRec."""

    n_layers: int
    temperature: float
    ssl_temperature: float
    ssl_weight: float


@dataclass(frozen=True, slots=True)
class Bpr:
    """BPR has no settings of its own."""


@dataclass(frozen=True, slots=True)
class Vbpr:
    """VBPR has no settings of its own."""


@dataclass(frozen=True, slots=True)
class Backbones:
    """Settings of each backbone; the names are those of `cliper.backbones`."""

    mmgcn: Mmgcn
    dualgnn: Dualgnn
    lattice: Lattice
    slmrec: Slmrec
    freedom: Freedom
    vbpr: Vbpr
    lightgcn: Lightgcn
    bpr: Bpr


@dataclass(frozen=True, slots=True)
class Evaluate:
    """At which ranks the metrics are cut, and what the test ranking leaves out besides train items."""

    cutoffs: tuple[int, ...]
    mask_valid: bool


@dataclass(frozen=True, slots=True)
class Tabulate:
    """What Table 2 shows."""

    metrics: tuple[str, ...]
    cutoffs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """The whole config, one section a stage."""

    name: str
    run: Run
    datasets: dict[str, Dataset]
    download: Download
    crawl: Crawl
    prompt: Prompt
    prompts: dict[str, dict[str, View]]
    encoders: dict[str, Variant[EncoderSettings]]
    encode: Encode
    fuse: Fuse
    arms: dict[str, Arm]
    neighbours: Neighbours
    train: Train
    backbones: Backbones
    evaluate: Evaluate
    tabulate: Tabulate

    @property
    def root(self) -> Path:
        """Folder of the run's results."""
        return Path("results") / self.name

    def arms_of(self, backbone: str) -> tuple[str, ...]:
        """Arms a backbone is run with."""
        return (CONTENT_FREE,) if backbone in CONTENT_FREE_BACKBONES else self.run.arms

    def arm_of(self, dataset: str, arm: str) -> Arm:
        """An arm as a dataset has it: given features are used as they are, whatever encoders the arm names."""
        settings, given = self.arm(arm), self.dataset(dataset).given(arm)
        if given is None:
            return settings
        return Arm(d=settings.d) if given.text else replace(settings, image=None)

    @property
    def cells(self) -> list[tuple[str, str, str, int]]:
        """Every cell of the run: dataset, backbone, arm, seed."""
        return [
            (dataset, backbone, arm, seed)
            for dataset in self.run.datasets
            for backbone in self.run.backbones
            for arm in self.arms_of(backbone)
            for seed in self.run.seeds
        ]

    def require(self, names: Mapping[str, Any]) -> None:
        """Raise ConfigError if one of a stage's names is none of the config's."""
        known = {"dataset": self.dataset, "arm": self.arm, "encoder": self.encoder, "prompts": self.prompt_set}
        for kind in known.keys() & names.keys():
            known[kind](names[kind])

    def dataset(self, name: str) -> Dataset:
        """Look a dataset up. Raises ConfigError with the known names, like its siblings below."""
        return _look_up("dataset", self.datasets, name)

    def arm(self, name: str) -> Arm:
        """Look an arm up."""
        return _look_up("arm", self.arms, name)

    def encoder(self, name: str) -> Variant[EncoderSettings]:
        """Look an encoder up."""
        return _look_up("encoder", self.encoders, name)

    def overflow(self, encoder: str) -> str:
        """What an encoder does with texts longer than its context."""
        return self.encoder(encoder).settings.overflow or self.encode.overflow

    def slice_prefix(self, prompts: str, view: str) -> str:
        """What stands before the later slices of a view's text that is longer than the encoder's context."""
        found = self.prompt_set(prompts)[view]
        return found.prompt.partition("___")[0] if found.slice_prefix is None else found.slice_prefix

    def prompt_set(self, name: str) -> dict[str, View]:
        """Look a prompt set up: view -> its templates, in the set's order."""
        return _look_up("prompt set", self.prompts, name)

    def views_of(self, arm: Arm) -> tuple[str, ...]:
        """Views that an arm's features are made of, in the order in which they are fused."""
        return arm.views or tuple(self.prompt_set(str(arm.prompts)))


def _look_up(kind: str, named: Mapping[str, T], name: str) -> T:
    if name not in named:
        raise ConfigError(unknown(kind, name, named))
    return named[name]


def load(paths: list[Path]) -> Config:
    """Read YAML files, lay each over the ones before it, check and structure the result.

    Raises ConfigError with all faults at once.
    """
    raw: dict[str, Any] = {}
    for path in paths:
        lay_over(raw, _read(path))
    return structure(raw, where=", ".join(str(path) for path in paths))


def structure(raw: Mapping[str, Any], *, where: str) -> Config:
    """Check a config and give it its types. Raises ConfigError with all faults at once."""
    complete = {**raw, "prompts": _prompt_sets(raw)}
    if faults := [*_schema_faults(complete)] or [*_reference_faults(complete)]:
        raise ConfigError("; ".join(f"{where}: {fault}" for fault in faults))
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Source, lambda made, _: made)
    converter.register_structure_hook_func(lambda kind: kind == Variant[EncoderSettings], lambda made, _: made)
    converter.register_structure_hook(View, lambda d, _: converter.structure(d, _kind_of_view(d)))
    return converter.structure(_written_out(complete), Config)


def _kind_of_view(view: Mapping[str, Any]) -> type[FieldView] | type[JoinedView]:
    return FieldView if "fields" in view else JoinedView


def _written_out(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what datasets, views and arms leave to their source or to other sections written out in them."""
    datasets = {
        name: {"split": "given" if _has_split(dataset["source"]) else "random"}
        | dataset
        | {"source": Source(*_choose(SOURCES, dataset["source"], f"datasets.{name}.source"))}
        for name, dataset in raw["datasets"].items()
    }
    sets = {
        name: {view: {**raw["prompt"], **parts} if "fields" in parts else parts for view, parts in views.items()}
        for name, views in raw["prompts"].items()
    }
    arms = {name: {**raw["fuse"], **arm} if "fusion" in arm else arm for name, arm in raw["arms"].items()}
    encoders = {name: _choose(ENCODERS, encoder, f"encoders.{name}") for name, encoder in raw["encoders"].items()}
    return {**raw, "datasets": datasets, "prompts": sets, "arms": arms, "encoders": encoders}


def _choose(variants: Variants[S], raw: Mapping[str, Any], place: str) -> Variant[S]:
    try:
        return variants.choose(raw)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{place}.{key}: {fault}" for key, fault in settings.faults(error))) from None


def lay_over(base: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one config over another, in place: mappings merge, all else is replaced (as Snakemake does).

    >>> lay_over({"run": {"seeds": [1, 2]}, "name": "a"}, {"run": {"seeds": [3]}})
    {'run': {'seeds': [3]}, 'name': 'a'}
    """
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            lay_over(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value
    return base


def dump(config: Config) -> str:
    """The config as YAML that `load` reads back to the same config."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)


def write(config: Config, path: Path) -> None:
    """Write a config where the stages of a run read it."""
    from cliper import files

    files.write_text(path, dump(config))


def plain(section: Any) -> Any:
    """A section as plain mappings, lists and values, absent values left out: for YAML, JSON and rules' params."""
    return settings.plain(asdict(section) if is_dataclass(section) and not isinstance(section, type) else section)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = resources.parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; name a config file with --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is no mapping of sections; see config.yaml for their names")
    return raw


def _prompt_sets(raw: Mapping[str, Any]) -> dict[str, Any]:
    shipped: dict[str, Any] = resources.read_yaml("prompts.yaml")
    own = raw.get("prompts", {})
    return lay_over(shipped, own) if isinstance(own, Mapping) else own


def is_url(place: str) -> bool:
    """Whether a mirror or a source is a URL, and no path on this machine."""
    return place.startswith(("http://", "https://"))


def schema() -> dict[str, Any]:
    """The JSON schema of the config."""
    loaded: dict[str, Any] = json.loads(resources.read_text("config.schema.json"))
    return loaded


def _schema_faults(raw: Mapping[str, Any]) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator(schema())
    for error in sorted(validator.iter_errors(raw), key=lambda e: [str(part) for part in e.absolute_path]):
        place = ".".join(str(part) for part in error.absolute_path) or "config"
        yield f"{place}: {_sentence(error)}"


def _sentence(error: jsonschema.ValidationError) -> str:
    value: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "additionalProperties":
            known = cast("dict[str, Any]", error.schema).get("properties", {})
            extra = [key for key in value if key not in known]
            return f"unknown key {', '.join(map(repr, extra))}; known: {', '.join(known)}"
        case "type":
            return _of_wrong_type(value, [wanted] if isinstance(wanted, str) else wanted)
        case "enum":
            return f"{value!r} is not known; known: {', '.join(map(str, wanted))}"
        case "exclusiveMinimum":
            return f"{value!r} must be greater than {wanted}"
        case "minimum":
            return f"{value!r} must be at least {wanted}"
        case "maximum":
            return f"{value!r} must be at most {wanted}"
        case "pattern":
            meaning = cast("dict[str, Any]", error.schema).get("description")
            return f"{value!r} does not have the form {wanted}" + (f" ({meaning})" if meaning else "")
    return error.message


def _of_wrong_type(value: Any, wanted: list[str]) -> str:
    if isinstance(value, str) and {"number", "integer"} & set(wanted):
        return f"{value!r} is a string; write a {'whole ' * ('integer' in wanted)}number without quotes"
    if isinstance(value, str | int) and "array" in wanted:
        return f"{value!r} is no list; write [{value}]"
    return f"{value!r} is not of type {', '.join(map(repr, wanted))}"


def _reference_faults(raw: Mapping[str, Any]) -> Iterator[str]:
    """Names that point nowhere, and settings that contradict each other."""
    for kind, section in (("dataset", "datasets"), ("arm", "arms")):
        for name in raw["run"][section]:
            if name not in raw[section]:
                yield f"run.{section}: {unknown(kind, name, raw[section])}"
    for name, dataset in raw["datasets"].items():
        yield from (f"datasets.{name}{fault}" for fault in _split_faults(dataset))
        known = raw["arms"].keys() - {CONTENT_FREE}
        for arm in sorted(dataset["source"].get("features", {}).keys() - known):
            yield f"datasets.{name}.source.features: {unknown('arm', arm, known)}"
        for arm, given in dataset["source"].get("features", {}).items():
            if "text" not in given and (fault := _image_fault(raw, raw["arms"].get(arm, {}))):
                yield f"datasets.{name}.source.features.{arm}: {fault}"
    for name, arm in raw["arms"].items():
        if name != CONTENT_FREE:
            faults = _given_faults(raw, name) if arm.keys() == {"d"} else _arm_faults(raw, arm)
            yield from (f"arms.{name}.{fault}" for fault in faults)
    if CONTENT_FREE in raw["run"]["arms"]:
        yield f"run.arms: {CONTENT_FREE} is run by itself for backbones without features; remove it"
    for name, views in raw["prompts"].items():
        for view, parts in views.items():
            for part in set(parts.get("views", ())) - set(views):
                yield f"prompts.{name}.{view}.views: {unknown('view', part, views)}"
            if _is_circular(views, view):
                yield f"prompts.{name}.{view}.views: the view is joined of itself; leave it out"
    for name, section in raw["backbones"].items():
        if section.get("k", 0) > raw["neighbours"]["items"]:
            yield f"backbones.{name}.k: {section['k']} is more than neighbours.items"
    if beyond := set(raw["tabulate"]["cutoffs"]) - set(raw["evaluate"]["cutoffs"]):
        yield f"tabulate.cutoffs: {sorted(beyond)} not among evaluate.cutoffs"


def _has_split(source: Mapping[str, Any]) -> bool:
    """Whether a source comes with a split of its own."""
    return source["kind"] == "mmrec" or "split" in source.get("columns", {}).get("interactions", {})


def _split_faults(dataset: Mapping[str, Any]) -> Iterator[str]:
    """What does not fit the split of a dataset, or its absence."""
    source, has_split = dataset["source"], _has_split(dataset["source"])
    split = dataset.get("split", "given" if has_split else "random")
    if has_split != (split == "given"):
        yield f".split: {split}, but the source has {'a' if has_split else 'no'} split of its own"
        return
    cut = [key for key in ("min_rating", "k_core", "split_seed") if dataset.get(key) is not None]
    if split == "given" and cut:
        yield f": {', '.join(cut)}: a given split is used as it is; remove it"
    if split != "given" and not {"k_core", "split_seed"} <= set(cut):
        yield ": k_core and split_seed are missing"
    if source["kind"] == "table":
        if ("items" in source) != ("items" in source["columns"]):
            yield ".source: items and columns.items go together"
        needed = {"rating": "min_rating" in cut, "timestamp": split in ("user_time", "global_time")}
        for name in sorted(name for name in needed if needed[name] and name not in source["columns"]["interactions"]):
            yield f".source.columns.interactions: {name} is missing, by which this dataset is cut"


def _is_circular(views: Mapping[str, Any], view: str, above: tuple[str, ...] = ()) -> bool:
    parts = views.get(view, {}).get("views", ())
    return view in above or any(_is_circular(views, part, (*above, view)) for part in parts)


def _image_fault(raw: Mapping[str, Any], arm: Mapping[str, Any]) -> str | None:
    """Why an arm cannot do with image features alone; None if it can."""
    if arm.get("fusion") == "sa":
        return "fusion sa compares image and text of one encoder; choose another fusion for this arm"
    if arm.get("missing_image", raw["fuse"]["missing_image"]) == "default_image":
        return "the default image has no such features; choose another missing_image for this arm"
    return None


def _given_faults(raw: Mapping[str, Any], arm: str) -> Iterator[str]:
    """Datasets of the run that give no features for an arm which names no encoders."""
    for name in raw["run"]["datasets"] if arm in raw["run"]["arms"] else ():
        source = raw["datasets"].get(name, {}).get("source", {})
        if "text" not in source.get("features", {}).get(arm, {}):
            yield f"{', '.join(MADE_BY)}: missing, and datasets.{name}.source.features has no {arm!r} either"


def _arm_faults(raw: Mapping[str, Any], arm: Mapping[str, Any]) -> Iterator[str]:
    if absent := [key for key in MADE_BY if key not in arm]:
        yield f"{', '.join(absent)}: missing"
        return
    for key, section, kind in (("image", "encoders", "encoder"), ("text", "encoders", "encoder")):
        if arm[key] not in raw[section]:
            yield f"{key}: {unknown(kind, arm[key], raw[section])}"
    for key, kind, cannot in (("image", "sentence", "images"), ("text", "cnn", "texts")):
        if raw["encoders"].get(arm[key], {}).get("kind") == kind:
            yield f"{key}: encoder {arm[key]!r} encodes no {cannot}"
    if arm["prompts"] not in raw["prompts"]:
        yield f"prompts: {unknown('prompt set', arm['prompts'], raw['prompts'])}"
    for view in arm.get("views", ()):
        if view not in (views := raw["prompts"].get(arm["prompts"], {view})):
            yield f"views: {unknown('view of ' + arm['prompts'], view, views)}"
    if (arm["fusion"] == "sa") != (arm.get("temperature") is not None):
        yield "temperature: given with fusion sa, and only there"
    if arm["fusion"] == "sa" and arm["image"] != arm["text"]:
        yield "fusion: sa compares image and text, so both need the same encoder"
