"""Find the faults of a config that concern several sections: unknown names, and settings that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from cliper.collect.sources.base_settings import GivenFeatures as GivenFiles
from cliper.collect.sources.base_settings import SourceSettings
from cliper.config.collect import Dataset
from cliper.config.features import MADE_BY, Arm, JoinedView, MadeArm
from cliper.config.models import Space
from cliper.config.studies import Study, base_of
from cliper.config.tuning import ANY, CellSettings, Flat, change
from cliper.config.whole import CONTENT_FREE, Config
from cliper.errors import ConfigError, unknown
from cliper.features.fusion.rows import FUSIONS
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.stages import SHARED

CUT_BY = ("min_rating", "k_core", "split_seed", "drop_items_without_metadata")  # settings of datasets


def find_contradictions(config: Config) -> Iterator[str]:
    """Every contradiction as a sentence, led by its place."""
    if config.name == SHARED:
        yield f"name: {SHARED} is the folder of what all runs share; choose another"
    if config.kernels == "portable" and config.encode.precision == "auto":
        yield "encode.precision: auto is chosen by speed, but kernels are portable; write fp32"
    yield from _of_run(config)
    for name, study in config.studies.items():
        yield from (f"studies.{name}{fault}" for fault in _of_study(config, study))
    yield from _of_decay(config)
    for name, dataset in config.datasets.items():
        yield from (f"datasets.{name}{fault}" for fault in _of_split(dataset))
        yield from (f"datasets.{name}.source{fault}" for fault in _of_files(config, name))
        yield from (f"datasets.{name}.source.features{fault}" for fault in _of_given(config, name))
    yield from _of_tuned(config)
    for name, arm in config.arms.items():
        if name != CONTENT_FREE:
            faults = _of_arm(config, arm) if isinstance(arm, MadeArm) else _of_bare_arm(config, name)
            yield from (f"arms.{name}.{fault}" for fault in faults)
    for name, views in config.prompts.items():
        for view, template in views.items():
            for part in template.views if isinstance(template, JoinedView) else ():
                if part not in views:
                    yield f"prompts.{name}.{view}.views: {unknown('view', part, views)}"
            if _is_circular(views, view):
                yield f"prompts.{name}.{view}.views: the view joins itself; leave it out"
    for name, backbone in config.backbones.items():
        yield from (f"backbones.{name}{fault}" for fault in _of_graph(config, backbone.settings))
    yield from _of_search(config)
    if beyond := set(config.tabulate.cutoffs) - set(config.evaluate.cutoffs):
        yield f"tabulate.cutoffs: {sorted(beyond)} not among evaluate.cutoffs"


def _of_run(config: Config) -> Iterator[str]:
    named = (("dataset", "datasets"), ("backbone", "backbones"), ("arm", "arms"))
    for kind, section in named:
        known = [name for name in getattr(config, section) if name == base_of(name)]
        for name in getattr(config.run, section):
            if base_of(name) not in known:
                yield f"run.{section}: {unknown(kind, name, known)}"
    for name in config.run.arms:
        if name in config.arms and CONTENT_FREE != (same := config.same_arm(name)) != name:
            yield f"run.arms: {name} is {same} by another name; remove one"
    if CONTENT_FREE in config.run.arms:
        yield f"run.arms: {CONTENT_FREE} is added automatically for backbones without features; remove it"
    if CONTENT_FREE not in config.arms:
        yield f"arms: {CONTENT_FREE} is missing; backbones without features take their d from it"


def _of_decay(config: Config) -> Iterator[str]:
    """An L2 term of the batch for backbones whose loss has none in the toolbox, where all is to be as there."""
    found = dict[str, None]()
    with suppress(ConfigError):  # of an unknown name or a value, which is a fault of its own
        tried = [(cell[1], config.cell_settings(*cell)) for cell in config.trained]
        for dataset, backbone, arm in config.searches:
            given = config.cell_settings(dataset, backbone, arm)
            tried += [(backbone, change(given, flat)) for flat in config.trials(dataset, backbone, arm)]
        for backbone, (chosen, _, train) in tried:
            if train.behaviour == "as_mmrec" and train.weight_decay_on == "batch" and train.weight_decay:
                found |= {backbone: None} if chosen.settings.decays_by_adam else {}
    if found:
        yield (
            f"train.weight_decay_on: batch, but as_mmrec Adam decays the weights of {', '.join(found)}; "
            "write parameters, or weight_decay: 0, there or for these backbones in tuned"
        )


def _of_study(config: Config, study: Study) -> Iterator[str]:
    """Names that a study uses and that are unknown, and a study that varies nothing."""
    named = [
        ("dataset", "datasets", ".datasets", study.datasets),
        ("backbone", "backbones", ".backbones", study.backbones),
    ]
    named += [("backbone", "backbones", ".vary.backbone", study.vary.backbone or ())]
    named += [("arm", "arms", ".arm", (study.arm,)), ("arm", "arms", ".vary.arm", study.vary.arm or ())]
    for kind, section, place, names in named:
        known = [name for name in getattr(config, section) if name == base_of(name)]
        for name in names:
            if base_of(name) not in known:
                yield f"{place}: {unknown(kind, name, known)}"
    for name, backbone in config.backbones.items():
        if name in study.backbones and not backbone.settings.uses_features:
            yield f".backbones: {name} uses no features; name it in vary.backbone, as a reference"
    if not study.changes:
        yield ".vary: nothing is varied; name something that is, or remove the study"


def _of_tuned(config: Config) -> Iterator[str]:
    """Unknown names, and settings that a cell does not have or allow."""
    for dataset, backbones in config.tuned.items():
        if ANY != (name := base_of(dataset)) not in config.datasets:
            yield f"tuned: {unknown('dataset', name, [*config.datasets, ANY])}"
        for backbone, arms in backbones.items():
            if backbone not in (*config.backbones, ANY):
                yield f"tuned.{dataset}: {unknown('backbone', backbone, [*config.backbones, ANY])}"
                continue
            for arm, flat in arms.items():
                place = f"tuned.{dataset}.{backbone}.{arm}"
                if ANY != (name := base_of(arm)) not in config.arms:
                    yield f"{place}: {unknown('arm', name, [*config.arms, ANY])}"
                yield from (f"{place}: {fault}" for fault in _of_flat(config, backbone, flat))


def _of_flat(config: Config, backbone: str, flat: Flat) -> Iterator[str]:
    """Settings that a backbone does not have or allow; what is said for any backbone must be true of each."""
    for name in config.backbones if backbone == ANY else [backbone]:
        try:
            changed = change(CellSettings(config.backbones[name], 1, config.train), flat)
        except ConfigError as error:
            yield str(error)
            return
        yield from (fault.removeprefix(".") for fault in _of_graph(config, changed.backbone.settings))


def _of_split(dataset: Dataset) -> Iterator[str]:
    """Settings that do not fit a dataset's split, and a split that is missing."""
    source = dataset.source.settings
    split = dataset.split or ("given" if source.has_split else None)
    if split is None:
        yield ".split: missing; write random, user_time or global_time"
    elif source.has_split != (split == "given"):
        yield f".split: {split}, but the source has {'a' if source.has_split else 'no'} split of its own"
        return
    cut = [key for key in CUT_BY if getattr(dataset, key) is not None]
    if split == "given" and cut:
        yield f": {', '.join(cut)}: a given split is used as it is; remove it"
    if split != "given":
        yield from (f".{key}: missing" for key in ("k_core", "split_seed") if key not in cut)
    yield from (f".source.{fault}" for fault in _of_columns(source, dataset))


def _of_columns(source: SourceSettings, dataset: Dataset) -> Iterator[str]:
    """Columns that a dataset is filtered or split by and that its source lacks."""
    needed = {"rating": dataset.min_rating is not None, "timestamp": dataset.split in ("user_time", "global_time")}
    for name in sorted(name for name in needed if needed[name] and name not in source.cut_columns):
        yield f"columns.interactions: {name} is missing; this dataset is filtered or split by it"


def _of_files(config: Config, dataset: str) -> Iterator[str]:
    """Names of raw files that are no place in the dataset's folder; a class of the user's own may say anything."""
    for file in dict.fromkeys(config.raw_files(dataset, config.arms)):
        parts = file.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or not {"{", "}"}.isdisjoint(file):
            yield f": {file!r} is no name of a file in a folder of mirrors"


def _of_graph(config: Config, settings: BackboneSettings) -> Iterator[str]:
    """What does not fit a backbone that reads the neighbours of items or users."""
    if settings.uses_item_graph and not settings.uses_features:
        yield ": uses_item_graph needs uses_features, since items are close by features; set both"
    graphs = (("items", settings.uses_item_graph, "k"), ("users", settings.uses_user_graph, "n_neighbours"))
    for kind, is_used, key in graphs:
        n = getattr(settings, key, None)
        if is_used and isinstance(n, int) and n > getattr(config.neighbours, kind):
            yield f".{key}: {n} is more than neighbours.{kind}"


def _of_search(config: Config) -> Iterator[str]:
    """A search of what there is not, and values that its backbones do not take."""
    spaces = config.search.spaces or {}
    seeds = {*config.run.seeds, *(seed for study in config.studies.values() for seed in study.seeds or ())}
    if spaces and config.search.seed in seeds:
        yield f"search.seed: {config.search.seed} is a seed of cells too; choose one that trains nothing but trials"
    known = [name for name in config.datasets if name == base_of(name)]
    for dataset, backbones in spaces.items():
        if dataset not in known:
            yield f"search.spaces: {unknown('dataset', dataset, known)}"
        yield from (f"search.spaces.{dataset}{fault}" for fault in _of_spaces(config, backbones))


def _of_spaces(config: Config, backbones: Mapping[str, Mapping[str, Space]]) -> Iterator[str]:
    """What is searched on one dataset for what there is not, or with values that a cell does not take."""
    for name, arms in backbones.items():
        if name not in config.backbones:
            yield f": {unknown('backbone', name, config.backbones)}"
            continue
        uses_features = config.backbone(name).settings.uses_features
        of_kind = [arm for arm in config.arms if arm == base_of(arm) and uses_features != (arm == CONTENT_FREE)]
        for arm, space in arms.items():
            if arm not in of_kind:
                yield f".{name}: {unknown('arm', arm, of_kind)}"
            elif "d" in space.grid and arm in config.run.arms and len(config.run.arms) > 1:
                yield f".{name}.{arm}.grid.d: table2_fair compares the run's arms at one d; leave d out"
            else:
                yield from (f".{name}.{arm}.{fault}" for fault in _of_space(config, name, space))


def _of_space(config: Config, backbone: str, space: Space) -> Iterator[str]:
    """Values of a grid that a cell does not take."""
    for key, values in space.grid.items():
        for value in values:
            for fault in _of_flat(config, backbone, {key: value}):
                yield f"grid.{fault if fault.startswith(f'{key}: ') else f'{key}: {fault}'}"


def _of_given(config: Config, dataset: str) -> Iterator[str]:
    """Features that come with a dataset, for arms that are unknown or cannot use them."""
    known = {name for name in config.arms if name == base_of(name)} - {CONTENT_FREE}
    listed = config.datasets[dataset].source.settings.given_features
    yield from (f": {unknown('arm', name, known)}" for name in sorted(listed.keys() - known))
    faults = {
        name: fault
        for name, arm in config.arms.items()
        if name != CONTENT_FREE and (given := config.given(dataset, name)) and (fault := _why_not(arm, given))
    }
    yield from (
        f".{name}: {fault}" for name, fault in faults.items() if faults.get(str(config.arms[name].extends)) != fault
    )


def _why_not(arm: Arm, given: GivenFiles) -> str | None:
    """Why an arm cannot use given features; None if it can."""
    if given.text is not None:
        control = getattr(arm, "control", None)
        return control and f"given features are used as they are, so control {control} changes nothing; remove one"
    if not isinstance(arm, MadeArm):
        return f"the text features are missing; give them too, or name {', '.join(MADE_BY[1:])} in the arm"
    if FUSIONS[arm.fusion].compares_image:
        return f"fusion {arm.fusion} compares image and text of one encoder; choose another fusion for this arm"
    if arm.missing_image == "default_image":
        return "the default image has no such features; choose another missing_image for this arm"
    return None


def _of_bare_arm(config: Config, arm: str) -> Iterator[str]:
    """Datasets of the run without features for an arm that names no encoders."""
    for name in config.run.datasets if arm in config.run.arms else ():
        if name in config.datasets and config.given(name, arm) is None:
            yield f"{', '.join(MADE_BY)}: missing, and datasets.{name}.source.features has no {arm!r} either"


def _of_arm(config: Config, arm: MadeArm) -> Iterator[str]:
    for key, able, what in (("image", "encodes_images", "images"), ("text", "encodes_texts", "texts")):
        name = getattr(arm, key)
        if name not in config.encoders:
            yield f"{key}: {unknown('encoder', name, config.encoders)}"
        elif not getattr(config.encoders[name].settings, able):
            yield f"{key}: encoder {name!r} encodes no {what}"
    if arm.prompts not in config.prompts:
        yield f"prompts: {unknown('prompt set', arm.prompts, config.prompts)}"
    for view in (arm.views or ()) if arm.prompts in config.prompts else ():
        if view not in (views := config.prompts[arm.prompts]):
            yield f"views: {unknown('view of ' + arm.prompts, view, views)}"
    compares = FUSIONS[arm.fusion].compares_image
    if compares != (arm.temperature is not None):
        weighers = ", ".join(name for name, row in FUSIONS.items() if row.compares_image)
        yield f"temperature: given with fusion {weighers}, and only there"
    if compares and arm.image != base_of(arm.text):
        yield f"fusion: {arm.fusion} compares image and text, so both need the same encoder"
    if arm.control == "text_only" and arm.missing_image == "drop_item":
        yield "control: with text_only no item has an image, and missing_image drop_item drops them all; choose another"


def _is_circular(views: Mapping[str, Any], view: str, above: tuple[str, ...] = ()) -> bool:
    parts = getattr(views.get(view), "views", ())
    return view in above or any(_is_circular(views, part, (*above, view)) for part in parts)
