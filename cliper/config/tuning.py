"""Settings of single cells: section `tuned`, and how flat keys change the settings of a backbone, d and training.

A flat key is a field of `train`, `d`, or a setting of the backbone. What a search selects is written in this form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from cliper.config.features import BareArm
from cliper.config.models import Train
from cliper.config.studies import base_of, parent_of
from cliper.errors import ConfigError, unknown
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Derived, Name, faults
from cliper.variants import Variant

M = TypeVar("M", bound=BaseModel)
ANY = "any"
Flat = Mapping[str, Any]
Tuned = dict[Derived, dict[Name, dict[Derived, dict[str, Any]]]]  # dataset or any -> backbone or any -> arm or any


class CellSettings(NamedTuple):
    """What decides a cell in addition to its data."""

    backbone: Variant[BackboneSettings]
    d: int
    train: Train


def tune(given: CellSettings, tuned: Tuned, *, dataset: str, backbone: str, arm: str) -> CellSettings:
    """Change the settings of a cell by all that is said for it; what is said for `any` comes first.

    What is said for an arm holds for those derived from it, but for what they vary. The same is true of datasets.
    """
    for flat in _said(tuned, dataset, backbone, arm):
        given = change(given, {key: value for key, value in flat.items() if key != "d" or not varies(arm, "d")})
    return given


def varies(name: str, key: str) -> bool:
    """Whether a derived name varies this key."""
    while name != base_of(name):
        name, each, _ = parent_of(name)
        if each == key:
            return True
    return False


def _said(tuned: Tuned, dataset: str, backbone: str, arm: str) -> Iterator[Flat]:
    for datasets in dict.fromkeys((ANY, base_of(dataset), dataset)):
        for backbones in (ANY, backbone):
            for arms in dict.fromkeys((ANY, base_of(arm), arm)):
                yield tuned.get(datasets, {}).get(backbones, {}).get(arms, {})


def change(given: CellSettings, flat: Flat) -> CellSettings:
    """Change settings by flat keys. Raises ConfigError if a key is unknown or a value is not allowed."""
    own, backbone = given.backbone.settings, dict[str, Any]()
    train, d = dict[str, Any](), given.d
    for key, value in flat.items():
        if key == "d":
            d = _checked(BareArm, {"d": value}).d
        elif key in Train.model_fields:
            train[key] = value
        elif key in type(own).model_fields:
            backbone[key] = value
        else:
            raise ConfigError(unknown("setting of a cell", key, ["d", *Train.model_fields, *type(own).model_fields]))
    settings = _checked(type(own), {**dict(own), **backbone}) if backbone else own
    trained = _checked(Train, {**dict(given.train), **train}) if train else given.train
    return CellSettings(given.backbone._replace(settings=settings), d, trained)


def _checked(model: type[M], values: Flat) -> M:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(f"{place}: {text}" for place, text in faults(error))) from None
