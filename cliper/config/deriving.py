"""Add to a config the arms, datasets and encoders that its run and studies derive from others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from cliper.config.features import Arm, MadeArm
from cliper.config.studies import OF_DATASET, Study, Vary, base_of, derived, parent_of
from cliper.config.whole import CONTENT_FREE, Config
from cliper.errors import ConfigError, unknown
from cliper.features.fusion.rows import FUSIONS
from cliper.settings import faults


def with_derived(config: Config) -> tuple[Config, list[str]]:
    """A config with every derived name that it uses. Also returns the faults, each led by its place."""
    found = list[str]()
    for place, names, add in _used(config):
        for name in names:
            try:
                config = add(config, name)
            except ConfigError as error:
                found.append(f"{place}: {error}")
            except ValidationError as error:
                found += [f"{place}: {name}, {key}: {text}" for key, text in faults(error)]
    return config, found


def changed_arm(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """An arm with some other keys. τ goes where the other fusion has none, unless it is among the keys."""
    arm = {**base, **own}
    fusion = FUSIONS.get(str(arm.get("fusion")))
    if "temperature" not in own and fusion is not None and not fusion.compares_image:
        arm["temperature"] = None
    return arm


def _used(config: Config) -> Iterator[tuple[str, Iterable[str], Any]]:
    """Places of the config, the derived names that they use, and what adds one."""
    run = config.run
    yield "run.datasets", run.datasets, _with_dataset
    yield "run.arms", run.arms, _with_arm
    known = {base_of(name) for name in run.datasets}
    splits = [derived(name, "split_seed", seed) for name in run.datasets for seed in run.split_seeds or ()]
    yield "run.split_seeds", [name for name in splits if _is_random(config, base_of(name))], _with_dataset
    widths = [arm.d for name in run.arms if (arm := config.arms.get(name) or config.arms.get(base_of(name)))]
    yield "run.arms", [derived(name, "d", d) for name in run.arms for d in dict.fromkeys(widths)], _with_arm
    for name, study in config.studies.items():
        if {base_of(dataset) for dataset in study.datasets} <= known:
            yield f"studies.{name}.datasets", study.datasets, _with_dataset
            yield f"studies.{name}.arm", [study.arm], _with_arm
            yield from _varied(f"studies.{name}.vary", study)


def _is_random(config: Config, dataset: str) -> bool:
    return dataset in config.datasets and config.datasets[dataset].split == "random"


def _varied(place: str, study: Study) -> Iterator[tuple[str, Iterable[str], Any]]:
    for key, value in study.changes:
        if key in OF_DATASET:
            yield f"{place}.{key}", [derived(dataset, key, value) for dataset in study.datasets], _with_dataset
        elif key != "backbone":
            yield f"{place}.{key}", [value if key == "arm" else derived(study.arm, key, value)], _with_arm


def _with_dataset(config: Config, name: str) -> Config:
    if name in config.datasets or name == base_of(name):
        return config  # an unknown name is reported with the run or the study
    parent, key, value = parent_of(name)
    config = _with_dataset(config, parent)
    if key not in OF_DATASET:
        raise ConfigError(unknown("thing that a dataset's name may vary", key, OF_DATASET))
    if parent not in config.datasets:
        raise ConfigError(unknown("dataset", parent, config.datasets))
    base = config.datasets[parent]
    if base.split in (None, "given"):
        raise ConfigError(f"{parent} has a split of its own, so that {name} cannot be")
    own = base.model_copy(update={key: _parsed(key, value)})
    if own == base:
        return config
    return config.model_copy(update={"datasets": {**config.datasets, name: own}})


def _with_arm(config: Config, name: str) -> Config:
    if name in config.arms or name == base_of(name):
        return config
    parent, key, value = parent_of(name)
    config = _with_arm(config, parent)
    if parent not in config.arms or parent == CONTENT_FREE:
        raise ConfigError(unknown("arm", parent, config.arms.keys() - {CONTENT_FREE}))
    config, own = _changed(config, parent, key, _parsed(key, value))
    if own == config.arms[parent]:
        return config
    return config.model_copy(update={"arms": {**config.arms, name: own.model_copy(update={"extends": parent})}})


def _parsed(key: str, text: str) -> Any:
    """The value of a key in a name, checked. Raises ConfigError for keys that are not varied."""
    if key not in Vary.model_fields or key in ("arm", "backbone"):
        raise ConfigError(unknown("thing that a name may vary", key, Vary.model_fields))
    kind = float if key == "temperature" else int if key in ("d", "split_seed") else str
    try:
        parsed = kind(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no number for {key}") from None
    return getattr(Vary.model_validate({key: (parsed,)}), key)[0]


def _changed(config: Config, name: str, key: str, value: Any) -> tuple[Config, Arm]:
    """An arm with another value of one key. Also returns the config, to which an encoder may have been added."""
    arm = config.arms[name]
    if key == "d":
        return config, arm.model_copy(update={"d": value})
    if not isinstance(arm, MadeArm):
        raise ConfigError(f"arm {name} names no encoders, so its {key} cannot vary")
    change = {key: value}
    if key in ("without", "only"):
        views = arm.views or tuple(config.prompt_set(arm.prompts))
        if value not in views:
            raise ConfigError(unknown(f"view of {name}", value, views))
        change = {"views": (value,) if key == "only" else tuple(view for view in views if view != value)}
    elif key == "encoder":
        change = {"image": value, "text": value}
    elif key == "overflow":
        encoder = config.encoder(arm.text)
        if value == (encoder.settings.overflow or config.encode.overflow):
            return config, arm
        change = {"text": (text := derived(arm.text, key, value))}
        own = encoder._replace(settings=encoder.settings.model_copy(update={key: value}))
        config = config.model_copy(update={"encoders": {**config.encoders, text: own}})
    return config, arm.model_copy(update=changed_arm(dict(arm), change))
